"""Files of a data directory: written in one step, held by one process, on a disk with room."""

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import IO, Final

from contracts.errors import AlreadyRunningError, DiskFullError, ServiceError

RELEASE_S: Final = 2.0
"""How long a lock is waited for: a killed process keeps its locks until the kernel has taken it apart, which takes a
moment on a busy machine."""


def make_directory(path: Path) -> None:
    """Make a directory where there is none. Raises ServiceError, as where the path is a file or may not be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServiceError(
            f"expected a directory at {path}, or a place to make one; {error.strerror}. Name another --data-dir."
        ) from error


def write_private(path: Path, content: bytes) -> None:
    """Replace a file in one step; only its owner may read it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def require_room(directory: Path, needed_bytes: int, purpose: str) -> None:
    """Raise DiskFullError unless the disk of `directory` has `needed_bytes` to spare."""
    free = shutil.disk_usage(directory).free
    if free < needed_bytes:
        raise DiskFullError(
            f"{purpose} needs {needed_bytes // 2**20} MiB below {directory}; {free // 2**20} MiB are free. "
            "Make room, or name a directory on another disk (--data-dir, TIDEMARK_CACHE_DIR)."
        )


def hold(path: Path, purpose: str) -> IO[str]:
    """Hold a lock file until it is closed; for a killed process the kernel closes it.

    Raises AlreadyRunningError, naming the holder, when another process has it.
    """
    lock = path.open("a+")
    give_up_s = time.monotonic() + RELEASE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < give_up_s:
                time.sleep(0.05)
                continue
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise AlreadyRunningError(
                f"expected to be the only one to {purpose} in {path.parent}; process {holder} does already. "
                "Stop it (tidemark down), or name another --data-dir."
            ) from None
        break
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock

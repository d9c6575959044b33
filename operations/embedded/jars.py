"""The jars of the embedded Kafka: pinned in `jars.txt`, fetched by jgo, verified, kept in a cache.

`python -m operations.embedded.jars` resolves the coordinates again and prints a new `jars.txt`.
"""

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from contracts.errors import DiskFullError, DownloadError
from operations.files import require_room

KAFKA_VERSION = "4.1.0"

COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    # The binding through which Kafka's own log lines reach log4j; resolved apart, or it would act as a bill
    # of materials and pull older Kafka clients.
    "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",
)

# Each jar is one request; more at once gains little on a home line and looks like abuse to a repository.
_PARALLEL = 6
# A stalled connection is given up after this many seconds.
_TIMEOUT_S = 30
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned file: Maven coordinates, SHA-256 in hex, size in bytes."""

    coordinates: str
    sha256: str
    size: int

    @property
    def filename(self) -> str:
        """Name below the cache directory."""
        _, artifact, version = self.coordinates.split(":")
        return f"{artifact}-{version}.jar"


def pinned_jars() -> tuple[Jar, ...]:
    """All jars, in the order of the class path."""
    text = Path(__file__).with_name("jars.txt").read_text("ascii")
    rows = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return tuple(Jar(coordinates, sha256, int(size)) for coordinates, sha256, size in rows)


def default_cache_dir(cache_dir: str) -> Path:
    """The setting, else the user's cache."""
    if cache_dir:
        return Path(cache_dir)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidemark"


def ensure_jars(
    cache_dir: Path, console: Console | None = None, *, jars: tuple[Jar, ...] | None = None
) -> tuple[Path, ...]:
    """The class path: every jar (by default the pinned ones), fetched where missing, cut short or altered.

    A file has its final name only once its hash was verified. Two processes that come at once take turns.
    Raises DownloadError or DiskFullError.
    """
    jars = pinned_jars() if jars is None else jars
    directory = cache_dir / f"kafka-{KAFKA_VERSION}"
    directory.mkdir(parents=True, exist_ok=True)
    with _turn(directory / ".lock"):
        missing = [jar for jar in jars if not _is_whole(directory / jar.filename, jar)]
        if missing:
            require_room(directory, 2 * sum(jar.size for jar in missing), "fetching Kafka")
            for stale in directory.glob(".fetch-*"):
                shutil.rmtree(stale, ignore_errors=True)
            try:
                _fetch_all(missing, directory, console)
            except OSError as error:
                raise DiskFullError(
                    f"expected to write Kafka's jars to {directory}; {error.strerror or error}. Make room, "
                    "or set TIDEMARK_CACHE_DIR to a directory on another disk."
                ) from error
    return tuple(directory / jar.filename for jar in jars)


def _is_whole(path: Path, jar: Jar) -> bool:
    return path.is_file() and path.stat().st_size == jar.size and _sha256(path) == jar.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _turn(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch_all(jars: list[Jar], directory: Path, console: Console | None) -> None:
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=console is None,
    )
    with (
        progress,
        tempfile.TemporaryDirectory(dir=directory, prefix=".fetch-") as scratch,
        ThreadPoolExecutor(_PARALLEL) as pool,
    ):
        task = progress.add_task(f"Fetching Kafka {KAFKA_VERSION}", total=sum(jar.size for jar in jars))
        moves = [
            pool.submit(_fetch, jar, Path(scratch), directory, lambda count: progress.advance(task, count))
            for jar in jars
        ]
        try:
            for move in moves:
                move.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _fetch(jar: Jar, scratch: Path, directory: Path, advance: Callable[[int], None]) -> None:
    """Fetch one jar through jgo into `scratch`, verify it, and give it its final name."""
    reason = ""
    for attempt in range(_ATTEMPTS):
        try:
            path = _download(jar, scratch / f"{jar.filename}.{attempt}", advance)
        # requests' errors are OSErrors, and so is a full disk: the two are told apart by the errno.
        except (OSError, RuntimeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            reason = str(error)
            continue
        found = _sha256(path)
        if found == jar.sha256:
            path.replace(directory / jar.filename)
            return
        reason = f"expected SHA-256 {jar.sha256}, got {found}"
    raise DownloadError(
        f"{jar.coordinates} could not be fetched after {_ATTEMPTS} tries: {reason[:400]}. "
        "Check the connection: a proxy goes into HTTPS_PROXY, a mirror of Maven Central into the section "
        f"[repositories] of ~/.config/jgo.conf. Or copy {jar.filename} into {directory}. "
        "Or set TIDEMARK_BOOTSTRAP_SERVERS to a Kafka of your own."
    )


def _download(jar: Jar, repo_cache: Path, advance: Callable[[int], None]) -> Path:
    from jgo.config import GlobalSettings  # noqa: PLC0415 - an extra; and slow to import
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415

    @contextmanager
    def report(_filename: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield advance

    context = MavenContext(
        resolver=PythonResolver(progress_callback=report),
        repo_cache=repo_cache,
        local_repos=[],
        remote_repos={**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL},
        timeout=_TIMEOUT_S,
    )
    group, artifact, version = jar.coordinates.split(":")
    return Path(context.project(group, artifact).at_version(version).artifact().resolve())


def _print_pins() -> None:
    """Resolve COORDINATES and print what `jars.txt` has to hold."""
    import jgo  # noqa: PLC0415 - an extra

    found = {
        f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
        for endpoint in COORDINATES
        for artifact in jgo.resolve(endpoint)
    }
    sys.stdout.write("# The embedded Kafka: coordinates, SHA-256, bytes. By: python -m operations.embedded.jars\n")
    with tempfile.TemporaryDirectory() as scratch:
        for coordinates in sorted(found):
            path = _download(Jar(coordinates, "", 0), Path(scratch), lambda _count: None)
            sys.stdout.write(f"{coordinates} {_sha256(path)} {path.stat().st_size}\n")


if __name__ == "__main__":
    _print_pins()

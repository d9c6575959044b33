"""Processes on this machine: started into log files, recognised later, stopped within a bound.

A pid alone says nothing after a restart, so a process is known by its pid and the time it began.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import psutil

# psutil derives a start time from the boot time, which moves a little when the clock is set; two processes
# with one pid are much further apart than this many seconds.
_START_TOLERANCE_S = 2.0
# A log that has grown beyond this is set aside when its process is started again, in bytes.
_LOG_BYTES_MAX = 16 * 1024 * 1024
_POLL_S = 0.05


class ProcessIdentity(msgspec.Struct, frozen=True):
    """Which process was meant: `started_at` is seconds since the epoch as the kernel tells it."""

    pid: int
    started_at: float

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity":
        """The identity of a running process; psutil.NoSuchProcess when there is none."""
        return cls(pid=pid, started_at=psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """The process, if it still runs and is the same one."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started_at) > _START_TOLERANCE_S:
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.NoSuchProcess:
            return None


class ServiceProcess:
    """A process in a session of its own, so that Ctrl-C on the terminal reaches its supervisor only."""

    def __init__(self, identity: ProcessIdentity, child: "subprocess.Popen[bytes] | None") -> None:
        self.identity = identity
        self._child = child

    @classmethod
    def spawn(
        cls,
        args: Sequence[str | os.PathLike[str]],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        account: tuple[int, int] | None = None,
        cwd: Path | None = None,
    ) -> "ServiceProcess":
        """Start `args`, output appended to `log`; `account` is (uid, gid) to run as. Raises OSError."""
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > _LOG_BYTES_MAX:
            log.replace(log.with_name(log.name + ".1"))
        with log.open("ab") as output:
            child = subprocess.Popen(  # noqa: S603 - the arguments are ours
                args,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=env,
                cwd=cwd,
                user=account[0] if account else None,
                group=account[1] if account else None,
                extra_groups=[] if account else None,
            )
        return cls(ProcessIdentity.of(child.pid), child)

    @classmethod
    def adopt(cls, identity: ProcessIdentity | None) -> "ServiceProcess | None":
        """A process that another one of ours has left behind, if it still runs."""
        return cls(identity, None) if identity is not None and identity.find() else None

    @property
    def pid(self) -> int:
        """The process id."""
        return self.identity.pid

    def running(self) -> bool:
        """Whether the process has not ended yet."""
        if self._child is not None:
            return self._child.poll() is None
        return self.identity.find() is not None

    def exit_code(self) -> int | None:
        """The exit code of a child that has ended, negative for a signal; else None."""
        return self._child.poll() if self._child is not None else None

    def send(self, signal_number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self.running():
            os.kill(self.pid, signal_number)

    def release(self) -> None:
        """Let the process outlive this one: it is not waited for any more."""
        if self._child is not None:
            self._child.returncode = 0  # what subprocess takes as "no longer mine"; it warns otherwise
            self._child = None

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end; False when the time is over first."""
        deadline = time.monotonic() + timeout_s
        while self.running():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def stop(self, timeout_s: float, signal_number: signal.Signals = signal.SIGTERM) -> bool:
        """Ask the process to end, and kill it when it has not after `timeout_s`. False when it was killed."""
        self.send(signal_number)
        if self.wait(timeout_s):
            return True
        self.send(signal.SIGKILL)
        self.wait(timeout_s)
        return False


def log_tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log, for an error message."""
    try:
        text = log.read_bytes()[-8192:].decode("utf-8", "replace")
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:]) or "(empty log)"


def find_by_argument(argument: str) -> ProcessIdentity | None:
    """A running process that was started with exactly this argument: how an orphan is found without a pid."""
    for process in psutil.process_iter(["cmdline", "create_time", "status"]):
        info = process.info
        if argument in (info["cmdline"] or ()) and info["status"] != psutil.STATUS_ZOMBIE:
            return ProcessIdentity(pid=process.pid, started_at=info["create_time"])
    return None

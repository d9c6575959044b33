"""A worker process over its restarts."""

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from operations.processes import ServiceProcess
from operations.runstate import WorkerState

log = logging.getLogger(__name__)

Command = Callable[[str, Path], Sequence[str]]
"""The command line of the worker of a name in a data directory."""

# A worker that dies at once is started again after half a second, then after twice as long each time, at most
# every half minute; one that has lived for a minute begins anew.
_BACKOFF_FIRST_S, _BACKOFF_MOST_S = 0.5, 30.0
_HEALTHY_S = 60.0


def worker_command(name: str, data_dir: Path) -> Sequence[str]:
    """How a worker is started. -P keeps packages of the current directory from standing in for ours."""
    return [
        *(sys.executable, "-P", "-m", "operations.cli", "worker"),
        *("--worker-name", name, "--data-dir", str(data_dir)),
    ]


def backoff_s(failures: int) -> float:
    """How long something that has ended `failures` times in a row stays down, in seconds."""
    return min(_BACKOFF_MOST_S, _BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 16))


@dataclass(slots=True)
class WorkerProcess:
    """One worker: its process while there is one, and when the next is due."""

    name: str
    data_dir: Path
    log: Path
    process: ServiceProcess | None = None
    restarts: int = 0
    exit_code: int | None = None
    started_s: float = 0.0
    """Monotonic time of the last start."""
    again_s: float = 0.0
    """Monotonic time of the next start, while there is no process."""
    failures: int = 0
    """Ends in a row, each before it had lived for long."""

    def look(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        """Note the end of the process, and start the next one when it is due."""
        now = time.monotonic()
        if self.process is not None and not self.process.running():
            self._note_end(now)
        if self.process is None and now >= self.again_s:
            self.process = ServiceProcess.spawn(command, self.log, env=environ)
            self.started_s = now

    def _note_end(self, now: float) -> None:
        assert self.process is not None
        self.exit_code = self.process.exit_code()
        self.process = None
        self.failures = 1 if now - self.started_s >= _HEALTHY_S else self.failures + 1
        self.restarts += 1
        delay = backoff_s(self.failures)
        self.again_s = now + delay
        log.warning(
            "worker %s ended with %s; starting it again in %.1f s, see %s",
            self.name,
            self.exit_code,
            delay,
            self.log,
        )

    def state(self) -> WorkerState:
        """What other commands are told."""
        return WorkerState(
            name=self.name,
            data_dir=str(self.data_dir),
            log=str(self.log),
            state="running" if self.process is not None else "waiting",
            process=self.process.identity if self.process is not None else None,
            restarts=self.restarts,
            exit_code=self.exit_code,
        )

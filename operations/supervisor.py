"""`tidemark up`: services, and N worker processes that are started again when they die.

A supervisor that is killed leaves everything running; the next one in the same data directory stops its
workers and takes its services over.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from contracts.errors import ServiceError, StartTimeoutError, TidemarkError
from contracts.settings import Settings
from operations.embedded.jars import default_cache_dir, ensure_jars
from operations.files import hold, make_directory
from operations.processes import ProcessIdentity, ServiceProcess, log_tail
from operations.runstate import (
    Phase,
    RunState,
    find_running,
    read_run,
    run_file,
    write_run,
)
from operations.services import RunningServices, start_services, stop_orphans
from operations.settings import settings_environ
from operations.workers import Command, WorkerProcess, backoff_s, worker_command

log = logging.getLogger(__name__)

Prepare = Callable[[Settings], Awaitable[None]]
"""What has to be done once services answer and before workers start: topics, migrations."""

_POLL_S = 0.2
# A worker finishes the cycle it has begun to send, which takes well below a second unless Postgres is away.
WORKER_STOP_S = 30.0
# Services that a first start has to create, on a busy machine; the jars are fetched before.
_DETACHED_START_S = 300.0


@dataclass(slots=True)
class Supervisor:
    """Workers of one data directory, kept alive. Made by `supervised`."""

    data_dir: Path
    services: RunningServices
    command: Command
    workers: list[WorkerProcess] = field(default_factory=list)
    _written: RunState | None = None
    _services_again_s: float = 0.0
    _services_failures: int = 0

    @property
    def settings(self) -> Settings:
        """The settings with the addresses in use."""
        return self.services.settings

    def add(self, name: str) -> None:
        """One more worker; it is started by the next `look`."""
        home = self.data_dir / "workers" / name
        home.mkdir(parents=True, exist_ok=True)
        self.workers.append(WorkerProcess(name, home, self.data_dir / "log" / f"worker-{name}.log"))

    def look(self) -> None:
        """Note who has ended, start who is due, tell the others."""
        environ = {**os.environ, **settings_environ(self.settings)}
        for worker in self.workers:
            worker.look(self.command(worker.name, self.data_dir), environ)
        self.tell("running")

    async def revive_services(self) -> None:
        """Start an embedded service that has ended by itself, at the address it had."""
        dead = self.services.dead()
        if not dead or time.monotonic() < self._services_again_s:
            return
        log.error("%s ended; starting it again", " and ".join(dead))
        try:
            await asyncio.to_thread(self.services.start_missing)
        except TidemarkError as error:
            self._services_failures += 1
            delay = backoff_s(self._services_failures)
            self._services_again_s = time.monotonic() + delay
            log.error("%s; trying again in %.1f s", error, delay)  # noqa: TRY400 - the message says it all
        else:
            self._services_failures = 0

    def tell(self, phase: Phase) -> None:
        """Write the state where other commands look, when it has changed."""
        state = RunState(
            supervisor=ProcessIdentity.of(os.getpid()),
            phase=phase,
            bootstrap_servers=self.settings.bootstrap_servers,
            dsn=self.settings.dsn,
            workers=tuple(worker.state() for worker in self.workers),
        )
        if state != self._written:
            write_run(self.data_dir, state)
            self._written = state

    async def watch(self) -> None:
        """Keep everything alive until cancelled."""
        while True:
            await asyncio.sleep(_POLL_S)
            await self.revive_services()
            self.look()

    async def stop(self, hurry: asyncio.Event) -> None:
        """Ask every worker to end, wait, and kill who has not after WORKER_STOP_S or once `hurry` is set."""
        self.tell("stopping")
        processes = [worker.process for worker in self.workers if worker.process is not None]
        for process in processes:
            process.send(signal.SIGTERM)
        deadline = time.monotonic() + WORKER_STOP_S
        while any(process.running() for process in processes):
            if hurry.is_set() or time.monotonic() >= deadline:
                for process in processes:
                    process.send(signal.SIGKILL)
            await asyncio.sleep(0.05)


@asynccontextmanager
async def supervised(
    settings: Settings,
    data_dir: Path,
    workers: int,
    *,
    prepare: Prepare | None = None,
    progress: Console | None = None,
    command: Command = worker_command,
    hurry: asyncio.Event | None = None,
    fast: bool = False,
) -> AsyncIterator[Supervisor]:
    """Services and `workers` processes for as long as the block runs.

    `hurry`, once set, cuts the waiting for workers short. `fast` is for tests. Raises AlreadyRunningError,
    ServiceError and its kin, SettingError, and what `prepare` raises; nothing is left running then.
    """
    data_dir = data_dir.resolve()  # noqa: ASYNC240 - once, before anything runs
    make_directory(data_dir)
    with hold(data_dir / "run.lock", "run tidemark up"):
        await asyncio.to_thread(_stop_left_workers, data_dir)
        run_file(data_dir).unlink(missing_ok=True)
        async with await start_services(settings, data_dir, progress=progress, fast=fast) as services:
            supervisor = Supervisor(data_dir, services, command)
            supervisor.tell("starting")
            watching: asyncio.Task[None] | None = None
            try:
                if prepare is not None:
                    await prepare(supervisor.settings)
                for number in range(1, workers + 1):
                    supervisor.add(f"w{number}")
                supervisor.look()
                watching = asyncio.create_task(supervisor.watch())
                yield supervisor
            finally:
                if watching is not None:
                    watching.cancel()
                    await asyncio.wait([watching])
                await supervisor.stop(hurry or asyncio.Event())
                # Services are still up: until they are down too, the lock keeps the next one away.
                run_file(data_dir).unlink(missing_ok=True)


async def run_supervisor(
    settings: Settings,
    data_dir: Path,
    workers: int,
    *,
    prepare: Prepare | None = None,
    progress: Console | None = None,
    command: Command = worker_command,
    fast: bool = False,
    on_ready: Callable[[Supervisor], None] | None = None,
) -> None:
    """`tidemark up` in the foreground: returns after SIGTERM, SIGINT or SIGHUP; a second one hurries.

    `on_ready` is called once everything is started. Raises as `supervised` does.
    """
    hurry = asyncio.Event()

    async def serve() -> None:
        block = supervised(
            settings,
            data_dir,
            workers,
            prepare=prepare,
            progress=progress,
            command=command,
            hurry=hurry,
            fast=fast,
        )
        async with block as supervisor:
            if on_ready is not None:
                on_ready(supervisor)
            await asyncio.Event().wait()

    serving = asyncio.create_task(serve())
    signals = 0

    def told() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            serving.cancel()
        else:
            hurry.set()

    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, told)
    try:
        await serving
    except asyncio.CancelledError:
        if not signals:
            serving.cancel()
            await asyncio.wait([serving])
            raise
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def start_detached(
    settings: Settings,
    data_dir: Path,
    workers: int,
    *,
    progress: Console | None = None,
    arguments: Sequence[str] = ("-m", "operations.cli", "up"),
    timeout_s: float = _DETACHED_START_S,
) -> RunState:
    """`tidemark up --detach`: a supervisor in a session of its own; returns once it runs.

    `arguments` are Python's, followed by --workers and --data-dir. Jars are fetched here, where a bar can be
    seen. Raises AlreadyRunningError, ServiceError with the end of the log, or StartTimeoutError.
    """
    data_dir = data_dir.resolve()
    make_directory(data_dir)
    hold(data_dir / "run.lock", "run tidemark up").close()
    if not settings.bootstrap_servers:
        ensure_jars(default_cache_dir(settings.cache_dir), progress)
    path = supervisor_log(data_dir)
    process = ServiceProcess.spawn(
        [
            *(sys.executable, "-P", *arguments),
            *("--workers", str(workers), "--data-dir", str(data_dir)),
        ],
        path,
        env={**os.environ, **settings_environ(settings)},
    )
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        state = find_running(data_dir)
        if state is not None and state.supervisor.pid == process.pid and state.phase == "running":
            process.release()
            return state
        if not process.running():
            code = process.exit_code()
            raise ServiceError(f"expected tidemark up to run; it ended with {code}, see {path}:\n{log_tail(path)}")
        time.sleep(_POLL_S)
    process.stop(WORKER_STOP_S)
    raise StartTimeoutError(
        f"expected tidemark up to be ready within {timeout_s:.0f} s; it was not, and is stopped. "
        f"See {path}:\n{log_tail(path)}"
    )


def supervisor_log(data_dir: Path) -> Path:
    """Where a detached supervisor writes."""
    return data_dir / "log" / "up.log"


def stop_running(data_dir: Path, timeout_s: float = 120.0) -> bool:
    """`tidemark down`: stop the supervisor of `data_dir`, and what a killed one has left behind.

    False when nothing ran. A supervisor that has not ended after `timeout_s` is killed, and its workers and
    services are stopped from here. Raises AlreadyRunningError when the services belong to another command.
    """
    data_dir = data_dir.resolve()
    state = find_running(data_dir)
    process = ServiceProcess.adopt(state.supervisor) if state is not None else None
    if process is not None:
        process.stop(timeout_s)
    left = _stop_left_workers(data_dir)
    left = stop_orphans(data_dir) or left
    run_file(data_dir).unlink(missing_ok=True)
    return process is not None or left


def _stop_left_workers(data_dir: Path) -> bool:
    """Stop workers of a supervisor that is gone; False when there are none."""
    state = read_run(data_dir)
    adopted = (ServiceProcess.adopt(worker.process) for worker in state.workers) if state is not None else ()
    left = [process for process in adopted if process is not None]
    if not left:
        return False
    log.warning("stopping %d workers that a killed supervisor has left behind", len(left))
    with ThreadPoolExecutor(len(left)) as pool:
        list(pool.map(lambda process: process.stop(WORKER_STOP_S), left))
    return True

"""What a running `tidemark up` tells other commands: `<data>/run.json`, rewritten at every change."""

from pathlib import Path
from typing import Literal

import msgspec

from contracts.settings import Settings
from operations.embedded.kafka import find_kafka
from operations.embedded.postgres import find_postgres
from operations.files import write_private
from operations.processes import ProcessIdentity

Phase = Literal["starting", "running", "stopping"]
WorkerPhase = Literal["running", "waiting", "stopped"]


class WorkerState(msgspec.Struct, frozen=True):
    """One supervised worker.

    `waiting` is a worker that ended by itself and will be started again once its backoff is over.
    """

    name: str
    data_dir: str
    log: str
    state: WorkerPhase = "waiting"
    process: ProcessIdentity | None = None
    restarts: int = 0
    exit_code: int | None = None
    """How it ended the last time, negative for a signal; None while it has not."""


class RunState(msgspec.Struct, frozen=True):
    """A supervisor, its services and its workers. Holds the DSN: readable by its owner only."""

    supervisor: ProcessIdentity
    phase: Phase
    bootstrap_servers: str = ""
    dsn: str = ""
    workers: tuple[WorkerState, ...] = ()


class WorkerStatus(msgspec.Struct, frozen=True):
    """A worker as `tidemark status --json` shows it. `pid` is null while there is no process."""

    name: str
    pid: int | None
    state: WorkerPhase | Literal["orphaned"]
    restarts: int
    exit_code: int | None
    data_dir: str
    log: str


class ServiceStatus(msgspec.Struct, frozen=True):
    """Kafka or Postgres: embedded with its process id, or configured elsewhere."""

    address: str
    embedded: bool
    pid: int | None
    state: Literal["running", "stopped", "configured", "orphaned"]


class Status(msgspec.Struct, frozen=True):
    """`tidemark status`; `msgspec.to_builtins` makes plain values of it. It holds no password."""

    running: bool
    phase: Phase | Literal["stopped"]
    pid: int | None
    data_dir: str
    kafka: ServiceStatus
    postgres: ServiceStatus
    workers: tuple[WorkerStatus, ...]


def run_file(data_dir: Path) -> Path:
    """Where the state is kept."""
    return data_dir / "run.json"


def write_run(data_dir: Path, state: RunState) -> None:
    """Replace the state in one step."""
    write_private(run_file(data_dir), msgspec.json.format(msgspec.json.encode(state), indent=2))


def read_run(data_dir: Path) -> RunState | None:
    """The state that was written last, whether its supervisor still runs or not."""
    try:
        return msgspec.json.decode(run_file(data_dir).read_bytes(), type=RunState)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except msgspec.DecodeError:
        # Of another version of Tidemark; the lock files, not this one, keep two supervisors apart.
        return None


def find_running(data_dir: Path) -> RunState | None:
    """The state of the `tidemark up` that serves `data_dir` now; None when there is none."""
    state = read_run(data_dir)
    return state if state is not None and state.supervisor.find() is not None else None


def with_running(settings: Settings, data_dir: Path) -> Settings:
    """The settings with the addresses of a running `tidemark up`, where they name none themselves."""
    state = find_running(data_dir)
    if state is None:
        return settings
    return msgspec.structs.replace(
        settings,
        bootstrap_servers=settings.bootstrap_servers or state.bootstrap_servers,
        dsn=settings.dsn or state.dsn,
    )


def read_status(data_dir: Path) -> Status:
    """What runs in `data_dir` now, also what a killed supervisor has left behind."""
    data_dir = data_dir.resolve()
    state = read_run(data_dir)
    alive = state is not None and state.supervisor.find() is not None
    kafka, postgres = find_kafka(data_dir), find_postgres(data_dir)
    return Status(
        running=alive,
        phase=state.phase if state is not None and alive else "stopped",
        pid=state.supervisor.pid if state is not None and alive else None,
        data_dir=str(data_dir),
        kafka=_service(state.bootstrap_servers if state else "", kafka.pid if kafka else None, alive=alive),
        postgres=_service(
            state.dsn.rpartition("@")[2] if state else "", postgres.pid if postgres else None, alive=alive
        ),
        workers=tuple(_worker(worker, alive=alive) for worker in (state.workers if state else ())),
    )


def _service(address: str, pid: int | None, *, alive: bool) -> ServiceStatus:
    if pid is not None:
        return ServiceStatus(address, embedded=True, pid=pid, state="running" if alive else "orphaned")
    configured = alive and bool(address)
    return ServiceStatus(address, embedded=not configured, pid=None, state="configured" if configured else "stopped")


def _worker(worker: WorkerState, *, alive: bool) -> WorkerStatus:
    process = worker.process.find() if worker.process else None
    if process is None:
        phase: WorkerPhase | Literal["orphaned"] = "waiting" if alive and worker.state != "stopped" else "stopped"
    else:
        phase = worker.state if alive else "orphaned"
    return WorkerStatus(
        name=worker.name,
        pid=process.pid if process else None,
        state=phase,
        restarts=worker.restarts,
        exit_code=worker.exit_code,
        data_dir=worker.data_dir,
        log=worker.log,
    )

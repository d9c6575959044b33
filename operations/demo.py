"""The main job, whole, on services of its own: load a sample, wait until it has arrived, gather what it became."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from contracts.errors import ServiceError, SettingError
from contracts.settings import Settings
from operations.embedded.account import remove_home
from operations.files import make_directory
from operations.load import load
from operations.processes import log_tail
from operations.runstate import read_status
from operations.settings import CONFIG_VARIABLE, PREFIX
from operations.stats import topic_limits
from operations.story import Story, gather
from operations.supervisor import Prepare, start_detached, stop_running, supervised
from operations.wait import wait_until_arrived
from sinks.postgres.database import Connection, Database
from sinks.postgres.progress import read_progress
from sinks.postgres.queries import stats
from streams.engine.cluster import Cluster

_BESIDE: Final = Path(__file__).resolve().with_name("sample.jsonl")
SAMPLE: Final = _BESIDE if _BESIDE.is_file() else _BESIDE.parents[1] / "examples" / _BESIDE.name
"""The sample that comes with Tidemark: a wheel brings it beside this module, a checkout in `examples`."""

_MARK = "demo"
"""Name of the file that says: this data directory is a demo's, and may be emptied for the next."""

_READY_S = 120.0
"""How long a worker may take to own its partitions: some seconds, many times that on a busy machine."""

_ARRIVE_S = 300.0
_RESTARTS_MAX = 3
_POLL_S = 0.1

_KEPT_SETTINGS = ("cache_dir", "java_home", "log_level")
"""Of the settings, those that the demo takes over: all others are the defaults, so that it is the same everywhere."""


@dataclass(frozen=True, slots=True)
class Moving:
    """How far the sample is: numbers of messages."""

    phase: str
    loaded: int = 0
    read: int = 0
    rested: int = 0
    """Applied, duplicate or quarantined."""


OnMoving = Callable[[Moving], None]


def demo_settings(told: Settings, data_dir: Path) -> Settings:
    """The demo's settings: embedded services, everything else as it comes.

    Takes settings out of this process' environment too, since workers inherit it. Raises SettingError.
    """
    if (data_dir / "tidemark.toml").exists():
        raise SettingError(
            "data_dir",
            f"expected a directory without settings, because the demo has its own; {data_dir} has a tidemark.toml. "
            "Name another --data-dir",
        )
    for variable in list(os.environ):
        name = variable.removeprefix(PREFIX).lower()
        if variable == CONFIG_VARIABLE or (name in Settings.__struct_fields__ and name not in _KEPT_SETTINGS):
            del os.environ[variable]
    return Settings(data_dir=data_dir, **{name: getattr(told, name) for name in _KEPT_SETTINGS})


def empty_demo_dir(data_dir: Path) -> None:
    """Make an empty data directory for a demo, ending and removing an earlier one that is there.

    Raises SettingError when it holds anything else.
    """
    if data_dir.exists() and any(data_dir.iterdir()):
        if not (data_dir / _MARK).exists():
            raise SettingError(
                "data_dir",
                f"expected an empty directory, or that of an earlier demo; {data_dir} holds something else. "
                "Name another --data-dir",
            )
        stop_running(data_dir)
        remove_home(data_dir)
        for path in data_dir.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    make_directory(data_dir)
    (data_dir / _MARK).touch()


async def run_demo(
    settings: Settings,
    data_dir: Path,
    *,
    prepare: Prepare,
    keep: bool = False,
    sample: Path = SAMPLE,
    progress: Console | None = None,
    on_moving: OnMoving = lambda _: None,
) -> Story:
    """Load `sample` through services and a worker in `data_dir`, and return what it became.

    With `keep` they go on running, as `tidemark up --detach` would have it. Raises ServiceError and its kin.
    """
    if not sample.is_file():  # noqa: ASYNC240 - once, before anything runs
        raise ServiceError(f"expected the sample at {sample}; it is not there. Write it: python -m examples.generate")
    async with _running(settings, data_dir, prepare, progress, keep=keep) as settings:  # noqa: PLR1704
        database = Database(settings.dsn, settings.schema, application="tidemark-demo")
        connection = await database.open()
        try:
            on_moving(Moving("the worker starts"))
            await _await_worker(settings, data_dir, connection)
            began_us = time.time_ns() // 1000
            descriptor = os.open(sample, os.O_RDONLY)
            try:
                loaded = await load(settings, descriptor)
            finally:
                os.close(descriptor)
            await _await_arrival(settings, connection, loaded.lines, on_moving)
            return await gather(settings, connection, sample, began_us)
        finally:
            await connection.close()


@asynccontextmanager
async def _running(
    settings: Settings, data_dir: Path, prepare: Prepare, progress: Console | None, *, keep: bool
) -> AsyncIterator[Settings]:
    if keep:
        state = await asyncio.to_thread(start_detached, settings, data_dir, 1, progress=progress)
        yield msgspec.structs.replace(settings, bootstrap_servers=state.bootstrap_servers, dsn=state.dsn)
        return
    async with supervised(settings, data_dir, 1, prepare=prepare, progress=progress) as supervisor:
        yield supervisor.settings


async def _await_worker(settings: Settings, data_dir: Path, connection: Connection) -> None:
    """Return once the worker owns every partition: what is measured then is work, not joining a group."""
    topics = (*settings.source_topics, settings.leaves_topic, settings.companies_topic, settings.quarantine_topic)
    wanted = len(await topic_limits(Cluster(settings), topics))
    deadline = time.monotonic() + _READY_S
    while len(await read_progress(connection, settings.app_version)) < wanted:
        (worker, *_) = read_status(data_dir).workers
        if worker.restarts >= _RESTARTS_MAX or time.monotonic() > deadline:
            log = Path(worker.log)
            raise ServiceError(f"expected a worker to run; it does not, see {log}. Its last lines:\n{log_tail(log)}")
        await asyncio.sleep(_POLL_S)


async def _await_arrival(settings: Settings, connection: Connection, lines: int, on_moving: OnMoving) -> None:
    arriving = asyncio.create_task(wait_until_arrived(settings, timeout_s=_ARRIVE_S))
    try:
        while not arriving.done():
            counts = await stats(connection, settings.app_version)
            on_moving(Moving("messages arrive", lines, counts.read, counts.read - counts.in_flight))
            await asyncio.wait([arriving], timeout=_POLL_S)
        arrival = await arriving
    finally:
        arriving.cancel()
    if arrival.missing:
        missing = "; ".join(map(str, arrival.missing))
        raise ServiceError(
            f"expected the sample to arrive within {_ARRIVE_S:.0f} s; {missing}. See the worker's log below "
            f"{settings.data_dir / 'log'}."
        )

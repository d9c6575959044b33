"""`tidemark up` without its command line: workers kept alive, stopped, found. They are stand-ins here."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from contracts.errors import AlreadyRunningError, ServiceError
from contracts.settings import Settings
from operations.processes import ServiceProcess
from operations.runstate import Status, find_running, read_run, read_status, run_file, with_running
from operations.settings import settings_environ
from operations.supervisor import run_supervisor, start_detached, stop_running, supervised

FAITHFUL = "import time; print('up', flush=True); time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {FAITHFUL}"
FAILING = "import sys; sys.exit(3)"
TELLING = f"import os; print(os.environ['TIDEMARK_DSN'], flush=True); {FAITHFUL}"


def running(code: str) -> Callable[[str, Path], Sequence[str]]:
    return lambda name, data_dir: [sys.executable, "-c", code, name, str(data_dir)]


async def until(condition: Callable[[], object]) -> None:
    """Wait for as long as the test's own timeout allows."""
    while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes
        await asyncio.sleep(0.05)


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def pids(status: Status) -> list[int]:
    return [worker.pid for worker in status.workers if worker.pid is not None]


async def test_workers_run_with_the_addresses_and_directories_of_their_own(settings: Settings):
    data_dir = settings.data_dir
    prepared: list[Settings] = []

    async def prepare(ready: Settings) -> None:
        prepared.append(ready)

    async with supervised(settings, data_dir, 2, prepare=prepare, command=running(TELLING)):
        status = read_status(data_dir)
        assert (status.running, status.phase, status.pid) == (True, "running", os.getpid())
        assert [worker.state for worker in status.workers] == ["running", "running"]
        assert len(set(pids(status))) == 2
        await until(lambda: all(settings.dsn in read(Path(worker.log)) for worker in status.workers))
        assert all(worker.data_dir.startswith(str(data_dir)) for worker in status.workers)
        plain = msgspec.json.decode(msgspec.json.encode(status))
        assert {"pid", "state"} <= set(plain["workers"][0])
        assert "password" not in str(plain)
        assert with_running(Settings(), data_dir).dsn == settings.dsn
        assert with_running(Settings(dsn="postgresql://h/other"), data_dir).dsn == "postgresql://h/other"
        assert run_file(data_dir).stat().st_mode & 0o077 == 0
    assert prepared == [settings]
    assert find_running(data_dir) is None
    assert not read_status(data_dir).running


async def test_a_dead_worker_is_started_again(settings: Settings):
    data_dir = settings.data_dir
    async with supervised(settings, data_dir, 1, command=running(FAITHFUL)):
        (before,) = pids(read_status(data_dir))
        os.kill(before, signal.SIGKILL)
        await until(lambda: pids(read_status(data_dir)) not in ([], [before]))
        (worker,) = read_status(data_dir).workers
        assert (worker.restarts, worker.exit_code, worker.state) == (1, -signal.SIGKILL, "running")


async def test_a_worker_that_fails_at_once_waits_ever_longer(settings: Settings):
    data_dir = settings.data_dir
    async with supervised(settings, data_dir, 1, command=running(FAILING)) as supervisor:
        await until(lambda: supervisor.workers[0].restarts >= 3)
        (worker,) = read_status(data_dir).workers
        assert worker.exit_code == 3
        assert supervisor.workers[0].failures >= 3


async def test_a_second_up_of_the_same_directory_is_refused(settings: Settings):
    async with supervised(settings, settings.data_dir, 1, command=running(FAITHFUL)):
        with pytest.raises(AlreadyRunningError, match=f"{os.getpid()}.*tidemark down"):
            async with supervised(settings, settings.data_dir, 1, command=running(FAITHFUL)):
                pass
        with pytest.raises(AlreadyRunningError):
            start_detached(settings, settings.data_dir, 1)


async def test_what_prepare_raises_leaves_nothing_running(settings: Settings):
    async def prepare(_ready: Settings) -> None:
        raise ServiceError("no")

    with pytest.raises(ServiceError, match="no"):
        async with supervised(settings, settings.data_dir, 1, prepare=prepare, command=running(FAITHFUL)):
            pass
    assert find_running(settings.data_dir) is None


async def test_a_signal_stops_workers_and_a_second_one_kills_them(settings: Settings):
    data_dir = settings.data_dir
    workers: list[int] = []
    deaf = running(DEAF)
    up = asyncio.create_task(run_supervisor(settings, data_dir, 1, command=deaf))
    await until(lambda: (data_dir / "log").exists() and read(data_dir / "log" / "worker-w1.log"))
    workers = pids(read_status(data_dir))
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: read_status(data_dir).phase == "stopping")
    assert ServiceProcess.adopt(read_run(data_dir).workers[0].process) is not None
    os.kill(os.getpid(), signal.SIGTERM)
    await up
    assert workers
    assert find_running(data_dir) is None
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


_UP = f"""
import asyncio, sys
from operations.settings import load_settings
from operations.supervisor import run_supervisor
settings = load_settings()
command = lambda name, data_dir: [sys.executable, "-c", {FAITHFUL!r}, name, str(data_dir)]
asyncio.run(run_supervisor(settings, settings.data_dir, 2, command=command))
"""


async def test_detached_up_is_found_and_stopped(settings: Settings):
    data_dir = settings.data_dir
    state = await asyncio.to_thread(start_detached, settings, data_dir, 2, arguments=("-c", _UP))
    workers = pids(read_status(data_dir))
    assert state.supervisor.find() is not None
    assert len(workers) == 2
    assert await asyncio.to_thread(stop_running, data_dir)
    assert state.supervisor.find() is None
    assert not await asyncio.to_thread(stop_running, data_dir)


async def test_detached_up_that_fails_shows_its_log(settings: Settings):
    failing = ("-c", "import sys; sys.exit('the reason')")
    with pytest.raises(ServiceError, match=r"the reason"):
        await asyncio.to_thread(start_detached, settings, settings.data_dir, 1, arguments=failing)


@pytest.mark.parametrize("way", ["up", "down"])
async def test_workers_of_a_killed_supervisor_are_stopped_by_the_next(settings: Settings, way: str):
    data_dir = settings.data_dir
    state = await asyncio.to_thread(start_detached, settings, data_dir, 2, arguments=("-c", _UP))
    os.kill(state.supervisor.pid, signal.SIGKILL)
    await until(lambda: find_running(data_dir) is None)
    status = read_status(data_dir)
    assert [worker.state for worker in status.workers] == ["orphaned", "orphaned"]
    if way == "down":
        assert await asyncio.to_thread(stop_running, data_dir)
    else:
        async with supervised(settings, data_dir, 1, command=running(FAITHFUL)):
            assert not set(pids(read_status(data_dir))) & set(pids(status))
    for worker in state.workers:
        assert worker.process is None or worker.process.find() is None
    assert pids(read_status(data_dir)) == []


async def test_a_worker_is_told_all_settings(settings: Settings):
    wanted = msgspec.structs.replace(settings, cycle_records_max=17)
    show = "import os; print(os.environ['TIDEMARK_CYCLE_RECORDS_MAX'], flush=True); import time; time.sleep(600)"
    async with supervised(wanted, settings.data_dir, 1, command=running(show)):
        await until(lambda: "17" in read(settings.data_dir / "log" / "worker-w1.log"))
    assert settings_environ(wanted)["TIDEMARK_CYCLE_RECORDS_MAX"] == "17"


async def test_an_embedded_service_that_dies_is_started_again(kafka: str, tmp_path: Path):
    # Where the tests run as root, Postgres runs under another account, which has to get in.
    for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    data_dir = tmp_path / "data"
    block = supervised(Settings(bootstrap_servers=kafka), data_dir, 1, command=running(FAITHFUL), fast=True)
    async with block as supervisor:
        before = read_status(data_dir).postgres
        assert (before.embedded, before.state) == (True, "running")
        os.kill(before.pid, signal.SIGKILL)
        await until(lambda: read_status(data_dir).postgres.pid not in (None, before.pid))
        await until(lambda: not supervisor.services.dead())
        assert read_status(data_dir).postgres.address == before.address
        assert read_status(data_dir).kafka.state == "configured"

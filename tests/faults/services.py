"""Embedded services of one test's own, to be stopped and killed; and a supervisor for the workers on them."""

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contracts.errors import ServiceError
from contracts.settings import Settings
from operations.processes import ServiceProcess
from operations.services import RunningServices, open_services
from streams.engine.core import EXIT_FAILED
from tests.acceptance.pipeline import Pipeline
from tests.services import _removed_with_us

STOP_S = 60


@pytest.fixture
def own_services() -> Iterator[RunningServices]:
    """Kafka and Postgres for this test alone, with the durability that users have."""
    home = Path(tempfile.mkdtemp(prefix="tidemark-faults-"))
    # Where the tests run as root, Postgres runs under another account, which has to get in.
    home.chmod(0o755)
    with _removed_with_us(home):
        try:
            running = open_services(Settings(), home)
        except ServiceError as error:
            pytest.skip(f"no embedded services: {error}")
        try:
            yield running
        finally:
            running.stop_now()


@pytest.fixture
def own_settings(own_services: RunningServices, tmp_path: Path) -> Settings:
    addresses = own_services.addresses
    return Settings(
        bootstrap_servers=addresses.bootstrap_servers,
        dsn=addresses.dsn,
        app_version="faults",
        source_topics=("segment",),
        source_partitions=2,
        leaves_partitions=4,
        companies_partitions=2,
        cycle_records_max=500,
        data_dir=tmp_path / "data",
        log_level="WARNING",
    )


async def down_for(services: RunningServices, process: ServiceProcess, how: signal.Signals, seconds: float) -> None:
    """End a service, leave it down for a while, and start it again at its old address."""
    await asyncio.to_thread(process.stop, STOP_S, how)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(services.start_missing)


@contextlib.asynccontextmanager
async def supervised(running: Pipeline) -> AsyncIterator[list[str]]:
    """Start workers again that ended by themselves, as the supervisor does; yields what each of them said last."""
    ends: list[str] = []

    async def watch() -> None:
        while True:
            for worker, process in list(running.workers.items()):
                if process.poll() is not None:
                    last = running.log(worker)[-3000:]
                    assert process.returncode == EXIT_FAILED, f"{worker} ended with {process.returncode}: {last}"
                    ends.append(last)
                    running.start(worker)
            await asyncio.sleep(0.5)

    try:
        # A worker that ends as none should ends the test.
        async with asyncio.TaskGroup() as group:
            task = group.create_task(watch())
            yield ends
            task.cancel()
    finally:
        print(f"{len(ends)} workers ended by themselves and were started again")
        print("\n".join(end.strip().splitlines()[-1] for end in ends if end.strip()))

"""Postgres put back to an older state, as docs/operations.md tells how: the workers catch it up (SEMANTICS S4, S12)."""

import asyncio
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from contracts.settings import Settings
from examples.generate import generate
from operations.services import RunningServices
from tests.acceptance.pipeline import Pipeline, pipeline
from tests.faults.outcomes import note, outcome_of
from tests.faults.services import STOP_S, own_services, own_settings
from tests.integration.worker_environment import (
    assert_alive,
    loading,
    lose_state,
    sample,
    settled,
    stop_all,
    until_applied,
)
from tests.services import create_database, drop_database, with_database

__all__ = ["own_services", "own_settings"]

SEED = 20_261_128


def start_both(running: Pipeline) -> None:
    for worker in ("a", "b"):
        running.start(worker)


async def assert_well(running: Pipeline) -> None:
    verification = await running.verified()
    assert verification.is_well, verification.to_builtins()


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("is_lost", [False, True], ids=["local state kept", "local state lost"])
async def test_a_database_put_back_to_a_backup_of_a_system_at_rest(settings: Settings, *, is_lost: bool) -> None:
    values = [*sample(), *generate(SEED, 6000, profile="load", users=300)]
    server, name = with_database(settings.dsn, "postgres"), urlsplit(settings.dsn).path.removeprefix("/")
    async with pipeline(settings) as running:
        start_both(running)
        await running.load(values[:4000])
        await settled(running)
        stop_all(running)
        await create_database(server, f"{name}_backup", template=name)
        start_both(running)
        await running.load(values[4000:8000])
        await settled(running)
        stop_all(running)
        # Written meanwhile, and read by nobody yet.
        await running.load(values[8000:])
        await drop_database(server, name)
        connection = await asyncpg.connect(server)
        await connection.execute(f"alter database {name}_backup rename to {name}")
        await connection.close()
        if is_lost:
            for worker in ("a", "b"):
                lose_state(running, worker)
        since = time.monotonic()
        start_both(running)
        outcome = await outcome_of(running, since)
        await assert_well(running)
        stop_all(running)
        note("Postgres put back to an older backup", [outcome])


async def stopped_for(services: RunningServices, how: signal.Signals, *command: str) -> None:
    """Stop Postgres, do something about its files, and start it again."""
    assert services.postgres is not None
    await asyncio.to_thread(services.postgres.stop, STOP_S, how)
    await asyncio.to_thread(subprocess.run, command, check=True)
    await asyncio.to_thread(services.start_missing)


@pytest.mark.faults
@pytest.mark.timeout(900)
async def test_a_server_put_back_to_a_backup_taken_under_load(
    own_services: RunningServices, own_settings: Settings, tmp_path: Path
) -> None:
    """The copy is of one moment, as a base backup's is once its log is replayed: cycles under way are cut short."""
    values = [*sample(), *generate(SEED, 15_000, profile="load", users=1000)]
    async with pipeline(own_settings) as running:
        connection = await running.connection()
        data, backup = await connection.fetchval("show data_directory"), str(tmp_path / "backup")
        await connection.close()
        start_both(running)
        async with loading(running, values[:15_000], chunk=1000, pause_s=1.0):
            await until_applied(running, 2000)
            await stopped_for(own_services, signal.SIGQUIT, "cp", "-a", data, backup)
        await settled(running)
        assert_alive(running)
        stop_all(running)
        await running.load(values[15_000:])
        await stopped_for(own_services, signal.SIGINT, "sh", "-c", f"rm -r '{data}' && cp -a '{backup}' '{data}'")
        since = time.monotonic()
        start_both(running)
        outcome = await outcome_of(running, since)
        await assert_well(running)
        stop_all(running)
        note("Postgres put back to a backup taken under load", [outcome])

"""Postgres and Kafka that stop and come back under load (SEMANTICS S12: nothing is lost, nothing happens twice)."""

import asyncio
import signal
import time
from collections.abc import Sequence

import pytest

from contracts.settings import Settings
from examples.generate import generate
from operations.services import RunningServices
from tests.acceptance.pipeline import pipeline
from tests.faults.load import load_in_spite
from tests.faults.outcomes import note, outcome_of
from tests.faults.services import down_for, own_services, own_settings, supervised
from tests.integration.worker_environment import assert_alive, loading, sample, stop_all, until_applied

__all__ = ["own_services", "own_settings"]

SEED = 20_261_127
DOWN_S = 10
LONG_S = 60
"""Longer than sessions, requests and transactions of Kafka last."""


def shown(downs: Sequence[float]) -> str:
    return " and ".join(f"{seconds} s" for seconds in downs)


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("how", "downs"),
    [(signal.SIGINT, (DOWN_S, 1)), (signal.SIGQUIT, (DOWN_S, 1)), (signal.SIGINT, (LONG_S,))],
    ids=["stopped", "crashed", "away for a minute"],
)
async def test_postgres_away_under_load(
    own_services: RunningServices, own_settings: Settings, how: signal.Signals, downs: Sequence[float]
) -> None:
    values = [*sample(), *generate(SEED, 15_000, profile="load", users=1000)]
    async with pipeline(own_settings) as running:
        running.start("a")
        running.start("b")
        async with loading(running, values, chunk=1000, pause_s=1.0):
            await until_applied(running, 500)
            for seconds in downs:
                assert own_services.postgres is not None
                await down_for(own_services, own_services.postgres, how, seconds)
                since = time.monotonic()
                await asyncio.sleep(2)
        outcome = await outcome_of(running, since)
        # They have waited; none of them had to be started again.
        assert_alive(running)
        stop_all(running)
        note(f"Postgres {how.name} under load, away for {shown(downs)}", [outcome])


@pytest.mark.faults
@pytest.mark.timeout(900)
async def test_workers_start_while_postgres_is_away(own_services: RunningServices, own_settings: Settings) -> None:
    async with pipeline(own_settings) as running:
        await running.load(sample())
        assert own_services.postgres is not None
        own_services.postgres.stop(60, signal.SIGINT)
        running.start("a")
        running.start("b")
        async with supervised(running):
            await asyncio.sleep(DOWN_S)
            await asyncio.to_thread(own_services.start_missing)
            outcome = await outcome_of(running, time.monotonic())
            stop_all(running)
        note(f"Postgres away for {DOWN_S} s while workers start", [outcome])


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("how", "downs"),
    [(signal.SIGTERM, (DOWN_S, 0)), (signal.SIGKILL, (DOWN_S, 0)), (signal.SIGTERM, (LONG_S,))],
    ids=["stopped", "killed", "away for a minute"],
)
async def test_kafka_restarted_under_load(
    own_services: RunningServices, own_settings: Settings, how: signal.Signals, downs: Sequence[float]
) -> None:
    values = [*sample(), *generate(SEED, 15_000, profile="load", users=1000)]
    async with pipeline(own_settings) as running:
        running.start("a")
        running.start("b")
        async with supervised(running):
            loads = asyncio.create_task(load_in_spite(running, values))
            await until_applied(running, 500)
            for seconds in downs:
                assert own_services.kafka is not None
                await down_for(own_services, own_services.kafka, how, seconds)
                since = time.monotonic()
                await asyncio.sleep(5)
            async with asyncio.timeout(300):
                await loads
            outcome = await outcome_of(running, since)
            stop_all(running)
        note(f"Kafka {how.name} under load, away for {shown(downs)}", [outcome])

"""Postgres and Kafka that stop and come back under load (SEMANTICS S12: nothing is lost, nothing happens twice)."""

import asyncio
import signal

import pytest

from contracts.settings import Settings
from examples.generate import generate
from operations.services import RunningServices
from tests.acceptance.pipeline import pipeline
from tests.faults.load import load_in_spite
from tests.faults.services import down_for, own_services, own_settings, supervised
from tests.integration.worker_environment import assert_alive, loading, sample, settled, stop_all, until_applied

__all__ = ["own_services", "own_settings"]

SEED = 20_261_127
DOWN_S = 10


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
async def test_postgres_away_under_load(
    own_services: RunningServices, own_settings: Settings, how: signal.Signals
) -> None:
    values = [*sample(), *generate(SEED, 15_000, profile="load", users=1000)]
    async with pipeline(own_settings) as running:
        running.start("a")
        running.start("b")
        async with loading(running, values, chunk=1000, pause_s=1.0):
            await until_applied(running, 500)
            for seconds in (DOWN_S, 1):
                assert own_services.postgres is not None
                await down_for(own_services, own_services.postgres, how, seconds)
                await asyncio.sleep(2)
        await settled(running)
        # They have waited; none of them had to be started again.
        assert_alive(running)
        stop_all(running)


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
            await settled(running)
            stop_all(running)


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_kafka_restarted_under_load(
    own_services: RunningServices, own_settings: Settings, how: signal.Signals
) -> None:
    values = [*sample(), *generate(SEED, 15_000, profile="load", users=1000)]
    async with pipeline(own_settings) as running:
        running.start("a")
        running.start("b")
        async with supervised(running):
            loads = asyncio.create_task(load_in_spite(running, values))
            await until_applied(running, 500)
            for seconds in (DOWN_S, 0):
                assert own_services.kafka is not None
                await down_for(own_services, own_services.kafka, how, seconds)
                await asyncio.sleep(5)
            async with asyncio.timeout(300):
                await loads
            await settled(running)
            stop_all(running)

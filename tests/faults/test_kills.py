"""Workers that are killed, stopped and started at random under load end in the recomputed tables (SEMANTICS S4, S12).

TIDEMARK_TEST_SEED   repeats a run's order of acts
TIDEMARK_TEST_ACTS   how many of them
"""

import asyncio
import os
import time

import msgspec
import pytest

from contracts.settings import Settings
from examples.generate import generate
from tests.acceptance.pipeline import pipeline
from tests.faults.chaos import Chaos, seeded
from tests.faults.outcomes import note, outcome_of
from tests.integration.worker_environment import assert_alive, loading, lose_state, sample, stop_all

MESSAGES = 30_000
CHUNK = 1000


@pytest.mark.faults
@pytest.mark.timeout(900)
async def test_random_kills_stops_and_restarts_under_load(settings: Settings) -> None:
    seed, rng = seeded()
    acts = int(os.environ.get("TIDEMARK_TEST_ACTS") or 14)
    values = [*sample(), *generate(seed, MESSAGES, profile="load", users=3000)]
    # A second copy of some, anywhere later.
    values += rng.sample(values, len(values) // 20)
    # Odd seeds with standbys: whatever becomes of a worker, its stores go back and forth between owner and standby.
    settings = msgspec.structs.replace(settings, cycle_records_max=400, source_partitions=3, standby=seed % 2 == 1)
    async with pipeline(settings) as running:
        chaos = Chaos(running, rng)
        for _ in range(3):
            chaos.start_new()
        async with loading(running, values, CHUNK, pause_s=1.0):
            for _ in range(acts):
                await asyncio.sleep(rng.uniform(0.2, 6.0))
                assert_alive(running)
                await chaos.act()
        since = time.monotonic()
        await chaos.calm()
        outcome = await outcome_of(running, since)
        stop_all(running)
        note(f"killed, stopped and started at random, {acts} acts", [outcome])


@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_all_workers_killed_at_once_again_and_again(settings: Settings) -> None:
    seed, rng = seeded()
    settings = msgspec.structs.replace(settings, cycle_records_max=200)
    async with pipeline(settings) as running:
        await running.load([*sample(), *generate(seed, 15_000, profile="load", users=500)])
        for round_ in range(4):
            for worker in ("a", "b"):
                running.start(worker)
            await asyncio.sleep(rng.uniform(4, 12))
            assert_alive(running)
            for worker in ("a", "b"):
                running.kill(worker)
                if round_ % 2:
                    lose_state(running, worker)
        since = time.monotonic()
        for worker in ("a", "b"):
            running.start(worker)
        outcome = await outcome_of(running, since)
        stop_all(running)
        note("all workers killed at once, four times", [outcome])

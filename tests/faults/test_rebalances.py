"""Workers that join, leave and freeze every few seconds under load end in the recomputed tables (SEMANTICS S4, S12).

TIDEMARK_TEST_SEED      repeats a run's order of deeds
TIDEMARK_TEST_MINUTES   how long it goes on
"""

import asyncio
import os
import time
from itertools import islice

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer

from contracts.settings import Settings
from streams.engine.assignor import TopicwiseStickyAssignor
from streams.engine.cluster import Cluster
from tests.acceptance.pipeline import pipeline
from tests.faults.chaos import REBALANCES, Chaos, seeded
from tests.faults.load import steady_load, traffic
from tests.faults.outcomes import note, outcome_of
from tests.faults.services import supervised
from tests.integration.worker_environment import WAIT_S, stop_all

MINUTES = float(os.environ.get("TIDEMARK_TEST_MINUTES") or 5)
SETTLE_S_MAX = 600

VISITS = 10
SPURT = 30
SPURT_S = 0.3
"""Longer than a round of fetching, so that the consumer is idle between two spurts."""


@pytest.mark.faults
@pytest.mark.timeout(MINUTES * 60 + SETTLE_S_MAX)
async def test_workers_join_and_leave_every_few_seconds(settings: Settings) -> None:
    seed, rng = seeded()
    settings = msgspec.structs.replace(settings, cycle_records_max=400, source_partitions=3)
    async with pipeline(settings) as running:
        chaos = Chaos(running, rng, REBALANCES)
        for _ in range(3):
            chaos.start_new()
        async with supervised(running):
            async with steady_load(running, traffic(seed, users=3000), per_s=200):
                await chaos.go_on(MINUTES * 60, pause_s=(0.5, 5.0))
            since = time.monotonic()
            chaos.tell(f"Rebalances of seed {seed}")
            note("workers join, leave and freeze", [await outcome_of(running, since)])
            stop_all(running)


async def visit(settings: Settings) -> None:
    """Be a member of the workers' group for a moment, with nothing to do: twice a rebalance that moves nothing."""
    visitor = AIOKafkaConsumer(
        settings.companies_changelog,
        **Cluster(settings).client_options,
        group_id=settings.app_id,
        partition_assignment_strategy=[TopicwiseStickyAssignor],
        enable_auto_commit=False,
    )
    await visitor.start()
    try:
        async with asyncio.timeout(WAIT_S):
            while not visitor.assignment():  # noqa: ASYNC110  the consumer does not tell
                await asyncio.sleep(0.1)
    finally:
        await visitor.stop()


@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_rebalances_that_move_nothing_while_messages_come_in_spurts(settings: Settings) -> None:
    """The first records after a seek may go to a fetch of the generation before, and nothing follows them."""
    seed, _ = seeded()
    values = traffic(seed, users=300)
    async with pipeline(settings) as running:
        running.start("a")
        is_over = False

        async def spurt() -> None:
            while not is_over:
                await running.load(list(islice(values, SPURT)))
                await asyncio.sleep(SPURT_S)

        async with asyncio.TaskGroup() as group:
            group.create_task(spurt())
            for _ in range(VISITS):
                await visit(settings)
                await asyncio.sleep(3)
            is_over = True
        note("rebalances that move nothing", [await outcome_of(running, time.monotonic())])
        stop_all(running)

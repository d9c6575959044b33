"""Workers under steady load while everything breaks at random end in the recomputed tables (SEMANTICS S4, S12).

TIDEMARK_TEST_SEED      repeats a run's order of deeds
TIDEMARK_TEST_MINUTES   how long it goes on
TIDEMARK_TEST_RATE      messages a second, at most
"""

import os
import time

import msgspec
import pytest

from contracts.settings import Settings
from operations.services import RunningServices
from tests.acceptance.pipeline import pipeline
from tests.faults.chaos import EVERYTHING, Chaos, seeded
from tests.faults.load import steady_load, traffic
from tests.faults.outcomes import note, outcome_of, table
from tests.faults.services import own_services, own_settings, supervised
from tests.integration.sink_environment import Proxy
from tests.integration.worker_environment import stop_all

__all__ = ["own_services", "own_settings"]

MINUTES = float(os.environ.get("TIDEMARK_TEST_MINUTES") or 20)
RATE = int(os.environ.get("TIDEMARK_TEST_RATE") or 250)
SETTLE_S_MAX = 900


@pytest.mark.soak
@pytest.mark.timeout(MINUTES * 60 + SETTLE_S_MAX)
async def test_everything_breaks_under_steady_load(own_services: RunningServices, own_settings: Settings) -> None:
    seed, rng = seeded()
    settings = msgspec.structs.replace(own_settings, source_partitions=3)
    async with pipeline(settings) as running, Proxy(settings.dsn).running() as proxy:
        running.environ["TIDEMARK_DSN"] = proxy.dsn
        chaos = Chaos(running, rng, EVERYTHING, services=own_services, proxy=proxy)
        for _ in range(3):
            chaos.start_new()
        async with supervised(running) as ends:
            begun = time.monotonic()
            async with steady_load(running, traffic(seed, users=5000), per_s=RATE):
                await chaos.go_on(MINUTES * 60, pause_s=(1.0, 8.0))
            since = time.monotonic()
            outcome = await outcome_of(running, since)
            chaos.tell(f"Soak of seed {seed}")
            told = table("Soak", "seed", "minutes", "messages", "messages/s", "ended by themselves", "connections cut")
            seconds = since - begun
            told.add(seed, seconds / 60, outcome.messages, outcome.messages / seconds, len(ends), proxy.cuts)
            note("everything at random", [outcome])
            counts = await running.stats()
            assert counts.read == counts.applied + counts.duplicate + sum(counts.quarantined.values())
            stop_all(running)

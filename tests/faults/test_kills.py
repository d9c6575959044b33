"""Workers that are killed, stopped and started at random under load end in the recomputed tables (SEMANTICS S4, S12).

TIDEMARK_TEST_SEED   repeats a run's order of acts
TIDEMARK_TEST_ACTS   how many of them
"""

import asyncio
import os
import random
import secrets
from itertools import count

import msgspec
import pytest

from contracts.settings import Settings
from examples.generate import generate
from tests.acceptance.pipeline import Pipeline, pipeline
from tests.integration.worker_environment import assert_alive, loading, lose_state, sample, settled, stop_all

MESSAGES = 30_000
CHUNK = 1000
STOP_S_MAX = 90


class Chaos:
    """Three workers, and what befalls them."""

    def __init__(self, running: Pipeline, rng: random.Random) -> None:
        self.running = running
        self.rng = rng
        self.down: list[str] = []
        self._numbers = count()
        self.deeds: list[str] = []

    def start_new(self) -> None:
        self.start(f"w{next(self._numbers)}")

    def start(self, worker: str) -> None:
        self.running.start(worker)

    async def act(self) -> None:
        up = sorted(self.running.workers)
        acts = [*(["kill"] * 3 if up else []), *(["stop"] if up else []), *(["start"] * 2 if self.down else [])]
        if not up:
            acts = ["start"]
        deed = self.rng.choice(acts)
        if deed == "start":
            worker = self.down.pop(self.rng.randrange(len(self.down)))
            how = self.rng.choice(["as it was", "state lost", "new host"])
            if how == "state lost":
                lose_state(self.running, worker)
            if how == "new host":
                self.start_new()
            else:
                self.start(worker)
            self.deeds.append(f"start {worker} {how}")
            return
        worker = self.rng.choice(up)
        self.down.append(worker)
        if deed == "kill":
            self.running.kill(worker)
            self.deeds.append(f"kill {worker}")
            return
        process = self.running.workers.pop(worker)
        process.terminate()
        code = await asyncio.to_thread(process.wait, STOP_S_MAX)
        # One that has not come as far as to listen for signals ends by it.
        assert code in {0, -15}, f"{worker} ended with {code}:\n{self.running.log(worker)[-5000:]}"
        self.deeds.append(f"stop {worker}: {code}")


@pytest.mark.faults
@pytest.mark.timeout(900)
async def test_random_kills_stops_and_restarts_under_load(settings: Settings) -> None:
    seed = int(os.environ.get("TIDEMARK_TEST_SEED") or secrets.randbits(32))
    acts = int(os.environ.get("TIDEMARK_TEST_ACTS") or 14)
    print(f"TIDEMARK_TEST_SEED={seed}")
    rng = random.Random(seed)
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
        print("\n".join(chaos.deeds))
        while chaos.down and len(running.workers) < 2:
            chaos.start(chaos.down.pop())
        await settled(running)
        stop_all(running)


@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_all_workers_killed_at_once_again_and_again(settings: Settings) -> None:
    seed = int(os.environ.get("TIDEMARK_TEST_SEED") or secrets.randbits(32))
    print(f"TIDEMARK_TEST_SEED={seed}")
    rng = random.Random(seed)
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
        for worker in ("a", "b"):
            running.start(worker)
        await settled(running)
        stop_all(running)

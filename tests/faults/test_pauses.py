"""Workers that are stopped for longer than the group waits, and come back: refused, told, and started again.

A process that is sent SIGSTOP is what a long garbage collection, a machine that swaps or one that sleeps look like to
everybody else: its successor works while it still believes itself the owner (SEMANTICS S4, S12).
"""

import asyncio
import os
import random
import secrets
import signal
import time
from typing import Any

import msgspec
import psutil
import pytest

from contracts.settings import Settings
from examples.generate import generate
from streams.topics import topic_specs
from tests.acceptance.pipeline import Pipeline, pipeline
from tests.faults.installations import start_armed, tail
from tests.faults.outcomes import note, outcome_of, table
from tests.faults.services import supervised
from tests.integration.sink_environment import Proxy
from tests.integration.worker_environment import (
    WAIT_S,
    ended,
    loading,
    lose_state,
    sample,
    stop_all,
    until,
    until_applied,
)

POINTS = {
    "router-sending": 2,
    "router-sent": 2,
    "leaf-sending": 2,
    "leaf-sent": 2,
    "leaf-written": 10,
    "transaction": 6,
    "leaf-logged": 6,
    "company-logged": 2,
}
"""Where the owner is stopped, as `streams/engine/crash_points.py` names the steps, and at which time. The later ones
are those at which the router mostly has nothing to write any more, which would be refused first."""

BY_THE_BROKER = "was fenced by another worker"
BY_THE_EPOCH = "a partition has another owner"

HELD = """
select count(*) from pg_locks l join pg_stat_activity a using (pid)
where a.application_name like 'tidemark a %' and a.datname = current_database()
    and l.locktype <> 'virtualxid' and l.mode <> 'AccessShareLock'
"""
"""Locks that somebody else may wait for: not those of a worker that was stopped while it prepared a statement."""


async def asked(running: Pipeline, query: str) -> Any:
    connection = await running.connection()
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def until_owned(running: Pipeline, worker: str, count: int) -> None:
    """Wait until a worker owns at least so many partitions."""

    async def is_so() -> bool:
        owned: int = await asked(running, f"select count(*) from progress where owner = '{worker}'")
        return owned >= count

    await until(is_so, f"{worker} to own {count} partitions")


async def until_stopped(running: Pipeline, worker: str) -> None:
    process = psutil.Process(running.workers[worker].pid)

    async def is_stopped() -> bool:
        assert running.workers[worker].poll() is None, tail(running, worker)
        return process.status() == psutil.STATUS_STOPPED

    await until(is_stopped, f"{worker} to stop at its point")


async def until_let_go(running: Pipeline) -> None:
    """A write is one call, which leaves no lock. Another stage may have been stopped while it defined attributes, in
    several: Postgres ends a session that is idle in a transaction."""

    async def is_so() -> bool:
        return bool(await asked(running, HELD) == 0)

    await until(is_so, "the stopped worker to hold no locks")


async def taken_over(running: Pipeline) -> float:
    """Start b beside a, which is stopped, and let it work; returns after how long it owned everything."""
    began = time.monotonic()
    running.start("b")
    read = [spec.partitions for spec in topic_specs(running.settings) if spec.role != "changelog"]
    await until_owned(running, "b", sum(read))
    seconds = time.monotonic() - began
    await until_let_go(running)
    await running.wait(WAIT_S)
    assert "ended the session" not in running.log("b"), tail(running, "b")
    return seconds


async def goes_on_refused(running: Pipeline) -> str:
    """Let a go on: it says in one line why it cannot, and ends. Returns who refused it."""
    before = len(running.log("a"))
    running.workers["a"].send_signal(signal.SIGCONT)
    said = (await ended(running, "a"))[before:]
    lines = [line for line in said.splitlines() if "worker stops" in line]
    assert len(lines) == 1, said
    assert "Traceback" not in said, said
    if BY_THE_BROKER in lines[0]:
        return "Kafka"
    assert BY_THE_EPOCH in lines[0], lines[0]
    return "Postgres"


async def finished(running: Pipeline, fault: str, values: list[bytes]) -> None:
    """Whoever comes next restores from the changelogs alone, where a late record would have won; and goes on."""
    stop_all(running)
    for worker in ("a", "b"):
        lose_state(running, worker)
    await running.load(values)
    since = time.monotonic()
    for worker in ("a", "b"):
        running.start(worker)
    outcome = await outcome_of(running, since)
    stop_all(running)
    note(fault, [outcome])


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", POINTS)
async def test_a_worker_stopped_in_a_commit_is_refused_when_it_goes_on(settings: Settings, point: str) -> None:
    values = sample()
    settings = msgspec.structs.replace(settings, cycle_records_max=200)
    async with pipeline(settings) as running:
        await running.load(values[:3000])
        start_armed(running, "a", f"{point}:{POINTS[point]}:SIGSTOP")
        await until_stopped(running, "a")
        taken_over_s = await taken_over(running)
        refused_by = await goes_on_refused(running)
        table("Stopped, and going on", "step", "taken over in s", "refused by").add(point, taken_over_s, refused_by)
        await finished(running, f"stopped at {point}, then going on", values[3000:])


@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_a_worker_stopped_in_the_middle_of_a_call_to_postgres_is_refused(settings: Settings) -> None:
    """The rest of the call arrives when everything has another owner; until then no lock is held for it."""
    values = sample()
    settings = msgspec.structs.replace(settings, cycle_records_max=200)
    async with Proxy(settings.dsn).running() as proxy, pipeline(settings) as running:
        running.start("a", TIDEMARK_DSN=proxy.dsn)
        await running.load(values[:1000])
        await until_applied(running, 200)
        proxy.stall_after_bytes = 50_000
        await running.load(values[1000:3000])
        async with asyncio.timeout(WAIT_S):
            await proxy.stalled.wait()
        running.workers["a"].send_signal(signal.SIGSTOP)
        await taken_over(running)
        proxy.goes_on.set()
        await goes_on_refused(running)
        await finished(running, "stopped in a call to Postgres, then going on", values[3000:])


@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_an_idle_worker_that_was_stopped_is_refused_or_takes_over_anew(settings: Settings) -> None:
    """It may believe itself the owner of what it is given back: then its first write is refused."""
    values = sample()
    async with pipeline(settings) as running:
        running.start("a")
        await running.load(values[:1000])
        await running.wait(WAIT_S)
        running.workers["a"].send_signal(signal.SIGSTOP)
        await running.load(values[1000:3000])
        await taken_over(running)
        async with supervised(running) as ends:
            running.workers["a"].send_signal(signal.SIGCONT)
            await running.load(values[3000:4000])
            await until_owned(running, "a", 1)
            await running.wait(WAIT_S)
            assert all(BY_THE_BROKER in end or BY_THE_EPOCH in end for end in ends), ends
        await finished(running, "stopped when idle, then going on", values[4000:])


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", ["takeover-fenced", "takeover-taken", "restored"])
async def test_a_worker_stopped_while_it_takes_over(settings: Settings, point: str) -> None:
    values = sample()
    settings = msgspec.structs.replace(settings, cycle_records_max=200)
    async with pipeline(settings) as running:
        await running.load(values[:1000])
        # Somebody is to be fenced.
        running.start("a")
        await running.wait(WAIT_S)
        running.kill("a")
        await running.load(values[1000:3000])
        start_armed(running, "a", f"{point}:2:SIGSTOP")
        await until_stopped(running, "a")
        await taken_over(running)
        async with supervised(running) as ends:
            running.workers["a"].send_signal(signal.SIGCONT)
            await running.load(values[3000:4000])
            await until_owned(running, "a", 1)
            await running.wait(WAIT_S)
            assert all(BY_THE_BROKER in end or BY_THE_EPOCH in end for end in ends), ends
        await finished(running, f"stopped at {point}, then going on", values[4000:])


@pytest.mark.faults
@pytest.mark.timeout(900)
async def test_workers_stopped_at_any_moment_under_load(settings: Settings) -> None:
    seed = int(os.environ.get("TIDEMARK_TEST_SEED") or secrets.randbits(32))
    print(f"TIDEMARK_TEST_SEED={seed}")
    rng = random.Random(seed)
    values = [*sample(), *generate(seed, 20_000, profile="load", users=1000)]
    settings = msgspec.structs.replace(settings, cycle_records_max=400)
    async with pipeline(settings) as running:
        running.start("a")
        running.start("b")
        async with supervised(running) as ends:
            async with loading(running, values, chunk=500, pause_s=2.0):
                await until_applied(running, 500)
                for _ in range(4):
                    await asyncio.sleep(rng.uniform(3, 8))
                    process = running.workers[rng.choice("ab")]
                    process.send_signal(signal.SIGSTOP)
                    # Past the session timeout and a takeover; or so short that the group has not noticed.
                    await asyncio.sleep(rng.choice([2, 16, 20]))
                    process.send_signal(signal.SIGCONT)
            since = time.monotonic()
            outcome = await outcome_of(running, since)
            assert all(BY_THE_BROKER in end or BY_THE_EPOCH in end for end in ends), ends
        stop_all(running)
        note("stopped and going on, at random under load", [outcome])

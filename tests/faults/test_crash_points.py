"""A worker that is killed at each named step ends, with its successor, in the recomputed tables (SEMANTICS S4, S12)."""

import asyncio
import time

import msgspec
import pytest

from contracts.settings import Settings
from streams.engine.crash_points import STEPS
from tests.acceptance.pipeline import Pipeline, pipeline
from tests.faults.installations import (
    apart,
    revive,
    start_armed,
    until_one_struck,
    until_struck,
)
from tests.faults.outcomes import Outcome, note, outcome_of
from tests.integration.worker_environment import sample, stop_all

TAKEOVER = ("takeover-fenced", "takeover-taken", "restoring", "restored")
"""Steps of a worker that comes after another one."""

BEHIND = "leaf-logged"
"""A worker that dies there leaves a store behind its changelog: there is something to restore."""

SMALL = 400
"""Messages of a run at rest: all kinds of calls, some of them duplicates, some quarantined."""

NTH = {"company-written": 2, "company-logged": 2, "company-stored": 2, "takeover-fenced": 2, "takeover-taken": 2}
"""At which time a step strikes under load, where cycles are many; the third, unless told."""

SHORT = (("leaf-sending", False), ("leaf-written", True), ("transaction", True), ("leaf-logged", False))
"""Step, and whether local state is lost: what every test run tries."""


async def at_rest(settings: Settings, step: str, *, is_lost: bool) -> Outcome:
    """One worker, one batch of messages: it dies at the step, and another one comes."""
    async with pipeline(settings) as running:
        await running.load(sample()[:SMALL])
        return await struck_alone(running, step, is_lost=is_lost)


async def struck_alone(running: Pipeline, step: str, *, is_lost: bool) -> Outcome:
    start_armed(running, "a", BEHIND if step in TAKEOVER else step)
    await until_struck(running, "a")
    if step in TAKEOVER:
        revive(running, "a", is_lost=is_lost, point=step)
        await until_struck(running, "a")
    since = time.monotonic()
    revive(running, "a", is_lost=is_lost)
    outcome = await outcome_of(running, since)
    stop_all(running)
    return outcome


async def under_load(settings: Settings, step: str, *, is_lost: bool) -> Outcome:
    """Two workers in small cycles, the whole sample: whoever reaches the step first dies, and comes again."""
    settings = msgspec.structs.replace(settings, cycle_records_max=100)
    async with pipeline(settings) as running:
        await running.load(sample())
        point = f"{step}:{NTH.get(step, 3)}"
        for worker in ("a", "b"):
            start_armed(running, worker, f"{BEHIND}:5" if step in TAKEOVER else point)
        if step in TAKEOVER:
            worker, _ = await until_one_struck(running, lambda name: revive(running, name, is_lost=is_lost, point=step))
            await until_struck(running, worker)
            since = time.monotonic()
            revive(running, worker, is_lost=is_lost)
        else:
            _, since = await until_one_struck(running, lambda name: revive(running, name, is_lost=is_lost))
        # The other one may reach the step too.
        reviving = asyncio.create_task(until_one_struck(running, lambda name: revive(running, name, is_lost=is_lost)))
        try:
            return await outcome_of(running, since)
        finally:
            reviving.cancel()
            await asyncio.gather(reviving, return_exceptions=True)


def note_step(step: str, outcomes: list[Outcome]) -> None:
    note(step, outcomes, title="Killed at a step", column="step")


async def test_a_worker_killed_at_a_few_steps(settings: Settings) -> None:
    outcomes = await asyncio.gather(*(at_rest(apart(settings, step), step, is_lost=is_lost) for step, is_lost in SHORT))
    for (step, _), outcome in zip(SHORT, outcomes, strict=True):
        note_step(step, [outcome])


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", [at_rest, under_load])
@pytest.mark.parametrize("step", STEPS)
async def test_a_worker_killed_at_every_step(settings: Settings, step: str, run) -> None:
    async with asyncio.TaskGroup() as group:
        runs = [
            group.create_task(run(apart(settings, name), step, is_lost=is_lost))
            for name, is_lost in (("kept", False), ("lost", True))
        ]
    note_step(step, [each.result() for each in runs])

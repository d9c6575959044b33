"""The watchdog: what it takes for a stall, and what it tells of one."""

import asyncio
import contextlib
import threading
import time

import pytest

from streams.engine import watchdog
from streams.engine.stacks import stacks
from streams.engine.watchdog import Activity, Stillness, Watchdog

WAIT_S = 20
"""Bound of every wait; nothing here takes longer than some tenths of a second."""


def still(found):
    return [(each.activity.name, each.for_s) for each in found]


def test_what_gets_on_is_not_still():
    stillness = Stillness()
    assert still(stillness.look(0, [Activity("a", 1, ""), Activity("b", 1, "")])) == [("a", 0), ("b", 0)]
    assert still(stillness.look(5, [Activity("a", 2, ""), Activity("b", 1, "")])) == [("a", 0), ("b", 5)]
    assert still(stillness.look(7, [Activity("a", 2, ""), Activity("b", 1, "")])) == [("a", 2), ("b", 7)]


def test_what_was_idle_begins_anew():
    stillness = Stillness()
    stillness.look(0, [Activity("a", 1, "")])
    assert stillness.look(5, []) == []
    assert still(stillness.look(9, [Activity("a", 1, "")])) == [("a", 0)]


class Watched:
    """A watchdog over something that a test moves."""

    def __init__(self, limit_s=0.06):
        self.activities = [Activity("leaf", 0, "commit")]
        self.excused, self.kafka, self.asked, self.ended = False, True, 0, []
        self.watchdog = Watchdog(
            limit_s,
            activities=lambda: self.activities,
            is_excused=lambda: self.excused,
            reach_kafka=self.reach_kafka,
            end=self.ended.append,
        )

    async def reach_kafka(self):
        self.asked += 1
        return self.kafka

    async def until(self, condition):
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110  the watchdog tells nobody but the end
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def watched(monkeypatch, **options):
    monkeypatch.setattr(watchdog, "TICK_S", 0.01)
    # It arms faulthandler, which pytest uses itself.
    monkeypatch.setattr(Watchdog, "_ensure_thread", lambda _: None)
    made = Watched(**options)
    made.watchdog.start()
    try:
        yield made
    finally:
        made.watchdog.stop()


async def test_work_that_does_not_get_on_is_a_stall(monkeypatch):
    async with watched(monkeypatch) as on:
        await on.until(lambda: on.watchdog.suspects)
        await on.until(lambda: on.ended)
        assert on.asked
        assert on.ended[0].startswith("leaf has got nothing done for")
        assert "(commit)" in on.ended[0]


async def test_nothing_to_do_is_no_stall(monkeypatch):
    async with watched(monkeypatch) as on:
        on.activities = []
        # Kafka is asked now and then, for there may be something to do that nobody has heard of.
        await on.until(lambda: on.asked == 5)
        assert on.ended == []


async def test_what_gets_on_slowly_is_no_stall(monkeypatch):
    async with watched(monkeypatch, limit_s=0.3) as on:
        for token in range(30):
            on.activities = [Activity("leaf", token, "commit")]
            await asyncio.sleep(0.02)
        assert on.ended == []


async def test_slack_counts(monkeypatch):
    async with watched(monkeypatch) as on:
        on.activities = [Activity("group", 0, "joining", slack_s=60)]
        await on.until(lambda: on.asked == 5)
        assert on.ended == []
        assert on.watchdog.still[0].for_s > 0.06


async def test_waiting_for_postgres_is_no_stall_and_begins_anew_when_it_is_over(monkeypatch):
    async with watched(monkeypatch) as on:
        on.excused = True
        await asyncio.sleep(0.3)
        assert (on.ended, on.asked, on.watchdog.still) == ([], 0, [])
        on.excused = False
        await on.until(lambda: on.watchdog.still)
        assert on.watchdog.still[0].for_s < 0.06
        await on.until(lambda: on.ended)


async def test_without_kafka_nothing_is_a_stall(monkeypatch, caplog):
    async with watched(monkeypatch) as on:
        on.kafka = False
        await on.until(lambda: on.asked > 3)
        assert on.ended == []
        assert on.watchdog.is_kafka_away
        assert caplog.text.count("Kafka does not answer: the worker waits") == 1
        on.kafka = True
        await on.until(lambda: on.ended)


async def test_what_kafka_tells_is_looked_at_before_anything_ends(monkeypatch):
    async with watched(monkeypatch) as on:

        async def gets_on():
            on.asked += 1
            on.activities = [Activity("leaf", on.asked, "commit")]
            return True

        on.watchdog._reach_kafka = gets_on
        await on.until(lambda: on.asked == 5)
        assert on.ended == []


async def hangs_inside(gate):
    await gate.wait()


async def outer(gate):
    await hangs_inside(gate)


async def test_stacks_tell_the_whole_way_to_what_a_task_waits_for():
    gate = asyncio.Event()
    task = asyncio.create_task(outer(gate), name="leaf-commit")
    await asyncio.sleep(0)
    told = stacks([asyncio.get_running_loop()])
    begin = told.index("task leaf-commit of loop 0:")
    own = told[begin : told.index("\nt", begin + 1)]
    assert [line.rpartition(" in ")[2] for line in own.splitlines()[1:-1]] == ["outer", "hangs_inside", "Event.wait"]
    assert "waits for" in own
    assert "thread MainThread:" in told
    assert "test_stacks_tell_the_whole_way" in told
    gate.set()
    await task


@pytest.mark.parametrize("told_to_stop", [False, True])
async def test_a_loop_that_does_not_turn_is_found_by_the_thread(monkeypatch, told_to_stop):
    monkeypatch.setattr(watchdog, "TICK_S", 0.01)
    monkeypatch.setattr(watchdog.faulthandler, "dump_traceback_later", lambda *_, **__: None)
    made = Watched(limit_s=0.1)

    def end(message):
        made.ended.append(message)
        # The real one does not return either: it ends the process.
        threading.Event().wait()

    made.watchdog._end = end
    made.activities = []
    if told_to_stop:
        made.watchdog.stop_by(0.05, "it was told to stop")
    else:
        made.watchdog.start()
        await asyncio.sleep(0.3)
        assert made.ended == []
    deadline = time.monotonic() + WAIT_S
    while not made.ended and time.monotonic() < deadline:
        time.sleep(0.01)  # noqa: ASYNC251  the point of it
    made.watchdog.stop()
    expected = "it was told to stop" if told_to_stop else "the event loop has not turned for"
    assert made.ended[0].startswith(expected)

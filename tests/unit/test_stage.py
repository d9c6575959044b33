"""The loop of a stage, with a handler that only notes what it was given."""

import asyncio
import contextlib
from dataclasses import dataclass

import pytest

from contracts.errors import InternalError
from streams.engine.batches import Arrived, Partition
from streams.engine.stage import AHEAD_BATCHES_MAX, AWAITED_RECORDS, Stage
from streams.metrics import Metrics

P0, P1 = Partition("leaves", 0), Partition("leaves", 1)
WAIT_S = 20
"""Bound of every wait; nothing here takes longer than some milliseconds."""


@dataclass(frozen=True)
class Record:
    """As much of a record as a stage looks at."""

    offset: int
    timestamp: int = 0
    key: bytes = b"leaf"
    value: bytes = b"message"


class Noting:
    """A handler whose cycles wait for `commit_gate` to be committed, and for `gate` to be settled."""

    def __init__(self):
        self.decided, self.committing, self.committed, self.passed = [], [], [], []
        self.begun, self.settled = [], []
        self.gate, self.commit_gate = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.commit_gate.set()
        self.extra = self.settlings = 0
        self.error = self.commit_error = None

    async def take_over(self, partition):
        return 0

    async def release(self, partition):
        return None

    def passed_over(self, partition, position):
        self.passed.append((partition, position))

    def has_work(self):
        return self.extra > 0

    async def decide(self, taken):
        self.extra = max(0, self.extra - 1)
        self.decided.append({partition: [each.offset for each in records] for partition, records in taken.items()})
        return len(self.decided) - 1

    async def commit(self, plan):
        self.committing.append(plan)
        await self.commit_gate.wait()
        if self.commit_error is not None:
            raise self.commit_error
        self.committed.append(plan)

    async def settle(self, plans):
        self.settlings += 1
        self.begun += plans
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.settled += plans


class Running:
    """A stage under its loop."""

    def __init__(self, handler, **how):
        self.handler = handler
        self.stage = Stage("test", handler, Metrics().stage("test"), **how)
        self.failures = []

    def batch(self, *offsets, partition=P0):
        return self.stage.arrived(Arrived(*partition, 1, [Record(offset) for offset in offsets]))

    def delivered(self, *offsets, partition=P0):
        self.stage.delivered(partition, [Record(offset) for offset in offsets])

    async def until(self, condition):
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110  nothing tells of all that is waited for here
                await asyncio.sleep(0)

    async def settled(self):
        """Wait until nothing that could go on goes on."""
        for _ in range(50):
            await asyncio.sleep(0)

    def records(self, partition=P0):
        return [offset for taken in self.handler.decided for offset in taken.get(partition, [])]


@contextlib.asynccontextmanager
async def running(cycle_records_max=100, positions=((P0, 0),), **pace):
    made = Running(Noting(), cycle_records_max=cycle_records_max, **pace)
    for partition, position in positions:
        made.stage.own(partition, position)
    made.stage.open()
    loop = asyncio.create_task(made.stage.run(made.failures.append))
    try:
        yield made
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        made.handler.gate.set()
        made.handler.commit_gate.set()
        await made.settled()


async def test_everything_pending_is_one_cycle():
    async with running(positions=((P0, 0), (P1, 7))) as on:
        on.batch(0, 1)
        on.batch(2)
        on.batch(7, 8, partition=P1)
        await on.until(lambda: on.handler.settled)
        assert on.handler.decided == [{P0: [0, 1, 2], P1: [7, 8]}]
        assert (on.stage.position(P0), on.stage.position(P1)) == (3, 9)


async def test_a_cycle_takes_a_fair_share_and_the_rest_comes_next():
    async with running(cycle_records_max=4, positions=((P0, 0), (P1, 0))) as on:
        on.batch(*range(5))
        on.batch(*range(3), partition=P1)
        await on.until(lambda: on.records() == [*range(5)])
        assert on.handler.decided[0] == {P0: [0, 1], P1: [0, 1]}
        assert on.records(P1) == [0, 1, 2]
        assert max(sum(map(len, taken.values())) for taken in on.handler.decided) <= 4


async def test_records_gather_between_cycles_that_have_a_least_distance():
    async with running(cycle_records_max=4, cycle_s_min=WAIT_S * 100) as on:
        on.batch(0)
        await on.until(lambda: on.handler.settled)
        on.batch(1)
        on.batch(2)
        await on.settled()
        assert on.records() == [0]
        on.batch(3, 4)
        await on.stage.quiesce()
        assert on.stage.position(P0) == 1


async def test_what_is_committed_between_times_of_settling_is_settled_together():
    async with running(settle_s_min=0.05) as on:
        for offset in range(9):
            on.batch(offset)
            await on.settled()
        assert on.handler.committed == [*range(9)]
        assert on.handler.settled == [0]
        assert on.stage.done(P0) == 9
        await on.until(lambda: len(on.handler.settled) == 9)
        assert on.handler.settled == [*range(9)]
        assert on.handler.settlings == 2
        assert on.stage.done(P0) == 9


async def test_a_full_cycle_is_settled_at_once():
    async with running(cycle_records_max=4, settle_s_min=WAIT_S * 100) as on:
        for offset in range(9):
            on.batch(offset)
            await on.settled()
        await on.until(lambda: len(on.handler.settled) == 9)


async def test_no_more_is_committed_than_two_full_cycles_while_nothing_can_be_settled():
    async with running(cycle_records_max=4, settle_s_min=0.001) as on:
        on.handler.gate.clear()
        for offset in range(30):
            on.batch(offset)
            await on.settled()
        assert on.handler.committed == [*range(8)]
        on.handler.gate.set()
        await on.until(lambda: on.stage.done(P0) == 30)


async def test_quiesce_does_not_wait_for_the_time_to_settle():
    async with running(settle_s_min=WAIT_S * 100) as on:
        for offset in range(3):
            on.batch(offset)
            await on.settled()
        async with asyncio.timeout(WAIT_S):
            await on.stage.quiesce()
        assert on.handler.settled == [0, 1, 2]
        on.stage.open()
        on.batch(3)
        await on.settled()
        assert (on.handler.committed, on.handler.settled) == ([0, 1, 2, 3], [0, 1, 2])


async def test_a_full_cycle_does_not_wait():
    async with running(cycle_records_max=4, cycle_s_min=WAIT_S * 100) as on:
        on.batch(0)
        await on.until(lambda: on.handler.settled)
        on.batch(*range(1, 10))
        await on.until(lambda: on.records() == [*range(9)])
        await on.settled()
        assert on.stage.position(P0) == 9


async def test_what_has_gathered_is_taken_when_the_time_has_come():
    async with running(cycle_s_min=0.05) as on:
        for offset in range(3):
            on.batch(offset)
            await on.settled()
        await on.until(lambda: len(on.handler.settled) == 2)
        assert on.handler.decided == [{P0: [0]}, {P0: [1, 2]}]


async def test_at_most_three_cycles_are_under_way_and_settled_in_order():
    async with running(cycle_records_max=1) as on:
        on.handler.gate.clear()
        for offset in range(5):
            on.batch(offset)
        await on.settled()
        assert (len(on.handler.decided), on.handler.committed, on.handler.begun) == (3, [0, 1], [0])
        assert on.handler.settled == []
        on.handler.gate.set()
        await on.until(lambda: len(on.handler.settled) == 5)
        assert on.handler.settled == on.handler.committed == [0, 1, 2, 3, 4]


async def test_a_cycle_is_decided_while_another_one_is_committed():
    async with running(cycle_records_max=1) as on:
        on.handler.commit_gate.clear()
        for offset in range(5):
            on.batch(offset)
        await on.settled()
        assert (len(on.handler.decided), on.handler.committing, on.handler.begun) == (2, [0], [])
        on.handler.commit_gate.set()
        await on.until(lambda: len(on.handler.settled) == 5)
        assert on.handler.committing == on.handler.settled == [0, 1, 2, 3, 4]


async def test_records_gather_while_nothing_more_is_pending_and_a_cycle_is_committed():
    async with running() as on:
        on.handler.commit_gate.clear()
        on.batch(0)
        await on.settled()
        on.batch(1)
        on.batch(2)
        await on.settled()
        assert on.records() == [0]
        on.handler.commit_gate.set()
        await on.until(lambda: len(on.handler.settled) == 2)
        assert on.handler.decided == [{P0: [0]}, {P0: [1, 2]}]


async def test_a_partition_wants_more_until_a_cycle_is_pending():
    async with running(cycle_records_max=3) as on:
        on.handler.gate.clear()
        assert on.stage.wants(P0)
        on.batch(0)
        await on.settled()
        on.batch(1, 2)
        assert on.stage.wants(P0)
        on.batch(3)
        assert not on.stage.wants(P0)
        on.handler.gate.set()
        await on.until(lambda: on.records() == [*range(4)])
        assert on.stage.wants(P0)


async def test_work_without_records_makes_a_cycle():
    async with running() as on:
        on.handler.extra = 2
        on.stage.wake()
        await on.until(lambda: len(on.handler.settled) == 2)
        assert on.handler.decided == [{}, {}]


async def test_quiesce_finishes_what_has_begun_and_forgets_what_is_pending():
    async with running(cycle_records_max=2) as on:
        on.handler.gate.clear()
        on.batch(*range(7))
        await on.settled()
        quiescing = asyncio.create_task(on.stage.quiesce())
        await on.settled()
        assert not quiescing.done()
        assert not on.stage.wants(P0)
        on.handler.gate.set()
        async with asyncio.timeout(WAIT_S):
            await quiescing
        # What was decided is committed, and reading goes on behind it: 6 is to be read again.
        assert on.handler.settled == [0, 1, 2]
        assert on.stage.position(P0) == on.stage.done(P0) == 6
        assert on.batch(6) is None  # closed: dropped
        on.stage.open()
        await on.settled()
        assert on.records() == [*range(6)]
        assert on.batch(6) is None
        await on.until(lambda: on.records() == [*range(7)])


async def test_a_partition_that_was_let_go_is_not_taken_in():
    async with running(positions=((P0, 0), (P1, 0))) as on:
        async with asyncio.timeout(WAIT_S):
            await on.stage.quiesce()
        on.stage.disown(P1)
        on.stage.open()
        assert on.batch(0, partition=P1) is None
        on.batch(0)
        await on.until(lambda: on.records() == [0])
        assert on.records(P1) == []


async def test_offsets_that_were_taken_in_are_dropped():
    async with running(positions=((P0, 5),)) as on:
        assert on.batch(3, 4) is None
        assert on.batch(4, 5, 6) is None
        assert on.batch(5, 6) is None
        assert on.batch(6, 7) is None
        await on.until(lambda: on.records() == [5, 6, 7])


async def test_a_hole_is_sought_once_then_accepted():
    async with running() as on:
        assert on.batch(0, 1) is None
        assert on.batch(5, 6) == 2
        await on.until(lambda: on.records() == [0, 1])
        assert on.batch(5, 6) is None
        await on.until(lambda: on.records() == [0, 1, 5, 6])
        assert on.stage.position(P0) == 7


async def test_records_that_were_missed_are_taken_where_seeking_finds_them():
    async with running() as on:
        assert on.batch(5, 6) == 0
        assert on.batch(0, 1, 2, 3, 4, 5, 6) is None
        await on.until(lambda: on.records() == [*range(7)])


async def test_what_was_missed_once_is_not_taken_for_a_hole_later():
    """The same offset comes after a gap for a second time, but there were records meanwhile: it is sought anew."""
    async with running() as on:
        assert on.batch(5, 6) == 0
        assert on.batch(0, 1) is None
        assert on.batch(5, 6) == 2
        assert on.batch(2, 3, 4, 5) is None
        await on.until(lambda: on.records() == [*range(6)])


async def test_batches_fetched_before_a_seek_took_effect_do_not_hold_it_up():
    async with running() as on:
        assert on.batch(10, 11) == 0
        assert on.batch(14, 15) == 0
        assert on.batch(10, 11) is None
        assert on.batch(14, 15) == 12
        assert on.batch(14, 15) is None
        await on.until(lambda: on.records() == [10, 11, 14, 15])


async def test_a_hole_across_the_end_of_a_cycle():
    async with running(cycle_records_max=2) as on:
        assert on.batch(3, 4, 9, 20) == 0
        assert on.batch(3, 4, 9, 20) is None
        await on.until(lambda: on.records() == [3, 4, 9, 20])
        assert on.failures == []


async def test_holes_inside_a_batch_are_no_matter():
    async with running() as on:
        assert on.batch(0, 3, 9) is None
        await on.until(lambda: on.records() == [0, 3, 9])


async def test_several_holes_while_a_cycle_is_under_way():
    """Sources that are written by transactions have one behind each of them."""
    async with running() as on:
        on.handler.gate.clear()
        on.batch(0)
        await on.settled()
        for first, position in ((4, 1), (8, 5), (12, 9)):
            assert on.batch(first) == position
            assert on.batch(first) is None
        on.handler.gate.set()
        await on.until(lambda: on.records() == [0, 4, 8, 12])
        assert on.failures == []


async def test_offsets_without_records_are_stepped_over_when_idle():
    async with running() as on:
        on.batch(0, 1)
        await on.until(lambda: on.handler.settled)
        assert on.stage.passed_over(P0, 4, handed=2, given=2) is None
        assert on.handler.passed == [(P0, 4)]
        assert on.stage.position(P0) == 4
        on.stage.passed_over(P0, 3, handed=2, given=2)
        assert on.stage.position(P0) == 4
        assert on.batch(4) is None
        await on.until(lambda: on.records() == [0, 1, 4])


async def test_nothing_is_stepped_over_that_is_pending_or_on_its_way():
    async with running() as on:
        on.stage.passed_over(P0, 4, handed=3, given=3)
        on.stage.passed_over(P1, 4, handed=None, given=None)
        assert on.stage.position(P0) == 0
        on.handler.gate.clear()
        on.batch(0)
        await on.settled()
        on.batch(1)
        on.stage.passed_over(P0, 9, handed=2, given=2)
        assert on.stage.position(P0) == 1
        on.handler.gate.set()
        await on.until(lambda: on.records() == [0, 1])
        assert on.handler.passed == []


@pytest.mark.parametrize("handed", [None, 2])
async def test_records_that_were_given_to_nobody_are_read_again_where_none_follows_them(handed):
    async with running() as on:
        on.batch(0, 1)
        await on.until(lambda: on.handler.settled)
        assert on.stage.passed_over(P0, 5, handed=handed, given=4) == 2
        assert on.stage.position(P0) == 2
        assert on.handler.passed == []
        assert on.batch(2, 3) is None
        await on.until(lambda: on.records() == [0, 1, 2, 3])
        # What is left are offsets without records.
        assert on.stage.passed_over(P0, 5, handed=4, given=4) is None
        assert on.stage.position(P0) == 5


async def test_what_was_delivered_is_taken_in_at_once_and_a_fetch_of_it_changes_nothing():
    async with running() as on:
        on.delivered(0, 1)
        await on.until(lambda: on.records() == [0, 1])
        on.batch(0, 1, 2)
        on.delivered(1, 2)
        await on.until(lambda: on.records() == [0, 1, 2])
        on.delivered(3)
        await on.until(lambda: on.stage.done(P0) == 4)
        assert on.records() == [0, 1, 2, 3]
        assert not on.failures


async def test_what_was_delivered_waits_for_what_lies_before_it():
    """What other workers have sent there in between comes by a fetch alone."""
    async with running() as on:
        on.delivered(2, 3)
        on.delivered(6)
        await on.settled()
        assert on.records() == []
        on.batch(0, 1)
        await on.until(lambda: on.records() == [0, 1, 2, 3])
        on.batch(2, 3, 4, 5, 6)
        await on.until(lambda: on.stage.done(P0) == 7)
        assert on.records() == [0, 1, 2, 3, 4, 5, 6]
        assert not on.failures


async def test_nothing_is_awaited_that_nobody_here_would_take_nor_where_enough_is_pending():
    async with running() as on:
        assert on.stage.awaits(P0, AWAITED_RECORDS)
        assert not on.stage.awaits(P0, AWAITED_RECORDS + 1)
        assert not on.stage.awaits(P1, 1)
        on.handler.commit_gate.clear()
        on.batch(0)
        await on.until(lambda: on.handler.committing)
        on.batch(*range(1, 1 + AWAITED_RECORDS))
        assert not on.stage.awaits(P0, 1)
        on.handler.commit_gate.set()
        await on.until(lambda: on.stage.awaits(P0, 1))
        for offset in range(AHEAD_BATCHES_MAX):
            on.delivered(10_000 + 2 * offset)
        assert not on.stage.awaits(P0, 1)
        await on.stage.quiesce()
        on.stage.open()
        assert on.stage.awaits(P0, 1)


async def test_a_rebalance_forgets_what_was_delivered_behind_a_hole():
    async with running() as on:
        on.delivered(1)
        await on.stage.quiesce()
        on.stage.open()
        on.batch(0)
        await on.until(lambda: on.stage.done(P0) == 1)
        assert on.stage.position(P0) == 1


async def test_a_log_that_has_something_else_than_was_acknowledged_ends_the_worker():
    async with running() as on:
        on.delivered(0, 1)
        await on.until(lambda: on.records() == [0, 1])
        on.stage.arrived(Arrived(*P0, 1, [Record(0), Record(1, value=b"another"), Record(2)]))
        (failure,) = on.failures
        assert isinstance(failure, InternalError)
        assert "leaves/0 has another record at offset 1" in str(failure)


async def test_a_record_out_of_turn_ends_the_stage():
    """An invariant: whatever is pending follows what was taken."""
    made = Running(Noting(), cycle_records_max=100)
    made.stage.own(P0, 0)
    made.stage.open()
    made.batch(0, 1)
    made.stage.own(P0, 5)
    with pytest.raises(InternalError, match="expected offset 5 of leaves/0, came 0"):
        async with asyncio.timeout(WAIT_S):
            await made.stage.run(made.failures.append)


async def test_settling_that_fails_is_told_and_nothing_is_settled_behind_it():
    made = Running(Noting(), cycle_records_max=1)
    made.stage.own(P0, 0)
    made.stage.open()
    made.handler.error = RuntimeError("disk full")
    for offset in range(4):
        made.batch(offset)
    with pytest.raises(RuntimeError, match="disk full"):
        async with asyncio.timeout(WAIT_S):
            await made.stage.run(made.failures.append)
    await made.settled()
    assert made.failures[0] is made.handler.error
    assert made.handler.begun == [0]


async def test_a_cycle_that_cannot_be_committed_is_told_and_nothing_is_committed_or_settled_behind_it():
    made = Running(Noting(), cycle_records_max=1)
    made.stage.own(P0, 0)
    made.stage.open()
    made.handler.commit_error = RuntimeError("fenced")
    for offset in range(4):
        made.batch(offset)
    with pytest.raises(RuntimeError, match="fenced"):
        async with asyncio.timeout(WAIT_S):
            await made.stage.run(made.failures.append)
    await made.settled()
    assert made.failures[0] is made.handler.commit_error
    assert (made.handler.committing, made.handler.begun) == ([0], [])


async def test_cycles_that_were_settled_together_are_no_longer_under_way():
    async with running(settle_s_min=1e-6) as on:
        on.handler.gate.clear()
        for number in range(40):
            for offset in range(3 * number, 3 * number + 3):
                on.batch(offset)
                await on.settled()
            assert on.handler.committed == [*range(3 * number + 3)]
            on.handler.gate.set()
            on.handler.gate.clear()
            await on.until(lambda begun=number + 2: on.handler.settlings == begun)


async def test_a_small_cycle_that_is_settled_makes_no_room_for_a_third_full_one():
    async with running(cycle_records_max=2, settle_s_min=1e-6) as on:
        on.handler.gate.clear()
        on.batch(0)
        await on.settled()
        on.batch(*range(1, 9))
        await on.settled()
        assert on.handler.committed == [0, 1, 2]
        on.handler.gate.set()
        on.handler.gate.clear()
        await on.until(lambda: on.handler.settled == [0])
        await on.settled()
        assert on.handler.committed == [0, 1, 2]
        on.handler.gate.set()
        await on.until(lambda: len(on.handler.settled) == 5)

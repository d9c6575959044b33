"""One stage: what arrived and is pending, taken in cycles, a few of them under way."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, Protocol, TypeVar

from contracts.errors import InternalError
from streams.engine.batches import Arrived, Partition
from streams.engine.records import checksum, joined, records_from
from streams.engine.watchdog import Activity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streams.engine.records import Record
    from streams.metrics import StageMeter

PENDING_CYCLES: Final = 1
"""A partition wants more while less than this many full cycles are pending: enough that a cycle never waits for a
fetch, little enough that a rebalance throws little away."""

AWAITED_RECORDS: Final = 100
"""A partition takes in at once what was sent to it, before a fetch brings it, as long as no more than this is pending
then: a tenth of a second's worth of thin traffic. Where more waits, a fetch is soon enough, and nothing is decoded
twice."""

AHEAD_BATCHES_MAX: Final = 100
"""Batches of a partition that wait for what lies before them: a hundred milliseconds' worth of them."""

CYCLES_MAX: Final = 3
"""Cycles under way: one that is settled, one that is committed, and one that is decided."""

PACED_CYCLES_MAX: Final = 32
"""The same, where cycles are settled a few at a time: more than fit between two times, but for tiny ones. With no more
records in all than as many full cycles as elsewhere."""

Plan = TypeVar("Plan")


class Handler(Protocol[Plan]):
    """What a stage does with its records: decide first, then commit what was decided, then settle it."""

    async def take_over(self, partition: Partition) -> int:
        """Make the partition this worker's own; returns the offset to read from."""

    async def release(self, partition: Partition) -> None:
        """Let go of a partition: nothing of it is under way."""

    def passed_over(self, partition: Partition, position: int) -> None:
        """Note that the partition was read up to `position`, where no record came of it."""

    def has_work(self) -> bool:
        """Whether there is something to decide without any new record."""

    async def decide(self, taken: Mapping[Partition, Sequence[Record]]) -> Plan:
        """Everything that should follow from the records, given all that was decided before; changes nothing yet."""

    async def commit(self, plan: Plan) -> None:
        """Make it so for everybody else: what they wait for. Called in the order of decisions, one at a time."""

    async def settle(self, plans: Sequence[Plan]) -> None:
        """Keep of all that is committed what a successor would have to find out again.

        Called in the order of decisions, one at a time; meanwhile the next cycle may be committed.
        """


class Run(NamedTuple):
    """Records that wait for a cycle."""

    begins: int
    """The offset that they go on from: before the first of them, where there is a hole between."""
    records: Sequence[Record]


class Stage(Generic[Plan]):
    """The loop of one kind of agent over all partitions that it owns.

    Taking everything that is pending makes cycles small when idle and large under load, by themselves. A cycle is
    decided, committed, and settled; while one is settled, the next is committed, and the one after that decided.
    """

    def __init__(
        self,
        name: str,
        handler: Handler[Plan],
        meter: StageMeter,
        *,
        cycle_records_max: int,
        cycle_s_min: float = 0.0,
        settle_s_min: float = 0.0,
    ) -> None:
        """`cycle_s_min` lies between the beginnings of two cycles, unless the next is full, or has work without it.

        `settle_s_min` lies between two beginnings of settling, unless there is a full cycle to settle: what is
        committed meanwhile is settled together.
        """
        self.name = name
        self.handler = handler
        self._meter = meter
        self._arrived: dict[Partition, int] = {}
        """Offset of the next record that may be taken in."""
        self._taken: dict[Partition, int] = {}
        """Offset of the next record that a cycle may take; behind `_arrived` by what is pending."""
        self._done: dict[Partition, int] = {}
        """Offset after the last record whose cycle is committed."""
        self._cycle_records_max = cycle_records_max
        self._cycle_s_min = cycle_s_min
        self._next_cycle_s = 0.0
        """Before which no cycle begins, in the loop's time."""
        self._settle_s_min = settle_s_min
        self._next_settle_s = 0.0
        """Before which nothing is settled, in the loop's time."""
        self._cycles_max = PACED_CYCLES_MAX if settle_s_min else CYCLES_MAX
        self._pending: dict[Partition, deque[Run]] = {}
        self._pending_records: dict[Partition, int] = {}
        self._sought: dict[Partition, tuple[int, set[int]]] = {}
        """The position that was sought last, and the offsets of the records that had come in its place. Several, since
        batches that were fetched before the seek took effect come after it."""
        self._ahead: dict[Partition, dict[int, Sequence[Record]]] = {}
        """What was delivered behind records that have not come yet, by its first offset."""
        self._to_confirm: dict[Partition, deque[tuple[int, int]]] = {}
        """Offset and checksum of the last record of each batch that was taken in as it was delivered."""
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._committing: asyncio.Task[None] | None = None
        self._committed: list[tuple[Plan, int]] = []
        """Cycles that are to be settled next, with the number of their records."""
        self._settling: asyncio.Task[None] | None = None
        """Settles what is committed when its time has come. There is one while anything is committed and not settled;
        one that has failed stays."""
        self._unsettled_cycles = 0
        self._unsettled_records = 0
        """Of those that are committed, or about to be."""
        self._gathered = asyncio.Event()
        """Set where a full cycle is pending."""
        self._hurry = asyncio.Event()
        """Set where settling shall not wait any longer."""
        self._is_open = False
        self._fail: Callable[[BaseException], None]

    def own(self, partition: Partition, position: int) -> None:
        """Begin to take the records of a partition from `position` on."""
        self._arrived[partition] = self._taken[partition] = self._done[partition] = position

    def disown(self, partition: Partition) -> None:
        """Take no more of this partition."""
        del self._arrived[partition], self._taken[partition], self._done[partition]

    def position(self, partition: Partition) -> int:
        """Offset of the next record that no cycle has taken: where to read on after a rebalance."""
        return self._taken[partition]

    def done(self, partition: Partition) -> int:
        """Offset after the last record of this partition whose cycle is committed."""
        return self._done[partition]

    @property
    def is_open(self) -> bool:
        """Whether records are let in: not from the beginning of a rebalance to the end of the takeover."""
        return self._is_open

    def under_way(self) -> Activity | None:
        """What the stage has to do, and where it is with that; None where it has nothing to do."""
        if not self._meter.under_way and not self._pending:
            return None
        pending = sum(self._pending_records.values())
        return Activity(self.name, self._meter.finished, f"{self._meter.doing()}; {pending} records pending")

    def wants(self, partition: Partition) -> bool:
        """Whether records of this partition should be fetched."""
        return self._is_open and self._pending_records.get(partition, 0) < self._cycle_records_max * PENDING_CYCLES

    def arrived(self, batch: Arrived) -> int | None:
        """Take in a fetched batch. Returns an offset to seek to where records before the batch are missing.

        A hole is sought once; where the same next record comes again, nothing is there (transaction markers,
        compaction), and it is accepted.
        """
        partition = Partition(batch.topic, batch.partition)
        position = self._arrived.get(partition)
        if not self._is_open or position is None:
            return None
        self._confirm(partition, batch.records)
        records = records_from(batch.records, position)
        if not records:
            return None
        first = records[0].offset
        if first > position:
            sought, instead = self._sought.get(partition, (position, set[int]()))
            if sought != position or first not in instead:
                self._sought[partition] = (position, {first, *(instead if sought == position else ())})
                return position
        self._take_in(partition, records)
        self._catch_up(partition)
        return None

    def _take_in(self, partition: Partition, records: Sequence[Record]) -> None:
        self._pending.setdefault(partition, deque()).append(Run(self._arrived[partition], records))
        self._pending_records[partition] = self._pending_records.get(partition, 0) + len(records)
        self._arrived[partition] = records[-1].offset + 1
        self._wake.set()
        if self._has_gathered():
            self._gathered.set()

    def awaits(self, partition: Partition, count: int) -> bool:
        """Whether a batch of so many records that was just sent to this partition is to be taken in at once."""
        return (
            self._is_open
            and partition in self._arrived
            and self._pending_records.get(partition, 0) + count <= AWAITED_RECORDS
            and len(self._ahead.get(partition, ())) < AHEAD_BATCHES_MAX
        )

    def delivered(self, partition: Partition, records: Sequence[Record]) -> None:
        """Take in a batch that the log of an awaited partition holds now, once all before it has come.

        A fetch brings it again, which is to find the same.
        """
        self._ahead.setdefault(partition, {})[records[0].offset] = records
        self._catch_up(partition)

    def _catch_up(self, partition: Partition) -> None:
        """Take in what was delivered and is next."""
        ahead = self._ahead.get(partition, {})
        while records := ahead.pop(self._arrived[partition], None):
            self._take_in(partition, records)
            last = records[-1]
            self._to_confirm.setdefault(partition, deque()).append((last.offset, checksum(last)))
        for offset in [offset for offset in ahead if offset < self._arrived[partition]]:
            del ahead[offset]

    def _confirm(self, partition: Partition, records: Sequence[Record]) -> None:
        """End the worker where the log does not hold what was delivered: a broker has lost it since."""
        waiting = self._to_confirm.get(partition)
        while waiting and waiting[0][0] <= records[-1].offset:
            offset, expected = waiting.popleft()
            found = records_from(records, offset)
            if found[0].offset == offset and checksum(found[0]) == expected:
                continue
            if offset >= records[0].offset:
                msg = (
                    f"{self.name}: {partition.topic}/{partition.partition} has another record at offset {offset} than "
                    "was acknowledged there: a broker has lost what it had taken; the worker stops, and looks at the "
                    "position when it takes the partition over again"
                )
                self._fail(InternalError(msg))

    def passed_over(self, partition: Partition, position: int, handed: int | None, given: int | None) -> int | None:
        """Step over offsets that hold no records, up to `position`. Returns an offset to seek to where they held some.

        Not while a batch is on its way through an agent: then less has arrived than was `handed` over. Nor where the
        consumer has `given` more out than that: it was lost on its way here, and is to be read again.
        """
        arrived = self._arrived.get(partition)
        if not self._is_open or arrived is None or partition in self._pending:
            return None
        if position <= arrived or (handed is not None and arrived < handed):
            return None
        if given is not None and arrived < given:
            return arrived
        self._arrived[partition] = self._taken[partition] = self._done[partition] = position
        self.handler.passed_over(partition, position)
        self._wake.set()
        return None

    def wake(self) -> None:
        """Look for work, also without a new record."""
        self._wake.set()

    def open(self) -> None:
        """Let records in, and cycles begin."""
        self._is_open = True
        self._wake.set()

    async def quiesce(self) -> None:
        """Take nothing more, finish what has begun, forget what is pending."""
        self._is_open = False
        self._pending.clear()
        self._pending_records.clear()
        self._sought.clear()
        self._ahead.clear()
        self._to_confirm.clear()
        self._hurry.set()
        async with self._turn:
            # Who loses patience with these is to see what they hang in.
            if self._committing is not None:
                await asyncio.shield(self._committing)
            while self._settling is not None:
                await asyncio.shield(self._settling)
        self._arrived.update(self._taken)

    async def run(self, fail: Callable[[BaseException], None]) -> None:
        """Turn cycle after cycle; `fail` is told of an error that nobody awaits."""
        self._fail = fail
        while True:
            await self._wake.wait()
            await self._rest()
            self._wake.clear()
            async with self._turn:
                while self._is_open:
                    if self._rest_s() > 0:
                        self._wake.set()
                        break
                    taken = self._take()
                    if not taken and not self.handler.has_work():
                        break
                    self._next_cycle_s = asyncio.get_running_loop().time() + self._cycle_s_min
                    with self._meter.step("decide"):
                        plan = await self.handler.decide(taken)
                    if self._committing is not None:
                        await self._committing
                    while self._settling is not None and self._has_enough_under_way():
                        await self._settling
                    self._unsettled_cycles += 1
                    self._unsettled_records += sum(map(len, taken.values()))
                    self._committing = asyncio.create_task(self._commit(plan, taken), name=f"{self.name}-commit")
                    self._committing.add_done_callback(self._ended)
                    if not self._pending:
                        await self._committing

    def _has_enough_under_way(self) -> bool:
        """Whether something has to be settled before another cycle is committed."""
        records_max = (CYCLES_MAX - 1) * self._cycle_records_max
        return self._unsettled_cycles > self._cycles_max - 2 or self._unsettled_records >= records_max

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Tell of an error."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _rest_s(self) -> float:
        """How long the next cycle is still to wait for more records."""
        if not self._cycle_s_min or self._has_gathered() or self.handler.has_work():
            return 0.0
        return self._next_cycle_s - asyncio.get_running_loop().time()

    async def _rest(self) -> None:
        """Let records gather, outside of the turn, so that a rebalance need not wait."""
        if (rest_s := self._rest_s()) > 0:
            await _wait(self._gathered, rest_s)

    def _has_gathered(self) -> bool:
        """Whether a full cycle is pending."""
        return sum(self._pending_records.values()) >= self._cycle_records_max

    async def _commit(self, plan: Plan, taken: Mapping[Partition, Sequence[Record]]) -> None:
        with self._meter.step("commit"):
            await self.handler.commit(plan)
        for partition, records in taken.items():
            self._done[partition] = max(self._done[partition], records[-1].offset + 1)
        self._meter.committed(taken)
        self._committed.append((plan, sum(map(len, taken.values()))))
        if self._is_full():
            self._hurry.set()
        if self._settling is None:
            self._begin_to_settle()

    def _is_full(self) -> bool:
        """Whether there is a full cycle to settle."""
        return sum(records for _, records in self._committed) >= self._cycle_records_max

    async def _settle(self) -> None:
        """Settle what is committed, when it is time; then let the next one begin, where there is more by then."""
        await self._pace()
        committed, self._committed = self._committed, []
        with self._meter.step("settle"):
            await self.handler.settle([plan for plan, _ in committed])
        self._unsettled_cycles -= len(committed)
        self._unsettled_records -= sum(records for _, records in committed)
        self._settling = None
        if self._committed:
            self._begin_to_settle()

    def _begin_to_settle(self) -> None:
        self._settling = asyncio.create_task(self._settle(), name=f"{self.name}-settle")
        self._settling.add_done_callback(self._ended)

    async def _pace(self) -> None:
        """Wait until it is time to settle."""
        loop = asyncio.get_running_loop()
        left_s = self._next_settle_s - loop.time()
        if left_s > 0 and self._is_open and not self._is_full():
            await _wait(self._hurry, left_s)
        self._next_settle_s = loop.time() + self._settle_s_min

    def _take(self) -> dict[Partition, Sequence[Record]]:
        """Everything pending, at most a cycle's worth, a fair share from each partition."""
        taken: dict[Partition, Sequence[Record]] = {}
        share = max(1, self._cycle_records_max // max(1, len(self._pending)))
        for partition in list(self._pending):
            runs = self._pending[partition]
            cycle: Sequence[Record] = ()
            while runs and len(cycle) < share:
                begins, records = runs.popleft()
                self._check_continuity(partition, begins)
                room = share - len(cycle)
                if len(records) > room:
                    runs.appendleft(Run(records[room - 1].offset + 1, records[room:]))
                    records = records[:room]
                cycle = joined(cycle, records)
                self._taken[partition] = records[-1].offset + 1
            taken[partition] = cycle
            self._pending_records[partition] -= len(cycle)
            if not runs:
                del self._pending[partition]
        return taken

    def _check_continuity(self, partition: Partition, begins: int) -> None:
        expected = self._taken[partition]
        if begins != expected:
            msg = (
                f"{self.name}: expected offset {expected} of {partition.topic}/{partition.partition}, came {begins}; "
                "the worker stops, and reads from the committed position when it starts again"
            )
            raise InternalError(msg)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait until an event comes, or for so long."""
    event.clear()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()

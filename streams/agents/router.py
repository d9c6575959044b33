"""The router: from a source topic, in any order and under any key, to the leaves topic, by whom a message is about."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from contracts.origins import ORIGIN_HEADER, Origin, packer
from contracts.outcomes import Reason, Refusal
from domain.identity import Places, route
from sinks.postgres.batch import Batch, Move
from streams.agents.quarantine import quarantined
from streams.engine import crash_points
from streams.engine.batches import Partition
from streams.engine.context import Context, partition_of
from streams.engine.ownership import Owned, last_of, look_at, require_same, source_start
from streams.engine.producer import BATCH_BYTES_MAX, Outgoing, Runs, runs_of
from streams.engine.turns import Turns
from streams.native import native

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from contracts.settings import Settings
    from domain.identity import Routed, Rules
    from streams.engine.records import Record
    from streams.metrics import StageMeter

log = logging.getLogger(__name__)

PIECE: Final = 2000
"""Records decided at a time: about 4 ms."""


@dataclass(slots=True)
class RouterPlan:
    """What one cycle of the router sends, and how far it has read then."""

    runs: Runs
    batch: Batch


def together(moves: Iterable[Move]) -> list[Move]:
    """The router's moves, with those of one partition, which follow each other, as one."""
    whole: dict[tuple[str, int], Move] = {}
    for move in moves:
        before = whole.get(move.key)
        whole[move.key] = move if before is None else _joined(before, move)
    return [*whole.values()]


def _joined(one: Move, following: Move) -> Move:
    last = one if following.last_record_checksum is None else following
    return replace(
        following,
        from_offset=one.from_offset,
        read=one.read + following.read,
        last_record_time_us=last.last_record_time_us,
        last_record_checksum=last.last_record_checksum,
    )


def router(compiled: Any, settings: Settings, rules: Rules) -> Any:  # noqa: ANN401  as `native` returns it
    """The router's decisions in the compiled hot path: a `tidemark_native.Router`."""
    return compiled.Router(rules.blocked_ids, rules.max_message_bytes, settings.leaves_partitions, ORIGIN_HEADER)


class RouterHandler:
    """Decodes only type and ids; the raw bytes go on unchanged, with where they came from in a header."""

    def __init__(self, context: Context, meter: StageMeter) -> None:
        self._context = context
        self._meter = meter
        self._writer = context.writer("router")
        self._outgoing = context.outgoing()
        self._places = Places(context.rules, self._place_of)
        self._native = native(context.settings)
        self._router = None if self._native is None else router(self._native, context.settings, context.rules)
        self._owned: dict[Partition, Owned] = {}
        self._passed: dict[Partition, int] = {}
        """Up to where partitions were read beyond their last record."""
        for topic in context.settings.source_topics:
            # There from the beginning: an increase from nothing to one is none for Prometheus.
            context.metrics.gap.labels(topic)

    async def take_over(self, partition: Partition) -> int:
        """Fence the older router of this source partition; it may still forward, which the leaves find out."""
        taken = await self._context.take(partition)
        limits, last = await look_at(self._context.cluster, partition, taken.next_offset)
        require_same(partition, taken, last)
        start = source_start(partition, limits, taken.next_offset)
        if taken.next_offset is not None and start > taken.next_offset:
            await self._context.skip(partition, taken.epoch, taken.next_offset, start)
        self._owned[partition] = Owned(partition, taken.epoch, start)
        return start

    async def release(self, partition: Partition) -> None:
        """Forget the partition."""
        del self._owned[partition]
        self._passed.pop(partition, None)

    def passed_over(self, partition: Partition, position: int) -> None:
        """Remember it: progress is to say that nothing is left to read."""
        self._passed[partition] = position

    def has_work(self) -> bool:
        """Whether progress is behind what was read."""
        return any(position > self._owned[partition].committed for partition, position in self._passed.items())

    async def decide(self, taken: Mapping[Partition, Sequence[Record]]) -> RouterPlan:
        """Where each record goes."""
        topic = self._context.settings.leaves_topic
        runs = {(topic, number): self._run() for number in range(self._context.settings.leaves_partitions)}
        others: list[Outgoing] = []
        batch, turns = Batch(), Turns()
        for partition, records in taken.items():
            for begin in range(0, len(records), PIECE):
                others += self._route(partition, records[begin : begin + PIECE], list(runs.values()))
                await turns.give()
            owned = self._owned[partition]
            batch.progress.append(
                Move(
                    topic=partition.topic,
                    partition=partition.partition,
                    epoch=owned.epoch,
                    from_offset=owned.committed,
                    to_offset=records[-1].offset + 1,
                    read=len(records),
                    **last_of(owned, records),
                )
            )
            owned.committed = records[-1].offset + 1
        for partition, position in self._passed.items():
            owned = self._owned[partition]
            if position > owned.committed:
                batch.progress.append(Move(*partition, owned.epoch, owned.committed, position))
                owned.committed = position
        self._passed.clear()
        return RouterPlan({**runs, **runs_of(others)}, batch)

    def _place_of(self, leaf: str) -> tuple[int, bytes]:
        """Partition and key of a leaf."""
        key = leaf.encode()
        return partition_of(key, self._context.settings.leaves_partitions), key

    def _run(self) -> Any:  # noqa: ANN401  a list, or a `tidemark_native.Run`
        """What goes to one partition of the leaves topic: nothing yet."""
        return [] if self._native is None else self._native.Run(BATCH_BYTES_MAX)

    def _route(self, source: Partition, records: Sequence[Record], leaves: Sequence[Any]) -> list[Outgoing]:
        """Add each record to what goes to its leaf's partition; returns what goes to the quarantine instead."""
        refused: list[Outgoing] = []

        def ask(record: Record) -> tuple[int, bytes] | None:
            (place,) = self._places.find([record.value])
            return place or self._place_fully(source, record, refused)

        if self._router is not None:
            self._router.route(*source, records, leaves, ask)
            return refused
        pack = packer(*source)
        places = self._places.find([record.value for record in records])
        for record, found in zip(records, places, strict=True):
            place = found or self._place_fully(source, record, refused)
            if place is not None:
                number, key = place
                timestamp_ms = record.timestamp
                header = (ORIGIN_HEADER, pack(record.offset, timestamp_ms))
                leaves[number].append((timestamp_ms, key, record.value, [header]))
        return refused

    def _place_fully(self, source: Partition, record: Record, refused: list[Outgoing]) -> tuple[int, bytes] | None:
        """The place of a record's leaf, as `route` finds it; None where it is refused."""
        routed = self._route_fully(source, record)
        if type(routed) is Refusal:
            origin = Origin(*source, record.offset, record.timestamp)
            refused.append(quarantined(self._context.settings, origin, routed, record.value))
            return None
        return self._place_of(routed.leaf)

    def _route_fully(self, source: Partition, record: Record) -> Routed | Refusal:
        try:
            return route(record.value, self._context.rules)
        except Exception as error:  # a bug must not stop the topic: this one message is quarantined
            log.exception("cannot route %s/%d at offset %d", *source, record.offset)
            return Refusal(Reason.INTERNAL_ERROR, repr(error)[:300])

    async def commit(self, plan: RouterPlan) -> None:
        """(a) Forward, acknowledged."""
        with self._meter.step("outgoing"):
            await crash_points.send("router-sending", plan.runs, self._outgoing.send_runs)
        crash_points.reached("router-sent")

    async def settle(self, plans: Sequence[RouterPlan]) -> None:
        """(b) Move progress, past all of them at once."""
        batch = Batch(progress=together(move for plan in plans for move in plan.batch.progress))
        with self._meter.step("postgres"):
            await self._writer.commit(batch)
        crash_points.reached("router-written")
        self._context.metrics.written(batch)

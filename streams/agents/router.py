"""The router: from a source topic, in any order and under any key, to the leaves topic, by whom a message is about."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contracts.origins import ORIGIN_HEADER, Origin
from contracts.outcomes import Reason, Refusal
from domain.identity import route
from sinks.postgres.batch import Batch, Move
from streams.agents.quarantine import quarantined
from streams.engine import crash_points
from streams.engine.batches import Partition
from streams.engine.context import Context, partition_of
from streams.engine.ownership import Owned, last_of, look_at, require_same, source_start
from streams.engine.producer import Outgoing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.engine.records import Record
    from streams.metrics import StageMeter

log = logging.getLogger(__name__)

YIELD_EVERY = 500
"""Records decided before other tasks get a turn: about 4 ms."""


@dataclass(slots=True)
class RouterPlan:
    """What one cycle of the router sends, and how far it has read then."""

    outgoing: list[Outgoing]
    batch: Batch


class RouterHandler:
    """Decodes only type and ids; the raw bytes go on unchanged, with where they came from in a header."""

    def __init__(self, context: Context, meter: StageMeter) -> None:
        self._context = context
        self._meter = meter
        self._writer = context.writer("router")
        self._owned: dict[Partition, Owned] = {}
        self._passed: dict[Partition, int] = {}
        """Up to where partitions were read beyond their last record."""

    async def take_over(self, partition: Partition) -> int:
        """Fence the older router of this source partition; it may still forward, which the leaves find out."""
        taken = await self._context.take(partition)
        limits, last = await look_at(self._context.cluster, partition, taken.next_offset)
        require_same(partition, taken, last)
        start = source_start(partition, limits, taken.next_offset)
        committed = start if taken.next_offset is None else taken.next_offset
        self._owned[partition] = Owned(partition, taken.epoch, committed)
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
        outgoing: list[Outgoing] = []
        batch = Batch()
        for partition, records in taken.items():
            for begin in range(0, len(records), YIELD_EVERY):
                self._route(partition, records[begin : begin + YIELD_EVERY], outgoing)
                await asyncio.sleep(0)
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
        return RouterPlan(outgoing, batch)

    def _route(self, source: Partition, records: Sequence[Record], outgoing: list[Outgoing]) -> None:
        settings, rules = self._context.settings, self._context.rules
        topic, partitions = settings.leaves_topic, settings.leaves_partitions
        for record in records:
            origin = Origin(*source, record.offset, record.timestamp)
            try:
                routed = route(record.value, rules)
            except Exception as error:  # a bug must not stop the topic: this one message is quarantined
                log.exception("cannot route %s/%d at offset %d", *origin[:3])
                routed = Refusal(Reason.INTERNAL_ERROR, repr(error)[:300])
            if type(routed) is Refusal:
                outgoing.append(quarantined(settings, origin, routed, record.value))
                continue
            key = routed.leaf.encode()
            outgoing.append(
                Outgoing(
                    topic,
                    partition_of(key, partitions),
                    key,
                    record.value,
                    record.timestamp,
                    [(ORIGIN_HEADER, origin.pack())],
                )
            )

    async def commit(self, plan: RouterPlan) -> None:
        """(a) forward, acknowledged; (c) move progress."""
        with self._meter.step("outgoing"):
            await crash_points.send("router-sending", plan.outgoing, self._context.outgoing.send)
        crash_points.reached("router-sent")
        with self._meter.step("postgres"):
            await self._writer.commit(plan.batch)
        crash_points.reached("router-written")
        self._context.metrics.written(plan.batch)

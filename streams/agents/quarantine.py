"""The quarantine: what was refused, with its raw bytes, on a topic of its own and from there in Postgres."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from contracts import rows
from contracts.origins import ORIGIN_HEADER, REDRIVE_HEADER, Origin
from contracts.outcomes import Refusal
from sinks.postgres.batch import Batch, Move
from streams.engine.ownership import Owned, internal_start, last_of, look_at, require_same
from streams.engine.producer import Outgoing
from streams.engine.records import foreign

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from contracts.settings import Settings
    from streams.engine.batches import Partition
    from streams.engine.context import Context
    from streams.engine.records import Record
    from streams.metrics import StageMeter

log = logging.getLogger(__name__)

REASON_HEADER: Final = "tidemark-reason"
DETAIL_HEADER: Final = "tidemark-detail"
LACKS_ROWS_HEADER: Final = "tidemark-lacks-rows"
"""There where the state has the message, so that only rows of it are missing."""


def quarantined(
    settings: Settings,
    origin: Origin,
    refusal: Refusal,
    raw: bytes | None,
    *,
    redrive: bytes | None = None,
    lacks_rows: bool = False,
) -> Outgoing:
    """The record that puts a message into the quarantine, or leaves it there. A tombstone is kept as no bytes.

    `redrive` is the header's value of a message that came out of it.
    """
    headers = [
        (ORIGIN_HEADER, origin.pack()),
        (REASON_HEADER, refusal.reason.encode()),
        (DETAIL_HEADER, refusal.detail.encode("utf-8", "replace")),
    ]
    if redrive is not None:
        headers.append((REDRIVE_HEADER, redrive))
    if lacks_rows:
        headers.append((LACKS_ROWS_HEADER, b""))
    partition = origin.offset % settings.quarantine_partitions
    return Outgoing(settings.quarantine_topic, partition, b"", raw or b"", origin.timestamp_ms, headers)


def quarantine_row(record: Record) -> rows.Quarantined:
    """The row of a record of the quarantine topic. Raises InternalError for one that nobody here has sent."""
    headers = dict(record.headers)
    try:
        origin = Origin.unpack(headers[ORIGIN_HEADER])
        reason, detail = headers[REASON_HEADER].decode(), headers[DETAIL_HEADER].decode()
    except (KeyError, ValueError) as error:
        raise foreign("a refused message in the quarantine topic", record, repr(error)) from error
    return rows.Quarantined(
        origin.topic,
        origin.partition,
        origin.offset,
        reason,
        detail,
        record.value or b"",
        origin.timestamp_ms,
        LACKS_ROWS_HEADER in headers,
        REDRIVE_HEADER in headers,
    )


class QuarantineHandler:
    """Writes refused messages to Postgres, each source record once."""

    def __init__(self, context: Context, meter: StageMeter) -> None:
        self._context = context
        self._meter = meter
        self._writer = context.writer("quarantine")
        self._owned: dict[Partition, Owned] = {}

    async def take_over(self, partition: Partition) -> int:
        """Go on where Postgres is."""
        taken = await self._context.take(partition)
        limits, last = await look_at(self._context.cluster, partition, taken.next_offset)
        require_same(partition, taken, last)
        start = internal_start(partition, limits, "committed", taken.next_offset)
        self._owned[partition] = Owned(partition, taken.epoch, start)
        return start

    async def release(self, partition: Partition) -> None:
        """Forget the partition."""
        del self._owned[partition]

    def passed_over(self, partition: Partition, position: int) -> None:
        """Nothing: no transaction writes this topic."""

    def has_work(self) -> bool:
        """Nothing without records."""
        return False

    async def decide(self, taken: Mapping[Partition, Sequence[Record]]) -> Batch:
        """One row a record."""
        batch = Batch()
        for partition, records in taken.items():
            batch.quarantined.extend(map(quarantine_row, records))
            owned = self._owned[partition]
            to_offset = records[-1].offset + 1
            batch.progress.append(
                Move(
                    topic=partition.topic,
                    partition=partition.partition,
                    epoch=owned.epoch,
                    from_offset=owned.committed,
                    to_offset=to_offset,
                    **last_of(owned, records),
                )
            )
            owned.committed = to_offset
        return batch

    async def commit(self, plan: Batch) -> None:
        """(b) Write the rows and move progress."""
        with self._meter.step("postgres"):
            refused = await self._writer.commit(plan)
        self._context.metrics.written(plan)
        if refused:
            log.error("Postgres refused rows of the quarantine; their records stay on the topic alone: %s", refused)

    async def settle(self, plans: Sequence[Batch]) -> None:
        """Nothing: there is no state."""

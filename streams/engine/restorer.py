"""Restoring local state from changelogs, in the place of Faust's recovery.

Faust 0.15.3 reads changelogs through the group's consumer, event by event, and resumes its source partitions before
it seeks them (`faust/tables/recovery.py`, `on_recovery_completed`). Here a consumer without a group reads a
partition's changelogs in bulk from the position kept in the store to their ends, as Kafka Streams' restore consumer
does; flow resumes when every store is there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final, cast

from aiokafka import TopicPartition
from faust.tables.manager import TableManager
from faust.tables.table import Table

from contracts.errors import PositionError
from streams.engine import crash_points
from streams.engine.cluster import bounds

if TYPE_CHECKING:
    from streams.engine.cluster import Bounds, Cluster
    from streams.engine.core import EngineApp
    from streams.engine.records import Record
    from tables.store import PartitionStore

log = logging.getLogger(__name__)

POLL_MS: Final = 200
"""How long one round waits for changelog records."""

POLL_RECORDS_MAX: Final = 20_000
"""Changelog records taken in one round: some megabytes of memory."""

FETCH_BYTES_MAX: Final = 8 * 1024 * 1024
"""Restoring is bound by bytes, so a fetch is large."""

RUN_BYTES_MAX: Final = 512 * 1024
"""What is written at a time, of so many values: some ten milliseconds, after which others get a turn."""

RECORD_BYTES: Final = 64
"""What a record costs besides its value: about its key and its place in a write batch."""

BULK_RECORDS_MIN: Final = 50_000
"""More changelog records than these are restored in bulk: opening the store anew, twice, takes about as long as these
many save."""

BULK_AT_ONCE: Final = 4
"""Stores that a worker restores in bulk at a time: each may take 100 MiB and more, and more of them are no faster."""

REPORT_EVERY_S: Final = 5.0
"""A long restore says how far it is so often."""


Pairs = list[tuple[bytes, bytes | None]]
"""Keys and values to write; None deletes."""

Restored = Callable[[Sequence["Record"]], list[tuple[str, Pairs]]]
"""What the records of a changelog write: pairs by column family."""


async def restore(
    cluster: Cluster,
    store: PartitionStore,
    partition: int,
    changelogs: Mapping[str, Restored],
    *,
    tell: Callable[[int, int], None] = lambda _restored, _left: None,
    bulk: AbstractAsyncContextManager[Any] = nullcontext(),  # noqa: B008  it has no state
) -> int:
    """Bring `store` up to the committed end of its changelogs; returns the number of records applied.

    `tell` is called as it goes on, with the number of records that are restored, and of those that are left. `bulk` is
    entered where there is much to restore, so that it can be bounded how many stores are at once.
    To be called once no older owner can write any more, or the end would still move.
    Raises PositionError where the store is ahead of its changelog: one of the two was replaced.
    """
    started = reported = time.monotonic()
    applied = 0
    async with cluster.consumer(
        max_poll_records=POLL_RECORDS_MAX, max_partition_fetch_bytes=FETCH_BYTES_MAX
    ) as consumer:
        tps = [TopicPartition(topic, partition) for topic in changelogs]
        limits = await bounds(consumer, tps)
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, next_offset(store, tp, limits[tp]))
        left = await _left(consumer, limits)
        is_bulk = left > BULK_RECORDS_MIN
        async with bulk if is_bulk else nullcontext():
            if is_bulk:
                store.reopen(bulk=True)
            while left:
                tell(applied, left)
                fetched = await consumer.getmany(timeout_ms=POLL_MS)
                for tp, records in fetched.items():
                    for run in runs(records, RUN_BYTES_MAX):
                        store.apply(changelogs[tp.topic](run), {tp.topic: run[-1].offset + 1})
                        applied += len(run)
                        crash_points.reached("restoring")
                        await asyncio.sleep(0)
                left = await _left(consumer, limits)
                if time.monotonic() - reported > REPORT_EVERY_S:
                    reported = time.monotonic()
                    log.info("%s: %d changelog records restored, %d to go", store.path.name, applied, left)
            store.apply([], {tp.topic: limits[tp].end for tp in tps})
            if is_bulk:
                store.reopen(bulk=False)
            tell(applied, 0)
    if applied:
        log.info(
            "%s: %d changelog records restored in %.1f s",
            store.path.name,
            applied,
            time.monotonic() - started,
        )
    return applied


async def _left(consumer: Any, limits: Mapping[TopicPartition, Bounds]) -> int:  # noqa: ANN401  untyped
    """How many offsets are before the ends still."""
    return sum([max(0, end - await consumer.position(tp)) for tp, (_, end) in limits.items()])


def next_offset(store: PartitionStore, changelog: TopicPartition, limits: Bounds) -> int:
    """Where a store goes on with a changelog. Raises PositionError where it is ahead: one of the two was replaced."""
    start, end = limits
    reached = store.position(changelog.topic)
    if reached is not None and reached > end:
        msg = (
            f"the local state in {store.path} was restored from {changelog.topic}/{changelog.partition} up to offset "
            f"{reached}, but that changelog now ends at {end}: the topic was recreated or cut. Expected a changelog "
            "that only grows. Delete the directory to restore from what the topic holds now, or rebuild under a "
            "new app_version"
        )
        raise PositionError(msg)
    return max(start, reached or 0)


def runs(records: Sequence[Record], bytes_max: int) -> Iterator[Sequence[Record]]:
    """Cut records into runs of about so many bytes of values; a record that is larger is one of its own."""
    begin = size = 0
    for at, record in enumerate(records, 1):
        size += RECORD_BYTES + len(record.value or b"")
        if size >= bytes_max:
            yield records[begin:at]
            begin, size = at, 0
    if begin < len(records):
        yield records[begin:]


class EngineTable(Table[bytes, bytes]):
    """A changelog-backed table as Faust knows it, whose state lives in the engine's partition stores.

    Faust lists it, names its changelog and counts its partitions. The changelog topic is made beforehand like every
    other topic, and reads and writes go by the cycle (`tables.store`), not through this mapping.
    """

    async def on_start(self) -> None:
        """Do nothing: Faust's would open a store of its own and declare the changelog."""


class EngineTableManager(TableManager):
    """Hands rebalances to the engine, in the place of Faust's recovery service."""

    async def on_start(self) -> None:
        """Say that the tables are there, without subscribing to their changelogs (`_update_channels`)."""
        self._tables_finalized.set()
        self._tables_registered.set()

    async def on_stop(self) -> None:
        """Stop fetching."""
        await cast("EngineApp", self.app)._fetcher.stop()  # noqa: SLF001  as Faust's does

    def on_partitions_revoked(self, revoked: set[Any]) -> None:
        """Do nothing here: this is a plain call; the engine quiesces on Faust's awaited signal of the same name."""

    async def on_rebalance(
        self, assigned: set[Any], revoked: set[Any], newly_assigned: set[Any], generation_id: int = 0
    ) -> None:
        """Take partitions over outside of the rebalance callback, which must return within the session."""
        del revoked, newly_assigned
        self._recovery_started.set()
        cast("EngineApp", self.app).engine.rebalanced(assigned, generation_id)

    async def wait_until_recovery_completed(self) -> bool:
        """Nothing waits for Faust's recovery."""
        return False

"""Taking a partition over: fence the older owner, restore its state, and find where to go on.

S is the position up to which local state and changelog have applied the input topic, P the one up to which Postgres
holds its rows. Both are exact, they may differ by what a crash cut short, and reading goes on from the lesser:
records in [P, S) are in the state already and only have their rows made again; records in [S, P) have their rows and
are applied to the state only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypedDict

from aiokafka import TopicPartition

from contracts.errors import PositionError
from sinks.postgres.batch import Batch, Move
from sinks.postgres.progress import Progress
from streams.engine import crash_points
from streams.engine.cluster import bounds
from streams.engine.records import checksum
from streams.engine.restorer import restore
from tables.positions import APPLIED, decode_position

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from contracts.definitions import Definitions
    from streams.engine.batches import Partition
    from streams.engine.cluster import Bounds, Cluster
    from streams.engine.context import Context
    from streams.engine.producer import BatchProducer
    from streams.engine.records import Record
    from streams.engine.state import StateTable
    from tables.store import PartitionStore

log = logging.getLogger(__name__)

LOOK_MS: Final = 5_000
"""How long a takeover waits for the last record that was read, which is there unless its offset holds none."""


LET_GO_S_MAX: Final = 2.0
"""How long a takeover waits for a former owner that lives to let go: he does when the rebalance is through, at the time
at which the takeover begins."""

LOOK_AGAIN_S: Final = 0.05
"""How often is looked whether he has."""


@dataclass(slots=True)
class Owned:
    """A partition that this worker owns."""

    partition: Partition
    epoch: int
    """Epoch in Postgres: a commit under another one is refused."""
    committed: int
    """P, as far as cycles have been decided: the offset from which rows are still to be counted."""


@dataclass(slots=True)
class OwnedState(Owned):
    """A partition with state: a table's part on local disk."""

    store: PartitionStore
    applied: int
    """S, as far as cycles have been decided."""
    definitions_version: int
    """Version of the definitions that every row in Postgres was made with at least."""
    highs: dict[str, int]
    """Greatest offset of each source partition met so far: a lower one is the router's repetition."""
    remade_to: bytes | None = None
    """Key of the last record whose row was made again, while that goes on."""
    remade_as: int = 0
    """Version of the definitions with which that began: rows made since are of this one or a newer one."""

    def is_to_remake(self, retyped: int) -> bool:
        """Whether rows are to be made again, since a definition was changed by hand in this version.

        Not before state has caught up with Postgres: rows are said to be of P.
        """
        return self.definitions_version < retyped and self.applied >= self.committed


async def take_over_state(
    context: Context, table: StateTable, partition: Partition, changelogs: BatchProducer
) -> OwnedState:
    """Take a partition with state over, with the store of its standby where there is one. Closes it where it fails.

    (i) Have the broker refuse the older owner's changelogs, unless he has let go of the partition, and take the epoch
    in Postgres, after which his rows are refused; (ii) only then read the changelogs' ends, which no longer move, and
    restore the store up to them; (iii) check that S and P lie within the topic.
    """
    store = context.standbys.hand_over(partition) or table.open(context.state_dir, partition.partition)
    try:
        taken = await _take(context, partition, str(changelogs.transactional_id))
        crash_points.reached("takeover-taken")
        await restore(
            context.cluster,
            store,
            partition.partition,
            table.changelogs(store),
            tell=lambda restored, left: context.restored.update({partition: (restored, left)}),
            bulk=context.bulk_restores,
        )
        crash_points.reached("restored")
        await context.definitions.at_least(taken.definitions_version)
        limits, last = await look_at(context.cluster, partition, taken.next_offset)
        require_same(partition, taken, last)
        owned = OwnedState(
            partition,
            taken.epoch,
            internal_start(partition, limits, "committed", taken.next_offset),
            store,
            internal_start(partition, limits, "applied", decode_position(store.get_many(table.family, [APPLIED])[0])),
            taken.definitions_version,
            dict(taken.source_highs),
        )
    except BaseException:
        store.close()
        raise
    context.stores[partition] = store
    return owned


async def _take(context: Context, partition: Partition, transactional_id: str) -> Progress:
    """(i): an owner who lives is given a moment to let go; whoever has not is fenced."""
    fence_at_s = time.monotonic() + LET_GO_S_MAX
    while True:
        taken = await context.take_changelogs(partition, transactional_id)
        if isinstance(taken, Progress):
            return taken
        if taken.is_connected and time.monotonic() < fence_at_s:
            await asyncio.sleep(LOOK_AGAIN_S)
            continue
        await context.fence(taken.transactional_id)
        crash_points.reached("takeover-fenced")


def next_to_remake(
    owned: OwnedState,
    batch: Batch,
    definitions: Definitions,
    stored: Iterator[bytes],
    unstored: Iterable[bytes],
    *,
    at_most: int,
) -> set[bytes]:
    """Keys of the next records whose rows are to be made again, because a definition was changed by hand.

    `stored` are the store's keys from `owned.remade_to` on, `unstored` those of the cycles that it does not hold yet:
    decided under the older definitions, they would be missed. With the last of them, `batch` lets progress say so.
    """
    begins = owned.remade_to is None
    keys = list(islice(stored, at_most))
    found = set(keys)
    if begins:
        owned.remade_as = definitions.version
        found.update(unstored)
    owned.remade_to = keys[-1] if len(keys) == at_most else None
    if owned.remade_to is None:
        owned.definitions_version = owned.remade_as
        _note_remade(batch, owned, owned.remade_as)
    return found


def _note_remade(batch: Batch, owned: Owned, definitions_version: int) -> None:
    """Let progress say that all rows of a partition are made with this version of the definitions."""
    for index, move in enumerate(batch.progress):
        if move.key == owned.partition:
            batch.progress[index] = replace(move, definitions_version=definitions_version)
            return
    batch.progress.append(
        Move(
            *owned.partition,
            owned.epoch,
            owned.committed,
            owned.committed,
            definitions_version=definitions_version,
        )
    )


class Look(NamedTuple):
    """What a topic's partition holds now."""

    limits: Bounds
    last: Record | None
    """The record before the position that was asked for; None where there is none at that offset."""


async def look_at(cluster: Cluster, partition: Partition, position: int | None) -> Look:
    """Look at a partition, and at the record before `position`."""
    async with cluster.consumer(max_poll_records=1) as consumer:
        tp = TopicPartition(*partition)
        limits = (await bounds(consumer, [tp]))[tp]
        last = None
        if position is not None and limits.start < position <= limits.end:
            consumer.assign([tp])
            consumer.seek(tp, position - 1)
            fetched = await consumer.getmany(timeout_ms=LOOK_MS)
            last = next((record for record in fetched.get(tp, ()) if record.offset == position - 1), None)
        return Look(limits, last)


def require_same(partition: Partition, progress: Progress, last: Record | None) -> None:
    """Raise PositionError where the last record that was read is another one by now: the topic was recreated.

    A topic that was recreated and has grown beyond the position would be read on from the middle otherwise. Where no
    record is left at that offset (deleted, or a transaction marker), nothing can be told.
    """
    if last is None or progress.last_record_checksum is None:
        return
    if (progress.last_record_time_us, progress.last_record_checksum) != (last.timestamp * 1000, checksum(last)):
        raise PositionError(
            f"the record at offset {last.offset} of {partition.topic}/{partition.partition} is not the one that was "
            "read there. Expected the topic that this app version has begun with: it was recreated or restored from "
            "elsewhere, and nothing is skipped silently. Rebuild under a new app_version from the source topics"
        )


class LastRecord(TypedDict, total=False):
    """What a move of progress tells of the last record that it passes; nothing where it stays where it is."""

    last_record_time_us: int
    last_record_checksum: int


def last_of(owned: Owned, records: Sequence[Record]) -> LastRecord:
    """What progress keeps of the last of these records, by which a topic that was recreated is recognised."""
    last = records[-1]
    if last.offset < owned.committed:
        return {}
    return {"last_record_time_us": last.timestamp * 1000, "last_record_checksum": checksum(last)}


def internal_start(partition: Partition, limits: Bounds, name: str, position: int | None) -> int:
    """Where to go on in a topic of our own, of which nothing that is still needed is ever deleted.

    Raises PositionError where `position` lies outside: the topic was recreated, cut, or belongs to another cluster.
    """
    if position is None:
        if limits.start > 0:
            raise PositionError(_outside(partition, limits, f"no {name} position is kept"))
        return 0
    if not limits.start <= position <= limits.end:
        raise PositionError(_outside(partition, limits, f"the {name} position is {position}"))
    return position


def _outside(partition: Partition, limits: Bounds, came: str) -> str:
    return (
        f"{partition.topic}/{partition.partition} holds offsets {limits.start} to {limits.end}, but {came}. Expected a "
        "position within the topic: it was recreated, cut or restored from elsewhere, and nothing is skipped silently. "
        "Rebuild under a new app_version from the source topics"
    )


def source_start(partition: Partition, limits: Bounds, position: int | None) -> int:
    """Where to go on in a source topic, whose oldest records its own retention may delete at any time.

    Raises PositionError where `position` lies beyond its end.
    """
    if position is None:
        return limits.start
    if position > limits.end:
        raise PositionError(_outside(partition, limits, f"the read position is {position}"))
    if position < limits.start:
        log.error(
            "%s/%d: its retention has deleted %d records that were not read yet (offsets %d to %d); they are "
            "skipped, and counted as a gap",
            *partition,
            limits.start - position,
            position,
            limits.start - 1,
        )
        return limits.start
    return position

"""Standbys: stores of partitions that other workers own, kept close to the ends of their changelogs.

As Kafka Streams' standby tasks, so that a takeover restores a moment's records in the place of all of them. A standby
reads what the owner has committed, in order, and writes it with the position that it stands for: what it holds is what
a store holds that was closed a while ago. Whoever takes the partition over fences the owner and restores the rest as
it would with any other store; nothing else relies on a standby.

A store is a standby's or an owner's, never both: a takeover is given it by a plain call between two writes, and a
released one is closed by its owner before it is opened here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.engine.batches import Partition
from streams.engine.cluster import bounds
from streams.engine.restorer import next_offset, runs

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from streams.engine.context import Context
    from streams.engine.records import Record
    from streams.engine.restorer import Restored
    from streams.engine.state import StateTable
    from tables.store import PartitionStore

log = logging.getLogger(__name__)

PAUSE_S: Final = 0.1
"""Between two looks at what has come: a takeover has so much more to restore. A session timeout is far longer."""

SHARE: Final = 0.2
"""Of its loop's time, what following may take while there is much to catch up on: the partitions that this worker owns
come first."""

ROUND_RECORDS_MAX: Final = 5_000
"""Records taken in one round, in all partitions together."""

RUN_BYTES_MAX: Final = 128 * 1024
"""What is written at a time: a few milliseconds in which nothing else on the loop gets a turn."""

PARTITION_BYTES_MAX: Final = 512 * 1024
"""A changelog partition's share of one fetch, and so what waits in memory for each of them."""

FETCH_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of one fetch of all of them from one broker."""

RETRY_S: Final = 5.0
"""Where Kafka does not answer, it is asked again so often."""


@dataclass(slots=True)
class Standby:
    """One partition that is followed."""

    store: PartitionStore
    changelogs: Mapping[str, Restored]
    behind: dict[str, int] = field(default_factory=dict)
    """Records that each changelog is ahead, as far as was heard; nothing before the first word."""


class Standbys:
    """Follows the changelogs of every partition with state that this worker does not own."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tables: dict[str, StateTable] = {}
        self._standbys: dict[Partition, Standby] = {}
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False

    def add(self, table: StateTable) -> None:
        """Follow this table's partitions too."""
        self._tables[table.topic] = table

    def lags(self) -> dict[Partition, int]:
        """How many changelog records each standby is behind, as of its last fetch."""
        return {partition: sum(standby.behind.values()) for partition, standby in self._standbys.items()}

    def follow(self, owned: Collection[Partition]) -> None:
        """Begin to follow every partition that is not owned, its owner's store being closed."""
        if not self._context.settings.standby or self._is_stopped:
            return
        wanted = [part for table in self._tables.values() for part in table.parts() if part not in owned]
        for partition in self._standbys.keys() - set(wanted):
            self._standbys.pop(partition).store.close()
        self.hold()
        self._task = asyncio.create_task(self._run(self._task, wanted), name="standbys")

    def hold(self) -> None:
        """Follow no further until told to: a rebalance has begun. Stores stay open for whoever takes them over."""
        if self._task is not None and not self._task.cancelling():
            # Once: a second time would cut short how it lets go of its connections.
            self._task.cancel()

    def hand_over(self, partition: Partition) -> PartitionStore | None:
        """Give a standby's store away, as far as it has come; None where there is no standby."""
        standby = self._standbys.pop(partition, None)
        return None if standby is None else standby.store

    async def stop(self) -> None:
        """Follow nothing any more, and close every store."""
        self._is_stopped = True
        self.hold()
        if self._task is not None:
            await asyncio.wait([self._task])
        for standby in self._standbys.values():
            standby.store.close()
        self._standbys.clear()

    async def _run(self, before: asyncio.Task[None] | None, wanted: Sequence[Partition]) -> None:
        """Follow these partitions, but for those that fail, until it is cancelled. No failure is the worker's own."""
        if before is not None:
            await asyncio.wait([before])
        wanted = [partition for partition in wanted if self._open(partition)]
        await asyncio.sleep(0)
        is_told = False
        while wanted:
            try:
                await self._tail(wanted)
            except (KafkaError, OSError) as error:
                if not is_told:
                    log.warning("standbys wait for Kafka: %r", error)
                is_told = True
                await asyncio.sleep(RETRY_S)
            except Exception as error:  # noqa: BLE001  a standby may be missed, an owner's partitions not
                for partition in wanted:
                    self._give_up(partition, error)
            wanted = [partition for partition in wanted if partition in self._standbys]

    def _open(self, partition: Partition) -> bool:
        """Open a partition's store, if it is not open yet; False where that fails."""
        if partition in self._standbys:
            return True
        table = self._tables[partition.topic]
        try:
            store = table.open(self._context.state_dir, partition.partition)
        except Exception as error:  # noqa: BLE001  RocksDB's errors have no type of their own
            self._note_failure(partition, error)
            return False
        self._standbys[partition] = Standby(store, table.changelogs(store))
        return True

    def _give_up(self, partition: Partition, error: Exception) -> None:
        standby = self._standbys.pop(partition, None)
        if standby is not None:
            standby.store.close()
            self._note_failure(partition, error)

    def _note_failure(self, partition: Partition, error: Exception) -> None:
        self._context.metrics.standby_failures.inc()
        log.error(
            "no standby of %s/%d until the next rebalance: %r. The worker goes on; taking this partition over restores "
            "more, and tells if something is wrong with its state",
            *partition,
            error,
        )

    async def _tail(self, wanted: Collection[Partition]) -> None:
        """Follow until a partition has to be given up, or Kafka fails."""
        async with self._context.cluster.consumer(
            max_partition_fetch_bytes=PARTITION_BYTES_MAX, fetch_max_bytes=FETCH_BYTES_MAX
        ) as consumer:
            places = {
                TopicPartition(changelog, partition.partition): partition
                for partition in wanted
                for changelog in self._standbys[partition].changelogs
            }
            limits = await bounds(consumer, places)
            consumer.assign([*places])
            for tp, partition in places.items():
                standby = self._standbys[partition]
                try:
                    at = next_offset(standby.store, tp, limits[tp])
                except Exception as error:  # noqa: BLE001  as below
                    self._give_up(partition, error)
                    return
                consumer.seek(tp, at)
                standby.behind[tp.topic] = limits[tp].end - at
            while True:
                busy_s = await self._round(consumer, places)
                if not all(partition in self._standbys for partition in wanted):
                    return
                await asyncio.sleep(max(PAUSE_S, busy_s * (1 / SHARE - 1)))

    async def _round(self, consumer: Any, places: Mapping[TopicPartition, Partition]) -> float:  # noqa: ANN401  untyped
        """Write what has come; returns the seconds that it took, with those that others had in between."""
        began = time.monotonic()
        fetched = await consumer.getmany(timeout_ms=0, max_records=ROUND_RECORDS_MAX)
        for tp, records in fetched.items():
            for run in runs(records, RUN_BYTES_MAX):
                self._apply(places[tp], tp.topic, run)
                await asyncio.sleep(0)
        busy_s = time.monotonic() - began
        for tp, partition in places.items():
            end = consumer.last_stable_offset(tp)
            if end is not None and (standby := self._standbys.get(partition)) is not None:
                standby.behind[tp.topic] = max(0, end - await consumer.position(tp))
        return busy_s

    def _apply(self, partition: Partition, changelog: str, records: Sequence[Record]) -> None:
        standby = self._standbys.get(partition)
        if standby is None:
            return
        try:
            standby.store.apply(standby.changelogs[changelog](records), {changelog: records[-1].offset + 1})
        except Exception as error:  # noqa: BLE001  a full disk, a record that does not unpack: the owner's to tell
            self._give_up(partition, error)

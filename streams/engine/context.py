"""What every handler of a worker shares."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import TYPE_CHECKING, Final

import xxhash
from aiokafka.errors import KafkaConnectionError

from contracts.errors import FencedError, ServiceError
from domain.identity import Rules
from sinks.postgres.database import Database
from sinks.postgres.definitions import DefinitionStore
from sinks.postgres.progress import Progress, let_go, lost, skip, take, take_changelogs
from sinks.postgres.writer import Writer
from streams.engine.cluster import Cluster
from streams.engine.definitions import LiveDefinitions
from streams.engine.producer import BatchProducer, fence
from streams.engine.restorer import BULK_AT_ONCE
from streams.engine.standby import Standbys
from streams.metrics import Metrics
from streams.native import native
from streams.topics import require_topics, topic_specs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from contracts.settings import Settings
    from sinks.postgres.progress import Writer as ChangelogWriter
    from sinks.postgres.staging import RowEncoder
    from streams.engine.batches import Partition
    from streams.engine.producer import Delivered
    from tables.store import PartitionStore

log = logging.getLogger(__name__)

COMPRESSION: Final = "zstd"
"""Of the leaves topic, above all. Messages of one kind after another shrink to a tenth, so that compressing costs less
than the copies, checksums and socket writes of what it saves; and so does reading it."""

LET_GO_S_MAX: Final = 1.0
"""How long it may take to tell Postgres which partitions are let go: some milliseconds, unless it is away. Whoever
takes them over then has to fence this worker."""

CLOSE_S_MAX: Final = 1.0
"""How long a server may take to let its connections go, which have nothing under way."""


class Context:
    """The worker's connections, rules and clock."""

    def __init__(self, settings: Settings, worker: str) -> None:
        """`worker` is shown with the partitions that it owns. Connects to nothing yet."""
        self.settings = settings
        self.worker = worker
        self.metrics = Metrics()
        self.stores: dict[Partition, PartitionStore] = {}
        """Stores of the partitions that are owned."""
        self.restored: dict[Partition, tuple[int, int]] = {}
        """Changelog records that the last takeover has restored, and those that are still to come."""
        self._databases: list[Database] = []
        self.rules = Rules.of(settings.blocked_ids, settings.max_message_bytes, settings.future_tolerance_s)
        self.cluster = Cluster(settings)
        self._outgoing: list[BatchProducer] = []
        self._changelogs: list[BatchProducer] = []
        self._incarnation = secrets.token_hex(8)
        self._to_let_go: set[Partition] = set()
        """Partitions with state that Postgres may name one of our producers for."""
        self._named: set[Partition] = set()
        """Those that it does, unless somebody has taken them over."""
        self._fenced: set[str] = set()
        """Transactional ids of others that nobody writes under any more."""
        self._fencing = asyncio.Lock()
        self.definitions = LiveDefinitions(DefinitionStore(self._database("definitions")))
        self.state_dir = settings.data_dir / "state"
        """Where the partition stores of this worker live."""
        self.standbys = Standbys(self)
        self.bulk_restores = asyncio.Semaphore(BULK_AT_ONCE)
        self._taking = self._database("takeover")
        self._taking_turn = asyncio.Lock()

    def _database(self, purpose: str, *, row_encoder: RowEncoder | None = None) -> Database:
        application = f"tidemark {self.worker} {purpose}"
        database = Database(self.settings.dsn, self.settings.schema, application=application, row_encoder=row_encoder)
        self._databases.append(database)
        return database

    def writer(self, stage: str) -> Writer:
        """A writer of its own for a stage: stages commit side by side."""
        compiled = native(self.settings)
        row_encoder = None if compiled is None else compiled.RowArray
        return Writer(self._database(stage, row_encoder=row_encoder), self.settings.app_version)

    def outgoing(self) -> BatchProducer:
        """A producer of its own for what a stage sends to other stages and other workers.

        A producer has one request to a broker under way at a time: stages would wait for each other's.
        """
        producer = BatchProducer(self.cluster, compression=COMPRESSION)
        self._outgoing.append(producer)
        return producer

    def on_delivered(self, told: Delivered) -> None:
        """Have `told` be told of what stages send each other, once it is acknowledged."""
        for producer in self._outgoing:
            producer.on_delivered = told

    def changelogs(self, topic: str) -> BatchProducer:
        """The producer for all changelogs of the stage that reads `topic`, in this process and no other."""
        producer = BatchProducer(self.cluster, transactional_id=f"{topic}-{self.worker}-{self._incarnation}")
        self._changelogs.append(producer)
        return producer

    async def take(self, partition: Partition) -> Progress:
        """Become the partition's owner in Postgres; returns where it stands."""
        settings = self.settings
        async with self._taking_turn:
            return await self._taking.run(
                f"taking {partition.topic}/{partition.partition}",
                lambda connection: take(
                    connection, settings.app_version, partition.topic, partition.partition, self.worker
                ),
            )

    async def take_changelogs(self, partition: Partition, transactional_id: str) -> Progress | ChangelogWriter:
        """Become the owner of a partition with state; or tell who may write its changelogs still."""
        settings = self.settings
        self._to_let_go.add(partition)
        async with self._taking_turn:
            taken = await self._taking.run(
                f"taking {partition.topic}/{partition.partition}",
                lambda connection: take_changelogs(
                    connection,
                    settings.app_version,
                    *partition,
                    self.worker,
                    transactional_id=transactional_id,
                    fenced=self._fenced,
                ),
            )
        if isinstance(taken, Progress):
            self._named.add(partition)
        return taken

    async def fence(self, transactional_id: str) -> None:
        """Have Kafka refuse whoever writes under this id. Once: nobody takes up the id of another process."""
        async with self._fencing:
            if transactional_id not in self._fenced:
                await fence(self.cluster, transactional_id)
                self._fenced.add(transactional_id)
                log.info("fenced %s, which had not let go of its partitions", transactional_id)

    async def require_unfenced(self) -> None:
        """Raise FencedError where somebody has taken over what this worker has not let go of.

        Whoever did has fenced it before: it would find out by its next transaction, and do work in vain until then.
        """
        if not self._named:
            return
        async with self._taking_turn:
            gone = await self._taking.run(
                "looking for partitions that were taken over",
                lambda connection: lost(connection, self.settings.app_version, self._transactional_ids(), self._named),
            )
        if gone:
            raise FencedError(
                f"a partition has another owner: {gone[0][0]}/{gone[0][1]} was taken over while this worker was away, "
                "and this one was fenced; it stops and joins the group again"
            )

    def _transactional_ids(self) -> list[str]:
        return [str(producer.transactional_id) for producer in self._changelogs]

    async def let_go(self, keep: Collection[Partition]) -> None:
        """Tell whoever comes next that nothing of ours writes changelogs any more, but for those of `keep`."""
        if not (gone := sorted(self._to_let_go.difference(keep))):
            return
        ids = self._transactional_ids()
        try:
            async with asyncio.timeout(LET_GO_S_MAX), self._taking_turn:
                await self._taking.run(
                    f"letting go of {len(gone)} partitions",
                    lambda connection: let_go(connection, self.settings.app_version, ids, gone),
                )
        except TimeoutError:
            log.warning("Postgres does not answer: whoever takes over %d partitions fences this worker", len(gone))
        else:
            self._to_let_go.difference_update(gone)
            self._named.difference_update(gone)

    async def skip(self, partition: Partition, epoch: int, from_offset: int, to_offset: int) -> None:
        """Pass over what an owned source partition's retention has deleted, and count it, in Postgres and here."""
        async with self._taking_turn:
            await self._taking.run(
                f"passing over what {partition.topic}/{partition.partition} has deleted",
                lambda connection: skip(
                    connection,
                    self.settings.app_version,
                    *partition,
                    epoch=epoch,
                    from_offset=from_offset,
                    to_offset=to_offset,
                ),
            )
        self.metrics.gap.labels(partition.topic).inc(to_offset - from_offset)

    async def start(self, fail: Callable[[BaseException], None]) -> None:
        """Connect what every stage needs; `fail` is told of an error that nobody awaits."""
        try:
            await require_topics(self.cluster, topic_specs(self.settings))
        except KafkaConnectionError as error:
            raise ServiceError(
                f"expected Kafka at {self.settings.bootstrap_servers}; {await self.cluster.refusal()}. Check the "
                "address, the security settings, and that the brokers run"
            ) from error
        await asyncio.gather(*(producer.start() for producer in (*self._outgoing, *self._changelogs)))
        await self.definitions.start(fail)

    async def stop(self) -> None:
        """Disconnect."""
        await self.definitions.stop()
        await asyncio.gather(*(producer.stop() for producer in (*self._outgoing, *self._changelogs)))
        try:
            async with asyncio.timeout(CLOSE_S_MAX):
                await asyncio.gather(*(database.close() for database in self._databases))
        except TimeoutError:
            log.info("Postgres does not answer; its connections are cut")


def now_ms() -> int:
    """The worker's clock, in milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key on a topic of our own. Not Kafka's murmur2: nobody else writes these topics."""
    return xxhash.xxh3_64_intdigest(key) % partitions

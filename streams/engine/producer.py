"""Producing in runs of record batches, every delivery awaited.

aiokafka 0.14's `send` makes a future a record and gives up silently on a flush that takes long; `create_batch` and
`send_batch` make one future a batch. A topic-partition has one sending task at a time here, so that its records
keep the order in which they were handed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

from aiokafka import AIOKafkaProducer
from aiokafka.errors import OutOfOrderSequenceNumber, ProducerFenced
from aiokafka.producer import sender

from contracts.errors import FencedError
from streams.engine import crash_points
from streams.engine.cluster import entirely
from streams.native import native

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streams.engine.cluster import Cluster

BATCH_BYTES_MAX: Final = 512 * 1024
"""Size of a record batch. Large batches are cheaper for the broker and compress better; two of them stay below
Kafka's default `message.max.bytes` of 1 MiB."""

REQUEST_BYTES_MAX: Final = 16 * 1024 * 1024
"""A single record may be larger than a batch: a source message of the largest size that is let in, with headers."""

TRANSACTION_TIMEOUT_MS: Final = 60_000
"""A transaction left open by a killed worker holds up readers of its partitions for so long at most; a successor
aborts it at once when it takes one of the partitions over."""


MARKERS_S: Final = 0.003
"""How long to wait where a transaction begins before the broker has written the markers of the one before it, and then
again: they take some milliseconds. aiokafka's 20 ms are longer than a whole cycle."""


class Outgoing(NamedTuple):
    """One record to send: to where, what, and its time in milliseconds."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: list[tuple[str, bytes]] = []  # noqa: RUF012  never changed; aiokafka takes a list alone


Content = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes]]]
"""One record without its place: time in milliseconds, key, value, headers. A plain tuple, since an `Outgoing` takes as
long to make as a record takes to send."""

Delivered = Callable[[tuple[str, int], int, int, Callable[[], bytes]], None]
"""Told of each record batch that is acknowledged: to where, the offset of its first record, how many it has, and what
returns the bytes that were sent."""

Runs = Mapping[tuple[str, int], Sequence[Content]]
"""What goes to each topic-partition, in order: lists, or `tidemark_native.Run`s, which are encoded already."""

CREATE_TIME: Final = 0
"""The timestamp type of a record that has the time which its sender gave it (`message.timestamp.type`)."""

NO_HEADERS: Final[list[tuple[str, bytes]]] = []
"""Never changed; aiokafka takes a list alone."""


def runs_of(records: Iterable[Outgoing]) -> Runs:
    """Sort records by where they go."""
    runs: dict[tuple[str, int], list[Content]] = {}
    for topic, partition, key, value, timestamp_ms, headers in records:
        runs.setdefault((topic, partition), []).append((timestamp_ms, key, value, headers))
    return runs


def begin_transactions_soon() -> None:
    """Have aiokafka wait `MARKERS_S`, in this process."""
    sender.BACKOFF_OVERRIDE = MARKERS_S


def batches(create_batch: Callable[[], Any], run: Sequence[Content]) -> Iterator[Any]:
    """Fill as many of aiokafka's own batches with a run's records as they need."""
    batch, count = create_batch(), 0
    # `BatchBuilder.append` costs as much as the compiled one below it, and adds the count alone.
    append = batch._builder.append  # noqa: SLF001
    for timestamp_ms, key, value, headers in run:
        if append(count, timestamp_ms, key, value, headers) is None:
            batch._relative_offset = count  # noqa: SLF001
            yield batch
            batch, count = create_batch(), 0
            append = batch._builder.append  # noqa: SLF001
            append(count, timestamp_ms, key, value, headers)
        count += 1
    batch._relative_offset = count  # noqa: SLF001
    yield batch


class BatchProducer:
    """An idempotent producer that sends runs of records and returns once all of them are acknowledged."""

    def __init__(
        self, cluster: Cluster, *, transactional_id: str | None = None, compression: Literal["zstd"] | None = None
    ) -> None:
        self.transactional_id = transactional_id
        self._compression = compression
        self._native = native(cluster.settings)
        self._options: dict[str, Any] = {
            **cluster.client_options,
            "acks": "all",
            "enable_idempotence": True,
            "transactional_id": transactional_id,
            "transaction_timeout_ms": TRANSACTION_TIMEOUT_MS,
            "compression_type": compression,
            "max_batch_size": BATCH_BYTES_MAX,
            "max_request_size": REQUEST_BYTES_MAX,
            "linger_ms": 0,
        }
        self._locks: dict[tuple[str, int], asyncio.Lock] = {}
        self.on_delivered: Delivered | None = None
        self._producer: AIOKafkaProducer

    async def start(self) -> None:
        """Connect; a transactional producer fences every older one of the same id, and aborts what it left open."""
        self._producer = AIOKafkaProducer(**self._options)
        try:
            await entirely(self._producer.start())
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close the connections. What was sent has been acknowledged already."""
        await entirely(self._producer.stop())

    def run_of(self, timestamp_ms: int, pairs: Iterable[tuple[bytes, bytes | None]]) -> Sequence[Content]:
        """A run of keys and values, all of one time and without headers."""
        if self._native is None:
            return [(timestamp_ms, key, value, NO_HEADERS) for key, value in pairs]
        return cast("Sequence[Content]", self._native.Run.of_pairs(BATCH_BYTES_MAX, timestamp_ms, pairs))

    async def send(self, records: Iterable[Outgoing]) -> dict[tuple[str, int], int]:
        """Send `records` as `send_runs` does."""
        return await self.send_runs(runs_of(records))

    async def send_runs(self, runs: Runs) -> dict[tuple[str, int], int]:
        """Send `runs`, in order within each topic-partition; returns when every record is acknowledged.

        Returns the offset after the last record, for each topic-partition.
        """
        async with asyncio.TaskGroup() as group:
            tasks = {to: group.create_task(self._send_run(to, run)) for to, run in runs.items() if run}
        return {to: task.result() for to, task in tasks.items()}

    async def _send_run(self, to: tuple[str, int], run: Sequence[Content]) -> int:
        topic, partition = to
        end = 0
        async with self._locks.setdefault(to, asyncio.Lock()):
            sent = [
                (batch, await self._producer.send_batch(batch, topic, partition=partition))
                for batch in self._batches(run)
            ]
            for batch, delivery in sent:
                delivered = await delivery
                end = delivered.offset + batch.record_count()
                # Not where the broker has its own idea of their time, or says of a repetition only that it has it.
                if self.on_delivered and delivered.timestamp_type == CREATE_TIME and delivered.offset >= 0:
                    self.on_delivered(to, delivered.offset, batch.record_count(), batch._build)  # noqa: SLF001
        return end

    def _batches(self, run: Sequence[Content]) -> Iterable[Any]:
        """A run's records in batches, of the kind that `send_batch` takes."""
        if self._native is None:
            return batches(self._producer.create_batch, run)
        encoded = run if isinstance(run, self._native.Run) else self._native.Run(BATCH_BYTES_MAX, run)
        is_transactional = self.transactional_id is not None
        return cast("Iterable[Any]", encoded.batches(self._compression == "zstd", is_transactional))

    async def transact(self, records: Iterable[Outgoing]) -> dict[tuple[str, int], int]:
        """Send `records` as `transact_runs` does."""
        return await self.transact_runs(runs_of(records))

    async def transact_runs(self, runs: Runs) -> dict[tuple[str, int], int]:
        """Send `runs` in one transaction and commit it; returns as `send_runs` does.

        Raises FencedError when another worker has taken one of the partitions: nothing of it will be visible.
        """
        try:
            await self._producer.begin_transaction()
            positions = await self.send_runs(runs)
            crash_points.reached("transaction")
            await self._producer.commit_transaction()
        except* (ProducerFenced, OutOfOrderSequenceNumber) as group:
            fenced = group
        else:
            return positions
        # Raised here, for an error raised above would come in a group.
        msg = (
            f"transactional id {self.transactional_id!r} was fenced by another worker, which has taken a partition of "
            f"this one over, or a transaction was open for {TRANSACTION_TIMEOUT_MS // 1000} s; this worker stops and "
            "joins the group again"
        )
        raise FencedError(msg) from fenced


async def fence(cluster: Cluster, transactional_id: str) -> None:
    """Have the broker refuse whoever writes under this id, from now on; what he has begun is taken back.

    On return nothing of his can appear any more, nor is anything of his undecided.
    """
    producer = BatchProducer(cluster, transactional_id=transactional_id)
    await producer.start()
    await producer.stop()

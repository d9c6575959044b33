"""Records as a fetch decodes them, a record batch at a time, without the copy that aiokafka makes of each.

aiokafka 0.14 builds a frozen dataclass of eleven fields a record and goes through two iterators and a comparison for
it (`aiokafka/consumer/fetcher.py`, `PartitionRecords` and `FetchResult.getall`), which costs several times what
decoding does; every message is fetched twice here, from its source and from the leaves topic.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import xxhash
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords

from contracts.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Sequence

_OFFSET_OF: Final = attrgetter("offset")

_BASE_OFFSET: Final = struct.Struct(">q")
"""What a record batch begins with: the one thing in it that its sender does not know, and its checksum leaves out."""


class Record(Protocol):
    """One record of a batch, whose topic and partition are known from the batch."""

    @property
    def offset(self) -> int:
        """Its place in its partition."""

    @property
    def timestamp(self) -> int:
        """Kafka's time, in milliseconds since 1970-01-01 UTC."""

    @property
    def key(self) -> Any:  # noqa: ANN401  which of the two, a topic's readers know
        """Bytes, or None."""

    @property
    def value(self) -> Any:  # noqa: ANN401  which of the two, a topic's readers know
        """Bytes, or None, which is a tombstone."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Headers in their order."""


def joined(records: Sequence[Record], others: Sequence[Record]) -> Sequence[Record]:
    """Records, and others behind them."""
    if not records:
        return others
    if type(records) is not type(others):  # batches of old and of newer formats in one fetch
        return [*records, *others]
    return cast("Sequence[Record]", cast("Any", records) + others)


def records_from(records: Sequence[Record], offset: int) -> Sequence[Record]:
    """Those at `offset` and behind it."""
    if not records or records[0].offset >= offset:
        return records
    return records[bisect_left(records, offset, key=_OFFSET_OF) :]


def records_at(offset: int, batch: bytes) -> Sequence[Record]:
    """The records of a batch that was sent, and that the log holds from `offset` on, as a fetch would decode them."""
    return _records(fetcher.MemoryRecords(_BASE_OFFSET.pack(offset) + batch[_BASE_OFFSET.size :]).next_batch())


def _records(batch: Any) -> Sequence[Record]:  # noqa: ANN401  aiokafka is untyped
    return batch.records() if hasattr(batch, "records") else [*batch]


def foreign(what: str, record: Record, error: Exception | str) -> InternalError:
    """The error for a record of an internal topic that no Tidemark of this version has written; `what` was expected."""
    return InternalError(
        f"expected {what} at offset {record.offset}; came a record that cannot be read: {error}. Only Tidemark of "
        "this version may write to its topics. A rebuild under another app_version is the way out"
    )


def checksum(record: Record) -> int:
    """A signed 64-bit checksum of a record's key and value."""
    digest = xxhash.xxh3_64(record.key or b"")
    digest.update(b"\0")
    digest.update(record.value or b"")
    return int.from_bytes(digest.digest(), signed=True)


class DecodedRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka is untyped
    """The records of one fetched partition, each handed on as it was decoded: a `Record`."""

    def __init__(self, *args: Any) -> None:  # noqa: ANN401  aiokafka's own
        super().__init__(*args)
        self._decoded: Sequence[Record] = ()
        """What is left of the batch that was decoded last."""
        self._next_batch_offset: int = self.next_fetch_offset

    def take(self, at_most: int | None) -> tuple[Sequence[Record], bool]:
        """The next records, and whether there are more. Moves `next_fetch_offset` past what it returns."""
        taken: Sequence[Record] = ()
        while at_most is None or len(taken) < at_most:
            if not self._decoded:
                # Also where a batch holds none: markers, aborted transactions, what compaction left.
                self.next_fetch_offset = self._next_batch_offset
                if not self._records.has_next():
                    # aiokafka's own iterator and this object hold each other, and with them what was fetched.
                    self._records_iterator.close()
                    return taken, False
                self._decoded = self._decode_batch(self._records.next_batch())
                continue
            room = len(self._decoded) if at_most is None else at_most - len(taken)
            taken = joined(taken, self._decoded[:room])
            self._decoded = self._decoded[room:]
            self.next_fetch_offset = taken[-1].offset + 1 if self._decoded else self._next_batch_offset
        return taken, True

    def _decode_batch(self, batch: Any) -> Sequence[Record]:  # noqa: ANN401  aiokafka is untyped
        """Decode a batch as `_unpack_records` does: none of a control batch, nor of an aborted transaction."""
        if self._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(f"Invalid CRC - {self._tp}")
        self._next_batch_offset = batch.next_offset
        if self._isolation_level == fetcher.READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return ()
        if batch.is_control_batch:
            return ()
        # A fetch from the middle of a batch brings the whole of it.
        return records_from(_records(batch), self.next_fetch_offset)


class DecodedResult(fetcher.FetchResult):  # type: ignore[misc]  # aiokafka is untyped
    """What a fetch brought of one partition, handed on a run of records at a time."""

    _partition_records: DecodedRecords | None

    def getall(self, max_records: int | None = None) -> Sequence[Record]:
        """Return at most so many records, and move the consumer's position past them."""
        if not self.check_assignment(self._topic_partition) or self._partition_records is None:
            return ()
        records, has_more = self._partition_records.take(max_records)
        self._update_position()
        if not has_more:
            self._partition_records = None
        return records


def hand_on_decoded_records(compiled: Any) -> None:  # noqa: ANN401  as `native` returns it
    """Have `getmany` of every consumer of this process hand out `Record`s; `getone` is as it was.

    Batches are decoded by the compiled hot path, or where it is None by aiokafka.
    """
    fetcher.MemoryRecords = MemoryRecords if compiled is None else compiled.Fetched
    fetcher.PartitionRecords = DecodedRecords
    fetcher.FetchResult = DecodedResult

"""Records as a fetch decodes them, without the copy that aiokafka makes of each for its callers.

aiokafka 0.14 builds a frozen dataclass of eleven fields a record (`aiokafka/consumer/fetcher.py`,
`PartitionRecords._consumer_record`), which costs more than decoding it; every message is fetched twice here, from its
source and from the leaves topic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import xxhash
from aiokafka.consumer import fetcher

from contracts.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


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

    def __iter__(self) -> Iterator[Record]:
        """Iterate without a call of `__next__` a record."""
        records: Iterator[Record] = self._records_iterator
        return records

    def _consumer_record(self, tp: Any, record: Record) -> Record:  # noqa: ANN401, ARG002  aiokafka's signature
        return record


def hand_on_decoded_records() -> None:
    """Have every consumer of this process hand out `Record`s."""
    fetcher.PartitionRecords = DecodedRecords

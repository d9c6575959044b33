"""Kafka as logs in lists: topics that anyone appends to, and changelogs that only a partition's owner may write."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from tables.positions import APPLIED, decode_position

if TYPE_CHECKING:
    from streams.engine.producer import Outgoing

Partition = tuple[str, int]


class LogRecord(NamedTuple):
    """One record of a topic (`streams.engine.records.Record`)."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class Transaction(NamedTuple):
    """What one cycle logs of one partition: encoded records, S among them, and the messages seen."""

    pairs: list[tuple[bytes, bytes | None]]
    seen: dict[bytes, int]


class ProducerFencedError(Exception):
    """Another worker has begun to write this changelog."""


class Kafka:
    """All topics, and the changelog of each partition with state."""

    def __init__(self) -> None:
        self.logs: dict[Partition, list[LogRecord]] = defaultdict(list)
        self.changelogs: dict[Partition, list[Transaction]] = defaultdict(list)
        self._writers: dict[Partition, int] = defaultdict(int)

    def append(self, record: Outgoing) -> int:
        """Append a record to its topic; returns its offset."""
        log = self.logs[record.topic, record.partition]
        log.append(LogRecord(len(log), record.timestamp_ms, record.key, record.value, record.headers))
        return len(log) - 1

    def new_writer(self, partition: Partition) -> int:
        """Start a transactional producer: all older ones are fenced."""
        self._writers[partition] += 1
        return self._writers[partition]

    def transact(self, partition: Partition, writer: int, transaction: Transaction) -> int:
        """Append to a changelog; returns the position reached."""
        if writer != self._writers[partition]:
            raise ProducerFencedError(f"{partition}: writer {writer} of {self._writers[partition]}")
        self.changelogs[partition].append(transaction)
        return len(self.changelogs[partition])


class Store:
    """One partition's local store: what was applied of its changelog, up to a position."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self.seen: dict[bytes, int] = {}
        self.position = 0

    def apply(self, transaction: Transaction, position: int) -> None:
        """Write what a cycle has logged, in one go."""
        for key, record in transaction.pairs:
            if record is None:
                self.records.pop(key, None)
            else:
                self.records[key] = record
        self.seen.update(transaction.seen)
        self.position = position

    def restore(self, changelog: list[Transaction]) -> None:
        """Catch up with the end of the changelog."""
        for position in range(self.position, len(changelog)):
            self.apply(changelog[position], position + 1)

    @property
    def applied(self) -> int:
        """S."""
        return decode_position(self.records.get(APPLIED)) or 0

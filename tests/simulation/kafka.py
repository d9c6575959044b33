"""Kafka as logs in lists: topics that anyone appends to, and changelogs that are written in transactions."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from tables.positions import APPLIED, decode_position

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    """Another worker has fenced this producer."""


class Kafka:
    """All topics, and the changelog of each partition with state."""

    def __init__(self) -> None:
        self.logs: dict[Partition, list[LogRecord]] = defaultdict(list)
        self.changelogs: dict[Partition, list[Transaction]] = defaultdict(list)
        self._writers = 0
        self._fenced: set[int] = set()

    def append(self, record: Outgoing) -> int:
        """Append a record to its topic; returns its offset."""
        log = self.logs[record.topic, record.partition]
        log.append(LogRecord(len(log), record.timestamp_ms, record.key, record.value, record.headers))
        return len(log) - 1

    def new_writer(self) -> int:
        """Start a transactional producer under an id that nobody else has."""
        self._writers += 1
        return self._writers

    def fence(self, writer: int) -> None:
        """Refuse this producer from now on."""
        self._fenced.add(writer)

    def transact(self, writer: int, transactions: Mapping[Partition, Transaction]) -> dict[Partition, int]:
        """Append to all of these changelogs, or to none; returns the positions reached."""
        if writer in self._fenced:
            raise ProducerFencedError(f"writer {writer} of {[*transactions]}")
        for partition, transaction in transactions.items():
            self.changelogs[partition].append(transaction)
        return {partition: len(self.changelogs[partition]) for partition in transactions}


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

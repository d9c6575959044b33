"""What travels inside the engine: fetched batches, and partitions as keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.engine.records import Record


class Partition(NamedTuple):
    """A topic's partition. Equal to, and hashed like, Faust's `TP` and aiokafka's `TopicPartition`."""

    topic: str
    partition: int


class Arrived(NamedTuple):
    """A fetched batch of one partition. Those of a topic are the value of one Faust event."""

    topic: str
    partition: int
    generation: int
    """Generation of the consumer group in which it was fetched; of another one it is stale."""
    records: Sequence[Record]
    """In order of offset, at least one."""

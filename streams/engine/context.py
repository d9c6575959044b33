"""What every handler of a worker shares."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import xxhash

if TYPE_CHECKING:
    from pathlib import Path

    from sinks.postgres.definitions import DefinitionsStore

    from contracts.settings import Settings
    from domain.identity import Rules
    from sinks.postgres.database import Database
    from streams.engine.cluster import Cluster
    from streams.engine.producer import BatchProducer


@dataclass(frozen=True, slots=True)
class Context:
    """The worker's connections, rules and clock."""

    settings: Settings
    rules: Rules
    cluster: Cluster
    database: Database
    definitions: DefinitionsStore
    outgoing: BatchProducer
    """Sends what goes to other stages and other workers."""
    state_dir: Path
    """Where the partition stores of this worker live."""
    worker: str
    """Name of this worker, shown with the partitions that it owns."""


def now_ms() -> int:
    """The worker's clock, in milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key on a topic of our own. Not Kafka's murmur2: nobody else writes these topics."""
    return xxhash.xxh3_64_intdigest(key) % partitions

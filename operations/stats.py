"""What became of the records that were read, and what is still to be read."""

from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition

from contracts.settings import Settings
from sinks.postgres.database import Connection
from sinks.postgres.progress import Progress, read_progress
from sinks.postgres.queries import Stats, stats
from streams.engine.cluster import Bounds, Cluster, bounds, partition_counts

Lag = dict[str, dict[int, int]]
"""Records that are written and not yet processed, by topic and partition. Transaction markers count as well."""


@dataclass(frozen=True, slots=True)
class Report:
    """`tidemark stats`: counters (SEMANTICS S12) and lag."""

    counts: Stats
    lag: Lag

    def to_builtins(self) -> dict[str, Any]:
        """Plain values, as `tidemark stats --json` prints them."""
        return {
            "read": self.counts.read,
            "applied": self.counts.applied,
            "duplicate": self.counts.duplicate,
            "in_flight": self.counts.in_flight,
            "gap": self.counts.gap,
            "quarantined": self.counts.quarantined,
            "warnings": self.counts.warnings,
            "lag": self.lag,
        }


async def read_report(settings: Settings, connection: Connection) -> Report:
    """Read counters and lag. The lag is of a moment later than the counters."""
    counts = await stats(connection, settings.app_version)
    topics = (*settings.source_topics, settings.leaves_topic, settings.companies_topic, settings.quarantine_topic)
    limits = await topic_limits(Cluster(settings), topics)
    return Report(counts, lag_of(limits, await read_progress(connection, settings.app_version)))


async def topic_limits(cluster: Cluster, topics: tuple[str, ...]) -> dict[TopicPartition, Bounds]:
    """First and next committed offset of every partition of the topics that exist."""
    async with cluster.admin() as admin:
        counts = await partition_counts(admin, topics)
    async with cluster.consumer() as consumer:
        return await bounds(
            consumer, [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]
        )


def position(progress: dict[tuple[str, int], Progress], partition: TopicPartition, limits: Bounds) -> int:
    """The offset up to which a partition's rows are in Postgres; its start where there is no progress yet."""
    row = progress.get((partition.topic, partition.partition))
    return limits.start if row is None or row.next_offset is None else row.next_offset


def lag_of(limits: dict[TopicPartition, Bounds], progress: dict[tuple[str, int], Progress]) -> Lag:
    """How far each partition's progress is behind its end."""
    lag: Lag = {}
    for partition, bound in sorted(limits.items()):
        behind = max(0, bound.end - position(progress, partition, bound))
        lag.setdefault(partition.topic, {})[partition.partition] = behind
    return lag

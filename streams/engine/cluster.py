"""Where the Kafka cluster is, how to log in, and what its topics hold: the small questions asked outside a group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from contracts.errors import ServiceError
from streams.security import aiokafka_security

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contracts.settings import Settings


class Bounds(NamedTuple):
    """The offsets that a partition holds: `start` is the first one, `end` the one that will be written next."""

    start: int
    end: int


class Cluster:
    """A Kafka cluster, as the settings name it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client_options: dict[str, Any] = {
            "bootstrap_servers": settings.bootstrap_servers,
            "client_id": settings.app_id,
            **aiokafka_security(settings),
        }

    def consumer(self, **options: Any) -> AIOKafkaConsumer:  # noqa: ANN401  aiokafka's own options
        """A consumer without a group, which reads only what was committed."""
        return AIOKafkaConsumer(
            **self.client_options,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            **options,
        )

    def admin(self) -> AIOKafkaAdminClient:
        """An admin client."""
        return AIOKafkaAdminClient(**self.client_options)


async def partition_counts(admin: AIOKafkaAdminClient, topics: Iterable[str]) -> dict[str, int]:
    """Number of partitions of each of `topics` that exists."""
    described = await admin.describe_topics(list(topics))
    return {topic["topic"]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}


async def partitions_of(cluster: Cluster, topic: str) -> int:
    """Number of partitions of one of our topics. Raises ServiceError where it does not exist."""
    admin = cluster.admin()
    await admin.start()
    try:
        counts = await partition_counts(admin, [topic])
    finally:
        await admin.close()
    if topic not in counts:
        raise ServiceError(
            f"expected topic {topic} to exist; it does not. See that app_version is that of the workers, or run "
            "tidemark topics create."
        )
    return counts[topic]


async def bounds(consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Bounds]:
    """First and next committed offset of each partition."""
    wanted = list(partitions)
    starts = await consumer.beginning_offsets(wanted)
    ends = await consumer.end_offsets(wanted)
    return {partition: Bounds(starts[partition], ends[partition]) for partition in wanted}

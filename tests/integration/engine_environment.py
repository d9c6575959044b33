"""Topics on a real Kafka for the tests of the engine's parts, and all that they hold."""

import secrets
from collections.abc import Iterable

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.structs import ConsumerRecord

from contracts.settings import Settings
from streams.engine.cluster import Cluster, bounds
from streams.engine.producer import Outgoing
from streams.topics import TopicSpec, create_topics
from tests.services import delete_topics, run_apart

TIME_MS = 1_795_000_000_000
POLL_MS = 200


class Topics:
    """Topics with a token of this test in their names."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.token = secrets.token_hex(6)
        self.cluster = Cluster(Settings(bootstrap_servers=bootstrap_servers, app_version=f"t{self.token}"))

    def name(self, name: str) -> str:
        return f"{name}-{self.token}"

    async def create(self, name: str, partitions: int = 1, **configs: str) -> str:
        topic = self.name(name)
        settings = {key.replace("_", "."): value for key, value in configs.items()}
        await create_topics(self.cluster, [TopicSpec(topic, "changelog", partitions, 1, settings, "none")])
        return topic

    async def recreate(self, topic: str, partitions: int = 1) -> None:
        async with self.cluster.admin() as admin:
            await admin.delete_topics([topic])
            for _ in range(600):
                if topic not in await admin.list_topics():
                    break
            await admin.create_topics([NewTopic(topic, partitions, 1)])
        await create_topics(self.cluster, [TopicSpec(topic, "changelog", partitions, 1, {}, "none")])

    async def read(self, topic: str, partition: int = 0) -> list[ConsumerRecord]:
        """Everything committed in a partition, up to its end."""
        records: list[ConsumerRecord] = []
        async with self.cluster.consumer() as consumer:
            tp = TopicPartition(topic, partition)
            limits = (await bounds(consumer, [tp]))[tp]
            consumer.assign([tp])
            consumer.seek(tp, limits.start)
            while await consumer.position(tp) < limits.end:
                for batch in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                    records += batch
        return records


def outgoing(topic: str, values: Iterable[bytes | None], partition: int = 0) -> list[Outgoing]:
    return [Outgoing(topic, partition, value or b"gone", value, TIME_MS + n) for n, value in enumerate(values)]


@pytest.fixture
def topics(kafka):
    made = Topics(kafka)
    yield made
    run_apart(delete_topics(kafka, made.token))

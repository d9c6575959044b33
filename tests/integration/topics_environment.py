"""Topics that are recreated, cut and filled by hand."""

import asyncio
from collections.abc import Mapping

from aiokafka import TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete

from contracts.settings import Settings
from operations.stats import topic_limits
from streams.engine.cluster import Cluster
from streams.engine.producer import BatchProducer, Outgoing
from streams.topics import create_topics, topic_specs


async def recreate(settings: Settings, topic: str) -> None:
    """Delete a topic and make it again, empty, with as many partitions."""
    (spec,) = [spec for spec in topic_specs(settings) if spec.name == topic]
    async with Cluster(settings).admin() as admin:
        await admin.delete_topics([topic])
        async with asyncio.timeout(30):
            while topic in await admin.list_topics():  # noqa: ASYNC110  Kafka does not tell
                await asyncio.sleep(0.1)
        await admin.create_topics([NewTopic(topic, spec.partitions, 1, topic_configs=dict(spec.configs))])
    await create_topics(Cluster(settings), topic_specs(settings))


async def cut(settings: Settings, topic: str, before: Mapping[int, int]) -> None:
    """Delete the records before an offset of each partition told, as the topic's retention would."""
    async with Cluster(settings).admin() as admin:
        await admin.delete_records(
            {TopicPartition(topic, number): RecordsToDelete(before_offset=offset) for number, offset in before.items()}
        )


async def ends(settings: Settings, topic: str) -> dict[int, int]:
    """The end of each partition of a topic."""
    return {tp.partition: limits.end for tp, limits in (await topic_limits(Cluster(settings), (topic,))).items()}


async def fill(settings: Settings, topic: str, partitions: int, count: int) -> None:
    """Put records into each partition."""
    producer = BatchProducer(Cluster(settings))
    await producer.start()
    try:
        await producer.send(
            Outgoing(topic, partition, b"k", b"something else %d" % n, 1_795_000_000_000)
            for partition in range(partitions)
            for n in range(count)
        )
    finally:
        await producer.stop()

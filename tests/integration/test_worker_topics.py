"""Topics that are recreated under a worker: noticed and told, nothing is skipped silently (SEMANTICS S12)."""

import asyncio

from aiokafka.admin import NewTopic

from contracts.settings import Settings
from streams.engine.cluster import Cluster
from streams.engine.producer import BatchProducer, Outgoing
from streams.topics import create_topics, topic_specs
from tests.acceptance.pipeline import Pipeline, pipeline
from tests.integration.worker_environment import sample, settled, stop_all, until

FAILED = 70


async def recreate(settings: Settings, topic: str) -> None:
    """Delete a topic and make it again, empty, with as many partitions."""
    cluster = Cluster(settings)
    (spec,) = [spec for spec in topic_specs(settings) if spec.name == topic]
    admin = cluster.admin()
    await admin.start()
    try:
        await admin.delete_topics([topic])
        async with asyncio.timeout(30):
            while topic in await admin.list_topics():  # noqa: ASYNC110  Kafka does not tell
                await asyncio.sleep(0.1)
        await admin.create_topics([NewTopic(topic, spec.partitions, 1, topic_configs=dict(spec.configs))])
    finally:
        await admin.close()
    await create_topics(cluster, topic_specs(settings))


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


async def ended(running: Pipeline, worker: str) -> str:
    """Wait for a worker to end by itself; returns its log."""

    async def is_over() -> bool:
        return running.workers[worker].poll() is not None

    await until(is_over, f"{worker} to end")
    assert running.workers.pop(worker).returncode == FAILED
    return running.log(worker)


async def test_a_leaves_topic_that_is_recreated_is_refused(settings: Settings) -> None:
    values = sample()[:1000]
    async with pipeline(settings) as running:
        running.start("a")
        await running.load(values)
        await settled(running)
        await recreate(settings, settings.leaves_topic)
        refused = "it was recreated, cut or restored from elsewhere, and nothing is skipped silently"
        assert refused in await ended(running, "a")
        running.start("b")
        assert refused in await ended(running, "b")
        # Also where it has grown beyond the position since.
        await fill(settings, settings.leaves_topic, settings.leaves_partitions, 2000)
        running.start("c")
        log = await ended(running, "c")
        assert "is not the one that was read there" in log
        assert settings.leaves_topic in log


async def test_a_source_topic_that_is_recreated_is_refused(settings: Settings) -> None:
    values = sample()[:300]
    async with pipeline(settings) as running:
        running.start("a")
        await running.load(values)
        await settled(running)
        stop_all(running)
        source = settings.source_topics[0]
        await recreate(settings, source)
        await fill(settings, source, settings.source_partitions, 500)
        running.start("b")
        assert "is not the one that was read there" in await ended(running, "b")

"""Source topics that are written by transactions: holes between their records, and at their ends (SEMANTICS S12)."""

import random

from aiokafka import TopicPartition

from contracts.settings import Settings
from streams.engine.cluster import Cluster, bounds
from streams.engine.producer import BatchProducer, Outgoing
from tests.acceptance.pipeline import Pipeline, pipeline
from tests.integration.worker_environment import WAIT_S, sample, stop_all, until_applied
from tests.oracle import Record, differences, recompute

SEED = 20_261_128


async def committed(running: Pipeline) -> list[Record]:
    """The records of the source topic that a transaction was committed with."""
    settings = running.settings
    records: list[Record] = []
    async with Cluster(settings).consumer() as consumer:
        tps = [TopicPartition(settings.source_topics[0], number) for number in range(settings.source_partitions)]
        limits = await bounds(consumer, tps)
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, 0)
        while any([await consumer.position(tp) < limits[tp].end for tp in tps]):
            for (topic, partition), batch in (await consumer.getmany(timeout_ms=200)).items():
                records += [Record(topic, partition, each.offset, each.timestamp, each.value) for each in batch]
    return records


async def test_transactions_committed_and_aborted(settings: Settings) -> None:
    rng = random.Random(SEED)
    values = sample()
    topic = settings.source_topics[0]

    def outgoing(chunk: list[bytes], at: int) -> list[Outgoing]:
        return [
            Outgoing(topic, rng.randrange(settings.source_partitions), None, value, 1_795_000_000_000 + at + n)
            for n, value in enumerate(chunk)
        ]

    async with pipeline(settings) as running:
        running.start("a")
        producer = BatchProducer(Cluster(settings), transactional_id=f"{topic}-writer")
        await producer.start()
        at = 0
        while at < len(values):
            chunk = values[at : at + rng.choice((1, 2, 5, 40, 300))]
            if rng.random() < 0.2:
                # Taken back, and made again.
                await producer._producer.begin_transaction()
                await producer.send(outgoing(chunk, at))
                await producer._producer.abort_transaction()
            await producer.transact(outgoing(chunk, at))
            at += len(chunk)
            if at > len(values) // 2 and "b" not in running.workers:
                await until_applied(running, 100)
                running.start("b")
        await producer.stop()
        await running.wait(WAIT_S)
        expected = recompute(await committed(running), claims=True)
        assert expected.read == len(values)
        assert differences(expected, await running.tables()) == []
        stats = await running.stats()
        assert (stats.read, stats.in_flight) == (len(values), 0)
        stop_all(running)

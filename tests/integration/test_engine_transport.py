"""The consumer's thread on a real Kafka: what it gives out is known, also where nobody takes it (SEMANTICS S12)."""

import asyncio
from types import SimpleNamespace

from faust.types import TP

from streams.engine.producer import BatchProducer
from streams.engine.transport import BatchConsumerThread
from tests.integration.engine_environment import Topics, outgoing, topics

__all__ = ["topics"]

WAIT_S = 30


def thread_without_worker() -> BatchConsumerThread:
    """A thread's methods, to be called here: it has neither an app nor a thread."""
    made = BatchConsumerThread.__new__(BatchConsumerThread)
    made.given = {}
    made.log = SimpleNamespace(dev=lambda *_: None)
    made.consumer = SimpleNamespace(flow_active=True, _read_offset={})
    made.app = SimpleNamespace(conf=SimpleNamespace(broker_request_timeout=WAIT_S))
    return made


async def test_a_fetch_that_outlives_a_seek_is_known_to_have_given_records_out(topics: Topics) -> None:
    topic = await topics.create("source")
    tp = TP(topic, 0)
    thread = thread_without_worker()
    producer = BatchProducer(topics.cluster)
    await producer.start()
    try:
        async with topics.cluster.consumer() as consumer:
            consumer.assign([tp])
            await thread._seek_wait(consumer, {tp: 0})
            # As a fetch that a rebalance has cut off: nobody will look at what it returns.
            cut_off = asyncio.create_task(thread._fetch_records(consumer, {tp}, timeout=WAIT_S))
            await asyncio.sleep(0)
            await thread._seek_wait(consumer, {tp: 0})
            await producer.send(outgoing(topic, [b"a", b"b", b"c"]))
            async with asyncio.timeout(WAIT_S):
                await cut_off
            assert await consumer.position(tp) == 3
            assert thread.given == {tp: 3}
            await thread._seek_wait(consumer, {tp: 0})
            assert thread.given == {}
            fetched = await thread._fetch_records(consumer, {tp}, timeout=WAIT_S)
            assert [record.offset for record in fetched[tp]] == [0, 1, 2]
    finally:
        await producer.stop()

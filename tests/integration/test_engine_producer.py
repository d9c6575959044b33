"""Producing in batches and in transactions, on a real Kafka."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from operator import attrgetter

import msgspec
import pytest
from aiokafka.errors import KafkaError

from contracts.errors import FencedError
from streams.engine.producer import BATCH_BYTES_MAX, BatchProducer, Outgoing
from streams.engine.records import records_at
from tests.integration.engine_environment import TIME_MS, Topics, outgoing, topics
from tests.twins import TWINS

__all__ = ["topics"]


@pytest.fixture(params=TWINS, autouse=True)
def twin(topics, request):
    """Every test here runs with the compiled hot path and without it."""
    choice = "on" if request.param else "off"
    topics.cluster.settings = msgspec.structs.replace(topics.cluster.settings, native=choice)


@contextlib.asynccontextmanager
async def producing(
    topics: Topics, transactional_id: str | None = None, **options: str
) -> AsyncIterator[BatchProducer]:
    name = None if transactional_id is None else topics.name(transactional_id)
    producer = BatchProducer(topics.cluster, transactional_id=name, **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def values(prefix: str, count: int) -> list[bytes]:
    return [f"{prefix}{n}".encode() for n in range(count)]


@pytest.mark.parametrize("compression", [None, "zstd"])
async def test_records_keep_their_order_within_a_partition(topics, compression):
    topic = await topics.create("sent", 3)
    big = [b"x" * 100_000 + str(n).encode() for n in range(20)]
    async with producing(topics, compression=compression) as producer:
        sent = [outgoing(topic, values("a", 500), 0), outgoing(topic, big, 1)]
        mixed = [each for pair in zip(*(run * (500 // len(run)) for run in sent), strict=True) for each in pair]
        assert await producer.send(mixed) == {(topic, 0): 500, (topic, 1): 500}
        assert await producer.send(outgoing(topic, values("b", 3), 2)) == {(topic, 2): 3}
        assert await producer.send(outgoing(topic, values("b", 2), 0)) == {(topic, 0): 502}
    assert [each.value for each in await topics.read(topic, 0)] == [*values("a", 500), *values("b", 2)]
    assert [each.value for each in await topics.read(topic, 1)] == big * 25
    assert [each.value for each in await topics.read(topic, 2)] == values("b", 3)


async def test_sending_side_by_side_keeps_each_run_whole(topics):
    topic = await topics.create("sent")
    runs = [[prefix.encode() + b"x" * 20_000 + str(n).encode() for n in range(60)] for prefix in "abc"]
    assert sum(map(len, runs[0])) > 2 * BATCH_BYTES_MAX
    async with producing(topics) as producer:
        ends = await asyncio.gather(*(producer.send(outgoing(topic, run)) for run in runs))
    read = [each.value for each in await topics.read(topic)]
    assert sorted(end[topic, 0] for end in ends) == [60, 120, 180]
    for run, end in zip(runs, ends, strict=True):
        assert read[end[topic, 0] - 60 : end[topic, 0]] == run


@pytest.mark.parametrize("compression", [None, "zstd"])
async def test_what_is_delivered_is_what_a_fetch_brings(topics, compression):
    topic = await topics.create("sent")
    large = [b"x" * 100_000 + str(n).encode() for n in range(20)]
    told = []
    async with producing(topics, compression=compression) as producer:
        await producer.send(outgoing(topic, values("before", 3)))
        producer.on_delivered = lambda to, offset, count, batch: told.append((to, count, records_at(offset, batch())))
        await producer.send(outgoing(topic, large))
        await producer.send([Outgoing(topic, 0, None, None, TIME_MS, [("name", b"value")])])
    assert len(told) > 2
    assert {to for to, _, _ in told} == {(topic, 0)}
    assert all(count == len(records) for _, count, records in told)
    parts = attrgetter("offset", "timestamp", "key", "value")
    came = [(*parts(record), [*record.headers]) for _, _, records in told for record in records]
    assert came == [(*parts(record), [*record.headers]) for record in (await topics.read(topic))[3:]]


async def test_a_topic_with_times_of_its_own_tells_nothing(topics):
    topic = await topics.create("sent", message_timestamp_type="LogAppendTime")
    told = []
    async with producing(topics) as producer:
        producer.on_delivered = lambda *delivered: told.append(delivered)
        assert await producer.send(outgoing(topic, values("a", 3))) == {(topic, 0): 3}
    assert told == []


async def test_a_run_of_pairs_has_one_time_and_no_headers(topics):
    topic = await topics.create("sent")
    pairs = [(b"a", b"1"), (b"b", None), (b"", b"")]
    async with producing(topics, "w") as producer:
        assert await producer.transact_runs({(topic, 0): producer.run_of(TIME_MS, pairs)}) == {(topic, 0): 3}
    read = await topics.read(topic)
    assert [(each.key, each.value) for each in read] == pairs
    assert {(each.timestamp, tuple(each.headers)) for each in read} == {(TIME_MS, ())}


async def test_what_a_record_carries(topics):
    topic = await topics.create("sent")
    sent = [
        Outgoing(topic, 0, None, None, TIME_MS),
        Outgoing(topic, 0, b"", b"", TIME_MS + 1, [("a", b""), ("a", b"2")]),
        Outgoing(topic, 0, b"key", b"value", 0, [("origin", bytes(range(256)))]),
    ]
    async with producing(topics) as producer:
        await producer.send(sent)
        assert await producer.send([]) == {}
    read = await topics.read(topic)
    assert [(each.key, each.value, each.timestamp, list(each.headers)) for each in read] == [
        (each.key, each.value, each.timestamp_ms, each.headers) for each in sent
    ]


async def test_a_record_larger_than_a_batch_goes_alone(topics):
    topic = await topics.create("sent", max_message_bytes="9000000")
    sent = [b"before", b"x" * (BATCH_BYTES_MAX * 3), b"between", b"y" * (BATCH_BYTES_MAX + 1), b"after"]
    async with producing(topics) as producer:
        assert await producer.send(outgoing(topic, sent)) == {(topic, 0): 5}
    assert [each.value for each in await topics.read(topic)] == sent


async def test_what_the_broker_refuses_is_raised(topics):
    topic = await topics.create("sent", max_message_bytes="1000")
    async with producing(topics) as producer:
        with pytest.raises(ExceptionGroup) as refused:
            await producer.send(outgoing(topic, [b"x" * 5000]))
    assert isinstance(refused.value.exceptions[0], KafkaError)


async def test_a_transaction_is_visible_as_a_whole(topics):
    one, two = await topics.create("one", 2), await topics.create("two")
    async with producing(topics, "w") as producer:
        ends = await producer.transact([*outgoing(one, values("a", 3), 1), *outgoing(two, values("a", 2))])
        assert ends == {(one, 1): 3, (two, 0): 2}
        # The marker of the first one takes an offset of its own.
        assert await producer.transact(outgoing(two, values("b", 2))) == {(two, 0): 5}
    assert [each.value for each in await topics.read(one, 1)] == values("a", 3)
    assert [(each.offset, each.value) for each in await topics.read(two)] == [
        (0, b"a0"),
        (1, b"a1"),
        (3, b"b0"),
        (4, b"b1"),
    ]


async def test_a_transaction_that_fails_leaves_nothing(topics):
    one, two = await topics.create("one"), await topics.create("two", max_message_bytes="1000")
    async with producing(topics, "w") as producer:
        await producer.transact(outgoing(one, [b"kept"]))
        with pytest.raises(ExceptionGroup):
            await producer.transact([*outgoing(one, values("a", 3)), *outgoing(two, [b"x" * 5000])])
    # What a killed worker leaves open is aborted by its successor.
    async with producing(topics, "w") as producer:
        assert [each.value for each in await topics.read(one)] == [b"kept"]
        await producer.transact([*outgoing(one, [b"next"]), *outgoing(two, [b"small"])])
    assert [each.value for each in await topics.read(one)] == [b"kept", b"next"]
    assert [each.value for each in await topics.read(two)] == [b"small"]


async def test_a_successor_fences_the_former_owner(topics):
    topic = await topics.create("log")
    async with producing(topics, "w") as former:
        await former.transact(outgoing(topic, [b"former"]))
        async with producing(topics, "w") as successor:
            with pytest.raises(FencedError, match="another worker"):
                await former.transact(outgoing(topic, [b"late"]))
            await successor.transact(outgoing(topic, [b"successor"]))
    assert [each.value for each in await topics.read(topic)] == [b"former", b"successor"]


async def test_a_successor_fences_in_the_midst_of_a_transaction(topics):
    topic = await topics.create("log")
    async with producing(topics, "w") as former:
        await former._producer.begin_transaction()
        await former.send(outgoing(topic, [b"half"]))
        async with producing(topics, "w") as successor:
            await successor.transact(outgoing(topic, [b"successor"]))
            with pytest.raises(KafkaError):
                await former._producer.commit_transaction()
    assert [each.value for each in await topics.read(topic)] == [b"successor"]


async def test_another_id_is_no_successor(topics):
    topic = await topics.create("log")
    async with producing(topics, "w-0") as one, producing(topics, "w-1") as other:
        await one.transact(outgoing(topic, [b"one"]))
        await other.transact(outgoing(topic, [b"other"]))
        await one.transact(outgoing(topic, [b"one again"]))
    assert [each.value for each in await topics.read(topic)] == [b"one", b"other", b"one again"]

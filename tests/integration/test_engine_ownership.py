"""Partitions with state that change hands, on a real Kafka and a real Postgres (SEMANTICS S4, S12)."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiokafka.errors import KafkaError

from contracts.errors import FencedError
from contracts.settings import Settings
from sinks.postgres.migration import migrate
from streams.agents.leaf import LeafHandler
from streams.engine import ownership
from streams.engine.batches import Partition
from streams.engine.cluster import Cluster
from streams.engine.context import Context
from streams.engine.producer import BatchProducer, Outgoing
from streams.topics import create_topics, topic_specs
from tables import leaves

WAIT_S = 60
NEVER_S = 100 * WAIT_S


class Worker:
    """The leaf stage of one worker, without its loop."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.settings = msgspec.structs.replace(settings, data_dir=settings.data_dir / name)
        self.context = Context(self.settings, name)
        self.handler = LeafHandler(self.context, self.context.metrics.stage("leaf"))
        self.owned: set[Partition] = set()

    @property
    def producer(self) -> BatchProducer:
        return self.handler._changelogs

    async def take_over(self, number: int) -> None:
        partition = Partition(self.settings.leaves_topic, number)
        async with asyncio.timeout(WAIT_S):
            await self.handler.take_over(partition)
        self.owned.add(partition)

    async def let_go(self, *numbers: int) -> None:
        """Let go of these partitions, as after a rebalance."""
        gone = {Partition(self.settings.leaves_topic, number) for number in numbers}
        self.owned -= gone
        await self.context.let_go(self.owned)
        for partition in gone:
            await self.handler.release(partition)

    def records(self, value: str, *numbers: int) -> list[Outgoing]:
        topic = self.settings.leaves_changelog
        return [Outgoing(topic, number, b"key", value.encode(), 0) for number in numbers]

    async def log(self, value: str, *numbers: int) -> None:
        await self.producer.transact(self.records(value, *numbers))

    def restored(self, number: int) -> bytes | None:
        """What a partition was restored to."""
        store = self.context.stores[Partition(self.settings.leaves_topic, number)]
        return store.get_many(leaves.FAMILY, [b"key"])[0]

    async def disconnect_postgres(self) -> None:
        """As the kernel does when a process has ended."""
        await asyncio.gather(*(database.close() for database in self.context._databases))


@contextlib.asynccontextmanager
async def working(settings: Settings, name: str) -> AsyncIterator[Worker]:
    worker = Worker(settings, name)
    await worker.context.start(pytest.fail)
    try:
        yield worker
    finally:
        for partition in worker.owned:
            await worker.handler.release(partition)
        await worker.context.stop()


@pytest.fixture
async def workers(settings: Settings) -> AsyncIterator[tuple[Worker, Worker]]:
    await migrate(settings.dsn, settings.schema)
    await create_topics(Cluster(settings), topic_specs(settings))
    async with working(settings, "a") as a, working(settings, "b") as b:
        yield a, b


async def test_who_has_let_go_is_not_fenced(workers, monkeypatch, caplog):
    monkeypatch.setattr(ownership, "LET_GO_S_MAX", NEVER_S)
    caplog.set_level(logging.INFO)
    a, b = workers
    await a.take_over(0)
    await a.take_over(1)
    await a.log("a", 0, 1)
    await a.let_go(1)
    await b.take_over(1)
    assert b.restored(1) == b"a"
    await b.log("b", 1)
    await a.log("a again", 0)
    await b.let_go(1)
    await a.take_over(1)
    assert a.restored(1) == b"b"
    await a.log("a", 0, 1)
    assert "fenced" not in caplog.text


async def test_who_lets_go_a_moment_later_is_waited_for(workers, monkeypatch, caplog):
    monkeypatch.setattr(ownership, "LET_GO_S_MAX", NEVER_S)
    caplog.set_level(logging.INFO)
    a, b = workers
    await a.take_over(0)
    await a.take_over(1)
    taking = asyncio.create_task(b.take_over(1))
    await asyncio.sleep(ownership.LOOK_AGAIN_S * 5)
    assert not taking.done()
    await a.log("a", 0, 1)
    await a.let_go(1)
    await taking
    assert b.restored(1) == b"a"
    await a.log("a again", 0)
    assert "fenced" not in caplog.text


async def test_who_was_stopped_in_a_transaction_is_refused_with_all_of_it(workers, caplog):
    """Of the partition that he keeps as well: whoever takes that one over finds what was committed before."""
    caplog.set_level(logging.INFO)
    a, b = workers
    await a.take_over(0)
    await a.take_over(1)
    await a.log("committed", 0, 1)
    await a.producer._producer.begin_transaction()
    await a.producer.send(a.records("late", 0, 1))
    await b.take_over(1)
    assert b.restored(1) == b"committed"
    await b.log("b", 1)
    assert caplog.text.count("fenced") == 1
    with pytest.raises(KafkaError):
        await a.producer._producer.commit_transaction()
    await b.take_over(0)
    assert b.restored(0) == b"committed"
    await b.log("b", 0, 1)
    # The same worker's id: once is enough.
    assert caplog.text.count("fenced") == 1


async def test_who_was_stopped_between_transactions_is_refused_with_the_next_one(workers):
    a, b = workers
    await a.take_over(0)
    await a.take_over(1)
    await b.take_over(1)
    with pytest.raises(FencedError, match="fenced by another worker"):
        await a.log("late", 0)
    await b.take_over(0)
    assert b.restored(0) is None


async def test_who_was_fenced_finds_out_at_the_next_rebalance(workers):
    a, b = workers
    await a.context.require_unfenced()
    await a.take_over(0)
    await a.take_over(1)
    await a.let_go(0)
    await b.take_over(0)
    await a.context.require_unfenced()
    await b.take_over(1)
    await b.let_go(1)
    with pytest.raises(FencedError, match="leaves/1 was taken over"):
        await a.context.require_unfenced()
    await b.context.require_unfenced()


async def test_who_was_killed_is_fenced_at_once(workers, monkeypatch):
    monkeypatch.setattr(ownership, "LET_GO_S_MAX", NEVER_S)
    a, b = workers
    await a.take_over(0)
    await a.producer._producer.begin_transaction()
    await a.producer.send(a.records("late", 0))
    await a.disconnect_postgres()
    await b.take_over(0)
    assert b.restored(0) is None
    with pytest.raises(KafkaError):
        await a.producer._producer.commit_transaction()


async def test_a_takeover_that_was_broken_off_lets_go_too(workers, monkeypatch, caplog):
    monkeypatch.setattr(ownership, "LET_GO_S_MAX", NEVER_S)
    caplog.set_level(logging.INFO)
    a, b = workers
    await a.take_over(0)

    async def broken_off(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(ownership, "restore", broken_off)
        with pytest.raises(asyncio.CancelledError):
            await a.take_over(1)
    await a.let_go()
    await b.take_over(1)
    await a.log("a", 0)
    assert "fenced" not in caplog.text


async def test_a_partition_that_comes_back_is_taken_without_a_fence(workers, monkeypatch):
    """Broken off after the epoch was taken, and given to the same worker again."""
    monkeypatch.setattr(ownership, "LET_GO_S_MAX", NEVER_S)
    a, _ = workers
    partition = Partition(a.settings.leaves_topic, 0)
    await a.context.take_changelogs(partition, a.producer.transactional_id)
    await a.take_over(0)
    await a.log("a", 0)

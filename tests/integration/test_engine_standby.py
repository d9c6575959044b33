"""Standbys on a real Kafka: they follow what owners commit, and give their stores away as they are."""

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec
import pytest

from streams.agents import state_tables
from streams.agents.state_tables import leaves_table
from streams.engine.batches import Partition
from streams.engine.context import Context
from streams.engine.producer import BatchProducer
from streams.engine.restorer import restore
from streams.engine.state import StateTable
from tables import leaves
from tables.seen import DAY_MS, SeenMessages, encode_offset, pack_entries, seen_key
from tables.store import PartitionStore
from tests.integration.engine_environment import Topics, outgoing, topics
from tests.integration.test_engine_restorer import leave_open

__all__ = ["topics"]

FAMILY = "leaves"
WAIT_S = 30


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.02)


class Logged(msgspec.Struct):
    value: bytes
    timestamp: int


class Followed:
    """A table of two partitions, the worker that follows it, and the owner that writes its changelog."""

    def __init__(self, topics: Topics, changelog: str, context: Context) -> None:
        self.topics = topics
        self.changelog = changelog
        self.context = context
        self.standbys = context.standbys
        self.table = StateTable("input", 2, FAMILY, lambda _store: {changelog: self.written})
        self.standbys.add(self.table)
        self.parts = list(self.table.parts())

    @staticmethod
    def written(records):
        if any(record.key == b"poison" for record in records):
            raise ValueError("a record that does not unpack")
        return [(FAMILY, [(record.key, record.value) for record in records])]

    async def write(self, partition: int, *keys: bytes) -> None:
        producer = BatchProducer(self.topics.cluster, transactional_id=self.topics.name(f"writer-{partition}"))
        await producer.start()
        try:
            await producer.transact(outgoing(self.changelog, keys, partition))
        finally:
            await producer.stop()

    async def caught_up(self, *partitions: Partition, holding: bytes) -> None:
        """Wait until the standbys of these partitions hold a key and are at the ends of their changelogs."""

        def is_there() -> bool:
            lags = self.standbys.lags()
            return all(lags.get(each) == 0 and self.held(each, holding) for each in partitions)

        await eventually(is_there)

    def held(self, partition: Partition, key: bytes) -> bytes | None:
        return self.standbys._standbys[partition].store.get_many(FAMILY, [key])[0]

    async def failures(self, count: int) -> None:
        await eventually(lambda: self.counted() >= count)
        assert self.counted() == count

    def counted(self) -> float | None:
        return self.context.metrics.registry.get_sample_value("tidemark_standby_failures_total")


@pytest.fixture
async def followed(topics, tmp_path):
    settings = msgspec.structs.replace(
        topics.cluster.settings, standby=True, data_dir=tmp_path, dsn="postgresql://nobody@127.0.0.1:1/none"
    )
    made = Followed(topics, await topics.create("log", 2), Context(settings, "w1"))
    yield made
    await made.standbys.stop()


async def test_what_is_committed_is_followed_and_nothing_else(followed):
    zero, one = followed.parts
    await followed.write(0, b"a")
    followed.standbys.follow(set())
    await followed.caught_up(zero, holding=b"a")
    await followed.write(0, b"b")
    await followed.write(1, b"c")
    await followed.caught_up(zero, holding=b"b")
    await followed.caught_up(one, holding=b"c")
    await leave_open(followed.topics, outgoing(followed.changelog, [b"open"]), abort=False)
    await asyncio.sleep(0.5)
    assert followed.held(zero, b"open") is None
    assert followed.held(one, b"a") is None


async def test_a_takeover_restores_only_what_the_standby_had_not_seen(followed):
    zero, one = followed.parts
    await followed.write(0, *(str(n).encode() for n in range(100)))
    followed.standbys.follow(set())
    await followed.caught_up(zero, holding=b"99")
    followed.standbys.hold()
    await followed.write(0, b"last", b"words")
    store = followed.standbys.hand_over(zero)
    assert store is not None
    assert await restore(followed.topics.cluster, store, 0, followed.table.changelogs(store)) == 2
    assert store.get_many(FAMILY, [b"0", b"99", b"words"]) == [b"0", b"99", b"words"]
    # It is the owner's now: nobody else follows it, nobody else writes to it.
    assert followed.standbys.hand_over(zero) is None
    followed.standbys.follow({zero})
    await followed.write(0, b"by another")
    await followed.write(1, b"x")
    await followed.caught_up(one, holding=b"x")
    assert store.get_many(FAMILY, [b"by another"]) == [None]
    # Released, it is followed again from where it stands.
    store.close()
    followed.standbys.hold()
    followed.standbys.follow(set())
    await followed.caught_up(zero, holding=b"by another")
    assert followed.held(zero, b"99") == b"99"


async def test_a_rebalance_at_any_moment_leaves_one_owner_of_each_store(followed):
    """Followed, held, given away and let go in every order; each open would fail where another one is open."""
    zero, one = followed.parts
    await followed.write(0, *(str(n).encode() for n in range(2000)))
    for pause_s in (0, 0, 0.01, 0.05, 0.2, 0.5):
        followed.standbys.follow({one})
        await asyncio.sleep(pause_s)
        followed.standbys.hold()
        store = followed.standbys.hand_over(zero) or followed.table.open(followed.context.state_dir, 0)
        await restore(followed.topics.cluster, store, 0, followed.table.changelogs(store))
        assert store.get_many(FAMILY, [b"0", b"1999"]) == [b"0", b"1999"]
        store.close()
    assert followed.counted() == 0


async def test_a_partition_that_fails_is_given_up_and_the_others_go_on(followed, caplog):
    caplog.set_level(logging.ERROR)
    _, one = followed.parts
    followed.standbys.follow(set())
    await followed.write(0, b"poison")
    await followed.failures(1)
    assert "no standby of input/0 until the next rebalance" in caplog.text
    await followed.write(1, b"a")
    await followed.caught_up(one, holding=b"a")
    assert followed.standbys.lags().keys() == {one}
    # Its store is free for whoever takes it over.
    followed.table.open(followed.context.state_dir, 0).close()
    followed.standbys.follow(set())
    await followed.failures(2)


async def test_a_changelog_that_was_recreated_and_a_store_that_is_in_use(followed, caplog):
    ahead = followed.table.open(followed.context.state_dir, 0)
    ahead.apply([], {followed.changelog: 7})
    ahead.close()
    in_use = followed.table.open(followed.context.state_dir, 1)
    followed.standbys.follow(set())
    await followed.failures(2)
    assert "recreated or cut" in caplog.text
    assert followed.standbys.lags() == {}
    in_use.close()


async def test_stopped_it_lets_go_of_every_store(followed):
    followed.standbys.follow(set())
    await followed.write(0, b"a")
    await followed.caught_up(followed.parts[0], holding=b"a")
    await followed.standbys.stop()
    for number in range(2):
        followed.table.open(followed.context.state_dir, number).close()
    followed.standbys.follow(set())
    assert followed.standbys.lags() == {}


async def test_without_the_setting_nothing_is_followed(topics, tmp_path):
    settings = msgspec.structs.replace(topics.cluster.settings, data_dir=tmp_path, dsn="postgresql://127.0.0.1:1/none")
    context = Context(settings, "w1")
    context.standbys.add(leaves_table(settings))
    context.standbys.follow(set())
    await asyncio.sleep(0)
    assert context.standbys.lags() == {}
    assert not context.state_dir.exists()


def test_a_standby_forgets_what_the_window_has_passed(topics, tmp_path, monkeypatch):
    """It is not asked about messages, as an owner is, but goes on for months."""
    settings = topics.cluster.settings
    store = PartitionStore(tmp_path / "store", [leaves.FAMILY])
    restored = leaves_table(settings).changelogs(store)[settings.seen_changelog]
    begin_ms = time.time_ns() // 1_000_000
    for day in range(0, 200, 5):
        now = begin_ms + day * DAY_MS
        monkeypatch.setattr(state_tables, "now_ms", lambda now=now: now)
        entries = pack_entries([(seen_key("user:u1", str(day)), encode_offset(day))])
        store.apply(restored([Logged(entries, now)]), {})
    seen = SeenMessages(store, settings.dedupe_window_days)
    seen.rotate(now)
    days = [*range(0, 200, 5)]
    found = dict(zip(days, seen.find([seen_key("user:u1", str(day)) for day in days]), strict=True))
    assert [day for day in days if found[day] == day] == [day for day in days if found[day] is not None]
    assert all(found[day] == day for day in days if day > 195 - settings.dedupe_window_days)
    assert found[0] is None
    assert len(store.families) <= 8
    store.close()

"""Restoring a store from changelogs on a real Kafka, and where reading goes on (SEMANTICS S3, S12)."""

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from contracts.errors import PositionError
from streams.engine import restorer
from streams.engine.batches import Partition
from streams.engine.cluster import Bounds
from streams.engine.ownership import Look, internal_start, look_at, source_start
from streams.engine.producer import BatchProducer
from streams.engine.restorer import restore
from tables.positions import APPLIED, decode_position, encode_position
from tables.store import PartitionStore
from tests.integration.engine_environment import Topics, outgoing, topics

__all__ = ["topics"]

FAMILY = "leaves"


@pytest.fixture
def store(tmp_path):
    opened = PartitionStore(tmp_path / "store", [FAMILY])
    yield opened
    opened.close()


def written(records):
    return [(FAMILY, [(record.key, record.value) for record in records])]


async def transact(topics: Topics, *runs) -> None:
    producer = BatchProducer(topics.cluster, transactional_id=topics.name("writer"))
    await producer.start()
    for run in runs:
        await producer.transact(run)
    await producer.stop()


async def leave_open(topics: Topics, run, *, abort: bool) -> None:
    producer = BatchProducer(topics.cluster, transactional_id=topics.name("writer"))
    await producer.start()
    await producer._producer.begin_transaction()
    await producer.send(run)
    if abort:
        await producer._producer.abort_transaction()
    await producer._producer.client.close()  # as a process that is gone, without ending its transaction
    producer._producer._closed = True
    producer._producer._sender.sender_task.cancel()


def held(store, *keys):
    return store.get_many(FAMILY, [*keys])


async def test_an_empty_changelog_restores_nothing(topics, store):
    topic = await topics.create("log")
    assert await restore(topics.cluster, store, 0, {topic: written}) == 0
    assert store.position(topic) == 0


async def test_to_the_end_past_the_markers_of_transactions(topics, store):
    topic = await topics.create("log")
    await transact(topics, *(outgoing(topic, [b"a", str(n).encode()]) for n in range(5)))
    assert await restore(topics.cluster, store, 0, {topic: written}) == 10
    # Fifteen offsets: five markers, one of them at the very end.
    assert store.position(topic) == 15
    assert held(store, b"a", b"4", b"5") == [b"a", b"4", None]


async def test_much_is_restored_in_bulk(topics, store, monkeypatch):
    monkeypatch.setattr(restorer, "BULK_RECORDS_MIN", 20)
    topic = await topics.create("log")
    told: list[tuple[int, int]] = []
    await transact(topics, *(outgoing(topic, [b"a", str(n).encode(), None]) for n in range(10)))
    turn = asyncio.Semaphore(1)
    changelogs = {topic: written}
    assert await restore(topics.cluster, store, 0, changelogs, tell=lambda *at: told.append(at), bulk=turn) == 30
    assert (told[0], told[-1]) == ((0, 40), (30, 0))
    assert store.position(topic) == 40
    assert held(store, b"a", b"9", b"gone") == [b"a", b"9", None]
    # What little comes later is not; and the turn was given back.
    await transact(topics, outgoing(topic, [b"b"]))
    async with turn:
        assert await restore(topics.cluster, store, 0, changelogs, bulk=turn) == 1
    assert held(store, b"a", b"b") == [b"a", b"b"]


async def test_again_restores_nothing_and_then_only_what_is_new(topics, store, tmp_path):
    topic = await topics.create("log")
    await transact(topics, outgoing(topic, [b"a", b"b"]))
    assert await restore(topics.cluster, store, 0, {topic: written}) == 2
    assert await restore(topics.cluster, store, 0, {topic: written}) == 0
    await transact(topics, outgoing(topic, [b"c"]))
    assert await restore(topics.cluster, store, 0, {topic: written}) == 1
    assert held(store, b"a", b"b", b"c") == [b"a", b"b", b"c"]
    anew = PartitionStore(tmp_path / "new host", [FAMILY])
    assert await restore(topics.cluster, anew, 0, {topic: written}) == 3
    assert held(anew, b"a", b"b", b"c") == [b"a", b"b", b"c"]
    assert anew.position(topic) == store.position(topic)
    anew.close()


async def test_from_the_position_that_a_cycle_left(topics, store):
    """The position after the last record, before its marker, is what a commit returns."""
    topic = await topics.create("log")
    await transact(topics, outgoing(topic, [b"a", b"b"]), outgoing(topic, [b"c"]))
    store.apply([], {topic: 2})
    assert await restore(topics.cluster, store, 0, {topic: written}) == 1
    assert held(store, b"a", b"c") == [None, b"c"]


async def test_what_was_aborted_or_left_open_is_not_restored(topics, store):
    topic = await topics.create("log")
    await transact(topics, outgoing(topic, [b"a"]))
    await leave_open(topics, outgoing(topic, [b"aborted"]), abort=True)
    assert await restore(topics.cluster, store, 0, {topic: written}) == 1
    end = store.position(topic)
    assert end == 4
    await leave_open(topics, outgoing(topic, [b"open"]), abort=False)
    assert await restore(topics.cluster, store, 0, {topic: written}) == 0
    assert store.position(topic) == end
    await transact(topics, outgoing(topic, [b"b"]))
    assert await restore(topics.cluster, store, 0, {topic: written}) == 1
    assert held(store, b"a", b"b", b"aborted", b"open") == [b"a", b"b", None, None]


async def test_several_changelogs_of_one_partition_and_no_other(topics, store):
    one, two = await topics.create("one", 2), await topics.create("two", 2)
    store.add_family("seen-1")
    await transact(
        topics,
        [
            *outgoing(one, [b"a"], 1),
            *outgoing(two, [b"s"], 1),
            *outgoing(one, [b"x"], 0),
        ],
        outgoing(one, [None], 1),
    )
    seen = {two: lambda records: [("seen-1", [(record.key, record.value) for record in records])]}
    assert await restore(topics.cluster, store, 1, {one: written, **seen}) == 3
    assert held(store, b"a", b"x", b"gone", b"s") == [b"a", None, None, None]
    assert store.get_many("seen-1", [b"s"]) == [b"s"]


async def test_state_is_the_fold_before_s(topics, store):
    topic = await topics.create("log")
    runs = [outgoing(topic, [str(n).encode() * 3]) for n in range(30)]
    with_s = [[*run, run[0]._replace(key=APPLIED, value=encode_position((n + 1) * 10))] for n, run in enumerate(runs)]
    await transact(topics, *with_s)
    await restore(topics.cluster, store, 0, {topic: written})
    assert decode_position(held(store, APPLIED)[0]) == 300
    assert decode_position(None) is None


async def test_a_changelog_that_was_recreated_is_refused(topics, store):
    topic = await topics.create("log")
    await transact(topics, *(outgoing(topic, [b"a"]) for _ in range(3)))
    await restore(topics.cluster, store, 0, {topic: written})
    await topics.recreate(topic)
    with pytest.raises(PositionError, match=r"ends at 0.*recreated or cut"):
        await restore(topics.cluster, store, 0, {topic: written})
    await transact(topics, outgoing(topic, [b"b"]))
    with pytest.raises(PositionError, match="up to offset 6"):
        await restore(topics.cluster, store, 0, {topic: written})
    assert held(store, b"a", b"b") == [b"a", None]


async def test_a_changelog_whose_beginning_was_deleted_is_read_from_where_it_begins(topics, store):
    """As the seen messages' is, by its retention."""
    topic = await topics.create("log", cleanup_policy="delete")
    await transact(topics, *(outgoing(topic, [str(n).encode()]) for n in range(4)))
    await delete_before(topics, topic, 4)
    assert await restore(topics.cluster, store, 0, {topic: written}) == 2
    assert held(store, b"1", b"2", b"3") == [None, b"2", b"3"]


async def test_a_look_at_a_topic(topics):
    topic = await topics.create("log", 2, cleanup_policy="delete")
    await transact(topics, outgoing(topic, [b"a", b"b"], 1))
    one, other = Partition(topic, 0), Partition(topic, 1)
    assert await look_at(topics.cluster, one, None) == Look(Bounds(0, 0), None)
    limits, last = await look_at(topics.cluster, other, 2)
    assert (limits, last.offset, last.value) == (Bounds(0, 3), 1, b"b")
    # The marker that ends the transaction is no record.
    assert await look_at(topics.cluster, other, 3) == Look(Bounds(0, 3), None)
    await delete_before(topics, topic, 2, partition=1)
    assert await look_at(topics.cluster, other, 2) == Look(Bounds(2, 3), None)


async def delete_before(topics: Topics, topic: str, offset: int, partition: int = 0) -> None:
    async with topics.cluster.admin() as admin:
        await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before_offset=offset)})


AT = Partition("leaves", 3)


@pytest.mark.parametrize("position", [5, 7, 9])
def test_a_position_within_the_topic_is_where_to_go_on(position):
    assert internal_start(AT, Bounds(5, 9), "committed", position) == position
    assert source_start(AT, Bounds(5, 9), position) == position


def test_records_are_cut_into_runs_of_about_so_many_bytes():
    records = outgoing("t", [b"x" * size for size in (10, 10, 3000, 10, 10, 10)])
    assert [len(run) for run in restorer.runs(records, 1000)] == [3, 3]
    assert [len(run) for run in restorer.runs(records, 100)] == [2, 1, 2, 1]
    assert [*restorer.runs([], 1000)] == []


def test_nothing_kept_is_the_beginning():
    assert internal_start(AT, Bounds(0, 9), "applied", None) == 0
    assert source_start(AT, Bounds(5, 9), None) == 5


@pytest.mark.parametrize("position", [None, 4, 10])
def test_a_position_outside_a_topic_of_ours_is_refused(position):
    with pytest.raises(PositionError, match="leaves/3 holds offsets 5 to 9"):
        internal_start(AT, Bounds(5, 9), "applied", position)


def test_what_a_sources_retention_deleted_is_told_and_skipped(caplog):
    assert source_start(AT, Bounds(5, 9), 2) == 5
    assert "deleted 3 records" in caplog.text
    with pytest.raises(PositionError, match="read position is 10"):
        source_start(AT, Bounds(5, 9), 10)

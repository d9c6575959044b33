"""The writer while connections break and locks are held."""

import asyncio
import contextlib
import random
import time

import asyncpg
import pytest

from contracts.definitions import USER_SCOPE
from contracts.errors import FencedError, InternalError
from sinks.postgres.batch import Batch, Move
from sinks.postgres.database import Database
from sinks.postgres.definitions import DefinitionStore
from sinks.postgres.outcomes import ERRORS, Call, classify
from sinks.postgres.progress import take
from tests.integration.sink_environment import APP, SCHEMA, TOPIC, Proxy, open_sink, view, whole


@pytest.fixture
async def sink(postgres_dsn):
    async with open_sink(postgres_dsn) as opened:
        await opened.take()
        yield opened


async def warmed(sink, writer):
    """Make a first step, so that the session is known and its statements are prepared; return the epoch."""
    epoch = (await sink.stands()).epoch
    await writer.commit(Batch(page_views=[view(0)], progress=[Move(TOPIC, 0, epoch, 0, 1, applied=1)]))
    return epoch


async def views(sink):
    return {row[0] for row in (await sink.dump())["page_views"]}


async def test_a_commit_whose_answer_is_lost_is_made_once(sink):
    async with Proxy(sink.dsn).running() as proxy:
        writer = sink.new_writer(proxy.dsn)
        epoch = await warmed(sink, writer)
        proxy.cut_at_reply = b"SELECT 1\x00"
        await writer.commit(Batch(page_views=[view(1)], progress=[Move(TOPIC, 0, epoch, 1, 2, applied=1)]))
        assert proxy.cuts == 1
    now = await sink.stands()
    assert (now.next_offset, now.applied) == (2, 2)
    assert await views(sink) == {"m0", "m1"}


async def test_a_request_that_never_arrived_is_made_again(sink):
    async with Proxy(sink.dsn).running() as proxy:
        writer = sink.new_writer(proxy.dsn)
        epoch = await warmed(sink, writer)
        proxy.cut_before_request = True
        await writer.commit(Batch(page_views=[view(1)], progress=[Move(TOPIC, 0, epoch, 1, 2, applied=1)]))
        assert proxy.cuts == 1
    now = await sink.stands()
    assert (now.next_offset, now.applied) == (2, 2)


async def test_cut_in_the_midst_of_the_rows_leaves_nothing(sink):
    async with Proxy(sink.dsn).running() as proxy:
        writer = sink.new_writer(proxy.dsn)
        epoch = await warmed(sink, writer)
        proxy.cut_after_bytes = 400_000
        many = [view(n, properties='{"text":"' + "x" * 400 + '"}') for n in range(1, 3001)]
        await writer.commit(Batch(page_views=many, progress=[Move(TOPIC, 0, epoch, 1, 3001, applied=3000)]))
        assert proxy.cuts == 1
    now = await sink.stands()
    assert (now.next_offset, now.applied) == (3001, 3001)
    assert len(await views(sink)) == 3001


async def test_a_lost_commit_and_a_new_owner_is_a_fence(sink):
    async with Proxy(sink.dsn).running() as proxy:
        writer = sink.new_writer(proxy.dsn)
        epoch = await warmed(sink, writer)
        proxy.cut_before_request = True
        await sink.take(owner="w2")
        with pytest.raises(FencedError):
            await writer.commit(Batch(progress=[Move(TOPIC, 0, epoch, 1, 2, applied=1)]))


async def test_sessions_killed_again_and_again_cost_nothing(sink):
    epoch = await warmed(sink, sink.writer)
    stop, pauses = asyncio.Event(), random.Random(7)

    async def kill():
        while not stop.is_set():
            await sink.connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tidemark-test'"
            )
            # Long enough for a new session to get something done now and then.
            await asyncio.sleep(pauses.uniform(0, 0.4))

    killer = asyncio.create_task(kill())
    for n in range(1, 41):
        rows = [view(1000 * n + each) for each in range(100)]
        await sink.writer.commit(Batch(page_views=rows, progress=[Move(TOPIC, 0, epoch, n, n + 1, applied=100)]))
    stop.set()
    await killer
    now = await sink.stands()
    assert (now.next_offset, now.applied) == (41, 4001)
    assert len(await views(sink)) == 4001


async def test_a_writer_waits_for_a_lock_and_goes_on(sink):
    writer = sink.new_writer(lock_timeout_ms=50)
    epoch = await warmed(sink, writer)
    other = await asyncpg.connect(sink.dsn)
    try:
        held = other.transaction()
        await held.start()
        await other.execute("select from tidemark.progress for update")
        commit = asyncio.create_task(writer.commit(Batch(progress=[Move(TOPIC, 0, epoch, 1, 2, applied=1)])))
        await asyncio.sleep(0.3)
        assert not commit.done()
        await held.rollback()
        await commit
    finally:
        await other.close()
    assert (await sink.stands()).next_offset == 2


async def wait_until_ended(sink, pid, timeout_s=10):
    """Wait until a session of Postgres is gone."""
    deadline = time.monotonic() + timeout_s
    while await sink.connection.fetchval("select pid from pg_stat_activity where pid = $1", pid):
        assert time.monotonic() < deadline, f"the session {pid} is still there"
        await asyncio.sleep(0.05)


async def test_a_takeover_ends_a_session_that_is_stuck(sink):
    stuck = await asyncpg.connect(sink.dsn, server_settings={"search_path": "tidemark"})
    await stuck.execute("update progress set owner_pid = pg_backend_pid()")
    held = stuck.transaction()
    await held.start()
    await stuck.execute("update progress set applied = applied + 1")
    taken = await take(sink.connection, APP, TOPIC, 0, "w2", lock_wait_ms=100)
    assert (taken.epoch, taken.applied, taken.owner) == (2, 0, "w2")
    await wait_until_ended(sink, stuck.get_server_pid())
    stuck.terminate()


async def test_a_takeover_leaves_others_alone(sink):
    """A session that the row names, but that holds nothing, may belong to somebody else by now."""
    bystander = await asyncpg.connect(sink.dsn, server_settings={"search_path": "tidemark"})
    await bystander.execute("update progress set owner_pid = pg_backend_pid()")
    await sink.take(owner="w2")
    assert await bystander.fetchval("select 1") == 1
    await bystander.close()


async def test_a_successor_knows_the_session_of_a_writer_that_connected_anew(sink):
    epoch = await warmed(sink, sink.writer)
    await sink.connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tidemark-test'"
    )
    await sink.writer.commit(Batch(progress=[Move(TOPIC, 0, epoch, 1, 2)]))
    named, alive = await sink.connection.fetchrow(
        "select owner_pid, (select pid from pg_stat_activity where application_name = 'tidemark-test') from progress"
    )
    assert named == alive


async def test_a_process_stopped_while_it_sends_holds_nothing(sink):
    """The successor need not end anything: no statement runs before its last byte has arrived."""
    async with Proxy(sink.dsn).running() as proxy:
        writer = sink.new_writer(proxy.dsn)
        epoch = await warmed(sink, writer)
        proxy.stall_after_bytes = 10_000
        many = [view(n) for n in range(1, 1001)]
        commit = asyncio.create_task(writer.commit(Batch(page_views=many, progress=[Move(TOPIC, 0, epoch, 1, 1001)])))
        await proxy.stalled.wait()
        held = await sink.connection.fetchval(
            "select count(*) from pg_locks join pg_stat_activity using (pid) where application_name = 'tidemark-test'"
        )
        assert held == 0
        taken = await sink.take(owner="w2")
        assert (taken.epoch, taken.next_offset) == (epoch + 1, 1)
        alive = "select count(*) from pg_stat_activity where application_name = 'tidemark-test'"
        assert await sink.connection.fetchval(alive) == 1
        commit.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await commit


async def test_a_process_stopped_in_a_transaction_does_not_keep_its_locks(sink):
    """As while it makes a definition: whoever wants to make one next waits for a bounded time."""
    stopped = await Database(sink.dsn, SCHEMA, idle_in_transaction_ms=300).open()
    held = stopped.transaction()
    await held.start()
    await stopped.execute("update definitions_version set version = version + 1")
    sink.databases.append(Database(sink.dsn, SCHEMA))
    store = DefinitionStore(sink.databases[-1])
    known = await store.ensure(await store.load(), [(USER_SCOPE, "plan")])
    assert (known.version, set(known.scope(USER_SCOPE))) == (1, {"plan"})
    with pytest.raises(ERRORS) as refused:
        await stopped.execute("select")
    assert classify(refused.value) is Call.RETRY
    stopped.terminate()


async def test_a_server_that_is_not_there_is_waited_for(sink, caplog):
    epoch = (await sink.stands()).epoch
    proxy = Proxy(sink.dsn)
    async with proxy.running():
        pass
    writer = sink.new_writer(proxy.dsn)
    commit = asyncio.create_task(writer.commit(Batch(progress=[Move(TOPIC, 0, epoch, 0, 1)])))
    await asyncio.sleep(0.5)
    assert caplog.records
    assert not commit.done()
    port = int(proxy.dsn.rpartition("@127.0.0.1:")[2].partition("/")[0])
    async with proxy.running(port):
        await commit
    assert (await sink.stands()).next_offset == 1
    assert len([each for each in caplog.records if "waits for Postgres" in each.message]) == 1


async def held_elsewhere(sink, statement):
    """Another session, in a transaction that holds what a statement takes."""
    other = await asyncpg.connect(sink.dsn, server_settings={"search_path": "tidemark"})
    held = other.transaction()
    await held.start()
    await other.execute(statement)
    return other, held


async def test_a_statement_that_runs_out_of_time_is_tried_again(sink, caplog):
    writer = sink.new_writer(statement_timeout_ms=300, lock_timeout_ms=60_000)
    epoch = await warmed(sink, writer)
    other, held = await held_elsewhere(sink, "select from progress for update")
    commit = asyncio.create_task(writer.commit(Batch(page_views=[view(1)], progress=[Move(TOPIC, 0, epoch, 1, 2)])))
    try:
        await asyncio.sleep(1)
        assert not commit.done()
    finally:
        await held.rollback()
        await other.close()
    await commit
    assert "57014" in caplog.text
    assert await views(sink) == {"m0", "m1"}
    assert (await sink.stands()).next_offset == 2


async def test_a_database_that_is_read_only_is_waited_for(sink, caplog):
    """As after a failover, when the old primary is a standby: each session begins read-only."""
    epoch = await warmed(sink, sink.writer)
    name = await sink.connection.fetchval("select current_database()")
    await sink.connection.execute(f"alter database {name} set default_transaction_read_only = on")
    await sink.connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tidemark-test'"
    )
    batch = Batch(page_views=[view(1)], progress=[Move(TOPIC, 0, epoch, 1, 2, applied=1)])
    commit = asyncio.create_task(sink.writer.commit(batch))
    await asyncio.sleep(1)
    assert not commit.done()
    await sink.connection.execute(f"alter database {name} set default_transaction_read_only = off")
    await commit
    assert "waits for Postgres" in caplog.text
    assert await views(sink) == {"m0", "m1"}
    assert (await sink.stands()).applied == 2


@pytest.mark.parametrize("ends", ["committed", "rolled back"])
async def test_a_row_that_another_session_is_writing(sink, ends):
    """Nobody else writes these tables; where somebody does, the key is there once."""
    epoch = await warmed(sink, sink.writer)
    other, held = await held_elsewhere(
        sink,
        "insert into page_views (message_id, leaf, kind, event_time, properties) "
        "select 'm1', leaf, kind, event_time, '{}' from page_views where message_id = 'm0'",
    )
    batch = Batch(page_views=[view(1), view(2)], progress=[Move(TOPIC, 0, epoch, 1, 2, applied=2)])
    commit = asyncio.create_task(sink.writer.commit(batch))
    await asyncio.sleep(0.3)
    assert not commit.done()
    await (held.commit() if ends == "committed" else held.rollback())
    await other.close()
    await commit
    assert await views(sink) == {"m0", "m1", "m2"}
    assert (await sink.stands()).applied == 3


async def test_a_deadlock_with_another_session_is_resolved(sink):
    """Whichever of the two Postgres picks, the batch is written once."""
    await sink.step(Batch(profiles=[(whole("user:a"), 1), (whole("user:b"), 1)]))
    for round_ in range(2, 6):
        other, held = await held_elsewhere(
            sink, "set local deadlock_timeout = '10s'; update profiles set email = null where profile_id = 'user:b'"
        )
        batch = Batch(profiles=[(whole("user:a", views=round_), round_), (whole("user:b", views=round_), round_)])
        commit = asyncio.create_task(sink.step(batch))
        await asyncio.sleep(0.2)
        try:
            await other.execute("update profiles set email = null where profile_id = 'user:a'")
            await held.commit()
        except asyncpg.DeadlockDetectedError:
            await held.rollback()
        await other.close()
        await commit
        rows = await sink.connection.fetch("select page_views from profiles")
        assert [row[0] for row in rows] == [round_, round_]


async def test_an_index_of_somebody_else_that_refuses_a_row_stops_and_loses_nothing(sink):
    """Unique violation: waiting would not help, and the message is not at fault."""
    epoch = await warmed(sink, sink.writer)
    await sink.connection.execute("create unique index by_hand on profiles (email)")
    rows = [(whole("user:a", email="x@y.z"), 2), (whole("user:b", email="x@y.z"), 2)]
    batch = Batch(page_views=[view(1)], profiles=rows, progress=[Move(TOPIC, 0, epoch, 1, 2, applied=1)])
    with pytest.raises(InternalError, match=r"23505.*by_hand"):
        await sink.writer.commit(batch)
    assert await views(sink) == {"m0"}
    assert (await sink.stands()).next_offset == 1
    await sink.connection.execute("drop index by_hand")
    await sink.writer.commit(batch)
    assert await views(sink) == {"m0", "m1"}


@pytest.mark.parametrize("seed", range(3))
async def test_a_bad_line_costs_time_alone(sink, seed):
    """Packets come halved and late, and connections break anywhere."""
    batches = 15
    async with Proxy(sink.dsn).running() as proxy:
        proxy.bad_line, proxy.cut_odds = random.Random(seed), 0.02
        writer = sink.new_writer(proxy.dsn)
        epoch = (await sink.stands()).epoch
        for n in range(batches):
            rows = [view(100 * n + each) for each in range(100)]
            await writer.commit(Batch(page_views=rows, progress=[Move(TOPIC, 0, epoch, n, n + 1, applied=100)]))
        assert proxy.cuts > 1
    now = await sink.stands()
    assert (now.next_offset, now.applied) == (batches, 100 * batches)
    assert len(await views(sink)) == 100 * batches

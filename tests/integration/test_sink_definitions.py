"""Definitions live in Postgres, and all workers agree on them."""

import asyncio
import contextlib

import asyncpg
import pytest

from contracts.definitions import EVENTS, STRING, USER_SCOPE, AttributeType, Definition, Definitions, event_scope
from sinks.postgres.database import Database
from sinks.postgres.definitions import DefinitionStore
from sinks.postgres.migration import migrate
from tests.integration.sink_environment import SCHEMA

ORDERED = event_scope("Order Completed")


@pytest.fixture
async def stores(postgres_dsn):
    """Two workers."""
    await migrate(postgres_dsn, SCHEMA)
    databases = [Database(postgres_dsn, SCHEMA, application="tidemark-test") for _ in range(2)]
    yield [DefinitionStore(database) for database in databases]
    for database in databases:
        await database.close()


async def test_unknown_ones_become_string(stores):
    one, other = stores
    known = await one.load()
    assert (known.version, known.events) == (0, frozenset())
    known = await one.ensure(known, [(USER_SCOPE, "plan"), (ORDERED, "price"), (EVENTS, "Order Completed")], ["Viewed"])
    assert known.scope(USER_SCOPE) == {"plan": STRING}
    assert known.scope(ORDERED) == {"price": STRING}
    assert known.events == {"Order Completed", "Viewed"}
    seen = await other.load()
    assert (seen.version, seen.scope(USER_SCOPE), seen.events) == (known.version, {"plan": STRING}, known.events)


async def test_what_is_defined_keeps_its_type_and_version(stores):
    one, other = stores
    stale = await other.load()
    await one.set_definition(USER_SCOPE, "age", AttributeType.INTEGER)
    held = await other.ensure(stale, [(USER_SCOPE, "age")])
    assert held.scope(USER_SCOPE) == {"age": Definition(AttributeType.INTEGER)}
    assert held.version == (await one.load()).version == 1


async def test_nothing_new_asks_nobody():
    store = DefinitionStore(Database("postgresql://nobody@127.0.0.1:1/none", SCHEMA))
    known = Definitions().extended(3, [(USER_SCOPE, "plan", STRING)], ["Viewed"])
    assert await store.ensure(known, [(USER_SCOPE, "plan"), (EVENTS, "Viewed")]) is known


async def test_a_type_can_be_changed(stores):
    one, other = stores
    known = await other.ensure(await other.load(), [(USER_SCOPE, "plan")])
    await one.set_definition(USER_SCOPE, "plan", AttributeType.FIXED_CHOICE, ["pro", "free"])
    known = await other.refresh(known)
    assert known.scope(USER_SCOPE) == {"plan": Definition(AttributeType.FIXED_CHOICE, frozenset({"free", "pro"}))}
    again = await one.set_definition(USER_SCOPE, "plan", AttributeType.FIXED_CHOICE, ["free", "pro"])
    assert again.version == known.version


async def test_two_define_the_same_at_once(stores):
    names = [f"a{n}" for n in range(50)]
    known = await stores[0].load()

    async def define(store, order):
        held = known
        for start in range(0, 50, 7):
            held = await store.ensure(held, [(USER_SCOPE, name) for name in order[start : start + 7]])
        return held

    await asyncio.gather(define(stores[0], names), define(stores[1], names[::-1]))
    final = [await store.refresh(known) for store in stores]
    assert final[0].version == final[1].version <= 16
    assert set(final[0].scope(USER_SCOPE)) == set(final[1].scope(USER_SCOPE)) == set(names)


async def test_versions_become_visible_in_order(stores):
    """A copy that was brought up to date step by step equals one that was read whole."""
    done = asyncio.Event()

    async def define(number):
        known = await stores[number].load()
        for n in range(30):
            known = await stores[number].ensure(known, [(USER_SCOPE, f"w{number}_{n}")])

    async def read():
        reader = DefinitionStore(Database(stores[0]._database.dsn, SCHEMA))
        known = await reader.load()
        while not done.is_set():
            known = await reader.refresh(known)
        known = await reader.refresh(known)
        await reader._database.close()
        return known

    reading = asyncio.create_task(read())
    await asyncio.gather(define(0), define(1))
    done.set()
    known = await reading
    assert len(known.scope(USER_SCOPE)) == 60
    assert known.version == 60


async def test_a_listener_is_told_and_survives_a_lost_connection(stores, postgres_dsn):
    told = asyncio.Queue()

    async def changed():
        told.put_nowait((await stores[1].load()).version)

    following = asyncio.create_task(stores[1].follow(changed))
    try:
        assert await told.get() == 0
        await stores[0].set_definition(USER_SCOPE, "age", AttributeType.INTEGER)
        assert await told.get() == 1
        killer = await asyncpg.connect(postgres_dsn)
        await killer.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where query ilike '%listen%' and pid <> pg_backend_pid()"
        )
        await killer.close()
        await stores[0].set_definition(USER_SCOPE, "age", AttributeType.NUMBER)
        while await told.get() != 2:
            pass
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following

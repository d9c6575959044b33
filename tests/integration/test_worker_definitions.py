"""Definitions made by hand, beforehand and while workers run: rows are made again without a replay (SEMANTICS S6)."""

import json

import msgspec

from contracts.definitions import AttributeType
from contracts.settings import Settings
from examples.generate import generate
from sinks.postgres.database import Database
from sinks.postgres.definitions import DefinitionStore
from sinks.postgres.progress import read_progress
from streams.engine.definitions import LiveDefinitions
from tests.acceptance.pipeline import Pipeline, pipeline
from tests.integration.worker_environment import (
    Definitions,
    loading,
    lose_state,
    sample,
    settled,
    stop_all,
    until,
    until_applied,
)
from tests.oracle import Definition, differences, recompute

SEED = 20_261_126

BY_HAND: Definitions = {
    ("user", "loyalty_points"): Definition("number"),
    ("user", "plan"): Definition("fixed_choice", frozenset({"pro", "trial", "member"})),
    ("user", "interests"): Definition("multiple_choice", frozenset({"hiking", "climbing", "running"})),
    ("user", "created_at"): Definition("datetime"),
    ("user", "first_time_shopper"): Definition("boolean"),
    ("user", "order_count"): Definition("integer"),
    ("company", "team_accounts"): Definition("boolean"),
    ("company", "plan"): Definition("number"),
    ("event:Order Completed", "revenue"): Definition("number"),
    ("event:Order Completed", "imported"): Definition("boolean"),
    ("event:Product Viewed", "price"): Definition("number"),
    ("event:Product Viewed", "quantity"): Definition("integer"),
}


async def define(running: Pipeline, definitions: Definitions) -> None:
    database = Database(running.settings.dsn, running.settings.schema)
    store = DefinitionStore(database)
    for (scope, name), each in definitions.items():
        await store.set_definition(scope, name, AttributeType(each.type), each.choices)
    await database.close()


async def positions(running: Pipeline) -> dict[tuple[str, int], int | None]:
    database = Database(running.settings.dsn, running.settings.schema)
    stands = await read_progress(await database.connected(), running.settings.app_version)
    await database.close()
    return {at: each.next_offset for at, each in stands.items()}


async def attribute(running: Pipeline, table: str, name: str) -> object:
    """An attribute of the only row of a table."""
    (row,) = (await running.tables())[table]
    return row["attributes"].get(name)


async def until_attribute(running: Pipeline, table: str, name: str, value: object) -> None:
    async def holds() -> bool:
        held = await attribute(running, table, name)
        return type(held) is type(value) and held == value

    await until(holds, f"{name} of {table} to be {value!r}")


async def until_equal(running: Pipeline, definitions: Definitions, *tables: str) -> None:
    expected = recompute(await running.source_records(), definitions=definitions, claims=True)
    found: list[str] = []

    async def is_equal() -> bool:
        actual = await running.tables()
        found[:] = differences(expected, {table: actual[table] for table in tables})
        return not found

    try:
        await until(is_equal, "equal tables")
    except AssertionError as error:
        raise AssertionError("\n".join(found)) from error


def said(kind: str, number: int, **fields: object) -> bytes:
    at = f"2026-11-20T10:{number:02}:00Z"
    message = {"type": kind, "messageId": f"{kind}-{number}", "userId": "u1", "timestamp": at, "receivedAt": at}
    return json.dumps({**message, **fields}).encode()


async def test_set_beforehand(settings: Settings) -> None:
    async with pipeline(settings) as running:
        await define(running, BY_HAND)
        await running.load(sample())
        running.start("a")
        running.start("b")
        await settled(running, BY_HAND)
        stop_all(running)


async def test_set_while_running_makes_rows_again_without_a_replay(settings: Settings) -> None:
    new: Definitions = {
        ("user", "loyalty_points"): Definition("number"),
        ("user", "created_at"): Definition("datetime"),
        ("user", "first_time_shopper"): Definition("boolean"),
        ("user", "big_spenders"): Definition("boolean"),
        ("company", "team_accounts"): Definition("boolean"),
        ("event:Product Viewed", "price"): Definition("number"),
    }
    async with pipeline(settings) as running:
        running.start("a")
        running.start("b")
        await running.load(sample())
        await settled(running)
        stood, before = await positions(running), await running.tables()
        await define(running, new)
        await until_equal(running, new, "profiles", "companies", "attribute_definitions")
        after = await running.tables()
        assert after["profiles"] != before["profiles"]
        assert after["companies"] != before["companies"]
        # What has happened stays as it was typed then; nothing was read again.
        for table in ("event_occurrences", "page_views", "audience_history", "identities", "quarantine"):
            assert after[table] == before[table]
        assert await positions(running) == stood
        # What happens from now on is typed anew, and kept as sent as well.
        price = {"price": "9.50", "name": "Tent"}
        await running.load([said("track", 1, event="Product Viewed", properties=price)])
        await running.wait()
        (row,) = [each for each in (await running.tables())["event_occurrences"] if each["message_id"] == "track-1"]
        assert row["properties"] == {"price": 9.5, "name": "Tent"}
        assert row["sent_properties"] == price
        stop_all(running)


async def test_the_newest_value_and_the_newest_that_converts(settings: Settings) -> None:
    integer: Definitions = {("user", "score"): Definition("integer"), ("company", "seats"): Definition("integer")}
    text: Definitions = {at: Definition("string") for at in integer}

    async def say(number: int, value: object) -> None:
        await running.load(
            [
                said("identify", number, traits={"score": value}),
                said("group", number, groupId="acme", traits={"seats": value}),
            ]
        )
        await running.wait()

    async def shows(value: object) -> None:
        await until_attribute(running, "profiles", "score", value)
        await until_attribute(running, "companies", "seats", value)

    async with pipeline(settings) as running:
        running.start("w")
        await say(1, "7")
        await shows("7")
        await define(running, integer)
        await shows(7)
        await say(2, "many")
        await shows(7)
        await say(0, 5)
        await shows(7)
        await define(running, text)
        await shows("many")
        # Both values come back with the state, on a new host too.
        running.kill("w")
        lose_state(running, "w")
        running.start("w")
        await define(running, integer)
        await shows(7)
        await say(3, 8)
        await shows(8)
        await say(5, None)
        await shows(None)
        await say(4, 9)
        await shows(None)
        await define(running, text)
        await shows(None)
        assert (await running.stats()).warnings == {"ignored_attribute": 1, "ignored_company_attribute": 1}
        stop_all(running)


async def test_set_while_no_worker_runs(settings: Settings) -> None:
    seats: Definitions = {("user", "score"): Definition("number"), ("company", "seats"): Definition("number")}
    async with pipeline(settings) as running:
        running.start("a")
        await running.load(
            [said("identify", 1, traits={"score": "7"}), said("group", 1, groupId="acme", traits={"seats": "7"})]
        )
        await settled(running)
        running.kill("a")
        await define(running, seats)
        running.start("a")
        await until_attribute(running, "profiles", "score", 7)
        await until_attribute(running, "companies", "seats", 7)
        await settled(running, seats)
        stop_all(running)


async def test_retyped_again_and_again_under_load(settings: Settings) -> None:
    """Types that every value converts to, so that the end does not depend on when they were set."""
    numbers: Definitions = {("user", "loyalty_points"): Definition("number")}
    choices: Definitions = {("user", "plan"): Definition("fixed_choice", frozenset({"member"}))}
    text: Definitions = {at: Definition("string") for at in (*numbers, *choices)}
    settings = msgspec.structs.replace(settings, cycle_records_max=300)
    values = list(generate(SEED, 8000, profile="load", users=500))
    async with pipeline(settings) as running:
        running.start("a")
        running.start("b")
        async with loading(running, values, chunk=500, pause_s=0.2):
            for number, definitions in enumerate((numbers, text, choices, numbers)):
                await until_applied(running, 1 + number * 1000)
                await define(running, definitions)
                if number == 1:
                    running.kill("a")
                    running.start("a")
        await running.wait()
        final = {**text, **numbers, **choices}
        await until_equal(running, final, "profiles", "companies", "attribute_definitions")
        await settled(running, final)
        stop_all(running)


async def test_two_definitions_while_many_profiles_are_made_again(settings: Settings) -> None:
    """More of them than one cycle makes: those made under the first definition are made again under the second."""
    settings = msgspec.structs.replace(settings, leaves_partitions=1, source_partitions=1)
    values = [
        b'{"type":"identify","messageId":"m%d","userId":"u%d","receivedAt":"2026-11-20T10:00:00Z",'
        b'"timestamp":"2026-11-20T10:00:00Z","traits":{"first":"1","second":"2"}}' % (n, n)
        for n in range(12_000)
    ]
    new: Definitions = {("user", "first"): Definition("number"), ("user", "second"): Definition("number")}
    async with pipeline(settings) as running:
        running.start("w")
        await running.load(values)
        await running.wait()
        await define(running, new)
        await until_equal(running, new, "profiles")
        await settled(running, new)
        stop_all(running)


async def test_a_worker_asks_for_definitions_that_a_partition_was_made_with(settings: Settings) -> None:
    """One that takes a partition over before it was told: its rows would fall behind unnoticed."""
    async with pipeline(settings) as running:
        database = Database(settings.dsn, settings.schema)
        live = LiveDefinitions(DefinitionStore(database))
        told: list[int] = []
        live.on_change(lambda: told.append(live.current.version))
        await define(running, {("user", "score"): Definition("number")})
        await live.at_least(1)
        assert live.current.scope("user")["score"].type == AttributeType.NUMBER
        version = live.current.version
        assert version >= 1
        await live.at_least(version)
        assert told == [version]
        await database.close()

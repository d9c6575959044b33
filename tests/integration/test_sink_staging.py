"""Staged rows that the compiled hot path encodes are those that asyncpg would send, and so is what it refuses."""

import asyncio
from decimal import Decimal

from hypothesis import example, given
from hypothesis import strategies as st

from contracts.rows import Identity
from sinks.postgres.database import Database, fetch
from sinks.postgres.migration import migrate
from sinks.postgres.outcomes import ERRORS, classify, describe
from sinks.postgres.statements import statement
from tests.integration.sink_environment import SCHEMA
from tests.twins import needs_native, row_encoder

pytestmark = needs_native

BOOLEAN, BIGINT, TEXT = 16, 20, 25
TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
FIT = {
    BOOLEAN: st.none() | st.booleans(),
    BIGINT: st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from([-(2**63), 2**63 - 1, True, 1.5, Decimal(7)]),
    TEXT: st.none() | TEXTS | st.sampled_from(["", "é" * 300, "\U0001f600", "x" * 70_000]),
}
ODD = st.sampled_from(
    [
        None,
        True,
        0,
        2**63,
        -(2**63) - 1,
        10**40,
        float("nan"),
        float("inf"),
        1.5,
        "",
        "1",
        "\x00",
        "a\ud800",
        b"x",
        [],
        (),
    ]
)
TYPES = {
    "staged_page_view": [TEXT, TEXT, TEXT, BIGINT, *[TEXT] * 6],
    "staged_occurrence": [TEXT, TEXT, TEXT, BIGINT, TEXT, TEXT],
    "staged_counters": [TEXT, *[BIGINT] * 5],
    "staged_profile": [TEXT, TEXT, BIGINT, BIGINT, BIGINT, *[TEXT] * 20, BIGINT, BIGINT],
    "staged_identity": [TEXT, TEXT],
    "staged_contest": [TEXT, TEXT, BIGINT, TEXT],
    "staged_identity_act": [TEXT, TEXT, TEXT, TEXT, BIGINT, TEXT],
    "staged_company": [*[TEXT] * 8, BIGINT, BIGINT],
    "staged_member": [TEXT, TEXT, BIGINT],
    "staged_membership": [TEXT, TEXT, BOOLEAN, BIGINT, TEXT],
    "staged_audience_change": [TEXT, TEXT, BOOLEAN, BIGINT, TEXT],
}
"""Those of which the compiled hot path encodes arrays, each with its fields."""


@st.composite
def arrays(draw, values):
    name = draw(st.sampled_from(sorted(TYPES)))
    return name, draw(st.lists(st.none() | st.tuples(*map(values, TYPES[name])), max_size=4))


async def outcome(connection, name, rows):
    try:
        return await connection.fetchval(f"select array_send($1::{name}[])", rows)
    except ERRORS as error:
        return type(error), describe(error), classify(error)


class Pair:
    """One connection on which asyncpg encodes rows, and one on which the compiled hot path does."""

    def __init__(self, runner: asyncio.Runner, dsn: str) -> None:
        self._runner = runner
        runner.run(migrate(dsn, SCHEMA))
        encoders = (row_encoder(is_native=is_native) for is_native in (False, True))
        databases = [Database(dsn, SCHEMA, row_encoder=encoder) for encoder in encoders]
        self.connections = [runner.run(database.open()) for database in databases]

    def close(self) -> None:
        for connection in self.connections:
            self._runner.run(connection.close())

    def agreed(self, name, rows):
        """What both make of it."""
        expected, found = [self._runner.run(outcome(each, name, rows)) for each in self.connections]
        assert found == expected
        return found


def with_both(dsn, check):
    with asyncio.Runner() as runner:
        pair = Pair(runner, dsn)
        try:
            check(pair)
        finally:
            pair.close()


def test_rows_are_encoded_as_asyncpg_would(postgres_dsn):
    def check(pair):
        @given(arrays(FIT.get))
        @example(("staged_identity", []))
        @example(("staged_identity", [Identity("user:u1", "user:u1"), None, ("anon:a1", "user:ü")]))
        def same(array):
            assert isinstance(pair.agreed(*array), bytes)

        same()

    with_both(postgres_dsn, check)


def test_what_cannot_be_encoded_is_refused_as_asyncpg_would(postgres_dsn):
    def check(pair):
        @given(arrays(lambda kind: FIT[kind] | ODD))
        @example(("staged_identity", [("user:u1",)]))
        @example(("staged_identity", [("user:u1", "user:u1", "user:u1")]))
        @example(("staged_identity", [("user:u1", "\x00")]))
        @example(("staged_identity", [("user:u1", "a"), ("user:u1", "a\ud800")]))
        @example(("staged_identity", [("user:u1", "a"), ("user:u1", 1)]))
        @example(("staged_member", [("c1", "user:u1", 2**63)]))
        @example(("staged_member", [("c1", "user:u1", float("inf"))]))
        @example(("staged_member", [("c1", "user:u1", "1")]))
        @example(("staged_membership", [("user:u1", "vip", 1, 0, "m1")]))
        def same(array):
            pair.agreed(*array)

        same()

    with_both(postgres_dsn, check)


async def test_the_types_are_those_of_the_schema(postgres_dsn):
    """And where there is no schema yet, a connection is as good as any."""
    database = Database(postgres_dsn, SCHEMA, row_encoder=row_encoder(is_native=True))
    await (await database.open()).close()
    await migrate(postgres_dsn, SCHEMA)
    connection = await database.open()
    try:
        found = await fetch(connection, statement("staged_types"))
    finally:
        await connection.close()
    assert {name: fields for _, name, _, fields in found} == TYPES

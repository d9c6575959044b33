"""Recounting what the tables say of each other, and digests by which two installations can be compared.

The caller opens one repeatable-read transaction around all of it. Nothing here loads a table: sums are made by
Postgres, and of a row no more than its digest comes over.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Final

from sinks.postgres.database import Connection, fetch
from sinks.postgres.queries import PUBLIC_COLUMNS
from sinks.postgres.statements import statement

CHECKS: Final = ("verify_profiles", "verify_identities", "verify_leaves", "verify_contests")
"""Statements that find deviations. Each takes a limit, and says how many there are in all."""

OUT_OF_DIGEST: Final[dict[str, frozenset[str]]] = {"quarantine": frozenset({"detail"})}
"""Public columns that do not count: a wording, which another version may have changed."""

FETCHED_ROWS: Final = 10_000
"""Digests of rows that come over at a time: 32 bytes each."""

_FORMS: Final = {
    # Independent of the session's time zone.
    "timestamp with time zone": "(extract(epoch from {0}) * 1000000)::bigint",
    # The hexadecimal text of a large record would be twice as large.
    "bytea": "encode(sha256({0}), 'hex')",
}


@dataclass(frozen=True, slots=True)
class Deviation:
    """Something that is not what it is to be."""

    what: str
    """The column or table that is wrong."""
    subject: str
    """The profile or leaf that it is wrong of."""
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.subject}, {self.what}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class Recount:
    """Deviations found: the first ones of each check, and how many there are in all."""

    deviations: tuple[Deviation, ...]
    total: int


@dataclass(frozen=True, slots=True)
class TableDigest:
    """How many rows a table has, and the SHA-256 of them, in hexadecimal."""

    rows: int
    sha256: str


async def recount(connection: Connection, limit: int) -> Recount:
    """Compare profiles with page views, identities with profiles, leaves and contests with identities.

    At most `limit` deviations of each check are returned.
    """
    deviations: list[Deviation] = []
    total = 0
    for check in CHECKS:
        rows = await fetch(connection, statement(check), limit)
        deviations += [Deviation(*tuple(row)[:4]) for row in rows]
        total += rows[0]["total"] if rows else 0
    return Recount(tuple(deviations), total)


async def partitions_to_remake(connection: Connection, app_version: str, topics: Iterable[str]) -> int:
    """Return how many partitions have rows that are still of an older type of some attribute (SEMANTICS S6)."""
    retyped = await connection.fetchval(statement("retyped"))
    count: int = await connection.fetchval(statement("verify_retyped"), app_version, list(topics), retyped)
    return count


async def digests(
    connection: Connection, on_rows: Callable[[str, int], None] = lambda _table, _rows: None
) -> dict[str, TableDigest]:
    """Return rows and digest of each public table, by name.

    A table's digest is the SHA-256 of the SHA-256 (32 bytes) of each row, in the order of the key. A row is the JSON
    array of its public columns: times in microseconds since 1970, bytes as their SHA-256 in hexadecimal, everything
    else as Postgres writes it. `on_rows` is told how many rows of a table have been read.
    """
    types: dict[str, dict[str, str]] = {}
    for table, column, kind in await fetch(connection, statement("digest_columns"), list(PUBLIC_COLUMNS)):
        types.setdefault(table, {})[column] = kind
    found: dict[str, TableDigest] = {}
    for table, (columns, key) in PUBLIC_COLUMNS.items():
        if table in types:
            query = _query(table, columns, key, types[table])
            found[table] = await _digest(connection, query, partial(on_rows, table))
    return found


def _query(table: str, columns: Iterable[str], key: Iterable[str], types: dict[str, str]) -> str:
    left_out = OUT_OF_DIGEST.get(table, frozenset())
    parts = [_FORMS.get(types[column.strip('"')], "{0}").format(column) for column in columns if column not in left_out]
    # Names and forms are constants of this package.
    return (
        f"select sha256(convert_to(json_build_array({', '.join(parts)})::text, 'UTF8')) "  # noqa: S608
        f"from {table} order by {', '.join(key)}"
    )


async def _digest(connection: Connection, query: str, on_rows: Callable[[int], None]) -> TableDigest:
    digest, count = sha256(), 0
    cursor = await connection.cursor(query)
    while rows := await cursor.fetch(FETCHED_ROWS):
        digest.update(b"".join([row[0] for row in rows]))
        count += len(rows)
        on_rows(count)
    return TableDigest(count, digest.hexdigest())


def total_digest(tables: dict[str, TableDigest]) -> str:
    """Return one digest of all: the SHA-256 of the lines `<table> <rows> <digest>`, by name."""
    lines = [f"{name} {each.rows} {each.sha256}\n" for name, each in sorted(tables.items())]
    return sha256("".join(lines).encode()).hexdigest()

"""Comparing tables read from Postgres with the recomputed ones."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from tests.oracle.recomputation import KEYS
from tests.oracle.shapes import Row, Tables


def comparable(value: Any) -> Any:
    """Return a hashable form in which numbers are equal by value and booleans are not numbers, as in `jsonb`."""
    if isinstance(value, bool) or value is None:
        return ("constant", str(value))
    if isinstance(value, (int, float)):
        return ("number", Decimal(repr(value)).normalize() if value else Decimal(0))
    if isinstance(value, Decimal):
        return ("number", value.normalize() if value else Decimal(0))
    if isinstance(value, dict):
        return ("object", tuple(sorted((key, comparable(item)) for key, item in value.items())))
    if isinstance(value, (list, tuple)):
        return ("array", tuple(comparable(item) for item in value))
    if isinstance(value, datetime):
        return ("time", value.timestamp())
    return (type(value).__name__, bytes(value) if isinstance(value, (bytearray, memoryview)) else value)


def differences(
    expected: Tables, actual: Mapping[str, Iterable[Row]], *, limit: int = 20, skip: Iterable[str] = ()
) -> list[str]:
    """Return a line for each row or column that differs, at most `limit`; an empty list means equality.

    `actual` holds rows by table name (only the tables given are compared), with jsonb parsed; further columns,
    and those named in `skip`, are not looked at.
    """
    lines: list[str] = []
    for table, rows in actual.items():
        key = KEYS[table]
        wanted = {tuple(row[column] for column in key): row for row in expected[table]}
        found: dict[tuple[Any, ...], Row] = {}
        for row in rows:
            at = tuple(row[column] for column in key)
            if at in found:
                lines.append(f"{table} {at}: twice")
            found[at] = row
        lines += [f"{table} {at}: missing; expected {wanted[at]}" for at in wanted.keys() - found.keys()]
        lines += [f"{table} {at}: not expected; found {found[at]}" for at in found.keys() - wanted.keys()]
        for at in wanted.keys() & found.keys():
            for column, value in wanted[at].items():
                if column not in skip and comparable(value) != comparable(found[at][column]):
                    lines.append(f"{table} {at}, {column}: expected {value!r}, found {found[at][column]!r}")
    return sorted(lines)[:limit]

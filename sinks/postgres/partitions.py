"""Months of the time-partitioned tables, made before the rows that need them."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Final

from sinks.postgres.database import Connection

TIME_PARTITIONED: Final = {"page_views": "page_views", "occurrences": "event_occurrences"}
"""Fields of `Batch` with their tables."""

DAY_US: Final = 86_400_000_000
_EPOCH: Final = date(1970, 1, 1)
# Migration 002 gives everything outside these bounds a partition of its own.
_FIRST_DAY: Final = (date(2015, 1, 1) - _EPOCH).days
_END_DAY: Final = (date(2100, 1, 1) - _EPOCH).days


def months_of(days: Iterable[int]) -> list[date]:
    """Return the first days of the months that days (counted from 1970-01-01) need a partition for, in order."""
    return sorted({(_EPOCH + timedelta(day)).replace(day=1) for day in days if _FIRST_DAY <= day < _END_DAY})


class Partitions:
    """Knows which days have a partition, so that looking costs a set difference and no round trip."""

    def __init__(self) -> None:
        self._known: dict[str, set[int]] = {table: set() for table in TIME_PARTITIONED.values()}

    async def ensure(self, connection: Connection, table: str, event_times: Iterable[int]) -> list[date]:
        """Make the partitions of `table` that rows of these times need; return the months that were missing.

        Times are in microseconds since 1970-01-01 UTC. A transaction of its own, before the rows are written.
        """
        days = {time // DAY_US for time in event_times} - self._known[table]
        if not days:
            return []
        async with connection.transaction():
            made = [
                month
                for month in months_of(days)
                if await connection.fetchval("select attach_month($1::text::regclass, $2)", table, month)
            ]
        self._known[table] |= days
        return made

    def forget(self) -> None:
        """Look again: somebody has dropped a partition."""
        for days in self._known.values():
            days.clear()

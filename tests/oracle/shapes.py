"""What goes into the recomputation and what comes out."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

BLOCKED_IDS = frozenset(
    {"null", "none", "undefined", "nan", "anonymous", "guest", "unknown", "-1", "true", "false", "[object object]"}
)
"""Ids that name nobody (S1), beside those of only zeros and dashes."""


class Record(NamedTuple):
    """One record of a source topic."""

    topic: str
    partition: int
    offset: int
    kafka_time_ms: int
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Definition(NamedTuple):
    """A definition made by hand, keyed `(scope, name)` (S6)."""

    type: str
    choices: frozenset[str] = frozenset()
    source: str = "manual"


Row = dict[str, Any]


@dataclass
class Tables:
    """Rows by table name, sorted by their key; and the counters. Times are aware datetimes, jsonb is Python values.

    `quarantine` is without `detail` (free text) and `quarantined_at` (bookkeeping).
    """

    rows: dict[str, list[Row]] = field(default_factory=dict)
    read: int = 0
    applied: int = 0
    duplicate: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)

    def __getitem__(self, table: str) -> list[Row]:
        return self.rows[table]

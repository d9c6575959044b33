"""What a fault led to: every public table and counter against the recomputation, as figures and as findings."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.acceptance.pipeline import Pipeline
from tests.integration.worker_environment import WAIT_S
from tests.oracle import Record, Tables, differences, recompute

_OF_MESSAGES = ("page_views", "event_occurrences")
"""Tables of one row a message: what is missing there was lost, what is too many was counted twice."""


@dataclass
class Outcome:
    """One run."""

    messages: int
    lost: int
    doubled: int
    recovery_s: float
    """From the start of the new worker until everything was in Postgres."""
    findings: list[str] = field(default_factory=list)
    """What differs from the recomputation, in any table or counter."""


async def outcome_of(running: Pipeline, since: float, records: Sequence[Record] | None = None) -> Outcome:
    """Wait until all has arrived, and compare; `since` is the monotonic time at which recovery began.

    `records` are those that should have been read, where the source topic does not hold all of them any more.
    """
    await running.wait(WAIT_S)
    recovery_s = time.monotonic() - since
    # A late write of somebody who should be dead would come now.
    await asyncio.sleep(0.3)
    expected = await asyncio.to_thread(recompute, records or await running.source_records(), claims=True)
    found = await running.tables()
    stats = await running.stats()
    findings = await asyncio.to_thread(differences, expected, found)
    lost = doubled = 0
    for table in _OF_MESSAGES:
        balance = len(found[table]) - len(expected[table])
        lost += max(0, -balance)
        doubled += max(0, balance)
    for name, counted, wanted in _counters(stats, expected):
        if counted != wanted:
            findings.append(f"{name}: expected {wanted}, found {counted}")
            lost += max(0, wanted - counted)
            doubled += max(0, counted - wanted)
    # A page call that was applied twice shows in its profile alone, where the row of the view is idempotent.
    views = sum(row["page_views"] for row in found["profiles"]) - sum(row["page_views"] for row in expected["profiles"])
    return Outcome(expected.read, lost + max(0, -views), doubled + max(0, views), recovery_s, findings)


def _counters(stats: object, expected: Tables) -> Iterable[tuple[str, int, int]]:
    for name in ("read", "applied", "duplicate"):
        yield name, getattr(stats, name), getattr(expected, name)
    counted = getattr(stats, "quarantined")  # noqa: B009  typed as object, for Stats is the product's
    for reason in sorted(counted.keys() | expected.quarantined.keys()):
        yield f"quarantined {reason}", counted.get(reason, 0), expected.quarantined.get(reason, 0)


@dataclass
class Table:
    """Figures that are printed at the end of a test session."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[object, ...]] = field(default_factory=list)

    def add(self, *row: object) -> None:
        self.rows.append(row)

    def __str__(self) -> str:
        cells = [self.columns, *([_shown(value) for value in row] for row in self.rows)]
        widths = [max(len(row[at]) for row in cells) for at in range(len(self.columns))]
        lines = [
            "| " + " | ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)) + " |"
            for row in cells
        ]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join([*lines, ""])


def _shown(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


TABLES: dict[str, Table] = {}
"""By title, in the order in which they were begun."""


def table(title: str, *columns: str) -> Table:
    """The table of this title, begun where it is not there yet."""
    return TABLES.setdefault(title, Table(title, columns))


def note(fault: str, outcomes: Sequence[Outcome], *, title: str = "Faults", column: str = "fault") -> None:
    """Add runs to the row of a fault, and require that each has come out as the recomputation."""
    rows = table(
        title, column, "runs", "messages", "lost", "double-counted", "other differences", "recovered in s, at most"
    ).rows
    before = next((row for row in rows if row[0] == fault), None)
    if before is not None:
        rows.remove(before)
    runs, messages, lost, doubled, others, slowest = before[1:] if before else (0, 0, 0, 0, 0, 0.0)
    rows.append(
        (
            fault,
            runs + len(outcomes),
            messages + sum(each.messages for each in outcomes),
            lost + sum(each.lost for each in outcomes),
            doubled + sum(each.doubled for each in outcomes),
            others + sum(len(each.findings) for each in outcomes),
            max(slowest, *(each.recovery_s for each in outcomes)),
        )
    )
    findings = [finding for each in outcomes for finding in each.findings]
    assert not findings, "\n".join(findings)

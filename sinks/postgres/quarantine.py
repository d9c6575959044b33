"""The quarantine as those see it who take messages out of it again (SEMANTICS S12)."""

from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from contracts.rows import Quarantined
from sinks.postgres.database import Connection, fetch
from sinks.postgres.statements import statement

PAGE_BYTES: Final = 8 * 1024 * 1024
"""Raw bytes of one page, beside its last record, which may be larger than this."""

PAGE_ROWS: Final = 1000

_LOCK: Final = "select {}(hashtextextended('tidemark redrive command ' || 'redriven'::regclass::oid, 0))"


class Place(NamedTuple):
    """Where a source record is."""

    topic: str
    partition: int
    offset: int


class Outcome(NamedTuple):
    """What became of redriven messages."""

    outcome: str | None
    """`applied` or `duplicate`; None where it is neither yet."""
    reason: str | None
    """The reason why it is in the quarantine; None where it is not."""
    messages: int


async def lock_redrive(connection: Connection) -> bool:
    """Keep every other redrive of this schema away until the session ends; False where there is one."""
    locked: bool = await connection.fetchval(_LOCK.format("pg_try_advisory_lock"))
    return locked


async def pages(connection: Connection, reason: str | None) -> AsyncIterator[list[Quarantined]]:
    """Yield what is in the quarantine now, of one reason where it is told, by source topic, partition and offset."""
    until = await connection.fetchval("select now()")
    last = Place("", -1, -1)
    while rows := await fetch(connection, statement("redrive_page"), reason, *last, until, PAGE_BYTES, PAGE_ROWS):
        found = [Quarantined(*tuple(row)) for row in rows]
        last = Place(*found[-1][:3])
        yield found


async def give_reasons(connection: Connection, stays: Sequence[Quarantined]) -> None:
    """Write the reasons why messages stay in the quarantine, of those that are still in it."""
    await connection.execute(statement("redrive_stays"), stays)


async def outcomes(connection: Connection, places: Sequence[Place]) -> list[Outcome]:
    """Tell what became of redriven messages, counted by outcome and by the reason of those that stay."""
    columns = list(zip(*places, strict=True)) or [(), (), ()]
    return [Outcome(*tuple(row)) for row in await fetch(connection, statement("redrive_outcomes"), *columns)]

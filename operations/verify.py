"""`tidemark verify`: what the tables of a system at rest say of each other, recounted, and their digests."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from contracts.settings import Settings
from operations.stats import lag_of, topic_limits
from sinks.postgres import queries
from sinks.postgres.database import Connection
from sinks.postgres.progress import read_progress
from sinks.postgres.verification import (
    Recount,
    TableDigest,
    digests,
    partitions_to_remake,
    recount,
    total_digest,
)
from streams.engine.cluster import Cluster

DEVIATIONS_SHOWN: Final = 24
"""Of each check: enough to see what they have in common."""

STATEMENT_TIMEOUT_MS: Final = 4 * 60 * 60 * 1000
"""One statement reads a whole table: minutes for some ten million rows, and on a slow disk more than an hour."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a recount found, all of one moment. Without rest nothing is recounted."""

    counts: queries.Stats
    lag: int | None
    """Records that were written and not yet processed, in all topics; None where no Kafka is known."""
    to_remake: int
    """Partitions with rows of an older type of some attribute."""
    recount: Recount | None
    tables: dict[str, TableDigest]

    @property
    def unaccounted(self) -> int:
        """What was read and ended as nothing; negative where more has ended than was read (SEMANTICS S12)."""
        counts = self.counts
        return counts.read - counts.applied - counts.duplicate - sum(counts.quarantined.values())

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is under way. Where no Kafka is known, the counters alone decide."""
        return not self.to_remake and (self.unaccounted <= 0 if self.lag is None else self.lag == 0)

    @property
    def is_well(self) -> bool:
        """Whether the system is at rest and everything adds up."""
        return self.is_at_rest and not self.unaccounted and self.recount is not None and not self.recount.total

    def to_builtins(self) -> dict[str, Any]:
        """Plain values, as `tidemark verify --json` prints them."""
        counts = self.counts
        return {
            "ok": self.is_well,
            "at_rest": self.is_at_rest,
            "lag": self.lag,
            "partitions_to_remake": self.to_remake,
            "read": counts.read,
            "applied": counts.applied,
            "duplicate": counts.duplicate,
            "quarantined": sum(counts.quarantined.values()),
            "in_flight": self.unaccounted,
            "deviations": None if self.recount is None else self.recount.total,
            "first_deviations": [] if self.recount is None else msgspec.to_builtins(self.recount.deviations),
            "tables": msgspec.to_builtins(self.tables),
            "digest": total_digest(self.tables) if self.tables else None,
        }


async def verify(
    settings: Settings, connection: Connection, on_rows: Callable[[str, int], None] = lambda _table, _rows: None
) -> Verification:
    """Recount a system at rest in one snapshot.

    1. Counters and positions, which fix the snapshot;
    2. the topics' ends, which are later: what has not reached them may be under way, and then this is the end;
    3. the recount;
    4. the digests, of which `on_rows` is told table and rows so far.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        counts = await queries.stats(connection, settings.app_version)
        progress = await read_progress(connection, settings.app_version)
        to_remake = await partitions_to_remake(
            connection, settings.app_version, (settings.leaves_topic, settings.companies_topic)
        )
        lag = None
        if settings.bootstrap_servers:
            topics = (
                *settings.source_topics,
                settings.leaves_topic,
                settings.companies_topic,
                settings.quarantine_topic,
            )
            behind = lag_of(await topic_limits(Cluster(settings), topics), progress)
            lag = sum(sum(partitions.values()) for partitions in behind.values())
        found = Verification(counts, lag, to_remake, None, {})
        if not found.is_at_rest:
            return found
        recounted = await recount(connection, DEVIATIONS_SHOWN)
        return Verification(counts, lag, to_remake, recounted, await digests(connection, on_rows))

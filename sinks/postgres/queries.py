"""What people and tests ask of the public tables.

Connections come from `Database.open`: times are microseconds since 1970-01-01 UTC, jsonb is text.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from contracts.rows import COMPANY_FIELDS, PROFILE_FIELDS
from domain.identity import ANONYMOUS, USER
from domain.names import bounded
from sinks.postgres.database import Connection, checked_schema, fetch
from sinks.postgres.statements import statement

_PAGE_VIEWS: Final = (
    "message_id",
    "leaf",
    "kind",
    "event_time",
    "url",
    "path",
    "title",
    "referrer",
    "name",
    "properties",
)
_OCCURRENCES: Final = ("message_id", "leaf", "event", "event_time", "properties", "sent_properties")

PUBLIC_COLUMNS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "profiles": (
        (
            "profile_id",
            "user_id",
            *PROFILE_FIELDS,
            "page_views",
            "first_seen",
            "last_seen",
            "attributes",
        ),
        ("profile_id",),
    ),
    "identities": (("leaf", "profile_id"), ("leaf",)),
    "identity_contests": (("leaf", "owner", "since", "claimants"), ("leaf",)),
    "page_views": (_PAGE_VIEWS, ("event_time", "message_id", "leaf")),
    "event_occurrences": (_OCCURRENCES, ("event_time", "message_id", "leaf")),
    "companies": (("company_id", *COMPANY_FIELDS, "attributes"), ("company_id",)),
    "company_members": (("company_id", "leaf", "joined_at"), ("company_id", "leaf")),
    "audience_memberships": (("leaf", "audience", "member", "changed_at"), ("leaf", "audience")),
    "audience_history": (
        ("leaf", "audience", "member", "event_time", "message_id"),
        ("leaf", "audience", "event_time", "message_id"),
    ),
    "attribute_definitions": (("scope", "name", "type", "source"), ("scope", "name")),
    "event_definitions": (("name",), ("name",)),
    "quarantine": (
        ("topic", "partition", '"offset"', "reason", "detail", "raw"),
        ("topic", "partition", '"offset"'),
    ),
    "profile_page_views": (("profile_id", *_PAGE_VIEWS), ("event_time", "message_id", "leaf")),
    "profile_events": (("profile_id", *_OCCURRENCES), ("event_time", "message_id", "leaf")),
    "profile_companies": (("profile_id", "company_id"), ("profile_id", "company_id")),
    "profile_audiences": (("profile_id", "audience", "member"), ("profile_id", "audience")),
}
"""Tables and views with their public columns and their key; `quarantined_at`, which is no promise, is left out."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What became of the records that were read (SEMANTICS S12)."""

    read: int
    applied: int
    duplicate: int
    quarantined: dict[str, int]
    """By reason."""
    warnings: dict[str, int]
    """By kind."""
    gap: int
    """Offsets that source topics' retention had deleted before they were read; they are not in `read`."""

    @property
    def in_flight(self) -> int:
        """Read, and not yet at rest. For an instant a record may be at rest before it counts as read."""
        return max(0, self.read - self.applied - self.duplicate - sum(self.quarantined.values()))


async def stats(connection: Connection, app_version: str) -> Stats:
    """Return the counters of an app version, all of one moment."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        (counts,) = await fetch(connection, statement("counts"), app_version)
        reasons = await fetch(connection, statement("quarantine_reasons"))
        warnings = await fetch(connection, statement("warnings"), app_version)
    read, applied, duplicate, gap = counts
    return Stats(
        read, applied, duplicate, {row[0]: row[1] for row in reasons}, {row[0]: row[1] for row in warnings}, gap
    )


async def profile(connection: Connection, identifier: str) -> dict[str, Any] | None:
    """Return the profile of a userId, an anonymousId or a leaf, with leaves, companies and audiences.

    Identifiers are read as those of messages are: without white space around them, and cut where they are long. Times
    are ISO 8601 text. None where nobody has this identifier.
    """
    name = identifier.strip()
    kind, colon, rest = name.partition(":")
    leaf = kind + colon + bounded(rest) if kind + colon in {USER, ANONYMOUS} else name
    text = await connection.fetchval(statement("profile"), bounded(name), leaf)
    return None if text is None else msgspec.json.decode(text, type=dict[str, Any])


async def profiles(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return the profiles with the most page views."""
    return [dict(row) for row in await fetch(connection, statement("profiles"), limit)]


async def top_events(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return the most frequent events: `event`, `occurrences`, `leaves` (distinct), `last` (time)."""
    return [dict(row) for row in await fetch(connection, statement("top_events"), limit)]


async def audiences(connection: Connection) -> list[dict[str, Any]]:
    """Return every audience: `audience`, `members` now, `ever` (profiles that were ever told in or out)."""
    return [dict(row) for row in await fetch(connection, statement("audiences"))]


async def contests(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return the anonymous leaves that several users claim, the latest first: `leaf`, `owner`, `since`, `claimants`.

    Claimants are dicts of `user`, `at` (ISO 8601 text) and `message_id`, the earliest first.
    """
    rows = await fetch(connection, statement("contests"), limit)
    return [{**row, "claimants": msgspec.json.decode(row["claimants"])} for row in rows]


async def identity_acts(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return operators' acts, the latest first: `act_id`, `leaf`, `user_leaf`, `act`, `acted_at`, `reason`."""
    return [dict(row) for row in await fetch(connection, statement("identity_acts"), limit)]


async def definitions(connection: Connection) -> list[dict[str, Any]]:
    """Return the attribute definitions: `scope`, `name`, `type`, `choices` (list or None), `source`."""
    rows = await fetch(connection, statement("definitions"))
    return [{**row, "choices": msgspec.json.decode(row["choices"]) if row["choices"] else None} for row in rows]


async def quarantine_list(connection: Connection, reason: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
    """Return the newest quarantined records: all columns, with the size in bytes (`octet_length`) for `raw`."""
    return [dict(row) for row in await fetch(connection, statement("quarantine_list"), reason, limit)]


async def quarantine_show(connection: Connection, topic: str, partition: int, offset: int) -> dict[str, Any] | None:
    """Return one quarantined record: `reason`, `detail`, `raw`, `quarantined_at`."""
    rows = await fetch(connection, statement("quarantine_show"), topic, partition, offset)
    return dict(rows[0]) if rows else None


async def dump(connection: Connection, schema: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return the public columns of every public table and view in key order, all of one moment."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return {
            table: [
                tuple(row)
                for row in await fetch(
                    connection,
                    # Names are constants of this module, and a schema's name that was checked.
                    f"select {', '.join(columns)} from {checked_schema(schema)}.{table} order by {', '.join(key)}",  # noqa: S608
                )
            ]
            for table, (columns, key) in PUBLIC_COLUMNS.items()
        }

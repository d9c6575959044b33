"""What one cycle writes to Postgres: rows, and the moves of the partitions they came from."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol, SupportsIndex, TypeVar, overload

import msgspec

from contracts.rows import (
    AudienceChange,
    AudienceMembership,
    Company,
    CompanyMember,
    Contest,
    Counters,
    EventOccurrence,
    Identity,
    IdentityAct,
    PageView,
    Profile,
    Quarantined,
    Redriven,
)

Row = TypeVar("Row")

_ONLY_COUNTS: Final = ("read", "applied", "duplicate", "refused")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Move:
    """One partition's step from one offset to the next, and what was counted on the way."""

    topic: str
    partition: int
    epoch: int
    """As taken by `progress.take`."""
    from_offset: int
    """Where the last committed step ended; at the first step, where the owner began."""
    to_offset: int
    """The offset of the next record to be read."""
    definitions_version: int = 0
    """Every typed row of the partition is made with this version of the definitions, or a newer one."""
    read: int = 0
    applied: int = 0
    duplicate: int = 0
    refused: int = 0
    warnings: Mapping[str, int] = field(default_factory=dict)
    """By kind, in this step."""
    source_highs: Mapping[str, int] = field(default_factory=dict)
    """The highest source offset seen so far by `topic/partition`, of those that changed."""
    last_record_time_us: int | None = None
    last_record_checksum: int | None = None

    def __post_init__(self) -> None:
        # A step that goes nowhere could not be told from its repetition after an unknown outcome.
        still = self.from_offset == self.to_offset
        if self.from_offset > self.to_offset or (
            still and (self.warnings or any(getattr(self, name) for name in _ONLY_COUNTS))
        ):
            raise ValueError(
                f"expected a step forward, or one in place that counts nothing; got {self.from_offset} to "
                f"{self.to_offset} of {self.topic}/{self.partition}"
            )

    @property
    def key(self) -> tuple[str, int]:
        """Topic and partition."""
        return self.topic, self.partition

    def staged(self) -> tuple[Any, ...]:
        """Return the move as `staged_move`."""
        return (
            self.topic,
            self.partition,
            self.epoch,
            self.from_offset,
            self.to_offset,
            self.definitions_version,
            self.read,
            self.applied,
            self.duplicate,
            self.refused,
            msgspec.json.encode(dict(self.warnings)).decode(),
            msgspec.json.encode(dict(self.source_highs)).decode(),
            self.last_record_time_us,
            self.last_record_checksum,
        )


class Rows(Protocol[Row]):
    """Rows in their order: a list, or one that encodes them as they come and makes them when they are asked for."""

    def append(self, row: Row, /) -> None:
        """Add one at the end."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Row]: ...

    @overload
    def __getitem__(self, at: SupportsIndex, /) -> Row: ...
    @overload
    def __getitem__(self, at: slice, /) -> list[Row]: ...


def event_times(rows: Rows[PageView] | Rows[EventOccurrence]) -> Iterable[int]:
    """Return the event time of each row."""
    column = getattr(rows, "column", None)
    return [row.event_time for row in rows] if column is None else column("event_time")


@dataclass(slots=True)
class Batch:
    """The rows of one cycle.

    A profile stands in one of `counters`, `profiles` and `profiles_gone`, a leaf in `identities` or `identities_gone`
    and in `contests` or `contests_gone`, never in two of them: `merge_batch` deletes first. A profile that was gone
    comes back through `profiles`, since `counters` would make a row without its fields. All of this is the caller's
    to see to. Positions are offsets of the last record that was applied to the row's leaf or company.
    """

    page_views: Rows[PageView] = field(default_factory=list)
    occurrences: Rows[EventOccurrence] = field(default_factory=list)
    counters: list[tuple[Counters, int]] = field(default_factory=list)
    """With positions."""
    profiles: list[tuple[Profile, int]] = field(default_factory=list)
    """With positions."""
    identities: list[Identity] = field(default_factory=list)
    """The last row of a leaf holds."""
    identities_gone: list[str] = field(default_factory=list)
    """Leaves that nobody speaks of any more: known by a claim alone, which an operator has set aside."""
    profiles_gone: list[str] = field(default_factory=list)
    """Profiles that are none of their own any more."""
    contests: list[Contest] = field(default_factory=list)
    """The last row of a leaf holds."""
    contests_gone: list[str] = field(default_factory=list)
    """Leaves that nobody contests any more."""
    identity_acts: list[IdentityAct] = field(default_factory=list)
    companies: list[tuple[Company, int]] = field(default_factory=list)
    """With positions."""
    company_members: list[CompanyMember] = field(default_factory=list)
    audience_memberships: list[tuple[AudienceMembership, str]] = field(default_factory=list)
    """With the messageId, which breaks ties of `changed_at`."""
    audience_changes: list[AudienceChange] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    redriven: list[Redriven] = field(default_factory=list)
    """Of several with the same place only the first ever counts. They are counted here, not in `progress`."""
    progress: list[Move] = field(default_factory=list)
    definitions_version: int = 0
    """The version of the definitions that the typed rows were made with."""

    def without(self, refused: "Iterable[Refused]") -> "Batch":
        """Return the batch less some of its rows."""
        left_out: dict[str, set[int]] = {}
        for each in refused:
            left_out.setdefault(each.table, set()).add(each.place)
        rest: dict[str, Any] = {
            table: [row for place, row in enumerate(getattr(self, table)) if place not in places]
            for table, places in left_out.items()
        }
        return replace(self, **rest)


class Refused(NamedTuple):
    """A row that Postgres will never take."""

    table: str
    """The field of `Batch` that it stood in."""
    place: int
    """Its index there."""
    row: Any
    """As it stood there."""
    error: str
    """SQLSTATE and message."""


TABLES: Final = tuple(each.name for each in fields(Batch) if each.name not in {"progress", "definitions_version"})
"""The fields of `Batch` that hold rows, in the order in which `merge_batch` takes them."""


def staged(table: str, rows: list[Any], version: int) -> list[tuple[Any, ...]]:
    """Return rows of one field of `Batch` as `merge_batch` takes them; `version` is that of the definitions."""
    match table:
        case "counters":
            return [(*row, position, version) for row, position in rows]
        case "profiles":
            return [
                (
                    row.profile_id,
                    row.user_id,
                    row.page_views,
                    row.first_seen,
                    row.last_seen,
                    *row.fields,
                    row.attributes,
                    position,
                    version,
                )
                for row, position in rows
            ]
        case "contests":
            return [(*row[:3], _claimants(row)) for row in rows]
        case "companies":
            return [(row.company_id, *row.fields, row.attributes, position, version) for row, position in rows]
        case "audience_memberships":
            return [(*row, message_id) for row, message_id in rows]
        case _:
            return rows


def _claimants(contest: Contest) -> str:
    """Return the claimants as JSON text; microseconds are always there, so that times compare as text too."""
    return msgspec.json.encode(
        [
            {
                "user": each.user,
                "at": f"{_EPOCH + timedelta(microseconds=each.at):%Y-%m-%dT%H:%M:%S.%f}Z",
                "message_id": each.message_id,
            }
            for each in contest.claimants
        ]
    ).decode()

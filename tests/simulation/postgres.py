"""Postgres as the sink's migrations promise it (`004_merge.sql`), in dictionaries: one batch, one transaction."""

from __future__ import annotations

import json
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from contracts.definitions import COMPANY_SCOPE, STRING, USER_SCOPE, Definitions, event_scope
from contracts.rows import COMPANY_FIELDS, PROFILE_FIELDS, Company, Counters, Profile
from domain.identity import USER
from sinks.postgres.batch import staged
from tests.simulation.scenario import BY_HAND, EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contracts.rows import Quarantined, Redriven
    from sinks.postgres.batch import Batch

Row = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = {"event_time", "first_seen", "last_seen", "joined_at", "changed_at", "since"}
_JSON = {"properties", "sent_properties", "attributes"}


class FencedError(Exception):
    """TM001: the partition has another owner, or does not stand where the batch begins."""


class BrokenPromiseError(Exception):
    """What a caller must never do."""


@dataclass(slots=True)
class Progress:
    """One partition's progress."""

    epoch: int = 0
    next_offset: int | None = None
    writer: int | None = None
    """The producer that may write the partition's changelogs."""
    source_highs: dict[str, int] = field(default_factory=dict)
    read: int = 0
    applied: int = 0
    duplicate: int = 0
    warnings: Counter[str] = field(default_factory=Counter)


class Postgres:
    """The tables. `commit` is the whole of `merge_batch`."""

    def __init__(self) -> None:
        self.definitions = Definitions().extended(1, BY_HAND)
        self.progress: dict[tuple[str, int], Progress] = {}
        self.profiles: dict[str, tuple[Profile, tuple[int, int]]] = {}
        """With position and definitions version."""
        self.companies: dict[str, tuple[Company, tuple[int, int]]] = {}
        self.identities: dict[str, str] = {}
        self.contests: dict[str, Any] = {}
        self.acts: dict[str, Any] = {}
        self.kept: dict[str, dict[tuple[Any, ...], Any]] = {
            "page_views": {},
            "event_occurrences": {},
            "company_members": {},
            "audience_memberships": {},
            "audience_history": {},
        }
        self.quarantine: dict[tuple[str, int, int], Quarantined] = {}
        self.redriven: dict[tuple[str, int, int], Redriven] = {}

    def backup(self) -> dict[str, Any]:
        """All tables as they are now."""
        return deepcopy(vars(self))

    def restore(self, backup: dict[str, Any]) -> None:
        """Put all tables back; nobody may be at work."""
        vars(self).update(deepcopy(backup))

    def take(self, partition: tuple[str, int]) -> Progress:
        """Give the partition a new owner."""
        progress = self.progress.setdefault(partition, Progress())
        progress.epoch += 1
        return progress

    def let_go(self, partition: tuple[str, int], writer: int) -> None:
        """This producer writes the partition's changelogs no more."""
        progress = self.progress[partition]
        if progress.writer == writer:
            progress.writer = None

    def ensure(self, new: Iterable[tuple[str, str]]) -> Definitions:
        """Define what is not defined yet; returns what holds."""
        held = self.definitions
        names = sorted(
            (scope, name)
            for scope, name in set(new)
            if (name not in held.events if scope == "event" else name not in held.scope(scope))
        )
        if names:
            attributes = [(scope, name, STRING) for scope, name in names if scope != "event"]
            self.definitions = held.extended(
                held.version + 1, attributes, [name for scope, name in names if scope == "event"]
            )
        return self.definitions

    def commit(self, batch: Batch) -> None:
        """Check the fence, merge the rows, move progress.

        Raises FencedError and leaves everything as it was; BrokenPromiseError where the caller is wrong.
        """
        for move in batch.progress:
            progress = self.progress.get(move.key)
            if progress is None or move.epoch != progress.epoch or progress.next_offset not in {None, move.from_offset}:
                raise FencedError(f"{move.key}: {move} does not follow {progress}")
        _check(batch)
        self._merge_unchanging(batch)
        for name in batch.profiles_gone:
            self.profiles.pop(name, None)
        for leaf in batch.identities_gone:
            self.identities.pop(leaf, None)
        for leaf in batch.contests_gone:
            self.contests.pop(leaf, None)
        self._merge_counters(batch)
        version = batch.definitions_version
        _merge_forward(self.profiles, batch.profiles, version)
        _merge_forward(self.companies, batch.companies, version)
        self.identities.update(batch.identities)
        self.contests.update((row[0], row) for row in staged("contests", batch.contests, version))
        self._merge_newest(batch)
        for move in batch.progress:
            progress = self.progress[move.key]
            progress.next_offset = move.to_offset
            progress.read += move.read
            progress.applied += move.applied
            progress.duplicate += move.duplicate
            progress.warnings.update(move.warnings)
            progress.source_highs.update(move.source_highs)

    def _merge_unchanging(self, batch: Batch) -> None:
        views, occurrences = self.kept["page_views"], self.kept["event_occurrences"]
        for view in batch.page_views:
            views.setdefault((view.event_time, view.message_id, view.leaf), view)
        for row in batch.occurrences:
            occurrences.setdefault((row.event_time, row.message_id, row.leaf), row)
        for change in batch.audience_changes:
            key = change.leaf, change.audience, change.event_time, change.message_id
            self.kept["audience_history"].setdefault(key, change)
        for came in batch.redriven:
            if came[:3] not in self.redriven:
                self.redriven[came[:3]] = came
                progress = self.progress[came.leaves_topic, came.leaves_partition]
                setattr(progress, came.outcome, getattr(progress, came.outcome) + 1)
            self.quarantine.pop(came[:3], None)
        for refused in batch.quarantined:
            place = refused[:3]
            if place in self.redriven:
                continue
            if refused.is_again and place in self.quarantine:
                held = self.quarantine[place]
                lacks_rows = held.lacks_rows or refused.lacks_rows
                self.quarantine[place] = held._replace(
                    reason=refused.reason, detail=refused.detail, lacks_rows=lacks_rows
                )
            else:
                self.quarantine.setdefault(place, refused)
        for act in batch.identity_acts:
            self.acts.setdefault(act.act_id, act)

    def _merge_counters(self, batch: Batch) -> None:
        newest = _newest_of([(row, position) for row, position in batch.counters], batch.definitions_version)
        for name, (row, (position, version)) in newest.items():
            held = self.profiles.get(name)
            if held is None:
                user = name[len(USER) :] if name.startswith(USER) else None
                profile = Profile(name, user, *row[1:], (None,) * len(PROFILE_FIELDS), "{}")
                self.profiles[name] = profile, (position, version)
                continue
            profile, (held_position, held_version) = held
            if held_position > position:
                raise BrokenPromiseError(f"{name} is at {held_position}, given {position}")
            if held_position < position:
                profile = profile._replace(**dict(zip(Counters._fields[1:], row[1:], strict=True)))
                self.profiles[name] = profile, (position, held_version)

    def _merge_newest(self, batch: Batch) -> None:
        members, memberships = self.kept["company_members"], self.kept["audience_memberships"]
        for member in batch.company_members:
            key = member.company_id, member.leaf
            if key not in members or member.joined_at < members[key].joined_at:
                members[key] = member
        for row in batch.audience_memberships:
            membership, message_id = row
            key = membership.leaf, membership.audience
            if key not in memberships or (memberships[key][0].changed_at, memberships[key][1]) < (
                membership.changed_at,
                message_id,
            ):
                memberships[key] = row

    def shown(self) -> dict[str, list[Row]]:
        """The public tables and views."""
        kept = self.kept
        tables = {
            "profiles": [_columns(row) for row, _ in self.profiles.values()],
            "identities": [{"leaf": leaf, "profile_id": profile} for leaf, profile in self.identities.items()],
            "identity_contests": [
                {"leaf": leaf, "owner": owner, "since": _moment(since), "claimants": json.loads(claimants)}
                for leaf, owner, since, claimants in self.contests.values()
            ],
            "page_views": [_columns(row) for row in kept["page_views"].values()],
            "event_occurrences": [_columns(row) for row in kept["event_occurrences"].values()],
            "companies": [_columns(row) for row, _ in self.companies.values()],
            "company_members": [_columns(row) for row in kept["company_members"].values()],
            "audience_memberships": [_columns(row) for row, _ in kept["audience_memberships"].values()],
            "audience_history": [_columns(row) for row in kept["audience_history"].values()],
            "attribute_definitions": self._attribute_definitions(),
            "event_definitions": [{"name": name} for name in self.definitions.events],
            "quarantine": [row._asdict() for row in self.quarantine.values()],
        }
        of, missing = self.identities, "no identity"
        for view, table in (("profile_page_views", "page_views"), ("profile_events", "event_occurrences")):
            tables[view] = [{"profile_id": of.get(row["leaf"], missing), **row} for row in tables[table]]
        pairs = {(of.get(leaf, missing), company) for company, leaf in kept["company_members"]}
        tables["profile_companies"] = [{"profile_id": profile, "company_id": company} for profile, company in pairs]
        newest: dict[tuple[str, str], tuple[int, str, bool]] = {}
        for row, message_id in kept["audience_memberships"].values():
            key = of.get(row.leaf, missing), row.audience
            held = row.changed_at, message_id, row.member
            newest[key] = max(newest.get(key, held), held)
        tables["profile_audiences"] = [
            {"profile_id": profile, "audience": audience, "member": held[2]}
            for (profile, audience), held in newest.items()
        ]
        return tables

    def _attribute_definitions(self) -> list[Row]:
        by_hand = {(scope, name) for scope, name, _ in BY_HAND}
        scopes = [USER_SCOPE, COMPANY_SCOPE, *map(event_scope, EVENTS)]
        return [
            {
                "scope": scope,
                "name": name,
                "type": str(each.type),
                "source": "manual" if (scope, name) in by_hand else "auto",
            }
            for scope in scopes
            for name, each in self.definitions.scope(scope).items()
        ]


def _check(batch: Batch) -> None:
    """A profile, a leaf and a contest are written in one way in one batch."""
    ways = (
        ([row.profile_id for row, _ in batch.counters], [row.profile_id for row, _ in batch.profiles]),
        ([row.profile_id for row, _ in batch.counters], batch.profiles_gone),
        ([row.profile_id for row, _ in batch.profiles], batch.profiles_gone),
        ([row.leaf for row in batch.identities], batch.identities_gone),
        ([row.leaf for row in batch.contests], batch.contests_gone),
    )
    for one, other in ways:
        if both := set(one) & set(other):
            raise BrokenPromiseError(f"written in two ways in one batch: {sorted(both)}")


def _newest_of(rows: list[tuple[Any, int]], version: int) -> dict[str, tuple[Any, tuple[int, int]]]:
    """The row of each key with the greatest position, as `distinct on` takes it."""
    newest: dict[str, tuple[Any, tuple[int, int]]] = {}
    for row, position in rows:
        held = newest.get(row[0])
        if held is not None and held[1] == (position, version) and held[0] != row:
            raise BrokenPromiseError(f"two rows at position {position}: {held[0]} and {row}")
        if held is None or held[1] < (position, version):
            newest[row[0]] = row, (position, version)
    return newest


def _merge_forward(table: dict[str, tuple[Any, tuple[int, int]]], rows: list[tuple[Any, int]], version: int) -> None:
    for name, (row, at) in _newest_of(rows, version).items():
        held = table.get(name)
        if held is not None and held[1][0] > at[0]:
            raise BrokenPromiseError(f"{name} is at {held[1][0]}, given {at[0]}")
        if held is None or held[1] < at:
            table[name] = row, at


def _moment(time: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time)


def _columns(row: Any) -> Row:
    columns: Row = row._asdict()
    for name, value in columns.items():
        if value is not None:
            if name in _TIMES:
                columns[name] = _moment(value)
            elif name in _JSON:
                columns[name] = json.loads(value)
    texts = columns.pop("fields", None)
    if texts is not None:
        columns |= zip(PROFILE_FIELDS if "profile_id" in columns else COMPANY_FIELDS, texts, strict=True)
    return columns

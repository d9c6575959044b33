"""Deciding one cycle of one partition of the leaves topic: no I/O, no clock; state and messages in, a plan out."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from contracts import records as state
from contracts import rows
from contracts.outcomes import Reason, Refusal
from domain import leaf as leaves
from sinks.postgres.batch import Batch
from streams.agents.quarantine import quarantined
from streams.engine.context import partition_of
from streams.engine.producer import Outgoing

if TYPE_CHECKING:
    from contracts.definitions import Definitions
    from contracts.origins import Origin
    from contracts.settings import Settings
    from domain.calls import Call
    from streams.engine.records import Record

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Item:
    """One record of the leaves topic on its way through a cycle; it has either a call or a refusal."""

    record: Record
    origin: Origin
    call: Call | None = None
    refusal: Refusal | None = None
    seen_key: bytes = b""
    is_counted: bool = False
    """Whether it was counted as applied."""


@dataclass(slots=True)
class Loaded:
    """The state that a cycle begins with, for the leaves and messages that it meets."""

    counters: dict[str, state.LeafCounters] = field(default_factory=dict)
    fields: dict[str, state.LeafFields] = field(default_factory=dict)
    seen: dict[bytes, int | None] = field(default_factory=dict)
    """Offset of the first application of each message, None for one that was not seen."""


@dataclass(slots=True)
class Changes:
    """What a cycle changes in the state of one partition."""

    applied: int
    """S after the cycle."""
    counters: dict[str, state.LeafCounters] = field(default_factory=dict)
    fields: dict[str, state.LeafFields] = field(default_factory=dict)
    seen: dict[bytes, int] = field(default_factory=dict)


@dataclass(slots=True)
class Counts:
    """What a cycle counted in one partition."""

    applied: int = 0
    duplicate: int = 0
    warnings: Counter[str] = field(default_factory=Counter)
    source_highs: dict[str, int] = field(default_factory=dict)
    """Greatest source offsets, of the source partitions where they changed."""


class LeafCycle:
    """One cycle of one partition, record after record; then `finish`.

    A record at offset o is new to the state from S on, and new to Postgres from P on (see `streams.engine.ownership`):
    before S it has its rows made again and changes nothing; before P it changes the state and makes no rows.
    """

    def __init__(
        self,
        settings: Settings,
        definitions: Definitions,
        loaded: Loaded,
        *,
        applied: int,
        committed: int,
        highs: dict[str, int],
        batch: Batch,
        outgoing: list[Outgoing],
    ) -> None:
        """`highs`, `batch` and `outgoing` are added to; `applied` is S, `committed` is P."""
        self._settings = settings
        self._definitions = definitions
        self._counters = loaded.counters
        self._fields = loaded.fields
        self._seen = loaded.seen
        self._batch = batch
        self._outgoing = outgoing
        self._highs = highs
        self._was_applied = applied
        self._was_committed = committed
        self._counts = Counts()
        self._touched: dict[str, bool] = {}
        """Leaves whose profile row is to be written; True where fields may have changed."""
        self.changes = Changes(applied)

    def take(self, item: Item) -> None:
        """Decide one record. A bug in a decision costs that one message, which is quarantined, not the partition."""
        if item.refusal is None:
            try:
                self._apply(item)
            except Exception as error:
                log.exception("cannot apply %s/%d at offset %d", *item.origin[:3])
                item.refusal = Refusal(Reason.INTERNAL_ERROR, repr(error)[:300])
        if item.refusal is not None:
            self._count_once(item)
            self._outgoing.append(quarantined(self._settings, item.origin, item.refusal, item.record.value))

    def _count_once(self, item: Item) -> bool:
        """Whether this record counts: it is new to Postgres, and no repetition of a router that was restarted."""
        if item.record.offset < self._was_committed:
            return False
        source = f"{item.origin.topic}/{item.origin.partition}"
        if item.origin.offset <= self._highs.get(source, -1):
            return False
        self._highs[source] = item.origin.offset
        self._counts.source_highs[source] = item.origin.offset
        return True

    def _apply(self, item: Item) -> None:
        call, offset = item.call, item.record.offset
        assert call is not None
        first = self._seen.get(item.seen_key)
        if first is not None and first != offset:
            if self._count_once(item):
                self._counts.duplicate += 1
            return
        is_known = offset < self._was_applied
        is_new_leaf = call.leaf not in self._counters
        applied = leaves.apply(
            self._counters.get(call.leaf),
            self._fields.get(call.leaf),
            call,
            self._definitions,
            repeated=is_known,
        )
        if applied.company is not None:
            self._outgoing.append(self._company_update(applied.company, item.origin))
        if not is_known:
            self._counters[call.leaf] = self.changes.counters[call.leaf] = applied.counters
            if applied.fields is not None:
                self._fields[call.leaf] = self.changes.fields[call.leaf] = applied.fields
            self._seen[item.seen_key] = self.changes.seen[item.seen_key] = offset
        if offset >= self._was_committed:
            self._rows(call, applied)
            if is_new_leaf or is_known:
                self._batch.identities.append(rows.Identity(call.leaf, call.leaf))
        item.is_counted = self._count_once(item)
        if item.is_counted:
            self._counts.applied += 1
            for kind in (*call.warnings, *applied.ignored):
                self._counts.warnings[kind] += 1

    def _company_update(self, update: state.CompanyUpdate, origin: Origin) -> Outgoing:
        key = update.company_id.encode()
        partition = partition_of(key, self._settings.companies_partitions)
        return Outgoing(
            self._settings.companies_topic, partition, key, state.encode_update(update), origin.timestamp_ms
        )

    def _rows(self, call: Call, applied: leaves.Applied) -> None:
        batch, leaf = self._batch, call.leaf
        if applied.view is not None:
            batch.page_views.append(applied.view)
        if applied.occurrence is not None:
            batch.occurrences.append(applied.occurrence)
        if applied.member is not None:
            batch.company_members.append(applied.member)
        for held in applied.memberships:
            batch.audience_memberships.append((held, self._fields[leaf].memberships[held.audience].message_id))
        batch.audience_changes.extend(applied.changes)
        self._touched[leaf] = self._touched.get(leaf, False) or leaves.needs_fields(call)

    def finish(self, to_offset: int) -> Counts:
        """Make the profile rows of all leaves that were touched, as they are now; returns what was counted."""
        self.changes.applied = max(self._was_applied, to_offset)
        for leaf, whole in self._touched.items():
            counters = self._counters[leaf]
            if whole:
                row = leaves.profile(leaf, counters, self._fields.get(leaf), self._definitions)
                self._batch.profiles.append((row, to_offset))
            else:
                self._batch.counters.append((leaves.counters_row(leaf, counters), to_offset))
        return self._counts

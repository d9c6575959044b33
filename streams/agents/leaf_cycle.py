"""Deciding one cycle of one partition of the leaves topic: no I/O, no clock; state and messages in, a plan out."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from contracts import records as state
from contracts import rows
from contracts.origins import CLAIM, CONTRIBUTION, KIND_HEADER, ROWS, Origin
from contracts.outcomes import Reason, Refusal, WarningKind
from domain import leaf as leaves
from domain import ownership
from domain.calls import Call
from domain.identity import USER
from streams.agents.leaf_items import changes_fields
from streams.agents.leaf_state import owner_of, profile_row, root_counters
from streams.agents.quarantine import quarantined
from streams.engine.context import partition_of
from streams.engine.producer import Outgoing
from tables.leaves import Record as StateRecord
from tables.leaves import claims_key, counters_key, fields_key, given_key, links_key

if TYPE_CHECKING:
    from contracts.definitions import Definitions
    from contracts.origins import Origin
    from contracts.settings import Settings
    from domain.calls import Call
    from sinks.postgres.batch import Batch
    from streams.agents.leaf_items import Item, Letter
    from streams.agents.leaf_state import Loaded

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """What a cycle counted in one partition."""

    applied: int = 0
    duplicate: int = 0
    warnings: Counter[str] = field(default_factory=Counter)


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
        last_ms: int,
        counts: Counts,
        batch: Batch,
        outgoing: list[Outgoing],
    ) -> None:
        """`counts`, `batch` and `outgoing` are added to; `applied` is S, `committed` is P.

        `last_ms` is Kafka's time of the cycle's last record: that of what is sent at its end.
        """
        self._settings = settings
        self._definitions = definitions
        self._known = loaded.records
        self._seen = loaded.seen
        self._batch = batch
        self._outgoing = outgoing
        self._was_applied = applied
        self._was_committed = committed
        self._counts = counts
        self._touched: dict[str, bool] = {}
        """Leaves whose profile row is to be written; True where fields may have changed."""
        self._resolved: set[str] = set()
        """Leaves whose row in `identities` is to be written."""
        self._moved: set[str] = set()
        """Anonymous leaves whose facts have changed."""
        self._owners: dict[str, set[str | None]] = {}
        """Anonymous leaves that were claimed or unclaimed, with all owners that they have had during the cycle."""
        self._last_ms = last_ms
        self.changed: dict[bytes, StateRecord | None] = {}
        """By the keys of `tables.leaves`; None removes the record."""
        self.newly_seen: dict[bytes, int] = {}

    def take(self, item: Item) -> None:
        """Decide one record. A bug in a decision costs that one message, which is quarantined, not the partition."""
        if item.letter is not None:
            self._deliver(item, item.letter)
            return
        assert item.origin is not None
        lacks_rows = False
        if item.refusal is None:
            try:
                self._apply(item, item.origin)
            except Exception as error:
                log.exception("cannot apply %s/%d at offset %d", *item.origin[:3])
                item.refusal = Refusal(Reason.INTERNAL_ERROR, repr(error)[:300])
                lacks_rows = self._seen.get(item.seen_key) == item.record.offset
        if item.refusal is not None:
            self._outgoing.append(
                quarantined(
                    self._settings,
                    item.origin,
                    item.refusal,
                    item.record.value,
                    redrive=item.redrive,
                    lacks_rows=lacks_rows,
                )
            )

    def _put(self, key: bytes, record: StateRecord | None) -> None:
        if record is None:
            self._known.pop(key, None)
        else:
            self._known[key] = record
        self.changed[key] = record

    def _redriven(self, item: Item, origin: Origin, outcome: str) -> bool:
        """Whether this is a redrive that is new to Postgres, which then takes it out of the quarantine and counts it.

        Its offset in the source lies below what was counted there: Postgres knows by the row what counts.
        """
        if item.redrive is None or item.record.offset < self._was_committed:
            return False
        settings = self._settings
        partition = partition_of(item.record.key, settings.leaves_partitions)
        self._batch.redriven.append(rows.Redriven(*origin[:3], outcome, settings.leaves_topic, partition))
        return True

    def _apply(self, item: Item, origin: Origin) -> None:
        call, offset = item.call, item.record.offset
        assert call is not None
        leaf, known = call.leaf, self._known
        if item.redrive is not None and leaf.encode() != item.record.key:
            log.warning("%s/%d at offset %d stays in the quarantine: redriven under other settings", *origin[:3])
            return
        first = self._seen.get(item.seen_key)
        if first is not None and first != offset and item.redrive != ROWS:
            if item.redrive is not None:
                self._redriven(item, origin, "duplicate")
            elif item.is_new:
                self._counts.duplicate += 1
            return
        is_known = offset < self._was_applied or item.redrive == ROWS
        at_counters = counters_key(leaf)
        counters = cast("state.LeafCounters | None", known.get(at_counters))
        with_fields = leaves.needs_fields(call)
        fields = cast("state.LeafFields | None", known.get(fields_key(leaf))) if with_fields else None
        source = origin.text() if with_fields else ""
        applied = leaves.apply(counters, fields, call, self._definitions, source=source, repeated=is_known)
        if applied.company is not None:
            self._outgoing.append(self._company_update(applied.company, origin))
        refused = 0
        for anonymous in call.claims:
            refused += not self._claim(call, anonymous, origin, is_known=is_known)
        if not is_known:
            if applied.counters is not counters:
                self._put(at_counters, applied.counters)
            if applied.fields is not None:
                self._put(fields_key(leaf), applied.fields)
            self._seen[item.seen_key] = self.newly_seen[item.seen_key] = offset
            if not leaf.startswith(USER):
                self._moved.add(leaf)
        if offset >= self._was_committed:
            self._rows(call, applied)
            if with_fields or is_known or applied.counters is not counters:
                # The first row of a leaf that was taken back from its owner since may be made here: it is made whole.
                whole = with_fields or (is_known and claims_key(leaf) in known)
                self._touched[leaf] = self._touched.get(leaf, False) or whole
            if counters is None or is_known:
                self._resolved.add(leaf)
        item.is_counted = item.is_new
        if item.is_counted:
            self._counts.applied += 1
        if self._redriven(item, origin, "applied") or item.is_counted:
            for kind in (*call.warnings, *applied.ignored, *(WarningKind.CLAIM_LIMIT,) * refused):
                self._counts.warnings[kind] += 1

    def _claim(self, call: Call, anonymous: str, origin: Origin, *, is_known: bool) -> bool:
        """Claim an anonymous leaf for the call's user leaf, unless it has been done; False where it is refused."""
        key = links_key(call.leaf)
        known = cast("state.LeafLinks | None", self._known.get(key))
        new = ownership.claiming(known, anonymous, call.at, call.message_id)
        if new is None:
            return False
        if new is not known and not is_known:
            self._put(key, new)
            claim = state.Claim(call.leaf, state.Claimed(call.at, call.message_id, origin.text()))
            self._send(anonymous, CLAIM, claim, origin.timestamp_ms)
        return True

    def _deliver(self, item: Item, letter: Letter) -> None:
        leaf, offset = item.leaf, item.record.offset
        if offset >= self._was_applied:
            if isinstance(letter, state.Contribution):
                self._receive(leaf, letter)
            else:
                self._take_in_claim(leaf, letter)
        if offset >= self._was_committed:
            if isinstance(letter, state.Contribution):
                self._touched[leaf] = self._touched.get(leaf, False) or changes_fields(letter)
                return
            self._owners.setdefault(leaf, set())
            self._resolved.add(leaf)
            if isinstance(letter, state.PairAct):
                act = letter.act
                self._batch.identity_acts.append(
                    rows.IdentityAct(
                        act.act_id, leaf, letter.user, "allow" if act.is_allowed else "unclaim", act.at, act.reason
                    )
                )

    def _take_in_claim(self, leaf: str, letter: state.Claim | state.PairAct) -> None:
        known = cast("state.LeafClaims | None", self._known.get(claims_key(leaf)))
        if isinstance(letter, state.Claim):
            new = ownership.claimed(known, letter.user, letter.claimed)
        else:
            new = ownership.acted(known, letter.user, letter.act)
        if new is not known:
            self._owners.setdefault(leaf, set()).update((ownership.owner(known), ownership.owner(new)))
            self._put(claims_key(leaf), new)

    def _receive(self, leaf: str, contribution: state.Contribution) -> None:
        known = cast("state.LeafLinks | None", self._known.get(links_key(leaf)))
        new = ownership.received(known, contribution)
        if new is known:
            return
        self._put(links_key(leaf), new)
        key = given_key(leaf, contribution.giver)
        if contribution.given is not None or key in self._known:
            self._put(key, contribution.given)

    def _send(self, to: str, kind: bytes, letter: Letter, timestamp_ms: int) -> None:
        key = to.encode()
        self._outgoing.append(
            Outgoing(
                self._settings.leaves_topic,
                partition_of(key, self._settings.leaves_partitions),
                key,
                state.encode(letter),
                timestamp_ms,
                [(KIND_HEADER, kind)],
            )
        )

    def _company_update(self, update: state.CompanyUpdate, origin: Origin) -> Outgoing:
        key = update.company_id.encode()
        partition = partition_of(key, self._settings.companies_partitions)
        return Outgoing(self._settings.companies_topic, partition, key, state.encode(update), origin.timestamp_ms)

    def _rows(self, call: Call, applied: leaves.Applied) -> None:
        batch, leaf = self._batch, call.leaf
        if applied.view is not None:
            batch.page_views.append(applied.view)
        if applied.occurrence is not None:
            batch.occurrences.append(applied.occurrence)
        if applied.member is not None:
            batch.company_members.append(applied.member)
        for held in applied.memberships:
            fields = cast("state.LeafFields", self._known[fields_key(leaf)])
            batch.audience_memberships.append((held, fields.memberships[held.audience].message_id))
        batch.audience_changes.extend(applied.changes)

    def finish(self, to_offset: int) -> None:
        """Tell owners what has changed, and make the rows of all leaves that were touched, as they are now."""
        for leaf in sorted(self._moved | self._owners.keys()):
            self._contribute(leaf, to_offset)
        for leaf in self._resolved:
            self._resolve(leaf)
        for leaf, whole in self._touched.items():
            if whole:
                row = profile_row(leaf, self._known, self._definitions)
                if row is not None:
                    self._batch.profiles.append((row, to_offset))
            else:
                counters = root_counters(leaf, self._known)
                if counters is not None:
                    self._batch.counters.append((leaves.counters_row(leaf, counters), to_offset))

    def _contribute(self, leaf: str, version: int) -> None:
        """Give an anonymous leaf's facts to its owner, and withdraw them from all who have owned it in between.

        Not only from who owned it when the cycle began: an attempt at this cycle that a crash cut off may have ended
        anywhere in it, and given to whoever owned the leaf there.
        """
        counters = cast("state.LeafCounters | None", self._known.get(counters_key(leaf)))
        if counters is None:
            return
        owner, owners = owner_of(leaf, self._known), self._owners.get(leaf, set())
        for former in sorted(user for user in owners if user is not None and user != owner):
            self._send(former, CONTRIBUTION, state.Contribution(leaf, version, None), self._last_ms)
        if owner is not None and (leaf in self._moved or len(owners) > 1):
            fields = cast("state.LeafFields | None", self._known.get(fields_key(leaf)))
            given = None
            if fields is not None and (fields.fields or fields.attributes):
                given = state.GivenFields(fields.fields, fields.attributes)
            self._send(owner, CONTRIBUTION, state.Contribution(leaf, version, counters, given), self._last_ms)

    def _resolve(self, leaf: str) -> None:
        """Make the rows that say whose a leaf is."""
        batch, owner = self._batch, owner_of(leaf, self._known)
        has_facts = counters_key(leaf) in self._known
        if has_facts or owner is not None:
            batch.identities.append(rows.Identity(leaf, owner or leaf))
        else:
            batch.identities_gone.append(leaf)
        if has_facts and owner is not None:
            batch.profiles_gone.append(leaf)
        if leaf not in self._owners:
            return
        claims = cast("state.LeafClaims | None", self._known.get(claims_key(leaf)))
        contest = ownership.contest(leaf, claims)
        if contest is not None:
            batch.contests.append(contest)
        elif claims is not None and len(claims.claims) > 1:
            batch.contests_gone.append(leaf)
        if owner is None:
            self._touched[leaf] = True

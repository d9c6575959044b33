"""The leaf agent: every message of a leaf, in the order of the leaves topic, into state, rows and what follows.

A cycle is decided first, over everything pending, from state and messages alone (`leaf_cycle`), and then committed in
numbered steps (`LeafHandler.commit`, `LeafHandler.settle`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from sinks.postgres.batch import Batch, Move
from streams.agents.leaf_partition import Decided, PartitionCycle, Read, hot_path
from streams.agents.leaf_state import load_whole, profile_row
from streams.agents.refused_rows import account_for
from streams.agents.state_tables import leaves_table
from streams.engine import crash_points
from streams.engine.context import now_ms
from streams.engine.ownership import OwnedState, last_of, next_to_remake, take_over_state
from streams.engine.producer import runs_of
from streams.engine.turns import Turns
from tables import leaves
from tables.positions import APPLIED, encode_position
from tables.seen import SeenMessages, encode_offset, pack_entries

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from contracts.definitions import Definitions
    from sinks.postgres.batch import Refused
    from streams.engine.batches import Partition
    from streams.engine.context import Context
    from streams.engine.producer import Content, Outgoing
    from streams.engine.records import Record
    from streams.engine.restorer import Pairs
    from streams.metrics import StageMeter

log = logging.getLogger(__name__)

REMADE_PROFILES_MAX: Final = 5000
"""Profiles made again in one cycle after a definition was changed: a few megabytes, a fraction of a second."""


class Logged(NamedTuple):
    """What a changelog transaction has carried of one partition, for its store."""

    owned: OwnedState
    stored: list[tuple[str, Pairs]]
    positions: dict[str, int]
    """Reached in each changelog."""


class Changes(NamedTuple):
    """What cycles change in the state of one partition, as `Decided` has it of one of them."""

    owned: OwnedState
    applied: int
    records: dict[bytes, bytes | None]
    seen: dict[bytes, int]


@dataclass(slots=True)
class LeafPlan:
    """What one cycle decided."""

    decided_ms: int
    outgoing: list[Outgoing] = field(default_factory=list)
    changes: list[tuple[OwnedState, Decided]] = field(default_factory=list)
    batch: Batch = field(default_factory=Batch)
    cycles: dict[Partition, PartitionCycle] = field(default_factory=dict)


class LeafHandler:
    """Decides and commits the cycles of the leaves topic."""

    def __init__(self, context: Context, meter: StageMeter) -> None:
        self._context = context
        self._meter = meter
        self._writer = context.writer("leaf")
        self._table = leaves_table(context.settings)
        self._hot = hot_path(context.settings, context.rules)
        self._outgoing = context.outgoing()
        self._changelogs = context.changelogs(self._table.topic)
        context.standbys.add(self._table)
        self._owned: dict[Partition, OwnedState] = {}
        self._seen: dict[Partition, SeenMessages] = {}
        self._under_way: list[LeafPlan] = []
        """Plans whose changes the stores do not hold yet, the oldest first."""

    async def take_over(self, partition: Partition) -> int:
        """Fence the older owner, restore, and go on at the lesser of S and P."""
        owned = await take_over_state(self._context, self._table, partition, self._changelogs)
        self._owned[partition] = owned
        self._seen[partition] = SeenMessages(owned.store, self._context.settings.dedupe_window_days)
        return min(owned.applied, owned.committed)

    async def release(self, partition: Partition) -> None:
        """Close the store."""
        del self._seen[partition]
        self._owned.pop(partition).store.close()

    def passed_over(self, partition: Partition, position: int) -> None:
        """Nothing: no transaction writes this topic."""

    def has_work(self) -> bool:
        """Whether profiles are to be made again, because a definition was changed since they were made."""
        retyped = self._context.definitions.current.retyped
        return any(owned.is_to_remake(retyped) for owned in self._owned.values())

    async def decide(self, taken: Mapping[Partition, Sequence[Record]]) -> LeafPlan:
        """What every record leads to: state, rows, messages to others, counts."""
        plan, turns = LeafPlan(now_ms()), Turns()
        current = self._context.definitions.current
        new: set[tuple[str, str]] = set()
        for partition, records in taken.items():
            owned = self._owned[partition]
            cycle = plan.cycles[partition] = PartitionCycle(
                self._context.settings,
                self._context.rules,
                self._hot,
                records,
                applied=owned.applied,
                committed=owned.committed,
                highs=owned.highs,
            )
            await turns.take(cycle.read(current))
            new |= cycle.undefined(current)
        definitions = await self._context.definitions.ensure(new) if new else current
        plan.batch.definitions_version = definitions.version
        for partition, cycle in plan.cycles.items():
            await self._decide_partition(self._owned[partition], cycle, definitions, plan, turns)
        for owned in self._owned.values():
            if owned.is_to_remake(definitions.retyped):
                self._remake(owned, definitions, plan)
        self._under_way.append(plan)
        return plan

    async def _decide_partition(
        self, owned: OwnedState, cycle: PartitionCycle, definitions: Definitions, plan: LeafPlan, turns: Turns
    ) -> None:
        self._seen[owned.partition].rotate(plan.decided_ms)
        decided = await turns.take(
            cycle.decide(
                definitions,
                self._reader(owned, self._under_way),
                partial(self._find_seen, owned),
                batch=plan.batch,
                outgoing=plan.outgoing,
            )
        )
        committed = max(owned.committed, cycle.to_offset)
        plan.batch.progress.append(
            Move(
                *owned.partition,
                owned.epoch,
                owned.committed,
                committed,
                definitions_version=owned.definitions_version,
                applied=decided.counts.applied,
                duplicate=decided.counts.duplicate,
                warnings=decided.counts.warnings,
                source_highs=cycle.grown,
                **last_of(owned, cycle.records),
            )
        )
        owned.applied, owned.committed = decided.applied, committed
        owned.highs.update(cycle.grown)
        plan.changes.append((owned, decided))

    def _reader(self, owned: OwnedState, plans: Sequence[LeafPlan]) -> Read:
        """Reads a partition's records: from cycles that the store does not hold yet, the newest first, or from it."""
        unstored = [decided.records for plan in reversed(plans) for of, decided in plan.changes if of is owned]

        def read(keys: Collection[bytes]) -> dict[bytes, bytes]:
            asked = [*keys]
            found = owned.store.get_many(leaves.FAMILY, asked, unstored)
            return {key: kept for key, kept in zip(asked, found, strict=True) if kept is not None}

        return read

    def _find_seen(self, owned: OwnedState, keys: Sequence[bytes]) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for plan in self._under_way:
            for of, decided in plan.changes:
                if of is owned:
                    found.update((key, decided.seen[key]) for key in keys if key in decided.seen)
        rest = [key for key in keys if key not in found]
        found.update(
            (key, offset)
            for key, offset in zip(rest, self._seen[owned.partition].find(rest), strict=True)
            if offset is not None
        )
        return found

    def _remake(self, owned: OwnedState, definitions: Definitions, plan: LeafPlan) -> None:
        """Make the next profiles of a partition again, under definitions that were changed by hand."""
        first, end = leaves.FIELDS_PREFIXES
        start = first if owned.remade_to is None else owned.remade_to + b"\0"
        plans = [*self._under_way, plan]
        keys = next_to_remake(
            owned,
            plan.batch,
            definitions,
            owned.store.keys(leaves.FAMILY, start, end),
            (
                key
                for under_way in plans
                for of, decided in under_way.changes
                if of is owned
                for key in decided.records
                if first <= key < end
            ),
            at_most=REMADE_PROFILES_MAX,
        )
        names = set(map(leaves.leaf_of, keys))
        read = self._reader(owned, plans)
        known = load_whole(names, lambda keys: {key: leaves.decode(key, kept) for key, kept in read(keys).items()})
        plan.batch.profiles.extend(
            (row, owned.committed)
            for leaf in sorted(names)
            if (row := profile_row(leaf, known, definitions)) is not None
        )

    async def commit(self, plan: LeafPlan) -> None:
        """Make a cycle so for everybody else.

        (a) Outgoing messages, acknowledged: once Postgres has passed a record, all that follows from it is under way.
        (b) One Postgres transaction for all partitions: rows and P.
        """
        with self._meter.step("outgoing"):
            await crash_points.send("leaf-sending", runs_of(plan.outgoing), self._outgoing.send_runs)
        crash_points.reached("leaf-sent")
        with self._meter.step("postgres"):
            await self._writer.commit(plan.batch, partial(self._account_for, plan))
        crash_points.reached("leaf-written")
        self._context.metrics.written(plan.batch)

    async def settle(self, plans: Sequence[LeafPlan]) -> None:
        """Make the state of cycles last, of all of them at once.

        (c) One changelog transaction for all partitions: the records, the messages seen, and each S.
        (d) The stores: what (c) carried, and the changelog positions that it reached.
        (e) Done: later cycles read from the stores what these changed.
        """
        with self._meter.step("changelog"):
            logged = await self._log_changes(plans)
        crash_points.reached("leaf-logged")
        with self._meter.step("store"):
            for owned, stored, positions in logged:
                owned.store.apply(stored, positions)
                crash_points.reached("leaf-storing")
        crash_points.reached("leaf-stored")
        del self._under_way[: len(plans)]

    def _account_for(self, plan: LeafPlan, batch: Batch, refused: Sequence[Refused]) -> Batch:
        """Quarantine the messages behind refused rows; the plan's batch is then what was written indeed."""
        items = {partition: cycle.items() for partition, cycle in plan.cycles.items()}
        plan.batch = account_for(items, batch, refused)
        return plan.batch

    async def _log_changes(self, plans: Sequence[LeafPlan]) -> list[Logged]:
        """Log what cycles change; returns what each store is to hold then, and the changelog positions reached."""
        settings, at_ms = self._context.settings, plans[-1].decided_ms
        topics = settings.leaves_changelog, settings.seen_changelog
        runs: dict[tuple[str, int], Sequence[Content]] = {}
        stored: list[tuple[OwnedState, list[tuple[str, Pairs]]]] = []
        for owned, applied, records, seen in changes_of(plans):
            pairs: Pairs = [*records.items(), (APPLIED, encode_position(applied))]
            entries = [(key, encode_offset(offset)) for key, offset in seen.items()]
            number = owned.partition.partition
            runs[settings.leaves_changelog, number] = self._changelogs.run_of(at_ms, pairs)
            runs[settings.seen_changelog, number] = self._changelogs.run_of(at_ms, [(b"", pack_entries(entries))])
            family = self._seen[owned.partition].family(at_ms)
            stored.append((owned, [(leaves.FAMILY, pairs), (family, [*entries])]))
        ends = await self._changelogs.transact_runs(runs)
        return [
            Logged(owned, writes, {topic: ends[topic, owned.partition.partition] for topic in topics})
            for owned, writes in stored
        ]


def changes_of(plans: Sequence[LeafPlan]) -> list[Changes]:
    """What cycles change, by partition: of each key what the last of them has left."""
    changes: dict[Partition, Changes] = {}
    for plan in plans:
        for owned, decided in plan.changes:
            before = changes.get(owned.partition)
            records, seen = ({}, {}) if before is None else (before.records, before.seen)
            records.update(decided.records)
            seen.update(decided.seen)
            changes[owned.partition] = Changes(owned, decided.applied, records, seen)
    return [*changes.values()]

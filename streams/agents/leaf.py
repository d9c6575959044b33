"""The leaf agent: every message of a leaf, in the order of the leaves topic, into state, rows and what follows.

A cycle is decided first, over everything pending, from state and messages alone (`leaf_cycle`), and then committed in
numbered steps (`LeafHandler.log`, `LeafHandler.write`).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from contracts import records as state
from domain.calls import missing
from sinks.postgres.batch import Batch, Move
from streams.agents.leaf_cycle import Changes, LeafCycle
from streams.agents.leaf_items import Item, read_item
from streams.agents.leaf_state import Read, load, load_whole, profile_row
from streams.agents.refused_rows import account_for
from streams.agents.state_tables import leaves_table
from streams.engine import crash_points
from streams.engine.context import now_ms
from streams.engine.ownership import OwnedState, last_of, next_to_remake, take_over_state
from streams.engine.producer import NO_HEADERS, runs_of
from tables import leaves
from tables.positions import APPLIED, encode_position
from tables.seen import SeenMessages, encode_offset, pack_entries

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence

    from contracts.definitions import Definitions
    from domain.calls import Call
    from sinks.postgres.batch import Refused
    from streams.engine.batches import Partition
    from streams.engine.context import Context
    from streams.engine.producer import Outgoing, Runs
    from streams.engine.records import Record
    from streams.engine.restorer import Pairs
    from streams.metrics import StageMeter

log = logging.getLogger(__name__)

YIELD_EVERY: Final = 200
"""Records decided before other tasks get a turn: about 5 ms."""

REMADE_PROFILES_MAX: Final = 5000
"""Profiles made again in one cycle after a definition was changed: a few megabytes, a fraction of a second."""


class Logged(NamedTuple):
    """What a changelog transaction has carried of one partition, for its store."""

    owned: OwnedState
    stored: list[tuple[str, Pairs]]
    positions: dict[str, int]
    """Reached in each changelog."""


@dataclass(slots=True)
class LeafPlan:
    """What one cycle decided."""

    decided_ms: int
    outgoing: list[Outgoing] = field(default_factory=list)
    changes: list[tuple[OwnedState, Changes]] = field(default_factory=list)
    batch: Batch = field(default_factory=Batch)
    items: dict[Partition, list[Item]] = field(default_factory=dict)
    logged: list[Logged] = field(default_factory=list)
    """There once the changes are in the changelogs."""


class LeafHandler:
    """Decides and commits the cycles of the leaves topic."""

    def __init__(self, context: Context, meter: StageMeter) -> None:
        self._context = context
        self._meter = meter
        self._writer = context.writer("leaf")
        self._table = leaves_table(context.settings)
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
        return any(owned.definitions_version < retyped for owned in self._owned.values())

    async def decide(self, taken: Mapping[Partition, Sequence[Record]]) -> LeafPlan:
        """What every record leads to: state, rows, messages to others, counts."""
        plan = LeafPlan(now_ms())
        rules = self._context.rules
        for partition, records in taken.items():
            items: list[Item] = []
            for begin in range(0, len(records), YIELD_EVERY):
                items.extend(read_item(record, rules) for record in records[begin : begin + YIELD_EVERY])
                await asyncio.sleep(0)
            plan.items[partition] = items
        definitions = await self._defined(
            item.call for items in plan.items.values() for item in items if item.call is not None
        )
        plan.batch.definitions_version = definitions.version
        for partition, items in plan.items.items():
            await self._decide_partition(self._owned[partition], items, definitions, plan)
        for owned in self._owned.values():
            if owned.definitions_version < definitions.retyped:
                self._remake(owned, definitions, plan)
        self._under_way.append(plan)
        return plan

    async def _defined(self, calls: Iterable[Call]) -> Definitions:
        """The definitions that hold, with the ones that these calls bring along made first."""
        current = self._context.definitions.current
        new: set[tuple[str, str]] = set()
        for call in calls:
            new.update(missing(call, current))
        return await self._context.definitions.ensure(new) if new else current

    async def _decide_partition(
        self, owned: OwnedState, items: Sequence[Item], definitions: Definitions, plan: LeafPlan
    ) -> None:
        self._seen[owned.partition].rotate(plan.decided_ms)
        to_offset = items[-1].record.offset + 1
        cycle = LeafCycle(
            self._context.settings,
            definitions,
            load(items, self._reader(owned, self._under_way), partial(self._find_seen, owned)),
            applied=owned.applied,
            committed=owned.committed,
            highs=owned.highs,
            batch=plan.batch,
            outgoing=plan.outgoing,
        )
        for begin in range(0, len(items), YIELD_EVERY):
            for item in items[begin : begin + YIELD_EVERY]:
                cycle.take(item)
            await asyncio.sleep(0)
        counts = cycle.finish(to_offset)
        committed = max(owned.committed, to_offset)
        plan.batch.progress.append(
            Move(
                *owned.partition,
                owned.epoch,
                owned.committed,
                committed,
                definitions_version=owned.definitions_version,
                applied=counts.applied,
                duplicate=counts.duplicate,
                warnings=counts.warnings,
                source_highs=counts.source_highs,
                **last_of(owned, [items[-1].record]),
            )
        )
        owned.applied, owned.committed = cycle.changes.applied, committed
        plan.changes.append((owned, cycle.changes))

    def _reader(self, owned: OwnedState, plans: Sequence[LeafPlan]) -> Read:
        """Reads a partition's records: from cycles that the store does not hold yet, the newest first, or from it."""
        unstored = [changes.records for plan in reversed(plans) for of, changes in plan.changes if of is owned]

        def read(keys: Collection[bytes]) -> dict[bytes, leaves.Record]:
            found: dict[bytes, leaves.Record] = {}
            rest: Collection[bytes] = keys
            for records in unstored:
                here = [key for key in rest if key in records]
                if here:
                    found.update((key, kept) for key in here if (kept := records[key]) is not None)
                    rest = [key for key in rest if key not in records]
            rest = list(rest)
            stored = owned.store.get_many(leaves.FAMILY, rest)
            found.update(
                (key, leaves.decode(key, kept)) for key, kept in zip(rest, stored, strict=True) if kept is not None
            )
            return found

        return read

    def _find_seen(self, owned: OwnedState, keys: Sequence[bytes]) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for plan in self._under_way:
            for of, changes in plan.changes:
                if of is owned:
                    found.update((key, changes.seen[key]) for key in keys if key in changes.seen)
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
                for of, changes in under_way.changes
                if of is owned
                for key in changes.records
                if first <= key < end
            ),
            at_most=REMADE_PROFILES_MAX,
        )
        names = set(map(leaves.leaf_of, keys))
        known = load_whole(names, self._reader(owned, plans))
        plan.batch.profiles.extend(
            (row, owned.committed)
            for leaf in sorted(names)
            if (row := profile_row(leaf, known, definitions)) is not None
        )

    async def log(self, plan: LeafPlan) -> None:
        """Make a cycle so in Kafka.

        (a) Outgoing messages, acknowledged: once state knows a thing, it will not be said again.
        (b) One changelog transaction for all partitions: the records, the messages seen, and each S. It is begun beside
        (a), and committed once that has come to its end.
        """
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send(plan))
            logging_changes = group.create_task(self._log_changes(plan, once=sending))
        plan.logged = logging_changes.result()
        crash_points.reached("leaf-logged")

    async def write(self, plans: Sequence[LeafPlan]) -> None:
        """Make cycles so in Postgres and in the stores, one after another.

        (c) One Postgres transaction for all partitions: rows and P.
        (d) The stores: what (b) carried, and the changelog positions that it reached.
        (e) Done: later cycles read from the stores what this one changed.
        """
        for plan in plans:
            await self._write(plan)

    async def _write(self, plan: LeafPlan) -> None:
        with self._meter.step("postgres"):
            await self._writer.commit(plan.batch, partial(self._account_for, plan))
        crash_points.reached("leaf-written")
        self._context.metrics.written(plan.batch)
        with self._meter.step("store"):
            for owned, stored, positions in plan.logged:
                owned.store.apply(stored, positions)
                crash_points.reached("leaf-storing")
        crash_points.reached("leaf-stored")
        self._under_way.remove(plan)

    def _account_for(self, plan: LeafPlan, batch: Batch, refused: Sequence[Refused]) -> Batch:
        """Quarantine the messages behind refused rows; the plan's batch is then what was written indeed."""
        plan.batch = account_for(plan.items, batch, refused)
        return plan.batch

    async def _send(self, plan: LeafPlan) -> None:
        with self._meter.step("outgoing"):
            await crash_points.send("leaf-sending", runs_of(plan.outgoing), self._outgoing.send_runs)
        crash_points.reached("leaf-sent")

    async def _log_changes(self, plan: LeafPlan, *, once: Awaitable[None]) -> list[Logged]:
        """Log what a cycle changes; returns what each store is to hold then, and the changelog positions reached."""
        settings = self._context.settings
        topics = settings.leaves_changelog, settings.seen_changelog
        runs: Runs = {}
        stored: list[list[tuple[str, Pairs]]] = []
        for owned, changes in plan.changes:
            pairs: Pairs = [
                (key, None if kept is None else state.encode(kept)) for key, kept in changes.records.items()
            ]
            pairs.append((APPLIED, encode_position(changes.applied)))
            entries = [(key, encode_offset(offset)) for key, offset in changes.seen.items()]
            number = owned.partition.partition
            runs[settings.leaves_changelog, number] = [
                (plan.decided_ms, key, value, NO_HEADERS) for key, value in pairs
            ]
            runs[settings.seen_changelog, number] = [(plan.decided_ms, b"", pack_entries(entries), NO_HEADERS)]
            family = self._seen[owned.partition].family(plan.decided_ms)
            stored.append([(leaves.FAMILY, pairs), (family, [*entries])])
        with self._meter.step("changelog"):
            ends = await self._changelogs.transact_runs(runs, once=once)
        return [
            Logged(owned, writes, {topic: ends[topic, owned.partition.partition] for topic in topics})
            for (owned, _), writes in zip(plan.changes, stored, strict=True)
        ]

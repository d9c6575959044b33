"""The company agent: what group calls say of a company, from any leaf, newest wins field by field."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from contracts import records as state
from domain.company import apply_company, company_row
from sinks.postgres.batch import Batch, Move
from streams.agents.state_tables import companies_table
from streams.engine import crash_points
from streams.engine.context import now_ms
from streams.engine.ownership import OwnedState, last_of, next_to_remake, take_over_state
from streams.engine.records import foreign
from streams.engine.turns import Turns
from tables import companies
from tables.positions import APPLIED, encode_position

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from contracts.definitions import Definitions
    from streams.engine.batches import Partition
    from streams.engine.context import Context
    from streams.engine.producer import Content
    from streams.engine.records import Record
    from streams.engine.restorer import Pairs
    from streams.metrics import StageMeter

log = logging.getLogger(__name__)

REMADE_COMPANIES_MAX: Final = 5000
"""Companies made again in one cycle after a definition was changed."""


class Logged(NamedTuple):
    """What a changelog transaction has carried of one partition, for its store."""

    owned: OwnedState
    pairs: Pairs
    position: int
    """Reached in the changelog."""


@dataclass(slots=True)
class CompanyPlan:
    """What one cycle decided."""

    decided_ms: int
    changes: list[tuple[OwnedState, dict[str, state.CompanyRecord], int]] = field(default_factory=list)
    """Partition, records by company, and S."""
    batch: Batch = field(default_factory=Batch)


def read_update(record: Record) -> state.CompanyUpdate:
    """What a record of the companies topic says. Raises InternalError for one that nobody here has sent."""
    try:
        return state.decode_update(record.value)
    except (TypeError, ValueError) as error:
        raise foreign("an update of a company in the companies topic", record, error) from error


class CompanyHandler:
    """Decides and commits the cycles of the companies topic.

    An update applied twice changes nothing, so that nothing is counted here and no message needs to be remembered.
    """

    def __init__(self, context: Context, meter: StageMeter) -> None:
        self._context = context
        self._meter = meter
        self._writer = context.writer("company")
        self._table = companies_table(context.settings)
        self._changelogs = context.changelogs(self._table.topic)
        context.standbys.add(self._table)
        self._owned: dict[Partition, OwnedState] = {}
        self._under_way: list[CompanyPlan] = []
        """Plans whose changes the stores do not hold yet, the oldest first."""

    async def take_over(self, partition: Partition) -> int:
        """Fence the older owner, restore, and go on at the lesser of S and P."""
        owned = await take_over_state(self._context, self._table, partition, self._changelogs)
        self._owned[partition] = owned
        return min(owned.applied, owned.committed)

    async def release(self, partition: Partition) -> None:
        """Close the store."""
        self._owned.pop(partition).store.close()

    def passed_over(self, partition: Partition, position: int) -> None:
        """Nothing: no transaction writes this topic."""

    def has_work(self) -> bool:
        """Whether companies are to be made again, because a definition was changed since they were made."""
        retyped = self._context.definitions.current.retyped
        return any(owned.is_to_remake(retyped) for owned in self._owned.values())

    async def decide(self, taken: Mapping[Partition, Sequence[Record]]) -> CompanyPlan:
        """Every company that was touched, and its row."""
        plan, turns = CompanyPlan(now_ms()), Turns()
        definitions = self._context.definitions.current
        plan.batch.definitions_version = definitions.version
        for partition, records in taken.items():
            owned = self._owned[partition]
            updates = [read_update(record) for record in records]
            kept = self._load(owned, {update.company_id for update in updates})
            for update in updates:
                kept[update.company_id] = apply_company(kept.get(update.company_id), update, definitions)
            await turns.give()
            to_offset = records[-1].offset + 1
            if to_offset > owned.committed:
                plan.batch.companies.extend((company_row(name, kept[name], definitions), to_offset) for name in kept)
            plan.batch.progress.append(
                Move(
                    *partition,
                    owned.epoch,
                    owned.committed,
                    max(owned.committed, to_offset),
                    definitions_version=owned.definitions_version,
                    **last_of(owned, records),
                )
            )
            owned.applied, owned.committed = max(owned.applied, to_offset), max(owned.committed, to_offset)
            plan.changes.append((owned, kept, owned.applied))
        for owned in self._owned.values():
            if owned.is_to_remake(definitions.retyped):
                self._remake(owned, definitions, plan)
        self._under_way.append(plan)
        return plan

    def _load(self, owned: OwnedState, names: set[str]) -> dict[str, state.CompanyRecord]:
        """Records of these companies: from the cycles under way, and else from the store."""
        kept: dict[str, state.CompanyRecord] = {}
        for plan in self._under_way:
            for of, changes, _ in plan.changes:
                if of is owned:
                    kept.update((name, changes[name]) for name in changes.keys() & names)
        wanted = [name for name in names if name not in kept]
        stored = owned.store.get_many(companies.FAMILY, [companies.company_key(name) for name in wanted])
        kept.update(
            (name, state.decode_company(record))
            for name, record in zip(wanted, stored, strict=True)
            if record is not None
        )
        return kept

    def _remake(self, owned: OwnedState, definitions: Definitions, plan: CompanyPlan) -> None:
        """Make the next companies of a partition again, under definitions that were changed by hand."""
        first, end = companies.PREFIXES
        start = first if owned.remade_to is None else owned.remade_to + b"\0"
        keys = next_to_remake(
            owned,
            plan.batch,
            definitions,
            owned.store.keys(companies.FAMILY, start, end),
            (
                companies.company_key(name)
                for under_way in [*self._under_way, plan]
                for of, changes, _ in under_way.changes
                if of is owned
                for name in changes
            ),
            at_most=REMADE_COMPANIES_MAX,
        )
        names = set(map(companies.company_of, keys))
        kept = self._load(owned, names)
        for of, changes, _ in plan.changes:
            if of is owned:
                kept.update((name, changes[name]) for name in changes.keys() & names)
        plan.batch.companies.extend(
            (company_row(name, record, definitions), owned.committed) for name, record in kept.items()
        )

    async def commit(self, plan: CompanyPlan) -> None:
        """(b) One Postgres transaction for all partitions: rows and P. Nothing goes out to others, (a)."""
        with self._meter.step("postgres"):
            refused = await self._writer.commit(plan.batch)
        crash_points.reached("company-written")
        self._context.metrics.written(plan.batch)
        if refused:
            log.error("Postgres refused rows of companies, which stay as they were: %s", refused)

    async def settle(self, plans: Sequence[CompanyPlan]) -> None:
        """(c) The changelog, (d) the stores, (e) done."""
        for plan in plans:
            await self._settle(plan)

    async def _settle(self, plan: CompanyPlan) -> None:
        with self._meter.step("changelog"):
            logged = await self._log_changes(plan)
        crash_points.reached("company-logged")
        with self._meter.step("store"):
            for owned, pairs, position in logged:
                owned.store.apply([(companies.FAMILY, pairs)], {self._context.settings.companies_changelog: position})
        crash_points.reached("company-stored")
        self._under_way.remove(plan)

    async def _log_changes(self, plan: CompanyPlan) -> list[Logged]:
        """Log what a cycle changes; returns what each store is to hold then, and the changelog position reached."""
        topic = self._context.settings.companies_changelog
        stored: list[Pairs] = []
        runs: dict[tuple[str, int], Sequence[Content]] = {}
        for owned, kept, applied in plan.changes:
            pairs: Pairs = [(companies.company_key(name), state.encode(record)) for name, record in kept.items()]
            pairs.append((APPLIED, encode_position(applied)))
            runs[topic, owned.partition.partition] = self._changelogs.run_of(plan.decided_ms, pairs)
            stored.append(pairs)
        ends = await self._changelogs.transact_runs(runs)
        return [
            Logged(owned, pairs, ends[topic, owned.partition.partition])
            for (owned, _, _), pairs in zip(plan.changes, stored, strict=True)
        ]

"""What a worker does with the partitions of one topic: take over, decide, commit in steps.

Each step is as `LeafHandler`, `CompanyHandler` and `streams.engine.ownership` have it, less the waiting: `advance` does
the least part of a commit that can be done alone, so that anything may happen before the next.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from contracts import records as state
from domain.company import apply_company, company_row
from sinks.postgres.batch import Batch, Move
from streams.agents.leaf_partition import PartitionCycle
from streams.native import is_installed
from tables.companies import company_key
from tables.positions import APPLIED, encode_position
from tests.messages import RULES
from tests.simulation.kafka import Kafka, LogRecord, Partition, Store, Transaction
from tests.twins import finished, hot

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from random import Random

    from contracts.definitions import Definitions
    from contracts.settings import Settings
    from streams.agents.leaf_partition import Read
    from streams.engine.producer import Outgoing
    from tests.simulation.postgres import Postgres

COMMIT: tuple[str, ...] = ("outgoing", "postgres")
"""(a) and (b): what is done of each cycle."""

SETTLING: tuple[str, ...] = ("changelog", "store")
"""(c) and (d): what is done of the cycles that are committed, of a few at a time."""

NATIVE_SHARE: float = 0.5 if is_installed() else 0.0
"""Of workers that decide with the compiled hot path."""

CYCLES_MAX: Final = (3, 8)
"""Cycles of one stage under way at once."""


@dataclass(eq=False, slots=True)
class Owned:
    """A partition as its owner knows it."""

    partition: Partition
    epoch: int
    store: Store
    applied: int
    """S, as far as cycles have been decided."""
    committed: int
    """P, likewise."""
    taken: int
    """Offset of the next record that a cycle takes."""
    highs: dict[str, int]


@dataclass(eq=False, slots=True)
class Change:
    """What plans change in the state of one partition: encoded records, None removes."""

    owned: Owned
    applied: int
    records: Mapping[bytes, bytes | None]
    seen: dict[bytes, int]
    transaction: Transaction | None = None
    position: int = 0

    def encoded(self) -> Transaction:
        return Transaction([*self.records.items(), (APPLIED, encode_position(self.applied))], self.seen)


@dataclass(eq=False, slots=True)
class Plan:
    """One cycle, decided."""

    taken: list[tuple[Owned, list[LogRecord]]] = field(default_factory=list)
    batch: Batch = field(default_factory=Batch)
    outgoing: list[Outgoing] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    step: int = 0
    """Of `COMMIT`."""
    sends: list[deque[Outgoing]] | None = None
    """What is left to send, by target; a target's records keep their order."""

    @property
    def is_committed(self) -> bool:
        return self.step == len(COMMIT)


@dataclass(eq=False, slots=True)
class Settling:
    """The settling of some cycles, and how far it is."""

    plans: list[Plan]
    changes: list[Change]
    """Of each partition, those of all cycles in one."""
    step: int = 0
    stored: int = 0
    """How many of the changes the stores have."""


class Stage:
    """One worker's part of one topic."""

    def __init__(self, name: str, kafka: Kafka, postgres: Postgres, settings: Settings, random: Random) -> None:
        self.name = name
        self.kafka = kafka
        self.postgres = postgres
        self.settings = settings
        self.random = random
        self.appetite = random.choice((0.3, 1.0, 3.0, 100.0))
        """How much of what is pending a cycle takes: the less, the greater this is."""
        self.haste = random.choice((0.02, 0.2, 0.6))
        """How soon a cycle is decided: the later, the more is pending."""
        self.overlap = random.choice((0.1, 0.5, 0.9))
        """How soon the next cycle is committed while some are settled, or wait for it."""
        self.cycles_max = random.choice(CYCLES_MAX)
        self.definitions = postgres.definitions
        self.rules = RULES
        self.writer = kafka.new_writer()
        self.owned: dict[Partition, Owned] = {}
        self.plans: list[Plan] = []
        self.settling: Settling | None = None
        self.stores: dict[Partition, Store] = {}

    def take_over(self, partition: Partition) -> Owned:
        """Fence the older owner unless he has let go, restore, and go on at the lesser of S and P."""
        progress = self.postgres.take(partition)
        if progress.writer not in {None, self.writer}:
            self.kafka.fence(progress.writer)
        progress.writer = self.writer
        store = self.stores.setdefault(partition, Store())
        store.restore(self.kafka.changelogs[partition])
        committed = progress.next_offset or 0
        owned = Owned(
            partition,
            progress.epoch,
            store,
            store.applied,
            committed,
            min(store.applied, committed),
            dict(progress.source_highs),
        )
        self.owned[partition] = owned
        return owned

    def pending(self) -> list[Owned]:
        """Partitions with records that no cycle has taken."""
        logs = self.kafka.logs
        return [owned for owned in self.owned.values() if owned.taken < len(logs[owned.partition])]

    def can_decide(self) -> bool:
        """Whether a cycle may begin."""
        if len(self.plans) < self.cycles_max:
            logs = self.kafka.logs
            for owned in self.owned.values():
                if owned.taken < len(logs[owned.partition]):
                    return True
        return False

    def decide(self) -> Plan:
        """Take some records of some partitions, and decide what follows."""
        random, plan = self.random, Plan()
        pending = self.pending()
        chosen = [owned for owned in pending if random.random() < 0.7] or [random.choice(pending)]
        for owned in chosen:
            log = self.kafka.logs[owned.partition]
            count = 1 + int(random.random() ** self.appetite * (len(log) - owned.taken))
            plan.taken.append((owned, log[owned.taken : owned.taken + count]))
            owned.taken += count
        self._decide(plan)
        self.plans.append(plan)
        return plan

    def _decide(self, plan: Plan) -> None:
        raise NotImplementedError

    def advance(self) -> str:
        """Go a little on: commit the next plan, or settle some of those that are committed; returns what was done.

        Raises ProducerFencedError or FencedError where a partition is not ours any more.
        """
        committed = [plan for plan in self.plans if plan.is_committed]
        following = next((plan for plan in self.plans if not plan.is_committed), None)
        if following is not None and (not committed or self.random.random() < self.overlap):
            return self._commit(following)
        if self.settling is None:
            count = 1 + int(self.random.random() * len(committed))
            self.settling = self._settling_of(committed[:count])
        return self._settle(self.settling)

    def _commit(self, plan: Plan) -> str:
        step = COMMIT[plan.step]
        if step == "postgres":
            self.postgres.commit(plan.batch)
            plan.step += 1
        elif self._send_some(plan):
            plan.step += 1
        return step

    def _settling_of(self, plans: list[Plan]) -> Settling:
        changes: dict[Partition, Change] = {}
        for plan in plans:
            for change in plan.changes:
                before = changes.get(change.owned.partition)
                records, seen = ({}, {}) if before is None else (before.records, before.seen)
                changes[change.owned.partition] = Change(
                    change.owned, change.applied, {**records, **change.records}, {**seen, **change.seen}
                )
        return Settling(plans, self.random.sample([*changes.values()], len(changes)))

    def _settle(self, settling: Settling) -> str:
        step = SETTLING[settling.step]
        done = True
        if step == "changelog":
            self._log(settling.changes)
        elif settling.changes:
            self._store(settling.changes[settling.stored])
            settling.stored += 1
            done = settling.stored == len(settling.changes)
        if done:
            settling.step += 1
            if settling.step == len(SETTLING):
                del self.plans[: len(settling.plans)]
                self.settling = None
        return step

    def _send_some(self, plan: Plan) -> bool:
        if plan.sends is None:
            targets: dict[Partition, deque[Outgoing]] = {}
            for record in plan.outgoing:
                targets.setdefault((record.topic, record.partition), deque()).append(record)
            plan.sends = list(targets.values())
        if plan.sends:
            index = int(self.random.random() * len(plan.sends))
            records = plan.sends[index]
            for _ in range(1 + int(self.random.random() * len(records))):
                self.kafka.append(records.popleft())
            if not records:
                del plan.sends[index]
        return not plan.sends

    def _log(self, changes: list[Change]) -> None:
        transactions = {change.owned.partition: change.encoded() for change in changes}
        positions = self.kafka.transact(self.writer, transactions)
        for change in changes:
            change.transaction = transactions[change.owned.partition]
            change.position = positions[change.owned.partition]

    def _store(self, change: Change) -> None:
        change.owned.store.apply(change.transaction or change.encoded(), change.position)

    def unsent(self) -> list[deque[Outgoing]]:
        """What a crash leaves unsent of the cycle that had begun to send."""
        return next((plan.sends for plan in self.plans if plan.sends), [])

    def clear(self) -> None:
        """The process has ended; another one begins."""
        self.owned.clear()
        self.plans.clear()
        self.settling = None
        self.definitions = self.postgres.definitions
        self.writer = self.kafka.new_writer()

    def let_go(self, partition: Partition) -> None:
        """A rebalance has given the partition to somebody else; nothing is under way."""
        if self.owned.pop(partition, None) is not None:
            self.postgres.let_go(partition, self.writer)


class LeafStage(Stage):
    """The leaves topic, with the real decisions (`LeafHandler.decide`), of either twin."""

    def __init__(self, name: str, kafka: Kafka, postgres: Postgres, settings: Settings, random: Random) -> None:
        super().__init__(name, kafka, postgres, settings, random)
        self.hot = hot(is_native=random.random() < NATIVE_SHARE, settings=settings)

    def _decide(self, plan: Plan) -> None:
        cycles = [
            (
                owned,
                PartitionCycle(
                    self.settings,
                    self.rules,
                    self.hot,
                    records,
                    applied=owned.applied,
                    committed=owned.committed,
                    highs=owned.highs,
                ),
            )
            for owned, records in plan.taken
        ]
        new: set[tuple[str, str]] = set()
        for _, cycle in cycles:
            finished(cycle.read(self.definitions))
            new |= cycle.undefined(self.definitions)
        if new:
            self.definitions = self.postgres.ensure(new)
        plan.batch.definitions_version = self.definitions.version
        for owned, cycle in cycles:
            self._decide_partition(owned, cycle, self.definitions, plan)

    def _decide_partition(self, owned: Owned, cycle: PartitionCycle, definitions: Definitions, plan: Plan) -> None:
        decided = finished(
            cycle.decide(
                definitions, self._reader(owned), self._finder(owned), batch=plan.batch, outgoing=plan.outgoing
            )
        )
        committed = max(owned.committed, cycle.to_offset)
        plan.batch.progress.append(
            Move(
                *owned.partition,
                owned.epoch,
                owned.committed,
                committed,
                applied=decided.counts.applied,
                duplicate=decided.counts.duplicate,
                warnings=decided.counts.warnings,
                source_highs=cycle.grown,
            )
        )
        owned.highs.update(cycle.grown)
        owned.applied, owned.committed = decided.applied, committed
        plan.changes.append(Change(owned, decided.applied, decided.records, decided.seen))

    def _unstored(self, owned: Owned) -> list[Change]:
        return [change for plan in reversed(self.plans) for change in plan.changes if change.owned is owned]

    def _reader(self, owned: Owned) -> Read:
        changes = self._unstored(owned)

        def read(keys: Collection[bytes]) -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = {}
            for key in keys:
                of = next((change.records for change in changes if key in change.records), owned.store.records)
                if (kept := of.get(key)) is not None:
                    found[key] = kept
            return found

        return read

    def _finder(self, owned: Owned) -> Any:
        changes = self._unstored(owned)

        def find(keys: Sequence[bytes]) -> dict[bytes, int]:
            found: dict[bytes, int] = {}
            for seen in (owned.store.seen, *(change.seen for change in changes)):
                found.update((key, seen[key]) for key in keys if key in seen)
            return found

        return find


class CompanyStage(Stage):
    """The companies topic (`CompanyHandler.decide`)."""

    def _decide(self, plan: Plan) -> None:
        plan.batch.definitions_version = self.definitions.version
        for owned, records in plan.taken:
            kept: dict[bytes, state.CompanyRecord] = {}
            names: dict[bytes, str] = {}
            for record in records:
                update = state.decode_update(cast("bytes", record.value))
                key = company_key(update.company_id)
                names[key] = update.company_id
                old = kept[key] if key in kept else self._known(owned, key)
                kept[key] = apply_company(old, update, self.definitions)
            to_offset = records[-1].offset + 1
            committed = max(owned.committed, to_offset)
            if to_offset > owned.committed:
                plan.batch.companies.extend(
                    (company_row(names[key], record, self.definitions), to_offset) for key, record in kept.items()
                )
            plan.batch.progress.append(Move(*owned.partition, owned.epoch, owned.committed, committed))
            owned.applied, owned.committed = max(owned.applied, to_offset), committed
            encoded = {key: state.encode(record) for key, record in kept.items()}
            plan.changes.append(Change(owned, owned.applied, encoded, {}))

    def _known(self, owned: Owned, key: bytes) -> state.CompanyRecord | None:
        unstored = (
            change.records
            for plan in reversed(self.plans)
            for change in plan.changes
            if change.owned is owned and key in change.records
        )
        stored = next(unstored, owned.store.records).get(key)
        return None if stored is None else state.decode_company(stored)

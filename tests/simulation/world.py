"""The world of one run: routers, workers, an operator, and everything that goes wrong between them.

What happens next is drawn from the seed. While it is chaotic, workers die at any point of a commit, lose partitions
without noticing, and what they had begun to send arrives late or never; then nothing breaks any more and all that
is left is worked off, as a real system would once it is left alone.
"""

from __future__ import annotations

from collections import deque
from functools import cache, partial
from typing import TYPE_CHECKING, Final

from contracts.origins import ACT, KIND_HEADER, ORIGIN_HEADER, Origin
from contracts.outcomes import Refusal
from contracts.records import PairAct, encode
from contracts.settings import Settings
from domain.identity import route
from sinks.postgres.batch import Batch, Move
from streams.agents.quarantine import quarantine_row, quarantined
from streams.engine.context import partition_of
from streams.engine.producer import Outgoing
from tests.messages import KAFKA_MS, RULES
from tests.simulation.kafka import Kafka, Partition, ProducerFencedError
from tests.simulation.postgres import FencedError, Postgres
from tests.simulation.stages import CompanyStage, LeafStage, Stage
from tests.simulation.telling import told_plan, told_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.oracle import Record
    from tests.simulation.scenario import Scenario
    from tests.simulation.stages import Owned

EVENTS_MAX: Final = 20_000
"""A run that is not at rest by then will never be: most need a few hundred."""


@cache
def _settings(leaves_partitions: int) -> Settings:
    return Settings(leaves_partitions=leaves_partitions, companies_partitions=2)


def _ahead(owned: Owned) -> str:
    if owned.applied == owned.committed:
        return ""
    return "ahead in state: " if owned.applied > owned.committed else "ahead in Postgres: "


class UnrestError(Exception):
    """The world does not come to rest."""


class Router:
    """Forwards one source partition, with nothing but its committed position to remember."""

    def __init__(self, world: World, records: list[Record]) -> None:
        self.world = world
        self.records = records
        self.sends: list[deque[Outgoing]] = []
        self.batch: Batch | None = None
        """Committed once everything is sent."""
        self.partition = records[0].topic, records[0].partition
        self.take_over()

    def take_over(self) -> None:
        progress = self.world.postgres.take(self.partition)
        self.epoch, self.committed = progress.epoch, progress.next_offset or 0
        self.sends, self.batch = [], None

    def has_work(self) -> bool:
        return self.batch is not None or self.committed < len(self.records)

    def step(self) -> str:
        """Decide a cycle, or go a little on with it."""
        random, postgres = self.world.random, self.world.postgres
        if self.batch is None:
            count = 1 + int(random.random() * min(12, len(self.records) - self.committed))
            self._decide(self.records[self.committed : self.committed + count])
            return f"decides on {count} records from {self.committed}"
        if self.sends:
            index = int(random.random() * len(self.sends))
            records = self.sends[index]
            for _ in range(1 + int(random.random() * len(records))):
                self.world.kafka.append(records.popleft())
            if not records:
                del self.sends[index]
            return "sends"
        postgres.commit(self.batch)
        self.committed = self.batch.progress[0].to_offset
        self.batch = None
        return f"commits up to {self.committed}"

    def _decide(self, records: list[Record]) -> None:
        settings = self.world.settings
        targets: dict[Partition, deque[Outgoing]] = {}
        for record in records:
            origin = Origin(*self.partition, record.offset, record.kafka_time_ms)
            routed = route(record.value, self.world.rules)
            if isinstance(routed, Refusal):
                sent = quarantined(settings, origin, routed, record.value)
            else:
                key = routed.leaf.encode()
                number = partition_of(key, settings.leaves_partitions)
                headers = [(ORIGIN_HEADER, origin.pack())]
                sent = Outgoing(settings.leaves_topic, number, key, record.value, record.kafka_time_ms, headers)
            targets.setdefault((sent.topic, sent.partition), deque()).append(sent)
        self.sends = list(targets.values())
        to_offset = records[-1].offset + 1
        self.batch = Batch(progress=[Move(*self.partition, self.epoch, self.committed, to_offset, read=len(records))])


class World:
    """One run. `events` tells what happened, if `is_told`."""

    def __init__(self, scenario: Scenario, random: Random, *, is_told: bool = False) -> None:
        self.random = random
        self.rules = RULES
        """Of the routers; each stage has its own."""
        self.kafka = Kafka()
        self.postgres = Postgres()
        self.settings = _settings(scenario.leaves_partitions)
        self.routers = [Router(self, records) for records in scenario.sources if records]
        self.acts = list(scenario.acts)
        self.late: list[deque[Outgoing]] = []
        """Sent by workers that have died since; still on the way."""
        self.promptness = random.choice((0.01, 0.3))
        """How soon it arrives."""
        make = (self.kafka, self.postgres, self.settings, random)
        workers = random.randint(2, 3)
        self.stages: list[Stage] = [LeafStage(f"worker {number}", *make) for number in range(workers)]
        self.stages += [CompanyStage(f"company worker {number}", *make) for number in range(2)]
        settings = self.settings
        self.candidates = {
            (settings.leaves_topic, number): range(workers) for number in range(settings.leaves_partitions)
        } | {
            (settings.companies_topic, number): range(workers, workers + 2)
            for number in range(settings.companies_partitions)
        }
        """Partitions, each with who may own it."""
        self.backup = self.postgres.backup()
        self.owners: dict[Partition, int] = {}
        """Who owns each partition, as the group has it: an index of `stages`."""
        self.chaos = random.choice((0.0, 0.01, 0.04, 0.12, 0.25))
        """How often something breaks."""
        self.chaotic_events = random.choice((30, 100, 300))
        self.weights = [random.choice((0.2, 1.0, 3.0)) for _ in self.stages]
        """Some workers are slow."""
        self.is_told = is_told
        self.events: list[str] = []
        if is_told:
            self.events += [told_source(record) for records in scenario.sources for record in records]

    def run(self) -> None:
        """Let things happen until nothing is left to do."""
        for number in range(EVENTS_MAX):
            if number < self.chaotic_events and self.random.random() < self.chaos:
                self._break_something()
            elif not self._work():
                break
        else:
            raise UnrestError(f"not at rest after {EVENTS_MAX} events")
        quarantine = self.kafka.logs[self.settings.quarantine_topic, 0]
        self.postgres.commit(Batch(quarantined=[quarantine_row(record) for record in quarantine]))

    def _tell(self, event: str) -> None:
        if self.is_told:
            self.events.append(event)

    def _work(self) -> bool:
        """Let somebody do something; False where nobody has anything to do."""
        does: list[Callable[[], None]] = []
        weights: list[float] = []
        for router in self.routers:
            if router.has_work():
                does.append(partial(self._route, router))
                weights.append(0.7)
        for number, stage in enumerate(self.stages):
            if stage.plans:
                does.append(partial(self._go_on, number))
                weights.append(self.weights[number])
            if stage.can_decide():
                does.append(partial(self._decide, stage))
                weights.append(stage.haste)
        if self.acts:
            does.append(self._act)
            weights.append(0.3)
        if self.late:
            does.append(self._arrive_late)
            weights.append(self.promptness)
        if len(self.owners) < len(self.candidates):
            does.append(self._assign)
            weights.append(1.5)
        if not does:
            return False
        self.random.choices(does, weights)[0]()
        return True

    def _route(self, router: Router) -> None:
        done = router.step()
        self._tell(f"router {router.partition[1]} {done}")

    def _decide(self, stage: Stage) -> None:
        plan = stage.decide()
        if self.is_told:
            self._tell(f"{stage.name} decides on {told_plan(plan)}")

    def _go_on(self, number: int) -> None:
        """One stage goes on with a commit, or ends where it finds out that it was replaced."""
        stage = self.stages[number]
        try:
            done = stage.advance()
        except (ProducerFencedError, FencedError) as error:
            self._tell(f"{stage.name} is fenced: {error}")
            self._end(number)
        else:
            self._tell(f"{stage.name} goes on with {done}")

    def _act(self) -> None:
        """The operator appends an act to the leaves topic."""
        anonymous, user, act = self.acts.pop()
        key = anonymous.encode()
        partition = partition_of(key, self.settings.leaves_partitions)
        value = encode(PairAct(user, act))
        self.kafka.append(Outgoing(self.settings.leaves_topic, partition, key, value, KAFKA_MS, [(KIND_HEADER, ACT)]))
        self._tell(f"the operator {'allows' if act.is_allowed else 'unclaims'} {anonymous} and {user} as of {act.at}")

    def _arrive_late(self) -> None:
        """Some of what the dead have sent arrives."""
        index = int(self.random.random() * len(self.late))
        records = self.late[index]
        for _ in range(1 + int(self.random.random() * len(records))):
            self.kafka.append(records.popleft())
        if not records:
            del self.late[index]
        self._tell("some of what the dead have sent arrives")

    def _assign(self) -> None:
        """Somebody takes over a partition that nobody has."""
        free = [partition for partition in self.candidates if partition not in self.owners]
        self._take_over(self.random.choice(free))

    def _take_over(self, partition: Partition) -> None:
        number = self.random.choice(self.candidates[partition])
        stage = self.stages[number]
        if partition in stage.owned:
            return
        owned = stage.take_over(partition)
        self.owners[partition] = number
        self._tell(f"{stage.name} takes {partition} over, {_ahead(owned)}S {owned.applied}, P {owned.committed}")

    def _break_something(self) -> None:
        random = self.random
        drawn = random.random()
        if drawn < 0.15:
            router = random.choice(self.routers)
            self._lose(router.sends)
            router.take_over()
            self._tell(f"router {router.partition[1]} dies")
        elif drawn < 0.55:
            self._end(int(random.random() * len(self.stages)))
        elif drawn < 0.6:
            self._put_back()
        elif drawn < 0.85:
            # The older owner goes on, as one whose session has timed out would, until it meets a fence.
            self._take_over(random.choice(list(self.candidates)))
        else:
            self._release()

    def _end(self, number: int) -> None:
        """A worker dies. Its disk mostly survives it; what it had begun to send may."""
        stage = self.stages[number]
        self._lose(stage.unsent())
        stage.clear()
        keeps_disk = self.random.random() < 0.7
        if not keeps_disk:
            stage.stores.clear()
        self.owners = {partition: owner for partition, owner in self.owners.items() if owner != number}
        self._tell(f"{stage.name} dies{'' if keeps_disk else ', with its disk'}")

    def _put_back(self) -> None:
        """Postgres is backed up; or everything is stopped, and Postgres put back to the last backup."""
        if self.random.random() < 0.7:
            self.backup = self.postgres.backup()
            self._tell("Postgres is backed up")
            return
        self._tell("Postgres is put back")
        self.postgres.restore(self.backup)
        for number in range(len(self.stages)):
            self._end(number)
        for router in self.routers:
            self._lose(router.sends)
            router.take_over()

    def _lose(self, sends: list[deque[Outgoing]]) -> None:
        """Of what is unsent to each target, a part of the beginning may still arrive."""
        for records in sends:
            count = int(self.random.random() * 2 * len(records))
            if count > 0:
                self.late.append(deque(list(records)[:count]))

    def _release(self) -> None:
        """A rebalance: somebody who has finished what he had begun lets go of a partition."""
        idle = [partition for partition, number in self.owners.items() if not self.stages[number].plans]
        if idle:
            partition = self.random.choice(idle)
            number = self.owners.pop(partition)
            self.stages[number].let_go(partition)
            self._tell(f"{self.stages[number].name} lets go of {partition}")

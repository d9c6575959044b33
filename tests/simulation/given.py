"""Runs of messages and acts that a test gives, in every order: what comes out, in a form that a test can spell."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import permutations
from math import factorial
from random import Random
from typing import TYPE_CHECKING, Any, Final

from contracts.records import Act
from tests.oracle import Record
from tests.simulation.run import compared
from tests.simulation.scenario import TOPIC, PlannedAct, Scenario
from tests.simulation.world import Router, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Message = dict[str, Any]
Event = Message | PlannedAct

DAY: Final = datetime(2026, 3, 1, tzinfo=UTC)
KAFKA_MS: Final = int((DAY + timedelta(days=1)).timestamp() * 1000)
"""After the event time of every message."""

ORDERS_MAX: Final = 120
"""Of longer lists, so many orders are drawn; five things that happen are tried in every order."""


def at(minute: int) -> datetime:
    """The moment so many minutes into the day on which everything happens."""
    return DAY + timedelta(minutes=minute)


def message(kind: str, minute: int, /, **fields: Any) -> Message:
    """A message of that minute; its messageId is `m<minute>` unless another is given."""
    return {"type": kind, "messageId": f"m{minute}", "timestamp": at(minute).isoformat(), **fields}


def unclaim(anonymous: str, user: str, minute: int) -> PlannedAct:
    """An operator takes a pair of leaves apart."""
    return _act(anonymous, user, minute, is_allowed=False)


def allow(anonymous: str, user: str, minute: int) -> PlannedAct:
    """An operator lets the claims of a pair of leaves count again."""
    return _act(anonymous, user, minute, is_allowed=True)


def _act(anonymous: str, user: str, minute: int, *, is_allowed: bool) -> PlannedAct:
    time = int(at(minute).timestamp()) * 1_000_000
    return PlannedAct(anonymous, user, Act(is_allowed, time, f"act-{minute}", "because"))


@dataclass(frozen=True)
class Shown:
    """The public tables, each by its key. What is null, and an empty `attributes`, is left out of rows."""

    profiles: dict[str, dict[str, Any]]
    """Less `profile_id` and `user_id`, which follow from the key."""
    identities: dict[str, str]
    contests: dict[str, list[tuple[str, str]]]
    """Leaf to claimants, the owner first: user leaf and messageId."""
    views: dict[str, list[str]]
    """Profile to messageIds, by event time."""
    companies: set[tuple[str, str]]
    """Profile and company."""
    audiences: dict[tuple[str, str], bool]
    """Profile and audience."""
    quarantine: Counter[str]
    """By reason."""
    warnings: Counter[str]
    """By kind."""

    @classmethod
    def of(cls, world: World) -> Shown:
        tables = world.postgres.shown()
        views: dict[str, list[str]] = {}
        for row in sorted(tables["profile_page_views"], key=lambda row: row["event_time"]):
            views.setdefault(row["profile_id"], []).append(row["message_id"])
        for row in tables["identity_contests"]:
            first = row["claimants"][0]
            assert (row["owner"], row["since"]) == (first["user"], datetime.fromisoformat(first["at"]))
        for row in tables["profiles"]:
            assert (row["user_id"] is None) == row["profile_id"].startswith("anon:")
        return cls(
            {row["profile_id"]: _compact(row) for row in tables["profiles"]},
            {row["leaf"]: row["profile_id"] for row in tables["identities"]},
            {
                row["leaf"]: [(each["user"], each["message_id"]) for each in row["claimants"]]
                for row in tables["identity_contests"]
            },
            views,
            {(row["profile_id"], row["company_id"]) for row in tables["profile_companies"]},
            {(row["profile_id"], row["audience"]): row["member"] for row in tables["profile_audiences"]},
            Counter(str(row["reason"]) for row in tables["quarantine"]),
            sum((progress.warnings for progress in world.postgres.progress.values()), Counter()),
        )


def _compact(row: dict[str, Any]) -> dict[str, Any]:
    left_out = {"profile_id", "user_id"}
    return {name: value for name, value in row.items() if name not in left_out and value is not None and value != {}}


class Given:
    """A world in which nothing has happened yet, and to which a test tells what happens."""

    def __init__(self, seed: int = 0, *, is_compared: bool = True) -> None:
        """Without `is_compared` the test alone says what is right."""
        self.random = Random(seed)
        self.is_compared = is_compared
        self.planned = Scenario(self.random.choice((1, 2, 4)), [[]])
        self.world: World | None = None
        self.chaos = 0.0

    def then(self, *events: Event) -> Shown:
        """Let these arrive in this order on one source partition, and return the tables at rest.

        All that came so far is compared with its recomputation.
        """
        (records,) = self.planned.sources
        acts = []
        for event in events:
            if isinstance(event, PlannedAct):
                acts.append(event)
            else:
                records.append(Record(TOPIC, 0, len(records), KAFKA_MS, json.dumps(event).encode()))
        self.planned.acts += acts
        if self.world is None:
            self.world = World(Scenario(self.planned.leaves_partitions), self.random)
            self.chaos = self.world.chaos
        world = self.world
        if records and not world.routers:
            world.routers.append(Router(world, records))
        # One of the things that break is a router.
        world.chaos = self.chaos if world.routers else 0.0
        # Acts are popped off the end.
        world.acts += reversed(acts)
        world.run()
        if self.is_compared:
            _compare(world, self.planned)
        return Shown.of(world)


def one_after_another(events: Iterable[Event], seed: int = 0) -> Shown:
    """Let each of these have all its consequences before the next one comes."""
    given = Given(seed)
    for event in events:
        shown = given.then(event)
    return shown


def at_once(events: Iterable[Event], seed: int = 0) -> Shown:
    """Let these arrive on several source partitions, some of them twice, while workers and routers die."""
    random = Random(seed)
    sources: list[list[Record]] = [[] for _ in range(random.randint(1, 3))]
    acts = []
    for event in events:
        for _ in range(random.choices((1, 2), (85, 15))[0]):
            if isinstance(event, PlannedAct):
                acts.append(event)
            else:
                partition = random.randrange(len(sources))
                records = sources[partition]
                records.append(Record(TOPIC, partition, len(records), KAFKA_MS, json.dumps(event).encode()))
    planned = Scenario(random.choice((1, 2, 4)), sources, acts)
    world = World(planned, random)
    world.run()
    _compare(world, planned)
    return Shown.of(world)


def _compare(world: World, planned: Scenario) -> None:
    failures = compared(world, planned)
    assert not failures, "\n".join(failures)


def orders(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """Every order of these, or many where there are too many."""
    if factorial(len(events)) <= ORDERS_MAX:
        yield from permutations(events)
        return
    random = Random(len(events))
    for _ in range(ORDERS_MAX):
        yield random.sample(events, len(events))


def in_every_order(*events: Event) -> Shown:
    """Let these arrive in every order, one after another and at once; return what comes out, always the same."""
    expected = one_after_another(events)
    for seed, order in enumerate(orders(events)):
        for arrive in (one_after_another, at_once):
            try:
                shown = arrive(order, seed)
                for table in ("profiles", "identities", "contests", "views", "companies", "audiences"):
                    wanted, found = getattr(expected, table), getattr(shown, table)
                    assert found == wanted, f"{table}: expected {wanted}, found {found}"
            except Exception as error:
                error.add_note(f"{arrive.__name__}(order, {seed}), order = {order}")
                raise
    return expected

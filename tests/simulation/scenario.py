"""What happens outside: messages on source topics and operators' acts, drawn from a seed.

Few people, few devices, few moments: so that claims meet, times are equal, and values contend.
"""

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from contracts.definitions import COMPANY_SCOPE, USER_SCOPE, AttributeType, Definition, event_scope
from contracts.records import Act
from tests.messages import AT, KAFKA_MS
from tests.oracle import Definition as DefinedByHand
from tests.oracle import Record

TOPIC = "segment"
EVENTS = ("Order Completed", "Signed Up")
BY_HAND = [
    (USER_SCOPE, "score", Definition(AttributeType.NUMBER)),
    (USER_SCOPE, "vip", Definition(AttributeType.BOOLEAN)),
    (COMPANY_SCOPE, "seats", Definition(AttributeType.INTEGER)),
    (event_scope(EVENTS[0]), "total", Definition(AttributeType.NUMBER)),
]
"""Definitions made before the first message; all others come with the messages that need them."""
BY_HAND_OF_ORACLE = {(scope, name): DefinedByHand(str(each.type)) for scope, name, each in BY_HAND}

TRAITS: dict[str, tuple[Any, ...]] = {
    "email": ("a@b.co", "c@d.co", None),
    "first_name": ("Ann", "Bo", None),
    "plan": ("pro", "free", None, True, 12, ["x"]),
    "score": (1, 2.5, "3", "many", None),
    "vip": (True, "false", "perhaps", None),
}
CONTEXTS: tuple[dict[str, Any], ...] = ({}, {}, {"locale": "de"}, {"ip": "10.0.0.1", "timezone": "CET"})
BAD: tuple[Any, ...] = (b"{", b"[]", {"type": "wink", "userId": "u1"}, {"type": "page"}, {"type": "track"})


class PlannedAct(NamedTuple):
    """An operator's act on a pair of leaves."""

    anonymous: str
    user: str
    act: Act


@dataclass
class Scenario:
    """Everything that will be sent. `sources` holds the records of each source partition in their order."""

    leaves_partitions: int = 2
    sources: list[list[Record]] = field(default_factory=list)
    acts: list[PlannedAct] = field(default_factory=list)

    @property
    def unclaimed(self) -> set[tuple[str, str]]:
        """The pairs whose newest act takes them apart."""
        newest: dict[tuple[str, str], Act] = {}
        for anonymous, user, act in self.acts:
            held = newest.get((anonymous, user), act)
            newest[anonymous, user] = max(held, act, key=lambda each: (each.at, each.act_id))
        return {pair for pair, act in newest.items() if not act.is_allowed}


class _Author:
    """Writes the messages of one scenario."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.users = [f"u{number}" for number in range(1, random.choice((1, 2, 2, 3)) + 1)]
        self.anonymous = [f"a{number}" for number in range(1, random.choice((1, 2, 2, 3)) + 1)]
        self.moments = random.choice((2, 4, 30))
        self.named = random.choice((0.35, 0.6, 0.8))
        """How often a message has a userId."""
        self.ids = [f"m{number:02}" for number in random.sample(range(100), 45)]
        """In no order, so that messageIds break ties against the order of arrival."""

    def time(self) -> int:
        """One of a few moments, in milliseconds, before Kafka's time."""
        return AT // 1000 + int(self.random.random() * self.moments) * 500

    def traits(self) -> dict[str, Any]:
        names = self.random.sample(list(TRAITS), self.random.randint(1, 3))
        return {name: self.random.choice(TRAITS[name]) for name in names}

    def message(self) -> dict[str, Any] | bytes:
        random = self.random
        if random.random() < 0.04:
            bad = random.choice(BAD)
            return bad if isinstance(bad, bytes) else {**bad, "messageId": self.ids.pop()}
        kind = random.choices(("identify", "page", "screen", "track", "group", "alias"), (30, 30, 5, 15, 8, 12))[0]
        message: dict[str, Any] = {"type": kind, "messageId": self.ids.pop()}
        if random.random() < 0.97:
            message["timestamp"] = self.time()
        has_user = random.random() < self.named
        if has_user:
            message["userId"] = random.choice(self.users) if random.random() < 0.97 else "null"
        if not has_user or random.random() < 0.65:
            message["anonymousId"] = random.choice(self.anonymous) if random.random() < 0.97 else "undefined"
        getattr(self, f"_{kind}")(message)
        return message

    def _identify(self, message: dict[str, Any]) -> None:
        message["traits"] = self.traits() if self.random.random() < 0.97 else "all"
        message["context"] = dict(self.random.choice(CONTEXTS))
        if self.random.random() < 0.15:
            message["context"]["personas"] = {"computation_class": "audience", "computation_key": "lions"}
            message["traits"] = {"lions": self.random.random() < 0.5}

    def _page(self, message: dict[str, Any]) -> None:
        message["properties"] = {"path": "/" + self.random.choice("xyz")}

    _screen = _page

    def _track(self, message: dict[str, Any]) -> None:
        if self.random.random() < 0.95:
            message["event"] = self.random.choice(EVENTS)
        message["properties"] = {"total": self.random.choice((1, "2", "lots", None)), "by": self.random.choice("cd")}

    def _group(self, message: dict[str, Any]) -> None:
        message["groupId"] = self.random.choice(("acme", "globex"))
        message["traits"] = {
            "name": self.random.choice(("Acme", "ACME", None)),
            "seats": self.random.choice((5, "7", "some", None)),
        }

    def _alias(self, message: dict[str, Any]) -> None:
        message["previousId"] = self.random.choice(self.anonymous) if self.random.random() < 0.95 else "null"

    def acts(self) -> list[PlannedAct]:
        random = self.random
        acts = []
        for number in range(random.choice((0, 0, 1, 2, 4, 6))):
            at = AT + random.randrange(3)
            act = Act(random.random() < 0.35, at, f"act-{random.randrange(100):02}-{number}", "because")
            pair = "anon:" + random.choice(self.anonymous), "user:" + random.choice(self.users)
            acts += [PlannedAct(*pair, act)] * random.choice((1, 1, 1, 2))
        random.shuffle(acts)
        return acts


def scenario(random: Random) -> Scenario:
    """Draw a scenario: some dozens of records in one to three source partitions."""
    author = _Author(random)
    values = []
    for number in range(random.choice((3, 8, 20, 40))):
        message = author.message()
        value = message if isinstance(message, bytes) else json.dumps(message, separators=(",", ":")).encode()
        values += [(KAFKA_MS + number, value)] * random.choices((1, 2, 3), (85, 12, 3))[0]
    if random.random() < 0.7:
        random.shuffle(values)
    sources: list[list[Record]] = [[] for _ in range(random.randint(1, 3))]
    for time_ms, value in values:
        partition = random.randrange(len(sources))
        records = sources[partition]
        records.append(Record(TOPIC, partition, len(records), time_ms, value))
    return Scenario(random.choice((1, 2, 2, 3, 4)), sources, author.acts())

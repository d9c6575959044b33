"""A cycle of the leaves topic, decided by the compiled hot path and by Python alone: the same in every part."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, fields

from aiokafka.record.default_records import DefaultRecord
from hypothesis import event, given
from hypothesis import strategies as st

from contracts import records as state
from contracts.definitions import EVENTS, STRING, AttributeType, Definition, Definitions
from contracts.origins import ACT, CLAIM, CONTRIBUTION, KIND_HEADER, ORIGIN_HEADER, REDRIVE_HEADER, ROWS, WHOLE, Origin
from contracts.outcomes import Refusal
from contracts.settings import Settings
from domain.identity import route
from domain.ownership import ANONYMOUS_LEAVES_MAX
from examples.generate import generate
from sinks.postgres.batch import Batch
from streams.agents.leaf_partition import PartitionCycle
from tables import leaves
from tests.messages import KAFKA_MS, RULES, raw
from tests.property.strategies import NUMBERS, messages
from tests.property.test_typing import CHOICES
from tests.twins import fetched, finished, hot, needs_native

pytestmark = needs_native

SETTINGS = Settings()
TYPES = dict(zip(NUMBERS, [kind for kind in AttributeType if kind is not AttributeType.STRING], strict=True))
DEFINED = Definitions().extended(
    1, [(scope, name, Definition(kind, CHOICES)) for scope in ("user", "company") for name, kind in TYPES.items()]
)
USERS = ("user:u1", "user:u2", "user:u3")
ANONYMOUS = ("anon:a1", "anon:a2")
TIMES = st.sampled_from([1_771_885_735_387_000, 1_771_885_735_388_000, 1_771_885_000_000_000])
IDS = st.sampled_from(["m-1", "m-2", "m-3"])
KEPT = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["red", "12", "2026-01-01", "x", "", '"', "true"]),
    st.sampled_from([["[1]"], ['{"a":1}'], ['["red"]']]),
)
FALLBACKS = st.builds(state.Fallback, KEPT, TIMES, IDS, st.just("segment/0/1"))
SLOTS = st.builds(state.Slot, KEPT, TIMES, IDS, st.just("segment/0/2"), st.none() | FALLBACKS)
TEXT_SLOTS = st.builds(state.Slot, st.none() | st.sampled_from(["x", "y"]), TIMES, IDS, st.just("segment/0/3"))
GIVEN = st.builds(
    state.GivenFields,
    st.dictionaries(st.sampled_from(["email", "city"]), TEXT_SLOTS, max_size=2),
    st.dictionaries(st.sampled_from([*NUMBERS, "plan"]), SLOTS, max_size=3),
)
COUNTERS = st.builds(state.LeafCounters, st.integers(0, 3), TIMES, st.none() | TIMES)
CLAIMED = st.builds(state.Claimed, TIMES, IDS, st.just("segment/0/4"))
LETTERS = st.one_of(
    st.tuples(st.sampled_from(ANONYMOUS), st.just(CLAIM), st.builds(state.Claim, st.sampled_from(USERS), CLAIMED)),
    st.tuples(
        st.sampled_from(USERS),
        st.just(CONTRIBUTION),
        st.builds(
            state.Contribution,
            st.sampled_from(ANONYMOUS),
            st.integers(1, 4),
            st.none() | COUNTERS,
            st.none() | GIVEN,
        ),
    ),
    st.tuples(
        st.sampled_from(ANONYMOUS),
        st.just(ACT),
        st.builds(
            state.PairAct,
            st.sampled_from(USERS),
            st.builds(state.Act, st.booleans(), TIMES, st.sampled_from(["x-1", "x-2"]), st.just("why")),
        ),
    ),
)
PLAIN = st.builds(
    lambda message, message_id, at: message | {"messageId": message_id, "timestamp": at},
    messages(),
    IDS,
    st.sampled_from(["2026-02-23T22:28:55.387Z", "2026-02-23T22:28:55.388Z"]),
)

VALUES = st.one_of(
    st.sampled_from(["red", "12", " 1.5 ", "2026-01-01T10:00:00+02:00", "true", "Ann", "é\u2028", "", '"']),
    st.sampled_from([None, True, False, "FALSE", 0, 1, -5, 2.0, 1e-5, 1e22, ["red"], [1, {"a": None}], {"a": [1.0]}]),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from([*NUMBERS, *["n", "plan", "vip"] * 3, "email", "name", "city"]), VALUES, min_size=1, max_size=4
)
ORDINARY = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["page", "screen", "track", "identify", "identify", "group"]),
        "messageId": st.sampled_from([f"m-{number}" for number in range(12)]),
        "timestamp": st.sampled_from(["2026-02-23T22:28:55.387Z", "2026-02-23T22:28:55.388Z", "2026-02-20"]),
        "anonymousId": st.sampled_from(["a1", "a2", "a3"]),
        "event": st.sampled_from(["Order Completed", "x"]),
        "groupId": st.sampled_from(["acme", "globex"]),
        "traits": ATTRIBUTES,
        "properties": ATTRIBUTES,
    },
    optional={"userId": st.sampled_from(["u1", "u2"])},
)
PERSONAS = st.fixed_dictionaries(
    {"computation_class": st.sampled_from(["audience", "audience", "journey_step", "computed_trait"])},
    optional={"computation_key": st.sampled_from(["vip", "vip", "plan", "email"])},
)


def of_engage(message, personas, key, value):
    """The same message as Engage would send it."""
    properties = message["properties"] | {"audience_key": key, "trait_key": key, key: value}
    traits = message["traits"] | {key: value}
    return message | {"context": {"personas": personas}, "traits": traits, "properties": properties}


ENGAGED = st.builds(
    of_engage, ORDINARY, PERSONAS, st.sampled_from(["vip", "vip", "plan"]), st.booleans() | st.just("false") | VALUES
)
ORDINARY_LETTERS = st.one_of(
    st.tuples(st.sampled_from(ANONYMOUS), st.just(CLAIM), st.builds(state.Claim, st.just(USERS[0]), CLAIMED)),
    st.tuples(
        st.sampled_from(USERS),
        st.just(CONTRIBUTION),
        st.builds(state.Contribution, st.sampled_from(ANONYMOUS), st.integers(1, 4), COUNTERS, st.none() | GIVEN),
    ),
)
USUAL = st.tuples(ORDINARY | ENGAGED, st.none())
ORDINARY_RECORDS = st.one_of(USUAL, USUAL, USUAL, ORDINARY_LETTERS)
REDRIVES = st.sampled_from([None, None, WHOLE, ROWS])
ODD_RECORDS = st.one_of(st.tuples(PLAIN, REDRIVES), st.tuples(ORDINARY, REDRIVES), st.tuples(messages(), REDRIVES))
RECORDS = st.sampled_from([USUAL] * 16 + [ORDINARY_LETTERS] * 3 + [LETTERS, *[ODD_RECORDS] * 2]).flatmap(
    lambda records: records
)
"""Mostly ordinary ones: of a leaf with one that is not, Python decides all."""


@dataclass(frozen=True)
class Step:
    """A cycle to be, and what was lost before it, as by a crash: so many cycles back."""

    records: list
    state_lost: int = 0
    rows_lost: int = 0
    retyped: AttributeType | None = None
    """The type that the attribute `plan` is of from now on."""


def histories(records):
    """Steps of one partition, and whether its user `u1` claims nearly as many leaves as one may when it begins."""
    lost = st.sampled_from([0, 0, 0, 1, 2])
    retyped = st.sampled_from([None, None, None, *AttributeType])
    steps = st.builds(Step, st.lists(records, min_size=1, max_size=12), lost, lost, retyped)
    return st.lists(steps, min_size=1, max_size=5), st.sampled_from([False] * 7 + [True])


@dataclass(frozen=True)
class State:
    """What a cycle begins with, and what it leaves behind."""

    records: dict
    seen: dict
    applied: int = 0


@dataclass(frozen=True)
class Written:
    """How far rows are written."""

    committed: int
    highs: dict


JSON = ("properties", "sent_properties", "attributes")
"""Columns."""

BUSY = {
    leaves.links_key(USERS[0]): state.encode(
        state.LeafLinks({f"anon:{number}": (1, "m") for number in range(ANONYMOUS_LEAVES_MAX - 1)})
    )
}


class History:
    """One partition, cycle after cycle, each decided by both twins from the same state: that which Python left."""

    def __init__(self, records=()):
        self.hot = hot(is_native=True)
        self.log = []
        self.states = [State(dict(records), {})]
        self.written = [Written(0, {})]
        self.definitions = DEFINED
        self.taken = self.taken_natively = 0
        self.met = set()
        """What is rare of all that its cycles met."""

    def append(self, key, value, headers, timestamp_ms=None):
        """Append a record to the partition."""
        at = KAFKA_MS + len(self.log) if timestamp_ms is None else timestamp_ms
        self.log.append(DefaultRecord(len(self.log), at, 0, key, value, headers))

    def draw(self, drawn):
        """Append a record that was drawn, but for a message that the router would not forward."""
        offset = len(self.log)
        if len(drawn) == 3:
            leaf, kind, letter = drawn
            self.append(leaf.encode(), state.encode(letter), [(KIND_HEADER, kind)])
            return
        message, redrive = drawn
        value = raw(message)
        routed = route(value, RULES)
        if not isinstance(routed, Refusal):
            origin = Origin("segment", offset % 2, offset if offset % 5 else 0, KAFKA_MS + offset)
            redriven = [] if redrive is None else [(REDRIVE_HEADER, redrive)]
            self.append(routed.leaf.encode(), value, [(ORIGIN_HEADER, origin.pack()), *redriven])

    def step(self, step):
        """Take a step; what the cycle sends to leaves is in the log when the next one begins."""
        if step.retyped is not None:
            version, retyped = self.definitions.version + 1, ("user", "plan", Definition(step.retyped, CHOICES))
            self.definitions = self.definitions.extended(version, [retyped])
        for drawn in step.records:
            self.draw(drawn)
        self.states = self.states[: max(1, len(self.states) - step.state_lost)]
        self.written = self.written[: max(1, len(self.written) - step.rows_lost)]
        self.cycle()

    def cycle(self):
        """Decide all that is new to the state or to Postgres, and compare."""
        before, written = self.states[-1], self.written[-1]
        records = self.log[min(before.applied, written.committed) :]
        if not records:
            return
        expected = Decision(None, records, before, written, self.definitions)
        found = Decision(
            self.hot, fetched(records, is_native=len(self.states) % 2 == 0), before, written, self.definitions
        )
        for name, value in expected.told().items():
            assert found.told()[name] == value, name
        self.taken += len(records)
        self.taken_natively += len(records) - found.left_to_python
        self.met.add(f"decided natively: {4 * (len(records) - found.left_to_python) // len(records)}/4")
        self.met.update(rare(expected))
        self.definitions = expected.definitions
        self.states.append(expected.after)
        self.written.append(Written(max(written.committed, len(self.log)), {**written.highs, **expected.cycle.grown}))
        for sent in expected.outgoing:
            if sent.topic == SETTINGS.leaves_topic:
                self.append(sent.key, sent.value, sent.headers, sent.timestamp_ms)


class Decision:
    """What one twin makes of a cycle."""

    def __init__(self, twin, records, before, written, definitions):
        self.cycle = PartitionCycle(
            SETTINGS, RULES, twin, records, applied=before.applied, committed=written.committed, highs=written.highs
        )
        finished(self.cycle.read(definitions))
        self.undefined = self.cycle.undefined(definitions)
        if self.undefined:
            attributes = [(scope, name, STRING) for scope, name in self.undefined if scope != EVENTS]
            events = [name for scope, name in self.undefined if scope == EVENTS]
            definitions = definitions.extended(definitions.version + 1, attributes, events)
        self.definitions = definitions
        self.batch, self.outgoing = Batch(), []
        steps = self.cycle.decide(
            definitions, found_in(before.records), found_in(before.seen), batch=self.batch, outgoing=self.outgoing
        )
        self.decided = finished(steps)
        self.left_to_python = len(self.cycle._items)
        changed = {**before.records, **self.decided.records}
        kept = {key: record for key, record in changed.items() if record is not None}
        self.after = State(kept, {**before.seen, **self.decided.seen}, self.decided.applied)

    def told(self):
        """All that the cycle leads to, in a form that can be compared: state to the byte, rows in any order."""
        counts = self.decided.counts
        return {
            "undefined": self.undefined,
            "grown": self.cycle.grown,
            "applied": self.decided.applied,
            "records": {key: told(key, kept) for key, kept in self.decided.records.items()},
            "encoded": self.decided.records,
            "seen": self.decided.seen,
            "counts": (counts.applied, counts.duplicate, +counts.warnings),
            "outgoing": sent(self.outgoing),
            "items": [(item.leaf, item.is_new, item.is_counted, item.refusal) for item in self.cycle.items()],
            **{each.name: rows(getattr(self.batch, each.name)) for each in fields(Batch)},
        }


def found_in(known):
    return lambda keys: {key: known[key] for key in keys if key in known}


def told(key, kept):
    """A record of state by what it says, for whoever reads what differs."""
    return None if kept is None else repr(leaves.decode(key, kept))


def rows(of):
    """Rows as a multiset, their JSON by what it says: a number may be written in several ways."""
    return of if isinstance(of, int) else Counter(repr(parsed(each)) for each in of)


def parsed(value):
    if not isinstance(value, tuple):
        return value
    names = getattr(value, "_fields", [""] * len(value))
    told = (
        json.loads(each) if each and name in JSON else parsed(each) for name, each in zip(names, value, strict=True)
    )
    return type(value).__name__, *told


def sent(outgoing):
    """What is sent, as a multiset; and what one leaf tells another, in its order."""
    letters = defaultdict(list)
    for each in outgoing:
        kind = dict(each.headers).get(KIND_HEADER)
        if kind == CLAIM:
            letters[each.key, state.decode_claim(each.value).user].append(each)
        elif kind == CONTRIBUTION:
            letters[each.key, state.decode_contribution(each.value).giver].append(each)
    return Counter(map(repr, outgoing)), dict(letters)


def rare(decision):
    """Name what is rare of all that a cycle met."""
    batch, counts = decision.batch, decision.decided.counts
    for name in ("identities_gone", "profiles_gone", "contests", "contests_gone", "identity_acts", "redriven"):
        if getattr(batch, name):
            yield f"rows: {name}"
    yield from (f"warning: {kind}" for kind in counts.warnings)
    if counts.duplicate:
        yield "duplicate"
    if batch.audience_memberships:
        yield "membership"
    if any(item.refusal for item in decision.cycle.items()):
        yield "refused"
    if any(key[:1] == b"f" and "Fallback(" in told(key, kept) for key, kept in decision.decided.records.items()):
        yield "fallback"
    for each in decision.outgoing:
        if dict(each.headers).get(KIND_HEADER) == CONTRIBUTION:
            contribution = state.decode_contribution(each.value)
            yield "withdrawal" if contribution.counters is None else f"gives fields: {contribution.given is not None}"


def compared(steps, is_busy):
    """Take the steps of a history, and a cycle more for what the last one has sent."""
    history = History(BUSY if is_busy else ())
    for step in steps:
        history.step(step)
    history.cycle()
    for name in history.met:
        event(name)


HISTORIES, IS_BUSY = histories(RECORDS)
ORDINARY_HISTORIES, _ = histories(ORDINARY_RECORDS)


@given(HISTORIES, IS_BUSY)
def test_both_twins_decide_the_same(steps, is_busy):
    compared(steps, is_busy)


@given(ORDINARY_HISTORIES)
def test_both_twins_decide_the_same_of_ordinary_records(steps):
    """Nothing here has to be left to Python, but what is claimed by two and what ids that are not known come to."""
    compared(steps, is_busy=False)


def test_nearly_all_of_usual_traffic_is_decided_natively():
    values = list(generate(7, 4000, profile="load", users=300))
    history = History()
    for begin in range(0, len(values), 500):
        for value in values[begin : begin + 500]:
            offset = len(history.log)
            origin = Origin("segment", 0, offset, KAFKA_MS + offset)
            history.append(route(value, RULES).leaf.encode(), value, [(ORIGIN_HEADER, origin.pack())])
        history.cycle()
    assert history.taken_natively > 0.98 * history.taken

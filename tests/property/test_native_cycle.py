"""A cycle of the leaves topic, decided by the compiled hot path and by Python alone: the same in every part."""

import json
from collections import Counter
from dataclasses import fields

from aiokafka.record.default_records import DefaultRecord
from hypothesis import event, given
from hypothesis import strategies as st

from contracts import records as state
from contracts.definitions import EVENTS, STRING, AttributeType, Definition, Definitions
from contracts.origins import ACT, CLAIM, CONTRIBUTION, KIND_HEADER, ORIGIN_HEADER, REDRIVE_HEADER, ROWS, WHOLE, Origin
from contracts.outcomes import Refusal
from contracts.settings import Settings
from domain.identity import route
from sinks.postgres.batch import Batch
from streams.agents.leaf_partition import PartitionCycle
from tables import leaves
from tests.messages import KAFKA_MS, RULES, raw
from tests.property.strategies import NUMBERS, messages
from tests.property.test_typing import CHOICES
from tests.twins import finished, hot, needs_native

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
REDRIVES = st.sampled_from([None, None, None, None, None, WHOLE, ROWS])
RECORDS = st.one_of(
    st.tuples(PLAIN, REDRIVES), st.tuples(messages(), REDRIVES), st.tuples(messages(), st.none()), LETTERS
)

VALUES = st.one_of(
    st.sampled_from(["red", "12", " 1.5 ", "2026-01-01T10:00:00+02:00", "true", "Ann", "é\u2028", "", '"']),
    st.sampled_from([None, True, 0, 1, -5, 2.0, 1e-5, 1e22, ["red"], [1, {"a": None}], {"a": [1.0]}]),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
ATTRIBUTES = st.dictionaries(st.sampled_from([*NUMBERS, "plan", "email", "name", "city"]), VALUES, max_size=4)
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
ORDINARY_LETTERS = st.one_of(
    st.tuples(st.sampled_from(ANONYMOUS), st.just(CLAIM), st.builds(state.Claim, st.just(USERS[0]), CLAIMED)),
    st.tuples(
        st.sampled_from(USERS),
        st.just(CONTRIBUTION),
        st.builds(state.Contribution, st.sampled_from(ANONYMOUS), st.integers(1, 4), COUNTERS, st.none() | GIVEN),
    ),
)
ORDINARY_RECORDS = st.one_of(
    st.tuples(ORDINARY, st.none()), st.tuples(ORDINARY, st.none()), st.tuples(ORDINARY, st.none()), ORDINARY_LETTERS
)


def cycles(records):
    """Records by cycle, each with whether rows were lost before it, or state."""
    return st.lists(st.tuples(st.lists(records, min_size=1, max_size=12), st.booleans(), st.booleans()), max_size=5)


class Twin:
    """One partition's state, decided by one of the twins."""

    def __init__(self, *, is_native):
        self.hot = hot(is_native=is_native)
        self.records, self.seen, self.highs = {}, {}, {}
        self.definitions = DEFINED
        self.applied = self.committed = 0

    def decide(self, taken):
        """Decide a cycle; returns all that it leads to, in a form that can be compared."""
        cycle = PartitionCycle(
            SETTINGS, RULES, self.hot, taken, applied=self.applied, committed=self.committed, highs=self.highs
        )
        finished(cycle.read(self.definitions))
        undefined = cycle.undefined(self.definitions)
        if undefined:
            attributes = [(scope, name, STRING) for scope, name in undefined if scope != EVENTS]
            events = [name for scope, name in undefined if scope == EVENTS]
            self.definitions = self.definitions.extended(self.definitions.version + 1, attributes, events)
        batch, outgoing = Batch(), []
        decided = finished(cycle.decide(self.definitions, self.read, self.find, batch=batch, outgoing=outgoing))
        if self.hot is not None:
            event(f"left to Python: {min(3, len(cycle._items) * 4 // len(taken))}/4")
        for key, kept in decided.records.items():
            if kept is None:
                self.records.pop(key, None)
            else:
                self.records[key] = kept
        self.seen.update(decided.seen)
        self.highs.update(cycle.grown)
        self.applied, self.committed = decided.applied, max(self.committed, cycle.to_offset)
        return {
            "undefined": undefined,
            "grown": cycle.grown,
            "applied": decided.applied,
            "records": {
                key: kept if kept is None else repr(leaves.decode(key, kept)) for key, kept in decided.records.items()
            },
            "seen": decided.seen,
            "counts": (decided.counts.applied, decided.counts.duplicate, dict(decided.counts.warnings)),
            "outgoing": Counter(repr(told(each)) for each in outgoing),
            "items": [(item.leaf, item.is_new, item.is_counted) for item in cycle.items()],
            **{each.name: rows(getattr(batch, each.name)) for each in fields(Batch)},
        }

    def read(self, keys):
        return {key: self.records[key] for key in keys if key in self.records}

    def find(self, keys):
        return {key: self.seen[key] for key in keys if key in self.seen}


def told(sent):
    """What is sent, its letter read: a map's order is not compared."""
    topic, partition, key, value, timestamp_ms, headers = sent
    if dict(headers).get(KIND_HEADER) == CONTRIBUTION:
        value = state.decode_contribution(value)
    elif dict(headers).get(KIND_HEADER) == CLAIM:
        value = state.decode_claim(value)
    elif topic == SETTINGS.companies_topic:
        value = state.decode_update(value)
    return topic, partition, key, value, timestamp_ms, headers


def rows(of):
    """Rows as a multiset, their JSON by what it says."""
    return Counter(map(repr, map(parsed, of))) if isinstance(of, list) else of


def parsed(value):
    if isinstance(value, tuple):
        return type(value).__name__, [parsed(each) for each in value]
    if isinstance(value, str) and value.startswith("{"):
        return sorted((name, repr(each)) for name, each in json.loads(value).items())
    return value


def record(offset, drawn):
    """A record of the leaves topic; None for a message that the router would not forward."""
    if len(drawn) == 3:
        leaf, kind, letter = drawn
        return DefaultRecord(offset, KAFKA_MS, 0, leaf.encode(), state.encode(letter), [(KIND_HEADER, kind)])
    message, redrive = drawn
    value = raw(message)
    routed = route(value, RULES)
    if isinstance(routed, Refusal):
        return None
    origin = Origin("segment", offset % 2, offset if offset % 5 else 0, KAFKA_MS + offset)
    headers = [(ORIGIN_HEADER, origin.pack()), *([] if redrive is None else [(REDRIVE_HEADER, redrive)])]
    return DefaultRecord(offset, origin.timestamp_ms, 0, routed.leaf.encode(), value, headers)


@given(cycles(RECORDS))
def test_both_twins_decide_the_same(drawn):
    decide_both(drawn)


@given(cycles(ORDINARY_RECORDS))
def test_both_twins_decide_the_same_of_ordinary_records(drawn):
    """Nothing here has to be left to Python, but what is claimed by two and what ids that are not known come to."""
    decide_both(drawn)


def decide_both(cycles):
    """Decide cycles with both twins, and compare."""
    python, native = Twin(is_native=False), Twin(is_native=True)
    log = []
    for drawn, loses_rows, loses_state in cycles:
        begin = len(log)
        for each in drawn:
            made = record(len(log), each)
            if made is not None:
                log.append(made)
        begin = begin // 2 if loses_rows or loses_state else begin
        if begin == len(log):
            continue
        before = dict(python.records), dict(python.seen)
        for twin in (python, native):
            # As after a crash: rows are made again before S, or state is applied again before P.
            if loses_rows:
                twin.committed, twin.highs = min(twin.committed, begin), {}
            elif loses_state:
                twin.applied = min(twin.applied, begin)
                twin.records, twin.seen = dict(before[0]), dict(before[1])
        expected, found = python.decide(log[begin:]), native.decide(log[begin:])
        for name in expected:
            assert found[name] == expected[name], name
        native.records, native.seen = dict(python.records), dict(python.seen)

"""The domain against the independent recomputation: any messages, in any order, with repetitions (SEMANTICS S4)."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from contracts import rows
from contracts.definitions import AttributeType, Definition, Definitions
from contracts.outcomes import Refusal
from contracts.records import (
    decode_company,
    decode_counters,
    decode_fields,
    encode,
)
from domain.calls import interpret, missing
from domain.company import apply_company, company_row
from domain.identity import Routed, route
from domain.leaf import apply, needs_fields, profile
from tests import oracle
from tests.messages import KAFKA_MS, RULES
from tests.property.strategies import NUMBERS, encoded, messages

CHOICES = frozenset({"red", "true", "1"})
TYPES = dict(zip(NUMBERS, [kind for kind in AttributeType if kind != AttributeType.STRING], strict=True))
SCOPES = ("user", "company", "event:Order Completed")
BY_HAND = [(scope, name, Definition(kind, CHOICES)) for scope in SCOPES for name, kind in TYPES.items()]


def moment(time):
    return None if time is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)


@dataclass
class World:
    """The domain with its state as bytes in dictionaries, as an engine keeps it."""

    definitions: Definitions = field(default_factory=lambda: Definitions().extended(1, BY_HAND))
    counters: dict = field(default_factory=dict)
    fields: dict = field(default_factory=dict)
    companies: dict = field(default_factory=dict)
    seen: dict = field(default_factory=dict)
    tables: dict = field(default_factory=lambda: {name: {} for name in oracle.recompute([], claims=False).rows})
    quarantine: dict = field(default_factory=dict)

    def take(self, record, *, repeated=False):
        routed = route(record.value, RULES)
        call = interpret(record.value, record.kafka_time_ms, RULES)
        if isinstance(call, Refusal):
            assert isinstance(routed, Routed) or routed.reason == call.reason
            self.quarantine[record.offset] = str(call.reason)
            return
        assert routed == Routed(call.leaf)
        if not repeated and self.seen.setdefault((call.leaf, call.message_id), record.offset) != record.offset:
            return
        new = missing(call, self.definitions)
        self.definitions = self.definitions.extended(
            self.definitions.version + 1,
            [(scope, name, Definition(AttributeType.STRING)) for scope, name in new if scope != "event"],
            [name for scope, name in new if scope == "event"],
        )
        assert not missing(call, self.definitions)
        counters = decode_counters(self.counters[call.leaf]) if call.leaf in self.counters else None
        fields = decode_fields(self.fields[call.leaf]) if needs_fields(call) and call.leaf in self.fields else None
        applied = apply(counters, fields, call, self.definitions, repeated=repeated)
        if repeated:
            assert applied.fields is None
            assert applied.counters == counters
        self.counters[call.leaf] = encode(applied.counters)
        if applied.fields is not None:
            self.fields[call.leaf] = encode(applied.fields)
        if applied.company is not None:
            self._update(applied.company)
        self._keep("page_views", [applied.view] if applied.view else [], 3, 0, 1)
        self._keep("event_occurrences", [applied.occurrence] if applied.occurrence else [], 3, 0, 1)
        self._keep("company_members", [applied.member] if applied.member else [], 0, 1)
        self._keep("audience_memberships", applied.memberships, 0, 1)
        self._keep("audience_history", applied.changes, 0, 1, 3, 4)

    def _update(self, update):
        old = self.companies.get(update.company_id)
        record = apply_company(None if old is None else decode_company(old), update, self.definitions)
        self.companies[update.company_id] = encode(record)

    def _keep(self, table, new, *key):
        for row in new:
            self.tables[table][tuple(row[part] for part in key)] = row

    def shown(self):
        shown = {name: [as_columns(row) for row in kept.values()] for name, kept in self.tables.items()}
        shown["profiles"] = []
        for leaf, data in self.counters.items():
            fields = decode_fields(self.fields[leaf]) if leaf in self.fields else None
            row = profile(leaf, decode_counters(data), fields, self.definitions)
            shown["profiles"].append(as_columns(row) | dict(zip(rows.PROFILE_FIELDS, row.fields, strict=True)))
        shown["companies"] = []
        for company_id, data in self.companies.items():
            row = company_row(company_id, decode_company(data), self.definitions)
            shown["companies"].append(as_columns(row) | dict(zip(rows.COMPANY_FIELDS, row.fields, strict=True)))
        shown["event_definitions"] = [{"name": name} for name in self.definitions.events]
        return shown


def as_columns(row):
    columns = row._asdict()
    for name in columns:
        if name in {"event_time", "first_seen", "last_seen", "joined_at", "changed_at"}:
            columns[name] = moment(columns[name])
        elif name in {"properties", "sent_properties", "attributes"} and columns[name] is not None:
            columns[name] = json.loads(columns[name])
    return columns


@st.composite
def topics(draw):
    """Records of one topic, with repetitions, and two orders to read them in."""
    drawn = draw(st.lists(messages(), min_size=1, max_size=10))
    ids = draw(st.permutations(range(len(drawn))))
    values = []
    for number, (message, of_id) in enumerate(zip(drawn, ids, strict=True)):
        named = {"messageId": f"m{of_id}"} if draw(st.booleans()) else {"nonce": number}
        values.append(encoded(message | named))
    offsets = [*range(len(values)), *draw(st.lists(st.integers(0, len(values) - 1), max_size=5))]
    records = [
        oracle.Record("segment", 0, offset, KAFKA_MS + of * 1000, values[of]) for offset, of in enumerate(offsets)
    ]
    return records, draw(st.permutations(records))


@given(topics())
def test_any_order_ends_in_the_recomputed_tables(drawn):
    records, ordered = drawn
    by_hand = {(scope, name): oracle.Definition(str(each.type), each.choices) for scope, name, each in BY_HAND}
    expected = oracle.recompute(records, definitions=by_hand, claims=False)
    tables = ("profiles", "page_views", "event_occurrences", "companies", "company_members")
    tables += ("audience_memberships", "audience_history", "event_definitions")
    for order in (records, ordered):
        world = World()
        for record in order:
            world.take(record)
        shown = world.shown()
        assert oracle.differences(expected, {name: shown[name] for name in tables}) == []
        defined = {(scope, name) for scope in SCOPES for name in world.definitions.scope(scope)}
        assert defined <= {(row["scope"], row["name"]) for row in expected["attribute_definitions"]}
        assert world.quarantine == {row["offset"]: row["reason"] for row in expected["quarantine"]}


@given(topics())
def test_a_repetition_makes_the_same_rows_and_changes_no_state(drawn):
    records, _ = drawn
    world = World()
    for record in records:
        world.take(record)
    before = world.shown()
    state = (dict(world.counters), dict(world.fields))
    first_applied = set(world.seen.values())
    for record in records:
        if record.offset in first_applied:
            world.take(record, repeated=True)
    assert world.shown() == before
    assert (world.counters, world.fields) == state

"""Newest wins: any order, any repetition, the same slot (SEMANTICS S4, S6)."""

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from contracts.definitions import AttributeType, Definition
from domain.conversion import UNCONVERTIBLE, convert_kept, keep
from domain.slots import taken, taken_all, typed
from tests.property.strategies import SCALARS

DEFINITIONS = st.sampled_from([Definition(kind, frozenset({"red", "1"})) for kind in AttributeType])
VALUES = st.one_of(SCALARS, st.lists(st.sampled_from(["red", "1", 5]), max_size=2)).map(keep)
SAID = st.tuples(VALUES, st.integers(0, 3), st.sampled_from(["m1", "m2", "m3"]))


def slot_of(said, definition, slot=None):
    return reduce(lambda old, each: taken(old, *each, definition), said, slot)


@st.composite
def two_orders(draw):
    said = draw(st.lists(SAID, min_size=1, max_size=8))
    again = said + draw(st.lists(st.sampled_from(said), max_size=4))
    return said, draw(st.permutations(again))


@given(two_orders(), DEFINITIONS)
def test_order_and_repetition_do_not_matter(orders, definition):
    one, other = orders
    assert repr(slot_of(one, definition)) == repr(slot_of(other, definition))


@given(two_orders(), DEFINITIONS)
def test_taking_again_gives_the_slot_itself(orders, definition):
    slot = slot_of(orders[0], definition)
    assert slot_of(orders[1], definition, slot) is slot


@given(st.lists(SAID, min_size=1, max_size=8, unique_by=lambda said: said[1:]), DEFINITIONS)
def test_the_newest_that_converts_holds(said, definition):
    newest_first = sorted(said, key=lambda each: each[1:], reverse=True)
    converted = [convert_kept(value, definition) for value, _, _ in newest_first]
    expected = next((value for value in converted if value is not UNCONVERTIBLE), None)
    assert repr(typed(slot_of(said, definition), definition)) == repr(expected)


@given(st.lists(SAID, min_size=1, max_size=8, unique_by=lambda said: said[1:]), DEFINITIONS, DEFINITIONS)
def test_a_retyped_field_holds_the_newest_or_the_newest_that_converted(said, before, after):
    slot = slot_of(said, before)
    held = [slot.value] + ([] if slot.fallback is None else [slot.fallback.value])
    converted = [convert_kept(value, after) for value in held]
    expected = next((value for value in converted if value is not UNCONVERTIBLE), None)
    assert repr(typed(slot, after)) == repr(expected)


@given(
    st.lists(st.tuples(st.dictionaries(st.sampled_from("abc"), VALUES), st.integers(0, 3), st.just("m"))), DEFINITIONS
)
def test_many_fields_are_as_many_slots(said, definition):
    definitions = {"a": definition}
    slots = {}
    for values, at, message_id in said:
        before = dict(slots)
        new = taken_all(slots, values, at, message_id, definitions)
        assert slots == before
        slots = new
    for name in "abc":
        each = [(values[name], at, message_id) for values, at, message_id in said if name in values]
        alone = slot_of(each, definitions.get(name, Definition(AttributeType.STRING)))
        assert repr(slots.get(name)) == repr(alone)

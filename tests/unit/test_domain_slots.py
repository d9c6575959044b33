"""Newest wins, and the two raw values of a field (SEMANTICS S5, S6)."""

from contracts.definitions import STRING, AttributeType, Definition
from contracts.records import Fallback, Slot
from domain.slots import taken, taken_all, typed, typed_all

NUMBER = Definition(AttributeType.NUMBER)


def test_the_newest_by_time_wins():
    slot = taken(None, "old", 1, "m")
    assert taken(slot, "new", 2, "a") == Slot("new", 2, "a")
    assert taken(slot, "older", 0, "z") is slot


def test_then_the_greater_message_id():
    slot = taken(None, "a", 1, "m1")
    assert taken(slot, "b", 1, "m2").value == "b"
    assert taken(slot, "b", 1, "m0") is slot
    assert taken(slot, "a", 1, "m1") is slot


def test_one_stamp_with_two_values_has_one_winner():
    for one, other in (("a", "b"), (1, True), (1, 1.0), (None, "null"), (["[]"], "[]")):
        slots = {repr(taken(taken(None, a, 1, "m"), b, 1, "m")) for a, b in ((one, other), (other, one))}
        assert len(slots) == 1


def test_null_removes_as_of_its_time():
    slot = taken(taken(None, "x", 1, "m"), None, 2, "n")
    assert slot == Slot(None, 2, "n")
    assert typed(slot) is None
    assert typed(slot, NUMBER) is None
    assert taken(slot, "late", 1, "z") is slot
    assert taken(slot, "again", 3, "o").value == "again"


def test_what_does_not_convert_leaves_the_older_value():
    slot = taken(taken(None, 5, 1, "m", NUMBER), "five", 2, "n", NUMBER)
    assert slot == Slot("five", 2, "n", "", Fallback(5, 1, "m"))
    assert typed(slot, NUMBER) == 5
    later = taken(slot, 4, 0, "l", NUMBER)
    assert later is slot
    between = taken(slot, 6, 1, "p", NUMBER)
    assert between == Slot("five", 2, "n", "", Fallback(6, 1, "p"))
    assert taken(between, 7, 3, "q", NUMBER) == Slot(7, 3, "q")


def test_a_null_is_the_fallback_too():
    slot = taken(taken(None, None, 1, "m", NUMBER), "five", 2, "n", NUMBER)
    assert typed(slot, NUMBER) is None
    assert taken(slot, 5, 0, "l", NUMBER) is slot


def test_nothing_that_converts_is_absent():
    assert typed(taken(None, "five", 1, "m", NUMBER), NUMBER) is None


def test_a_field_can_be_retyped_without_its_messages():
    slot = taken(taken(None, "12", 1, "m"), "13", 2, "n")
    assert typed(slot) == "13"
    assert typed(slot, NUMBER) == 13
    slot = taken(slot, "many", 3, "o", NUMBER)
    assert typed(slot, NUMBER) == 13
    assert typed(slot) == "many"


def test_old_values_are_never_changed():
    old = {"a": Slot("x", 1, "m"), "b": Slot("y", 1, "m")}
    before = dict(old)
    new = taken_all(old, {"a": "z", "c": 5}, 2, "n")
    assert old == before
    assert new == {"a": Slot("z", 2, "n"), "b": Slot("y", 1, "m"), "c": Slot(5, 2, "n")}
    assert taken_all(old, {"a": "z"}, 0, "n") is old
    assert taken_all(old, {}, 5, "n") is old


def test_all_fields_typed_without_the_removed_ones():
    slots = {
        "a": Slot(5, 1, "m"),
        "b": Slot("5", 1, "m"),
        "c": Slot(None, 1, "m"),
        "d": Slot("x", 1, "m"),
        "e": Slot(['{"k":1}'], 1, "m"),
    }
    assert typed_all(slots, {"b": NUMBER, "d": NUMBER, "a": STRING}) == {"a": "5", "b": 5, "e": '{"k":1}'}

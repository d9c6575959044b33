"""Explaining a profile from hand-made records: what set a field, what was ignored, who lost a claim."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import records as state
from contracts.definitions import STRING, USER_SCOPE, AttributeType, Definition, Definitions
from contracts.records import Act, Claimed, Fallback, GivenFields, Giver, LeafClaims, LeafCounters, LeafFields, Slot
from domain.slots import taken
from operations.cli.explanation import lines
from operations.explanation import Explanation, explain, needed_keys
from streams.agents.leaf_state import profile_row
from tables.leaves import claims_key, counters_key, fields_key, given_key, links_key

HOUR_US = 3_600_000_000
INTEGER = Definition(AttributeType.INTEGER)
AGE = Definitions(1, {USER_SCOPE: {"age": INTEGER}})


def slot(value: state.Kept, hour: int, name: str, fallback: Fallback | None = None) -> Slot:
    return Slot(value, hour * HOUR_US, name, f"segment/0/{hour}", fallback)


def claim(hour: int, name: str) -> Claimed:
    return Claimed(hour * HOUR_US, name, f"segment/1/{hour}")


def given_by(**counters: LeafCounters | None) -> state.LeafLinks:
    return state.LeafLinks({}, {f"anon:{name}": Giver(1, each, has_fields=True) for name, each in counters.items()})


def explained(records: dict, leaves: list[str], others: list[str] = [], definitions: Definitions = AGE) -> Explanation:  # noqa: B006
    assert set(records) <= needed_keys("user:u", leaves, others)
    return explain("user:u", leaves, others, records, definitions)


def test_each_field_is_set_by_the_newest_message_whichever_leaf_it_came_by():
    found = explained(
        {
            counters_key("user:u"): LeafCounters(1, HOUR_US, None),
            fields_key("user:u"): LeafFields({"email": slot("new@x", 3, "m3")}, {"plan": slot("free", 1, "m1")}),
            links_key("user:u"): given_by(a=LeafCounters(2, HOUR_US, HOUR_US)),
            given_key("user:u", "anon:a"): GivenFields(
                {"email": slot("old@x", 2, "m2")}, {"plan": slot("pro", 2, "m2")}
            ),
            claims_key("anon:a"): LeafClaims({"user:u": claim(2, "m2")}),
        },
        ["anon:a", "user:u"],
    )
    assert [(each.leaf, each.counters.page_views) for each in found.leaves] == [("user:u", 1), ("anon:a", 2)]
    assert found.leaves[1].joined_by == claim(2, "m2")
    email, plan = found.fields
    assert (email.name, email.value, email.set_by.leaf, email.set_by.source) == (
        "email",
        "new@x",
        "user:u",
        "segment/0/3",
    )
    assert [(each.said.value, each.said.leaf, each.why) for each in email.ignored] == [("old@x", "anon:a", "older")]
    assert (plan.name, plan.value, plan.set_by.leaf, plan.is_attribute) == ("plan", "pro", "anon:a", True)
    assert found.lost_claims == ()


def test_a_value_that_does_not_convert_is_ignored_for_the_one_before():
    held = slot("soon 30", 5, "m5", Fallback("29", 1 * HOUR_US, "m1", "segment/0/1"))
    found = explained(
        {
            fields_key("user:u"): LeafFields({}, {"age": held}),
            links_key("user:u"): given_by(a=LeafCounters(0, 1, None)),
            given_key("user:u", "anon:a"): GivenFields({}, {"age": slot(["[30]"], 4, "m4")}),
        },
        ["anon:a"],
    )
    (age,) = found.fields
    assert (age.value, age.type, age.set_by.message_id, age.set_by.value) == (29, "integer", "m1", "29")
    assert [(each.said.message_id, each.why) for each in age.ignored] == [
        ("m5", "does not convert to integer"),
        ("m4", "does not convert to integer"),
    ]
    answer = msgspec.json.decode(msgspec.json.encode(found.to_builtins()))
    assert answer["fields"][0]["ignored"][1]["sent"] == [30]
    assert answer["fields"][0]["set_by"]["source"] == {"topic": "segment", "partition": 0, "offset": 1}


def test_nothing_converts():
    (age,) = explained({fields_key("user:u"): LeafFields({}, {"age": slot("old", 1, "m1")})}, []).fields
    assert (age.value, age.set_by, len(age.ignored)) == (None, None, 1)


def test_a_field_that_was_removed_names_the_message_that_did_it():
    (field,) = explained({fields_key("user:u"): LeafFields({"phone": slot(None, 2, "m2")})}, []).fields
    assert (field.value, field.set_by.message_id) == (None, "m2")
    assert "phone = removed" in text_of(
        explained({fields_key("user:u"): LeafFields({"phone": slot(None, 2, "m2")})}, [])
    )


def test_claims_that_do_not_count_are_told_with_their_reason():
    found = explained(
        {
            claims_key("anon:mine"): LeafClaims({"user:u": claim(1, "m1"), "user:late": claim(2, "m2")}),
            claims_key("anon:theirs"): LeafClaims(
                {"user:first": claim(1, "m3"), "user:u": claim(2, "m4"), "user:third": claim(3, "m5")}
            ),
            claims_key("anon:apart"): LeafClaims(
                {"user:u": claim(1, "m6")}, {"user:u": Act(False, 9 * HOUR_US, "act1", "a tablet")}
            ),
            claims_key("anon:again"): LeafClaims(
                {"user:u": claim(1, "m7")}, {"user:u": Act(True, 9 * HOUR_US, "act2", "his own")}
            ),
        },
        ["anon:mine", "anon:again"],
        ["anon:theirs", "anon:apart"],
    )
    assert [(each.leaf, each.user, each.why) for each in found.lost_claims] == [
        ("anon:apart", "user:u", "set aside by an operator at 1970-01-01T09:00:00Z: a tablet"),
        ("anon:mine", "user:late", "u claimed it earlier, at 1970-01-01T01:00:00Z"),
        ("anon:theirs", "user:u", "first claimed it earlier, at 1970-01-01T01:00:00Z"),
    ]


def test_an_anonymous_profile_shows_who_was_kept_from_it():
    act = Act(False, 9 * HOUR_US, "act1", "a tablet")
    records = {
        counters_key("anon:a"): LeafCounters(4, 1, None),
        fields_key("anon:a"): LeafFields({"city": slot("Oslo", 1, "m1")}),
        claims_key("anon:a"): LeafClaims({"user:u": claim(1, "m6")}, {"user:u": act}),
    }
    assert set(records) <= needed_keys("anon:a", ["anon:a"], [])
    found = explain("anon:a", ["anon:a"], [], records, AGE)
    assert (found.leaves[0].counters.page_views, found.fields[0].value) == (4, "Oslo")
    assert [(each.user, each.why[:9]) for each in found.lost_claims] == [("user:u", "set aside")]


def text_of(found: Explanation) -> str:
    return "\n".join(line.plain for line in lines(found))


def test_people_read_one_line_a_message_and_no_control_characters():
    found = explained(
        {
            fields_key("user:u"): LeafFields({"email": slot("a\x1b[31m@x", 3, "m\n3")}, {"n": slot(["[1]"], 1, "m1")}),
            claims_key("anon:a"): LeafClaims({"user:u": claim(2, "m2")}),
        },
        ["anon:a"],
    )
    shown = text_of(found)
    assert "\x1b" not in shown
    assert "email = " in shown
    assert "set by  m1, 1970-01-01T01:00:00Z, segment/0/1, of user:u, sent [1]" in shown
    assert "anon:a  0 page views; joined by m2, 1970-01-01T02:00:00Z, segment/1/2" in shown


VALUES = st.sampled_from([None, "1", "2", 3, 4.0, 5.5, "x", True, ["[1]"]])
STAMPED = st.tuples(VALUES, st.integers(0, 4), st.sampled_from("abc"), st.sampled_from(["user:u", "anon:a", "anon:b"]))


@pytest.mark.parametrize("definition", [STRING, INTEGER, Definition(AttributeType.BOOLEAN)], ids=str)
@given(st.lists(STAMPED, max_size=8))
def test_what_is_explained_is_what_the_profile_shows(definition: Definition, said: list):
    definitions = Definitions(1, {USER_SCOPE: {"it": definition}})
    slots: dict[str, Slot] = {}
    for value, at, message_id, leaf in said:
        slots[leaf] = taken(slots.get(leaf), value, at, message_id, definition, source="t/0/1")
    records: dict[bytes, object] = {
        counters_key("user:u"): LeafCounters(0, 1, None),
        links_key("user:u"): given_by(a=LeafCounters(0, 1, None), b=LeafCounters(0, 1, None)),
        fields_key("user:u"): LeafFields(),
        given_key("user:u", "anon:a"): GivenFields(),
        given_key("user:u", "anon:b"): GivenFields(),
    }
    for leaf, each in slots.items():
        records[fields_key(leaf) if leaf == "user:u" else given_key("user:u", leaf)] = (
            LeafFields({}, {"it": each}) if leaf == "user:u" else GivenFields({}, {"it": each})
        )
    row = profile_row("user:u", records, definitions)
    found = explained(records, ["anon:a", "anon:b"], definitions=definitions)
    shown = {field.name: field.value for field in found.fields if field.value is not None}
    assert shown == msgspec.json.decode(row.attributes)

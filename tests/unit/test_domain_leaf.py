"""Applying calls to a leaf and a company, and their rows (SEMANTICS S5-S10)."""

import json

import pytest

from contracts import rows
from contracts.definitions import AttributeType, Definition, Definitions
from contracts.outcomes import WarningKind
from contracts.records import CompanyRecord, LeafCounters, LeafFields, Slot, decode_update, encode
from domain.company import apply_company, company_row
from domain.leaf import apply, counters_row, needs_fields, profile
from tests.messages import AT, call

EARLY, LATE = "2026-02-20T00:00:00Z", "2026-02-23T00:00:00Z"
EARLY_US, LATE_US = 1_771_545_600_000_000, 1_771_804_800_000_000
UNDEFINED = Definitions()


def applied(*calls, definitions=UNDEFINED):
    counters, fields, results = None, None, []
    for each in calls:
        result = apply(counters, fields if needs_fields(each) else None, each, definitions)
        counters, fields = result.counters, result.fields or fields
        results.append(result)
    return counters, fields, results


def row_of(*calls, definitions=UNDEFINED):
    counters, fields, _ = applied(*calls, definitions=definitions)
    return profile(calls[0].leaf, counters, fields, definitions)


def field(row, name):
    return row.fields[rows.PROFILE_FIELDS.index(name)]


def test_pages_count_and_move_last_seen():
    early, late = call("page", timestamp=EARLY), call("page", timestamp=LATE)
    for calls in ((early, late), (late, early)):
        counters, fields, _ = applied(*calls)
        assert counters == LeafCounters(2, EARLY_US, LATE_US)
        assert fields is None


@pytest.mark.parametrize("kind", ["screen", "identify", "track", "group", "alias"])
def test_no_other_call_counts_or_moves_last_seen(kind):
    counters, _, _ = applied(call("page", timestamp=LATE), call(kind), call(kind, timestamp=EARLY))
    assert counters == LeafCounters(1, EARLY_US, LATE_US)
    assert applied(call(kind))[0] == LeafCounters(0, AT, None)


def test_only_some_calls_need_the_large_record():
    needing = {kind for kind in ("identify", "page", "screen", "track", "group", "alias") if needs_fields(call(kind))}
    assert needing == {"identify", "group"}


def test_rows_of_a_leaf():
    row = row_of(call("identify", traits={"email": "a@b.co", "plan": 5, "gone": None}), call("page"))
    assert row[:5] == ("user:u1", "u1", 1, AT, AT)
    assert field(row, "email") == "a@b.co"
    assert field(row, "phone") is None
    assert json.loads(row.attributes) == {"plan": "5"}
    assert row_of(call("page", userId=None))[:2] == ("anon:a1", None)
    assert counters_row("user:u1", LeafCounters(1, 2, None)) == ("user:u1", 1, 2, None)


def test_fields_are_newest_wins_each():
    early = call("identify", timestamp=EARLY, traits={"email": "old", "phone": "1", "plan": "old", "level": 1})
    late = call("identify", timestamp=LATE, traits={"email": "new", "plan": None, "address": {"city": "Rome"}})
    both = row_of(early, late)
    assert row_of(late, early) == both
    assert [field(both, name) for name in ("email", "phone", "city")] == ["new", "1", "Rome"]
    assert json.loads(both.attributes) == {"level": "1"}


def test_unconvertible_values_are_ignored_and_counted():
    definitions = Definitions().extended(1, [("user", "age", Definition(AttributeType.INTEGER))])
    good = call("identify", timestamp=EARLY, traits={"age": "41", "email": [1]})
    bad = call("identify", timestamp=LATE, traits={"age": "old"})
    for calls in ((good, bad), (bad, good)):
        assert json.loads(row_of(*calls, definitions=definitions).attributes) == {"age": 41}
    _, _, (first, second) = applied(good, bad, definitions=definitions)
    assert first.ignored == (WarningKind.IGNORED_FIELD,)
    assert second.ignored == (WarningKind.IGNORED_ATTRIBUTE,)


def test_only_identify_sets_fields():
    _, fields, _ = applied(
        call("track", context={"traits": {"email": "x"}, "ip": "1.1.1.1"}), call("page", context={"ip": "1.1.1.1"})
    )
    assert fields is None


def test_a_repeated_call_makes_its_rows_again_and_changes_nothing():
    personas = {"computation_class": "audience", "computation_key": "vip"}
    for each in (
        call("page"),
        call("track", properties={"vip": True, "n": 1}, context={"personas": personas}),
        call("identify", traits={"vip": False, "email": "x"}, context={"personas": personas}),
        call("group", traits={"name": "Acme"}),
    ):
        counters, fields, (first,) = applied(each)
        again = apply(counters, fields, each, UNDEFINED, repeated=True)
        assert again.counters == counters
        assert again.fields is None
        for name in ("view", "occurrence", "memberships", "changes", "company", "member", "ignored"):
            assert getattr(again, name) == getattr(first, name)


def test_groups_make_companies_and_members():
    early, late = (call("group", timestamp=each, traits={"name": each}) for each in (EARLY, LATE))
    for calls in ((early, late), (late, early)):
        _, fields, results = applied(*calls)
        assert fields.companies == {"acme": EARLY_US}
        assert results[-1].member == rows.CompanyMember("acme", "user:u1", EARLY_US)
        assert [result.company.fields["name"] for result in results] == [each.content.fields["name"] for each in calls]
    assert applied(call("group", userId=None))[2][0].member.leaf == "anon:a1"


def test_a_group_without_traits_is_a_company():
    (result,) = applied(call("group", traits=...))[2]
    record = apply_company(None, result.company, UNDEFINED)
    assert record == CompanyRecord()
    assert company_row("acme", record, UNDEFINED) == ("acme", (None,) * 6, "{}")


def test_company_fields_are_newest_wins_whoever_sent_them():
    definitions = Definitions().extended(1, [("company", "seats", Definition(AttributeType.NUMBER))])
    calls = [
        call(
            "group",
            userId="u1",
            timestamp=EARLY,
            traits={"name": "Old", "phone": "1", "seats": "5", "plan": {"a": 2**80}},
        ),
        call("group", userId="u2", timestamp=LATE, traits={"name": "New", "seats": "many", "employees": 12}),
    ]
    results = []
    for ordered in (calls, calls[::-1]):
        record = None
        for each in [*ordered, *ordered]:
            update = apply(None, None, each, definitions).company
            record = apply_company(record, decode_update(encode(update)), definitions)
        results.append(record)
    assert results[0] == results[1]
    row = company_row("acme", results[0], definitions)
    assert row.fields == ("New", None, "1", None, None, "12")
    assert json.loads(row.attributes) == {"seats": 5, "plan": json.dumps({"a": 2**80}, separators=(",", ":"))}
    ignored = apply(None, None, calls[1], definitions).ignored
    assert ignored == (WarningKind.IGNORED_COMPANY_ATTRIBUTE,)


# --- Engage (SEMANTICS S10) ---


def engage(kind, computation_class, values, key="vip", **changes):
    personas = {"computation_class": computation_class, "computation_key": key}
    part = "traits" if kind in {"identify", "group"} else "properties"
    return call(kind, context={"personas": personas}, **{part: values}, **changes)


@pytest.mark.parametrize("kind", ["identify", "track"])
@pytest.mark.parametrize("computation_class", ["audience", "journey_step"])
@pytest.mark.parametrize(
    ("sent", "member", "attribute"),
    [
        (True, True, "true"),
        (False, False, "false"),
        ("true", True, "true"),
        ("False", False, "False"),
        (1, True, "1"),
        ("0", False, "0"),
    ],
)
def test_both_forms_are_one_membership(kind, computation_class, sent, member, attribute):
    each = engage(kind, computation_class, {"vip": sent})
    assert needs_fields(each)
    counters, fields, (result,) = applied(each)
    assert result.memberships == (rows.AudienceMembership("user:u1", "vip", member, AT),)
    assert result.changes == (rows.AudienceChange("user:u1", "vip", member, AT, "m-1"),)
    assert json.loads(profile("user:u1", counters, fields, UNDEFINED).attributes) == {"vip": attribute}
    assert (result.occurrence is not None) == (kind == "track")


def test_the_newest_membership_holds_and_history_keeps_all():
    early = engage("identify", "audience", {"vip": True}, timestamp=EARLY)
    late = engage("track", "audience", {"vip": False}, timestamp=LATE)
    for calls in ((early, late), (late, early)):
        _, _, results = applied(*calls)
        assert results[-1].memberships == (rows.AudienceMembership("user:u1", "vip", False, LATE_US),)
        assert [result.changes[0].event_time for result in results] == [each.at for each in calls]


def test_a_track_names_its_audience_in_a_property_too():
    personas = {"computation_class": "audience", "computation_id": "aud_1"}
    each = call(
        "track",
        event="Audience Entered",
        properties={"audience_key": "vip", "vip": True},
        context={"personas": personas},
    )
    assert applied(each)[2][0].memberships[0].audience == "vip"


def test_an_identify_names_its_audience_by_the_computation_key_alone():
    personas = {"computation_class": "audience", "computation_id": "aud_1"}
    each = call("identify", traits={"audience_key": "vip", "vip": True}, context={"personas": personas})
    assert applied(each)[2][0].memberships == ()


@pytest.mark.parametrize("kind", ["identify", "track"])
@pytest.mark.parametrize("values", [{}, {"vip": "yes"}, {"vip": None}, {"vip": 2}, {"vip": [True]}, {"other": True}])
def test_without_a_boolean_it_is_an_ordinary_call(kind, values):
    each = engage(kind, "audience", values)
    (result,) = applied(each)[2]
    assert (result.memberships, result.changes) == ((), ())
    assert needs_fields(each) == (kind == "identify")


@pytest.mark.parametrize(
    "personas",
    [
        None,
        "x",
        [],
        {},
        {"computation_class": 5, "computation_key": "vip"},
        {"computation_class": "audience"},
        {"computation_class": "audience", "computation_key": 5},
        {"computation_class": "audience", "computation_key": ""},
    ],
)
def test_odd_personas(personas):
    for kind, part in (("identify", "traits"), ("track", "properties")):
        (result,) = applied(call(kind, context={"personas": personas}, **{part: {"vip": True, "": True}}))[2]
        assert result.memberships == ()


@pytest.mark.parametrize("computation_class", ["trait", "computed_trait", "something_new"])
def test_computed_traits_are_attributes(computation_class):
    for kind in ("identify", "track"):
        counters, fields, (result,) = applied(engage(kind, computation_class, {"vip": 450.0, "trait_key": "vip"}))
        assert result.memberships == ()
        assert json.loads(profile("user:u1", counters, fields, UNDEFINED).attributes)["vip"] == "450.0"
    personas = {"computation_class": computation_class}
    _, fields, _ = applied(call("track", properties={"trait_key": "k", "k": 450.0}, context={"personas": personas}))
    assert fields.attributes == {"k": Slot(450.0, AT, "m-1")}


def test_a_computed_trait_without_its_value_is_an_ordinary_track():
    assert not needs_fields(engage("track", "trait", {"other": 1}))
    assert not needs_fields(call("track", properties={"vip": 1}))


def test_a_computed_trait_may_be_a_standard_field():
    _, fields, _ = applied(engage("track", "trait", {"email": "a@b.co"}, key="email"))
    assert fields == LeafFields({"email": Slot("a@b.co", AT, "m-1")})


def test_an_account_audience_is_a_company_attribute():
    each = engage("group", "audience", {"vip": True})
    (result,) = applied(each)[2]
    assert (result.memberships, result.company.attributes) == ((), {"vip": True})


def test_long_audience_names_are_cut():
    (result,) = applied(engage("identify", "audience", {"v" * 600: True}, key="v" * 600))[2]
    assert len(result.memberships[0].audience) == 512
    assert set(result.fields.attributes) == {result.memberships[0].audience}

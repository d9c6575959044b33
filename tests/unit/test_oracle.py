"""The oracle itself, against expectations written by hand from the text of the semantics."""

import hashlib
import json
from datetime import UTC, datetime

import pytest

from tests.oracle import Definition, Record, differences, recompute

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
KAFKA_MS = int(datetime(2026, 11, 11, tzinfo=UTC).timestamp() * 1000)


def at(minute: int, second: int = 0) -> str:
    return f"2026-11-10T12:{minute:02d}:{second:02d}Z"


def moment(minute: int) -> datetime:
    return NOON.replace(minute=minute)


def message(kind: str, message_id: str, minute: int = 0, /, **fields: object) -> dict:
    """A message without ids: they are given as fields."""
    base = {"type": kind, "messageId": message_id, "timestamp": at(minute), "receivedAt": "2026-11-10T13:00:00Z"}
    if kind == "track":
        base["event"] = "Bought"
    return base | fields


def run(*messages, claims=True, **settings):
    values = [one if isinstance(one, bytes | None) else json.dumps(one).encode() for one in messages]
    records = [Record("t", 0, offset, KAFKA_MS, value) for offset, value in enumerate(values)]
    return recompute(records, claims=claims, **settings)


def profile(tables, profile_id="user:u"):
    (row,) = [row for row in tables["profiles"] if row["profile_id"] == profile_id]
    return row


def identify(traits, minute=0, name=None, **fields):
    return message("identify", name or f"m{minute}", minute, userId="u", traits=traits, **fields)


def occurrence_time(**fields):
    return run({"type": "track", "event": "e", "messageId": "m", "userId": "u"} | fields)["event_occurrences"][0][
        "event_time"
    ]


# S1


def test_message_goes_to_the_user_else_to_the_anonymous_leaf():
    tables = run(
        message("page", "1", userId=" u "), message("page", "2", anonymousId="a"), message("page", "3", userId=12)
    )
    assert [row["leaf"] for row in tables["identities"]] == ["anon:a", "user:12", "user:u"]


@pytest.mark.parametrize(
    "bad", ["", "  ", "0000", "00-00", "NULL", "'null'", '"Undefined"', "[object Object]", 1.5, True, {}, ["u"], "-1"]
)
def test_useless_ids_are_nobodys(bad):
    assert run(message("page", "1", userId=bad)).quarantined == {"no_identity": 1}
    tables = run(message("page", "1", userId=bad, anonymousId="a"), message("page", "2", userId="u", anonymousId=bad))
    assert [row["leaf"] for row in tables["identities"]] == ["anon:a", "user:u"]


def test_blocked_ids_may_be_emptied():
    assert run(message("page", "1", userId="null"), message("page", "2", userId="0"), blocked_ids=()).applied == 2


def test_earliest_claim_owns_whatever_the_order():
    early = message("identify", "e", 5, userId="first", anonymousId="a")
    late = message("identify", "l", 9, userId="second", anonymousId="a")
    before = message("page", "b", 1, anonymousId="a")
    after = message("page", "x", 30, anonymousId="a")
    for order in ([early, late, before, after], [after, late, before, early]):
        tables = run(*order)
        assert profile(tables, "user:first")["page_views"] == 2
        assert profile(tables, "user:first")["first_seen"] == moment(1)
        assert profile(tables, "user:second")["page_views"] == 0
        assert {row["leaf"]: row["profile_id"] for row in tables["identities"]}["anon:a"] == "user:first"
        assert len(tables["profiles"]) == 2


def test_claims_at_one_time_are_told_apart_by_message_id():
    tables = run(message("track", "b", userId="y", anonymousId="a"), message("track", "a", userId="z", anonymousId="a"))
    assert tables["identities"][0] == {"leaf": "anon:a", "profile_id": "user:z"}


def test_leaf_known_only_by_a_claim_has_an_identity():
    tables = run(message("track", "1", userId="u", anonymousId="a"))
    assert tables["identities"] == [
        {"leaf": "anon:a", "profile_id": "user:u"},
        {"leaf": "user:u", "profile_id": "user:u"},
    ]


def test_without_claims_a_leaf_is_its_own_profile():
    tables = run(message("page", "1", userId="u", anonymousId="a"), message("page", "2", anonymousId="a"), claims=False)
    assert [row["profile_id"] for row in tables["profiles"]] == ["anon:a", "user:u"]
    assert [row["page_views"] for row in tables["profiles"]] == [1, 1]


def test_alias_claims_the_previous_and_the_anonymous_id():
    tables = run(
        message("alias", "1", userId="u", anonymousId="a", previousId="b"), message("page", "2", anonymousId="b")
    )
    assert {row["leaf"] for row in tables["identities"]} == {"anon:a", "anon:b", "user:u"}
    assert [row["profile_id"] for row in tables["profiles"]] == ["user:u"]
    assert profile(tables)["page_views"] == 1


def test_alias_without_user_claims_nothing_and_without_previous_is_refused():
    tables = run(
        message("alias", "1", anonymousId="a", previousId="b"),
        message("alias", "2", userId="u"),
        message("alias", "3", userId="u", previousId="null"),
    )
    assert tables["identities"] == [{"leaf": "anon:a", "profile_id": "anon:a"}]
    assert tables.quarantined == {"invalid_field": 2}


def test_no_more_than_a_thousand_leaves_are_owned():
    claims = [message("track", f"{n:04d}", userId="u", anonymousId=f"a{n:04d}") for n in range(1001)]
    owned = [row for row in run(*claims)["identities"] if row["profile_id"] == "user:u"]
    assert len(owned) == 1001  # a thousand, and the user's own
    assert "anon:a1000" not in {row["leaf"] for row in owned}


def test_unclaimed_pair_is_as_if_never_claimed():
    both = message("page", "1", userId="u", anonymousId="a")
    tables = run(both, message("page", "2", anonymousId="a"), unclaimed=[("anon:a", "user:u")])
    assert [row["page_views"] for row in tables["profiles"]] == [1, 1]


# S2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-11-10T12:05:00Z", moment(5)),
        ("2026-11-10t17:35:00.000000999+05:30", moment(5)),
        ("2026-11-10 12:05:00.5Z", moment(5).replace(microsecond=500_000)),
        ("2026-11-10", NOON.replace(hour=0)),
        (1794312300000, datetime.fromtimestamp(1794312300, UTC)),
        ("2026-11-10T12:05:00", moment(40)),
        ("1969-12-31T23:59:59Z", moment(40)),
        ("2026-02-30T00:00:00Z", moment(40)),
        (-1, moment(40)),
        ("soon", moment(40)),
        (True, moment(40)),
        (None, moment(40)),
    ],
)
def test_event_time_is_a_readable_timestamp_else_the_receipt(given, expected):
    assert occurrence_time(timestamp=given, receivedAt=at(40)) == expected


def test_event_time_is_computed_from_the_three_others():
    assert occurrence_time(receivedAt=at(40), sentAt=at(20), originalTimestamp=at(10)) == moment(30)
    assert occurrence_time(receivedAt=at(40), originalTimestamp=at(10)) == moment(10)
    assert occurrence_time(receivedAt=at(40), sentAt=at(20)) == moment(40)
    assert occurrence_time() == datetime(2026, 11, 11, tzinfo=UTC)


def test_future_is_clamped_to_five_minutes_after_the_receipt():
    assert occurrence_time(timestamp="2030-01-01", receivedAt=at(40)) == moment(45)
    assert occurrence_time(timestamp="2030-01-01") == datetime(2026, 11, 11, 0, 5, tzinfo=UTC)


# S3


def test_copies_are_applied_once_for_a_leaf():
    one = message("page", "1", userId="u")
    tables = run(one, one, message("page", "1", userId="v"))
    assert (tables.read, tables.applied, tables.duplicate) == (3, 2, 1)


def test_missing_message_id_is_a_hash_of_what_copies_share():
    one = {"type": "page", "userId": "u", "originalTimestamp": at(1), "timestamp": at(2), "receivedAt": at(3)}
    expected = json.dumps(
        {"originalTimestamp": at(1), "type": "page", "userId": "u"}, sort_keys=True, separators=(",", ":")
    )
    tables = run(one, one | {"timestamp": at(4), "receivedAt": at(5), "sentAt": at(4)})
    assert tables.duplicate == 1
    assert tables["page_views"][0]["message_id"] == "sha256:" + hashlib.sha256(expected.encode()).hexdigest()


def test_number_as_message_id_is_its_decimal_text():
    assert run(message("page", 10**20, userId="u"), message("page", str(10**20), userId="u")).duplicate == 1


# S5


def test_standard_fields_come_from_traits():
    traits = {
        "email": "a@b.c",
        "firstName": "camel",
        "first_name": "snake",
        "lastName": 7,
        "phone": True,
        "gender": ["x"],
        "address": {"country": "SE", "state": "Skåne", "street": "x"},
        "city": "top",
        "page_views": 9,
    }
    row = profile(run(identify(traits)))
    fields = ("email", "first_name", "last_name", "phone", "gender", "country", "region", "city")
    assert [row[field] for field in fields] == ["a@b.c", "snake", "7", "true", None, "SE", "Skåne", None]
    assert row["attributes"] == {"city": "top", "page_views": "9"}
    assert row["page_views"] == 0
    assert row["last_seen"] is None


@pytest.mark.parametrize(
    ("traits", "expected"),
    [
        ({"name": " Ada King Lovelace "}, ("Ada", "King Lovelace")),
        ({"name": "Ada"}, ("Ada", "old")),
        ({"name": "Ada Lovelace", "first_name": "Countess"}, ("Countess", "Lovelace")),
        ({"name": "Ada Lovelace", "firstName": "C", "lastName": None}, ("C", None)),
        ({"name": None}, (None, None)),
        ({"name": {"first": "Ada"}}, ("old", "old")),
        ({"name": ""}, ("", "old")),
    ],
)
def test_name_is_split_where_its_parts_are_absent(traits, expected):
    row = profile(run(identify({"first_name": "old", "last_name": "old"}, 1), identify(traits, 2)))
    assert (row["first_name"], row["last_name"]) == expected
    assert row["attributes"] == {}


def test_address_keeps_removes_and_is_an_attribute_as_text():
    first = identify({"address": {"country": "SE", "region": "R", "city": "C"}}, 1)

    def where(*later):
        row = profile(run(first, *later))
        return row["country"], row["region"], row["city"], row["attributes"]

    assert where(identify({"address": {"city": None, "region": "", "state": "S"}}, 2)) == ("SE", "", None, {})
    assert where(identify({"address": None}, 2)) == (None, None, None, {})
    assert where(identify({"address": "1 Road"}, 2)) == ("SE", "R", "C", {"address": "1 Road"})


def test_context_traits_fill_what_traits_leave_out():
    row = profile(run(identify({"plan": None}, context={"traits": {"plan": "pro", "size": 3}})))
    assert row["attributes"] == {"size": "3"}


def test_context_of_a_browser_tells_the_device():
    agent = "Mozilla/5.0 (iPad; CPU OS 17_6 like Mac OS X) AppleWebKit/605.1.15 Version/17.6 Mobile/15E148 Safari/604.1"
    context = {"userAgent": agent, "locale": "sv-SE", "screen": {"width": 1440.0, "height": "0900"}, "ip": ""}
    row = profile(run(identify({}, context=context | {"page": {"url": "https://x/"}, "os": {"name": ""}})))
    assert (row["os"], row["device_type"], row["browser_family"]) == ("iOS", "tablet", "Mobile Safari")
    assert (row["browser_version"], row["resolution"], row["language"]) == ("17.6", "1440x900", "sv-SE")
    assert (row["ip_address"], row["current_url"], row["user_agent"]) == (None, "https://x/", agent)


def test_context_of_an_app_goes_before_the_user_agent():
    context = {
        "userAgent": "Mozilla/5.0 (Windows NT 10.0) Chrome/141.0.0.0 Safari/537.36",
        "os": {"name": "Android"},
        "device": {"type": "android", "model": "Pixel 9"},
    }
    row = profile(run(identify({}, context=context)))
    assert (row["os"], row["device_type"], row["device_name"]) == ("Android", "android", "Pixel 9")


def test_every_field_is_newest_wins_on_its_own_and_null_removes():
    messages = [
        identify({"email": "new", "plan": "pro"}, 5),
        identify({"email": "old", "phone": "1", "plan": "free"}, 2),
        identify({"phone": None, "plan": None}, 3),
    ]
    for order in (messages, messages[::-1]):
        row = profile(run(*order))
        assert (row["email"], row["phone"], row["attributes"]) == ("new", None, {"plan": "pro"})


def test_only_identify_sets_fields():
    row = profile(run(message("track", "1", userId="u", context={"traits": {"email": "x"}, "ip": "203.0.113.1"})))
    assert (row["email"], row["ip_address"]) == (None, None)


def test_fold_takes_the_newest_of_all_leaves():
    tables = run(
        identify({"email": "older"}, 1, anonymousId="a"),
        message("identify", "x", 9, anonymousId="a", traits={"email": "newer", "k": 1}),
        message("page", "p", 4, anonymousId="a"),
        message("page", "q", 3, userId="u"),
    )
    row = profile(tables)
    assert (row["email"], row["attributes"], row["page_views"], row["last_seen"]) == ("newer", {"k": "1"}, 2, moment(4))


# S6


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("999", "999"),
        ("true", "true"),
        ("450.0", "450.0"),
        ("1e3", "1000.0"),
        ("1e22", "1e+22"),
        ("-0.0", "-0.0"),
        (str(10**30), str(10**30)),
        ('{"b": [1, 2.5, "é"], "a": null}', '{"b":[1,2.5,"é"],"a":null}'),
        ("[]", "[]"),
        ('""', ""),
    ],
)
def test_undefined_attribute_is_text(raw, text):
    value = b'{"type":"identify","userId":"u","traits":{"k":' + raw.encode() + b"}}"
    tables = run(value)
    assert profile(tables)["attributes"] == {"k": text}
    assert tables["attribute_definitions"] == [{"scope": "user", "name": "k", "type": "string", "source": "auto"}]


@pytest.mark.parametrize(
    ("kind", "raw", "typed"),
    [
        ("number", "123", 123),
        ("number", " 1e3 ", 1000.0),
        ("number", "0x1", None),
        ("number", "1e999", None),
        ("number", True, None),
        ("integer", 12.0, 12),
        ("integer", 12.5, None),
        ("integer", "12.0", 12),
        ("integer", 2**63, None),
        ("integer", "9007199254740993", 9007199254740993),
        ("boolean", "TRUE", True),
        ("boolean", 0, False),
        ("boolean", "yes", None),
        ("boolean", 2, None),
        ("datetime", "2026-11-10 14:05:00.250+02:00", "2026-11-10T12:05:00.25Z"),
        ("datetime", "2026-11-10", "2026-11-10T00:00:00Z"),
        ("datetime", 1794312300000, None),
        ("fixed_choice", "red", "red"),
        ("fixed_choice", "blue", None),
        ("multiple_choice", "red", ["red"]),
        ("multiple_choice", ["green", "red"], ["green", "red"]),
        ("multiple_choice", ["red", "blue"], None),
        ("multiple_choice", [], []),
    ],
)
def test_defined_attribute_is_converted_or_ignored(kind, raw, typed):
    definition = Definition(kind, frozenset({"red", "green"}) if "choice" in kind else frozenset())
    tables = run(identify({"k": raw}), definitions={("user", "k"): definition})
    assert profile(tables)["attributes"] == ({} if typed is None else {"k": typed})
    assert type(profile(tables)["attributes"].get("k")) is type(typed)


def test_ignored_value_leaves_the_older_one_and_null_removes():
    number = {("user", "k"): Definition("number")}
    old, bad, gone = identify({"k": "5"}, 1), identify({"k": "many"}, 2), identify({"k": None}, 3)
    assert profile(run(bad, old, definitions=number))["attributes"] == {"k": 5}
    assert profile(run(gone, bad, old, definitions=number))["attributes"] == {}


def test_null_defines_nothing():
    assert run(identify({"k": None}))["attribute_definitions"] == []


# S7, S8


def test_page_and_screen_are_views_and_only_page_counts():
    context = {"page": {"url": "https://c/", "path": "/c", "title": "", "referrer": 3}}
    tables = run(
        message("page", "1", 2, userId="u", context=context, name="N", properties={"path": "", "name": "n", "url": 5}),
        message("screen", "2", 9, userId="u", properties={"name": "S"}),
    )
    page, screen = tables["page_views"]
    assert (page["url"], page["path"], page["title"], page["referrer"], page["name"]) == (
        "https://c/",
        "",
        None,
        None,
        "N",
    )
    assert page["properties"] == {"path": "", "name": "n", "url": 5}
    assert (screen["kind"], screen["name"], screen["url"]) == ("screen", "S", None)
    assert (profile(tables)["page_views"], profile(tables)["last_seen"]) == (1, moment(2))


def test_track_is_an_occurrence_with_typed_and_sent_properties():
    tables = run(
        message("track", "1", userId="u", event=" Bought ", properties={"n": 1, "s": "x", "z": None, "b": "no"}),
        message("track", "2", userId="u", properties={"s": "x"}),
        message("track", "3", userId="u", properties=[]),
        definitions={("event: Bought ", "b"): Definition("boolean")},
    )
    first, second, third = tables["event_occurrences"]
    assert (first["event"], first["properties"]) == (" Bought ", {"n": "1", "s": "x"})
    assert first["sent_properties"] == {"n": 1, "s": "x", "z": None, "b": "no"}
    assert (second["properties"], second["sent_properties"]) == ({"s": "x"}, None)
    assert (third["properties"], third["sent_properties"]) == ({}, None)
    assert tables["event_definitions"] == [{"name": " Bought "}, {"name": "Bought"}]
    assert [(row["scope"], row["name"], row["source"]) for row in tables["attribute_definitions"]] == [
        ("event: Bought ", "b", "manual"),
        ("event: Bought ", "n", "auto"),
        ("event: Bought ", "s", "auto"),
        ("event:Bought", "s", "auto"),
    ]


# S9


def test_group_makes_a_company_and_a_member():
    tables = run(
        message("group", "1", 5, userId="u", groupId=7, traits={"name": "New", "employees": 30, "seats": 3}),
        message("group", "2", 2, userId="v", groupId=" 7 ", traits={"name": "Old", "address": {"a": 1}, "phone": "1"}),
        message("group", "3", 3, userId="v", groupId="7", traits={"phone": None}),
        message("group", "4", 4, anonymousId="a", groupId="8"),
    )
    first, second = tables["companies"]
    assert (first["company_id"], first["name"], first["employees"], first["phone"]) == ("7", "New", "30", None)
    assert (first["address"], first["attributes"]) == ('{"a":1}', {"seats": "3"})
    assert (second["company_id"], second["name"], second["attributes"]) == ("8", None, {})
    assert tables["company_members"] == [
        {"company_id": "7", "leaf": "user:u", "joined_at": moment(5)},
        {"company_id": "7", "leaf": "user:v", "joined_at": moment(2)},
        {"company_id": "8", "leaf": "anon:a", "joined_at": moment(4)},
    ]


def test_company_of_two_leaves_is_one_of_the_profile():
    tables = run(
        message("group", "1", userId="u", anonymousId="a", groupId="g"),
        message("group", "2", anonymousId="a", groupId="g"),
    )
    assert tables["profile_companies"] == [{"profile_id": "user:u", "company_id": "g"}]


# S10


def personas(computation_class, key=None):
    return {"personas": {"computation_class": computation_class, "computation_key": key}}


def test_both_forms_of_an_audience_are_one_membership():
    tables = run(
        identify({"vip": True}, 1, context=personas("audience", "vip")),
        message(
            "track", "t", 5, userId="u", context=personas("audience"), properties={"audience_key": "vip", "vip": False}
        ),
        message("track", "s", 3, userId="u", context=personas("journey_step", "vip"), properties={"vip": "TRUE"}),
    )
    assert tables["audience_memberships"] == [
        {"leaf": "user:u", "audience": "vip", "member": False, "changed_at": moment(5)}
    ]
    assert [(row["member"], row["message_id"]) for row in tables["audience_history"]] == [
        (True, "m1"),
        (True, "s"),
        (False, "t"),
    ]
    assert profile(tables)["attributes"] == {"vip": "false"}
    assert len(tables["event_occurrences"]) == 2
    assert tables["profile_audiences"] == [{"profile_id": "user:u", "audience": "vip", "member": False}]


@pytest.mark.parametrize("value", ["yes", 2, None, [True]])
def test_what_is_no_boolean_is_no_membership(value):
    track = message("track", "t", userId="u", context=personas("audience", "k"), properties={"k": value})
    tables = run(track, message("identify", "i", userId="v", context=personas("audience", "k"), traits={"k": value}))
    assert tables["audience_history"] == []
    assert profile(tables)["attributes"] == {}
    assert ("k" in profile(tables, "user:v")["attributes"]) is (value is not None)


def test_computed_trait_by_track_sets_the_attribute():
    tables = run(
        message("track", "1", 1, userId="u", context=personas("trait"), properties={"trait_key": "ltv", "ltv": 450.0}),
        message("track", "2", 2, userId="u", properties={"trait_key": "ltv", "ltv": 1}),
    )
    assert profile(tables)["attributes"] == {"ltv": "450.0"}


def test_account_audience_is_a_company_attribute():
    tables = run(message("group", "1", userId="u", groupId="g", context=personas("audience", "k"), traits={"k": True}))
    assert tables["audience_memberships"] == []
    assert tables["companies"][0]["attributes"] == {"k": "true"}


# S12


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b" " * 1_048_577, "too_large"),
        (None, "invalid_json"),
        (b'{"type":"page","userId":"u","properties":{"a":"\\ud800","a":1}}', "invalid_json"),
        (b'{"type":"page","userId":"u","properties":{"a":1e999,"a":1}}', "invalid_json"),
        (b'{"type":"page","userId":"u","a":' + b"[" * 256 + b"]" * 256 + b"}", "invalid_json"),
        (b"[" * 300 + b"]" * 300, "invalid_json"),
        (b"[]", "not_an_object"),
        (b'{"type":"PAGE"}', "unknown_type"),
        (b'{"type":"track","event":5}', "no_identity"),
        (b'{"type":"track","userId":"u","properties":5}', "missing_event_name"),
        (b'{"type":"group","userId":"u","groupId":false,"traits":5}', "missing_group_id"),
        (b'{"type":"track","userId":"u","event":5}', "invalid_field"),
        (b'{"type":"identify","userId":"u","traits":[1]}', "invalid_field"),
    ],
)
def test_first_reason_that_applies_is_given(value, reason):
    tables = run(value)
    assert tables.quarantined == {reason: 1}
    assert tables["quarantine"] == [{"topic": "t", "partition": 0, "offset": 0, "reason": reason, "raw": value or b""}]
    assert tables["identities"] == []
    assert tables["attribute_definitions"] == []


def test_256_levels_are_fine_and_brackets_in_text_are_none():
    deep = b'{"type":"page","userId":"u","a":' + b"[" * 255 + b"]" * 255 + b"}"
    assert run(deep, message("page", "1", userId="u", name='[{"' * 300)).applied == 2


def test_forbidden_goes_before_all_else():
    assert run(b"", is_forbidden=lambda record: record.offset == 0).quarantined == {"forbidden": 1}


def test_long_names_are_cut_and_nul_is_replaced():
    long = "é" * 300
    cut = "é" * 223 + "~" + hashlib.sha256(long.encode()).hexdigest()
    tables = run(
        message("track", "1", userId=f" {long} ", event=long, properties={long: "a\0b", "k\0": 1}),
        message("identify", "2", userId="u", traits={long: 1}, context=personas("audience", long)),
    )
    row = tables["event_occurrences"][0]
    assert (row["leaf"], row["event"], row["properties"]) == (f"user:{cut}", cut, {cut: "a\ufffdb", "k\ufffd": "1"})
    assert row["sent_properties"] == {long: "a\ufffdb", "k\ufffd": 1}
    assert tables["audience_memberships"][0]["audience"] == cut
    assert profile(tables)["attributes"] == {cut: "1"}


def test_wrong_shapes_in_context_count_as_absent():
    context = {"traits": [1], "os": "x", "device": 3, "page": [], "screen": None, "personas": [], "userAgent": {}}
    row = profile(run(identify({"k": "v"}, context=context), identify({}, 1, context=[1])))
    assert row["attributes"] == {"k": "v"}
    assert (row["os"], row["user_agent"], row["current_url"]) == (None, None, None)


# Comparing


def test_differences_name_rows_and_columns():
    tables = run(identify({"n": 1}), message("page", "p", userId="v"))
    actual = {table: [dict(row) for row in rows] for table, rows in tables.rows.items()}
    assert differences(tables, actual) == []
    actual["profiles"][0]["email"] = "x"
    actual["identities"].pop()
    actual["page_views"].append(dict(actual["page_views"][0]))
    lines = differences(tables, actual)
    assert len(lines) == 3
    assert "email: expected None, found 'x'" in lines[2]


def test_numbers_are_compared_as_jsonb_does_and_booleans_are_none():
    numbers = {("user", "n"): Definition("number"), ("user", "b"): Definition("boolean")}
    tables = run(identify({"n": 1e23, "b": True}), definitions=numbers)
    row = dict(profile(tables))
    assert differences(tables, {"profiles": [row | {"attributes": {"n": 10**23, "b": True}}]}) == []
    assert differences(tables, {"profiles": [row | {"attributes": {"n": 10**23, "b": 1}}]})

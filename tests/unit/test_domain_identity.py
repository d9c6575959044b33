"""Whose a message is (SEMANTICS S1)."""

from hashlib import sha256

import pytest

from contracts.outcomes import Reason, Refusal, WarningKind
from domain import identity
from domain.identity import Places, Routed, Rules, route
from domain.names import bounded
from tests.messages import RULES, call, message, raw, read, refused


def test_user_comes_before_anonymous_and_claims_it():
    found = call("page")
    assert (found.leaf, found.claims, found.warnings) == ("user:u1", ("anon:a1",), ())


def test_anonymous_alone():
    found = call("page", userId=None)
    assert (found.leaf, found.claims, found.warnings) == ("anon:a1", (), ())


def test_user_alone():
    assert call("page", anonymousId=...).claims == ()


@pytest.mark.parametrize("kind", ["identify", "page", "screen", "track", "group", "alias"])
def test_neither_id_is_no_identity(kind):
    for none in (..., None, "", "  \t"):
        assert refused(message(kind, userId=none, anonymousId=none)) == Reason.NO_IDENTITY


@pytest.mark.parametrize(
    ("sent", "leaf"),
    [
        (7, "user:7"),
        (-12, "user:-12"),
        (10**30, f"user:{10**30}"),
        ("  u 1\n", "user:u 1"),
        ("U1", "user:U1"),
        ("é", "user:é"),
    ],
)
def test_ids_are_texts_or_integers(sent, leaf):
    found = call("page", userId=sent)
    assert (found.leaf, found.warnings) == (leaf, ())


@pytest.mark.parametrize("sent", [1.5, 1.0, True, False, [], ["u1"], {}, {"id": "u1"}])
def test_anything_else_is_no_id(sent):
    found = call("page", userId=sent)
    assert (found.leaf, found.claims) == ("anon:a1", ())
    assert found.warnings == (WarningKind.INVALID_USER_ID,)
    assert call("page", anonymousId=sent).warnings == (WarningKind.INVALID_ANONYMOUS_ID,)


BLOCKED = [
    "0", "-", "000", "00000000-0000-0000-0000-000000000000", 0, -1, "null", "NULL", "None", "undefined", "NaN",
    "anonymous",
    "guest", "Unknown", "-1", "true", "FALSE", "[object Object]", "'null'", '"undefined"', '"0"', " null ",
]  # fmt: skip


@pytest.mark.parametrize("sent", BLOCKED)
def test_blocked_ids_are_nobody(sent):
    found = call("page", userId=sent)
    assert (found.leaf, found.claims) == ("anon:a1", ())
    assert found.warnings == (WarningKind.BLOCKED_USER_ID,)
    found = call("page", anonymousId=sent)
    assert (found.leaf, found.claims) == ("user:u1", ())
    assert found.warnings == (WarningKind.BLOCKED_ANONYMOUS_ID,)
    assert refused(message("page", userId=sent, anonymousId=sent)) == Reason.NO_IDENTITY


@pytest.mark.parametrize("sent", ["null2", "10", "'null", "''", "\"null'", "nullnull", "0a", "''null''"])
def test_ids_that_only_look_blocked(sent):
    assert call("page", userId=sent).leaf == f"user:{sent}"


def test_the_list_may_be_changed_or_emptied():
    nothing = Rules.of([], 1024, 300)
    assert read(message("page", userId="0"), nothing).leaf == "user:0"
    assert read(message("page", userId="null"), nothing).leaf == "user:null"
    own = Rules.of(["Tester"], 1024, 300)
    assert read(message("page", userId="TESTER"), own).leaf == "anon:a1"
    assert read(message("page", userId="null"), own).leaf == "user:null"


def test_long_ids_are_cut_to_a_prefix_and_a_hash():
    for text in ("x" * 513, "é" * 400, "a" + "é" * 400, "😀" * 129):
        leaf = call("page", userId=f" {text} ").leaf
        assert leaf == f"user:{bounded(text)}"
        assert len(leaf.encode()) <= 512 + len("user:")
        prefix, digest = leaf.removeprefix("user:").split("~")
        assert digest == sha256(text.encode()).hexdigest()
        assert text.startswith(prefix)
        assert 444 <= len(prefix.encode()) <= 447


def test_ids_of_512_bytes_stay():
    for text in ("x" * 512, "é" * 256, "😀" * 128):
        assert call("page", userId=text).leaf == f"user:{text}"


def test_nul_in_an_id_is_replaced():
    assert call("page", userId="a\0b").leaf == "user:a\ufffdb"


def test_alias_claims_the_previous_id():
    assert call("alias").claims == ("anon:a0", "anon:a1")
    assert call("alias", anonymousId=...).claims == ("anon:a0",)
    assert call("alias", previousId="a1").claims == ("anon:a1",)
    assert call("alias", previousId=17).claims == ("anon:17", "anon:a1")


def test_alias_without_user_claims_nothing():
    found = call("alias", userId=...)
    assert (found.leaf, found.claims) == ("anon:a1", ())
    assert found.warnings == (WarningKind.ALIAS_WITHOUT_USER_ID,)


@pytest.mark.parametrize("previous", [..., None, "", " ", "null", 0, True, 1.5, {}, ["a0"]])
def test_alias_needs_a_usable_previous_id(previous):
    assert refused(message("alias", previousId=previous)) == Reason.INVALID_FIELD
    assert refused(message("alias", previousId=previous, userId=...)) == Reason.INVALID_FIELD


@pytest.mark.parametrize("kind", [..., None, 5, "", "Track", "record", "audiencelist", "track ", ["track"], {"a": 1}])
def test_unknown_types(kind):
    assert refused(message("track") | {"type": kind} if kind is not ... else {"userId": "u1"}) == Reason.UNKNOWN_TYPE


def test_route_finds_the_leaf_without_reading_the_rest():
    assert route(raw(message("track", userId=" u1 ")), RULES) == Routed("user:u1")
    assert route(b'{"type":"track","userId":5,"properties":1e999}', RULES) == Routed("user:5")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.INVALID_JSON),
        (b"", Reason.INVALID_JSON),
        (b"[1]", Reason.NOT_AN_OBJECT),
        (b"7", Reason.NOT_AN_OBJECT),
        (b'{"type":5,"userId":"u1"}', Reason.UNKNOWN_TYPE),
        (b'{"userId":"u1"}', Reason.UNKNOWN_TYPE),
        (b'{"type":"track","userId":null}', Reason.NO_IDENTITY),
        (b'{"type":"track","userId":null,"x":"\xff"}', Reason.INVALID_JSON),
        (b'{"type":"nothing","x":1e999}', Reason.INVALID_JSON),
        (b'{"type":"track","userId":"u1","x":"' + b"y" * 2**20 + b'"}', Reason.TOO_LARGE),
        (b'{"type":"track","userId":"u1","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}", Reason.INVALID_JSON),
    ],
)
def test_route_gives_the_first_reason(value, reason):
    refusal = route(value, RULES)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason


def test_route_reads_odd_but_valid_messages():
    assert route(b'{"type":5,"type":"track","userId":"x","\\u0075serId":"u1"}', RULES) == Routed("user:u1")
    assert route(b'{"type":"track","userId":"a\\u0000"}', RULES) == Routed("user:a\ufffd")
    assert route(b'{"type":"track","userId\\u0000":"a","anonymousId":"b"}', RULES) == Routed("anon:b")


def test_places_are_found_without_asking_again():
    asked = []

    def place_of(leaf):
        asked.append(leaf)
        return leaf

    places = Places(RULES, place_of)
    values = [raw(message("page")), raw(message("track", userId=None)), raw(message("page", userId=" u1 "))]
    assert places.find(values) == places.find(values) == ["user:u1", "anon:a1", "user:u1"]
    assert asked == ["user:u1", "anon:a1", "user:u1"]


def test_places_leave_to_route_what_is_odd():
    places = Places(RULES, str)
    odd = [
        None, b"", b"{", raw(message("page", userId=7)), raw(message("page", userId="null")),
        raw(message("page", userId="")), raw(message("page", userId="a\0b")), raw(message("page", userId="x" * 200)),
        raw(message("page", userId=None, anonymousId=None)), raw(message("page", userId=[])), raw(message("leave")),
        raw(message("page", userId=None, anonymousId={})), raw(message("page", name="x" * RULES.max_message_bytes)),
    ]  # fmt: skip
    assert places.find(odd) == [None] * len(odd)


def test_places_are_forgotten_at_a_bound(monkeypatch):
    monkeypatch.setattr(identity, "PLACED_IDS", 10)
    places = Places(RULES, str)
    values = [raw(message("page", userId=f"u{n}")) for n in range(25)]
    assert places.find(values) == places.find(values) == [f"user:u{n}" for n in range(25)]
    assert len(places._users) <= 10

"""Any bytes: never a crash, and the router and the leaf agree (SEMANTICS S12)."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from contracts.outcomes import Reason, Refusal
from domain.calls import Call, interpret
from domain.decoding import decode
from domain.identity import Places, Routed, route
from tests.messages import KAFKA_MS, RULES, raw
from tests.oracle import reading
from tests.property.strategies import JSON, messages

LIMIT = 1024 * 1024

ODD_BYTES = st.sampled_from(
    [
        b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\x00", b"NaN", b"1e999", b"9" * 310, b"9" * 309, b"[" * 300,
        b'"', b"{", b"}", b",", b":", b"\\", b"\n", b"-", b"\xef\xbb\xbf", b'"userId":', b'"userId":"u9",',
        b'"type":"track",',
        b'"t\\u0079pe":"page",', b'"anonymousId":1,', b"null", b" ",
    ]
)  # fmt: skip


@st.composite
def damaged(draw):
    """A message with bytes put in, taken out or repeated."""
    value = raw(draw(messages()))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(value)))
        until = draw(st.integers(at, min(len(value), at + 20)))
        value = (
            value[:at] + draw(st.one_of(ODD_BYTES, st.binary(max_size=3), st.just(value[at:until] * 2))) + value[until:]
        )
    return value


@given(st.one_of(damaged(), st.binary(max_size=50), JSON.map(raw)))
@example(b'{"type":"track","userId":"a","userId":null,"anonymousId":"b"}')
@example(b'{"type":"track","userId":"a"}\xff')
@example(b'{"type":"track","event":"e","userId":' + b"1" * 5000 + b"}")
@example(b'{"type":"track","event":"e","userId":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}")
def test_the_router_and_the_leaf_agree(value):
    routed = route(value, RULES)
    call = interpret(value, KAFKA_MS, RULES)
    if isinstance(call, Call):
        assert routed == Routed(call.leaf)
    elif isinstance(routed, Refusal):
        assert routed.reason == call.reason
    if call.__class__ is Refusal and call.reason in {
        Reason.TOO_LARGE,
        Reason.NOT_AN_OBJECT,
        Reason.UNKNOWN_TYPE,
        Reason.NO_IDENTITY,
    }:
        assert isinstance(routed, Refusal)


IDS = st.one_of(
    st.sampled_from(["u1", " u1\n", "", " ", "0", "null", "'null'", "a\0b", "é" * 200, "x" * 600]),
    st.sampled_from([None, 0, 1, 1.0, 7, 10**30, True, False, [], {}, ["u1"], {"id": "u1"}]),
    st.text(max_size=6),
)


@st.composite
def with_ids(draw):
    """A message with any ids, one of them absent at times, beyond the largest size at times."""
    names = draw(st.sampled_from([("userId", "anonymousId"), ("userId",), ("anonymousId",)]))
    kind = draw(st.sampled_from(["page", "track", "identify", "delete", "", None]))
    filling = "x" * draw(st.sampled_from([0, 0, 0, RULES.max_message_bytes]))
    return raw({"type": kind, "event": filling, **{name: draw(IDS) for name in names}})


@example([b'{"type":"page","\xffname":1,"anonymousId":"a1","properties":{"z\\u0000":null}}'])
@given(st.lists(st.one_of(st.none(), with_ids(), damaged(), st.binary(max_size=50), JSON.map(raw)), max_size=8))
def test_the_router_finds_the_place_of_the_leaf_that_it_would_route_to(values):
    places = Places(RULES, lambda leaf: (leaf,))
    for found in (places.find(values), places.find(values)):
        for value, place in zip(values, found, strict=True):
            assert place is None or route(value, RULES) == Routed(*place)


@given(st.one_of(damaged(), st.binary(max_size=50), JSON.map(raw)))
def test_decoding_agrees_with_the_standard_library(value):
    decoded = decode(value, LIMIT)
    try:
        expected = reading.decode(value, LIMIT)
    except reading.Refused as refused:
        expected = str(refused)
    if isinstance(decoded, Refusal):
        decoded = str(decoded.reason)
    assert repr(decoded) == repr(expected)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.booleans())
def test_every_object_is_read(payload, ascii_only):
    value = json.dumps(payload, ensure_ascii=ascii_only).encode()
    assert repr(decode(value, LIMIT)) == repr(reading.without_nul(payload))


@given(st.text(alphabet="0123456789.eE+-", max_size=25))
def test_numbers_agree_with_the_standard_library(text):
    value = b'{"n":%s}' % text.encode()
    decoded = decode(value, LIMIT)
    try:
        expected = reading.decode(value, LIMIT)
    except reading.Refused:
        assert isinstance(decoded, Refusal)
    else:
        assert repr(decoded) == repr(expected)

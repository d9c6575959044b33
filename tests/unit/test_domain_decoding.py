"""Bytes to an object, bounded (SEMANTICS S12)."""

import json

import pytest

from contracts.outcomes import Reason, Refusal
from domain.decoding import decode

LIMIT = 1024 * 1024


def reason(value):
    refusal = decode(value, LIMIT)
    assert isinstance(refusal, Refusal), refusal
    return refusal.reason


@pytest.mark.parametrize(
    "value",
    [
        b"",
        None,
        b"   \t ",
        b"\r\n",
        b"{",
        b"{}{}",
        b"{} x",
        b"\xef\xbb\xbf{}",
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\udc00\\ud800"}',
        b'{"\\ud83d":1}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e999}',
        b'{"a":[-1e309]}',
        b'{"a":' + b"9" * 310 + b"}",
        b'{"a":[{"b":-' + b"9" * 309 + b"}]}",
        b'{"a":' + b"1" * 5000 + b"}",
        b"{'a':1}",
        b'{"a":01}',
        b'{"a":1,}',
        b'{"a":"\x00"}',
        b'{"a":"line\nbreak"}',
        b"\x00",
    ],
)
def test_what_cannot_be_read_is_invalid_json(value):
    assert reason(value) == Reason.INVALID_JSON


@pytest.mark.parametrize("value", [b"[]", b'"text"', b"5", b"null", b"true", b'[{"type":"track"}]'])
def test_other_json_is_not_an_object(value):
    assert reason(value) == Reason.NOT_AN_OBJECT


def test_size_is_bounded_before_anything_is_read():
    value = b'{"a":"' + b"x" * (LIMIT - 8) + b'"}'
    assert len(value) == LIMIT
    assert isinstance(decode(value, LIMIT), dict)
    assert reason(value + b" ") == Reason.TOO_LARGE
    assert reason(b"\xff" * (2 * LIMIT)) == Reason.TOO_LARGE


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_bounded(opening, closing):
    def nested(levels):
        return b'{"a":' + opening * (levels - 1) + b"1" + closing * (levels - 1) + b"}"

    assert isinstance(decode(nested(256), LIMIT), dict)
    assert reason(nested(257)) == Reason.INVALID_JSON
    assert reason(nested(900)) == Reason.INVALID_JSON
    assert reason(nested(100_000)) == Reason.INVALID_JSON


def test_many_containers_side_by_side_are_not_deep():
    payload = {"a": [{"b": [i]} for i in range(1000)]}
    assert decode(json.dumps(payload).encode(), LIMIT) == payload


def test_integers_keep_every_digit_within_double_range():
    greatest = int(1.7976931348623157e308)
    for number in (2**53 + 1, 2**64, -(2**63) - 1, 10**30, greatest, -greatest):
        assert decode(b'{"pad":"%s","a":%d}' % (b"x" * 300, number), LIMIT)["a"] == number
    assert reason(b'{"a":%d}' % (2 * greatest)) == Reason.INVALID_JSON


def test_digits_in_text_are_no_number():
    text = "7" * 1000
    assert decode(b'{"a":"%s"}' % text.encode(), LIMIT) == {"a": text}


def test_a_long_number_is_found_wherever_it_stands():
    for before in range(200):
        assert reason(b'{"p":"%s","a":%s}' % (b"x" * before, b"9" * 309)) == Reason.INVALID_JSON


def test_of_duplicate_keys_the_last_wins():
    assert decode(b'{"a":1,"a":2,"\\u0061":3}', LIMIT) == {"a": 3}


def test_nul_becomes_the_replacement_character():
    value = b'{"a\\u0000":"x\\u0000y","b":[{"\\u0000":"\\u0000"}],"c":"\\\\u0000"}'
    assert decode(value, LIMIT) == {"a\ufffd": "x\ufffdy", "b": [{"\ufffd": "\ufffd"}], "c": "\\u0000"}


def test_white_space_around_is_fine():
    assert decode(b' \t\r\n{"a":1}\n', LIMIT) == {"a": 1}


def test_refusals_are_short_whatever_came():
    assert len(decode(b'{"' + b"k" * 5000 + b'":1e999}', LIMIT).detail) <= 300

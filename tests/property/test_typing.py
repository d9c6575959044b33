"""Typing: nothing is lost, nothing is guessed, and state keeps what came (SEMANTICS S6)."""

import json
from decimal import Decimal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from contracts.definitions import AttributeType, Definition
from contracts.records import Slot
from domain.conversion import UNCONVERTIBLE, convert, convert_kept, json_text, keep, text
from domain.timing import _read_any_iso, iso_text, read_iso
from tests.oracle import Definition as OracleDefinition
from tests.oracle import typing_rules
from tests.property.strategies import JSON, SCALARS

CHOICES = frozenset({"red", "true", "1", ""})
DEFINITIONS = st.sampled_from([Definition(kind, CHOICES) for kind in AttributeType])
NUMBER_TEXTS = st.one_of(
    st.text(alphabet="0123456789.eE+- ", max_size=12),
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
    st.integers(-(10**20), 10**20).map(lambda number: f"{number}.000"),
    st.builds("{}e{}".format, st.integers(-1000, 1000), st.integers(-25, 25)),
)
TIME_TEXTS = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.datetimes().map(lambda moment: moment.isoformat(" ", "milliseconds") + "+05:30"),
    st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z"),
    st.dates().map(str),
    st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z", fullmatch=True),
)
VALUES = st.one_of(JSON, SCALARS, NUMBER_TEXTS, TIME_TEXTS).filter(lambda value: value is not None)


def same(left, right):
    return type(left) is type(right) and repr(left) == repr(right)


@given(VALUES, DEFINITIONS)
def test_conversions_agree_with_the_recomputation(value, definition):
    expected = typing_rules.convert(value, OracleDefinition(str(definition.type), definition.choices))
    converted = convert(value, definition)
    if expected is typing_rules.LOST:
        assert converted is UNCONVERTIBLE
    else:
        assert same(converted, expected)


@given(VALUES, DEFINITIONS)
def test_a_typed_value_stays_as_it_is(value, definition):
    converted = convert(value, definition)
    if converted is not UNCONVERTIBLE:
        assert same(convert(converted, definition), converted)


@given(VALUES, DEFINITIONS)
def test_kept_values_convert_like_raw_ones(value, definition):
    kept = keep(value)
    through = msgspec.msgpack.decode(msgspec.msgpack.encode(Slot(kept, 1, "m")), type=Slot).value
    assert same(through, kept)
    assert same(convert_kept(through, definition), convert(value, definition))


@given(VALUES)
def test_text_reads_back(value):
    shown = text(value)
    if isinstance(value, str):
        assert shown == value
    else:
        assert repr(json.loads(shown)) == repr(value)


@given(JSON)
def test_json_text_is_the_same_value(value):
    assert repr(json.loads(json_text(value))) == repr(value)


@given(NUMBER_TEXTS)
def test_no_number_is_rounded_to_an_integer(sent):
    converted = convert(sent, Definition(AttributeType.INTEGER))
    if converted is not UNCONVERTIBLE:
        assert Decimal(sent.strip()) == converted


@given(st.integers(0, 253_402_300_799_999_999))
def test_times_read_back(time):
    assert read_iso(iso_text(time)) == time


@given(TIME_TEXTS)
def test_the_short_path_reads_times_as_the_long_one(sent):
    assert read_iso(sent) == _read_any_iso(sent)


@given(st.text(alphabet="0123456789-:.TZ +_\uff15", min_size=24, max_size=24))
def test_the_short_path_reads_no_more_than_the_long_one(sent):
    shaped = "".join(
        fixed if fixed in "-:.TZ" else drawn for fixed, drawn in zip("2026-02-23T22:28:55.387Z", sent, strict=True)
    )
    assert read_iso(shaped) == _read_any_iso(shaped)

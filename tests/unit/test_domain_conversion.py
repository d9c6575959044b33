"""Typing (SEMANTICS S6)."""

import pytest

from contracts.definitions import AttributeType, Definition
from domain.conversion import UNCONVERTIBLE, convert, convert_kept, keep, text

BIG = 10**30


def exactly(left, right):
    return type(left) is type(right) and repr(left) == repr(right)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ""), (" a ", " a "), (999, "999"), (-5, "-5"), (BIG, str(BIG)), (True, "true"), (False, "false"),
        (450.0, "450.0"), (1e3, "1000.0"), (1e22, "1e+22"), (-0.0, "-0.0"), (0.1, "0.1"), (5e-324, "5e-324"),
        ([], "[]"), ({}, "{}"), ({"b": [1, 2.0, None, True], "a": "é\n"}, '{"b":[1,2.0,null,true],"a":"é\\n"}'),
        ([1e22, BIG], f"[1e+22,{BIG}]"),
    ],
)  # fmt: skip
def test_string_takes_everything(value, expected):
    assert text(value) == expected
    assert convert(value, Definition(AttributeType.STRING)) == expected
    assert convert_kept(keep(value), Definition(AttributeType.STRING)) == expected


NO = UNCONVERTIBLE

TYPED = {
    AttributeType.NUMBER: [
        (5, 5), (5.0, 5.0), (BIG, BIG), (-0.0, -0.0), ("123", 123), ("-0", 0), (" 1.50\n", 1.5), ("1e3", 1000.0),
        ("-2E-2", -0.02),
        (str(BIG), BIG), ("1" * 309, int("1" * 309)),
        ("", NO), ("1,5", NO), ("0x10", NO), ("01", NO), ("+1", NO), (".5", NO), ("5.", NO), ("1e999", NO),
        ("NaN", NO),
        ("Infinity", NO), ("9" * 309, NO), ("9" * 5000, NO), ("1_000", NO), ("\uff11", NO), (True, NO),
        (False, NO), ([5], NO), ({}, NO),
    ],
    AttributeType.INTEGER: [
        (5, 5), (12.0, 12), (3.139604423009641e16, 31396044230096410), (-0.0, 0), (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)), ("12", 12), (" 12.0 ", 12), ("1e3", 1000),
        ("1.5e1", 15), ("100e-2", 1), ("-7", -7), ("0e999999999999", 0), ("-0.0", 0),
        ("9007199254740993.0", 9007199254740993),
        ("9223372036854775807", 2**63 - 1), ("-9223372036854775808.000", -(2**63)),
        ("1e00000000000000000002", 100), ("0.001e3", 1),
        (12.5, NO), (2**63, NO), (-(2**63) - 1, NO), (BIG, NO), (9.3e18, NO), (1e300, NO), ("12.5", NO), ("1e-1", NO),
        ("9223372036854775808", NO), ("12.00000000000000000000001", NO), ("1e99999999999999", NO),
        ("1e-99999999999999", NO),
        ("1e99", NO), ("", NO), ("twelve", NO), ("0" * 20, NO), (True, NO), ([1], NO),
    ],
    AttributeType.BOOLEAN: [
        (True, True), (False, False), ("true", True), ("FALSE", False), ("True", True), (1, True), (0, False),
        (1.0, True),
        (-0.0, False), ("1", True), ("0", False),
        (2, NO), (-1, NO), (0.5, NO), ("yes", NO), ("", NO), ("1.0", NO), (" true", NO), ([], NO), ({}, NO),
        (BIG, NO),
    ],
    AttributeType.DATETIME: [
        ("2026-02-23", "2026-02-23T00:00:00Z"), ("2026-02-23T22:28:55.380Z", "2026-02-23T22:28:55.38Z"),
        ("2026-02-24 03:58:55+05:30", "2026-02-23T22:28:55Z"),
        ("1970-01-01T00:00:00.0000019Z", "1970-01-01T00:00:00.000001Z"),
        (1771885735387, NO), ("1771885735387", NO), ("2026-02-23T22:28:55", NO), ("", NO), (True, NO), ([], NO),
    ],
    AttributeType.FIXED_CHOICE: [
        ("red", "red"), ("", NO), ("Red", NO), ("black", NO), (5, NO), (True, NO), (["red"], NO),
    ],
    AttributeType.MULTIPLE_CHOICE: [
        (["red"], ["red"]), (["blue", "red", "red"], ["blue", "red", "red"]), ([], []), ("red", ["red"]),
        ("black", NO), (["red", "black"], NO), (["red", 5], NO), ([None], NO), ({"red": 1}, NO), (5, NO), ("", NO),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value", "expected"), [(kind, *pair) for kind, pairs in TYPED.items() for pair in pairs]
)
def test_conversions(kind, value, expected):
    definition = Definition(kind, frozenset({"red", "blue"}))
    assert exactly(convert(value, definition), expected)
    assert exactly(convert_kept(keep(value), definition), expected)


@pytest.mark.parametrize("kind", AttributeType)
def test_null_converts_under_every_type(kind):
    assert convert_kept(keep(None), Definition(kind)) is None

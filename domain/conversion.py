"""Typing: what a raw JSON value is under a definition, and the form that state keeps it in (SEMANTICS S6)."""

import json
import re
from collections.abc import Callable
from typing import Final

import msgspec

from contracts.definitions import STRING, AttributeType, Definition
from contracts.records import Kept
from domain.decoding import Json
from domain.timing import iso_text, read_iso


class Unconvertible:
    """The outcome of a conversion that would lose something; `UNCONVERTIBLE` is the only one."""

    __slots__ = ()


UNCONVERTIBLE: Final = Unconvertible()

_STRING: Final = AttributeType.STRING
"""Bound once: looking up a member of an enumeration costs as much as the comparison."""
_INT64_MIN: Final = -(2**63)
_INT64_MAX: Final = 2**63 - 1
_MSGPACK_INT_END: Final = 2**64
_JSON_NUMBER: Final = re.compile(r"(-?)(0|[1-9][0-9]*)(\.[0-9]+)?(?:[eE]([+-]?)([0-9]+))?")

_compact_json: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False).encode
_read_json: Final = msgspec.json.Decoder().decode
_encode_json: Final = msgspec.json.Encoder().encode


def json_text(value: Json) -> str:
    """Return JSON text for a `jsonb` column. Faster than `text`, and free in how it spells a number."""
    return _encode_json(value).decode()


def keep(value: Json) -> Kept:
    """Return a raw JSON value in the form that state keeps (see `records.Kept`)."""
    kind = type(value)
    if kind is str or value is None or kind is float or kind is bool:
        return value  # type: ignore[no-any-return]  # narrowed by its exact type
    if kind is int and _INT64_MIN <= value < _MSGPACK_INT_END:
        return value  # type: ignore[no-any-return]  # narrowed by its exact type
    return [_compact_json(value)]


def text(value: Json) -> str:
    """Return the text of a raw JSON value that is not null: what type `string` makes of it."""
    if type(value) is str:
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    if type(value) is int or type(value) is float:
        return repr(value)
    return _compact_json(value)


def convert(value: Json, definition: Definition) -> Json:
    """Return a raw JSON value that is not null in the defined type, or `UNCONVERTIBLE`. Nothing is lost or guessed."""
    if definition.type is _STRING:
        return text(value)
    return _CONVERSIONS[definition.type](value, definition.choices)


def convert_kept(value: Kept, definition: Definition) -> Json:
    """Convert a value as state keeps it; null converts to None under every type."""
    if value is None:
        return None
    if type(value) is list:
        return value[0] if definition.type is _STRING else convert(_read_json(value[0]), definition)
    return convert(value, definition)


def converts(value: Kept, definition: Definition = STRING) -> bool:
    """Whether a value as state keeps it has a place in the defined type."""
    return definition.type is _STRING or convert_kept(value, definition) is not UNCONVERTIBLE


def read_boolean(value: Json) -> bool | None:
    """Return the boolean that a raw value is: true/false and 1/0, also as text; None for anything else."""
    if type(value) is bool:
        return value
    if type(value) is str:
        return _BOOLEAN_TEXTS.get(value.lower())
    if (type(value) is int or type(value) is float) and value in {0, 1}:
        return value == 1
    return None


_BOOLEAN_TEXTS: Final = {"true": True, "1": True, "false": False, "0": False}


def _to_number(value: Json, _choices: frozenset[str]) -> Json:
    if type(value) is int or type(value) is float:
        return value
    if type(value) is not str:
        return UNCONVERTIBLE
    match = _JSON_NUMBER.fullmatch(value.strip())
    if match is None:
        return UNCONVERTIBLE
    number = float(match[0])
    if number in {float("inf"), float("-inf")}:
        return UNCONVERTIBLE
    if match[3] or match[5]:
        return number
    return int(match[0])


def _to_integer(value: Json, _choices: frozenset[str]) -> Json:
    if type(value) is float:
        value = _integer_of_text(repr(value))
    elif type(value) is str:
        value = _integer_of_text(value.strip())
    if type(value) is int and _INT64_MIN <= value <= _INT64_MAX:
        return value
    return UNCONVERTIBLE


def _integer_of_text(number: str) -> int | None:
    """Return the 64-bit integer that the text of a JSON number names exactly; by its digits, as a double rounds.

    A double is read by the text that stands for it too (3.139604423009641e+16 ends in 410, its binary value in 408):
    that is what was sent, and what the type `string` shows.
    """
    match = _JSON_NUMBER.fullmatch(number)
    if match is None:
        return None
    sign, whole, fraction, exponent_sign, exponent = match.groups(default="")
    digits = (whole + fraction[1:]).rstrip("0")
    exponent = exponent.lstrip("0")
    if not digits.lstrip("0"):
        return 0
    if len(exponent) > 9:  # beyond any text of a message: neither a fraction nor trailing zeros make up for it
        return None
    scale = int(exponent_sign + (exponent or "0")) + len(whole) - len(digits)
    if scale < 0 or len(digits.lstrip("0")) + scale > 19:
        return None
    return int(sign + digits + "0" * scale)


def _to_boolean(value: Json, _choices: frozenset[str]) -> Json:
    boolean = read_boolean(value)
    return UNCONVERTIBLE if boolean is None else boolean


def _to_datetime(value: Json, _choices: frozenset[str]) -> Json:
    if type(value) is not str:
        return UNCONVERTIBLE
    time = read_iso(value)
    return UNCONVERTIBLE if time is None else iso_text(time)


def _to_fixed_choice(value: Json, choices: frozenset[str]) -> Json:
    return value if type(value) is str and value in choices else UNCONVERTIBLE


def _to_multiple_choice(value: Json, choices: frozenset[str]) -> Json:
    if type(value) is str:
        value = [value]
    if type(value) is list and all(type(item) is str and item in choices for item in value):
        return value
    return UNCONVERTIBLE


_CONVERSIONS: Final[dict[AttributeType, Callable[[Json, frozenset[str]], Json]]] = {
    AttributeType.NUMBER: _to_number,
    AttributeType.INTEGER: _to_integer,
    AttributeType.BOOLEAN: _to_boolean,
    AttributeType.DATETIME: _to_datetime,
    AttributeType.FIXED_CHOICE: _to_fixed_choice,
    AttributeType.MULTIPLE_CHOICE: _to_multiple_choice,
}

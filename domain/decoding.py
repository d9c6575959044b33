"""From the bytes of a record to a JSON object, bounded in size, depth and numbers (SEMANTICS S12)."""

import re
from typing import Any, Final

import msgspec

from contracts.outcomes import Reason, Refusal

Json = Any
"""A decoded JSON value: its shape is never known beforehand."""

MAX_DEPTH: Final = 256
"""Levels of arrays and objects in a message. Far above what a tracking plan has, far below what makes an encoder
(1,000 frames of Python's stack) overflow later on."""

_REPLACEMENT: Final = "\ufffd"
_LONG_NUMBER: Final = re.compile(rb"[0-9]{309}")
"""The greatest double, 1.8e308, has 309 digits: an integer beyond it has at least as many."""
_STRIDE: Final = 77
_FOUR_DIGITS: Final = re.compile(rb"[0-9]{4}")
"""309 digits in a row fill at least four places in a row of every 77th byte (309 // 77): a sample that costs little
and rarely calls for the full search."""

_decode: Final = msgspec.json.Decoder().decode


def decode(value: bytes | None, max_bytes: int) -> dict[str, Any] | Refusal:
    """Decode a whole message; U+0000 comes out as U+FFFD, of duplicate keys the last wins.

    Refuses with `too_large`, `invalid_json` (also an empty value) and `not_an_object`, in that order.
    """
    if not value:
        return Refusal(Reason.INVALID_JSON, "expected a JSON object, came an empty value")
    if len(value) > max_bytes:
        return Refusal(Reason.TOO_LARGE, f"expected at most {max_bytes} bytes, came {len(value)}")
    try:
        payload = _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Refusal(Reason.INVALID_JSON, f"expected JSON, came what cannot be read: {error}"[:300])
    except RecursionError:
        return _too_deep()
    arrays = value.count(b"[") if b"[" in value else 0
    if value.count(b"{") + arrays > MAX_DEPTH and _exceeds_depth(payload):
        return _too_deep()
    if _FOUR_DIGITS.search(value[::_STRIDE]) and _LONG_NUMBER.search(value) and _exceeds_double(payload):
        return Refusal(Reason.INVALID_JSON, "expected numbers within double range, came an integer beyond it")
    if type(payload) is not dict:
        return Refusal(Reason.NOT_AN_OBJECT, f"expected a JSON object, came {json_type(payload)}")
    if has_nul_escape(value):
        payload = _without_nul(payload)
    return payload  # type: ignore[no-any-return]  # an object, by its exact type


def has_nul_escape(value: bytes) -> bool:
    """Whether the text of U+0000 stands in JSON; most messages have no backslash at all, which is found out faster."""
    return b"\\" in value and b"\\u0000" in value


def json_type(value: object) -> str:
    """Return what a person calls a decoded JSON value: `an object`, `text`, `a number` and so on."""
    if value is None:
        return "null"
    return _JSON_TYPES[type(value)]


_JSON_TYPES: Final = {
    dict: "an object",
    list: "an array",
    str: "text",
    int: "a number",
    float: "a number",
    bool: "a boolean",
}


def _too_deep() -> Refusal:
    return Refusal(Reason.INVALID_JSON, f"expected at most {MAX_DEPTH} levels of nesting, came more")


def _exceeds_depth(payload: Json) -> bool:
    """Whether arrays and objects are nested deeper than `MAX_DEPTH`; level by level, so that no depth overflows."""
    level = [payload]
    for _ in range(MAX_DEPTH + 1):
        containers = [value for value in level if type(value) is dict or type(value) is list]
        if not containers:
            return False
        level = []
        for container in containers:
            level.extend(container.values() if type(container) is dict else container)
    return True


def _exceeds_double(value: Json) -> bool:
    if type(value) is int:
        try:
            float(value)
        except OverflowError:
            return True
        return False
    if type(value) is dict:
        return any(map(_exceeds_double, value.values()))
    if type(value) is list:
        return any(map(_exceeds_double, value))
    return False


def _without_nul(value: Json) -> Json:
    if type(value) is str:
        return value.replace("\0", _REPLACEMENT)
    if type(value) is dict:
        return {key.replace("\0", _REPLACEMENT): _without_nul(item) for key, item in value.items()}
    if type(value) is list:
        return [_without_nul(item) for item in value]
    return value

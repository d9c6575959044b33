"""S6: what a raw value becomes under a type."""

import re
from decimal import Decimal
from typing import Any

from tests.oracle.reading import compact, moment, read_time_text
from tests.oracle.shapes import Definition

LOST = object()
"""Stands for a value that cannot be converted."""

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value)
    return compact(value)


def as_boolean(value: Any) -> Any:
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.lower(), LOST)
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    return LOST


def as_number(value: Any) -> Any:
    if isinstance(value, bool):
        return LOST
    if isinstance(value, (int, float)):
        return value
    if not isinstance(value, str):
        return LOST
    match = _NUMBER.fullmatch(value.strip())
    if match is None or abs(float(match[0])) == float("inf"):
        return LOST
    return float(match[0]) if match[1] or match[2] else int(match[0])


def as_integer(value: Any) -> Any:
    if as_number(value) is LOST:
        return LOST
    exact = Decimal(value.strip()) if isinstance(value, str) else Decimal(repr(value))
    if exact != exact.to_integral_value() or not -(2**63) <= exact < 2**63:
        return LOST
    return int(exact)


def as_datetime(value: Any) -> Any:
    micros = read_time_text(value) if isinstance(value, str) else None
    if micros is None:
        return LOST
    text = moment(micros).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    fraction = f"{micros % 1_000_000:06d}".rstrip("0")
    return text + ("." + fraction if fraction else "") + "Z"


def convert(value: Any, definition: Definition) -> Any:
    """Return the value in the defined type, None for null, LOST where it does not convert."""
    if value is None:
        return None
    match definition.type:
        case "string":
            return as_text(value)
        case "number":
            return as_number(value)
        case "integer":
            return as_integer(value)
        case "boolean":
            return as_boolean(value)
        case "datetime":
            return as_datetime(value)
        case "fixed_choice":
            return value if isinstance(value, str) and value in definition.choices else LOST
        case "multiple_choice":
            items = [value] if isinstance(value, str) else value
            if isinstance(items, list) and all(isinstance(item, str) and item in definition.choices for item in items):
                return items
            return LOST
    raise ValueError(f"unknown type {definition.type!r}")

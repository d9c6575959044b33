"""Reading the parts of a message, whose shapes cannot be relied on (SEMANTICS S12)."""

from typing import Any

from contracts.outcomes import Reason, Refusal, WarningKind
from domain.decoding import json_type


def read_object(payload: dict[str, Any], key: str) -> dict[str, Any] | Refusal:
    """Return the part that a call is read from; null and an empty array (PHP's empty object) count as absent.

    Of any other shape, the message is refused with `invalid_field`.
    """
    value = payload.get(key)
    if type(value) is dict:
        return value
    if value is None or value == []:
        return {}
    return Refusal(Reason.INVALID_FIELD, f"expected `{key}` to be an object, came {json_type(value)}")


def part(of: dict[str, Any], key: str, warnings: list[WarningKind]) -> dict[str, Any]:
    """Return a part beside it: empty when absent, and with a warning when it is no object."""
    value = of.get(key)
    if type(value) is dict:
        return value
    if value is not None:
        warnings.append(WarningKind.WRONG_SHAPE)
    return {}

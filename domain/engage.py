"""Segment Engage: audiences as memberships, computed traits as attributes (SEMANTICS S10)."""

from typing import Any, Final

import msgspec

from contracts.outcomes import WarningKind
from domain.conversion import read_boolean
from domain.names import bounded
from domain.shapes import part

MEMBERSHIP_CLASSES: Final = frozenset({"audience", "journey_step"})
"""Every other class, and those to come, bring values."""


class Membership(msgspec.Struct, frozen=True, gc=False):
    """Whether a profile is in an audience, from one message on."""

    audience: str
    """Name of the audience, bounded."""
    key: str
    """The key that it was found under: the name as sent."""
    member: bool


def read_membership(
    payload: dict[str, Any], context: dict[str, Any], values: dict[str, Any], warnings: list[WarningKind]
) -> Membership | None:
    """Return the membership that an identify or track call brings, None where it is an ordinary call.

    `values` are the traits or the properties.
    """
    if "personas" not in context:
        return None
    personas = part(context, "personas", warnings)
    if _computation_class(personas) not in MEMBERSHIP_CLASSES:
        return None
    key = _key(personas, payload, values, "audience_key")
    member = read_boolean(values.get(key)) if key else None
    if key is None or member is None:
        return None
    return Membership(bounded(key), key, member)


def computed_key(payload: dict[str, Any], context: dict[str, Any], properties: dict[str, Any]) -> str | None:
    """Return the property of a track call that is a computed trait, None where there is none."""
    personas = context.get("personas")
    if type(personas) is not dict:
        return None
    computation_class = _computation_class(personas)
    if not computation_class or computation_class in MEMBERSHIP_CLASSES:
        return None
    key = _key(personas, payload, properties, "trait_key")
    return key if key in properties else None


def _computation_class(personas: dict[str, Any]) -> str | None:
    value = personas.get("computation_class")
    return value if type(value) is str else None


def _key(personas: dict[str, Any], payload: dict[str, Any], values: dict[str, Any], other: str) -> str | None:
    """Return `computation_key`; in a track call, else the property that names it."""
    key = personas.get("computation_key")
    if not (type(key) is str and key) and payload.get("type") == "track":
        key = values.get(other)
    return key if type(key) is str and key else None

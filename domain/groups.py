"""What a group call says of a company (SEMANTICS S9)."""

from typing import Any, Final, final

import msgspec

from contracts.outcomes import Reason, Refusal
from contracts.records import Kept
from contracts.rows import COMPANY_FIELDS
from domain.conversion import keep, text
from domain.decoding import json_type
from domain.names import bounded, id_text
from domain.shapes import read_object

_STANDARD: Final = frozenset(COMPANY_FIELDS)


@final
class Group(msgspec.Struct, frozen=True):
    """A `group` call: its leaf is a member of the company."""

    company_id: str
    fields: dict[str, str | None]
    """Standard fields (`rows.COMPANY_FIELDS`) that are set, or removed with None."""
    attributes: dict[str, Kept]
    """Custom attributes that are set, raw, or removed with None."""


def read_group(payload: dict[str, Any]) -> Group | Refusal:
    """Read a group call; refused with `missing_group_id`, or `invalid_field` when `traits` is no object."""
    group_id = payload.get("groupId")
    company_id = id_text(group_id)
    if not company_id:
        came = "none" if company_id == "" else json_type(group_id)
        return Refusal(Reason.MISSING_GROUP_ID, f"expected `groupId` to be an id, came {came}")
    traits = read_object(payload, "traits")
    if type(traits) is Refusal:
        return traits
    fields: dict[str, str | None] = {}
    attributes: dict[str, Kept] = {}
    for key, value in traits.items():
        if key in _STANDARD:
            fields[key] = None if value is None else text(value)
        else:
            attributes[bounded(key)] = keep(value)
    return Group(bounded(company_id), fields, attributes)

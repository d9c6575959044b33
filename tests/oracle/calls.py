"""What one message says: S5 and S7 to S10, as lists of plain facts."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from tests.oracle.devices import context_fields
from tests.oracle.reading import (
    TYPES,
    Refused,
    cut,
    good_id,
    message_id,
    object_at,
    read_id,
)
from tests.oracle.typing_rules import LOST, as_boolean, as_text

COMPANY_FIELDS = ("name", "email", "phone", "address", "description", "employees")
MEMBERSHIPS = {"audience", "journey_step"}


@dataclass
class Said:
    """A message's facts, without its time."""

    leaf: str
    message_id: str
    claims: list[str] = field(default_factory=list)
    """Anonymous leaves claimed for `leaf`."""
    fields: dict[str, str | None] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    """Raw values by name; None removes."""
    view: dict[str, Any] | None = None
    event: str | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    """As sent."""
    audience: tuple[str, bool] | None = None
    company: str | None = None
    company_fields: dict[str, str | None] = field(default_factory=dict)
    company_attributes: dict[str, Any] = field(default_factory=dict)


def said_by(message: dict[str, Any], blocked_ids: Collection[str]) -> Said:
    """Return what the message says, or raise Refused; the reasons in the order of S12."""
    kind = message.get("type")
    if not isinstance(kind, str) or kind not in TYPES:
        raise Refused("unknown_type")
    user = good_id(message.get("userId"), blocked_ids)
    anonymous = good_id(message.get("anonymousId"), blocked_ids)
    if user is None and anonymous is None:
        raise Refused("no_identity")
    event = message.get("event")
    if kind == "track" and (event is None or (isinstance(event, str) and not event.strip())):
        raise Refused("missing_event_name")
    group = read_id(message.get("groupId"))
    if kind == "group" and group is None:
        raise Refused("missing_group_id")
    if kind == "track" and not isinstance(event, str):
        raise Refused("invalid_field")
    previous = good_id(message.get("previousId"), blocked_ids)
    if kind == "alias" and previous is None:
        raise Refused("invalid_field")

    said = Said(f"user:{user}" if user is not None else f"anon:{anonymous}", message_id(message))
    if user is not None:
        claimed = [anonymous, previous if kind == "alias" else None]
        said.claims = [f"anon:{one}" for one in claimed if one is not None]
    context = object_at(message, "context")
    if kind == "identify":
        traits = _main_part(message, "traits")
        for key, value in object_at(context, "traits").items():
            traits.setdefault(key, value)
        _set_traits(said, traits)
        said.fields |= context_fields(context)
        said.audience = _membership(context, traits)
    elif kind in ("page", "screen"):
        said.properties = _main_part(message, "properties")
        said.view = _view(kind, message, said.properties, context)
    elif kind == "track":
        assert isinstance(event, str)
        said.event = cut(event)
        said.properties = _main_part(message, "properties")
        said.audience = _membership(context, said.properties, said.properties.get("audience_key"))
        _set_traits(said, _computed(context, said.properties, is_membership=said.audience is not None))
    elif kind == "group":
        assert group is not None
        said.company = cut(group)
        for key, value in _main_part(message, "traits").items():
            if key in COMPANY_FIELDS:
                said.company_fields[key] = None if value is None else as_text(value)
            else:
                said.company_attributes[cut(key)] = value
    return said


def _main_part(message: dict[str, Any], key: str) -> dict[str, Any]:
    value = message.get(key)
    if value is None or value == []:
        return {}
    if not isinstance(value, dict):
        raise Refused("invalid_field")
    return dict(value)


def _set_traits(said: Said, traits: dict[str, Any]) -> None:
    """Spread traits over standard fields and custom attributes (S5)."""
    rest = dict(traits)

    def standard(column: str, value: Any) -> None:
        if not isinstance(value, (dict, list)):
            said.fields[column] = None if value is None else as_text(value)

    names = {"first_name": "firstName", "last_name": "lastName"}
    absent = [column for column, camel in names.items() if column not in rest and camel not in rest]
    for column, camel in names.items():
        if column in rest or camel in rest:
            standard(column, rest[column] if column in rest else rest[camel])
            rest.pop(column, None)
            rest.pop(camel, None)
    for column in ("email", "phone", "gender"):
        if column in rest:
            standard(column, rest.pop(column))
    if "name" in rest:
        name = rest.pop("name")
        if name is None:
            said.fields |= dict.fromkeys(absent)
        elif not isinstance(name, (dict, list)):
            first, space, last = as_text(name).strip().partition(" ")
            if "first_name" in absent:
                said.fields["first_name"] = first
            if space and "last_name" in absent:
                said.fields["last_name"] = last
    if "address" in rest and isinstance(rest["address"], (dict, type(None))):
        address = rest.pop("address")
        if address is None:
            said.fields |= {"country": None, "region": None, "city": None}
        else:
            for column, key in (
                ("country", "country"),
                ("region", "region" if "region" in address else "state"),
                ("city", "city"),
            ):
                if key in address:
                    standard(column, address[key])
    for key, value in rest.items():
        said.attributes[cut(key)] = value


def _view(kind: str, message: dict[str, Any], properties: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    page = object_at(context, "page")
    view: dict[str, Any] = {"kind": kind, "properties": properties}
    for column in ("url", "path", "title", "referrer"):
        view[column] = properties.get(column)
        if not isinstance(view[column], str):
            view[column] = page.get(column) or None
        if not isinstance(view[column], str):
            view[column] = None
    view["name"] = message.get("name")
    if not isinstance(view["name"], str):
        view["name"] = properties.get("name")
    if not isinstance(view["name"], str):
        view["name"] = None
    return view


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _membership(context: dict[str, Any], values: dict[str, Any], other_key: Any = None) -> tuple[str, bool] | None:
    """Return the audience and whether the user is in it, where the message says so (S10)."""
    personas = object_at(context, "personas")
    key = _name(personas.get("computation_key")) or _name(other_key)
    if _name(personas.get("computation_class")) not in MEMBERSHIPS or key is None or key not in values:
        return None
    member = as_boolean(values[key])
    return None if member is LOST else (cut(key), member)


def _computed(context: dict[str, Any], properties: dict[str, Any], *, is_membership: bool) -> dict[str, Any]:
    """Return the trait that a track call of Engage sets."""
    personas = object_at(context, "personas")
    computation_class = _name(personas.get("computation_class"))
    if computation_class is None or (computation_class in MEMBERSHIPS and not is_membership):
        return {}
    other = "audience_key" if is_membership else "trait_key"
    key = _name(personas.get("computation_key")) or _name(properties.get(other))
    return {key: properties[key]} if key is not None and key in properties else {}

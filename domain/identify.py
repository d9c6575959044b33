"""What an identify call sets on a profile: standard fields, context, custom attributes (SEMANTICS S5)."""

from typing import Any, Final, final

import msgspec

from contracts.outcomes import Refusal, WarningKind
from contracts.records import Kept
from domain.conversion import keep, text
from domain.decoding import Json
from domain.engage import Membership, read_membership
from domain.names import bounded
from domain.shapes import part, read_object
from domain.user_agent import read_user_agent


@final
class Identify(msgspec.Struct, frozen=True):
    """What one message says of a profile. Times and messageId are those of its call."""

    fields: dict[str, str | None]
    """Standard fields (`rows.PROFILE_FIELDS`) that are set, or removed with None."""
    attributes: dict[str, Kept]
    """Custom attributes that are set, raw, or removed with None."""
    membership: Membership | None = None
    ignored: tuple[WarningKind, ...] = ()
    """One for each standard field that came as a list or an object and was left as it was."""


_TEXT_TRAITS: Final = frozenset({"email", "phone", "gender", "first_name", "last_name"})
_SPECIAL_TRAITS: Final = frozenset({*_TEXT_TRAITS, "firstName", "lastName", "name", "address"})
_CONTEXT_TEXTS: Final = (("ip", "ip_address"), ("timezone", "timezone"), ("locale", "language"))


def read_identify(payload: dict[str, Any], context: dict[str, Any], warnings: list[WarningKind]) -> Identify | Refusal:
    """Read an identify call; refused with `invalid_field` when `traits` is neither an object nor absent."""
    traits = read_object(payload, "traits")
    if type(traits) is Refusal:
        return traits
    further = part(context, "traits", warnings)
    if further:
        traits = {**further, **traits}
    found = read_traits(traits)
    _read_context(context, found.fields, warnings)
    membership = read_membership(payload, context, traits, warnings)
    if membership is None:
        return found
    return Identify(found.fields, found.attributes, membership, found.ignored)


def read_traits(traits: dict[str, Any]) -> Identify:
    """Tell standard fields from custom attributes; whatever is not a standard field is an attribute."""
    fields: dict[str, str | None] = {}
    attributes: dict[str, Kept] = {}
    ignored: list[WarningKind] = []
    names: dict[str, Any] = {}
    for key, value in traits.items():
        if key not in _SPECIAL_TRAITS:
            attributes[bounded(key)] = value if type(value) is str else keep(value)
        elif key in _TEXT_TRAITS:
            _set_text(fields, key, value, ignored)
        elif key != "address":
            names[key] = value
        elif type(value) is dict:
            _read_address(value, fields, ignored)
        elif value is None:
            fields["country"] = fields["region"] = fields["city"] = None
        else:
            attributes["address"] = keep(value)
    if names:
        _read_names(names, traits, fields, ignored)
    return Identify(fields, attributes, None, tuple(ignored))


def _set_text(fields: dict[str, str | None], name: str, value: Json, ignored: list[WarningKind]) -> None:
    if type(value) is str or value is None:
        fields[name] = value
    elif type(value) is dict or type(value) is list:
        ignored.append(WarningKind.IGNORED_FIELD)
    else:
        fields[name] = text(value)


def _read_address(address: dict[str, Any], fields: dict[str, str | None], ignored: list[WarningKind]) -> None:
    for name, key in (
        ("country", "country"),
        ("region", "region" if "region" in address else "state"),
        ("city", "city"),
    ):
        if key in address:
            _set_text(fields, name, address[key], ignored)


def _read_names(
    names: dict[str, Any], traits: dict[str, Any], fields: dict[str, str | None], ignored: list[WarningKind]
) -> None:
    """Fill first and last name from camelCase, and what is absent in both spellings from `name`."""
    has_first = "first_name" in traits
    has_last = "last_name" in traits
    if not has_first and "firstName" in names:
        has_first = True
        _set_text(fields, "first_name", names["firstName"], ignored)
    if not has_last and "lastName" in names:
        has_last = True
        _set_text(fields, "last_name", names["lastName"], ignored)
    if "name" not in names or (has_first and has_last):
        return
    name = names["name"]
    if type(name) is dict or type(name) is list:
        ignored.append(WarningKind.IGNORED_FIELD)
        return
    if name is None:
        first: str | None = None
        last: str | None = None
    else:
        first, space, last = text(name).strip().partition(" ")
        has_last = has_last or not space
    if not has_first:
        fields["first_name"] = first
    if not has_last:
        fields["last_name"] = last


def _read_context(context: dict[str, Any], fields: dict[str, str | None], warnings: list[WarningKind]) -> None:
    """Add what the context says of system, device, browser and place. An empty text there counts as absent."""
    for key, name in _CONTEXT_TEXTS:
        if value := _text(context, key, warnings):
            fields[name] = value
    if url := _text(part(context, "page", warnings), "url", warnings):
        fields["current_url"] = url
    device = part(context, "device", warnings)
    if device_name := _text(device, "name", warnings) or _text(device, "model", warnings):
        fields["device_name"] = device_name
    os = _text(part(context, "os", warnings), "name", warnings)
    device_type = _text(device, "type", warnings)
    if user_agent := _text(context, "userAgent", warnings):
        agent = read_user_agent(user_agent)
        fields["user_agent"] = user_agent
        os = os or agent.os
        device_type = device_type or agent.device_type
        if agent.browser_family:
            fields["browser_family"] = agent.browser_family
            if agent.browser_version:
                fields["browser_version"] = agent.browser_version
    if os:
        fields["os"] = os
    if device_type:
        fields["device_type"] = device_type
    screen = part(context, "screen", warnings)
    if screen:
        width, height = _pixels(screen.get("width")), _pixels(screen.get("height"))
        if width is not None and height is not None:
            fields["resolution"] = f"{width}x{height}"


def _text(of: dict[str, Any], key: str, warnings: list[WarningKind]) -> str | None:
    value = of.get(key)
    if type(value) is str:
        return value or None
    if value is not None:
        warnings.append(WarningKind.WRONG_SHAPE)
    return None


def _pixels(value: Json) -> str | None:
    if type(value) is int:
        return str(value)
    if type(value) is float and value.is_integer():
        return str(int(value))
    if type(value) is str and value.isascii() and value.isdigit():
        return value.lstrip("0") or "0"
    return None

"""S5: the fields that an identify call sets from its context."""

import re
from typing import Any

from ua_parser import parse

from tests.oracle.reading import object_at

PHONE_SYSTEMS = {"iOS", "Android", "Windows Phone", "BlackBerry OS", "Firefox OS", "KaiOS"}


def _text(part: dict[str, Any], key: str) -> str | None:
    value = part.get(key)
    return value if isinstance(value, str) and value else None


def _length(value: Any) -> str | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    if isinstance(value, str) and re.fullmatch("[0-9]+", value):
        return value.lstrip("0") or "0"
    return None


def _from_user_agent(user_agent: str) -> dict[str, str | None]:
    """Return os, device_type, browser_family and browser_version as far as the text tells."""
    parsed = parse(user_agent)
    out: dict[str, str | None] = {}
    if parsed.user_agent and parsed.user_agent.family != "Other":
        out["browser_family"] = parsed.user_agent.family
        version: list[str] = []
        for number in (parsed.user_agent.major, parsed.user_agent.minor, parsed.user_agent.patch):
            if not number:
                break
            version.append(number)
        out["browser_version"] = ".".join(version) or None
    system = parsed.os.family if parsed.os and parsed.os.family != "Other" else None
    out["os"] = system
    family = parsed.device.family if parsed.device else ""
    model = (parsed.device.model or "") if parsed.device else ""
    is_tablet = any(word in family or word in model for word in ("iPad", "Tablet"))
    if family == "Spider":
        out["device_type"] = None
    elif is_tablet or (system == "Android" and "Mobile" not in user_agent):
        out["device_type"] = "tablet"
    elif system in PHONE_SYSTEMS:
        out["device_type"] = "mobile"
    elif system:
        out["device_type"] = "desktop"
    return out


def context_fields(context: dict[str, Any]) -> dict[str, str]:
    """Return the standard fields that the context sets; absent ones are left out."""
    device, screen = object_at(context, "device"), object_at(context, "screen")
    fields: dict[str, str | None] = {}
    user_agent = _text(context, "userAgent")
    if user_agent:
        fields |= _from_user_agent(user_agent)
    fields["user_agent"] = user_agent
    fields["os"] = _text(object_at(context, "os"), "name") or fields.get("os")
    fields["device_name"] = _text(device, "name") or _text(device, "model")
    fields["device_type"] = _text(device, "type") or fields.get("device_type")
    fields["language"] = _text(context, "locale")
    width, height = _length(screen.get("width")), _length(screen.get("height"))
    fields["resolution"] = f"{width}x{height}" if width is not None and height is not None else None
    fields["ip_address"] = _text(context, "ip")
    fields["timezone"] = _text(context, "timezone")
    fields["current_url"] = _text(object_at(context, "page"), "url")
    return {name: value for name, value in fields.items() if value is not None}

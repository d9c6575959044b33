"""What a page or screen call records (SEMANTICS S7)."""

from typing import Any, Final, final

import msgspec

from contracts import rows
from contracts.outcomes import Refusal, WarningKind
from domain.conversion import json_text
from domain.decoding import Json
from domain.shapes import part, read_object

_PLACES: Final = ("url", "path", "title", "referrer")
"""Where a view was: a property that is text, also the empty one; else what the context has, where not empty."""


@final
class View(msgspec.Struct, frozen=True, gc=False):
    """A `page` or `screen` call: nothing about it depends on state or definitions, so it is its row."""

    row: rows.PageView


def read_view(
    payload: dict[str, Any],
    context: dict[str, Any],
    warnings: list[WarningKind],
    *,
    kind: str,
    leaf: str,
    message_id: str,
    at: int,
) -> View | Refusal:
    """Read a page or screen call; refused with `invalid_field` when `properties` is neither an object nor absent."""
    properties = payload.get("properties")
    if type(properties) is not dict:
        properties = read_object(payload, "properties")
        if type(properties) is Refusal:
            return properties
    page = context.get("page")
    if type(page) is not dict:
        page = part(context, "page", warnings)
    name = payload.get("name")
    if type(name) is not str:
        if name is not None:
            warnings.append(WarningKind.WRONG_SHAPE)
        name = _text(properties, "name", warnings)
    get = properties.get
    url, path, title, referrer = places = get("url"), get("path"), get("title"), get("referrer")
    if not type(url) is type(path) is type(title) is type(referrer) is str:
        url, path, title, referrer = [
            value if type(value) is str else _place(value, page, key, warnings)
            for key, value in zip(_PLACES, places, strict=True)
        ]
    return View(rows.PageView(message_id, leaf, kind, at, url, path, title, referrer, name, json_text(properties)))


def _place(value: Json, page: dict[str, Any], key: str, warnings: list[WarningKind]) -> str | None:
    if value is not None:
        warnings.append(WarningKind.WRONG_SHAPE)
    return _text(page, key, warnings) or None


def _text(of: dict[str, Any], key: str, warnings: list[WarningKind]) -> str | None:
    value = of.get(key)
    if type(value) is str:
        return value
    if value is not None:
        warnings.append(WarningKind.WRONG_SHAPE)
    return None

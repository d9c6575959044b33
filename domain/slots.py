"""Newest wins, field by field, with the two raw values that a field keeps (SEMANTICS S5, S6).

Taking values in any order, with repetitions, leads to the same slot: the newest of all, and the newest that converts.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from contracts.definitions import STRING, AttributeType, Definition
from contracts.records import Fallback, Kept, Slot
from domain.conversion import UNCONVERTIBLE, convert_kept, converts, json_text

_STRING: Final = AttributeType.STRING


def is_newer(value: Kept, at: int, message_id: str, than: Slot | Fallback) -> bool:
    """Whether a value comes after another: by event time, then messageId.

    One message cannot say two things of one field; should two values come with the same stamp all the same (two
    leaves of one profile, a reused messageId), the greater JSON text is the newer, so that order never matters.
    """
    if at != than.at:
        return at > than.at
    if message_id != than.message_id:
        return message_id > than.message_id
    return json_text(value) > json_text(than.value)


def taken(
    old: Slot | None, value: Kept, at: int, message_id: str, definition: Definition = STRING, *, source: str = ""
) -> Slot:
    """Return a slot that has also seen this value; `old` itself where that changes nothing."""
    if old is None:
        return Slot(value, at, message_id, source)
    if definition.type is _STRING:
        return Slot(value, at, message_id, source) if is_newer(value, at, message_id, old) else old
    if is_newer(value, at, message_id, old):
        if converts(value, definition):
            return Slot(value, at, message_id, source)
        return Slot(value, at, message_id, source, _newest_that_converts(old, definition))
    if converts(old.value, definition) or not converts(value, definition):
        return old
    if old.fallback is None or is_newer(value, at, message_id, old.fallback):
        return Slot(old.value, old.at, old.message_id, old.source, Fallback(value, at, message_id, source))
    return old


def _newest_that_converts(slot: Slot, definition: Definition) -> Fallback | None:
    if converts(slot.value, definition):
        return Fallback(slot.value, slot.at, slot.message_id, slot.source)
    if slot.fallback is not None and converts(slot.fallback.value, definition):
        return slot.fallback
    return None


def merged(one: Slot, other: Slot, definition: Definition = STRING) -> Slot:
    """Return a slot that has seen what two slots have seen: commutative, associative, idempotent."""
    fallback = other.fallback
    if fallback is not None:
        one = taken(one, fallback.value, fallback.at, fallback.message_id, definition, source=fallback.source)
    return taken(one, other.value, other.at, other.message_id, definition, source=other.source)


def merged_all(
    one: Mapping[str, Slot], other: Mapping[str, Slot], definitions: Mapping[str, Definition] = MappingProxyType({})
) -> dict[str, Slot]:
    """Return the slots of two leaves merged, field by field."""
    both = dict(one)
    for name, slot in other.items():
        mine = both.get(name)
        both[name] = slot if mine is None else merged(mine, slot, definitions.get(name, STRING))
    return both


def typed(slot: Slot, definition: Definition = STRING) -> object:
    """Return the value that holds under a definition; None where the field is removed or nothing converts."""
    value = convert_kept(slot.value, definition)
    if value is UNCONVERTIBLE:
        value = None if slot.fallback is None else convert_kept(slot.fallback.value, definition)
    return None if value is UNCONVERTIBLE else value


def typed_all(slots: Mapping[str, Slot], definitions: Mapping[str, Definition]) -> dict[str, object]:
    """Return the typed values of all fields that have one; a field without a definition is text."""
    values: dict[str, object] = {}
    for name, slot in slots.items():
        definition = definitions.get(name, STRING)
        value = slot.value if type(slot.value) is str and definition.type is _STRING else typed(slot, definition)
        if value is not None:
            values[name] = value
    return values


def taken_all(
    old: dict[str, Slot],
    values: Mapping[str, Kept],
    at: int,
    message_id: str,
    definitions: Mapping[str, Definition] = MappingProxyType({}),
    *,
    source: str = "",
) -> dict[str, Slot]:
    """Return slots that have also seen these values of one message; `old` itself where nothing is newer."""
    new = old
    for name, value in values.items():
        before = old.get(name)
        definition = definitions.get(name, STRING)
        if before is None or (at > before.at and definition.type is _STRING):
            slot = Slot(value, at, message_id, source)
        else:
            slot = taken(before, value, at, message_id, definition, source=source)
            if slot is before:
                continue
        if new is old:
            new = old.copy()
        new[name] = slot
    return new

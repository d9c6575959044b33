"""What a track call records: an occurrence of an event, and what Engage says by it (SEMANTICS S8, S10)."""

from typing import Any, Final, final

import msgspec

from contracts import rows
from contracts.definitions import STRING, AttributeType, Definitions, event_scope
from contracts.outcomes import Reason, Refusal, WarningKind
from domain.conversion import UNCONVERTIBLE, convert, json_text, text
from domain.decoding import json_type
from domain.engage import computed_key, read_membership
from domain.identify import Identify, read_traits
from domain.names import SURELY_SHORT, bounded
from domain.shapes import read_object

_STRING: Final = AttributeType.STRING


@final
class Track(msgspec.Struct, frozen=True):
    """A `track` call."""

    event: str
    """Name of the event as sent, bounded."""
    properties: dict[str, Any]
    """Raw, by bounded names."""
    sent: dict[str, Any]
    """Raw, as sent; the same object as `properties` where no name was too long."""
    traits: Identify | None
    """What an Engage call sets on the profile besides; None for an ordinary call."""


def read_track(payload: dict[str, Any], context: dict[str, Any], warnings: list[WarningKind]) -> Track | Refusal:
    """Read a track call; refused with `missing_event_name`, or `invalid_field` where event or properties are odd."""
    event = payload.get("event")
    if event is None or (type(event) is str and not event.strip()):
        return Refusal(Reason.MISSING_EVENT_NAME, "expected `event` to name the event, came none")
    if type(event) is not str:
        return Refusal(Reason.INVALID_FIELD, f"expected `event` to be text, came {json_type(event)}")
    sent = payload.get("properties")
    if type(sent) is not dict:
        sent = read_object(payload, "properties")
        if type(sent) is Refusal:
            return sent
    properties = sent
    for name in sent:
        if len(name) > SURELY_SHORT:
            properties = {bounded(name): value for name, value in sent.items()}
            break
    traits = _read_engage(payload, context, sent, warnings) if "personas" in context else None
    return Track(bounded(event), properties, sent, traits)


def _read_engage(
    payload: dict[str, Any], context: dict[str, Any], properties: dict[str, Any], warnings: list[WarningKind]
) -> Identify | None:
    """Return what the call sets on the profile: the audience's or the computed trait's value, as any trait."""
    membership = read_membership(payload, context, properties, warnings)
    key = computed_key(payload, context, properties) if membership is None else membership.key
    if key is None:
        return None
    found = read_traits({key: properties[key]})
    return Identify(found.fields, found.attributes, membership, found.ignored)


def occurrence(
    track: Track, definitions: Definitions, ignored: list[WarningKind], *, leaf: str, message_id: str, at: int
) -> rows.EventOccurrence:
    """Return the row of an occurrence, its properties typed; add to `ignored` one for each that does not convert."""
    known = definitions.scope(event_scope(track.event))
    typed: dict[str, Any] = {}
    is_as_sent = track.properties is track.sent
    for name, value in track.properties.items():
        if value is None:
            is_as_sent = False
            continue
        definition = known.get(name, STRING)
        if definition.type is _STRING:
            if type(value) is str:
                typed[name] = value
            else:
                typed[name] = text(value)
                is_as_sent = False
            continue
        converted = convert(value, definition)
        if converted is UNCONVERTIBLE:
            ignored.append(WarningKind.IGNORED_PROPERTY)
            is_as_sent = False
            continue
        typed[name] = converted
        if type(converted) is not type(value) or converted != value:
            is_as_sent = False
    sent = None if is_as_sent else json_text(track.sent)
    return rows.EventOccurrence(message_id, leaf, track.event, at, json_text(typed), sent)

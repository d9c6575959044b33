"""One Segment message, read: whose it is, when it happened and what it says (SEMANTICS S1, S2, S12)."""

import json
from hashlib import sha256
from typing import Any, Final, final

import msgspec

from contracts.definitions import COMPANY_SCOPE, EVENTS, USER_SCOPE, Definitions, event_scope
from contracts.outcomes import Reason, Refusal, WarningKind
from domain.decoding import decode, json_type
from domain.groups import Group, read_group
from domain.identify import Identify, read_identify
from domain.identity import ANONYMOUS, USER, Rules, no_identity, read_identity, read_type
from domain.names import SURELY_SHORT, bounded, id_text
from domain.timing import event_time
from domain.tracks import Track, read_track
from domain.views import View, read_view


@final
class Alias(msgspec.Struct, frozen=True, gc=False):
    """An `alias` call: all that it says are the claims of its call."""


@final
class Call(msgspec.Struct, frozen=True):
    """One message that can be applied to its leaf."""

    leaf: str
    """Key of the leaf, `user:<userId>` or `anon:<anonymousId>`."""
    type: str
    """Segment's type: `identify`, `page`, `screen`, `track`, `group` or `alias`."""
    message_id: str
    at: int
    """Event time, microseconds since 1970-01-01 UTC."""
    claims: tuple[str, ...]
    """Keys of the anonymous leaves that the message claims for its user leaf."""
    warnings: tuple[WarningKind, ...]
    """What was odd, to be counted once the message is applied."""
    content: Identify | View | Track | Group | Alias


_canonical_json: Final = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, sort_keys=True, check_circular=False
).encode


def interpret(value: bytes | None, timestamp_ms: int, rules: Rules) -> Call | Refusal:
    """Read a record's value; `timestamp_ms` is the Kafka time of the source record.

    Returns the call, or the first reason of SEMANTICS S12's order why there is none.
    """
    payload = decode(value, rules.max_message_bytes)
    if type(payload) is Refusal:
        return payload
    kind = read_type(payload)
    if type(kind) is Refusal:
        return kind
    warnings: list[WarningKind] = []
    leaf, claim = read_identity(payload.get("userId"), payload.get("anonymousId"), rules, warnings)
    if leaf is None:
        return no_identity()
    at = event_time(payload, timestamp_ms, rules.future_tolerance_us, warnings)
    message_id = _message_id(payload, warnings)
    context = payload.get("context")
    if type(context) is not dict:
        if context is not None:
            warnings.append(WarningKind.WRONG_SHAPE)
        context = {}
    claims = () if claim is None else (claim,)
    content: Identify | View | Track | Group | Alias | Refusal
    if kind == "track":
        content = read_track(payload, context, warnings)
    elif kind in {"page", "screen"}:
        content = read_view(payload, context, warnings, kind=kind, leaf=leaf, message_id=message_id, at=at)
    elif kind == "identify":
        content = read_identify(payload, context, warnings)
    elif kind == "group":
        content = read_group(payload)
    else:
        previous = _alias_claim(payload, rules)
        if type(previous) is Refusal:
            return previous
        if not leaf.startswith(USER):
            warnings.append(WarningKind.ALIAS_WITHOUT_USER_ID)
        elif previous != claim:
            claims = (previous, *claims)
        content = Alias()
    if type(content) is Refusal:
        return content
    return Call(leaf, kind, message_id, at, claims, tuple(warnings), content)


def _message_id(payload: dict[str, Any], warnings: list[WarningKind]) -> str:
    """Return the messageId; without one, a hash of what is the same in every copy of the message (SEMANTICS S3)."""
    value = payload.get("messageId")
    if type(value) is str and value:
        return value if len(value) <= SURELY_SHORT else bounded(value)
    if type(value) is int or type(value) is float:
        return bounded(repr(value))
    warnings.append(WarningKind.MISSING_MESSAGE_ID)
    varying = {"sentAt", "receivedAt"}
    if payload.get("originalTimestamp") is not None:
        varying.add("timestamp")
    canonical = _canonical_json({key: value for key, value in payload.items() if key not in varying})
    return "sha256:" + sha256(canonical.encode()).hexdigest()


def _alias_claim(payload: dict[str, Any], rules: Rules) -> str | Refusal:
    value = payload.get("previousId")
    previous = id_text(value)
    if not previous or rules.is_blocked(previous):
        came = f"{previous[:100]!r}, which is blocked" if previous else json_type(value)
        return Refusal(Reason.INVALID_FIELD, f"expected `previousId` of an alias to be an id, came {came}")
    return ANONYMOUS + bounded(previous)


def missing(call: Call, definitions: Definitions) -> list[tuple[str, str]]:
    """Return the `(scope, name)` pairs that this call uses and nothing defines yet; mostly none.

    The scope is `user`, `company` or `event:<name>`, and `EVENTS` for the name of an event itself. A null defines
    nothing.
    """
    content = call.content
    if type(content) is Track:
        found = [] if content.event in definitions.events else [(EVENTS, content.event)]
        if content.properties:
            scope = event_scope(content.event)
            known = definitions.scope(scope)
            found += [
                (scope, name) for name, value in content.properties.items() if name not in known and value is not None
            ]
        if content.traits is not None:
            found += _undefined(USER_SCOPE, content.traits.attributes, definitions)
        return found
    if type(content) is Identify:
        return _undefined(USER_SCOPE, content.attributes, definitions)
    if type(content) is Group:
        return _undefined(COMPANY_SCOPE, content.attributes, definitions)
    return []


def _undefined(scope: str, values: dict[str, Any], definitions: Definitions) -> list[tuple[str, str]]:
    known = definitions.scope(scope)
    return [(scope, name) for name, value in values.items() if name not in known and value is not None]

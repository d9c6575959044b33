"""Segment messages for the domain's tests: a complete one of each type, to be varied."""

import json
from typing import Any

from contracts.definitions import EVENTS, STRING, Definitions
from contracts.outcomes import Reason, Refusal
from contracts.settings import BLOCKED_IDS
from domain.calls import Call, interpret, missing
from domain.identity import Rules

RULES = Rules.of(BLOCKED_IDS, max_message_bytes=1024 * 1024, future_tolerance_s=300)

KAFKA_MS = 1_771_885_800_000
"""2026-02-23T22:30:00Z, a little after the messages' own times."""

AT = 1_771_885_735_387_000
"""2026-02-23T22:28:55.387Z, the `timestamp` of every message here, in microseconds."""

CHROME = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/120.0.6099.71 Safari/537.36"
)


def message(kind: str, /, **changes: Any) -> dict[str, Any]:
    """A message of a type; keys given as `...` are left out."""
    base: dict[str, Any] = {
        "type": kind,
        "messageId": "m-1",
        "userId": "u1",
        "anonymousId": "a1",
        "timestamp": "2026-02-23T22:28:55.387Z",
        "originalTimestamp": "2026-02-23T22:28:55.300Z",
        "sentAt": "2026-02-23T22:28:55.400Z",
        "receivedAt": "2026-02-23T22:28:55.487Z",
        "context": {},
        "integrations": {"All": False},
        "version": 2,
    }
    base |= {
        "identify": {"traits": {}},
        "page": {"properties": {}},
        "screen": {"properties": {}},
        "track": {"event": "Order Completed", "properties": {}},
        "group": {"groupId": "acme", "traits": {}},
        "alias": {"previousId": "a0"},
    }.get(kind, {})
    return {key: value for key, value in (base | changes).items() if value is not ...}


def raw(content: Any) -> bytes:
    """A record's value."""
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


def read(content: Any, rules: Rules = RULES, timestamp_ms: int = KAFKA_MS) -> Call:
    """The call that a message, or bytes, is read as."""
    value = content if isinstance(content, bytes) else raw(content)
    call = interpret(value, timestamp_ms, rules)
    assert isinstance(call, Call), call
    return call


def call(kind: str, /, **changes: Any) -> Call:
    """The call that a varied message is read as."""
    return read(message(kind, **changes))


def refused(content: Any, rules: Rules = RULES) -> Reason:
    """Why a message, or bytes, is refused."""
    value = content if isinstance(content, bytes) or content is None else raw(content)
    refusal = interpret(value, KAFKA_MS, rules)
    assert isinstance(refusal, Refusal), refusal
    assert refusal.detail
    return refusal.reason


def defined(calls: list[Call], definitions: Definitions | None = None) -> Definitions:
    """Definitions with everything that these calls bring along, as strings."""
    definitions = definitions or Definitions()
    for each in calls:
        pairs = missing(each, definitions)
        definitions = definitions.extended(
            definitions.version + 1,
            [(scope, name, STRING) for scope, name in pairs if scope != EVENTS],
            [name for scope, name in pairs if scope == EVENTS],
        )
    return definitions

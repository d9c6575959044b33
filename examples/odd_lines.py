"""Lines that a real topic carries and that nobody planned: most end in quarantine, each under a known reason.

Nothing here depends on the record's Kafka time: whatever is applied carries its own times.
"""

import json
from collections.abc import Iterator
from typing import Final, NamedTuple

RECEIVED_AT: Final = "2026-11-16T07:45:00.000Z"
LARGEST_BYTES: Final = 1_048_576
"""Tidemark takes messages up to this size (1 MiB)."""


class OddLine(NamedTuple):
    """One record value; `reason` is the quarantine reason it ends under, None where it is applied."""

    label: str
    reason: str | None
    value: bytes


def odd_lines() -> Iterator[OddLine]:
    """Yield every kind of odd line once, but for the `big_lines`."""
    yield from _unreadable()
    yield from _misaddressed()
    yield from _misshapen()
    yield from _odd_but_fine()


def _message(kind: str, name: str, **fields: object) -> dict[str, object]:
    """A sound message under a messageId that says what the case is; fields that are given replace or add."""
    message: dict[str, object] = {
        "type": kind,
        "messageId": f"odd-{name}",
        "userId": "qa_robot",
        "receivedAt": RECEIVED_AT,
        "timestamp": RECEIVED_AT,
    }
    if kind == "track":
        message["event"] = "Checkout Probed"
    if kind == "group":
        message["groupId"] = "acct_fernway_qa"
    message.update(fields)
    return message


def _encode(message: object) -> bytes:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def _without(message: dict[str, object], *keys: str) -> bytes:
    return _encode({key: value for key, value in message.items() if key not in keys})


def _unreadable() -> Iterator[OddLine]:
    reason = "invalid_json"
    good = _encode(_message("track", "spoiled", properties={"note": "x"}))
    yield OddLine("tombstone", reason, b"")
    yield OddLine("white space", reason, b"  \t ")
    yield OddLine("cut off", reason, good[: len(good) * 2 // 3])
    yield OddLine("NaN", reason, good.replace(b'"x"', b"NaN"))
    yield OddLine("infinity", reason, good.replace(b'"x"', b"-Infinity"))
    yield OddLine("number beyond double", reason, good.replace(b'"x"', b"1e999"))
    yield OddLine("integer beyond double", reason, good.replace(b'"x"', b"9" * 400))
    yield OddLine("leading zero", reason, good.replace(b'"x"', b"007"))
    yield OddLine("byte that is no UTF-8", reason, good.replace(b'"x"', b'"caf\xe9"'))
    yield OddLine("half a UTF-8 character", reason, good.replace(b'"x"', b'"\xf0\x9f\x8f"'))
    yield OddLine("surrogate in UTF-8", reason, good.replace(b'"x"', b'"\xed\xa0\x80"'))
    yield OddLine("lone surrogate", reason, good.replace(b'"x"', b'"\\ud83c"'))
    yield OddLine("surrogates the wrong way round", reason, good.replace(b'"x"', b'"\\udfd5\\ud83c"'))
    yield OddLine("control character", reason, good.replace(b'"x"', b'"a\x01b"'))
    yield OddLine("byte order mark", reason, b"\xef\xbb\xbf" + good)
    yield OddLine("trailing comma", reason, good[:-1] + b",}")
    yield OddLine("single quotes", reason, good.replace(b'"', b"'"))
    yield OddLine("two messages in a line", reason, good + b" " + good)
    yield OddLine("a log line", reason, b"2026-11-16 07:45:00 WARN sink retrying batch 4411")
    yield OddLine("arrays 10,000 deep", reason, good.replace(b'"x"', b"[" * 10_000 + b"]" * 10_000))
    yield OddLine("objects 400 deep", reason, good.replace(b'"x"', b'{"a":' * 400 + b"1" + b"}" * 400))


def _misaddressed() -> Iterator[OddLine]:
    yield OddLine("a list of messages", "not_an_object", _encode([_message("track", "in-a-list")]))
    yield OddLine("text", "not_an_object", b'"identify"')
    yield OddLine("null", "not_an_object", b"null")
    yield OddLine("number", "not_an_object", b"42")
    reason = "unknown_type"
    yield OddLine("no type", reason, _without(_message("track", "no-type"), "type"))
    yield OddLine("warehouse record", reason, _encode(_message("record", "record", collection="orders")))
    yield OddLine("audience list", reason, _encode(_message("audiencelist", "list")))
    yield OddLine("type in capitals", reason, _encode(_message("Track", "capital")))
    yield OddLine("type a number", reason, _encode({**_message("track", "number-type"), "type": 3}))
    reason = "no_identity"
    yield OddLine("no ids", reason, _without(_message("page", "no-ids"), "userId"))
    yield OddLine("ids null", reason, _encode(_message("track", "null-ids", userId=None, anonymousId=None)))
    yield OddLine("ids empty", reason, _encode(_message("identify", "empty-ids", userId="", anonymousId=" ")))
    yield OddLine(
        "ids blocked",
        reason,
        _encode(
            _message(
                "track",
                "blocked-ids",
                userId="undefined",
                anonymousId="00000000-0000-0000-0000-000000000000",
            )
        ),
    )
    yield OddLine("id quoted null", reason, _encode(_message("identify", "quoted", userId='"null"')))
    yield OddLine("id an object", reason, _encode(_message("track", "object-id", userId={"id": "u_1"})))
    yield OddLine("id a fraction", reason, _encode(_message("track", "fraction-id", userId=10.5)))
    yield OddLine("id true", reason, _encode(_message("track", "true-id", userId=True)))


def _misshapen() -> Iterator[OddLine]:
    reason = "missing_event_name"
    yield OddLine("no event", reason, _without(_message("track", "no-event"), "event"))
    yield OddLine("event empty", reason, _encode(_message("track", "empty-event", event="")))
    yield OddLine("event of white space", reason, _encode(_message("track", "blank-event", event="  \t")))
    yield OddLine("event null", reason, _encode(_message("track", "null-event", event=None)))
    reason = "missing_group_id"
    yield OddLine("no groupId", reason, _without(_message("group", "no-group"), "groupId"))
    yield OddLine("groupId null", reason, _encode(_message("group", "null-group", groupId=None)))
    yield OddLine("groupId blank", reason, _encode(_message("group", "blank-group", groupId=" ")))
    reason = "invalid_field"
    yield OddLine("event a number", reason, _encode(_message("track", "number-event", event=1042)))
    yield OddLine("event an object", reason, _encode(_message("track", "object-event", event={"name": "Buy"})))
    yield OddLine("traits text", reason, _encode(_message("identify", "text-traits", traits="plan=pro")))
    yield OddLine("traits a list", reason, _encode(_message("identify", "list-traits", traits=[{"plan": "pro"}])))
    yield OddLine("group traits a number", reason, _encode(_message("group", "number-traits", traits=7)))
    yield OddLine("properties a list", reason, _encode(_message("track", "list-properties", properties=["sku"])))
    yield OddLine("properties text", reason, _encode(_message("page", "text-properties", properties="/pricing")))
    yield OddLine("properties false", reason, _encode(_message("screen", "false-properties", properties=False)))
    yield OddLine("alias without previousId", reason, _encode(_message("alias", "no-previous")))
    yield OddLine("alias of nobody", reason, _encode(_message("alias", "blocked-previous", previousId="null")))


def _odd_but_fine() -> Iterator[OddLine]:
    def fine(label: str, message: dict[str, object]) -> OddLine:
        return OddLine(label, None, _encode(message))

    yield fine("traits an empty list", _message("identify", "php-traits", traits=[]))
    yield fine("properties an empty list", _message("track", "php-properties", properties=[]))
    yield fine("context null", _message("identify", "null-context", context=None, traits={"plan": "trial"}))
    yield fine(
        "context of wrong shapes",
        _message(
            "identify",
            "wrong-context",
            traits=None,
            context={
                "app": "Fernway",
                "network": "wifi",
                "traits": [],
                "os": {"name": ""},
                "device": "Pixel",
                "page": ["/"],
                "screen": {"width": "wide", "height": None},
                "userAgent": 17,
                "locale": {"language": "en"},
                "ip": "203.0.113.77",
            },
        ),
    )
    yield fine("context a list", _message("page", "list-context", context=["web"], properties={"path": "/"}))
    yield OddLine("no messageId", None, _without(_message("track", "no-id", properties={"probe": 1}), "messageId"))
    yield fine("messageId a number", {**_message("track", "number-id"), "messageId": 900719925474099312})
    yield fine("messageId empty", {**_message("track", "empty-id", properties={"probe": 2}), "messageId": ""})
    yield fine("timestamp unreadable", _message("track", "bad-time", timestamp="yesterday, about noon"))
    yield fine("timestamp without a zone", _message("track", "no-zone", timestamp="2026-11-15T12:00:00"))
    yield fine("timestamp of 1901", _message("track", "old-time", timestamp="1901-12-13T20:45:52Z"))
    yield fine("timestamp a number", _message("track", "number-time", timestamp=1794729600123))
    yield fine("timestamp with an offset", _message("track", "offset", timestamp="2026-11-15 17:30:00.25+05:30"))
    yield fine("timestamp a date", _message("track", "date-time", timestamp="2026-11-15"))
    yield fine("NUL in text and keys", _message("track", "nul", event="Check\0out", properties={"a\0": "b\0c"}))
    yield fine("big integers", _message("track", "big", properties={"n": 2**53 + 1, "m": 10**40, "k": -(2**63)}))
    yield fine(
        "odd keys",
        _message("identify", "odd-keys", traits={"": "empty", "a.b": 1, "a b": 2, "$set": 3, "🏕": "camp"}),
    )
    yield fine("columns as traits", _message("identify", "columns", traits={"page_views": 9, "id": 5, "city": "?"}))
    yield OddLine(
        "duplicate keys",
        None,
        _encode(_message("track", "twice", properties={"a": 1})).replace(b'{"a":1}', b'{"a":1,"a":2}'),
    )
    yield OddLine("carriage return", None, _encode(_message("page", "crlf", properties={"path": "/crlf"})) + b"\r")
    yield fine("userId a number", _message("track", "number-user", userId=40027))
    yield fine("userId with space around", _message("track", "spaces", userId=" qa_robot\n"))
    yield fine("userId blocked beside a good one", _message("page", "fallback", userId="null", anonymousId="qa-1"))
    yield fine(
        "alias without userId",
        _without_user(_message("alias", "half", anonymousId="qa-2", previousId="qa-3")),
    )
    yield fine("event name of 600 characters", _message("track", "long", event="Übergang " * 67))
    yield fine("arrays 200 deep", _message("track", "deep", properties={"a": _nested(200)}))
    yield fine("integrations off", _message("track", "off", integrations={"All": False, "Tidemark": False}))
    yield fine("version as text", _message("track", "version", version="2", writeKey="", properties=None))


def _without_user(message: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in message.items() if key != "userId"}


def _nested(levels: int) -> object:
    value: object = "bottom"
    for _ in range(levels):
        value = [value]
    return value


def big_lines() -> Iterator[OddLine]:
    """Yield lines around and over the largest size, 5 MB together."""
    yield OddLine("300 kB", None, _encode(_message("track", "300-kb", properties={"log": "x" * 300_000})))
    edge = _message("track", "1-mib", properties={"log": ""})
    edge["properties"] = {"log": "x" * (LARGEST_BYTES - len(_encode(edge)))}
    yield OddLine("exactly 1 MiB", None, _encode(edge))
    yield OddLine("2 MiB", "too_large", _encode(_message("track", "2-mib", properties={"log": "x" * 2_097_152})))
    yield OddLine("2 MiB of nothing", "too_large", b" " * 2_097_152)

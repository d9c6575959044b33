"""From a record's bytes to a message, its ids and its time: S1, S2, S3 and S12."""

import hashlib
import json
import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

DEEPEST = 256
"""Levels of arrays and objects in a whole message."""
NAME_BYTES = 512
TYPES = {"identify", "page", "screen", "track", "group", "alias"}

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
END_OF_TIME_US = 253_402_300_800 * 1_000_000
"""The year 10000, which neither Python nor this contract knows."""


class Refused(Exception):  # noqa: N818  # an outcome of a message, not an error
    """The message goes to quarantine; the argument is the reason."""


def decode(value: bytes | None, max_message_bytes: int) -> dict[str, Any]:
    """Return the message with U+0000 replaced, or raise Refused for the first reasons of S12."""
    if value is not None and len(value) > max_message_bytes:
        raise Refused("too_large")
    try:
        text = (value or b"").decode("utf-8")
        _check_depth(text)
        message = json.loads(
            text,
            parse_constant=_no_constant,
            parse_float=_float_of,
            parse_int=_int_of,
            object_pairs_hook=_object_of,
        )
        _check_text(message)
    except ValueError:
        raise Refused("invalid_json") from None
    if not isinstance(message, dict):
        raise Refused("not_an_object")
    clean: dict[str, Any] = without_nul(message)
    return clean


def _check_depth(text: str) -> None:
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", re.sub(r'"(?:[^"\\]|\\.)*"', "", text, flags=re.DOTALL)):
        depth += 1 if bracket in "[{" else -1
        if depth > DEEPEST:
            raise ValueError("too deep")


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _float_of(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return number


def _int_of(text: str) -> int:
    _float_of(text)
    return int(text)


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for key, value in pairs:
        _check_text(key)
        if not isinstance(value, dict):
            _check_text(value)
    return dict(pairs)


def _check_text(value: Any) -> None:
    """Raise ValueError for a lone surrogate; objects have been checked when they were made."""
    if isinstance(value, str):
        value.encode("utf-8")
    if isinstance(value, list):
        for item in value:
            _check_text(item)


def without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [without_nul(item) for item in value]
    if isinstance(value, dict):
        return {without_nul(key): without_nul(item) for key, item in value.items()}
    return value


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def cut(name: str) -> str:
    """Cut a name over 512 bytes to a prefix and the hash of the whole."""
    raw = name.encode("utf-8")
    if len(raw) <= NAME_BYTES:
        return name
    prefix = raw[: NAME_BYTES - 65].decode("utf-8", errors="ignore")
    return prefix + "~" + hashlib.sha256(raw).hexdigest()


def object_at(message: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a part that counts as absent when it is no object."""
    value = message.get(key)
    return value if isinstance(value, dict) else {}


def read_id(value: Any) -> str | None:
    """Return an id in full: text stripped, an integer as its decimal text, else None."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        return value.strip() or None
    return None


def is_blocked(text: str, blocked_ids: Collection[str]) -> bool:
    if not blocked_ids:
        return False
    candidates = [text]
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        candidates.append(text[1:-1])
    return any(
        re.fullmatch(r"[0-]+", candidate) or candidate.lower() in {blocked.lower() for blocked in blocked_ids}
        for candidate in candidates
    )


def good_id(value: Any, blocked_ids: Collection[str]) -> str | None:
    text = read_id(value)
    if text is None or is_blocked(text, blocked_ids):
        return None
    return cut(text)


def message_id(message: dict[str, Any]) -> str:
    """Return the messageId, or what stands in for it (S3)."""
    given = message.get("messageId")
    if isinstance(given, str) and given:
        return cut(given)
    if isinstance(given, int) and not isinstance(given, bool):
        return cut(str(given))
    if isinstance(given, float):
        return repr(given)
    left_out = {"sentAt", "receivedAt"}
    if message.get("originalTimestamp") is not None:
        left_out.add("timestamp")
    payload = {key: value for key, value in message.items() if key not in left_out}
    canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode("utf-8")).hexdigest()


_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?([Zz]|[+-]\d\d(?::?\d\d)?))?", re.ASCII
)


def read_time_text(text: str) -> int | None:
    """Return the microseconds since 1970 of an ISO 8601 time with a zone, or of a bare date; else None."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        moment = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
        )
    except ValueError:
        return None
    micros = (moment - EPOCH) // MICROSECOND + int((fraction or "")[:6].ljust(6, "0"))
    if zone is not None and zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[3:].strip(":") or 0)
        if hours > 23 or minutes > 59:
            return None
        offset_us = (hours * 60 + minutes) * 60_000_000
        micros -= offset_us if zone[0] == "+" else -offset_us
    return micros if 0 <= micros < END_OF_TIME_US else None


def read_time(value: Any) -> int | None:
    """Return the microseconds since 1970 of a time as S2 reads it, or None where it is unreadable or absent."""
    if isinstance(value, str):
        return read_time_text(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        micros = int(Decimal(repr(value)) * 1000)
        return micros if value >= 0 and micros < END_OF_TIME_US else None
    return None


def event_time(message: dict[str, Any], kafka_time_ms: int, future_tolerance_s: int) -> int:
    """Return the event time of S2 in microseconds, clamped."""
    produced = max(kafka_time_ms, 0) * 1000  # a record without a time has -1
    received = read_time(message.get("receivedAt"))
    sent = read_time(message.get("sentAt"))
    original = read_time(message.get("originalTimestamp"))
    time = read_time(message.get("timestamp"))
    if time is None and received is not None and sent is not None and original is not None:
        time = received - (sent - original)
        if not 0 <= time < END_OF_TIME_US:
            time = None
    if time is None:
        time = original
    if time is None:
        time = received
    if time is None:
        time = produced
    arrived = received if received is not None else produced
    return min(time, arrived + future_tolerance_s * 1_000_000)


def moment(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)

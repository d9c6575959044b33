"""When a message happened (SEMANTICS S2). Times are microseconds since 1970-01-01 UTC."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from contracts.outcomes import WarningKind
from domain.decoding import Json

END: Final = 253_402_300_800_000_000
"""The first microsecond of the year 10000, which neither ISO 8601's four digits nor `datetime` can hold."""

CACHED_MINUTES: Final = 8_192
"""Minutes whose beginnings are remembered, below 2 MB: messages come close together in time, also in a replay."""

_minutes: Final[dict[str, int]] = {}
"""Times by the first 17 characters of a text, `2026-01-31T09:30:`."""
_seconds: Final[dict[str, int]] = {}
"""Microseconds by the last seven, `15.123Z`: 60,000 of them at most, below 12 MB."""

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001  # both sides of the subtraction are UTC without saying so
_EPOCH_UTC: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_US: Final = 86_400_000_000
_ISO: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]([0-9]{2}:[0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?(?:[Zz]|([+-])([0-9]{2})(?::?([0-5][0-9]))?))?"
)


def read_time(value: Json) -> int | None:
    """Return the time that a JSON value names, or None when it is unreadable: text in ISO 8601, epoch milliseconds."""
    if type(value) is str:
        return read_iso(value)
    if type(value) is int:
        return value * 1000 if 0 <= value < END // 1000 else None
    if type(value) is float and 0 <= value < END // 1000:
        return int(Decimal(repr(value)) * 1000)
    return None


def read_iso(text: str) -> int | None:
    """Return the time that an ISO 8601 text with an offset, or a bare date, names; None when it is unreadable.

    Without a zone, before 1970 and after 9999 are unreadable. Fractions beyond microseconds are cut off.
    """
    minute, second = _minutes.get(text[:17]), _seconds.get(text[17:])
    if minute is not None and second is not None:
        return minute + second
    time = _read_any_iso(text)
    if time is not None and len(text) == 24 and text[16] == ":" and text[19] == "." and text[23] == "Z":
        # `2026-01-31T09:30:00.123Z`, the form that nearly every message has
        second = int(text[17:19]) * 1_000_000 + int(text[20:23]) * 1000
        if len(_minutes) >= CACHED_MINUTES:
            _minutes.clear()
        _minutes[text[:17]], _seconds[text[17:]] = time - second, second
    return time


def _read_any_iso(text: str) -> int | None:
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    date, clock, seconds, fraction, sign, hours, minutes = match.groups()
    try:
        since = datetime.fromisoformat(f"{date}T{clock or '00:00'}:{seconds or '00'}") - _EPOCH
    except ValueError:
        return None
    time = since.days * _DAY_US + since.seconds * 1_000_000
    if fraction:
        time += int(fraction[:6].ljust(6, "0"))
    if sign:
        if int(hours) > 23:
            return None
        offset = (int(hours) * 60 + int(minutes or 0)) * 60_000_000
        time += offset if sign == "-" else -offset
    return time if 0 <= time < END else None


def iso_text(time: int) -> str:
    """Return a time as `YYYY-MM-DDTHH:MM:SS[.ffffff]Z`, its fraction without trailing zeros."""
    moment = _EPOCH_UTC + timedelta(microseconds=time)
    text = f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0")
    if moment.microsecond:
        text += f".{moment.microsecond:06}".rstrip("0")
    return text + "Z"


def event_time(
    payload: dict[str, Any], timestamp_ms: int, future_tolerance_us: int, warnings: list[WarningKind]
) -> int:
    """Return the event time of a message, and add to `warnings` what was odd about its times.

    `timestamp_ms` is the Kafka time of the source record. A time later than `receivedAt` (else the Kafka time) plus
    the tolerance is clamped to that.
    """
    received = None if (sent := payload.get("receivedAt")) is None else _read(sent, warnings)
    time = None if (sent := payload.get("timestamp")) is None else _read(sent, warnings)
    arrived = min(max(timestamp_ms, 0) * 1000, END - 1) if received is None else received
    if time is None:
        time = _corrected_time(payload, received, warnings)
        if time is None:
            return arrived
    limit = arrived + future_tolerance_us
    if time > limit:
        warnings.append(WarningKind.FUTURE_TIME)
        return limit
    return time


def _read(value: Json, warnings: list[WarningKind]) -> int | None:
    time = read_iso(value) if type(value) is str else read_time(value)
    if time is None and value is not None:
        warnings.append(WarningKind.UNREADABLE_TIME)
    return time


def _corrected_time(payload: dict[str, Any], received: int | None, warnings: list[WarningKind]) -> int | None:
    """Return the device's time, corrected by its clock's error at sending where that is known."""
    original = _read(payload.get("originalTimestamp"), warnings)
    sent = _read(payload.get("sentAt"), warnings)
    if original is None or sent is None or received is None:
        return original
    time = received - (sent - original)
    return time if 0 <= time < END else original

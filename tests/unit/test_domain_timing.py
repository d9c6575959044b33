"""When a message happened (SEMANTICS S2)."""

from datetime import UTC, datetime, timedelta

import pytest

from contracts.outcomes import WarningKind
from domain.timing import iso_text, read_iso, read_time
from tests.messages import AT, KAFKA_MS, call, message, read

MINUTE = 60_000_000


def at(*parts):
    return (datetime(*parts, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-02-23T22:28:55.387Z", AT),
        ("2026-02-23t22:28:55.387z", AT),
        ("2026-02-23 22:28:55.387Z", AT),
        ("2026-02-24T03:58:55.387+05:30", AT),
        ("2026-02-24T03:58:55.387+0530", AT),
        ("2026-02-23T17:28:55.387-05", AT),
        ("2026-02-23T22:28:55.387+00:00", AT),
        ("2026-02-23T22:28:55,387Z", AT),
        ("2026-02-23T22:28:55.3879999999Z", AT + 999),
        ("2026-02-23T22:28:55.3Z", AT - 87_000),
        ("2026-02-23T22:28:55Z", AT - 387_000),
        ("2026-02-23T22:28Z", at(2026, 2, 23, 22, 28)),
        ("2026-02-23", at(2026, 2, 23)),
        ("1970-01-01", 0),
        ("1970-01-01T00:00:00.000Z", 0),
        ("9999-12-31T23:59:59.999999Z", at(9999, 12, 31, 23, 59, 59, 999999)),
        ("2024-02-29T00:00:00.000Z", at(2024, 2, 29)),
    ],
)
def test_readable_texts(text, time):
    assert read_iso(text) == read_time(text) == time


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "2026-02-23T22:28:55.387", "2026-02-23T22:28:55", "2026-02-23 22:28",
        "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:00:00+01:00", "2023-02-29T00:00:00.000Z", "2026-13-01T00:00:00.000Z",
        "2026-02-23T24:00:00.000Z",
        "2026-02-23T22:28:60.000Z", "2026-02-23T22:60:00.000Z", "2026-02-23T22:28:55.387+24:00",
        "2026-02-23T22:28:55.387+05:60", "9999-12-31T23:59:59-01:00", "10000-01-01", "0000-01-01", "1771885735387",
        "20260223T222855Z", "2026-W09-1", "2026-02-23T22:28:55.Z", " 2026-02-23", "2026-02-23\n",
        "2026-02-23T22:28:5\uff15.387Z",
        "2026-02-23T22:28:+5.387Z", "2026-02-23T22:28: 5.387Z", "2026-02-23T22:28:55.38_Z", "2026-02-23T22:28.5Z",
        "\uff12\uff1026-02-23T22:28:55.387Z", "Mon, 23 Feb 2026 22:28:55 GMT", "0001-01-01T00:00:00.000Z",
    ],
)  # fmt: skip
def test_unreadable_texts(text):
    assert read_iso(text) is None


@pytest.mark.parametrize(
    ("number", "time"),
    [
        (1_771_885_735_387, AT),
        (1_771_885_735_387.5, AT + 500),
        (1.001, 1001),
        (0.0019, 1),
        (0, 0),
        (0.0, 0),
        (253_402_300_799_999, at(9999, 12, 31, 23, 59, 59, 999000)),
    ],
)
def test_numbers_are_epoch_milliseconds(number, time):
    assert read_time(number) == time


@pytest.mark.parametrize("value", [-1, -0.5, 253_402_300_800_000, 1e300, 10**40, True, None, [], {}])
def test_what_is_no_time(value):
    assert read_time(value) is None


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (AT, "2026-02-23T22:28:55.387Z"),
        (AT + 1, "2026-02-23T22:28:55.387001Z"),
        (at(9999, 12, 31, 23, 59, 59, 999999), "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_times_are_written_short(time, text):
    assert iso_text(time) == text
    assert read_iso(text) == time


def test_event_time_is_the_timestamp():
    found = call("page")
    assert (found.at, found.warnings) == (AT, ())


def test_without_timestamp_the_device_clock_is_corrected():
    found = call("page", timestamp=..., originalTimestamp="2030-01-01T00:00:10Z", sentAt="2030-01-01T00:00:30Z")
    assert (found.at, found.warnings) == (AT + 100_000 - 20_000_000, ())


def test_then_the_original_then_the_receipt_then_kafka():
    found = call("page", timestamp=None, sentAt=...)
    assert found.at == AT - 87_000
    found = call("page", timestamp=..., originalTimestamp=...)
    assert found.at == AT + 100_000
    found = call("page", timestamp=..., originalTimestamp=..., receivedAt=...)
    assert found.at == KAFKA_MS * 1000
    assert read(message("page", timestamp=..., originalTimestamp=..., receivedAt=...), timestamp_ms=-1).at == 0


def test_a_correction_to_before_1970_is_not_used():
    found = call(
        "page", timestamp=..., originalTimestamp="1970-01-01T12:00Z", sentAt="2026-02-24", receivedAt="2026-02-23"
    )
    assert found.at == 43_200_000_000


@pytest.mark.parametrize("bad", ["soon", "2026-02-23T22:28:55", "1960-01-01", True, [], {}, -5])
def test_an_unreadable_time_counts_as_absent(bad):
    found = call("page", timestamp=bad, sentAt=...)
    assert (found.at, found.warnings) == (AT - 87_000, (WarningKind.UNREADABLE_TIME,))
    found = call("page", receivedAt=bad)
    assert (found.at, found.warnings) == (AT, (WarningKind.UNREADABLE_TIME,))


def test_a_time_ahead_of_the_receipt_is_clamped():
    received = AT + 100_000
    assert call("page", timestamp=(received + 5 * MINUTE) / 1000).warnings == ()
    found = call("page", timestamp="2036-01-01T00:00:00Z")
    assert (found.at, found.warnings) == (received + 5 * MINUTE, (WarningKind.FUTURE_TIME,))


def test_without_receipt_it_is_clamped_by_kafka():
    found = call("page", timestamp="2036-01-01T00:00:00Z", receivedAt=...)
    assert (found.at, found.warnings) == (KAFKA_MS * 1000 + 5 * MINUTE, (WarningKind.FUTURE_TIME,))


def test_a_wild_kafka_time_stays_in_range():
    found = read(message("page", timestamp=..., originalTimestamp=..., receivedAt=...), timestamp_ms=2**62)
    assert iso_text(found.at) == "9999-12-31T23:59:59.999999Z"

"""Log lines that repeat themselves are held back, and counted."""

import logging

import pytest

from streams.repetitions import EVERY_S, Repetitions, hold_back_repetitions


def record(created_s: float, message: str = "cannot reach %s", *args: object, level: int = logging.ERROR):
    made = logging.LogRecord("aiokafka.conn", level, "conn.py", 1, message, args or ("node 1",), None)
    made.created = created_s
    return made


def test_the_first_line_passes_and_then_one_in_a_while_with_a_count():
    repetitions = Repetitions()
    passed = [
        each.getMessage()
        for number in range(400)
        if repetitions.filter(each := record(1000 + number * EVERY_S / 100, "cannot reach %s", f"node {number}"))
    ]
    assert passed == [
        "cannot reach node 0",
        "cannot reach node 100 (and 99 times more in 10 s)",
        "cannot reach node 200 (and 99 times more in 10 s)",
        "cannot reach node 300 (and 99 times more in 10 s)",
    ]


def test_a_line_that_comes_seldom_stays_as_it_is():
    repetitions = Repetitions()
    for number in range(3):
        each = record(1000 + number * EVERY_S)
        assert repetitions.filter(each)
        assert each.getMessage() == "cannot reach node 1"


def test_kinds_do_not_hold_each_other_back():
    repetitions = Repetitions()
    assert repetitions.filter(record(1000))
    assert repetitions.filter(record(1000, "no leader of %s"))
    assert not repetitions.filter(record(1001))


def test_what_is_critical_always_passes():
    repetitions = Repetitions()
    assert all(repetitions.filter(record(1000, level=logging.CRITICAL)) for _ in range(3))


def test_loggers_below_a_package_are_filtered(caplog: pytest.LogCaptureFixture):
    child, other = logging.getLogger("test_package.part"), logging.getLogger("test_packages")
    hold_back_repetitions("test_package")
    try:
        for _ in range(5):
            child.warning("away")
            other.warning("near")
        assert [each.getMessage() for each in caplog.records].count("away") == 1
        assert [each.getMessage() for each in caplog.records].count("near") == 5
    finally:
        child.filters.clear()

"""Where a worker can be told to end: the variable, and what has been sent by then."""

import signal

import pytest

from contracts.errors import SettingError
from contracts.settings import Settings
from streams.engine.crash_points import VARIABLE, Point, begun, parse
from streams.engine.producer import BATCH_BYTES_MAX, Outgoing, runs_of
from streams.native import native
from tests.twins import TWINS


def test_a_point_is_read_with_its_time_and_signal():
    assert parse({}) is None
    assert parse({VARIABLE: "leaf-sent"}) == Point("leaf-sent", 1, signal.SIGKILL)
    assert parse({VARIABLE: "leaf-sent:3:SIGSTOP"}) == Point("leaf-sent", 3, signal.SIGSTOP)


@pytest.mark.parametrize("text", ["nowhere", "leaf-sent:0", "leaf-sent:x", "leaf-sent:1:SIGNOTHING"])
def test_a_point_that_is_none_is_refused(text: str):
    with pytest.raises(SettingError, match="expected STEP"):
        parse({VARIABLE: text})


@pytest.mark.parametrize("is_native", TWINS)
def test_what_was_sent_is_a_beginning_of_each_run(is_native: bool):
    runs = runs_of(Outgoing("leaves", n % 3, None, b"%d" % n, 0) for n in range(10))
    encoded = native(Settings()).Run if is_native else lambda _, run: run
    sent, rest = begun({to: encoded(BATCH_BYTES_MAX, run) for to, run in runs.items()})
    assert {to: [*sent[to], *rest[to]] for to in runs} == runs
    assert [len(run) for run in sent.values()] == [2, 2, 1]
    # Some partitions with a single record have it, others have not.
    sent, _ = begun(runs_of(Outgoing("leaves", n, None, b"", 0) for n in range(2)))
    assert [len(run) for run in sent.values()] == [0, 1]

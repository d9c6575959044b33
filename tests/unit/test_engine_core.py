"""What a worker says when it stops."""

from contracts.errors import FencedError, ServiceError
from streams.engine.core import reason_of


def test_one_that_has_lost_several_partitions_says_so_in_one_line():
    lost = [FencedError(f"partition {number} is another's") for number in range(3)]
    assert reason_of(lost[0]) == "partition 0 is another's"
    assert reason_of(ExceptionGroup("tasks", [ExceptionGroup("tasks", lost[:1])])) == "partition 0 is another's"
    assert reason_of(ExceptionGroup("tasks", lost)) == "partition 0 is another's (and 2 more of its kind)"


def test_what_was_not_foreseen_is_told_with_where_it_happened():
    try:
        raise ValueError("odd")  # noqa: TRY301  it needs a place where it happened
    except ValueError as error:
        odd = error
    told = reason_of(ExceptionGroup("tasks", [ServiceError("away"), odd]))
    assert told.startswith("ValueError('odd')\n")
    assert "test_engine_core.py" in told
    assert "away" in told

"""The router's progress, past several cycles at once."""

from sinks.postgres.batch import Move
from streams.agents.router import together


def test_moves_of_a_partition_become_one():
    first = Move("segment", 0, 7, 10, 12, read=2, last_record_time_us=1, last_record_checksum=11)
    other = Move("segment", 1, 3, 0, 5, read=5, last_record_time_us=2, last_record_checksum=4)
    second = Move("segment", 0, 7, 12, 20, read=6, last_record_time_us=3, last_record_checksum=19)
    assert together([first, other, second]) == [
        Move("segment", 0, 7, 10, 20, read=8, last_record_time_us=3, last_record_checksum=19),
        other,
    ]


def test_what_was_passed_over_has_no_record_of_its_own():
    read = Move("segment", 0, 7, 10, 12, read=2, last_record_time_us=1, last_record_checksum=11)
    passed = Move("segment", 0, 7, 12, 13)
    assert together([read, passed]) == [
        Move("segment", 0, 7, 10, 13, read=2, last_record_time_us=1, last_record_checksum=11)
    ]
    assert together([passed]) == [passed]

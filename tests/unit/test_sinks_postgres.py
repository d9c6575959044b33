"""The parts of the sink that need no server."""

from datetime import date

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import FencedError, InternalError, ServiceError, SettingError
from contracts.rows import Counters
from sinks.postgres.batch import Batch, Move, Refused
from sinks.postgres.database import Database
from sinks.postgres.definitions import channel
from sinks.postgres.migration import migrations
from sinks.postgres.outcomes import Call, classify, is_uncertain, stopping
from sinks.postgres.partitions import months_of

LOST = (
    ConnectionResetError(),
    TimeoutError(),
    asyncpg.InterfaceError("connection is closed"),
    asyncpg.InternalClientError("cannot switch to state 12"),
)
DSN = "postgresql://somebody:secret@db.example:6543/app"


def postgres_error(sqlstate, message="made by a test"):
    return asyncpg.PostgresError.new({"C": sqlstate, "M": message, "S": "ERROR"})


@pytest.mark.parametrize(
    ("sqlstate", "call"),
    [
        ("08006", Call.RETRY),
        ("40001", Call.RETRY),
        ("40P01", Call.RETRY),
        ("53100", Call.RETRY),
        ("53300", Call.RETRY),
        ("57014", Call.RETRY),
        ("57P01", Call.RETRY),
        ("57P03", Call.RETRY),
        ("55P03", Call.RETRY),
        ("25006", Call.RETRY),
        ("22P02", Call.REJECT),
        ("22003", Call.REJECT),
        ("54000", Call.REJECT),
        ("TM001", Call.FENCED),
        ("TM002", Call.STOP),
        ("42P01", Call.STOP),
        ("42501", Call.STOP),
        ("28P01", Call.STOP),
        ("23505", Call.STOP),
        ("XX000", Call.STOP),
    ],
)
def test_sqlstate_decides(sqlstate, call):
    assert classify(postgres_error(sqlstate)) is call


def test_a_lost_connection_is_tried_again_and_leaves_a_doubt():
    for error in LOST:
        assert classify(error) is Call.RETRY
        assert is_uncertain(error)


def test_an_answer_of_the_server_leaves_no_doubt_unless_it_goes_down():
    assert not is_uncertain(postgres_error("40001"))
    assert not is_uncertain(postgres_error("TM001"))
    assert is_uncertain(postgres_error("57P01"))


def test_a_bug_is_not_tried_again():
    assert classify(TypeError()) is Call.STOP


def test_stopping_names_the_way_out():
    assert isinstance(stopping(postgres_error("TM001")), FencedError)
    assert isinstance(stopping(postgres_error("TM002")), InternalError)
    missing = stopping(postgres_error("42P01", 'relation "progress" does not exist'))
    assert isinstance(missing, ServiceError)
    assert "tidemark migrate" in str(missing)


def test_a_move_goes_forward():
    with pytest.raises(ValueError, match="a step forward"):
        Move("leaves", 0, epoch=1, from_offset=5, to_offset=4)


def test_a_move_in_place_counts_nothing():
    assert Move("leaves", 0, epoch=1, from_offset=5, to_offset=5, definitions_version=3)
    with pytest.raises(ValueError, match="counts nothing"):
        Move("leaves", 0, epoch=1, from_offset=5, to_offset=5, applied=1)
    with pytest.raises(ValueError, match="counts nothing"):
        Move("leaves", 0, epoch=1, from_offset=5, to_offset=5, warnings={"odd": 1})


def test_a_batch_without_refused_rows_keeps_the_others_in_order():
    rows = [(Counters(f"user:{n}", 0, 0, None), n) for n in range(5)]
    left = Batch(counters=rows).without([Refused("counters", n, rows[n], "22P02") for n in (0, 3)])
    assert left.counters == [rows[1], rows[2], rows[4]]


def test_months_within_the_bounds_only():
    day = (date(2024, 2, 29) - date(1970, 1, 1)).days
    assert months_of([day, day + 1, day - 1]) == [date(2024, 2, 1), date(2024, 3, 1)]
    before, first, last, after = (
        (each - date(1970, 1, 1)).days
        for each in (date(2014, 12, 31), date(2015, 1, 1), date(2099, 12, 31), date(2100, 1, 1))
    )
    assert months_of([before, first, last, after]) == [date(2015, 1, 1), date(2099, 12, 1)]


@given(st.sets(st.integers(-(2**63) // 86_400_000_000, 2**63 // 86_400_000_000)))
def test_any_time_has_a_place(days):
    assert len(months_of(days)) <= (2100 - 2015) * 12


@pytest.mark.parametrize("schema", ["", "Tide", "1a", "a-b", 'a"b', "pg_x", "a" * 64, "a;b", "a\n"])
def test_a_schema_is_a_plain_name(schema):
    with pytest.raises(SettingError, match="schema"):
        Database(DSN, schema)


def test_an_address_shows_no_secret():
    assert Database(DSN, "tidemark").address == "db.example:6543/app"


@given(st.from_regex(r"[a-z_][a-z0-9_]{0,62}", fullmatch=True))
def test_a_channel_fits_into_a_name(schema):
    assert len(channel(schema)) <= 63
    assert channel(schema) != channel(schema[:-1] + ("b" if schema[-1] == "a" else "a"))


def test_migrations_count_from_one_without_a_gap(tmp_path):
    assert [each.version for each in migrations()] == list(range(1, len(migrations()) + 1))
    (tmp_path / "001_a.sql").write_text("select 1")
    (tmp_path / "003_c.sql").write_text("select 3")
    with pytest.raises(ServiceError, match="003_c"):
        migrations(tmp_path)

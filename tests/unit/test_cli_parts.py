"""The pure parts below the command line: lines, topics, lag, the guard, what is safe to show."""

import io
import sys
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from contracts.errors import SettingError
from contracts.settings import Settings
from operations import show
from operations.cli.data import _tell_further
from operations.demo import demo_settings, empty_demo_dir
from operations.guard import ROOT, find_intruder
from operations.load import LINE_BYTES_MAX, LineSplitter, LineTooLongError
from operations.stats import Report, lag_of
from operations.story import kinds_of
from sinks.postgres.progress import Progress
from sinks.postgres.queries import Stats
from streams.engine.cluster import Bounds
from streams.topics import DAY_MS, topic_specs


def lines_of(chunks: list[bytes]) -> list[bytes]:
    splitter = LineSplitter()
    return [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.end()


def lines_in(text: bytes) -> list[bytes]:
    """As `load` promises: the line end is a line feed alone, and the last line needs none."""
    lines = text.split(b"\n")
    return lines[:-1] if lines[-1] == b"" else lines


@given(st.lists(st.binary(max_size=9).map(lambda part: part.replace(b"\x01", b"\n").replace(b"\x02", b"\r\n"))))
def test_lines_do_not_depend_on_how_they_are_read(chunks: list[bytes]):
    assert lines_of([chunk for chunk in chunks if chunk]) == lines_in(b"".join(chunks))


def test_carriage_returns_and_empty_lines_are_kept():
    assert lines_of([b"a\r\n\n\x85\x0b", b"b\n"]) == [b"a\r", b"", b"\x85\x0bb"]


def test_a_line_without_an_end_is_told_before_it_fills_memory():
    splitter = LineSplitter()
    splitter.feed(b"x" * LINE_BYTES_MAX)
    with pytest.raises(LineTooLongError, match="64 MiB"):
        splitter.feed(b"x")


def test_topics_are_kept_for_as_long_as_they_are_needed():
    settings = Settings(dedupe_window_days=8, leaves_partitions=6, companies_partitions=3, source_topics=("a", "b"))
    specs = {spec.name: spec for spec in topic_specs(settings)}
    assert set(specs) == {"a", "b", *settings.internal_topics}
    assert specs[settings.seen_changelog].configs["retention.ms"] == str(10 * DAY_MS)
    for topic in (settings.leaves_changelog, settings.companies_changelog):
        assert specs[topic].configs["cleanup.policy"] == "compact"
    for topic in (settings.leaves_topic, settings.companies_topic, settings.quarantine_topic):
        assert specs[topic].configs["retention.ms"] == "-1"
    assert {specs[topic].partitions for topic in (settings.leaves_topic, settings.leaves_changelog)} == {6}
    assert specs[settings.seen_changelog].partitions == 6
    assert specs[settings.companies_changelog].partitions == specs[settings.companies_topic].partitions == 3


@given(st.integers(1024, 64 * 2**20))
def test_internal_topics_take_whatever_a_source_topic_takes(largest: int):
    settings = Settings(max_message_bytes=largest)
    sizes = {spec.name: int(spec.configs["max.message.bytes"]) for spec in topic_specs(settings)}
    assert sizes["segment"] > largest or sizes["segment"] == largest
    assert all(sizes[topic] > sizes["segment"] for topic in settings.internal_topics)


def test_lag_is_counted_from_the_start_where_there_is_no_progress():
    row = Progress("t", 0, 1, "w", 7, 0, 0, 0, 0, 0, {}, {}, None, None, 0)
    limits = {
        TopicPartition("t", 0): Bounds(0, 10),
        TopicPartition("t", 1): Bounds(4, 10),
        TopicPartition("u", 0): Bounds(0, 0),
    }
    assert lag_of(limits, {("t", 0): row}) == {"t": {0: 3, 1: 6}, "u": {0: 0}}


def test_a_gap_is_told_where_there_is_one():
    def told(gap: int) -> str:
        console = Console(record=True, width=120, file=io.StringIO())
        console.print(show.stats(Report(Stats(5, 3, 1, {"invalid_json": 1}, {}, gap), {"segment": {0: 0}})))
        return console.export_text()

    assert "Gap: 1,234 records were deleted by a source topic's retention, unread." in told(1234)
    assert "Gap" not in told(0)


def test_packages_are_ours_here():
    assert find_intruder() is None


def test_an_intruding_package_is_named(tmp_path, monkeypatch):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tables", raising=False)
    found = find_intruder()
    assert found is not None
    assert "'tables'" in found
    assert str(tmp_path / "tables") in found
    assert str(ROOT / "tables") in found


@given(st.text())
def test_what_is_shown_cannot_move_the_cursor(text: str):
    assert show.printable(text).isprintable()


@given(st.binary())
def test_raw_bytes_can_be_shown(raw: bytes):
    assert show.printable_bytes(raw).isprintable()


def test_readable_text_is_shown_as_it_is():
    assert show.printable_bytes('{"name":"Zoë 量子"}'.encode()) == '{"name":"Zoë 量子"}'
    assert show.printable_bytes(b"\xff\x1b[31m") == "\\xff\\x1b[31m"


def test_lines_are_counted_by_type():
    lines = [b'{"type":"track"}', b'{"type":"track","x":[]}', b'{"type":"page"}', b'{"type":7}', b"", b"[", b"\xff"]
    deep = b'{"type":"page","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert kinds_of([*lines, deep]) == {"other": 5, "track": 2, "page": 1}


def test_a_demo_empties_its_own_directory_only(tmp_path):
    mine = tmp_path / "demo"
    empty_demo_dir(mine)
    (mine / "kafka").mkdir()
    (mine / "kafka" / "log").touch()
    empty_demo_dir(mine)
    assert [path.name for path in mine.iterdir()] == ["demo"]

    other = tmp_path / "other"
    other.mkdir()
    (other / "precious").touch()
    with pytest.raises(SettingError, match="something else"):
        empty_demo_dir(other)
    assert (other / "precious").exists()


def test_a_demo_has_settings_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("TIDEMARK_APP_VERSION", "mine")
    told = Settings(app_version="mine", dsn="postgresql://me@db/prod", java_home="/opt/java", cache_dir="/cache")
    assert demo_settings(told, tmp_path) == Settings(data_dir=tmp_path, java_home="/opt/java", cache_dir="/cache")
    monkeypatch.setenv("TIDEMARK_APP_VERSION", "restored")  # the demo has taken it out for its workers

    (tmp_path / "tidemark.toml").touch()
    with pytest.raises(SettingError, match=r"tidemark\.toml"):
        demo_settings(told, tmp_path)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(("columns", "lines_a_step"), [(80, 2), (120, 1)])
def test_what_the_demo_offers_next_fits_the_terminal(capsys, columns, lines_a_step, keep):
    story = SimpleNamespace(profiles=[{"profile_id": "anon:a1"}, {"profile_id": "user:u [1]"}])
    _tell_further(Console(width=columns), ".tidemark/demo", story, keep=keep)
    head, *steps = capsys.readouterr().out.splitlines()
    assert head.endswith("Look further:")
    assert len(steps) == lines_a_step * (5 if keep else 6)
    assert max(map(len, steps)) <= columns
    assert any("tidemark profile show 'u [1]' --data-dir .tidemark/demo" in step for step in steps)

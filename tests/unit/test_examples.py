"""The sample data: what it promises to whoever loads it."""

import hashlib
import json
import random
from collections import Counter
from pathlib import Path
from statistics import median

import pytest

from examples.generate import generate, main
from examples.load import introductions
from examples.odd_lines import big_lines, odd_lines
from tests.oracle import Record, Tables, recompute

SAMPLE = Path(__file__).parents[2] / "examples" / "sample.jsonl"
LOADED_MS = 1_800_000_000_000


def records(values, kafka_time_ms=LOADED_MS):
    return [Record("segment", 0, offset, kafka_time_ms, value) for offset, value in enumerate(values)]


@pytest.fixture(scope="module")
def sample() -> list[bytes]:
    return SAMPLE.read_bytes().removesuffix(b"\n").split(b"\n")


@pytest.fixture(scope="module")
def tables(sample) -> Tables:
    return recompute(records(sample), claims=True)


def test_sample_is_what_the_generator_makes(sample):
    assert sample == list(generate(7, 5000))


def test_sample_stays_small(sample):
    assert len(sample) == 5000
    assert SAMPLE.stat().st_size < 6_000_000


def test_seed_decides_the_bytes():
    assert list(generate(3, 400)) == list(generate(3, 400))
    assert list(generate(3, 400)) != list(generate(4, 400))


@pytest.mark.parametrize("messages", [0, 1, 19, 60, 700])
@pytest.mark.parametrize("profile", ["story", "load"])
def test_makes_as_many_lines_as_asked(profile, messages):
    assert len(list(generate(1, messages, profile=profile))) == messages


def test_unknown_profile_is_refused():
    with pytest.raises(ValueError, match="story, load"):
        list(generate(1, 10, profile="stress"))


@pytest.mark.parametrize("line", [*odd_lines(), *big_lines()], ids=lambda line: line.label)
def test_odd_line_ends_as_it_says(line):
    tables = recompute(records([line.value]), claims=True)
    assert tables.quarantined == ({} if line.reason is None else {line.reason: 1})
    assert tables.applied == (line.reason is None)


def test_no_line_but_a_big_one_holds_a_line_feed():
    assert not [line.label for line in odd_lines() if b"\n" in line.value]


def test_sample_has_every_odd_line_once_and_nothing_else_is_refused(tables):
    assert tables.quarantined == dict(sorted(Counter(line.reason for line in odd_lines() if line.reason).items()))
    assert tables.read == tables.applied + tables.duplicate + sum(tables.quarantined.values())


def test_some_messages_come_twice_and_later(sample):
    places: dict[bytes, list[int]] = {}
    for place, line in enumerate(sample):
        if line:
            places.setdefault(line, []).append(place)
    twice = [found for found in places.values() if len(found) > 1]
    assert len(twice) == 98
    assert median(second - first for first, second in twice) > 30


def test_copies_of_a_message_are_the_same_bytes():
    by_id: dict[str, bytes] = {}
    for line in generate(7, 5000, odd=False):
        assert by_id.setdefault(json.loads(line)["messageId"], line) == line


def test_tables_do_not_depend_on_the_time_of_loading(sample, tables):
    years_earlier = recompute(records(sample, kafka_time_ms=1_500_000_000_000), claims=True)
    assert years_earlier.rows == tables.rows


def test_all_sources_and_shapes_are_there(tables):
    events = {row["name"] for row in tables["event_definitions"]}
    assert {"Product Viewed", "Order Completed", "Audience Entered", "Trait Computed"} <= events
    audiences = {row["audience"] for row in tables["audience_memberships"]}
    assert {"big_spenders", "welcome_series_email_1"} <= audiences
    assert "beta_testers" not in audiences
    assert {row["device_type"] for row in tables["profiles"]} >= {"desktop", "mobile", "tablet", "ios", "android"}
    assert {row["kind"] for row in tables["page_views"]} == {"page", "screen"}
    assert {row["event_time"].year for row in tables["event_occurrences"]} >= {2023, 2024, 2025, 2026}
    assert "Northbeam Robotics" in {row["name"] for row in tables["companies"]}
    assert "team_accounts" in {row["name"] for row in tables["attribute_definitions"] if row["scope"] == "company"}


def test_anonymous_visitors_are_recognised_later(tables):
    merged = [
        row for row in tables["identities"] if row["leaf"].startswith("anon:") and row["leaf"] != row["profile_id"]
    ]
    strangers = [row for row in tables["profiles"] if row["user_id"] is None]
    assert len(merged) > 50
    assert strangers
    assert max(Counter(row["profile_id"] for row in merged).values()) > 1


def test_some_devices_are_shared():
    users: dict[str, set[object]] = {}
    for line in generate(7, 5000, odd=False):
        message = json.loads(line)
        if message.get("userId") and message.get("anonymousId"):
            users.setdefault(message["anonymousId"], set()).add(message["userId"])
    assert sum(len(names) > 1 for names in users.values()) >= 3


def test_load_profile_has_the_kinds_and_sizes_of_real_traffic():
    lines = list(generate(5, 4000, profile="load", users=500))
    messages = [json.loads(line) for line in lines]
    shares = Counter(message["type"] for message in messages)
    assert shares["page"] / 4000 == pytest.approx(0.55, abs=0.04)
    assert shares["track"] / 4000 == pytest.approx(0.33, abs=0.04)
    assert shares["identify"] / 4000 == pytest.approx(0.10, abs=0.03)
    assert shares["group"] / 4000 == pytest.approx(0.02, abs=0.015)
    assert sum(map(len, lines)) / 4000 == pytest.approx(900, abs=150)
    assert len({message["messageId"] for message in messages}) == 4000
    assert recompute(records(lines), claims=True).applied == 4000


def test_load_profile_has_a_few_busy_users():
    seen = Counter(json.loads(line)["anonymousId"][:8] for line in generate(5, 4000, profile="load", users=500))
    assert seen.most_common(1)[0][1] > 10 * sorted(seen.values())[len(seen) // 2]


def test_load_profile_keeps_its_bytes():
    digest = hashlib.sha256(b"\n".join(generate(7, 3000, profile="load"))).hexdigest()
    assert digest == "621ed405c1463adb84b07a49fc4efe69fc8143236e752c58f8fcf5c70b0a7ce3"


def test_hot_user_makes_the_share_that_was_told():
    lines = list(generate(5, 4000, profile="load", users=500, hot=0.5))
    assert sum(b'"anonymousId":"a0000000-' in line for line in lines) / 4000 == pytest.approx(0.5, abs=0.04)


def test_identify_calls_have_the_attributes_that_were_told():
    few, many = (list(generate(5, 200, profile="load", attributes=number)) for number in (0, 100))
    for less, more in zip(map(json.loads, few), map(json.loads, many), strict=True):
        if less["type"] == "identify":
            assert less["traits"].items() <= more["traits"].items()
            assert len(more["traits"]) == len(less["traits"]) + 100
        else:
            assert less == more


def test_introductions_name_every_user_once_before_the_load_begins():
    messages = [json.loads(line) for line in introductions(random.Random(6), 300, attributes=2)]
    loaded = [json.loads(line) for line in generate(5, 300, profile="load", users=300)]
    assert len({message["userId"] for message in messages}) == 300
    assert {message["userId"] for message in loaded} <= {None, *(message["userId"] for message in messages)}
    assert not {message["messageId"] for message in messages} & {message["messageId"] for message in loaded}
    assert max(message["timestamp"] for message in messages) < min(message["timestamp"] for message in loaded)
    assert recompute(records(map(str.encode, map(json.dumps, messages))), claims=True).applied == 300


def test_command_line_writes_the_file(tmp_path, capsysbinary):
    out = tmp_path / "out.jsonl"
    assert main(["--seed", "2", "--messages", "90", "--out", str(out)]) == 0
    capsysbinary.readouterr()
    assert main(["--seed", "2", "--messages", "90"]) == 0
    assert capsysbinary.readouterr().out == out.read_bytes()
    assert out.read_bytes().count(b"\n") == 90

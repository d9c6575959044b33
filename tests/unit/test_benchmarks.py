"""The pure parts of the benchmarks: what they compute from what they measured, and the file that they keep."""

import json
from argparse import Namespace
from datetime import UTC, datetime

import pytest

from benchmarks import baseline, compare, contract, growth, latency, record, report
from benchmarks.__main__ import paces
from benchmarks.load_generator import Orders, due_by
from benchmarks.measures import Growth, Latency, Result, Run, key, percentile, percentiles, system
from benchmarks.visibility import Observer, Snapshot

MACHINE = {
    "cores": 2,
    "processor": "some",
    "memory_gib": 8,
    "system": "Linux",
    "python": "3.11",
    "java": "25",
    "versions": {"tidemark": "0.1.0"},
}
SPREAD = {"p50": 20.0, "p95": 40.0, "p99": 80.0, "max": 300.0}


def run(number: int, name: str, rate: float, cpu: float = 10.0) -> Run:
    return Run(number, name, 1000, Result(name, rate, cpu, cpu * 2, 100.0))


def grown(case: str, rate: float, cost: float) -> Growth:
    return Growth(case, 10_000, 4, 1000, 20_000, rate, cost, cost, 300.0)


def kept(**more: object) -> record.Record:
    return record.Record("2026-03-04T05:06:07Z", MACHINE, {}, **more)  # type: ignore[arg-type]


# --- arithmetic ---


@pytest.mark.parametrize(("percent", "expected"), [(50, 5), (90, 9), (91, 10), (99, 10), (100, 10), (1, 1)])
def test_percentile_is_the_nearest_rank(percent, expected):
    assert percentile(range(1, 11), percent) == expected


def test_percentiles_are_those_of_the_values_in_any_order():
    assert percentiles([3.0, 1.0, 2.04]) == {"p50": 2.0, "p95": 3.0, "p99": 3.0, "max": 3.0}


def test_names_become_keys():
    assert key("kafka-streams, at least once, 2 threads") == "kafka_streams_at_least_once_2_threads"
    assert [key(system(workers)) for workers in (1, 2)] == ["tidemark_1_worker", "tidemark_2_workers"]


# --- latency ---


def test_messages_are_due_at_their_rate_whatever_was_sent():
    due = [due_by(100 + after, 100, rate=8, messages=25) for after in (-1, 0, 0.0625, 0.125, 1, 60)]
    assert due == [0, 1, 1, 2, 9, 25]


def test_snapshot_shows_what_is_no_longer_running():
    snapshot = Snapshot(0, "100:105:101,103")
    assert [snapshot.shows(number) for number in range(99, 107)] == [True, True, False, True, False, True, False, False]


def test_transaction_is_visible_from_the_first_snapshot_that_shows_it():
    snapshots = [Snapshot(1, "10:10:"), Snapshot(2, "10:13:10,11"), Snapshot(3, "10:14:10"), Snapshot(4, "14:14:")]
    observer = Observer("", snapshots)
    assert [observer.visible_at(number) for number in (9, 12, 11, 13, 10)] == [1, 2, 3, 3, 4]
    with pytest.raises(LookupError):
        observer.visible_at(14)


def test_latency_counts_from_the_due_time_and_without_the_warm_up():
    orders = Orders(messages=4, rate=10, users=1, warm_up=2)
    rows = [(f"ajs-next-0a-{number:010x}", 7 + number // 3) for number in range(4)]
    assert latency.latencies_ms(rows, {7: 50.5, 8: 50.6}, 50.0, orders) == pytest.approx([300, 300])


def test_half_of_the_highest_is_of_as_many_workers_unless_told():
    whole = kept()
    whole.runs.comparison = [run(1, "tidemark, 1 worker", 8000), run(1, "tidemark, 2 workers", 10_000)]
    told = Namespace(workers=[1, 2], rates=[3000.0], highest=None, seconds=60.0, warm_up=15.0, users=9)
    assert [(pace.label, pace.rate) for pace in paces(told, whole)[1]] == [
        ("3000_per_s", 3000),
        ("half_of_highest", 4000),
    ]
    assert [pace.rate for pace in paces(told, whole)[2]] == [3000, 5000]
    assert [pace.rate for pace in paces(told, kept())[2]] == [3000]
    told.highest = 9000
    assert [pace.rate for pace in paces(told, kept())[2]] == [3000, 4500]


def test_pace_orders_warm_up_and_what_counts():
    assert latency.Pace("", 3000, seconds=60, warm_up_s=15, users=9).orders() == Orders(225_000, 3000, 9, 45_000)


# --- the small contract ---


def test_result_file_has_the_small_contract(tmp_path):
    names = [name for name in compare.SYSTEMS if name != "limits"]
    whole = kept()
    whole.runs.comparison = [run(1, name, 1000) for name in (*names, *contract.LIMITS)]
    whole.runs.latency = [Latency(2, "3000_per_s", 3000, 9, SPREAD, SPREAD, SPREAD, SPREAD, SPREAD, 0.5, 0.1)]
    whole.runs.growth = [grown("base", 100, 10)]
    record.write(whole, tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    for name in (
        *("tidemark_2_workers", "tidemark_1_worker", "kafka_streams_2_threads", "quix_streams", "faust_idiomatic"),
        *("kafka_streams_exactly_once_1_thread", "kafka_streams_at_least_once_2_threads"),
    ):
        figures = found["systems"][name]
        assert (figures["events_per_s"], figures["cpu_us_per_event"], figures["peak_rss_mib"]) == (1000, 10, 100)
        assert figures["guarantee"]
    assert set(found["limits"]) == {"fetch", "fetch_and_decode", "copy_the_rows"}
    assert found["latency_ms"]["tidemark_2_workers"]["3000_per_s"]["p99"] == 80
    assert found["growth"]["base"]["cost_times"] == 1
    assert found["machine"] == MACHINE


def test_peer_has_the_figures_of_its_best_variant_and_says_which():
    rows = contract.summaries(
        [run(1, "kafka-streams, at least once, 2 threads", 50), run(1, "kafka-streams, exactly once, 2 threads", 60)]
    )
    best = contract.systems(rows)["kafka_streams_2_threads"]
    assert (best["events_per_s"], best["variant"], best["guarantee"]) == (
        *(60, "kafka_streams_exactly_once_2_threads"),
        "exactly_once_v2",
    )
    assert "kafka_streams_1_thread" not in contract.systems(rows)


def test_summary_is_the_median_with_the_ends_of_the_rate():
    (row,) = contract.summaries([run(number, "tidemark, 1 worker", rate) for number, rate in enumerate((30, 10, 20))])
    assert (row.events_per_s, row.events_per_s_least, row.events_per_s_most, row.rounds) == (20, 10, 30, 3)


def test_growth_is_told_in_multiples_of_the_base():
    found = contract.growth([grown("base", 100, 10), grown("64 partitions", 80, 12)])["64_partitions"]
    assert (found["cost_times"], found["time_times"]) == (1.2, 1.25)


# --- the file ---


def test_resumed_run_goes_on_with_what_was_measured(tmp_path):
    path = tmp_path / "day.json"
    whole = kept(failures={"quix": "why"})
    whole.runs.comparison = [run(1, "tidemark, 1 worker", 1000)]
    record.write(whole, path)
    assert record.begin(path, kept(), resume=True) == whole


def test_earlier_run_of_the_day_is_kept_beside(tmp_path):
    path = tmp_path / "day.json"
    record.write(kept(), path)
    fresh = kept()
    assert record.begin(path, fresh, resume=False) is fresh
    assert [each.name for each in tmp_path.iterdir()] == ["day-050607.json"]


def test_run_is_kept_by_its_day_in_utc():
    late = datetime.fromisoformat("2026-03-04T23:30:00-05:00")
    assert record.place(late).name == "2026-03-05.json"
    assert record.place(datetime(2026, 3, 4, tzinfo=UTC)).name == "2026-03-04.json"


# --- what is measured ---


def test_each_round_begins_with_another_system():
    assert list(compare.turns("abc", 2)) == [(1, "a"), (1, "b"), (1, "c"), (2, "b"), (2, "c"), (2, "a")]


def test_slow_systems_get_fewer_messages_unless_told():
    assert compare.chosen([], 1_000_000)["faust-idiomatic, 1 process"] == 25_000
    assert compare.chosen([], 10_000)["faust-idiomatic, 1 process"] == 10_000
    assert compare.chosen(["faust=70000", "tidemark"], 1_000_000) == {
        "faust-idiomatic, 1 process": 70_000,
        "faust-idiomatic, 2 processes": 70_000,
        "tidemark, 1 worker": 1_000_000,
        "tidemark, 2 workers": 1_000_000,
    }


def test_unknown_names_are_refused():
    with pytest.raises(SystemExit, match="storm"):
        compare.chosen(["storm"], 1000)
    with pytest.raises(SystemExit, match="2 cores"):
        growth.chosen(["2 cores"])


def test_growth_always_has_the_base():
    assert [case.name for case in growth.chosen(["64", "hot"])] == ["base", "64 partitions", "hot user, 20 %"]


# --- the report ---


def test_report_has_every_part_that_was_measured_and_what_failed():
    whole = kept(failures={"quix-streams, 1 process": "ended by itself\nwith a long log"})
    whole.runs.comparison = [
        *(run(number, "fetch and decode", 100_000) for number in (1, 2)),
        *(run(number, "tidemark, 2 workers", 30_000) for number in (1, 2)),
        run(1, "kafka-streams, at least once, 2 threads", 20_000),
    ]
    whole.runs.latency = [Latency(1, latency.HALF, 9000, 9, SPREAD, SPREAD, SPREAD, SPREAD, SPREAD, 0.5, 0.1)]
    whole.restore = [{"leaves": 1000, "leaves_per_s": 500}]
    text = report.markdown(whole)
    assert "| tidemark, 2 workers | exactly once | 1,000 | 2 | 30,000 | 30,000 to 30,000 | 30.0% |" in text
    assert "tidemark, 2 workers: 1.50 times `kafka_streams_2_threads`" in text
    assert "| `tidemark_1_worker` | 9,000 (half of the highest) | all | 20.0 | 40.0 | 80.0 | 300.0 |" in text
    assert "| 1000 | 500 |" in text
    assert "- quix-streams, 1 process: ended by itself\n" in text
    assert "## Growth" not in text


# --- the baseline ---


def results(rate: float, cost: float) -> list[Result]:
    return [Result("fetch and decode", 100_000, 5.0, 9.0, 10.0), Result("tidemark, 2 workers", rate, 40.0, cost, 10.0)]


def test_share_is_of_the_limit_in_the_same_run():
    assert baseline.shares(results(25_000, 50.0)) == {"tidemark_2_workers": baseline.Shares(0.25, 0.1)}
    assert baseline.shares(results(25_000, 50.0)[1:]) == {}


def test_fall_by_more_than_the_bound_is_told():
    before = baseline.shares(results(20_000, 50.0))
    assert baseline.falls(baseline.shares(results(17_100, 58.0)), before) == []
    (line,) = baseline.falls(baseline.shares(results(16_900, 58.0)), before)
    assert line.startswith("tidemark_2_workers: the share in events/s fell by 16%")
    assert len(baseline.falls(baseline.shares(results(10_000, 90.0)), before)) == 2
    assert baseline.falls(baseline.shares(results(40_000, 20.0)), before) == []


def test_report_warns_where_a_share_fell_and_where_machines_differ(tmp_path):
    path = tmp_path / "baseline.json"
    assert baseline.read(path) is None
    baseline.write(baseline.Baseline({"cores": 8}, 1000, baseline.shares(results(20_000, 50.0))), path)
    lines = baseline.report(baseline.shares(results(10_000, 50.0)), 1000, {"cores": 2}, baseline.read(path))
    assert [line for line in lines if line.startswith("WARNING")] == [
        "WARNING: tidemark_2_workers: the share in events/s fell by 50%, from 0.200 to 0.100 of fetch and decode"
    ]
    assert "the kept shares are those of 8 cores, these of 2" in lines

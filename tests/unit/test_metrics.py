"""Metrics: what is counted, what they are called, and that dashboard and alerts speak of what there is."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric

from contracts.outcomes import Reason
from contracts.rows import Quarantined
from contracts.settings import Settings
from sinks.postgres.batch import Batch, Move
from streams.app import build_app
from streams.engine.batches import Partition
from streams.metrics import LATENCY_SAMPLES_MAX, Metrics, WeightedHistogram

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

UNITS = ("seconds", "bytes", "records", "partitions")
"""What a metric that measures ends in; one that counts ends in `_total`."""

WITHOUT_UNIT = {"tidemark_ready", "tidemark_postgres_waiting", "tidemark_worker_info"}

PROMETHEUS_OWN = {"up"}


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> list[Metric]:
    """Every metric of a worker that has not begun yet."""
    settings = Settings(
        bootstrap_servers="127.0.0.1:1",
        dsn="postgresql://nobody@127.0.0.1:1/none",
        data_dir=tmp_path_factory.mktemp("w"),
    )
    return list(build_app(settings, "w1").metrics.registry.collect())


def sample_names(families: list[Metric]) -> set[str]:
    """Names that can be asked for."""
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
    return {family.name + suffix for family in families for suffix in suffixes.get(family.type, [""])}


def test_names_follow_the_conventions(families: list[Metric]) -> None:
    ours = [family for family in families if family.name.startswith("tidemark_")]
    assert len(ours) > 15
    for family in ours:
        assert re.fullmatch(r"[a-z][a-z_]*[a-z]", family.name)
        assert family.documentation.endswith("."), family.name
        # The client adds `_total` to the names of counters.
        assert not family.name.endswith("_total")
        if family.type != "counter" and family.name not in WITHOUT_UNIT:
            assert family.name.rpartition("_")[2] in UNITS, family.name
    assert {family.name.partition("_")[0] for family in families} == {"tidemark", "process"}


def expressions() -> Iterator[tuple[str, str]]:
    """Every query of the dashboard and of the alert rules, with what it stands in."""
    for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def metric_names(expression: str) -> set[str]:
    """Words of a query that are neither functions nor labels: those before a brace, a bracket, an operator, the end."""
    bare = re.sub(r"\b(by|without) \([^)]*\)", "", re.sub(r"\{[^}]*\}", "", re.sub(r"\[[^]]*\]", "", expression)))
    return set(re.findall(r"\b([a-z_][a-z0-9_]*)\b(?!\s*\()", bare)) - {"and", "or", "unless", "offset"}


def test_dashboard_and_alerts_ask_for_what_there_is(families: list[Metric]) -> None:
    known = sample_names(families) | PROMETHEUS_OWN
    asked: set[str] = set()
    for where, expression in expressions():
        names = metric_names(expression)
        assert names, where
        assert names <= known, f"{where}: {names - known}"
        asked |= names
    # And the other way round: what is measured is shown, or found by its name at least once.
    shown = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in asked}
    ours = {name for name in known if name.startswith("tidemark_") and not re.search("_(bucket|sum|count)$", name)}
    assert ours - shown == {"tidemark_worker_info"}


def labels_of(families: list[Metric]) -> set[str]:
    return {label for family in families for sample in family.samples for label in sample.labels}


def test_labels_that_are_asked_for_exist(families: list[Metric]) -> None:
    metrics = Metrics()
    with metrics.stage("leaf").step("decide"):
        pass
    known = labels_of(families) | labels_of(list(metrics.registry.collect()))
    known |= {"topic", "partition", "activity", "le", "stage", "job", "instance"}
    for where, expression in expressions():
        named = {name for group in re.findall(r"\bby \(([^)]*)\)", expression) for name in re.findall(r"\w+", group)}
        named |= {name for group in re.findall(r"\{([^}]*)\}", expression) for name in re.findall(r"(\w+)[!=]", group)}
        assert named <= known, where


def test_the_halves_of_a_commit_are_told_from_its_other_steps_everywhere() -> None:
    matched = {steps for _, expression in expressions() for steps in re.findall(r'\bstep[!=]~"([^"]*)"', expression)}
    assert matched == {"commit|settle"}


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    panels: list[dict[str, Any]] = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_the_scrape_example_loads_the_rules() -> None:
    told = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    assert all((DEPLOY / name).exists() for name in told["rule_files"])
    assert told["scrape_configs"][0]["job_name"] == "tidemark"


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_a_batch_that_is_written_is_counted() -> None:
    metrics = Metrics()
    moves = [
        Move("segment", 0, 1, 0, 5, read=5),
        Move("leaves", 0, 1, 0, 4, applied=3, duplicate=1, warnings={"future_time": 2}),
        Move("leaves", 1, 1, 0, 1, applied=1, warnings={"future_time": 1}),
    ]
    rows = [
        Quarantined("segment", 0, 4, Reason.INVALID_JSON, "why", b"{", 0),
        # It lay there before.
        Quarantined("segment", 0, 3, Reason.INVALID_JSON, "why", b"{", 0, is_again=True),
    ]
    metrics.written(Batch(progress=moves, quarantined=rows))
    registry = metrics.registry
    assert value(registry, "tidemark_records_read_total", topic="segment") == 5
    assert value(registry, "tidemark_messages_applied_total") == 4
    assert value(registry, "tidemark_messages_duplicate_total") == 1
    assert value(registry, "tidemark_message_warnings_total", kind="future_time") == 3
    assert value(registry, "tidemark_messages_quarantined_total", reason="invalid_json") == 1
    # What never came is there all the same.
    assert value(registry, "tidemark_messages_quarantined_total", reason="internal_error") == 0


@dataclass(frozen=True)
class Record:
    offset: int
    timestamp: int


@given(st.lists(st.integers(1, 100), min_size=1, max_size=4))
def test_every_record_of_a_cycle_weighs_once(counts: list[int]) -> None:
    metrics = Metrics()
    taken = {
        Partition("leaves", number): [Record(offset, 2**62) for offset in range(count)]
        for number, count in enumerate(counts)
    }
    metrics.stage("leaf").committed(taken)  # type: ignore[arg-type]  # as much of a record as is looked at
    registry = metrics.registry
    assert value(registry, "tidemark_end_to_end_latency_seconds_count", stage="leaf") == sum(counts)
    # A record of the future has no latency below zero.
    assert value(registry, "tidemark_end_to_end_latency_seconds_sum", stage="leaf") == 0
    assert value(registry, "tidemark_cycle_records_sum", stage="leaf") == sum(counts)


def test_few_records_of_a_cycle_are_looked_at() -> None:
    looked_at: list[int] = []

    class Looked(Record):
        @property
        def timestamp(self) -> int:  # type: ignore[override]
            looked_at.append(self.offset)
            return 0

    records = [Looked.__new__(Looked) for _ in range(1000)]
    for offset, record in enumerate(records):
        object.__setattr__(record, "offset", offset)
    Metrics().stage("leaf").committed({Partition("leaves", 0): records})  # type: ignore[dict-item]
    assert 0 < len(looked_at) <= LATENCY_SAMPLES_MAX


def test_a_weighted_histogram_counts_as_often_as_it_is_told() -> None:
    histogram = WeightedHistogram("test_seconds", "Test.", "stage", (1, 5))
    registry = CollectorRegistry()
    registry.register(histogram)
    for number, weight in ((0.5, 3), (1.0, 1), (4.0, 2), (100.0, 5)):
        histogram.observe("a", number, weight)
    buckets = [
        registry.get_sample_value("test_seconds_bucket", {"stage": "a", "le": le}) for le in ("1.0", "5.0", "+Inf")
    ]
    assert buckets == [4, 6, 11]
    assert value(registry, "test_seconds_count", stage="a") == 11
    assert value(registry, "test_seconds_sum", stage="a") == 510.5
    assert b'test_seconds_bucket{le="5.0",stage="a"} 6.0' in generate_latest(registry)


def test_a_step_is_under_way_until_it_ends() -> None:
    metrics = Metrics()
    meter = metrics.stage("leaf")
    assert meter.doing() == "idle"
    with meter.step("write"), meter.step("postgres"):
        assert list(meter.under_way) == ["write", "postgres"]
        assert re.fullmatch(r"write for \d+\.\d s, postgres for \d+\.\d s", meter.doing())
        assert meter.finished == 0
    assert (meter.finished, meter.under_way) == (2, {})
    with pytest.raises(RuntimeError), meter.step("store"):
        raise RuntimeError
    # One that failed is no progress.
    assert (meter.finished, meter.under_way) == (2, {})
    count = "tidemark_cycle_step_duration_seconds_count"
    assert value(metrics.registry, count, stage="leaf", step="postgres") == 1
    assert value(metrics.registry, count, stage="leaf", step="store") is None

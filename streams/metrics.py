"""What a worker counts, for Prometheus: once a cycle, never once a message.

Names follow Prometheus' conventions: base units, `_total` for what only grows. Everything counts from the start of the
process; what a crash cuts short is counted again, as the records are decided again. The exact counters are those in
Postgres (`tidemark stats`).
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter as CountsByKind
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.process_collector import ProcessCollector

from contracts.outcomes import Reason, WarningKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sinks.postgres.batch import Batch
    from streams.engine.batches import Partition
    from streams.engine.records import Record

STEP_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
"""From an idle cycle's fraction of a millisecond to Postgres' statement timeout."""

CYCLE_BUCKETS: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2000, 4000, 8000, 16000)
"""Around the default of `cycle_records_max`, 6000."""

LATENCY_BUCKETS_S: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86400)
"""From a quiet system's to that of a backlog."""

LATENCY_SAMPLES_MAX: Final = 16
"""Records whose latency is looked at in one cycle, evenly spaced in each partition, one of each at least: less than a
tenth of a millisecond."""


class WeightedHistogram:
    """A histogram of samples, each of which stands for as many observations as its weight says."""

    def __init__(self, name: str, documentation: str, label: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._documentation = documentation
        self._label = label
        self._bounds = tuple(bounds)
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def observe(self, label: str, value: float, weight: int) -> None:
        """Count `value` as often as `weight` says."""
        counts = self._counts.setdefault(label, [0] * (len(self._bounds) + 1))
        counts[bisect_left(self._bounds, value)] += weight
        self._sums[label] = self._sums.get(label, 0.0) + value * weight

    def describe(self) -> list[HistogramMetricFamily]:
        """The family without samples."""
        return [HistogramMetricFamily(self._name, self._documentation, labels=[self._label])]

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The family with what was observed."""
        (family,) = self.describe()
        for label, counts in self._counts.items():
            reached, buckets = 0, []
            for bound, count in zip((*map(str, map(float, self._bounds)), "+Inf"), counts, strict=True):
                reached += count
                buckets.append((bound, reached))
            family.add_metric([label], buckets, self._sums[label])
        yield family


class Metrics:
    """The metrics of one worker, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.read = Counter(
            "tidemark_records_read_total", "Source records that the router has forwarded.", ["topic"], registry=registry
        )
        self.gap = Counter(
            "tidemark_records_gap_total",
            "Source records that the topic's retention had deleted before they were read.",
            ["topic"],
            registry=registry,
        )
        self.applied = Counter("tidemark_messages_applied_total", "Messages applied.", registry=registry)
        self.duplicate = Counter(
            "tidemark_messages_duplicate_total", "Messages that were duplicates.", registry=registry
        )
        self.quarantined = Counter(
            "tidemark_messages_quarantined_total", "Messages quarantined, by reason.", ["reason"], registry=registry
        )
        self.warnings = Counter(
            "tidemark_message_warnings_total", "Warnings of messages that were applied.", ["kind"], registry=registry
        )
        # All of them are there from the beginning: an increase from nothing to one is none for Prometheus.
        for reason in Reason:
            self.quarantined.labels(reason.value)
        for kind in WarningKind:
            self.warnings.labels(kind.value)
        self.cycle_records = Histogram(
            "tidemark_cycle_records", "Records in one cycle.", ["stage"], registry=registry, buckets=CYCLE_BUCKETS
        )
        self.step_seconds = Histogram(
            "tidemark_cycle_step_duration_seconds",
            "Wall time of one step of a cycle; `commit` and `settle` hold all others but `decide`.",
            ["stage", "step"],
            registry=registry,
            buckets=STEP_BUCKETS_S,
        )
        self.latency = WeightedHistogram(
            "tidemark_end_to_end_latency_seconds",
            "From Kafka's time of the source record until a stage has committed what follows from it; estimated from "
            f"at most {LATENCY_SAMPLES_MAX} records of each cycle, or one of each partition.",
            "stage",
            LATENCY_BUCKETS_S,
        )
        registry.register(self.latency)
        self.rebalances = Counter("tidemark_rebalances_total", "Rebalances of the consumer group.", registry=registry)
        self.restarts = Counter(
            "tidemark_restarts_total", "Starts of this worker in its data directory after the first.", registry=registry
        )
        self.standby_failures = Counter(
            "tidemark_standby_failures_total",
            "Standbys that were given up until the next rebalance.",
            registry=registry,
        )
        self.info = Gauge(
            "tidemark_worker_info",
            "Always 1; the worker's name and versions.",
            ["worker", "app_version", "version"],
            registry=registry,
        )
        ProcessCollector(registry=registry)

    def stage(self, name: str) -> StageMeter:
        """What one stage counts."""
        return StageMeter(self, name)

    def written(self, batch: Batch) -> None:
        """Count what a batch that is in Postgres now tells of its messages."""
        applied = duplicate = 0
        warnings: CountsByKind[str] = CountsByKind()
        for move in batch.progress:
            if move.read:
                self.read.labels(move.topic).inc(move.read)
            applied += move.applied
            duplicate += move.duplicate
            warnings.update(move.warnings)
        self.applied.inc(applied)
        self.duplicate.inc(duplicate)
        for kind, count in warnings.items():
            self.warnings.labels(kind).inc(count)
        for row in batch.quarantined:
            if not row.is_again:
                self.quarantined.labels(row.reason).inc()


class StageMeter:
    """Where a stage is with its cycles, and how long their steps take."""

    def __init__(self, metrics: Metrics, stage: str) -> None:
        self._metrics = metrics
        self._stage = stage
        self.under_way: dict[str, float] = {}
        """Steps under way, the outer before the inner, with the monotonic time of their beginning."""
        self.finished = 0
        """Steps that have come to their end: it moves as long as the stage gets on."""

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step. Of one name there is one under way at a time."""
        started = self.under_way[name] = time.monotonic()
        try:
            yield
        finally:
            del self.under_way[name]
        self.finished += 1
        self._metrics.step_seconds.labels(self._stage, name).observe(time.monotonic() - started)

    def committed(self, taken: Mapping[Partition, Sequence[Record]]) -> None:
        """Note that a cycle of these records is committed."""
        self._metrics.cycle_records.labels(self._stage).observe(sum(map(len, taken.values())))
        now_ms = time.time_ns() // 1_000_000
        samples_max = max(1, LATENCY_SAMPLES_MAX // max(1, len(taken)))
        for records in taken.values():
            stride = -(-len(records) // samples_max)
            for begin in range(0, len(records), stride):
                weight = min(stride, len(records) - begin)
                latency_ms = now_ms - records[begin + weight // 2].timestamp
                # A producer's clock may be ahead of ours.
                self._metrics.latency.observe(self._stage, max(0, latency_ms) / 1000, weight)

    def doing(self) -> str:
        """What is under way, for people."""
        now = time.monotonic()
        return ", ".join(f"{step} for {now - since:.1f} s" for step, since in list(self.under_way.items())) or "idle"

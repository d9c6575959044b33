"""What the benchmarks measure, and the arithmetic that they share."""

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass
class Result:
    """One run."""

    name: str
    events_per_s: float
    cpu_us_per_event: float
    """Of the process or processes named, together."""
    machine_us_per_event: float
    """Of everything on the machine, Kafka and Postgres too."""
    peak_rss_mib: float
    """Of the same processes, together."""


@dataclass
class Run:
    """One system in one round of the comparison."""

    round: int
    system: str
    """Its name in `benchmarks.compare.SYSTEMS`; the limits are one system with several results."""
    messages: int
    result: Result


@dataclass
class Latency:
    """From the moment an event is due until its row can be read, at one rate. Times in milliseconds, as p50, p95, p99
    and max."""

    workers: int
    label: str
    """Which rate it is: `3000_per_s`, or `half_of_highest`."""
    rate: float
    """Events/s that were due."""
    events: int
    """Page views and occurrences that were counted; those of the warm-up are not."""
    all: dict[str, float]
    page_views: dict[str, float]
    event_occurrences: dict[str, float]
    load_generator_late: dict[str, float]
    """How late the load generator handed messages over to Kafka's client. It is part of the latency."""
    observer_gap: dict[str, float]
    """Time between two looks at what is committed: the latency of an event is overstated by this at most."""
    machine_busy: float
    """Share of all cores that was busy, load generator and observer included."""
    measuring_busy: float
    """Share of all cores that load generator and observer took, Kafka's part in receiving messages aside."""


@dataclass
class Growth:
    """What an event costs in one case of growth; see `benchmarks.growth.CASES`."""

    case: str
    users: int
    partitions: int
    """Of the source topic and of the leaves topic, each."""
    messages: int
    leaves: int
    """Identities in state at the end."""
    events_per_s: float
    cpu_us_per_event: float
    machine_us_per_event: float
    peak_rss_mib: float
    """Of the workers together, while they were measured or made the state before."""


def machine_cpu_s() -> float:
    """Seconds that all cores together have been busy."""
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice + times.irq + times.softirq)


def this_machine() -> dict[str, str | int]:
    """Where it runs."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cores": os.cpu_count() or 0,
        "processor": model[0] if model else platform.processor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def system(workers: int) -> str:
    """The name of Tidemark with so many workers."""
    return f"tidemark, {workers} worker{'s' if workers > 1 else ''}"


def key(name: str) -> str:
    """A name as a key of JSON: `kafka-streams, at least once, 2 threads` is `kafka_streams_at_least_once_2_threads`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The least value that `percent` % of the values do not exceed (nearest rank); `ordered` is not empty."""
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank), 1) - 1]


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and the greatest, with one decimal."""
    ordered = sorted(values)
    found = {f"p{percent}": percentile(ordered, percent) for percent in (50, 95, 99)}
    return {name: round(value, 1) for name, value in {**found, "max": ordered[-1]}.items()}

"""The small contract of a result file: what was measured, by names that stay, for whoever reads the file.

`systems` holds every variant under a name of its own, and the best variant of each peer under the peer's name, with its
guarantee beside it.
"""

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.measures import Growth, Latency, Run, key, system
from benchmarks.peers.catalogue import OURS, PEERS

LIMITS = ("fetch", "fetch and decode", "copy the rows")
BEST = {
    "kafka_streams_1_thread": r"kafka_streams_\w+_1_thread",
    "kafka_streams_2_threads": r"kafka_streams_\w+_2_threads",
    "quix_streams": r"quix_streams_\d+_process(es)?",
    "faust_idiomatic": r"faust_idiomatic_\d+_process(es)?",
    "bytewax": r"bytewax_\d+_process(es)?",
    "aiokafka_asyncpg": r"aiokafka_asyncpg_\d+_process(es)?",
}
"""Name, and the variants of which it is the best."""
BASE = "base"
"""The case of growth that the others are compared with."""


@dataclass(frozen=True)
class Summary:
    """One system over all rounds. All but the two ends of the rate are medians."""

    name: str
    messages: int
    rounds: int
    events_per_s: float
    events_per_s_least: float
    events_per_s_most: float
    cpu_us_per_event: float
    machine_us_per_event: float
    peak_rss_mib: float


def summaries(runs: Iterable[Run]) -> list[Summary]:
    """One row a system, in the order of the first round."""
    by_name: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        by_name.setdefault((run.result.name, run.messages), []).append(run)
    rows = []
    for (name, messages), found in by_name.items():
        results = [run.result for run in found]
        rates = [each.events_per_s for each in results]
        rest = (
            statistics.median(each.cpu_us_per_event for each in results),
            statistics.median(each.machine_us_per_event for each in results),
            statistics.median(each.peak_rss_mib for each in results),
        )
        rows.append(Summary(name, messages, len(results), statistics.median(rates), min(rates), max(rates), *rest))
    return rows


def limits(rows: Sequence[Summary]) -> dict[str, dict[str, Any]]:
    """What the services alone give."""
    return {key(row.name): _figures(row) for row in rows if row.name in LIMITS}


def systems(rows: Sequence[Summary]) -> dict[str, dict[str, Any]]:
    """Every variant, and the best of each peer."""
    found = {
        key(row.name): {**_figures(row), "guarantee": PEERS[row.name].guarantee if row.name in PEERS else OURS}
        for row in rows
        if row.name not in LIMITS
    }
    best = {}
    for name, pattern in BEST.items():
        variants = [variant for variant in found if re.fullmatch(pattern, variant)]
        if variants:
            chosen = max(variants, key=lambda variant: found[variant]["events_per_s"])
            best[name] = {**found[chosen], "variant": chosen}
    return {**best, **found}


def _figures(row: Summary) -> dict[str, Any]:
    figures = asdict(row)
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in figures.items()}


def latency_ms(runs: Iterable[Latency]) -> dict[str, dict[str, dict[str, Any]]]:
    """By system, then by rate: the percentiles of all events, and the rest of what was measured beside them."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for run in runs:
        rest = asdict(run)
        whole, label = rest.pop("all"), rest.pop("label")
        found.setdefault(key(system(rest.pop("workers"))), {})[label] = {**whole, **rest}
    return found


def growth(runs: Iterable[Growth]) -> dict[str, dict[str, Any]]:
    """By case; `cost_times` and `time_times` are CPU and time an event, of the machine, as multiples of the base's."""
    cases = {run.case: run for run in runs}
    base = cases.get(BASE)
    found = {}
    for case, run in cases.items():
        found[key(case)] = asdict(run)
        if base is not None:
            found[key(case)]["cost_times"] = round(run.machine_us_per_event / base.machine_us_per_event, 3)
            found[key(case)]["time_times"] = round(base.events_per_s / run.events_per_s, 3)
    return found

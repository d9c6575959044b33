"""What a comparison found, as text: medians over the rounds, with the least and the most beside them."""

import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.peers import environments
from benchmarks.peers.catalogue import PROMISES
from benchmarks.pipeline import Result


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


def summaries(runs: Iterable[tuple[int, int, Result]]) -> list[Summary]:
    """One row a system, in the order of the first round."""
    by_name: dict[tuple[str, int], list[Result]] = {}
    for _, messages, result in runs:
        by_name.setdefault((result.name, messages), []).append(result)
    rows = []
    for (name, messages), results in by_name.items():
        rates = [each.events_per_s for each in results]
        rest = (
            statistics.median(each.cpu_us_per_event for each in results),
            statistics.median(each.machine_us_per_event for each in results),
            statistics.median(each.peak_rss_mib for each in results),
        )
        rows.append(Summary(name, messages, len(results), statistics.median(rates), min(rates), max(rates), *rest))
    return rows


def machine() -> dict[str, str | int | dict[str, str]]:
    """Where it ran, and what."""
    answer = subprocess.run([environments.java(), "-version"], capture_output=True, text=True, check=True)
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cores": os.cpu_count() or 0,
        "processor": model[0].partition(":")[2].strip() if model else platform.processor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.platform(),
        "python": platform.python_version(),
        "java": answer.stderr.splitlines()[0],
        "versions": {
            "tidemark": version("tidemark"),
            "kafka and kafka-streams": environments.KAFKA_STREAMS_VERSION,
            "quixstreams": environments.versions("quix")["quixstreams"],
            "faust-streaming": environments.versions("faust")["faust-streaming"],
            "aiokafka": environments.versions("aiokafka")["aiokafka"],
        },
    }


def markdown(
    rows: Sequence[Summary], where: dict[str, str | int | dict[str, str]], users: int, failures: Sequence[str]
) -> str:
    """The table, the machine it holds for, and what each system promises."""
    lines = [
        "# Side by side",
        "",
        (
            "The same messages, the same job, each system on services of its own that were just started; see "
            "`benchmarks/compare.py`. Medians over the rounds; a system is listed only where every row was right. CPU "
            "and memory are those of the system's own processes, together; the machine's CPU is everything, with "
            "Kafka and Postgres."
        ),
        "",
        "| what | messages | rounds | events/s | least to most | CPU us/event | machine us/event | RSS MiB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.name} | {row.messages:,} | {row.rounds} | {row.events_per_s:,.0f} "
        f"| {row.events_per_s_least:,.0f} to {row.events_per_s_most:,.0f} | {row.cpu_us_per_event:.1f} "
        f"| {row.machine_us_per_event:.1f} | {row.peak_rss_mib:,.0f} |"
        for row in rows
    ]
    if failures:
        lines += ["", "Failed, and so without a figure:", "", *(f"- {failure}" for failure in failures)]
    versions = where["versions"]
    assert isinstance(versions, dict)
    lines += [
        "",
        f"{users:,} users. {where['cores']} cores of {where['processor']}, {where['memory_gib']} GiB; "
        f"{where['system']}; Python {where['python']}; {where['java']}. "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + ".",
        "",
        "What each promises:",
        "",
        *(f"- **{name}**: {promise}" for name, promise in PROMISES.items()),
    ]
    return "\n".join(lines) + "\n"

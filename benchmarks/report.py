"""A record as Markdown: tables of what was measured, the machine, and what each system promises."""

import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import contract
from benchmarks.contract import LIMITS, Summary
from benchmarks.measures import key, system, this_machine
from benchmarks.peers import environments
from benchmarks.peers.catalogue import OURS, PEERS, PROMISES
from benchmarks.record import Record

ROOT = Path(__file__).parent.parent
SIDE_BY_SIDE = (
    "The same messages and the same job, each system on services of its own that were just started. Medians over the "
    "rounds; a system is listed only where every row was right. CPU and memory are those of the system's own "
    "processes, together; the machine's CPU is everything, with Kafka and Postgres. Systems that are given fewer "
    "messages are slow: a round of them would take too long otherwise."
)
LATENCY = (
    "Milliseconds from the moment an event is due until its row can be read. Load generator and observer share the "
    "cores with everything else. How late the generator was is part of the latency; how far apart the observer's looks "
    "were is by how much it is overstated at most."
)


def machine() -> dict[str, Any]:
    """Where it runs, and what."""
    answer = subprocess.run([environments.java(), "-version"], capture_output=True, text=True, check=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    ours = f"{version('tidemark')} {commit.stdout.strip()}".strip()
    return {
        **this_machine(),
        "java": answer.stderr.splitlines()[0],
        "versions": {
            "tidemark": ours,
            "kafka and kafka-streams": environments.KAFKA_STREAMS_VERSION,
            "quixstreams": environments.versions("quix")["quixstreams"],
            "faust-streaming": environments.versions("faust")["faust-streaming"],
            "bytewax": environments.versions("bytewax")["bytewax"],
            "aiokafka": environments.versions("aiokafka")["aiokafka"],
        },
    }


def markdown(kept: Record) -> str:
    """Every part that has something."""
    parts = [
        ["# Benchmark", "", *_where(kept)],
        _comparison(contract.summaries(kept.runs.comparison)),
        _latency(contract.latency_ms(kept.runs.latency)),
        _growth(list(contract.growth(kept.runs.growth).values())),
        _restore(kept.restore),
        _failures(kept.failures),
    ]
    return "\n".join(line for part in parts if part for line in (*part, ""))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a Markdown table: the first column to the left, the others to the right."""
    yield f"| {' | '.join(heads)} |"
    yield f"|{'|'.join(('---', *('--:' for _ in heads[1:])))}|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _where(kept: Record) -> list[str]:
    where = kept.machine
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    return [
        (
            f"Begun {kept.began}. {where['cores']} cores of {where['processor']}, {where['memory_gib']} GiB; "
            f"{where['system']}; Python {where['python']}; {where['java']}. {versions}."
        )
    ]


def _comparison(rows: Sequence[Summary]) -> list[str]:
    if not rows:
        return []
    limit = next((row.events_per_s for row in rows if row.name == "fetch and decode"), None)
    rates = {name: each["events_per_s"] for name, each in contract.systems(rows).items()}
    return [
        "## Side by side",
        "",
        *(SIDE_BY_SIDE, ""),
        *table(
            (
                *("what", "guarantee", "messages", "rounds", "events/s", "least to most", "of fetch and decode"),
                *("CPU us/event", "machine us/event", "RSS MiB"),
            ),
            (
                (
                    row.name,
                    "" if row.name in LIMITS else PEERS[row.name].guarantee if row.name in PEERS else OURS,
                    f"{row.messages:,}",
                    str(row.rounds),
                    f"{row.events_per_s:,.0f}",
                    f"{row.events_per_s_least:,.0f} to {row.events_per_s_most:,.0f}",
                    f"{row.events_per_s / limit:.1%}" if limit else "",
                    f"{row.cpu_us_per_event:.1f}",
                    f"{row.machine_us_per_event:.1f}",
                    f"{row.peak_rss_mib:,.0f}",
                )
                for row in rows
            ),
        ),
        "",
        *ratios(rates),
        "What each promises:",
        "",
        *(f"- **{name}**: {promise}" for name, promise in PROMISES.items()),
    ]


def ratios(rates: Mapping[str, float]) -> list[str]:
    """How many times as fast Tidemark is as the best variant of each peer; empty without both."""
    lines = []
    for workers, peers in (
        (2, ("kafka_streams_2_threads", "quix_streams", "faust_idiomatic", "bytewax", "aiokafka_asyncpg")),
        (1, ("kafka_streams_1_thread",)),
    ):
        ours = rates.get(key(system(workers)))
        lines += [
            f"- {system(workers)}: {ours / rates[peer]:.2f} times `{peer}`" for peer in peers if ours and peer in rates
        ]
    return ["Events/s of Tidemark against the best of each peer:", "", *lines, ""] if lines else []


def _latency(systems: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    if not systems:
        return []
    rows = []
    for name, each in systems.items():
        for label, found in each.items():
            rate = f"{found['rate']:,.0f}" + (" (half of the highest)" if label.startswith("half") else "")
            for what, values in (
                ("all", found),
                *((table, found[table]) for table in ("page_views", "event_occurrences")),
            ):
                ours = [f"{values[percent]:,.1f}" for percent in ("p50", "p95", "p99", "max")]
                rows.append(
                    (
                        f"`{name}`",
                        rate,
                        what,
                        *ours,
                        f"{found['load_generator_late']['p99']:.1f}",
                        f"{found['observer_gap']['p99']:.1f}",
                        f"{found['machine_busy']:.0%}",
                        f"{found['measuring_busy']:.0%}",
                    )
                )
    return [
        "## Latency",
        "",
        *(LATENCY, ""),
        *table(
            (
                *("system", "events/s", "rows", "p50", "p95", "p99", "max"),
                *("generator late, p99", "observer's gap, p99", "cores busy", "by measuring"),
            ),
            rows,
        ),
    ]


def _growth(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    if not cases:
        return []
    return [
        "## Growth",
        "",
        "What an event costs beside the base, measured in the same run. Every user is known before, with two leaves.",
        "",
        *table(
            (
                *("case", "users", "partitions", "leaves", "messages", "events/s", "machine us/event"),
                *("cost, times the base", "time, times the base", "peak RSS MiB"),
            ),
            (
                (
                    case["case"],
                    f"{case['users']:,}",
                    str(case["partitions"]),
                    f"{case['leaves']:,}",
                    f"{case['messages']:,}",
                    f"{case['events_per_s']:,.0f}",
                    f"{case['machine_us_per_event']:.1f}",
                    f"{case['cost_times']:.2f}" if "cost_times" in case else "",
                    f"{case['time_times']:.2f}" if "time_times" in case else "",
                    f"{case['peak_rss_mib']:,.0f}",
                )
                for case in cases
            ),
        ),
    ]


def _restore(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    heads = list(rows[0])
    return [
        *("## Restore", ""),
        *table([head.replace("_", " ") for head in heads], [[str(row[head]) for head in heads] for row in rows]),
    ]


def _failures(failures: Mapping[str, str]) -> list[str]:
    if not failures:
        return []
    return [
        "Failed, and so without a figure:",
        "",
        *(f"- {name}: {why.splitlines()[0]}" for name, why in failures.items()),
    ]

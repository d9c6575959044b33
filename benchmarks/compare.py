"""Tidemark beside others at the same job, on this machine, in one run: `make bench-compare`, or with `--help`.

The job: Segment messages from a topic without keys; decode, repartition by identity, drop repetitions by messageId,
keep a profile for each identity, write page views, occurrences and profiles to Postgres so that a repetition changes
nothing. Every system gets the same bytes, a Kafka and a Postgres that were just started, and a warm file cache; systems
take turns, round by round, in an order that is turned by one each round. Measured is from the first read to the last
committed row; a figure counts only where the views, the occurrences and every profile are what they have to be.
"""

import argparse
import asyncio
import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncpg
from rich.console import Console

from benchmarks import limits, measurement
from benchmarks.peers import environments
from benchmarks.peers.catalogue import PEERS
from benchmarks.pipeline import Result, limit, load, measure, temporary_data_dir
from benchmarks.report import machine, markdown, summaries
from benchmarks.traffic import DIGEST, Truth, traffic, truth
from contracts.settings import Settings
from operations.cli.services import prepare
from operations.services import start_services
from operations.supervisor import supervised

TIDEMARK = {"tidemark, 1 worker": 1, "tidemark, 2 workers": 2}
LIMITS = ("limits",)
SYSTEMS = (*LIMITS, *TIDEMARK, *PEERS)
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Job:
    """How much a system is given. Slow ones may be given less: their rates do not depend on it much."""

    messages: int
    users: int
    truth: Truth


async def run_tidemark(name: str, job: Job) -> list[Result]:
    """Tidemark, with its profiles checked as those of the peers are, but with identities resolved."""
    with temporary_data_dir() as directory:
        async with supervised(Settings(log_level="WARNING"), directory, 0, prepare=prepare) as supervisor:
            settings = supervisor.settings
            await load(settings, traffic(job.messages, job.users))
            result = await measure(supervisor, settings, job.messages, TIDEMARK[name], job.truth.kinds)
            connection = await asyncpg.connect(settings.dsn, server_settings={"search_path": settings.schema})
            try:
                found = await connection.fetchval(DIGEST)
            finally:
                await connection.close()
    if found != job.truth.profiles:
        raise SystemExit(f"{name}: profiles are {found}; expected {job.truth.profiles}")
    result.name = name
    return [result]


async def run_peer(name: str, job: Job) -> list[Result]:
    """A peer, or the limits of the services that all of them have."""
    with temporary_data_dir() as directory:
        async with await start_services(Settings(log_level="WARNING"), directory) as services:
            settings = services.settings
            await measurement.prepare(settings)
            await load(settings, traffic(job.messages, job.users))
            if name in LIMITS:
                reads = [await limit(settings, job.messages, decode=decode) for decode in (False, True)]
                return [*reads, await limits.copy(settings, job.messages, job.users)]
            return [await measurement.measure_peer(settings, directory, PEERS[name], job.truth)]


@dataclass(frozen=True)
class Run:
    """One measurement of one round."""

    round: int
    messages: int
    result: Result


def chosen(names: Sequence[str], messages: int) -> dict[str, int]:
    """Systems by the beginning of their names, each with how many messages; `faust=200000` for another number."""
    if not names:
        return dict.fromkeys(SYSTEMS, messages)
    found: dict[str, int] = {}
    for told in names:
        name, _, number = told.partition("=")
        matching = [system for system in SYSTEMS if system.startswith(name)]
        if not matching:
            raise SystemExit(f"no system's name begins with {name!r}; there are: {'; '.join(SYSTEMS)}")
        found.update(dict.fromkeys(matching, int(number or messages)))
    return found


def run_all(systems: dict[str, int], users: int, rounds: int, console: Console) -> tuple[list[Run], list[str]]:
    """Every system once a round. A system that fails is reported and left out of what follows."""
    jobs = {count: Job(count, users, truth(count, users)) for count in sorted(set(systems.values()))}
    runs: list[Run] = []
    failures: dict[str, str] = {}
    for number in range(1, rounds + 1):
        order = list(systems)
        order = order[(number - 1) % len(order) :] + order[: (number - 1) % len(order)]
        for name in order:
            if name in failures:
                continue
            job = jobs[systems[name]]
            began = time.monotonic()
            try:
                results = asyncio.run((run_tidemark if name in TIDEMARK else run_peer)(name, job))
            except (SystemExit, subprocess.CalledProcessError) as error:
                failures[name] = str(error)
                console.print(f"[bold]{name}[/bold] failed: {error}", soft_wrap=True, highlight=False)
                continue
            for result in results:
                runs.append(Run(number, job.messages, result))
                console.print(
                    f"round {number}: {result.name}: {result.events_per_s:,.0f} events/s, "
                    f"{result.cpu_us_per_event:.1f} us/event ({time.monotonic() - began:.0f} s in all)",
                    highlight=False,
                )
    return runs, [f"{name}: {why.splitlines()[0]}" for name, why in failures.items()]


def write(runs: list[Run], failures: list[str], users: int, out: Path, *, plots: bool) -> str:
    """`comparison.json`, `.md` and the plots, below `out`; returns the Markdown."""
    out.mkdir(parents=True, exist_ok=True)
    rows = summaries([(run.round, run.messages, run.result) for run in runs])
    where = machine()
    text = markdown(rows, where, users, failures)
    (out / "comparison.md").write_text(text)
    raw = [{"round": run.round, "messages": run.messages, **asdict(run.result)} for run in runs]
    whole = {"machine": where, "users": users, "summary": [asdict(row) for row in rows], "runs": raw}
    (out / "comparison.json").write_text(json.dumps({**whole, "failures": failures}, indent=2) + "\n")
    if plots:
        draw = [str(environments.python("plots")), str(Path(__file__).with_name("plots.py"))]
        subprocess.run([*draw, str(out / "comparison.json")], check=True)
    return text


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000, help="a multiple of 100")
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--systems", nargs="+", default=[], metavar="NAME[=MESSAGES]", help="; ".join(SYSTEMS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--no-plots", action="store_true")
    told = parser.parse_args()
    console = Console(soft_wrap=True)
    systems = chosen(told.systems, told.messages)
    runs, failures = run_all(systems, told.users, told.rounds, console)
    text = write(runs, failures, told.users, told.out, plots=not told.no_plots and bool(runs))
    console.print(text, markup=False, highlight=False)
    if failures:
        raise SystemExit(f"{len(failures)} of {len(systems)} systems failed")


if __name__ == "__main__":
    main()

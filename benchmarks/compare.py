"""Tidemark beside others at the same job, on this machine, in one run: a part of `make bench`.

The job: Segment messages from a topic without keys; decode, repartition by identity, drop repetitions by messageId,
keep a profile for each identity, write page views, occurrences and profiles to Postgres so that a repetition changes
nothing. Every system gets the same bytes, a Kafka and a Postgres that were just started, and a warm file cache; systems
take turns, round by round, in an order that is turned by one each round. Measured is from the first read to the last
committed row; a figure counts only where the views, the occurrences and every profile are what they have to be.
"""

import asyncio
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import asyncpg
from rich.console import Console

from benchmarks import limits, measurement
from benchmarks.measures import Result, Run, system
from benchmarks.peers.catalogue import PEERS
from benchmarks.pipeline import limit, load, measure, temporary_data_dir
from benchmarks.traffic import DIGEST, Truth, traffic, truth
from contracts.errors import TidemarkError
from contracts.settings import Settings
from operations.cli.services import prepare
from operations.services import start_services
from operations.supervisor import supervised

TIDEMARK = {system(workers): workers for workers in (1, 2)}
LIMITS = ("limits",)
SYSTEMS = (*LIMITS, *TIDEMARK, *PEERS)


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


def chosen(names: Sequence[str], messages: int) -> dict[str, int]:
    """Systems by the beginning of their names, each with how many messages; `faust=200000` for another number."""
    found: dict[str, int] = {}
    for told in names or SYSTEMS:
        name, _, number = told.partition("=")
        matching = [system for system in SYSTEMS if system.startswith(name)]
        if not matching:
            raise SystemExit(f"no system's name begins with {name!r}; there are: {'; '.join(SYSTEMS)}")
        for each in matching:
            most = PEERS[each].messages_most if each in PEERS else None
            found[each] = int(number) if number else min(messages, most or messages)
    return found


def turns(systems: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Every system once a round, each round beginning with another one."""
    for number in range(1, rounds + 1):
        turn = (number - 1) % len(systems)
        for name in (*systems[turn:], *systems[:turn]):
            yield number, name


def compare(
    systems: dict[str, int], users: int, rounds: int, done: Sequence[Run], failures: dict[str, str], console: Console
) -> Iterator[list[Run]]:
    """Measure what is not `done`. A system that fails is told, put among `failures`, and left out of what follows."""
    truths: dict[int, Job] = {}
    measured = {(run.round, run.system) for run in done}
    for number, name in turns(list(systems), rounds):
        if name in failures or (number, name) in measured:
            continue
        count = systems[name]
        if count not in truths:
            truths[count] = Job(count, users, truth(count, users))
        began = time.monotonic()
        try:
            results = asyncio.run((run_tidemark if name in TIDEMARK else run_peer)(name, truths[count]))
        except (SystemExit, subprocess.CalledProcessError, TidemarkError) as error:
            failures[name] = str(error)
            console.print(f"{name} failed: {error}", markup=False, highlight=False)
            continue
        for result in results:
            console.print(
                f"round {number}: {result.name}: {result.events_per_s:,.0f} events/s, "
                f"{result.cpu_us_per_event:.1f} us/event ({time.monotonic() - began:.0f} s in all)",
                highlight=False,
            )
        yield [Run(number, name, count, result) for result in results]

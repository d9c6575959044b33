"""What an event costs as the rest grows, each case beside a base measured in the same run: a part of `make bench`.

Every user is made known first, by an identify call, which gives a user leaf and an anonymous leaf; the workers then
stop, and the messages that are measured are loaded. So the state is as large as the case says from the first measured
message on, whichever users the messages are of. Measured is as in `benchmarks.pipeline`, taking the partitions over
included, with one worker unless told otherwise: with few partitions a second one would have nothing to do.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import asyncpg
from rich.console import Console

from benchmarks.contract import BASE
from benchmarks.measures import Growth
from benchmarks.pipeline import POLL_S, SEED, load, measure, temporary_data_dir, worker_usage
from contracts.errors import TidemarkError
from contracts.settings import Settings
from examples.generate import generate
from examples.load import introductions
from operations.cli.services import prepare
from operations.supervisor import WORKER_STOP_S, Supervisor, supervised
from operations.wait import wait_until_arrived


@dataclass(frozen=True)
class Case:
    """What differs from the base."""

    name: str
    users: int = 10_000
    partitions: int = 4
    attributes_held: int = 0
    """Custom attributes that each profile has beforehand, besides two."""
    attributes_sent: int = 0
    """Custom attributes in each identify call that is measured, besides two."""
    hot: float = 0.0
    """Share of all messages that one user makes; in the base the first one makes a tenth."""


CASES = (
    Case(BASE),
    Case("100,000 users", users=100_000),
    Case("1,000,000 users", users=1_000_000),
    Case("1 partition", partitions=1),
    Case("16 partitions", partitions=16),
    Case("64 partitions", partitions=64),
    Case("100 attributes a profile", attributes_held=100),
    Case("100 attributes a call", attributes_held=100, attributes_sent=100),
    Case("hot user, 20 %", hot=0.2),
)


async def introduce(supervisor: Supervisor, case: Case, workers: int) -> float:
    """Make every user known, and stop the workers; returns the most MiB that these have had in memory."""
    settings, peak = supervisor.settings, 0.0
    # Another seed than the traffic's, which would give the same messageIds.
    await load(settings, introductions(random.Random(SEED + 1), case.users, attributes=case.attributes_held))
    for number in range(1, workers + 1):
        supervisor.add(f"w{number}")
    arriving = asyncio.create_task(wait_until_arrived(settings))
    while not arriving.done():
        await asyncio.sleep(POLL_S)
        peak = max(peak, worker_usage(supervisor)[1])
    if missing := arriving.result().missing:
        raise SystemExit(f"not arrived: {'; '.join(map(str, missing))}")
    # Out of the list first, or the supervisor would start them again.
    stopping, supervisor.workers = supervisor.workers, []
    processes = [worker.process for worker in stopping if worker.process is not None]
    await asyncio.gather(*(asyncio.to_thread(process.stop, WORKER_STOP_S) for process in processes))
    return peak


async def measure_case(case: Case, messages: int, workers: int) -> Growth:
    """One case, on services of its own."""
    told = Settings(log_level="WARNING", source_partitions=case.partitions, leaves_partitions=case.partitions)
    with temporary_data_dir() as directory:
        async with supervised(told, directory, 0, prepare=prepare) as supervisor:
            settings = supervisor.settings
            peak = await introduce(supervisor, case, workers)
            traffic = generate(
                *(SEED, messages),
                profile="load",
                users=case.users,
                hot=case.hot,
                attributes=case.attributes_sent,
            )
            kinds = await load(settings, traffic)
            result = await measure(supervisor, settings, messages, workers, kinds)
            connection = await asyncpg.connect(settings.dsn, server_settings={"search_path": settings.schema})
            try:
                leaves = await connection.fetchval("select count(*) from identities")
            finally:
                await connection.close()
    return Growth(
        case=case.name,
        users=case.users,
        partitions=case.partitions,
        messages=messages,
        leaves=leaves,
        events_per_s=result.events_per_s,
        cpu_us_per_event=result.cpu_us_per_event,
        machine_us_per_event=result.machine_us_per_event,
        peak_rss_mib=max(peak, result.peak_rss_mib),
    )


def chosen(names: Sequence[str]) -> tuple[Case, ...]:
    """The base, and the cases that begin with a name; all without names."""
    if unknown := [name for name in names if not any(case.name.startswith(name) for case in CASES)]:
        known = "; ".join(case.name for case in CASES)
        raise SystemExit(f"no case's name begins with {unknown[0]!r}; there are: {known}")
    return tuple(case for case in CASES if not names or case.name == BASE or case.name.startswith(tuple(names)))


def measure_all(
    cases: Sequence[Case],
    messages: int,
    workers: int,
    done: Sequence[Growth],
    failures: dict[str, str],
    console: Console,
) -> Iterator[Growth]:
    """Measure every case that is not `done`; tells what fails, and goes on."""
    measured = {run.case for run in done}
    for case in cases:
        if case.name in measured:
            continue
        try:
            found = asyncio.run(measure_case(case, messages, workers))
        except (SystemExit, TidemarkError) as error:
            failures[f"growth, {case.name}"] = str(error)
            console.print(f"growth, {case.name} failed: {error}", markup=False, highlight=False)
            continue
        console.print(
            f"growth, {case.name}: {found.events_per_s:,.0f} events/s, machine {found.machine_us_per_event:.1f} "
            f"us/event, {found.peak_rss_mib:.0f} MiB with {found.leaves:,} leaves",
            highlight=False,
        )
        yield found

"""From the moment an event is due until its row can be read in Postgres: a part of `make bench`.

Idle workers have taken every partition; then a load generator in a process of its own (`benchmarks.load_generator`)
sends messages of users into the topic without keys, at a fixed rate, each when it is due. Which transaction wrote a row
is its `xmin`; when that could be seen is told from outside (`benchmarks.visibility`). Counted are page views and
occurrences, which have a row each; those of a warm-up are not.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import msgspec
from rich.console import Console

from benchmarks.load_generator import Orders, Sent
from benchmarks.measures import Latency, machine_cpu_s, percentiles, system
from benchmarks.pipeline import STANDSTILL_S, temporary_data_dir
from benchmarks.visibility import Observer
from contracts.errors import TidemarkError
from contracts.settings import Settings
from operations.cli.services import prepare
from operations.settings import settings_environ
from operations.supervisor import Supervisor, supervised
from operations.wait import wait_until_arrived

ROOT = Path(__file__).parent.parent
START_S = 60.0
LEAD_S = 0.5
"""From the order to start until the first message is due."""
SETTLED_S = 2.0
"""All partitions are taken and none was taken again for so long: the group has settled."""
HALF = "half_of_highest"
TABLES = {"page_views": "page", "event_occurrences": "track"}
TAKEN = "select count(*), count(distinct owner), coalesce(sum(epoch), 0)::bigint from progress"


@dataclass(frozen=True)
class Pace:
    """How messages come."""

    label: str
    rate: float
    seconds: float
    """That count."""
    warm_up_s: float
    """Before those."""
    users: int

    def orders(self) -> Orders:
        """For the load generator."""
        warm_up = int(self.warm_up_s * self.rate)
        return Orders(warm_up + int(self.seconds * self.rate), self.rate, self.users, warm_up)


def number_of(message_id: str) -> int:
    """The number that `examples.load` ends a messageId with."""
    return int(message_id.rpartition("-")[2], 16)


def latencies_ms(
    rows: Sequence[tuple[str, int]], visible: Mapping[int, float], began: float, orders: Orders
) -> list[float]:
    """Of rows (messageId, transaction), but for those of the warm-up."""
    numbers = ((number_of(message_id), transaction) for message_id, transaction in rows)
    return [
        (visible[transaction] - began - number / orders.rate) * 1000
        for number, transaction in numbers
        if number >= orders.warm_up
    ]


async def settle(supervisor: Supervisor, workers: int, connection: asyncpg.Connection) -> None:
    """Start the workers, and return once every partition has an owner and all of them own some."""
    for number in range(1, workers + 1):
        supervisor.add(f"w{number}")
    settings = supervisor.settings
    partitions = (
        len(settings.source_topics) * settings.source_partitions
        + settings.leaves_partitions
        + settings.companies_partitions
        + settings.quarantine_partitions
    )
    before: tuple[int, ...] = ()
    began = moved = time.monotonic()
    while time.monotonic() - moved < SETTLED_S or before[:2] != (partitions, workers):
        if time.monotonic() - began > START_S:
            raise SystemExit(f"within {START_S:.0f} s {before[1]} of {workers} workers took {before[0]} partitions")
        await asyncio.sleep(0.1)
        now = tuple(await connection.fetchrow(TAKEN))
        if now != before:
            before, moved = now, time.monotonic()


@dataclass(frozen=True)
class Load:
    """What the load generator did."""

    began: float
    """When the first message was due, on the monotonic clock."""
    sent: Sent
    machine_busy: float
    measuring_busy: float


async def generate_load(settings: Settings, orders: Orders, observer: Observer) -> Load:
    """Run the load generator to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.load_generator"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **settings_environ(settings)},
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(orders) + b"\n")
        if (answer := await process.stdout.readline()) != b"ready\n":
            raise SystemExit(f"the load generator answered {answer!r}")
        began, machine, watching = time.monotonic() + LEAD_S, machine_cpu_s(), observer.cpu_s()
        process.stdin.write(f"{began!r}\n".encode())
        report = await process.stdout.readline()
        cores_s = (time.monotonic() - began + LEAD_S) * (os.cpu_count() or 1)
        machine, watching = machine_cpu_s() - machine, observer.cpu_s() - watching
        if await process.wait():
            raise SystemExit(f"the load generator ended with {process.returncode}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    sent = msgspec.json.decode(report, type=Sent)
    return Load(began, sent, machine / cores_s, (watching + sent.cpu_s) / cores_s)


async def measure_latency(workers: int, pace: Pace) -> Latency:
    """One rate, on services of its own. SystemExit when a row is missing."""
    with temporary_data_dir() as directory:
        async with supervised(Settings(log_level="WARNING"), directory, 0, prepare=prepare) as supervisor:
            settings, orders = supervisor.settings, pace.orders()
            connection = await asyncpg.connect(settings.dsn, server_settings={"search_path": settings.schema})
            try:
                await settle(supervisor, workers, connection)
                async with Observer(settings.dsn) as observer:
                    load = await generate_load(settings, orders, observer)
                    arrival = await wait_until_arrived(settings, timeout_s=STANDSTILL_S)
                if arrival.missing:
                    raise SystemExit(f"not arrived: {'; '.join(map(str, arrival.missing))}")
                rows = {table: await _rows(connection, table, load.sent) for table in TABLES}
            finally:
                await connection.close()
    transactions = {transaction for found in rows.values() for _, transaction in found}
    visible = {transaction: observer.visible_at(transaction) for transaction in transactions}
    found = {table: latencies_ms(found, visible, load.began, orders) for table, found in rows.items()}
    counted_from, counted_to = load.began + pace.warm_up_s, load.began + orders.messages / orders.rate
    return Latency(
        workers=workers,
        label=pace.label,
        rate=round(pace.rate, 1),
        events=sum(map(len, found.values())),
        all=percentiles([each for values in found.values() for each in values]),
        page_views=percentiles(found["page_views"]),
        event_occurrences=percentiles(found["event_occurrences"]),
        load_generator_late=load.sent.late,
        observer_gap=percentiles([gap * 1000 for at, gap in observer.gaps if counted_from <= at <= counted_to]),
        machine_busy=round(load.machine_busy, 3),
        measuring_busy=round(load.measuring_busy, 3),
    )


async def _rows(connection: asyncpg.Connection, table: str, sent: Sent) -> list[tuple[str, int]]:
    rows = await connection.fetch(f"select message_id, xmin::text::bigint from {table}")
    if len(rows) != sent.kinds[TABLES[table]]:
        raise SystemExit(f"{table}: {len(rows)} rows; expected {sent.kinds[TABLES[table]]}")
    return [tuple(row) for row in rows]


def measure_all(
    paces: Mapping[int, Sequence[Pace]], done: Sequence[Latency], failures: dict[str, str], console: Console
) -> Iterator[Latency]:
    """Measure every pace of every number of workers that is not `done`; tells what fails, and goes on."""
    measured = {(run.workers, run.label) for run in done}
    for workers, each in paces.items():
        for pace in each:
            name = f"latency, {system(workers)}, {pace.label}"
            if (workers, pace.label) in measured:
                continue
            try:
                found = asyncio.run(measure_latency(workers, pace))
            except (SystemExit, TidemarkError, LookupError) as error:
                failures[name] = str(error)
                console.print(f"{name} failed: {error}", markup=False, highlight=False)
                continue
            console.print(f"{name} ({found.rate:,.0f} events/s): {found.all} ms", markup=False, highlight=False)
            yield found

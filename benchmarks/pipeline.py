"""How fast the main job is, on embedded services of its own: `make bench-quick`, or with `--help`.

Messages are loaded first, then the workers are started: measured is from the moment a worker takes its first partition,
just before it reads, to the last row committed, as Postgres' own progress tells it, with the row counts checked against
what was generated. In the same run, so that a figure can be read as a share of what the machine gives: fetching alone,
and fetching and decoding. The shares are compared with those that are kept in `baseline.json`.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import asyncpg
import msgspec
import psutil
from aiokafka import TopicPartition
from rich.console import Console
from rich.table import Table

from benchmarks import baseline
from benchmarks.measures import Result, machine_cpu_s, system, this_machine
from contracts.settings import Settings
from examples.generate import generate
from operations.cli.services import prepare
from operations.embedded.account import remove_home
from operations.supervisor import Supervisor, supervised
from operations.wait import Arrival, wait_until_arrived
from streams.engine.cluster import Cluster
from streams.engine.producer import BatchProducer, Outgoing

SEED = 7
POLL_S = 0.1
STANDSTILL_S = 60.0
"""Nothing has moved for so long: the run has failed."""
RUN_SIZE = 20_000

COUNTS = """
select coalesce(sum(read), 0)::bigint, coalesce(sum(applied), 0)::bigint, coalesce(sum(duplicate), 0)::bigint,
    coalesce(sum(next_offset), 0)::bigint, coalesce(sum(epoch), 0)::bigint
from progress
"""
ROWS = """
select
    (select count(*) from page_views), (select count(*) from event_occurrences), (select sum(page_views) from profiles)
"""


async def load(settings: Settings, lines: Iterator[bytes]) -> Counter[str]:
    """Put the lines onto the source topic; returns how many of each type there are."""
    kinds: Counter[str] = Counter()
    type_of = msgspec.json.Decoder(type("Head", (msgspec.Struct,), {"__annotations__": {"type": str}}))
    producer = BatchProducer(Cluster(settings))
    await producer.start()
    run: list[Outgoing] = []
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            kinds[type_of.decode(line).type] += 1
            run.append(
                Outgoing(settings.source_topics[0], number % settings.source_partitions, None, line, 1_795_000_000_000)
            )
            if len(run) == RUN_SIZE:
                await producer.send(run)
                run = []
        if run:
            await producer.send(run)
    finally:
        await producer.stop()
    return kinds


async def limit(settings: Settings, messages: int, *, decode: bool) -> Result:
    """Fetch every record of the source topic with one plain consumer."""
    topic = settings.source_topics[0]
    async with Cluster(settings).consumer(max_poll_records=5000, max_partition_fetch_bytes=4 * 1024 * 1024) as consumer:
        tps = [TopicPartition(topic, number) for number in range(settings.source_partitions)]
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, 0)
        started, cpu, machine, seen = time.monotonic(), time.process_time(), machine_cpu_s(), 0
        while seen < messages:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                seen += len(records)
                if decode:
                    for record in records:
                        msgspec.json.decode(record.value)
    spent = time.monotonic() - started
    name = "fetch and decode" if decode else "fetch"
    own = psutil.Process().memory_info().rss / 2**20
    busy = (machine_cpu_s() - machine) / messages * 1e6
    return Result(name, messages / spent, (time.process_time() - cpu) / messages * 1e6, busy, own)


def worker_usage(supervisor: Supervisor) -> tuple[float, float]:
    """CPU seconds so far and MiB of memory now, of all supervised workers together."""
    cpu = rss = 0.0
    for worker in supervisor.workers:
        if worker.process is not None:
            process = psutil.Process(worker.process.identity.pid)
            times = process.cpu_times()
            cpu += times.user + times.system
            rss += process.memory_info().rss / 2**20
    return cpu, rss


async def measure(
    supervisor: Supervisor, settings: Settings, messages: int, workers: int, kinds: Counter[str]
) -> Result:
    """Start the workers and wait until `messages` more are in Postgres; `kinds` is of all that are there then."""
    connection = await asyncpg.connect(settings.dsn, server_settings={"search_path": settings.schema})
    for number in range(1, workers + 1):
        supervisor.add(f"w{number}")
    began = last = time.monotonic()
    first = before = tuple(await connection.fetchrow(COUNTS))
    arriving: asyncio.Task[Arrival] | None = None
    machine, cpu_at_first, cpu, peak = machine_cpu_s(), 0.0, 0.0, 0.0
    try:
        while True:
            await asyncio.sleep(POLL_S)
            now = tuple(await connection.fetchrow(COUNTS))
            cpu, rss = worker_usage(supervisor)
            peak = max(peak, rss)
            # An epoch is raised: the first partition is taken.
            if before[4] == first[4] != now[4]:
                began, machine, cpu_at_first = time.monotonic(), machine_cpu_s(), cpu
            if now != before:
                last, before = time.monotonic(), now
            read, applied, duplicate = (after - least for after, least in zip(now[:3], first[:3], strict=True))
            if arriving is None and read == messages == applied + duplicate:
                # What messages led to, claims and contributions, is still on its way.
                arriving = asyncio.create_task(wait_until_arrived(settings, timeout_s=STANDSTILL_S))
            if arriving is not None and arriving.done():
                if missing := arriving.result().missing:
                    raise SystemExit(f"not arrived within {STANDSTILL_S:.0f} s: {'; '.join(map(str, missing))}")
                break
            if time.monotonic() - last > STANDSTILL_S:
                counts = f"read {read}, applied {applied}, duplicate {duplicate}"
                raise SystemExit(f"nothing has moved for {STANDSTILL_S:.0f} s: {counts}")
        busy = (machine_cpu_s() - machine) / messages * 1e6
        views, occurrences, counted = await connection.fetchrow(ROWS)
    finally:
        await connection.close()
    if (views, occurrences, counted) != (kinds["page"], kinds["track"], kinds["page"]):
        raise SystemExit(f"wrong rows: {views} views, {occurrences} occurrences, {counted} counted; expected {kinds}")
    return Result(system(workers), messages / (last - began), (cpu - cpu_at_first) / messages * 1e6, busy, peak)


@contextmanager
def temporary_data_dir() -> Iterator[Path]:
    """A data directory that is gone at the end, with what root's Postgres keeps elsewhere."""
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as name:
        try:
            yield Path(name)
        finally:
            remove_home(Path(name))


async def run(messages: int, users: int, workers: Sequence[int], *, limits: bool, console: Console) -> list[Result]:
    """Every measurement, each on fresh services."""
    results = []
    for number in workers:
        with temporary_data_dir() as directory:
            told = Settings(log_level="WARNING")
            async with supervised(told, directory, 0, prepare=prepare) as supervisor:
                settings = supervisor.settings
                console.print(f"loading {messages} messages of {users} users")
                kinds = await load(settings, generate(SEED, messages, profile="load", users=users))
                if limits:
                    results += [await limit(settings, messages, decode=decode) for decode in (False, True)]
                console.print(f"running with {number} worker(s)")
                results.append(await measure(supervisor, settings, messages, number, kinds))
    return results


def main() -> None:
    """Measure, print a table, and write it where told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=300_000)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--no-limits", action="store_true")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--write-baseline", action="store_true", help="keep these shares of the limits from now on")
    told = parser.parse_args()
    console = Console(soft_wrap=True)
    results = asyncio.run(run(told.messages, told.users, told.workers, limits=not told.no_limits, console=console))
    table = Table(title=f"{told.messages} messages of about 0.9 kB, {told.users} users; {os.cpu_count()} cores")
    for column in ("what", "events/s", "CPU us/event", "machine us/event", "RSS MiB"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for result in results:
        table.add_row(
            result.name,
            f"{result.events_per_s:,.0f}",
            f"{result.cpu_us_per_event:.1f}",
            f"{result.machine_us_per_event:.1f}",
            f"{result.peak_rss_mib:.0f}",
        )
    console.print(table)
    if told.json:
        told.json.write_text(
            json.dumps({"machine": this_machine(), "results": [asdict(each) for each in results]}, indent=2) + "\n"
        )
    if shares := baseline.shares(results):
        lines = baseline.report(shares, told.messages, this_machine(), baseline.read())
        console.print(*lines, sep="\n", markup=False, highlight=False)
        if told.write_baseline:
            baseline.write(baseline.Baseline(this_machine(), told.messages, shares))
            console.print(f"these shares are kept in {baseline.BASELINE}", highlight=False)


if __name__ == "__main__":
    main()

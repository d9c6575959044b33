"""How fast state is restored from its changelogs: `python -m benchmarks.restore --leaves 1000000`.

The changelogs of one app version are filled, cycle by cycle, in transactions and by the product's own codecs; then one
process restores all partitions at once into empty stores, as a worker does that takes them over on a new host. What the
stores hold at the end is compared with what was written.

Of each two leaves one is a user's (small record, large record, links to the other one) and one an anonymous visitor's
(small record, claims). Every small record is there twice, since Kafka's cleaner lets a changelog grow to double of
what it holds, and small records are what changes. Each leaf has seen `--messages` messages.
"""

import argparse
import asyncio
import json
import logging
import os
import platform
import random
import resource
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.pipeline import temporary_data_dir
from contracts import records as state
from contracts.settings import Settings
from operations.services import open_services
from streams.agents.state_tables import leaves_table
from streams.engine.cluster import Cluster
from streams.engine.context import now_ms, partition_of
from streams.engine.producer import BatchProducer, Outgoing
from streams.engine.records import hand_on_decoded_records
from streams.engine.restorer import restore
from streams.memory import set_up_memory
from streams.native import native
from streams.topics import create_topics, topic_specs
from tables import leaves
from tables.positions import APPLIED, decode_position, encode_position
from tables.seen import SeenMessages, encode_offset, pack_entries, seen_key
from tables.store import PartitionStore

SEED = 7
CYCLE_LEAVES = 1000
"""Leaves of one partition that a cycle touches: one transaction."""
CHECKED = 1000
"""Leaves whose records are compared one by one; of all others the keys are counted."""

AT_US = 1_795_000_000_000_000
FIELDS = {
    "email": "{0}@example.com",
    "first_name": "Katharina",
    "last_name": "Lindqvist-{0}",
    "country": "Sweden",
    "city": "Gothenburg",
    "language": "sv-SE",
    "ip_address": "198.51.100.7",
    "browser_family": "Firefox",
    "browser_version": "141.0",
    "os": "Mac OS X",
    "device_type": "desktop",
    "resolution": "1440x900",
    "timezone": "Europe/Stockholm",
    "current_url": "https://fernway.example/tents?visit={0}",
}
ATTRIBUTES = {"plan": "pro", "newsletter": True, "orders": 7, "lifetime_value": 1289.5}


@dataclass
class Result:
    """One restore."""

    leaves: int
    changelog_records: int
    seen_entries: int
    mib: float
    """Keys and values in both changelogs."""
    seconds: float
    leaves_per_s: float
    cpu_s: float
    """Of the process that restores."""
    peak_rss_mib: float


class Cycle(NamedTuple):
    """What one transaction holds."""

    pairs: list[tuple[bytes, bytes]]
    seen: list[tuple[bytes, bytes]]


def slot(value: state.Kept, number: int) -> state.Slot:
    """A value with the message that brought it, and its lineage."""
    return state.Slot(value, AT_US + number, f"ajs-next-1795000000000-{number:032x}", f"segment/{number % 4}/{number}")


def records_of(number: int) -> list[tuple[str, list[tuple[bytes, bytes]]]]:
    """The records of the user leaf and the anonymous leaf of this number."""
    user, visitor = f"user:u-{number}", f"anon:{random.Random(number).getrandbits(128):032x}"
    counters = state.LeafCounters(number % 40, AT_US, AT_US + number)
    fields = state.LeafFields(
        {name: slot(text.format(number), number) for name, text in FIELDS.items()},
        {name: slot(value, number) for name, value in ATTRIBUTES.items()},
    )
    claimed = AT_US + number, f"ajs-next-1795000000000-{number:032x}"
    links = state.LeafLinks({visitor: claimed}, {visitor: state.Giver(number, counters, has_fields=False)})
    claims = state.LeafClaims({user: state.Claimed(*claimed, f"segment/{number % 4}/{number}")})
    return [
        (
            user,
            [
                (leaves.counters_key(user), state.encode(counters)),
                (leaves.fields_key(user), state.encode(fields)),
                (leaves.links_key(user), state.encode(links)),
            ],
        ),
        (
            visitor,
            [
                (leaves.counters_key(visitor), state.encode(counters)),
                (leaves.claims_key(visitor), state.encode(claims)),
            ],
        ),
    ]


def cycles(count: int, messages: int, partitions: int) -> Iterator[tuple[int, Cycle]]:
    """All that is written, a partition's cycle at a time."""
    open_cycles = [Cycle([], []) for _ in range(partitions)]
    sizes = [0] * partitions
    for number in range(count // 2):
        for leaf, pairs in records_of(number):
            partition = partition_of(leaf.encode(), partitions)
            cycle = open_cycles[partition]
            cycle.pairs.extend([*pairs, pairs[0]])
            cycle.seen.extend(
                (seen_key(leaf, f"{number}-{nth}"), encode_offset(number * messages + nth)) for nth in range(messages)
            )
            sizes[partition] += 1
            if sizes[partition] == CYCLE_LEAVES:
                yield partition, cycle
                open_cycles[partition], sizes[partition] = Cycle([], []), 0
    yield from enumerate(open_cycles)


class Written(NamedTuple):
    """What the changelogs hold."""

    records: int
    seen: int
    size: int


async def fill(settings: Settings, count: int, messages: int) -> Written:
    """Write the changelogs, as workers do."""
    producers = [
        BatchProducer(Cluster(settings), transactional_id=f"fill-{n}") for n in range(settings.leaves_partitions)
    ]
    for producer in producers:
        await producer.start()
    records = seen = size = applied = 0
    busy: list[asyncio.Task[object] | None] = [None] * len(producers)
    for partition, cycle in cycles(count, messages, len(producers)):
        applied += len(cycle.seen)
        told = now_ms()
        pairs = [*cycle.pairs, (APPLIED, encode_position(applied))]
        entries = pack_entries(cycle.seen)
        records, seen = records + len(pairs) + 1, seen + len(cycle.seen)
        size += sum(len(key) + len(value) for key, value in pairs) + len(entries)
        run = [
            *(Outgoing(settings.leaves_changelog, partition, key, value, told) for key, value in pairs),
            Outgoing(settings.seen_changelog, partition, b"", entries, told),
        ]
        if (before := busy[partition]) is not None:
            await before
        busy[partition] = asyncio.create_task(producers[partition].transact(run))
    await asyncio.gather(*(task for task in busy if task is not None))
    for producer in producers:
        await producer.stop()
    return Written(records, seen, size)


async def restore_all(settings: Settings, directory: Path) -> tuple[float, float, list[PartitionStore]]:
    """Restore every partition at once; returns seconds, seconds of CPU, and the stores."""
    table = leaves_table(settings)
    stores = [table.open(directory, number) for number in range(table.partitions)]
    began, cpu = time.monotonic(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for number, store in enumerate(stores):
            group.create_task(restore(Cluster(settings), store, number, table.changelogs(store)))
    return time.monotonic() - began, time.process_time() - cpu, stores


def check(settings: Settings, stores: list[PartitionStore], count: int, messages: int) -> None:
    """Compare the stores with what was written; ends the process where something differs."""
    held = sum(1 for store in stores for _ in store.keys(leaves.FAMILY, b"c", b"m"))
    if held != (wanted := count // 2 * 5):
        raise SystemExit(f"wrong: {held} records in the stores, expected {wanted}")
    tables = [SeenMessages(store, settings.dedupe_window_days) for store in stores]
    for table in tables:
        table.rotate(now_ms())
    for number in random.Random(SEED).sample(range(count // 2), min(CHECKED, count // 2)):
        for leaf, pairs in records_of(number):
            at = partition_of(leaf.encode(), len(stores))
            if stores[at].get_many(leaves.FAMILY, [key for key, _ in pairs]) != [value for _, value in pairs]:
                raise SystemExit(f"wrong: the records of {leaf} are not those that were written")
            seen = tables[at].find([seen_key(leaf, f"{number}-{nth}") for nth in range(messages)])
            if seen != [number * messages + nth for nth in range(messages)]:
                raise SystemExit(f"wrong: {leaf} has not seen what it saw: {seen}")
    if None in (decode_position(store.get_many(leaves.FAMILY, [APPLIED])[0]) for store in stores):
        raise SystemExit("wrong: a store without a position")


async def measure(count: int, messages: int, console: Console) -> Result:
    """Fill, restore, check, on services of its own."""
    with temporary_data_dir() as directory:
        services = open_services(Settings(), directory)
        try:
            addresses = services.addresses
            settings = Settings(
                bootstrap_servers=addresses.bootstrap_servers, dsn=addresses.dsn, data_dir=directory / "worker"
            )
            await create_topics(Cluster(settings), topic_specs(settings))
            began = time.monotonic()
            written = await fill(settings, count, messages)
            console.print(f"{count} leaves written in {time.monotonic() - began:.0f} s; restoring")
            seconds, cpu_s, stores = await restore_all(settings, directory / "state")
            check(settings, stores, count, messages)
            for store in stores:
                store.close()
        finally:
            services.stop_now()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Result(count, written.records, written.seen, written.size / 2**20, seconds, count / seconds, cpu_s, peak)


def main() -> None:
    """Measure, print a table, and write it where told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leaves", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--messages", type=int, default=3, help="messages that each leaf has seen")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    told = parser.parse_args()
    # As a worker does.
    set_up_memory()
    hand_on_decoded_records(native(Settings()))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("streams.engine.restorer").setLevel(logging.INFO)
    console = Console()
    results = [uvloop.run(measure(count, told.messages, console)) for count in told.leaves]
    table = Table(title=f"Restored into empty stores, 4 partitions at once in one process; {os.cpu_count()} cores")
    for column in ("leaves", "records", "seen", "MiB", "s", "leaves/s", "CPU s", "RSS MiB"):
        table.add_column(column, justify="right")
    for each in results:
        table.add_row(
            f"{each.leaves:,}",
            f"{each.changelog_records:,}",
            f"{each.seen_entries:,}",
            f"{each.mib:.0f}",
            f"{each.seconds:.1f}",
            f"{each.leaves_per_s:,.0f}",
            f"{each.cpu_s:.1f}",
            f"{each.peak_rss_mib:.0f}",
        )
    console.print(table)
    if told.json:
        machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
        told.json.write_text(
            json.dumps({"machine": machine, "results": [asdict(each) for each in results]}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()

"""What Postgres alone gives: the rows of the comparison copied into the peers' tables, nothing else done."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import asyncpg
import msgspec
import psutil

from benchmarks.measures import Result, machine_cpu_s
from benchmarks.peers.job import Occurrence, Profile, View, apply, leaf_of, moment, row_of
from benchmarks.traffic import SEED, distinct
from contracts.settings import Settings
from examples.generate import generate

RUN = 20_000
"""Messages whose rows are made, untimed, and then copied, timed."""


@dataclass
class Spent:
    """What the copying alone took."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    machine_s: float = 0.0
    rss_mib: float = field(default_factory=lambda: psutil.Process().memory_info().rss / 2**20)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def tuples(views: list[View], occurrences: list[Occurrence]) -> tuple[list[tuple], list[tuple]]:
    """As asyncpg takes them."""
    return (
        [(*row[:2], moment(row.event_time), *row[3:8], _json(row.properties)) for row in views],
        [(*row[:3], moment(row.event_time), _json(row.properties)) for row in occurrences],
    )


async def copy(settings: Settings, messages: int, users: int) -> Result:
    """COPY every view, every occurrence, and at the end every profile, one connection, a transaction a run."""
    connection = await asyncpg.connect(settings.dsn, server_settings={"search_path": "peer"})
    spent, profiles = Spent(), {}
    lines = generate(SEED, distinct(messages), profile="load", users=users)
    try:
        while run := list(islice(lines, RUN)):
            views, occurrences = tuples(*_rows(run, profiles))
            await _copy(connection, spent, {"page_views": views, "event_occurrences": occurrences})
        await _copy(connection, spent, {"profiles": list(_profiles(profiles))})
    finally:
        await connection.close()
    return Result(
        "copy the rows",
        messages / spent.seconds,
        spent.cpu_s / messages * 1e6,
        spent.machine_s / messages * 1e6,
        spent.rss_mib,
    )


def _rows(lines: list[bytes], profiles: dict[str, Profile]) -> tuple[list[View], list[Occurrence]]:
    views, occurrences = [], []
    for line in lines:
        message = msgspec.json.decode(line)
        leaf = leaf_of(message)
        profiles[leaf] = apply(profiles.get(leaf), message)
        row = row_of(message, leaf)
        if isinstance(row, View):
            views.append(row)
        elif row is not None:
            occurrences.append(row)
    return views, occurrences


def _profiles(profiles: dict[str, Profile]) -> Iterator[tuple]:
    for leaf, each in profiles.items():
        attributes = each["attributes"]
        times = moment(each["first_seen"]), moment(each["last_seen"])
        yield leaf, each["user_id"], attributes.get("email"), each["page_views"], *times, _json(attributes), None


async def _copy(connection: asyncpg.Connection, spent: Spent, tables: dict[str, list[tuple]]) -> None:
    began, machine = time.monotonic(), machine_cpu_s()
    own = sum(os.times()[:2])
    async with connection.transaction():
        for table, rows in tables.items():
            await connection.copy_records_to_table(table, records=rows)
    spent.seconds += time.monotonic() - began
    spent.machine_s += machine_cpu_s() - machine
    spent.cpu_s += sum(os.times()[:2]) - own

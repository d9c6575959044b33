"""The job on Bytewax: `bytewax_worker.py`, told by the environment.

A dataflow in one or two processes, which Bytewax's cluster connects: it repartitions over its own sockets, without a
topic. State is in memory; every interval what has changed since is written to Bytewax's recovery store, SQLite files.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import orjson
import psycopg2
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from psycopg2.extras import execute_values

from benchmarks.peers.job import (
    BOOTSTRAP,
    DSN,
    HOME,
    SOURCE,
    Message,
    Occurrence,
    Profile,
    View,
    apply,
    compact,
    leaf_of,
    mark,
    row_of,
)

BATCH = 5000
"""Records a partition is asked for at a time; the default, 1000, makes smaller transactions."""
SNAPSHOT = timedelta(seconds=10)
"""Bytewax' own default."""
PAGE = 1000
"""Rows a statement: execute_values' own default, 100, makes ten times as many."""

VIEWS = """
insert into peer.page_views (message_id, leaf, event_time, url, path, title, referrer, name, properties)
values %s on conflict do nothing
"""
OCCURRENCES = """
insert into peer.event_occurrences (message_id, leaf, event, event_time, properties) values %s on conflict do nothing
"""
PROFILES = """
insert into peer.profiles (profile_id, user_id, email, page_views, first_seen, last_seen, attributes) values %s
on conflict (profile_id) do update set user_id = excluded.user_id, email = excluded.email,
    page_views = excluded.page_views, first_seen = excluded.first_seen, last_seen = excluded.last_seen,
    attributes = excluded.attributes
"""


class Identity(StatefulBatchLogic):
    """The profile of one identity, and the messages that it has seen."""

    def __init__(self, state: tuple[Profile | None, frozenset[str]] | None) -> None:
        profile, seen = state or (None, ())
        self.profile = profile
        self.seen = set(seen)

    def on_batch(self, values: list[Message]) -> tuple[Iterable[tuple[list[Message], Profile]], bool]:
        new = []
        for message in values:
            if message["messageId"] not in self.seen:
                self.seen.add(message["messageId"])
                self.profile = apply(self.profile, message)
                new.append(message)
        return ([(new, dict(self.profile))] if new else []), StatefulBatchLogic.RETAIN

    def snapshot(self) -> Any:
        return dict(self.profile), frozenset(self.seen)


class PostgresPartition(StatelessSinkPartition):
    """What comes at once in one transaction, and of each profile only its last state."""

    def __init__(self) -> None:
        self.connection = psycopg2.connect(DSN)

    def write_batch(self, items: list[tuple[str, tuple[list[Message], Profile]]]) -> None:
        views, occurrences, profiles = [], [], {}
        for leaf, (messages, profile) in items:
            profiles[leaf] = profile
            for message in messages:
                row = row_of(message, leaf)
                if isinstance(row, View):
                    views.append((*row[:8], orjson.dumps(row.properties).decode()))
                elif isinstance(row, Occurrence):
                    occurrences.append((*row[:4], orjson.dumps(row.properties).decode()))
        with self.connection, self.connection.cursor() as cursor:
            if views:
                template = "(%s, %s, %s::timestamptz, %s, %s, %s, %s, %s, %s::jsonb)"
                execute_values(cursor, VIEWS, views, template, PAGE)
            if occurrences:
                execute_values(cursor, OCCURRENCES, occurrences, "(%s, %s, %s, %s::timestamptz, %s::jsonb)", PAGE)
            template = "(%s, %s, %s, %s, %s::timestamptz, %s::timestamptz, %s::jsonb)"
            execute_values(cursor, PROFILES, [tell(*each) for each in profiles.items()], template, PAGE)


class PostgresSink(DynamicSink):
    """Every process writes what it has."""

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> PostgresPartition:
        return PostgresPartition()


def tell(leaf: str, profile: Profile) -> tuple[Any, ...]:
    """A profile as a row."""
    attributes = profile["attributes"]
    times = profile["first_seen"], profile["last_seen"]
    email = attributes.get("email")
    return leaf, profile["user_id"], email, profile["page_views"], *times, orjson.dumps(attributes).decode()


class First:
    """Makes pairs of identity and what is needed further on, and tells of the first message where it is to.

    The processes of a cluster begin to read at once, when all of them are connected: one tells.
    """

    def __init__(self, *, tells: bool) -> None:
        self.told = not tells

    def __call__(self, records: list[Any]) -> list[tuple[str, Message]]:
        if records and not self.told:
            self.told = True
            mark()
        messages = [orjson.loads(record.value) for record in records]
        return [(leaf_of(message), compact(message)) for message in messages]


def flow(*, tells: bool) -> Dataflow:
    """The dataflow."""
    job = Dataflow("peer")
    records = op.input("source", job, KafkaSource([BOOTSTRAP], [SOURCE], batch_size=BATCH))
    keyed = op.flat_map_batch("identify", records, First(tells=tells))
    profiles = op.stateful_batch("apply", keyed, Identity)
    op.output("postgres", profiles, PostgresSink())
    return job


def start(processes: int) -> None:
    """The processes of the cluster, until one ends or SIGTERM comes."""
    places = []
    for _ in range(processes):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            places.append(f"127.0.0.1:{free.getsockname()[1]}")
    snapshots = Path(HOME) / "snapshots"
    snapshots.mkdir()
    init_db_dir(snapshots, processes)
    members = [
        subprocess.Popen([sys.executable, __file__, str(number), ";".join(places)]) for number in range(processes)
    ]

    def stop(*_: object) -> None:
        for member in members:
            member.kill()

    signal.signal(signal.SIGTERM, stop)
    os.wait()
    stop()
    sys.exit("a process of the cluster has ended")


def main() -> None:
    """The starter, or with a number and addresses one process of the cluster."""
    if len(sys.argv) == 1:
        start(int(os.environ["BENCH_PROCESSES"]))
    else:
        number, places = int(sys.argv[1]), sys.argv[2].split(";")
        recovery = RecoveryConfig(Path(HOME) / "snapshots")
        cluster = {"process_id": number, "addresses": places} if len(places) > 1 else {}
        cli_main(flow(tells=number == 0), **cluster, epoch_interval=SNAPSHOT, recovery_config=recovery)


if __name__ == "__main__":
    main()

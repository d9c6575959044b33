"""The product as a whole, on the real services: load records, run worker processes, wait, and read every table."""

import os
import subprocess
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
from aiokafka import TopicPartition

from contracts.settings import Settings
from operations.settings import settings_environ
from operations.verify import Verification, verify
from operations.wait import Arrival, wait_until_arrived
from operations.workers import worker_command
from sinks.postgres import queries
from sinks.postgres.database import Database
from sinks.postgres.migration import migrate
from streams.engine.cluster import Cluster
from streams.engine.producer import BatchProducer, Outgoing
from streams.topics import create_topics, topic_specs
from tests.oracle import Record, differences, recompute

JSON_COLUMNS = {"properties", "sent_properties", "attributes", "claimants"}
STOP_S_MAX = 20
FIRST_MS = 1_795_000_000_000
"""Kafka's time of the first record that is loaded: 2026-11-18."""


@dataclass
class Pipeline:
    """One installation: topics, a schema, and any number of workers with a data directory each."""

    settings: Settings
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    """What every worker is told beside the settings."""
    hosts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Of workers on hosts of their own, what starts a command there."""

    async def prepare(self) -> None:
        """Make the schema and the topics."""
        await migrate(self.settings.dsn, self.settings.schema)
        await create_topics(Cluster(self.settings), topic_specs(self.settings))

    def data_dir(self, worker: str) -> Path:
        """The data directory of a worker: a host of its own."""
        return self.settings.data_dir / worker

    def start(self, worker: str, **environ: str) -> None:
        """Start a worker process."""
        directory = self.data_dir(worker)
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "worker.log").open("ab") as log:
            self.workers[worker] = subprocess.Popen(
                [*self.hosts.get(worker, ()), *worker_command(worker, directory)],
                env={
                    **os.environ,
                    **settings_environ(self.settings),
                    "TIDEMARK_DATA_DIR": str(directory),
                    **self.environ,
                    **environ,
                },
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self, worker: str) -> str:
        """What a worker has said so far."""
        return (self.data_dir(worker) / "worker.log").read_text(errors="replace")

    def kill(self, worker: str) -> None:
        """End a worker as a power failure would."""
        process = self.workers.pop(worker)
        process.kill()
        process.wait()

    def stop(self, worker: str) -> int:
        """Tell a worker to stop; returns its exit code."""
        process = self.workers.pop(worker)
        process.terminate()
        return process.wait(STOP_S_MAX)

    async def load(
        self,
        values: Sequence[bytes | None],
        *,
        partitions: Sequence[int] | None = None,
        times_ms: Sequence[int] | None = None,
    ) -> None:
        """Send values to the source topic, without a key: round robin, or to the partitions told.

        Kafka's times go up by a millisecond from `FIRST_MS`, unless others are told.
        """
        producer = BatchProducer(Cluster(self.settings))
        await producer.start()
        count, topic = self.settings.source_partitions, self.settings.source_topics[0]
        try:
            await producer.send(
                Outgoing(
                    topic,
                    partitions[n] if partitions else n % count,
                    None,
                    value,
                    times_ms[n] if times_ms else FIRST_MS + n,
                )
                for n, value in enumerate(values)
            )
        finally:
            await producer.stop()

    async def wait(self, timeout_s: float = 120) -> Arrival:
        """Wait until everything that was loaded has arrived in Postgres."""
        arrival = await wait_until_arrived(self.settings, timeout_s=timeout_s)
        tails = "\n".join(f"--- {worker}\n{self.log(worker)[-3000:]}" for worker in self.workers)
        assert not arrival.missing, f"{[str(each) for each in arrival.missing]}\n{tails}"
        return arrival

    async def connection(self) -> asyncpg.Connection:
        """A connection whose search path is the schema."""
        return await asyncpg.connect(self.settings.dsn, server_settings={"search_path": self.settings.schema})

    async def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Every public table, as rows by column."""
        connection = await self.connection()
        try:
            dumped = await queries.dump(connection, self.settings.schema)
        finally:
            await connection.close()
        return {
            table: [
                {
                    column.strip('"'): msgspec.json.decode(value)
                    if column in JSON_COLUMNS and value is not None
                    else value
                    for column, value in zip(queries.PUBLIC_COLUMNS[table][0], row, strict=True)
                }
                for row in rows
            ]
            for table, rows in dumped.items()
        }

    async def stats(self) -> queries.Stats:
        """The counters."""
        connection = await self.connection()
        try:
            return await queries.stats(connection, self.settings.app_version)
        finally:
            await connection.close()

    async def verified(self) -> Verification:
        """What `tidemark verify` finds."""
        database = Database(
            self.settings.dsn, self.settings.schema, application="tidemark-test", idle_in_transaction_ms=120_000
        )
        connection = await database.open()
        try:
            return await verify(self.settings, connection)
        finally:
            await connection.close()

    async def findings(self, *, unclaimed: Collection[tuple[str, str]] = ()) -> list[str]:
        """What is wrong with a system at rest: every table and counter is compared with the recomputation, and the
        tables with each other. `unclaimed` holds the pairs (anonymous leaf, user leaf) that are taken apart."""
        expected = recompute(await self.source_records(), claims=True, unclaimed=unclaimed)
        found = differences(expected, await self.tables())
        verification = await self.verified()
        counts = verification.counts
        counted = (counts.read, counts.applied, counts.duplicate, counts.quarantined)
        wanted = (expected.read, expected.applied, expected.duplicate, expected.quarantined)
        if counted != wanted:
            found.append(f"read, applied, duplicate, quarantined: expected {wanted}, found {counted}")
        if not verification.is_well:
            found.append(f"verify: {verification.to_builtins()}")
        return found

    async def source_records(self) -> list[Record]:
        """Everything that the source topic still holds, as the recomputation takes it."""
        topic = self.settings.source_topics[0]
        records: list[Record] = []
        async with Cluster(self.settings).consumer() as consumer:
            tps = [TopicPartition(topic, number) for number in range(self.settings.source_partitions)]
            consumer.assign(tps)
            starts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
            for tp, start in starts.items():
                consumer.seek(tp, start)
            while sum(ends.values()) - sum(starts.values()) > len(records):
                for tp, batch in (await consumer.getmany(timeout_ms=500)).items():
                    records += [Record(*tp, each.offset, each.timestamp, each.value) for each in batch]
        return records


@asynccontextmanager
async def pipeline(settings: Settings) -> AsyncIterator[Pipeline]:
    """An installation, prepared; its workers are ended with it."""
    made = Pipeline(settings)
    await made.prepare()
    try:
        yield made
    finally:
        for worker in list(made.workers):
            made.kill(worker)

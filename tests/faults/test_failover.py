"""How long a worker's partitions rest when it is killed or stopped under load, and that nothing comes of it.

From the signal until each partition of the sources and of the leaves topic that it had has a commit of its successor.
"""

import asyncio
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import msgspec
import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families

from contracts.settings import Settings
from examples.generate import generate
from streams.endpoint import read_whereabouts
from streams.engine.batches import Partition
from tests.acceptance.pipeline import Pipeline, pipeline
from tests.faults.outcomes import outcome_of, table
from tests.integration.worker_environment import WAIT_S, loading, stop_all, until

SEED = 20_261_128
BEFORE = 8_000
"""Messages that are in the state when the fault comes."""
DURING = 12_000
CHUNK, PAUSE_S = 100, 0.25
"""So that every partition has something to commit all the time, and the machine is not busy with it."""

SLACK = 2.0
"""The promised bounds are for a machine that has a core to spare; tests share theirs with broker and database."""

PROGRESS = "select topic, partition, owner, next_offset from progress where topic = any($1)"


@dataclass
class Case:
    how: str
    signal: signal.Signals
    bound_s: float
    """What is promised."""
    standby: bool = False
    loses_state: bool = False
    """Whether the successor has never had these partitions."""


CASES = (
    Case("killed", signal.SIGKILL, 15),
    Case("killed, successor without state", signal.SIGKILL, 15, loses_state=True),
    Case("killed, standby", signal.SIGKILL, 8, standby=True),
    Case("stopped", signal.SIGTERM, 3),
    Case("stopped, standby", signal.SIGTERM, 3, standby=True),
)


@asynccontextmanager
async def connected(running: Pipeline) -> AsyncIterator[asyncpg.Connection]:
    connection = await running.connection()
    try:
        yield connection
    finally:
        await connection.close()


async def owners(connection: asyncpg.Connection, settings: Settings) -> dict[Partition, tuple[str, int | None]]:
    """Owner and next offset of each partition that load is spread over."""
    rows = await connection.fetch(PROGRESS, [*settings.source_topics, settings.leaves_topic])
    return {Partition(row["topic"], row["partition"]): (row["owner"], row["next_offset"]) for row in rows}


def home(running: Pipeline, worker: str) -> Path:
    """Where a worker keeps what is its own."""
    return running.data_dir(worker) / "workers" / worker


async def standby_lags(running: Pipeline, worker: str) -> list[float]:
    """What each of a worker's standbys is behind."""
    where = read_whereabouts(home(running, worker) / "http.json")
    assert where is not None
    async with ClientSession() as session, session.get(f"http://{where.host}:{where.port}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    return [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "tidemark_standby_lag_records"
    ]


async def until_shared(running: Pipeline, connection: asyncpg.Connection, *, standby: bool) -> None:
    """Wait until both workers have leaves, everything loaded is processed, and standbys have caught up."""
    settings = running.settings
    parts = settings.leaves_partitions + settings.companies_partitions

    async def are_both_owners() -> bool:
        found = await owners(connection, settings)
        leaves = [owner for (topic, _), (owner, _) in found.items() if topic == settings.leaves_topic]
        return len(leaves) == settings.leaves_partitions and set(leaves) == {"a", "b"}

    async def are_standbys_there() -> bool:
        lags = [*await standby_lags(running, "a"), *await standby_lags(running, "b")]
        # Between them, the two keep every partition that the other one owns.
        return len(lags) == parts and not any(lags)

    await until(are_both_owners, "both workers to own leaves")
    await running.wait(WAIT_S)
    if standby:
        await until(are_standbys_there, "standbys to have caught up")


async def until_processed_again(
    running: Pipeline, connection: asyncpg.Connection, lost: set[Partition], since: float
) -> list[float]:
    """Seconds until each of the partitions of a worker has a commit of another one."""
    taken: dict[Partition, int | None] = {}
    again: dict[Partition, float] = {}

    async def are_all() -> bool:
        now = time.monotonic()
        for partition, (owner, at) in (await owners(connection, running.settings)).items():
            if partition in lost and owner != "a":
                if partition not in taken:
                    taken[partition] = at
                elif at != taken[partition]:
                    again.setdefault(partition, now - since)
        return again.keys() == lost

    await until(are_all, "all partitions to be processed again")
    return sorted(again.values())


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.how)
async def test_partitions_are_processed_again_in_time(settings: Settings, case: Case) -> None:
    values = [*generate(SEED, BEFORE + DURING, profile="load", users=3000)]
    settings = msgspec.structs.replace(settings, standby=case.standby, log_level="INFO")
    async with pipeline(settings) as running, connected(running) as connection:
        await running.load(values[:BEFORE])
        for worker in ("a", "b"):
            running.start(worker)
        await until_shared(running, connection, standby=case.standby)
        lost = {each for each, (owner, _) in (await owners(connection, settings)).items() if owner == "a"}
        if case.loses_state:
            for topic, number in lost:
                # Nobody has it open: a store is a cache.
                shutil.rmtree(home(running, "b") / "state" / f"{topic}-{number}", ignore_errors=True)
        async with loading(running, values[BEFORE:], CHUNK, PAUSE_S):
            await asyncio.sleep(3)
            process = running.workers.pop("a")
            since = time.monotonic()
            process.send_signal(case.signal)
            again_s = await until_processed_again(running, connection, lost, since)
            code = await asyncio.to_thread(process.wait)
        assert code == (0 if case.signal == signal.SIGTERM else -signal.SIGKILL), running.log("a")[-5000:]
        outcome = await outcome_of(running, since)
        stop_all(running)
    table(
        "Failover",
        "how",
        "partitions",
        "first again after s",
        "all again after s",
        "promised",
        "messages",
        "lost",
        "twice",
    ).add(case.how, len(lost), again_s[0], again_s[-1], case.bound_s, outcome.messages, outcome.lost, outcome.doubled)
    assert outcome.findings == []
    assert again_s[-1] < case.bound_s * SLACK

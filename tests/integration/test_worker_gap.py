"""A source topic whose retention overtakes the workers: what was never read is counted as a gap (SEMANTICS S12)."""

from collections.abc import Mapping

import aiohttp

from contracts.settings import Settings
from operations.stats import read_report
from sinks.postgres.database import Database
from tests.acceptance.pipeline import Pipeline, pipeline
from tests.integration.test_worker_health import Worker, whereabouts
from tests.integration.topics_environment import cut
from tests.integration.worker_environment import (
    WAIT_S,
    assert_alive,
    ended,
    paused,
    sample,
    settled,
    stop_all,
)
from tests.oracle import Record, differences, recompute


async def assert_gap(running: Pipeline, count: int, records: list[Record]) -> None:
    """All has arrived: `records` were read, `count` others had been deleted before."""
    await running.wait(WAIT_S)
    expected = recompute(records, claims=True)
    stats = await running.stats()
    assert (stats.gap, stats.read, stats.applied, stats.duplicate, stats.quarantined, stats.in_flight) == (
        count,
        expected.read,
        expected.applied,
        expected.duplicate,
        expected.quarantined,
        0,
    )
    assert differences(expected, await running.tables()) == []
    assert_alive(running)


async def gap_metric(running: Pipeline, worker: str) -> float:
    """What a worker tells Prometheus."""
    async with aiohttp.ClientSession() as session:
        metrics = await Worker(session, await whereabouts(running, worker)).metrics()
    return metrics["tidemark_records_gap_total", running.settings.source_topics[0]]


def left(records: list[Record], deleted: Mapping[int, range]) -> list[Record]:
    """The records but those whose offsets were deleted, by partition."""
    return [record for record in records if record.offset not in deleted[record.partition]]


async def test_what_a_sources_retention_deletes_unread_is_counted_as_a_gap(settings: Settings) -> None:
    """Once, beside what was read: first of a worker that is stopped, then of one that runs."""
    source, values = settings.source_topics[0], sample()
    async with pipeline(settings) as running:
        running.start("a")
        await running.load(values[:400])
        await settled(running)
        stop_all(running)
        await running.load(values[400:700])
        # The whole of what is unread in one partition, a half of it in the other.
        records = left(await running.source_records(), {0: range(200, 350), 1: range(200, 275)})
        await cut(settings, source, {0: 350, 1: 275})
        running.start("b")
        await assert_gap(running, 225, records)
        assert f"{source}/0: its retention has deleted 150 records that were not read yet" in running.log("b")
        assert await gap_metric(running, "b") == 225

        async with paused(running, "b"):
            await running.load(values[700:900])
            records += left(await running.source_records(), {0: range(400), 1: range(350)})
            await cut(settings, source, {0: 400})
        assert f"Kafka has no record at {source}/0 at offset 350 any more" in await ended(running, "b")
        running.start("b")
        await assert_gap(running, 275, records)

        # Their place is kept: whoever comes next finds no gap.
        stop_all(running)
        running.start("c")
        await running.load(values[900:1000])
        records += left(await running.source_records(), {0: range(450), 1: range(450)})
        await assert_gap(running, 275, records)
        assert await gap_metric(running, "c") == 0
        connection = await Database(settings.dsn, settings.schema).open()
        try:
            assert (await read_report(settings, connection)).to_builtins()["gap"] == 275
        finally:
            await connection.close()
        stop_all(running)

"""Waiting: for the source, three times for the leaves, for companies and quarantine; on real services, the worker's
part played by moving the rows of progress."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contracts.errors import ServiceError
from contracts.settings import Settings
from operations.stats import read_report, topic_limits
from operations.wait import Missing, wait_until_arrived
from sinks.postgres.database import Connection, Database
from sinks.postgres.migration import migrate
from sinks.postgres.progress import take
from streams.engine.cluster import Cluster
from streams.engine.producer import BatchProducer, Outgoing
from streams.topics import create_topics, topic_specs
from tests.integration.test_cli_load import load_bytes


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[Connection]:
    await create_topics(Cluster(settings), topic_specs(settings))
    await migrate(settings.dsn, settings.schema)
    connection = await Database(settings.dsn, settings.schema).open()
    yield connection
    await connection.close()


async def reach_ends(settings: Settings, connection: Connection, *topics: str) -> None:
    """Move progress to the ends, as a worker would that has processed everything."""
    for partition, limits in (await topic_limits(Cluster(settings), topics)).items():
        await take(connection, settings.app_version, *partition, "test")
        await connection.execute(
            "update progress set next_offset = $4 where app_version = $1 and topic = $2 and partition = $3",
            settings.app_version,
            *partition,
            limits.end,
        )


async def write(settings: Settings, topic: str) -> None:
    producer = BatchProducer(Cluster(settings))
    await producer.start()
    await producer.send([Outgoing(topic, 0, b"k", b"v", 1)])
    await producer.stop()


async def test_empty_topics_are_waited_for_no_longer(settings: Settings, connection: Connection):
    assert (await wait_until_arrived(settings)).missing == ()


async def test_what_is_missing_is_told(settings: Settings, connection: Connection, tmp_path: Path):
    (source,) = settings.source_topics
    await load_bytes(settings, tmp_path / "f", b"1\n2\n3\n")
    arrival = await wait_until_arrived(settings, timeout_s=0.3)
    assert arrival.missing == (Missing(source, 0, 0, 2), Missing(source, 1, 0, 1))
    assert str(arrival.missing[0]) == f"{source}/0 is at 0 of 2"


async def test_what_comes_after_the_call_is_not_waited_for(settings: Settings, connection: Connection, tmp_path: Path):
    await load_bytes(settings, tmp_path / "f", b"1\n2\n")
    waiting = asyncio.create_task(wait_until_arrived(settings, timeout_s=60))
    limits = await topic_limits(Cluster(settings), settings.source_topics)
    await asyncio.sleep(0.5)
    await load_bytes(settings, tmp_path / "f", b"3\n4\n")
    assert not waiting.done()
    for partition, limit in limits.items():
        await take(connection, settings.app_version, *partition, "test")
        await connection.execute(
            "update progress set next_offset = $1 where topic = $2 and partition = $3", limit.end, *partition
        )
    assert (await waiting).missing == ()


@pytest.mark.parametrize("role", ["leaves", "companies", "quarantine"])
async def test_what_follows_is_waited_for(settings: Settings, connection: Connection, role: str):
    topic = getattr(settings, f"{role}_topic")
    await write(settings, topic)
    arrival = await wait_until_arrived(settings, timeout_s=0.3)
    assert [(missing.topic, missing.partition) for missing in arrival.missing] == [(topic, 0)]
    await reach_ends(settings, connection, topic)
    assert (await wait_until_arrived(settings, timeout_s=60)).missing == ()


async def test_what_a_leaf_writes_meanwhile_is_waited_for(settings: Settings, connection: Connection):
    """A claim that a message makes, and a contribution that a claim makes, come after the ends were first taken."""
    for _ in range(2):
        await write(settings, settings.leaves_topic)
    roles: list[str] = []

    def told(role: str, missing: object) -> None:
        if not missing:
            roles.append(role)

    waiting = asyncio.create_task(wait_until_arrived(settings, timeout_s=60, on_progress=told))
    await asyncio.sleep(0.3)
    await reach_ends(settings, connection, settings.leaves_topic)
    assert (await waiting).missing == ()
    assert roles == ["source", "leaves", "leaves", "leaves", "companies", "quarantine", "types"]


async def test_rows_of_another_type_are_waited_for(settings: Settings, connection: Connection):
    await take(connection, settings.app_version, settings.leaves_topic, 0, "test")
    await connection.execute(
        "insert into attribute_definitions (scope, name, type, source, version) values ('user', 'a', 'string', 'me', 7)"
    )
    (missing,) = (await wait_until_arrived(settings, timeout_s=0.3)).missing
    assert str(missing) == f"{settings.leaves_topic}/0 has rows by definitions 0 of 7"
    await connection.execute("update progress set definitions_version = 7")
    assert (await wait_until_arrived(settings, timeout_s=60)).missing == ()


async def test_topics_that_are_not_there_are_told(settings: Settings):
    with pytest.raises(ServiceError, match="tidemark topics create"):
        await wait_until_arrived(settings)


async def test_lag_and_counters_are_reported(settings: Settings, connection: Connection, tmp_path: Path):
    (source,) = settings.source_topics
    await load_bytes(settings, tmp_path / "f", b"1\n2\n3\n")
    report = (await read_report(settings, connection)).to_builtins()
    assert report["lag"][source] == {0: 2, 1: 1}
    assert set(report) == {"read", "applied", "duplicate", "in_flight", "quarantined", "gap", "warnings", "lag"}
    await reach_ends(settings, connection, source)
    assert (await read_report(settings, connection)).lag[source] == {0: 0, 1: 0}

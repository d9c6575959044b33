"""Loading lines onto a real topic: bytes as they are, spread over partitions, as fast or as slow as told."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from contracts.errors import ServiceError
from contracts.settings import Settings
from operations.load import LineTooLongError, Loaded, load
from streams.engine.cluster import Cluster, bounds
from streams.topics import create_topics, topic_specs


@pytest.fixture
async def topics(settings: Settings) -> Settings:
    await create_topics(Cluster(settings), topic_specs(settings))
    return settings


async def load_bytes(settings: Settings, path: Path, content: bytes, **options) -> Loaded:
    path.write_bytes(content)  # noqa: ASYNC240 - a small file of a test
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return await load(settings, descriptor, **options)
    finally:
        os.close(descriptor)


async def read_all(settings: Settings) -> dict[int, list[ConsumerRecord]]:
    """Every record of the source topic by partition, in order."""
    async with Cluster(settings).consumer() as consumer:
        partitions = [TopicPartition(settings.source_topics[0], n) for n in range(settings.source_partitions)]
        limits = await bounds(consumer, partitions)
        consumer.assign(partitions)
        found: dict[int, list[ConsumerRecord]] = {partition.partition: [] for partition in partitions}
        for partition, limit in limits.items():
            consumer.seek(partition, limit.start)
        while any(len(found[partition.partition]) < limit.end for partition, limit in limits.items()):
            for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                found[partition.partition].extend(records)
        return found


def values(found: dict[int, list[ConsumerRecord]]) -> list[bytes]:
    return [record.value for records in found.values() for record in records]


async def test_each_line_is_one_value_with_its_bytes(topics: Settings, tmp_path: Path):
    lines = [b'{"a":1}', b"", b"\xff\xfe", b"with\r", b"\xef\xbb\xbf{}", b"last, without an end"]
    told = await load_bytes(topics, tmp_path / "f", b"\n".join(lines), headers=[("k", b"v"), ("k", b"")])
    found = await read_all(topics)
    assert sorted(values(found)) == sorted(lines)
    assert (told.lines, told.bytes) == (6, len(b"\n".join(lines)))
    for records in found.values():
        for record in records:
            assert record.key is None
            assert record.headers == (("k", b"v"), ("k", b""))


async def test_an_empty_line_is_an_empty_value_and_no_tombstone(topics: Settings, tmp_path: Path):
    await load_bytes(topics, tmp_path / "f", b"\n\n")
    assert values(await read_all(topics)) == [b"", b""]


async def test_an_empty_file_loads_nothing(topics: Settings, tmp_path: Path):
    assert (await load_bytes(topics, tmp_path / "f", b"")).lines == 0


async def test_lines_are_spread_evenly_and_keep_their_order(topics: Settings, tmp_path: Path):
    lines = [b"%07d%s" % (n, b"x" * (n % 900)) for n in range(20_001)]
    await load_bytes(topics, tmp_path / "f", b"".join(line + b"\n" for line in lines))
    found = await read_all(topics)
    assert [len(records) for records in found.values()] == [10_001, 10_000]
    for records in found.values():
        numbers = [int(record.value[:7]) for record in records]
        assert numbers == sorted(numbers)
    assert sorted(values(found)) == lines


async def test_a_large_line_is_loaded_and_a_larger_one_told(topics: Settings, tmp_path: Path):
    large = b"y" * (8 * 2**20 - 4096)
    await load_bytes(topics, tmp_path / "f", large + b"\n")
    assert [len(value) for value in values(await read_all(topics))] == [len(large)]
    with pytest.raises(LineTooLongError, match="line 2 has 9,000,000 bytes"):
        await load_bytes(topics, tmp_path / "f", b"{}\n" + b"y" * 9_000_000)


async def test_a_pipe_is_read_as_it_comes(topics: Settings):
    reading, writing = os.pipe()
    loading = asyncio.create_task(load(topics, reading))
    try:
        os.write(writing, b"one\ntw")
        while values(await read_all(topics)) != [b"one"]:  # noqa: ASYNC110 - what is waited for is in Kafka
            await asyncio.sleep(0.05)
        os.write(writing, b"o\n")
        os.close(writing)
        assert (await loading).lines == 2
    finally:
        os.close(reading)
    assert sorted(values(await read_all(topics))) == [b"one", b"two"]


async def test_waiting_for_a_pipe_can_be_cancelled(topics: Settings):
    reading, writing = os.pipe()
    loading = asyncio.create_task(load(topics, reading))
    await asyncio.sleep(0.2)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    os.close(reading)
    os.close(writing)


async def test_a_rate_is_kept(topics: Settings, tmp_path: Path):
    seen: list[tuple[int, int]] = []

    def note(lines: int, size: int) -> None:
        seen.append((lines, size))

    told = await load_bytes(topics, tmp_path / "f", b"{}\n" * 100, rate=200, on_loaded=note)
    assert told.lines == 100
    # 5 % of a second at a time: ten lines.
    assert steps([lines for lines, _ in seen]) == [10] * 10
    assert seen[-1] == (100, 300)


def steps(numbers: Sequence[int]) -> list[int]:
    return [after - before for before, after in zip([0, *numbers], numbers, strict=False)]


async def test_a_topic_that_is_not_there_is_told(topics: Settings, tmp_path: Path):
    with pytest.raises(ServiceError, match="tidemark topics create"):
        await load_bytes(topics, tmp_path / "f", b"{}\n", topic=f"{topics.source_topics[0]}-x")

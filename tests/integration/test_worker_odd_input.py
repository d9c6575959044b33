"""Every odd line that a real topic carries, through a whole worker (SEMANTICS S12)."""

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from contracts.settings import Settings
from examples.odd_lines import big_lines, odd_lines
from streams.engine.cluster import Cluster
from streams.engine.producer import BatchProducer, Outgoing
from tests.acceptance.pipeline import pipeline
from tests.integration.worker_environment import settled, stop_all
from tests.twins import TWINS


@pytest.mark.parametrize("is_native", TWINS)
async def test_every_odd_line_ends_as_the_generator_says(settings: Settings, is_native: bool) -> None:
    lines = [*odd_lines(), *big_lines()]
    values: list[bytes | None] = [line.value for line in lines]
    settings = msgspec.structs.replace(settings, source_partitions=1, native="on" if is_native else "off")
    async with pipeline(settings) as running:
        running.start("w")
        await running.load([*values, None])
        expected = await settled(running)
        quarantine = {row["offset"]: row for row in (await running.tables())["quarantine"]}
        ended = {line.label: quarantine[at]["reason"] if at in quarantine else None for at, line in enumerate(lines)}
        assert ended == {line.label: line.reason for line in lines}
        for at, line in enumerate(lines):
            if line.reason is not None:
                assert quarantine[at]["raw"] == line.value, line.label
                assert quarantine[at]["detail"], line.label
        # A tombstone has no bytes to keep.
        tombstone = quarantine[len(lines)]
        assert (tombstone["reason"], tombstone["raw"]) == ("invalid_json", b"")
        assert expected.applied + expected.duplicate == sum(line.reason is None for line in lines)
        stop_all(running)


@pytest.mark.parametrize("is_native", TWINS)
async def test_odd_keys_headers_and_times_of_records(settings: Settings, is_native: bool) -> None:
    """Whatever else a record carries beside its value, and however its batch is compressed."""
    settings = msgspec.structs.replace(settings, source_partitions=1, native="on" if is_native else "off")
    topic = settings.source_topics[0]

    def page(number: int) -> bytes:
        return b'{"type":"page","messageId":"m%d","userId":"u%d","properties":{"path":"/"}}' % (number, number % 3)

    carried = [
        (None, []),
        (b"", []),
        (b"\xff\xfe\x00", [("tidemark-origin", b"forged")]),
        (b"u1", [("tidemark-kind", b"claim"), ("tidemark-reason", b"\xff"), ("x" * 1000, b"")]),
        (b"k" * 100_000, [("a", b"1"), ("a", b"2")]),
    ]
    times = [0, 1, 1_795_000_000_000, 86_400_000]
    records = [
        Outgoing(topic, 0, key, page(n), times[n % len(times)], headers)
        for n, (key, headers) in enumerate(carried * len(times))
    ]
    async with pipeline(settings) as running:
        running.start("w")
        producer = BatchProducer(Cluster(settings))
        await producer.start()
        await producer.send(records)
        await producer.stop()
        compressed = 0
        for compression in ("gzip", "snappy", "lz4", "zstd"):
            other = AIOKafkaProducer(**Cluster(settings).client_options, compression_type=compression)
            await other.start()
            for number in range(200):
                await other.send(topic, page(len(records) + compressed + number), partition=0)
            await other.stop()
            compressed += 200
        expected = await settled(running)
        assert expected.applied == len(records) + compressed
        stop_all(running)

"""Lines of a file onto a topic, each one record value with its bytes as they are, like Segment's own sink."""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from contracts.errors import ServiceError, TidemarkError
from contracts.settings import Settings
from streams.engine.cluster import Cluster, partition_counts
from streams.engine.producer import BatchProducer, Outgoing

CHUNK_BYTES: Final = 1024 * 1024
"""Read at once: some batches for each partition, little beside the memory of a broker's client."""

SENDS_MAX: Final = 3
"""Chunks on their way at a time: one is read while others are acknowledged."""

LINE_BYTES_MAX: Final = 64 * 1024 * 1024
"""A line without an end is told instead of filling memory; no topic takes records of this size."""

PACED_S: Final = 0.05
"""With a rate, so much of a second's lines are sent at once."""

_BATCH_OVERHEAD_BYTES: Final = 512
"""A record batch's own header, and the record's lengths, beside value and headers."""


class LineTooLongError(TidemarkError):
    """A line is longer than the topic takes."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was loaded, and in what time."""

    lines: int
    bytes: int
    seconds: float

    @property
    def rate(self) -> float:
        """Lines a second."""
        return self.lines / self.seconds if self.seconds else 0.0


OnLoaded = Callable[[int, int], None]
"""Told of lines and bytes (line ends included) that were acknowledged."""


class LineSplitter:
    """Cuts chunks of bytes into lines. The line end is a line feed alone; the last line needs none."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._rest_bytes = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that end in this chunk. Raises LineTooLongError."""
        lines = chunk.split(b"\n")
        if len(lines) > 1 and self._rest:
            lines[0] = b"".join((*self._rest, lines[0]))
            self._rest, self._rest_bytes = [], 0
        last = lines.pop()
        if last:
            self._rest.append(last)
            self._rest_bytes += len(last)
            if self._rest_bytes > LINE_BYTES_MAX:
                raise LineTooLongError(
                    f"expected lines of at most {LINE_BYTES_MAX // 2**20} MiB, each ended by a line feed; one is "
                    "longer. Is the file one message a line?"
                )
        return lines

    def end(self) -> list[bytes]:
        """The last line, where it has no line end."""
        rest, self._rest = self._rest, []
        return [b"".join(rest)] if rest else []


async def read_chunks(descriptor: int) -> AsyncIterator[bytes]:
    """What a file descriptor gives, as it comes. Waiting for a pipe can be cancelled."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, AttributeError):
        # A pipe of Linux holds 64 KiB by default: too little to keep batches large. Nothing else has such a size.
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, CHUNK_BYTES)
    while True:
        ready = loop.create_future()
        try:
            loop.add_reader(descriptor, _note_ready, loop, descriptor, ready)
        except PermissionError:
            # epoll takes no regular file: that is always ready.
            await asyncio.sleep(0)
        else:
            try:
                await ready
            finally:
                loop.remove_reader(descriptor)
        chunk = os.read(descriptor, CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


def _note_ready(loop: asyncio.AbstractEventLoop, descriptor: int, ready: "asyncio.Future[None]") -> None:
    # Once only: a second call for what is read by then would let the next read block.
    loop.remove_reader(descriptor)
    if not ready.done():
        ready.set_result(None)


async def load(
    settings: Settings,
    descriptor: int,
    *,
    topic: str | None = None,
    rate: float | None = None,
    headers: Sequence[tuple[str, bytes]] = (),
    on_loaded: OnLoaded | None = None,
) -> Loaded:
    """Send each line of an open file to `topic` (the first source topic), without a key, round robin.

    An empty line is an empty value. `rate` is lines a second, at most. Raises ServiceError when there is no such
    topic, LineTooLongError when a line is longer than it takes: all lines before that one's chunk are loaded then.
    """
    topic = topic or settings.source_topics[0]
    cluster = Cluster(settings)
    partitions, value_bytes_max = await _target(cluster, topic, headers)
    producer = BatchProducer(cluster)
    await producer.start()
    loading = _Loading(
        producer=producer,
        topic=topic,
        partitions=partitions,
        value_bytes_max=value_bytes_max,
        headers=list(headers),
        rate=rate,
        on_loaded=on_loaded,
    )
    splitter = LineSplitter()
    try:
        async for chunk in read_chunks(descriptor):
            await loading.take(splitter.feed(chunk))
        await loading.take(splitter.end(), ended=False)
        await loading.finish()
    finally:
        await loading.drop()
        await producer.stop()
    return loading.loaded()


async def _target(cluster: Cluster, topic: str, headers: Sequence[tuple[str, bytes]]) -> tuple[int, int]:
    """Partitions of a topic, and the longest value that it takes beside `headers`."""
    async with cluster.admin() as admin:
        counts = await partition_counts(admin, [topic])
        if topic not in counts:
            raise ServiceError(
                f"expected topic {topic!r} to exist; it does not. Run tidemark topics create, or name another --topic."
            )
        limit = 0
        try:
            wanted = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": None})
            for answer in await admin.describe_configs([wanted]):
                for resource in answer.to_object()["resources"]:
                    for entry in resource["config_entries"]:
                        limit = int(entry["config_value"])
        except (KafkaError, KeyError, ValueError):
            # Not everybody may ask: then the broker will tell.
            limit = 0
    of_headers = sum(len(name.encode()) + len(value) + 10 for name, value in headers)
    return counts[topic], (limit or LINE_BYTES_MAX) - of_headers - _BATCH_OVERHEAD_BYTES


@dataclass(slots=True)
class _Loading:
    """Lines on their way: at most SENDS_MAX chunks at a time, in order within a partition."""

    producer: BatchProducer
    topic: str
    partitions: int
    value_bytes_max: int
    headers: list[tuple[str, bytes]]
    rate: float | None
    on_loaded: OnLoaded | None
    began: float = field(default_factory=time.monotonic)
    taken: int = 0
    """Lines that were handed to a send."""
    lines: int = 0
    size: int = 0
    sends: list[asyncio.Task[None]] = field(default_factory=list)

    async def take(self, lines: Sequence[bytes], *, ended: bool = True) -> None:
        """Send lines; `ended` tells whether each had a line end, for the count of bytes."""
        for part in self._parts(lines):
            await self._keep_pace()
            run = self._run(part)
            size = sum(map(len, part)) + (len(part) if ended else 0)
            while len(self.sends) >= SENDS_MAX:
                await self.sends.pop(0)
            self.sends.append(asyncio.create_task(self._send(run, size)))

    def _parts(self, lines: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
        size = len(lines) if self.rate is None else max(1, int(self.rate * PACED_S))
        for begin in range(0, len(lines), size or 1):
            yield lines[begin : begin + size]

    async def _keep_pace(self) -> None:
        if self.rate is not None:
            await asyncio.sleep(max(0.0, self.began + self.taken / self.rate - time.monotonic()))

    def _run(self, lines: Sequence[bytes]) -> list[Outgoing]:
        topic, partitions, headers = self.topic, self.partitions, self.headers
        now_ms = time.time_ns() // 1_000_000
        first = self.taken
        if max(map(len, lines)) > self.value_bytes_max:
            number, line = next(
                (first + at, line) for at, line in enumerate(lines, 1) if len(line) > self.value_bytes_max
            )
            raise LineTooLongError(
                f"line {number} has {len(line):,} bytes; topic {topic} takes at most {self.value_bytes_max:,}. "
                f"About {first:,} lines before it were loaded. Raise max.message.bytes of the topic, or leave it out."
            )
        self.taken += len(lines)
        return [
            Outgoing(topic, number % partitions, None, line, now_ms, headers)
            for number, line in enumerate(lines, first)
        ]

    async def _send(self, run: list[Outgoing], size: int) -> None:
        await self.producer.send(run)
        self.lines += len(run)
        self.size += size
        if self.on_loaded is not None:
            self.on_loaded(self.lines, self.size)

    async def finish(self) -> None:
        """Return once every line is acknowledged."""
        await asyncio.gather(*self.sends)

    async def drop(self) -> None:
        """Let go of what is on its way."""
        for send in self.sends:
            send.cancel()
        await asyncio.gather(*self.sends, return_exceptions=True)

    def loaded(self) -> Loaded:
        """What was acknowledged so far."""
        return Loaded(self.lines, self.size, time.monotonic() - self.began)

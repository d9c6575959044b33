"""A migrated schema with a writer, and a proxy that cuts connections, for the tests of the sink."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

from contracts.rows import EventOccurrence, PageView, Profile
from sinks.postgres.batch import Batch, Move
from sinks.postgres.database import Connection, Database
from sinks.postgres.migration import migrate
from sinks.postgres.progress import Progress, read_progress, take
from sinks.postgres.queries import dump
from sinks.postgres.staging import RowEncoder
from sinks.postgres.writer import Writer

APP = "v1"
SCHEMA = "tidemark"
TOPIC = "leaves"
TIME_US = 1_700_000_000_000_000
"""2023-11-14T22:13:20Z."""
DAY_US = 86_400_000_000


def view(n: int, *, time_us: int = TIME_US, properties: str = "{}", leaf: str = "user:u1") -> PageView:
    return PageView(f"m{n}", leaf, "page", time_us, "https://a.example/", "/", None, None, None, properties)


def occurrence(n: int, *, time_us: int = TIME_US, properties: str = "{}") -> EventOccurrence:
    return EventOccurrence(f"m{n}", "user:u1", "Order Completed", time_us, properties, None)


def whole(profile_id: str = "user:u1", *, email: str | None = None, views: int = 0, attributes: str = "{}") -> Profile:
    user_id = profile_id.removeprefix("user:") if profile_id.startswith("user:") else None
    return Profile(profile_id, user_id, views, TIME_US, None, (email, *(None,) * 18), attributes)


class Sink:
    """A schema of its own, and what a test does with it."""

    def __init__(self, dsn: str, connection: Connection, row_encoder: RowEncoder | None) -> None:
        self.dsn = dsn
        self._row_encoder = row_encoder
        self.connection = connection
        """For looking; the writer has another."""
        self.databases: list[Database] = []
        self.writer = self.new_writer()

    def new_writer(self, dsn: str | None = None, **limits: int) -> Writer:
        database = Database(
            dsn or self.dsn, SCHEMA, application="tidemark-test", row_encoder=self._row_encoder, **limits
        )
        self.databases.append(database)
        return Writer(database, APP)

    async def take(self, partition: int = 0, owner: str = "w1", *, topic: str = TOPIC) -> Progress:
        return await take(self.connection, APP, topic, partition, owner)

    async def stands(self, partition: int = 0) -> Progress:
        return (await read_progress(self.connection, APP))[TOPIC, partition]

    async def dump(self):
        return await dump(self.connection, SCHEMA)

    async def step(self, batch: Batch, **counts) -> list:
        """Commit a batch as the next step of partition 0."""
        now = await self.stands()
        start = now.next_offset or 0
        move = Move(TOPIC, 0, now.epoch, start, start + 10, **counts)
        batch.progress = [move]
        return await self.writer.commit(batch)


@contextlib.asynccontextmanager
async def open_sink(dsn: str, row_encoder: RowEncoder | None = None) -> AsyncIterator[Sink]:
    await migrate(dsn, SCHEMA)
    looking = Database(dsn, SCHEMA)
    sink = Sink(dsn, await looking.open(), row_encoder)
    try:
        yield sink
    finally:
        await sink.connection.close()
        for database in sink.databases:
            await database.close()


class Proxy:
    """Stands between a client and Postgres, and cuts the connection where it is told to.

    Its traffic is not encrypted, so that it can wait for bytes that the server sends.
    """

    def __init__(self, dsn: str) -> None:
        self._target = urlsplit(dsn)
        self.dsn = ""
        self.cut_before_request = False
        """Cut at the next request, before the server has seen it."""
        self.cut_at_reply: bytes | None = None
        """Cut at the reply that holds these bytes, before the client has seen it."""
        self.cut_after_bytes: int | None = None
        """Cut after so many further bytes of requests."""
        self.stall_after_bytes: int | None = None
        """Pass on so many further bytes of requests, then nothing until `goes_on`: as a process that was stopped."""
        self.bad_line: random.Random | None = None
        """Pass everything on in pieces of any size, some of them late, and cut now and then."""
        self.cut_odds = 0.0
        """How often a piece on a bad line is the last one of its connection, which passes on half of it."""
        self.stalled = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.cuts = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["Proxy"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        port = server.sockets[0].getsockname()[1]
        user = self._target.netloc.rpartition("@")[0]
        netloc = f"{user}@127.0.0.1:{port}" if user else f"127.0.0.1:{port}"
        self.dsn = urlunsplit(self._target._replace(netloc=netloc, query="sslmode=disable"))
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        try:
            up_reader, up_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            writer.transport.abort()  # what a client is told where nobody listens
            return
        self._tasks.add(task)
        ways = [
            asyncio.create_task(self._requests(reader, up_writer)),
            asyncio.create_task(self._replies(up_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # the end of the proxy: asyncio would log a server's task that ends by it
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for each in (writer, up_writer):
                each.transport.abort()
            self._tasks.discard(task)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.cut_before_request:
                self.cut_before_request = False
                self.cuts += 1
                return
            if self.stall_after_bytes is not None:
                passed = min(len(data), self.stall_after_bytes)
                writer.write(data[:passed])
                self.stall_after_bytes -= passed
                if self.stall_after_bytes:
                    continue
                self.stalled.set()
                await self.goes_on.wait()
                data = data[passed:]
            if self.cut_after_bytes is not None:
                data = data[: self.cut_after_bytes]
                self.cut_after_bytes -= len(data)
                if not self.cut_after_bytes:
                    self.cut_after_bytes = None
                    writer.write(data)
                    await writer.drain()
                    self.cuts += 1
                    return
            if self.bad_line is not None:
                if not await self._passed_on(data, writer, self.bad_line):
                    return
                continue
            writer.write(data)
            await writer.drain()

    async def _passed_on(self, data: bytes, writer: asyncio.StreamWriter, rng: random.Random) -> bool:
        while data:
            size = rng.choice((1, 5, 100, 1000, 20_000, 65_536))
            piece, data = data[:size], data[size:]
            is_last = rng.random() < self.cut_odds
            writer.write(piece[: len(piece) // 2] if is_last else piece)
            await writer.drain()
            if is_last:
                self.cuts += 1
                return False
            await asyncio.sleep(rng.choice((0, 0, 0, 0.001, 0.02)))
        return True

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self.cut_at_reply is not None and self.cut_at_reply in data:
                self.cut_at_reply = None
                self.cuts += 1
                return
            if self.bad_line is not None:
                if not await self._passed_on(data, writer, self.bad_line):
                    return
                continue
            writer.write(data)
            await writer.drain()

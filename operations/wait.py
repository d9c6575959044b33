"""Waiting until everything in the source topics has ended in Postgres, and so has everything that follows from it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from contracts.errors import ServiceError
from contracts.settings import Settings
from operations.stats import position
from sinks.postgres.database import Connection, Database
from sinks.postgres.progress import Progress, read_progress
from sinks.postgres.statements import statement
from streams.engine.cluster import Bounds, Cluster, bounds, partition_counts

Result = TypeVar("Result")

ROUNDS: Final = 3
"""A message makes a claim, a claim a contribution: each is a record of the leaves topic that the one before has
written before its own progress moved. So the third end that is reached has nothing behind it."""

STANDSTILL_S: Final = 300.0
"""Without a time limit: after so long without any progress nobody is at work. Restoring a large state from its
changelog, during which nothing moves either, takes less."""

_POLL_S: Final = 0.1
_AGAIN_S: Final = 1.0
"""How long a Kafka that does not answer is left alone."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A partition that has not reached its target."""

    topic: str
    partition: int
    position: int
    target: int
    is_of_types: bool = False
    """Whether the two are versions of the definitions: rows are still of a type that was changed; else offsets."""

    def __str__(self) -> str:
        what = "has rows by definitions" if self.is_of_types else "is at"
        return f"{self.topic}/{self.partition} {what} {self.position} of {self.target}"


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a wait ended: with nothing missing, or with what is."""

    missing: tuple[Missing, ...]
    seconds: float


OnProgress = Callable[[str, Sequence[Missing]], None]
"""Told of the topics' role that is waited for, and of what is missing of it."""


async def wait_until_arrived(
    settings: Settings, *, timeout_s: float | None = None, on_progress: OnProgress | None = None
) -> Arrival:
    """Wait for what is in the source topics now, and for what follows from it.

    1. the source topics' ends, as they are now, are reached by the routers;
    2. three times in a row, the leaves topic's ends are taken and reached;
    3. then those of the companies topic, and
    4. of the quarantine;
    5. rows of profiles and companies are of the types that attributes have now.

    Without `timeout_s` it gives up when nothing has moved for STANDSTILL_S. Kafka or Postgres being away counts as
    standing still. Raises ServiceError when a topic does not exist.
    """
    wait = _Wait(settings, timeout_s, on_progress)
    try:
        await wait.start()
        await wait.reach("source", settings.source_topics)
        for _ in range(ROUNDS):
            await wait.reach("leaves", (settings.leaves_topic,))
        await wait.reach("companies", (settings.companies_topic,))
        await wait.reach("quarantine", (settings.quarantine_topic,))
        await wait.reach_types("types")
    except TimeoutError:
        return Arrival(wait.missing, wait.elapsed_s())
    finally:
        await wait.stop()
    return Arrival((), wait.elapsed_s())


async def wait_until_decided(
    settings: Settings, *, standstill_s: float = STANDSTILL_S, on_progress: OnProgress | None = None
) -> Arrival:
    """Wait until what is in the leaves topic now is decided, and what was refused of it is in the quarantine again.

    Gives up when nothing has moved for `standstill_s`. Raises ServiceError when a topic does not exist.
    """
    wait = _Wait(settings, None, on_progress, standstill_s)
    try:
        await wait.start()
        await wait.reach("leaves", (settings.leaves_topic,))
        await wait.reach("quarantine", (settings.quarantine_topic,))
    except TimeoutError:
        return Arrival(wait.missing, wait.elapsed_s())
    finally:
        await wait.stop()
    return Arrival((), wait.elapsed_s())


class _Wait:
    """One wait: its clock, its connections, and what is missing at the moment."""

    def __init__(
        self,
        settings: Settings,
        timeout_s: float | None,
        on_progress: OnProgress | None,
        standstill_s: float = STANDSTILL_S,
    ) -> None:
        self.missing: tuple[Missing, ...] = ()
        self._settings = settings
        self._cluster = Cluster(settings)
        self._database = Database(settings.dsn, settings.schema, application="tidemark-wait")
        self._connections = AsyncExitStack()
        self._on_progress = on_progress
        self._timeout_s = timeout_s
        self._standstill_s = standstill_s
        self._began = self._moved = time.monotonic()

    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    async def start(self) -> None:
        topics = (
            *self._settings.source_topics,
            self._settings.leaves_topic,
            self._settings.companies_topic,
            self._settings.quarantine_topic,
        )
        async with self._cluster.admin() as admin:
            self._counts = await partition_counts(admin, topics)
        absent = [topic for topic in topics if topic not in self._counts]
        if absent:
            raise ServiceError(
                f"expected topics {', '.join(absent)} to exist; they do not. Run tidemark topics create, "
                "or see that source_topics and app_version are those of the workers."
            )
        self._consumer = await self._connections.enter_async_context(self._cluster.consumer())

    async def stop(self) -> None:
        await self._database.close()
        await self._connections.aclose()

    async def reach(self, role: str, topics: Sequence[str]) -> None:
        """Take the ends of `topics`, and return once progress is there. Raises TimeoutError."""
        partitions = [TopicPartition(topic, number) for topic in topics for number in range(self._counts[topic])]
        limits = await self._limits(partitions)
        await self._until(
            role,
            lambda progress: tuple(
                Missing(partition.topic, partition.partition, at, limit.end)
                for partition, limit in sorted(limits.items())
                if (at := position(progress, partition, limit)) < limit.end
            ),
        )

    async def reach_types(self, role: str) -> None:
        """Return once no row is of a type that was changed by hand before. Raises TimeoutError."""
        topics = (self._settings.leaves_topic, self._settings.companies_topic)
        retyped: int = await self._ask(lambda connection: connection.fetchval(statement("retyped")))
        await self._until(
            role,
            lambda progress: tuple(
                Missing(each.topic, each.partition, each.definitions_version, retyped, is_of_types=True)
                for each in progress.values()
                if each.topic in topics and each.definitions_version < retyped
            ),
        )

    async def _until(self, role: str, find: Callable[[dict[tuple[str, int], Progress]], tuple[Missing, ...]]) -> None:
        """Look at progress again and again until `find` finds nothing missing in it."""
        while True:
            progress = await self._ask(lambda connection: read_progress(connection, self._settings.app_version))
            missing = find(progress)
            if missing != self.missing:
                self._moved = time.monotonic()
            self.missing = missing
            if self._on_progress is not None:
                self._on_progress(role, missing)
            if not missing:
                return
            self._check_time()
            await asyncio.sleep(_POLL_S)

    def _check_time(self) -> None:
        if self._remaining_s() <= 0:
            raise TimeoutError

    def _remaining_s(self) -> float:
        if self._timeout_s is not None:
            return self._began + self._timeout_s - time.monotonic()
        return self._moved + self._standstill_s - time.monotonic()

    async def _limits(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Bounds]:
        while True:
            try:
                return await bounds(self._consumer, partitions)
            except KafkaError:
                self._check_time()
                await asyncio.sleep(_AGAIN_S)

    async def _ask(self, question: Callable[[Connection], Awaitable[Result]]) -> Result:
        async with asyncio.timeout(max(_POLL_S, self._remaining_s())):
            return await self._database.run("tidemark wait", question)

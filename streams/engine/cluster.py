"""Where the Kafka cluster is, how to log in, and what its topics hold: the small questions asked outside a group."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError

from contracts.errors import ServiceError
from streams.security import aiokafka_security

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterable

    from contracts.settings import Settings


REFUSAL_MS_MAX: Final = 10_000
"""How long each broker has to refuse a connection."""

GRACE_S: Final = 1.0
"""How long a client may go on to start or to stop when nobody waits for it any more."""


class Bounds(NamedTuple):
    """The offsets that a partition holds: `start` is the first one, `end` the one that will be written next."""

    start: int
    end: int


class Cluster:
    """A Kafka cluster, as the settings name it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client_options: dict[str, Any] = {
            "bootstrap_servers": settings.bootstrap_servers,
            "client_id": settings.app_id,
            **aiokafka_security(settings),
        }

    @asynccontextmanager
    async def consumer(self, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:  # noqa: ANN401  aiokafka's options
        """A consumer without a group, which reads only what was committed. Raises KafkaError."""
        consumer = AIOKafkaConsumer(
            **self.client_options,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            **options,
        )
        try:
            await entirely(consumer.start())
            yield consumer
        finally:
            await entirely(consumer.stop())

    async def refusal(self) -> str:
        """Why no connection comes about, in the words of whoever refuses it; aiokafka's clients log it and go on."""
        options = {name: value for name, value in self.client_options.items() if name != "bootstrap_servers"}
        reasons: list[str] = []
        for host, port, _ in collect_hosts(self.settings.bootstrap_servers):
            try:
                connection = await create_conn(host, port, request_timeout_ms=REFUSAL_MS_MAX, **options)
                connection.close()
            except (OSError, TimeoutError, KafkaError) as error:
                reason = f"{host}:{port}: {error or type(error).__name__}"
                if isinstance(error, KafkaConnectionError) and self.settings.security_protocol.endswith("SSL"):
                    # With TLS 1.3 a broker refuses a client's certificate after the handshake, without a word.
                    reason += "; it may want another client certificate (ssl_cert_file)"
                reasons.append(reason)
            else:
                reasons.append(f"{host}:{port} takes a connection now")
        return "; ".join(sorted(reasons))

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """An admin client. Raises KafkaError."""
        admin = AIOKafkaAdminClient(**self.client_options)
        try:
            await entirely(admin.start())
            yield admin
        finally:
            await entirely(admin.close())


async def entirely(work: Coroutine[Any, Any, None]) -> None:
    """Start or stop a client of aiokafka, and be cancelled only when that is done, or after `GRACE_S`.

    Cancelled while it starts, a client forgets the connection on which it has asked for the brokers; while it stops, it
    closes none.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=GRACE_S)
        raise
    finally:
        if task.cancel():
            await asyncio.wait([task])


async def partition_counts(admin: AIOKafkaAdminClient, topics: Iterable[str]) -> dict[str, int]:
    """Number of partitions of each of `topics` that exists."""
    described = await admin.describe_topics(list(topics))
    return {topic["topic"]: len(topic["partitions"]) for topic in described if topic["error_code"] == 0}


async def partitions_of(cluster: Cluster, topic: str) -> int:
    """Number of partitions of one of our topics. Raises ServiceError where it does not exist."""
    async with cluster.admin() as admin:
        counts = await partition_counts(admin, [topic])
    if topic not in counts:
        raise ServiceError(
            f"expected topic {topic} to exist; it does not. See that app_version is that of the workers, or run "
            "tidemark topics create."
        )
    return counts[topic]


async def bounds(consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Bounds]:
    """First and next committed offset of each partition."""
    wanted = list(partitions)
    starts = await consumer.beginning_offsets(wanted)
    ends = await consumer.end_offsets(wanted)
    return {partition: Bounds(starts[partition], ends[partition]) for partition in wanted}

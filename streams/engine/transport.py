"""A Faust transport that hands an agent one event for all that a fetch has brought of its topic.

Faust 0.15.3 makes four asyncio tasks a message and keeps positions, acks and commits by the message
(`faust/transport/consumer.py`: `_drain_messages`, `ack`, `_new_offset`), which costs 65-90 microseconds a message and
can commit past unfinished ones. Here the unit is a batch, positions belong to the engine, and Faust commits nothing
(topics are declared with `acks=False`).
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import aiokafka
import uvloop
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from faust.transport.consumer import Fetcher, RecordMap
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Producer, Transport
from faust.types import TP, AppT, ConsumerMessage
from mode import Service

from contracts.errors import PositionError
from streams.engine.assignor import TopicwiseStickyAssignor
from streams.engine.batches import Arrived

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mode import ServiceT

    from streams.engine.core import Engine, EngineApp

FETCH_WAIT_MS_MAX: Final = 50
"""How long the broker may hold back a fetch that finds nothing. It bounds latency where traffic is thin; Faust's
driver fixes it at 1500."""

PARTITION_BYTES_MAX: Final = 1024 * 1024
"""A partition's share of one fetch: a thousand messages, or twenty times as many where they are compressed. A larger
single record is still delivered."""

FETCH_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of one fetch from one broker, in all partitions together: a cycle's worth, however many partitions there are."""

METADATA_AGE_MS_MAX: Final = 30_000
"""How old a worker's knowledge of the topics may be: a topic that vanished and came back is noticed in this time."""

ROUND_S: Final = 0.1
"""How long one round waits for records before the set of partitions that want some is looked at again."""

ROUND_S_MIN: Final = 0.015
"""Least time between the beginnings of two rounds. A round costs the broker and this process the same whatever it
brings, and so do the cycles that begin with it: at 3,000 events a second it would bring some fifteen records. What this
worker has sent to itself waits for no round."""

STAY_EVERY_S: Final = 1.0
"""How often a worker that fetches nothing counts as polling, where minutes are allowed."""

FULL_S: Final = 0.005
"""How long to wait where every partition has enough pending: a fraction of a cycle."""


def engine_of(app: AppT) -> Engine:
    """The engine under a Faust app."""
    return cast("EngineApp", app).engine


class BatchConsumerThread(AIOKafkaConsumerThread):
    """Faust's consumer thread with a consumer that reads what was committed, and keeps partitions where they are.

    `_create_worker_consumer` (`faust/transport/drivers/aiokafka.py`) fixes the isolation level, the assignor and
    `fetch_max_wait_ms`. Changelogs are not consumed by the group here, so that Faust's own assignor, which exists to
    place them, is not needed; a sticky one moves fewer partitions.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  Faust's own
        super().__init__(*args, **kwargs)
        self.given: dict[TP, int] = {}
        """Offset after the last record that was given out of each partition since it was sought. Not all arrive: a
        fetch that a rebalance cut off goes on in this thread, is through a seek, and what it is given then goes to
        nobody."""

    def _create_worker_consumer(self, transport: Transport) -> aiokafka.AIOKafkaConsumer:  # noqa: ARG002  Faust's signature
        conf = self.app.conf
        return aiokafka.AIOKafkaConsumer(
            **engine_of(self.app).cluster.client_options,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            partition_assignment_strategy=[TopicwiseStickyAssignor],
            enable_auto_commit=False,
            # Never an automatic reset: a topic that was recreated or cut under a running worker ends it, and what is
            # wrong is told when the partition is taken over again.
            auto_offset_reset="none",
            metadata_max_age_ms=METADATA_AGE_MS_MAX,
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000.0),
            max_partition_fetch_bytes=PARTITION_BYTES_MAX,
            fetch_max_bytes=FETCH_BYTES_MAX,
            fetch_max_wait_ms=FETCH_WAIT_MS_MAX,
            request_timeout_ms=int(conf.broker_request_timeout * 1000.0),
            session_timeout_ms=int(conf.broker_session_timeout * 1000.0),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000.0),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000.0),
            isolation_level="read_committed",
        )

    async def _fetch_records(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109  Faust's signature
        max_records: int | None = None,
    ) -> RecordMap:
        """Fetch, and note what is given out."""
        try:
            fetched = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        except BaseException:
            # Of some partitions records may have been given out before, of which nothing is known now.
            self.given.update(dict.fromkeys(active_partitions, sys.maxsize))
            raise
        self.given.update((tp, records[-1].offset + 1) for tp, records in fetched.items() if records)
        return fetched

    async def _seek_wait(self, consumer: aiokafka.AIOKafkaConsumer, partitions: Mapping[TP, int]) -> None:
        """Seek; what was given out before is given out again."""
        for tp in partitions:
            self.given.pop(tp, None)
        await super()._seek_wait(consumer, partitions)

    async def stay(self) -> None:
        """Count as polling: aiokafka leaves the group when nothing was fetched for `broker_max_poll_interval`."""
        with self._ensure_consumer()._fetcher._subscriptions.fetch_context():  # noqa: SLF001  as `_fetch_records` does
            pass


class BatchConsumer(Consumer):
    """Faust's consumer, fetching batches for the partitions whose stage wants more."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  Faust's own
        super().__init__(*args, **kwargs)
        self._stayed_s = 0.0
        self._handed: dict[tuple[int, TP], int] = {}
        """Offset after the last record that was handed to an agent, by generation and partition."""

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, thread_loop=uvloop.new_event_loop(), beacon=self.beacon)

    async def _drain_messages(self, fetcher: ServiceT) -> None:
        """Fetch until told to stop. Replaces Faust's loop, which tracks gaps and acks by the message."""
        wants = engine_of(self.app).wants
        while not (self.should_stop or fetcher.should_stop):
            if not self.flow_active:
                await self.can_resume_flow.wait()
                continue
            generation = self.app.consumer_generation_id
            wanting = {tp for tp in self._get_active_partitions() if wants(tp)}
            if not wanting:
                await self._stay_in_group()
                await asyncio.sleep(FULL_S)
                continue
            began_s = self.loop.time()
            try:
                fetched = await self._getmany(active_partitions=wanting, timeout=ROUND_S)
            except KeyError:
                # aiokafka 0.14 drops what it had fetched when a rebalance begins, and may stumble over that itself
                # (`fetched_records`). Records that it handed over to nobody are missed, and read again.
                continue
            except NoOffsetForPartitionError:
                # A partition that has just been assigned, and that the engine has not sought yet.
                await asyncio.sleep(FULL_S)
                continue
            except OffsetOutOfRangeError as error:
                raise PositionError(
                    f"Kafka has no record at {_places(error)} any more: the topic was recreated, or its oldest records "
                    "were deleted before they were read. The worker stops; starting again, it says which, and goes on "
                    "where nothing but a source topic's retention is to blame"
                ) from error
            for batches in _by_topic(fetched, generation):
                if self.flow_active and self.app.consumer_generation_id == generation:
                    self._handed = {at: end for at, end in self._handed.items() if at[0] == generation}
                    self._handed.update(((generation, TP(*each[:2])), each.records[-1].offset + 1) for each in batches)
                    await self.callback(_message(batches))
            if not fetched and self.flow_active:
                await self._pass_over(wanting, generation)
            rest_s = began_s + ROUND_S_MIN - self.loop.time()
            if rest_s > 0:
                await asyncio.sleep(rest_s)

    async def _stay_in_group(self) -> None:
        """Let the group know that this worker lives while it fetches nothing, because Postgres is away or slow."""
        now = self.loop.time()
        if now - self._stayed_s > STAY_EVERY_S:
            self._stayed_s = now
            await self._batches.call_thread(self._batches.stay)

    @property
    def _batches(self) -> BatchConsumerThread:
        return cast("BatchConsumerThread", self._thread)

    async def _pass_over(self, idle: set[TP], generation: int) -> None:
        """Tell the engine up to where idle partitions were read: transactions end in markers that nobody is given."""
        try:
            positions = {tp: await self.position(tp) for tp in idle}
        except KafkaError:
            # A rebalance has begun, and some of them are no longer assigned; afterwards all of them are sought anew.
            return
        if self.app.consumer_generation_id == generation:
            for tp, position in positions.items():
                if position is not None:
                    handed, given = self._handed.get((generation, tp)), self._batches.given.get(tp)
                    engine_of(self.app).passed_over(tp, position, handed, given)

    @Service.task
    async def _commit_handler(self) -> None:
        """Do nothing: positions are committed with the rows (`faust/transport/consumer.py` commits acks here)."""

    @Service.task
    async def _commit_livelock_detector(self) -> None:
        """Do nothing: Faust looks for acks here, which nobody gives."""


def _places(error: OffsetOutOfRangeError) -> str:
    offsets: Mapping[TP, int] = error.args[0]
    return ", ".join(f"{tp.topic}/{tp.partition} at offset {offset}" for tp, offset in offsets.items())


def _by_topic(fetched: RecordMap, generation: int) -> Iterable[Sequence[Arrived]]:
    """What a fetch has brought, less the partitions of which it has brought nothing."""
    topics: dict[str, list[Arrived]] = {}
    for tp, records in fetched.items():
        if records:
            topics.setdefault(tp.topic, []).append(Arrived(tp.topic, tp.partition, generation, records))
    return topics.values()


def _message(batches: Sequence[Arrived]) -> ConsumerMessage:
    """Batches of one topic as Faust's unit; place and time are those of the last record of the first."""
    topic, partition, generation, records = batches[0]
    last = records[-1]
    return ConsumerMessage(
        topic,
        partition,
        last.offset,
        last.timestamp / 1000.0,
        0,
        [],
        None,
        cast("bytes", batches),  # the codec of every topic of ours is `raw`, which hands on what it is given
        None,
        0,
        0,
        TP(topic, partition),
        generation_id=generation,
    )


class BatchFetcher(Fetcher):
    """Faust's fetcher service, without its own way of ending.

    Cancelled in a rebalance, Faust's `_fetcher` task crashes itself in order to be restarted by a supervisor that an
    app does not have (`faust/transport/consumer.py`), so that a worker which is stopped just then fails. An error
    would have the app stop in good order, while its consumer's thread keeps partitions that nobody reads any more.
    """

    @Service.task
    async def _fetcher(self) -> None:
        try:
            await cast("BatchConsumer", self.app.consumer)._drain_messages(self)  # noqa: SLF001  as Faust's does
        except asyncio.CancelledError:
            if not self.should_stop:
                raise
        except Exception as error:  # noqa: BLE001  whatever it is, it ends the process, and at once
            engine_of(self.app).fail(error)
        finally:
            self.set_shutdown()


class SecureProducer(Producer):
    """Faust's own producer, which every app starts and nothing here sends by, logging in as the engine does."""

    def _settings_auth(self) -> Mapping[str, Any]:
        return {
            name: value
            for name, value in engine_of(self.app).cluster.client_options.items()
            if name.startswith(("security_", "ssl_", "sasl_"))
        }


class BatchTransport(Transport):
    """The transport of an `EngineApp`."""

    Consumer: ClassVar[type] = BatchConsumer
    Producer: ClassVar[type] = SecureProducer
    Fetcher: ClassVar[type] = BatchFetcher

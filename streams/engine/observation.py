"""What can be seen of an engine from outside: what it is at, what it has under way, and how far behind it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from contracts.errors import InternalError, ServiceError, TidemarkError
from sinks.postgres.database import waits
from streams.engine.batches import Partition
from streams.engine.stacks import stacks
from streams.engine.watchdog import Activity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streams.engine.context import Context
    from streams.engine.core import Engine

JOIN_SLACK_S: Final = 60.0
"""How much longer than anything else joining the group may take: as long as the group waits for a member."""

BUSY_SLACK_S: Final = 300.0
"""How much longer a partition may get nothing while its stage is busy with others, which are fetched in turns."""

REACH_S_MAX: Final = 10.0
"""Kafka is taken for away when it does not tell the ends of topics in this time."""


class Observation:
    """Looks at one engine; changes nothing."""

    def __init__(self, engine: Engine, context: Context) -> None:
        self._engine = engine
        self._context = context
        self._ends: Mapping[Partition, int] = {}
        """Ends of partitions, as far as Kafka was asked for them."""

    def waits(self) -> list[str]:
        """What waits for Postgres now, each with the last error."""
        return waits()

    def activities(self) -> Iterator[Activity]:
        """What is under way, for the watchdog."""
        engine = self._engine
        if engine.phase == "starting":
            yield Activity("start", None, "connecting to Kafka and Postgres")
            return
        if (takeover := self._takeover()) is not None:
            yield takeover
            return
        for stage in engine.stages:
            if (under_way := stage.under_way()) is not None:
                yield under_way
        for partition, behind in self.lags().items():
            stage = engine.stage_of(partition)
            if behind > 0 and stage.is_open:
                yield Activity(
                    f"reading {partition.topic}/{partition.partition}",
                    (stage.position(partition), stage.done(partition)),
                    f"{behind} records behind",
                    0 if stage.under_way() is None else BUSY_SLACK_S,
                )
        if not all(stage.is_open for stage in engine.stages):
            yield Activity("group", engine.app.consumer_generation_id, engine.phase, JOIN_SLACK_S)

    def _takeover(self) -> Activity | None:
        engine = self._engine
        if engine.takeover is None or engine.takeover.done():
            return None
        restored = tuple(self._context.restored.items())
        left = sum(left for _, (_, left) in restored)
        doing = f"{len(engine.owned)} partitions taken over, {left} changelog records left to restore"
        return Activity("takeover", (len(engine.owned), restored), doing)

    def unfinished(self, limit_s: float) -> TidemarkError:
        """The error of what is under way and should have come to its end within `limit_s`."""
        under_way = [*(stage.under_way() for stage in self._engine.stages), self._takeover()]
        what = "; ".join(sorted(f"{each.name}: {each.doing}" for each in under_way if each is not None)) or "nothing"
        text = f"expected what is under way to end within {limit_s:.0f} s; still there is {what}. "
        if waiting := waits():
            return ServiceError(f"{text}{'; '.join(waiting)}. Nothing is lost: it is done again once Postgres is there")
        return InternalError(f"{text}Nothing is lost: it is done again")

    def lags(self) -> dict[Partition, int]:
        """How many records each partition is behind the end that was last heard of, where one was."""
        lags = {}
        for partition in self._engine.owned:
            ends = self._ends.get(partition, -1), self._fetched_end(partition)
            if (end := max(ends)) >= 0:
                lags[partition] = max(0, end - self._engine.stage_of(partition).done(partition))
        return lags

    def _consumer_thread(self) -> Any:  # noqa: ANN401  Faust is untyped
        # Not `app.consumer`, which would make one.
        return getattr(getattr(self._engine.app, "_consumer", None), "_thread", None)

    def _fetched_end(self, partition: Partition) -> int:
        """The end that the last fetch of this partition has told; -1 where there was none."""
        consumer = getattr(self._consumer_thread(), "_consumer", None)
        if consumer is None:
            return -1
        try:
            # Up to where transactions are closed: what comes after is not handed out yet.
            end: int | None = consumer.last_stable_offset(TopicPartition(*partition))
        except (AssertionError, AttributeError, IllegalStateError):
            # aiokafka's three ways to say that a rebalance has begun.
            return -1
        return -1 if end is None else end

    async def reach_kafka(self) -> bool:
        """Ask for the ends of the partitions that are owned; False where Kafka does not answer."""
        try:
            async with asyncio.timeout(REACH_S_MAX), self._context.cluster.consumer() as consumer:
                ends = await consumer.end_offsets([TopicPartition(*partition) for partition in self._engine.owned])
        except (KafkaError, TimeoutError):
            return False
        self._ends = {Partition(*tp): end for tp, end in ends.items()}
        return True

    def stacks(self) -> str:
        """Where every task and thread stands. May be called from any thread."""
        loops = [self._engine.loop, getattr(self._consumer_thread(), "thread_loop", None)]
        return stacks(loop for loop in loops if loop is not None)

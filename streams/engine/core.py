"""The engine: stages under a Faust app, from a rebalance to the next.

What Faust 0.15.3 keeps: the app, its agents, topics and worker, the consumer group, rebalances and flow control.
What it does not do here: fetching by the message, acks, commits, recovery (see `transport` and `restorer`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import traceback
from typing import TYPE_CHECKING, Any, Final

import faust
from aiokafka.errors import IllegalStateError
from faust.types import TP

from contracts.errors import InternalError, TidemarkError
from streams.engine.batches import Partition
from streams.engine.observation import Observation
from streams.engine.records import records_at
from streams.engine.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from streams.engine.batches import Arrived
    from streams.engine.context import Context
    from streams.engine.stage import Stage

log = logging.getLogger(__name__)

EXIT_FAILED: Final = 70
"""Exit code of a worker that ended itself: `EX_SOFTWARE` of sysexits.h. The supervisor starts it again."""

QUIESCE_S_MAX: Final = 20.0
"""How long a rebalance waits for the cycle under way, in seconds: within the group's rebalance timeout. A cycle that
hangs longer (Postgres away) cannot be dropped half way, so the process ends and is restarted."""

STOP_S_MAX: Final = 10.0
"""A worker that is told to stop has ended after so long, whatever hangs."""

STOP_QUIESCE_S_MAX: Final = 6.0
"""How long the cycle under way may take then: stores, producers, the group and Faust's own end need the rest."""


def reason_of(error: BaseException) -> str:
    """Why a worker stops, for its log: one line where all is foreseen, as when it has lost several partitions at once;
    else with where it happened.
    """
    errors = _single(error)
    foreseen = [each for each in errors if isinstance(each, TidemarkError)]
    if len(foreseen) == len(errors):
        return f"{foreseen[0]}{f' (and {len(errors) - 1} more of its kind)' if len(errors) > 1 else ''}"
    unforeseen = next(each for each in errors if not isinstance(each, TidemarkError))
    return f"{unforeseen!r}\n{''.join(traceback.format_exception(error))}"


def _single(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [each for grouped in error.exceptions for each in _single(grouped)]
    return [error]


class EngineApp(faust.App):
    """A Faust app that runs on an engine."""

    engine: Engine

    async def on_first_start(self) -> None:
        """Start the engine before the group hands out any partition."""
        try:
            await self.engine.start()
        except Exception as error:  # noqa: BLE001  mode would stop what never started, and bury the reason
            self.engine.fail(error)
        await super().on_first_start()

    async def on_stop(self) -> None:
        """Finish what has begun while this worker is still in the group, then leave it."""
        await self.engine.stop()
        await super().on_stop()
        await self.engine.disconnect()


class Engine:
    """Owns the stages, and says which partitions they own."""

    def __init__(
        self,
        app: EngineApp,
        context: Context,
        stages: Mapping[str, Stage[Any]],
    ) -> None:
        """`stages` by the topic that each of them reads."""
        self.app = app
        self.cluster = context.cluster
        self._context = context
        self.owned: set[Partition] = set()
        self.phase = "starting"
        """What the worker is at: starting, joining the group, taking partitions over, running, or stopping."""
        self._stages = dict(stages)
        self._loops: list[asyncio.Task[None]] = []
        self._seeking: set[asyncio.Task[bool]] = set()
        self.takeover: asyncio.Task[None] | None = None
        """The takeover under way, or the last one."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self.observation = Observation(self, context)
        self.watchdog = Watchdog(
            context.settings.stall_timeout_s,
            activities=self.observation.activities,
            is_excused=lambda: bool(self.observation.waits()),
            reach_kafka=self.observation.reach_kafka,
            end=self._hangs,
        )
        app.engine = self
        context.on_delivered(self._delivered)
        app.on_partitions_revoked.connect(self._on_partitions_revoked)

    @property
    def stages(self) -> set[Stage[Any]]:
        """All stages."""
        return set(self._stages.values())

    @property
    def topics(self) -> list[str]:
        """Every topic that is read."""
        return list(self._stages)

    def stage_of(self, partition: Partition) -> Stage[Any]:
        """The stage that reads a partition."""
        return self._stages[partition.topic]

    def _enter(self, phase: str) -> None:
        if self.phase != "stopping":
            self.phase = phase

    def wants(self, partition: Any) -> bool:  # noqa: ANN401  a TP of any library
        """Whether records of this partition should be fetched."""
        stage = self._stages.get(partition.topic)
        return stage is not None and stage.wants(partition)

    def arrived(self, batch: Arrived) -> None:
        """Take in what an agent was handed. A batch of an older generation is dropped: it will be read again."""
        if batch.generation != self.app.consumer_generation_id:
            return
        missing_from = self._stages[batch.topic].arrived(batch)
        if missing_from is not None:
            self._read_again(TP(batch.topic, batch.partition), missing_from, batch.records[0].offset)

    def _delivered(self, to: tuple[str, int], offset: int, count: int, batch: Callable[[], bytes]) -> None:
        """Hand what was sent to a partition of this worker over at once: its place in the log is known."""
        partition = Partition(*to)
        stage = self._stages.get(partition.topic)
        if stage is not None and stage.awaits(partition, count):
            stage.delivered(partition, records_at(offset, batch()))

    def _read_again(self, tp: TP, begins: int, end: int) -> None:
        log.info("%s/%d: records %d to %d are missing; reading them once more", *tp, begins, end - 1)
        seeking = asyncio.create_task(self._seek({tp: begins}, self.app.consumer_generation_id))
        self._seeking.add(seeking)
        seeking.add_done_callback(self._seeking.discard)
        seeking.add_done_callback(self._ended)

    async def _seek(self, positions: Mapping[TP, int], generation: int) -> bool:
        """Read on from these positions; False where another rebalance has begun, which seeks for itself."""
        try:
            if positions:
                await self.app.consumer.seek_wait(positions)
        except IllegalStateError:
            if self.app.consumer_generation_id == generation and not self.app.rebalancing:
                raise
            return False
        return True

    def passed_over(self, tp: TP, position: int, handed: int | None, given: int | None) -> None:
        """Note up to where an idle partition was read.

        `handed` is the offset after the last record that was handed to an agent, `given` after the last one that the
        consumer gave out.
        """
        missing_from = self._stages[tp.topic].passed_over(Partition(*tp), position, handed, given)
        if missing_from is not None:
            self._read_again(tp, missing_from, position)

    async def start(self) -> None:
        """Connect, and start the loop of every stage."""
        self.loop = asyncio.get_running_loop()
        self.watchdog.start()
        await self._context.start(self.fail)
        self._enter("joining the group")
        for stage in self.stages:
            task = asyncio.create_task(stage.run(self.fail), name=f"{stage.name}-stage")
            task.add_done_callback(self._ended)
            self._loops.append(task)

    async def stop(self) -> None:
        """Finish the cycles under way, and let go of every partition."""
        self.told_to_stop()
        await self._quiesce(STOP_QUIESCE_S_MAX)
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._release(set())

    async def disconnect(self) -> None:
        """Let go of all that nobody waits for: the stores of standbys, and connections."""
        await self._context.standbys.stop()
        await self._context.stop()

    def told_to_stop(self) -> None:
        """Stop within the time that is allowed, or end the process with what it hangs in."""
        if self.phase != "stopping":
            self.phase = "stopping"
            self.watchdog.stop()
            self.watchdog.stop_by(STOP_S_MAX, f"it was told to stop, and has not within {STOP_S_MAX:.0f} s")

    async def _on_partitions_revoked(self, *_: object, **__: object) -> None:
        """Faust awaits this signal before it lets the group rebalance."""
        await self._quiesce(STOP_QUIESCE_S_MAX if self.phase == "stopping" else QUIESCE_S_MAX)
        self._enter("joining the group")

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End the process: what was begun can neither be finished nor dropped, and a restart finds all of it."""
        log.critical("worker stops: %s", reason_of(error))
        logging.shutdown()
        os._exit(EXIT_FAILED)

    def _hangs(self, what: str) -> None:
        """End the process, which does not get on, and log where everything in it stands. Called from any thread."""
        log.critical("worker hangs: %s\n%s", what, self.observation.stacks())
        self.fail(InternalError(f"{what}. Where it hangs is logged above; it starts again from what is committed"))

    async def _quiesce(self, limit_s: float) -> None:
        """A rebalance begins: take nothing more, finish what has begun, stop taking over."""
        self._context.standbys.hold()
        try:
            async with asyncio.timeout(limit_s):
                if self.takeover is not None:
                    self.takeover.cancel()
                    await asyncio.gather(self.takeover, return_exceptions=True)
                    self.takeover = None
                await asyncio.gather(*(stage.quiesce() for stage in self.stages))
        except TimeoutError:
            self.fail(self.observation.unfinished(limit_s))

    def rebalanced(self, assigned: Iterable[Any], generation: int) -> None:
        """A rebalance is through: take over what is new, let go of what is gone, and go on."""
        if self.phase == "stopping":
            return
        self._context.metrics.rebalances.inc()
        wanted = {Partition(tp.topic, tp.partition) for tp in assigned if tp.topic in self._stages}
        self.takeover = asyncio.create_task(self._take_over(wanted, generation), name="takeover")
        self.takeover.add_done_callback(self._ended)

    async def _take_over(self, wanted: set[Partition], generation: int) -> None:
        self._enter("taking partitions over")
        self._context.restored.clear()
        await self._context.require_unfenced()
        await self._release(wanted)
        new = sorted(wanted - self.owned)
        log.info("generation %d: %d partitions, %d of them new", generation, len(wanted), len(new))
        async with asyncio.TaskGroup() as group:
            for partition in new:
                group.create_task(self._take(partition))
        positions = {TP(*partition): self._stages[partition.topic].position(partition) for partition in sorted(wanted)}
        if await self._resume(positions, generation):
            self._enter("running")
            self._context.standbys.follow(self.owned)

    async def _take(self, partition: Partition) -> None:
        stage = self._stages[partition.topic]
        stage.own(partition, await stage.handler.take_over(partition))
        self.owned.add(partition)

    async def _release(self, keep: set[Partition]) -> None:
        await self._context.let_go(keep)
        for partition in sorted(self.owned - keep):
            stage = self._stages[partition.topic]
            self.owned.discard(partition)
            stage.disown(partition)
            self._context.stores.pop(partition, None)
            await stage.handler.release(partition)

    async def _resume(self, positions: Mapping[Any, int], generation: int) -> bool:
        """Seek first, then let records flow: the order that Faust's recovery has the other way round.

        False where another rebalance has begun.
        """
        app, consumer = self.app, self.app.consumer
        if app.consumer_generation_id != generation:
            return False
        if not await self._seek(positions, generation):
            return False
        await app.on_rebalance_complete.send()
        for stage in self.stages:
            stage.open()
        consumer.resume_partitions(set(positions))
        app.flow_control.resume()
        consumer.resume_flow()
        await app._fetcher.maybe_start()  # noqa: SLF001  as faust/tables/recovery.py `_resume_streams` does
        app.on_rebalance_end()
        log.info("generation %d: reading %d partitions", generation, len(positions))
        return True

"""The watchdog: ends a worker that has work and gets nothing done, after it has told where it hangs.

Time is counted in ticks of its own, not read from a clock: a process that was stopped as a whole (SIGSTOP, a machine
that slept) has not hung. Two things are watched: what the engine has under way, by a task on its loop; and the loop
itself, by a thread, since a loop that is blocked runs no task.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable

log = logging.getLogger(__name__)

TICK_S: Final = 0.5
"""How often is looked."""

ASK_AGAIN_S: Final = 5.0
"""How often Kafka is asked while it does not answer."""

FROZEN_LIMITS: Final = 2
"""A library's call that holds the interpreter itself lets no thread run: after so many limits faulthandler, which
needs none, dumps what it can and ends the process, with exit code 1."""


class Activity(NamedTuple):
    """Something that is under way."""

    name: str
    token: Hashable
    """Another one whenever it has got on."""
    doing: str
    """Where it is, for people."""
    slack_s: float = 0.0
    """How much longer than others it may take."""


class Still(NamedTuple):
    """An activity that does not get on."""

    activity: Activity
    for_s: float

    def __str__(self) -> str:
        return f"{self.activity.name} has got nothing done for {self.for_s:.0f} s ({self.activity.doing})"


class Stillness:
    """For how long each activity has not got on."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[Hashable, float]] = {}

    def look(self, now_s: float, activities: Iterable[Activity]) -> list[Still]:
        """What is under way now, with how long it has been where it is. What is not under way is forgotten."""
        since: dict[str, tuple[Hashable, float]] = {}
        found = []
        for activity in activities:
            before = self._since.get(activity.name)
            began_s = before[1] if before is not None and before[0] == activity.token else now_s
            since[activity.name] = activity.token, began_s
            found.append(Still(activity, now_s - began_s))
        self._since = since
        return found


class Watchdog:
    """Watches one engine, and the loop it runs on."""

    def __init__(
        self,
        limit_s: float,
        *,
        activities: Callable[[], Iterable[Activity]],
        is_excused: Callable[[], bool],
        reach_kafka: Callable[[], Awaitable[bool]],
        end: Callable[[str], None],
    ) -> None:
        """`is_excused` tells whether something is rightly waited for. `reach_kafka` asks for the ends of topics, which
        `activities` may then tell of; False where Kafka does not answer, which is no stall. `end` is told why the
        process has to end, and does not return; it may be called from another thread.
        """
        self._limit_s = limit_s
        self._activities = activities
        self._is_excused = is_excused
        self._reach_kafka = reach_kafka
        self._end = end
        self._stillness = Stillness()
        self._now_s = 0.0
        self._ask_at_s = limit_s / 2
        self.is_kafka_away = False
        """Whether Kafka did not answer when it was asked last."""
        self.still: list[Still] = []
        """What is under way, as last seen."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turned = threading.Event()
        self._stop_by_ticks: int | None = None
        self._stop_message = ""
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None

    @property
    def suspects(self) -> list[Still]:
        """What has not got on for half of what is allowed."""
        return [each for each in self.still if each.for_s > self._limit_s / 2 + each.activity.slack_s]

    def start(self) -> None:
        """Begin to watch, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._watch(), name="watchdog")
        self._ensure_thread()

    def stop(self) -> None:
        """Watch no more; a limit that `stop_by` has set stays."""
        if self._task is not None:
            self._task.cancel()
            self._task = self._loop = None

    def stop_by(self, limit_s: float, message: str) -> None:
        """End the process in `limit_s` seconds, should it still be there."""
        self._stop_message = message
        self._stop_by_ticks = round(limit_s / TICK_S)
        self._ensure_thread()

    def _ensure_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch_loop, name="watchdog", daemon=True)
            self._thread.start()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._now_s += TICK_S
            await self._look()

    async def _look(self) -> None:
        if self._is_excused():
            self.still = self._stillness.look(self._now_s, ())
            return
        self.still = self._stillness.look(self._now_s, self._activities())
        late = self._late()
        if not late and self._now_s < self._ask_at_s:
            return
        # What nothing was heard of for a while may only seem to be at its end; and without Kafka nothing gets on.
        was_away, self.is_kafka_away = self.is_kafka_away, not await self._reach_kafka()
        self._ask_at_s = self._now_s + (ASK_AGAIN_S if self.is_kafka_away else self._limit_s / 2)
        if was_away != self.is_kafka_away:
            log.warning("Kafka does not answer: the worker waits" if self.is_kafka_away else "Kafka answers again")
        if self.is_kafka_away:
            self.still = self._stillness.look(self._now_s, ())
            return
        self.still = self._stillness.look(self._now_s, self._activities())
        late = self._late()
        if late and not self._is_excused():
            self._end("; ".join(map(str, late)))

    def _late(self) -> list[Still]:
        return [each for each in self.still if each.for_s > self._limit_s + each.activity.slack_s]

    def _watch_loop(self) -> None:
        """The thread: every tick, have the loop show that it turns."""
        pause = threading.Event()
        missed_s = 0.0
        while True:
            faulthandler.dump_traceback_later(FROZEN_LIMITS * self._limit_s, exit=True)
            self._turned.clear()
            loop = self._loop
            if loop is not None:
                loop.call_soon_threadsafe(self._turned.set)
            pause.wait(TICK_S)
            missed_s = 0.0 if loop is None or self._turned.is_set() else missed_s + TICK_S
            if missed_s > self._limit_s:
                self._end(f"the event loop has not turned for {missed_s:.0f} s")
            if self._stop_by_ticks is not None:
                self._stop_by_ticks -= 1
                if self._stop_by_ticks < 0:
                    self._end(self._stop_message)

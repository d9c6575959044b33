"""What befalls workers and their services at random: one engine for every test that leaves the deeds to a seed.

TIDEMARK_TEST_SEED   repeats a run's order of deeds
"""

import asyncio
import os
import random
import secrets
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from itertools import count

from operations.processes import ServiceProcess
from operations.services import RunningServices
from streams.engine.core import EXIT_FAILED
from tests.acceptance.pipeline import Pipeline
from tests.faults.outcomes import table
from tests.faults.services import down_for
from tests.integration.sink_environment import Proxy
from tests.integration.worker_environment import lose_state

STOP_S_MAX = 90

SHORT_FREEZE_S = (0.5, 6.0)
"""Within the group's session: nobody takes anything over."""
LONG_FREEZE_S = (12.0, 25.0)
"""Past the group's session, 10 s: the others take over what the frozen worker still holds for its own."""

KILLS: Mapping[str, int] = {"kill": 3, "stop": 1, "start": 2}
"""Deeds on workers, each with its weight."""
REBALANCES: Mapping[str, int] = {"kill": 2, "stop": 2, "freeze": 2, "start": 6}
"""Workers come as often as they go, so that there is always somebody to take over from."""
OUTAGES: Mapping[str, tuple[str, signal.Signals, float]] = {
    "postgres crashes": ("postgres", signal.SIGQUIT, 2),
    "postgres restarts": ("postgres", signal.SIGINT, 0),
    "postgres is away": ("postgres", signal.SIGINT, 30),
    "broker restarts": ("kafka", signal.SIGTERM, 0),
    "broker is killed": ("kafka", signal.SIGKILL, 5),
    "broker is away": ("kafka", signal.SIGTERM, 20),
}
"""The service, the signal that ends it, and for how many seconds it stays down at most; one of them at a time."""
EVERYTHING: Mapping[str, int] = {
    **REBALANCES,
    **dict.fromkeys(OUTAGES, 1),
    "a connection is cut": 2,
    "a reply is lost": 2,
    "a bad line": 2,
}


def seeded() -> tuple[int, random.Random]:
    """A new seed, or the one that is to be repeated, printed; and what it makes."""
    seed = int(os.environ.get("TIDEMARK_TEST_SEED") or secrets.randbits(32))
    print(f"TIDEMARK_TEST_SEED={seed}")
    return seed, random.Random(seed)


class Chaos:
    """Workers, and what befalls them; their services too, where they are told."""

    def __init__(
        self,
        running: Pipeline,
        rng: random.Random,
        odds: Mapping[str, int] = KILLS,
        *,
        services: RunningServices | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self.running = running
        self.rng = rng
        self.odds = odds
        """The deeds, each with its weight."""
        self.services = services
        self.proxy = proxy
        """Between the workers and Postgres."""
        self.down: list[str] = []
        self.deeds: list[str] = []
        self.times: Counter[str] = Counter()
        """How often each deed was done."""
        self._frozen: dict[str, subprocess.Popen[bytes]] = {}
        self._outage: asyncio.Task[None] | None = None
        self._thaws: set[asyncio.Task[None]] = set()
        self._numbers = count()
        self._begun_s = time.monotonic()
        self._do: dict[str, Callable[[], Awaitable[str]]] = {
            "kill": self._kill,
            "stop": self._stop,
            "freeze": self._freeze,
            "start": self._start,
            **{deed: self._outages(*told) for deed, told in OUTAGES.items()},
            "a connection is cut": self._cut,
            "a reply is lost": self._lose_reply,
            "a bad line": self._spoil,
        }

    def start_new(self) -> str:
        worker = f"w{next(self._numbers)}"
        self.running.start(worker)
        return worker

    async def go_on(self, seconds: float, pause_s: tuple[float, float]) -> None:
        """Do one deed after the other, with a pause before each, for so long; then let everybody come back."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            await asyncio.sleep(self.rng.uniform(*pause_s))
            await self.act()
        await self.calm()

    async def act(self) -> None:
        """Do one of the deeds that are possible now."""
        possible = [deed for deed in self.odds if self._is_possible(deed)]
        deed = self.rng.choices(possible, [self.odds[deed] for deed in possible])[0]
        self.times[deed] += 1
        at_s = time.monotonic() - self._begun_s
        self.deeds.append(f"{at_s:6.1f} s  {deed}: {await self._do[deed]()}")
        print(self.deeds[-1], flush=True)

    async def calm(self) -> None:
        """Wait for what is under way, and start the workers that are down."""
        await asyncio.gather(*self._thaws, *([self._outage] if self._outage else []))
        if self.proxy is not None:
            self.proxy.bad_line = self.proxy.cut_after_bytes = self.proxy.cut_at_reply = None
        while self.down:
            self.running.start(self.down.pop())

    def tell(self, title: str) -> None:
        """Put the deeds into a table."""
        told = table(title, "deed", "times")
        for deed in self.odds:
            told.add(deed, self.times[deed])

    def _is_possible(self, deed: str) -> bool:
        match deed:
            case "kill":
                return bool(self.running.workers)
            case "stop" | "freeze":
                return bool(self._awake())
            case "start":
                return bool(self.down)
            case "a connection is cut" | "a reply is lost" | "a bad line":
                return bool(self._awake())
            case _:
                return self._outage is None or self._outage.done()

    def _awake(self) -> list[str]:
        return sorted(self.running.workers.keys() - self._frozen.keys())

    async def _start(self) -> str:
        worker = self.down.pop(self.rng.randrange(len(self.down)))
        how = self.rng.choice(["as it was", "state lost", "new host"])
        if how == "new host":
            return f"{self.start_new()} in the place of {worker}"
        if how == "state lost":
            lose_state(self.running, worker)
        self.running.start(worker)
        return f"{worker} {how}"

    async def _kill(self) -> str:
        worker = self.rng.choice(sorted(self.running.workers))
        self.running.kill(worker)
        frozen = self._frozen.pop(worker, None)
        self.down.append(worker)
        return f"{worker}{' while frozen' if frozen else ''}"

    async def _stop(self) -> str:
        worker = self.rng.choice(self._awake())
        process = self.running.workers.pop(worker)
        process.terminate()
        code = await asyncio.to_thread(process.wait, STOP_S_MAX)
        self.down.append(worker)
        # One that has not come as far as to listen for signals ends by it; one that cannot finish what it has begun,
        # or was about to end itself, says so.
        is_disturbed = self.odds.keys() > KILLS.keys()
        codes = {0, -signal.SIGTERM, *([EXIT_FAILED] if is_disturbed else [])}
        assert code in codes, f"{worker} ended with {code}:\n{self.running.log(worker)[-5000:]}"
        return f"{worker} ended with {code}"

    async def _freeze(self) -> str:
        worker = self.rng.choice(self._awake())
        seconds = self.rng.uniform(*self.rng.choice([SHORT_FREEZE_S, LONG_FREEZE_S]))
        process = self.running.workers[worker]
        process.send_signal(signal.SIGSTOP)
        self._frozen[worker] = process
        task = asyncio.create_task(self._thaw(worker, process, seconds))
        self._thaws.add(task)
        task.add_done_callback(self._thaws.discard)
        return f"{worker} for {seconds:.1f} s"

    async def _thaw(self, worker: str, process: "subprocess.Popen[bytes]", seconds: float) -> None:
        await asyncio.sleep(seconds)
        process.send_signal(signal.SIGCONT)
        if self._frozen.get(worker) is process:
            del self._frozen[worker]

    def _outages(self, name: str, how: signal.Signals, seconds_max: float) -> Callable[[], Awaitable[str]]:
        async def begin() -> str:
            seconds = self.rng.uniform(0, seconds_max)
            process: ServiceProcess = getattr(self.services, name)
            self._outage = asyncio.create_task(down_for(self.services, process, how, seconds))
            return f"{how.name}, {seconds:.1f} s"

        return begin

    async def _cut(self) -> str:
        self.proxy.cut_after_bytes = self.rng.randrange(1, 200_000)
        return f"after {self.proxy.cut_after_bytes} bytes"

    async def _lose_reply(self) -> str:
        # The reply to a cycle's one call: whether it was committed is not known.
        self.proxy.cut_at_reply = b"SELECT 1\x00"
        return "the next one of a cycle"

    async def _spoil(self) -> str:
        if self.proxy.bad_line is None:
            self.proxy.bad_line, self.proxy.cut_odds = random.Random(self.rng.random()), self.rng.choice([0.002, 0.02])
            return f"from now on, cut odds {self.proxy.cut_odds}"
        self.proxy.bad_line = None
        return "is over"

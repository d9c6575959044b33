"""Named steps at which a worker can be made to end, for the fault tests.

A test setting alone: `TIDEMARK_TEST_CRASH_AT=STEP[:N[:SIGNAL]]` in the environment of a worker sends the process
SIGNAL, SIGKILL unless told, when it reaches STEP for the N-th time, the first unless told. SIGKILL is what `kill -9`,
the kernel's out-of-memory killer and a power failure are to a process: nothing of it runs any more. SIGSTOP holds the
process there until it is sent SIGCONT: an owner that writes too late. Without the variable a step costs one comparison.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Final, NamedTuple

from contracts.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from streams.engine.producer import Runs

VARIABLE: Final = "TIDEMARK_TEST_CRASH_AT"

STEPS: Final = (
    "router-sending",
    "router-sent",
    "router-written",
    "leaf-sending",
    "leaf-sent",
    "leaf-written",
    "transaction",
    "leaf-logged",
    "leaf-storing",
    "leaf-stored",
    "company-written",
    "company-logged",
    "company-stored",
    "takeover-fenced",
    "takeover-taken",
    "restoring",
    "restored",
)
"""Every step, in the order in which a message and a takeover come by; `docs/faults.md` says what each of them is."""


class Point(NamedTuple):
    """Where and how the process is to end."""

    step: str
    nth: int
    signal: signal.Signals


def parse(environ: Mapping[str, str]) -> Point | None:
    """Read the variable; None where it is not set. Raises SettingError."""
    text = environ.get(VARIABLE)
    if not text:
        return None
    step, _, rest = text.partition(":")
    nth, _, name = rest.partition(":")
    nth, name = nth or "1", name or "SIGKILL"
    if step not in STEPS or not nth.isdecimal() or int(nth) < 1 or name not in signal.Signals.__members__:
        raise SettingError(VARIABLE, f"expected STEP[:N[:SIGNAL]], STEP of {', '.join(STEPS)}; got {text!r}")
    return Point(step, int(nth), signal.Signals[name])


class _Armed:
    """The point that this process was told, and how often its step was reached."""

    def __init__(self, point: Point) -> None:
        self._point = point
        self._times = 0

    def strikes(self, step: str) -> bool:
        """Count a step; tell whether it is the one at which to end."""
        if step != self._point.step:
            return False
        self._times += 1
        return self._times == self._point.nth

    def strike(self) -> None:
        os.kill(os.getpid(), self._point.signal)


_point = parse(os.environ)
_armed: Final = _Armed(_point) if _point is not None else None


def reached(step: str) -> None:
    """A step is reached: go on, unless the process was told to end here."""
    if _armed is not None and _armed.strikes(step):
        _armed.strike()


async def send(step: str, runs: Runs, send_all: Callable[[Runs], Awaitable[object]]) -> None:
    """Send everything; where the process was told to end here, half of it is sent, and then it ends.

    Counted are the times that there are several records to send.
    """
    if _armed is not None and sum(map(len, runs.values())) > 1 and _armed.strikes(step):
        sent, runs = begun(runs)
        await send_all(sent)
        _armed.strike()
    await send_all(runs)


def begun(runs: Runs) -> tuple[Runs, Runs]:
    """What a producer may have sent when it ends, and the rest: of each run the first half, since what comes later is
    never sent before what comes first; of every other one, one record more.
    """
    halves = {to: (len(run) + number % 2) // 2 for number, (to, run) in enumerate(runs.items())}
    return {to: run[: halves[to]] for to, run in runs.items()}, {to: run[halves[to] :] for to, run in runs.items()}

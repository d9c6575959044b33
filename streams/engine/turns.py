"""Turns for others between pieces of work on the worker's one loop."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Generator

Result = TypeVar("Result")

TURN_S: Final = 0.005
"""How long work goes on before others get a turn. A turn costs as long as they take, often a millisecond, so that there
is none between the pieces of a small cycle."""


class Turns:
    """How long one task has worked without a break."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()

    async def give(self) -> None:
        """Between two pieces of work: let others run, where they have waited long enough."""
        if time.monotonic() - self._began_s > TURN_S:
            await asyncio.sleep(0)
            self._began_s = time.monotonic()

    async def take(self, steps: Generator[None, None, Result]) -> Result:
        """Take steps to their end, giving turns between them."""
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return cast("Result", end.value)
            await self.give()

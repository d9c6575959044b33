"""The worker's copy of the definitions, brought up to date whenever one changes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from contracts.definitions import Definitions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sinks.postgres.definitions import DefinitionStore


class LiveDefinitions:
    """Definitions as last read; `current` is a snapshot that never changes itself."""

    def __init__(self, store: DefinitionStore) -> None:
        self.current = Definitions()
        self._store = store
        self._listeners: list[Callable[[], None]] = []
        self._following: asyncio.Task[None] | None = None

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change."""
        self._listeners.append(listener)

    async def start(self, fail: Callable[[BaseException], None]) -> None:
        """Read all definitions, and begin to follow them; `fail` is told when that ends."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                fail(error)

        self.current = await self._store.load()
        self._following = asyncio.create_task(self._store.follow(self._refresh), name="definitions")
        self._following.add_done_callback(ended)

    async def stop(self) -> None:
        """Stop following."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def at_least(self, version: int) -> None:
        """Catch up with a version that somebody has seen: nothing may be made with older definitions from now on."""
        if self.current.version < version:
            await self._refresh()

    async def _refresh(self) -> None:
        self._accept(await self._store.refresh(self.current))

    async def ensure(self, attributes: Iterable[tuple[str, str]]) -> Definitions:
        """Define what is not defined yet, `(scope, name)`; returns the definitions that hold."""
        self._accept(await self._store.ensure(self.current, attributes))
        return self.current

    def _accept(self, definitions: Definitions) -> None:
        if definitions.version > self.current.version:
            self.current = definitions
            for listener in self._listeners:
                listener()

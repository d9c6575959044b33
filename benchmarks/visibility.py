"""When a transaction became visible to others, told from outside: snapshots of Postgres, taken every few milliseconds.

A row can be read from the first snapshot on that its transaction is no longer in progress in. That is what a reader
sees, flush of the log included; it needs no setting of the server and knows nothing of the product, and is late by the
time between two snapshots at most, which is measured as well. (`pg_xact_commit_timestamp` is taken before the flush.)
"""

import asyncio
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Self

import asyncpg
import psutil

INTERVAL_S = 0.002
"""Small beside the latencies that are measured; a snapshot costs Postgres and this process some 0.1 ms together."""
SNAPSHOT = "select pg_current_snapshot()::text"


@dataclass(frozen=True)
class Snapshot:
    """One look: `text` as Postgres writes it, `least:next:running,...`."""

    at: float
    """When the answer had come, on the monotonic clock."""
    text: str

    def shows(self, transaction: int) -> bool:
        """Whether the transaction, which is known to commit sometime, had done so."""
        least, following, running = self.text.split(":")
        if transaction < int(least):
            return True
        return transaction < int(following) and str(transaction) not in running.split(",")


@dataclass
class Observer:
    """Takes snapshots until it is told to stop; used as an asynchronous context manager."""

    dsn: str
    snapshots: list[Snapshot] = field(default_factory=list)
    """Those that differ from the one before."""
    gaps: list[tuple[float, float]] = field(default_factory=list)
    """Time of each look, and seconds since the one before."""
    pid: int = 0
    """Of the server's process that answers."""
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        connection = await asyncpg.connect(self.dsn)
        self.pid = connection.get_server_pid()
        self._task = asyncio.create_task(self._watch(connection))
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    async def _watch(self, connection: asyncpg.Connection) -> None:
        try:
            look = await connection.prepare(SNAPSHOT)
            before, last = "", time.monotonic()
            while True:
                text = await look.fetchval()
                now = time.monotonic()
                self.gaps.append((now, now - last))
                last = now
                if text != before:
                    self.snapshots.append(Snapshot(now, text))
                    before = text
                await asyncio.sleep(INTERVAL_S)
        finally:
            await connection.close()

    def cpu_s(self) -> float:
        """What this process and the server's process that answers have spent so far."""
        times = psutil.Process(self.pid).cpu_times()
        return time.process_time() + float(times.user + times.system)

    def visible_at(self, transaction: int) -> float:
        """When the transaction could first be seen. LookupError where it never was."""
        place = bisect_left(self.snapshots, True, key=lambda snapshot: snapshot.shows(transaction))
        if place == len(self.snapshots):
            raise LookupError(f"transaction {transaction} was not seen to commit")
        return self.snapshots[place].at

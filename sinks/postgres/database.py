"""Connections to Postgres that wait while it is away."""

import logging
import random
import re
from asyncio import sleep
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import urlsplit
from weakref import WeakSet

import asyncpg

from contracts.errors import SettingError
from sinks.postgres.outcomes import ERRORS, Call, classify, describe, stopping
from sinks.postgres.staging import RowEncoder, encode_rows_by

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Connection: TypeAlias = Any
"""An `asyncpg.Connection`, which has no types that mypy could follow."""

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")

EPOCH_2000_US: Final = 946_684_800_000_000
"""Postgres counts from 2000-01-01 UTC, rows from 1970-01-01 UTC; both in microseconds."""

CONNECT_TIMEOUT_S: Final = 10.0
"""A server that does not even greet in this time is away."""

STATEMENT_TIMEOUT_MS: Final = 120_000
"""The largest cycles take a second or two; a hundred times that means that something is stuck."""

LOCK_TIMEOUT_MS: Final = 10_000
"""Locks are held for one merge. Well below the statement's own limit, so that what is logged is the lock."""

IDLE_IN_TRANSACTION_MS: Final = 5_000
"""Postgres ends a session that falls silent in the midst of a transaction: its process was stopped, and whoever takes
its partitions over wants what it has locked. They are taken over after 8 s at the earliest; transactions take
milliseconds."""

COMMAND_GRACE_S: Final = 10.0
"""How much longer than the server's own limit the client waits before it takes the server for gone."""

BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 10.0
"""A server that returns is found within this time, and a fleet of workers does not fall upon it at once."""


def checked_schema(schema: str) -> str:
    """Return `schema`, which may then stand in SQL as it is. Raises SettingError."""
    if not _SCHEMA.match(schema) or schema.startswith("pg_"):
        raise SettingError(
            "schema", f"expected at most 63 of a-z, 0-9 and '_', not a digit or 'pg_' first; got {schema!r}"
        )
    return schema


_waiting: WeakSet["Patience"] = WeakSet()


def waits() -> list[str]:
    """Return what of this process waits for Postgres now, each with the last error."""
    return sorted(f"{each.what} waits for Postgres: {each.last_error}" for each in _waiting)


class Patience:
    """Waits between attempts, longer each time, and says so once."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.last_error = ""
        self._attempts = 0

    async def wait(self, error: BaseException) -> None:
        """Sleep before the next attempt: exponential backoff with full jitter."""
        if not self._attempts:
            log.warning("%s waits for Postgres: %s. Nothing is lost; it goes on by itself.", self.what, describe(error))
        self.last_error = describe(error)
        _waiting.add(self)
        limit = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(self._attempts, 16))
        self._attempts += 1
        try:
            await sleep(random.uniform(0, limit))  # noqa: S311  # spreads attempts, guards nothing
        except BaseException:
            _waiting.discard(self)
            raise

    def over(self) -> None:
        """Note that an attempt succeeded."""
        if self._attempts:
            log.info("%s goes on: Postgres is back after %d attempts", self.what, self._attempts)
        self._attempts = 0
        _waiting.discard(self)


class Database:
    """One database and one schema of it.

    Connections talk in integers: `timestamptz` is microseconds since 1970-01-01 UTC; `jsonb` is its text.
    """

    def __init__(
        self,
        dsn: str,
        schema: str,
        *,
        application: str = "tidemark",
        statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
        lock_timeout_ms: int = LOCK_TIMEOUT_MS,
        idle_in_transaction_ms: int = IDLE_IN_TRANSACTION_MS,
        row_encoder: RowEncoder | None = None,
    ) -> None:
        """`row_encoder` takes the place of asyncpg's own codecs of staged rows."""
        self.dsn = dsn
        self.schema = checked_schema(schema)
        self.application = application
        self._statement_timeout_ms = statement_timeout_ms
        self._lock_timeout_ms = lock_timeout_ms
        self._idle_in_transaction_ms = idle_in_transaction_ms
        self._row_encoder = row_encoder
        self._connection: Connection | None = None

    @property
    def address(self) -> str:
        """`host:port/database`, without user or password."""
        parts = urlsplit(self.dsn)
        return f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"

    async def open(self) -> Connection:
        """Connect, in one attempt. Raises what asyncpg raises."""
        connection = await asyncpg.connect(
            self.dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=self._statement_timeout_ms / 1000 + COMMAND_GRACE_S,
            server_settings={
                "application_name": self.application,
                "search_path": self.schema,
                "timezone": "UTC",
                "statement_timeout": str(self._statement_timeout_ms),
                "lock_timeout": str(self._lock_timeout_ms),
                "idle_in_transaction_session_timeout": str(self._idle_in_transaction_ms),
                # Statements are short and many: compiling them costs more than it saves.
                "jit": "off",
            },
        )
        await connection.set_type_codec(
            "timestamptz",
            schema="pg_catalog",
            format="tuple",
            encoder=lambda time_us: (time_us - EPOCH_2000_US,),
            decoder=lambda since_2000: since_2000[0] + EPOCH_2000_US,
        )
        if self._row_encoder is not None:
            await encode_rows_by(self._row_encoder, connection, self.schema)
        return connection

    async def connected(self) -> Connection:
        """Return this object's own connection, made anew if it is gone. One attempt."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await self.open()
        return self._connection

    def drop(self) -> None:
        """Cut this object's own connection: after an error that leaves its state unknown."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        """Close this object's own connection."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            await connection.close()

    async def run(self, what: str, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """Do repeatable work on this object's own connection, for as long as it takes Postgres to be there.

        `what` begins the log line while it waits. Raises FencedError, ServiceError and InternalError.
        """
        patience = Patience(what)
        while True:
            try:
                result = await work(await self.connected())
            except ERRORS as error:
                if classify(error) is not Call.RETRY:
                    raise stopping(error) from error
                self.drop()
                await patience.wait(error)
            else:
                patience.over()
                return result


async def fetch(connection: Connection, query: str, *arguments: object) -> list[asyncpg.Record]:
    """Return the rows of a query."""
    rows: list[asyncpg.Record] = await connection.fetch(query, *arguments)
    return rows

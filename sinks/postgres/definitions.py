"""Definitions of attributes and events, which live in Postgres (SEMANTICS S6)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from hashlib import sha256
from typing import Final

import msgspec

from contracts.definitions import EVENTS, AttributeType, Definition, Definitions
from sinks.postgres.database import Connection, Database, Patience, fetch
from sinks.postgres.outcomes import ERRORS, Call, classify, stopping
from sinks.postgres.statements import statement

log = logging.getLogger(__name__)

MANUAL: Final = "manual"
"""The source of a definition that a person made; `auto` is what messages made."""

PING_S: Final = 30.0
"""How often a listener asks whether its connection is still there: how long a silent loss goes unnoticed."""

# PostgreSQL's limit for names, and so for channels, is 63 bytes.
_CHANNEL_MAX = 63


def channel(schema: str) -> str:
    """Return the name under which changes of a schema's definitions are told."""
    name = f"tidemark_definitions_{schema}"
    return name if len(name) <= _CHANNEL_MAX else f"tidemark_definitions_{sha256(schema.encode()).hexdigest()[:32]}"


class DefinitionStore:
    """Reads and makes definitions, however long Postgres is away, on a connection of its own.

    Whoever changes a definition first raises the one version counter, and so holds its lock to the end: changes
    are made one after another, versions become visible in their order, and a copy is brought up to date by
    what is above its version.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = asyncio.Lock()

    async def load(self) -> Definitions:
        """Return every definition."""
        return await self.refresh(Definitions(version=-1))

    async def refresh(self, known: Definitions) -> Definitions:
        """Return `known` with what has changed since; `known` itself where nothing has."""
        async with self._turn:
            return await self._database.run("reading definitions", lambda each: _read(each, known))

    async def ensure(
        self, known: Definitions, attributes: Iterable[tuple[str, str]], events: Iterable[str] = ()
    ) -> Definitions:
        """Define attributes `(scope, name)` and events where they are not, and return what holds.

        New ones are `string` and `auto`; one that is there already, or that somebody else makes meanwhile, keeps
        its type. A pair `(EVENTS, name)` is an event. Once it has returned, the definitions are committed.
        """
        pairs = set(attributes)
        names = {name for scope, name in pairs if scope == EVENTS}.union(events) - known.events
        wanted = sorted((scope, name) for scope, name in pairs if scope != EVENTS and name not in known.scope(scope))

        async def define(connection: Connection) -> Definitions:
            async with connection.transaction():
                version = await _next_version(connection)
                tags = [
                    await connection.execute(
                        statement("define_attributes"),
                        [scope for scope, _ in wanted],
                        [name for _, name in wanted],
                        version,
                    ),
                    await connection.execute(statement("define_events"), sorted(names), version),
                ]
                return await self._told(connection, known, version, changed=any(_count(tag) for tag in tags))

        if not wanted and not names:
            return known
        async with self._turn:
            return await self._database.run("defining attributes", define)

    async def set_definition(
        self,
        scope: str,
        name: str,
        type: AttributeType,  # noqa: A002  # the word of the public table
        choices: Iterable[str] = (),
        source: str = MANUAL,
    ) -> Definitions:
        """Define an attribute, or change its definition; return every definition."""
        listed = sorted(set(choices))
        text = msgspec.json.encode(listed).decode() if listed else None

        async def change(connection: Connection) -> Definitions:
            async with connection.transaction():
                version = await _next_version(connection)
                tag = await connection.execute(
                    statement("set_definition"), scope, name, type.value, text, source, version
                )
                return await self._told(connection, Definitions(version=-1), version, changed=_count(tag) > 0)

        async with self._turn:
            return await self._database.run("setting a definition", change)

    async def _told(self, connection: Connection, known: Definitions, version: int, *, changed: bool) -> Definitions:
        """Tell listeners of a change, or take the new version back when there was none."""
        if changed:
            await connection.execute("select pg_notify($1, $2)", channel(self._database.schema), str(version))
        else:
            await connection.execute("update definitions_version set version = version - 1")
        return await _read(connection, known)

    async def follow(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Await `changed` whenever definitions may have changed, and on each new connection. Never returns."""
        patience = Patience("listening for definitions")
        while True:
            connection: Connection | None = None
            try:
                connection = await self._database.open()
                await self._listen(connection, patience, changed)
            except ERRORS as error:
                if classify(error) is not Call.RETRY:
                    raise stopping(error) from error
                await patience.wait(error)
            finally:
                if connection is not None:
                    connection.terminate()

    async def _listen(self, connection: Connection, patience: Patience, changed: Callable[[], Awaitable[None]]) -> None:
        news = asyncio.Event()
        await connection.add_listener(channel(self._database.schema), lambda *_: news.set())
        connection.add_termination_listener(lambda *_: news.set())
        # Whatever was told before we listened is read now.
        news.set()
        patience.over()
        while True:
            try:
                async with asyncio.timeout(PING_S):
                    await news.wait()
            except TimeoutError:
                await connection.execute("select")
                continue
            news.clear()
            if connection.is_closed():
                raise ConnectionResetError("the connection that listened was closed")
            await changed()


async def _next_version(connection: Connection) -> int:
    version: int = await connection.fetchval("update definitions_version set version = version + 1 returning version")
    return version


async def _read(connection: Connection, known: Definitions) -> Definitions:
    # One snapshot: a version, and exactly what was defined up to it. Inside a transaction that holds the counter
    # nobody else can change anything.
    if connection.is_in_transaction():
        return await _read_above(connection, known)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await _read_above(connection, known)


async def _read_above(connection: Connection, known: Definitions) -> Definitions:
    version: int = await connection.fetchval("select version from definitions_version")
    if version == known.version:
        return known
    attributes = await fetch(connection, statement("changed_attributes"), known.version)
    events = await fetch(connection, statement("changed_events"), known.version)
    retyped: int = await connection.fetchval(statement("retyped"))
    return known.extended(
        version,
        [(scope, name, _definition(kind, choices)) for scope, name, kind, choices in attributes],
        [name for (name,) in events],
        retyped,
    )


def _definition(kind: str, choices: str | None) -> Definition:
    listed = msgspec.json.decode(choices, type=list[str]) if choices else []
    return Definition(AttributeType(kind), frozenset(listed))


def _count(tag: str) -> int:
    """Return how many rows a command's tag (`INSERT 0 3`) speaks of."""
    return int(tag.rsplit(" ", 1)[-1])

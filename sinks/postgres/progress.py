"""Who owns a partition, and up to which offset its rows are in Postgres."""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import asyncpg
import msgspec

from contracts.errors import FencedError, ServiceError
from sinks.postgres.database import Connection, fetch
from sinks.postgres.statements import statement

log = logging.getLogger(__name__)

LOCK_WAIT_MS: Final = 2_000
"""How long a takeover waits for the former owner's merge to end; it takes some tens of milliseconds."""

ATTEMPTS: Final = 5
"""Takeovers tried, each after ending the session in the way: one is enough unless Postgres itself is stuck."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The row of one partition."""

    topic: str
    partition: int
    epoch: int
    owner: str
    next_offset: int | None
    """The offset of the first record whose rows are not in Postgres; None before the first commit."""
    definitions_version: int
    read: int
    applied: int
    duplicate: int
    refused: int
    warnings: Mapping[str, int]
    source_highs: Mapping[str, int]
    last_record_time_us: int | None
    last_record_checksum: int | None
    gap: int
    """Offsets that a source topic's retention had deleted before they were read; they are not in `read`."""


async def take(
    connection: Connection,
    app_version: str,
    topic: str,
    partition: int,
    owner: str,
    *,
    lock_wait_ms: int = LOCK_WAIT_MS,
) -> Progress:
    """Become the owner of a partition and return where it stands; whoever had it is fenced from now on.

    Waits `lock_wait_ms` for a merge of the former owner, then ends his session and tries again. `connection` is
    not in a transaction. Raises ServiceError when the way stays barred, and what asyncpg raises.
    """
    key = (app_version, topic, partition)
    return _progress(await _taken(connection, key, statement("take"), owner, lock_wait_ms=lock_wait_ms))


@dataclass(frozen=True, slots=True)
class Writer:
    """The producer that may write a partition's changelogs, of an owner who has not let go of it."""

    transactional_id: str
    is_connected: bool
    """Whether the session in Postgres that writes for the owner is there: what is killed has none."""


async def take_changelogs(
    connection: Connection,
    app_version: str,
    topic: str,
    partition: int,
    owner: str,
    *,
    transactional_id: str,
    fenced: Collection[str] = (),
    lock_wait_ms: int = LOCK_WAIT_MS,
) -> Progress | Writer:
    """Become the owner of a partition with state, whose changelogs the producer of `transactional_id` is to write.

    Where another producer may write them, and is not among those that are `fenced`, nothing is done: returns which one
    that is. To be fenced first, so that all that ever were named in progress are, but for the one that is.
    Otherwise as `take`.
    """
    key = (app_version, topic, partition)
    while True:
        arguments = (owner, transactional_id, [*fenced])
        row = await _taken(connection, key, statement("take_changelogs"), *arguments, lock_wait_ms=lock_wait_ms)
        if row is not None:
            return _progress(row)
        writer = await connection.fetchrow(statement("writer"), *key)
        if writer is not None:
            return Writer(writer["transactional_id"], writer["is_connected"])


async def lost(
    connection: Connection, app_version: str, transactional_ids: Iterable[str], partitions: Iterable[tuple[str, int]]
) -> list[tuple[str, int]]:
    """Of these partitions, those that none of these producers may write the changelogs of any more."""
    topics, numbers = zip(*partitions, strict=True)
    rows = await fetch(connection, statement("lost"), app_version, [*transactional_ids], topics, numbers)
    return [(topic, partition) for topic, partition in rows]


async def let_go(
    connection: Connection, app_version: str, transactional_ids: Iterable[str], partitions: Iterable[tuple[str, int]]
) -> None:
    """Say that these producers write the changelogs of these partitions no more. May be repeated."""
    topics, numbers = zip(*partitions, strict=True)
    await connection.execute(statement("let_go"), app_version, [*transactional_ids], topics, numbers)


async def _taken(
    connection: Connection, key: tuple[str, str, int], query: str, *arguments: object, lock_wait_ms: int
) -> asyncpg.Record | None:
    for _ in range(ATTEMPTS):
        try:
            async with connection.transaction():
                await connection.execute(f"set local lock_timeout = {int(lock_wait_ms)}")
                return await connection.fetchrow(query, *key, *arguments)
        except asyncpg.LockNotAvailableError:
            await _end_owner(connection, key)
    raise ServiceError(
        f"expected to take {key[1]}/{key[2]} within {ATTEMPTS} x {lock_wait_ms} ms; a session of Postgres holds "
        "its row of progress. Look for it in pg_stat_activity and end it with pg_terminate_backend"
    )


async def _end_owner(connection: Connection, key: tuple[str, str, int]) -> None:
    try:
        ended = await connection.fetchval(statement("end_owner"), *key)
    except asyncpg.InsufficientPrivilegeError as error:
        log.warning("cannot end the session of the former owner of %s/%s: %s", key[1], key[2], error)
        return
    if ended:
        log.warning("ended the session of the former owner of %s/%s: it held a lock for too long", key[1], key[2])


async def skip(
    connection: Connection,
    app_version: str,
    topic: str,
    partition: int,
    *,
    epoch: int,
    from_offset: int,
    to_offset: int,
) -> None:
    """Move an owned partition past offsets that its topic has deleted, and count them as its gap, once.

    May be repeated where the outcome is unknown. Raises FencedError where the partition has another owner by now.
    """
    key = (app_version, topic, partition)
    if (await connection.execute(statement("skip"), *key, epoch, from_offset, to_offset)).endswith(" 1"):
        return
    now = (await read_progress(connection, app_version)).get((topic, partition))
    if now is None or (now.epoch, now.next_offset) != (epoch, to_offset):
        raise FencedError(
            f"expected {topic}/{partition} at offset {from_offset} in epoch {epoch}; found {now}: another worker has "
            "taken it"
        )


async def read_progress(connection: Connection, app_version: str) -> dict[tuple[str, int], Progress]:
    """Return the progress of every partition of an app version by topic and partition."""
    rows = await fetch(connection, statement("read_progress"), app_version)
    return {(row["topic"], row["partition"]): _progress(row) for row in rows}


def _progress(row: asyncpg.Record) -> Progress:
    (topic, partition, epoch, owner, next_offset, version, read, applied, duplicate, refused) = tuple(row)[:10]
    return Progress(
        topic,
        partition,
        epoch,
        owner,
        next_offset,
        version,
        read,
        applied,
        duplicate,
        refused,
        msgspec.json.decode(row["warnings"], type=dict[str, int]),
        msgspec.json.decode(row["source_highs"], type=dict[str, int]),
        row["last_record_time"],
        row["last_record_checksum"],
        row["gap"],
    )

"""One batch, one transaction: rows and progress together, exactly once."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from contracts.errors import FencedError
from sinks.postgres.batch import TABLES, Batch, Move, Refused, event_times, staged
from sinks.postgres.database import Connection, Database, Patience
from sinks.postgres.outcomes import ERRORS, Call, classify, describe, is_uncertain, sqlstate, stopping
from sinks.postgres.partitions import TIME_PARTITIONED, Partitions
from sinks.postgres.progress import read_progress
from sinks.postgres.statements import statement

AccountFor = Callable[[Batch, Sequence[Refused]], Batch]
"""Given the batch without the rows that Postgres refused, and these rows: the batch to write in its place."""

NO_PARTITION: Final = "23514"
"""Check violation: no partition for the row, after somebody has dropped one."""


class Writer:
    """Writes the batches of one worker, one after another, on a connection of its own.

    The steps of a commit:
    1. partitions for the rows' months, in a transaction of their own, nearly always already known;
    2. the session is named in progress, once a connection, for a successor to end should it get stuck;
    3. one call with everything in it, which checks the fence, merges and moves progress; it is a whole
       transaction, so that nothing is held while the rows are on their way;
    4. where its outcome stays unknown, progress is read to learn it.
    """

    def __init__(self, database: Database, app_version: str) -> None:
        self._database = database
        self._app_version = app_version
        self._partitions = Partitions()
        self._announced: set[tuple[str, int, int]] = set()
        self._announced_on: Connection | None = None
        self._turn = asyncio.Lock()

    async def commit(self, batch: Batch, account_for: AccountFor | None = None) -> list[Refused]:
        """Write a batch, however long Postgres is away; return the rows that Postgres will never take.

        Refused rows (SQLSTATE classes 22 and 54) are left out and the rest is written. With `account_for` they
        can be quarantined, and counted, in the same transaction.
        Raises FencedError when a partition is not ours any more, ServiceError when only a person can help, and
        InternalError when a row is ahead of its owner's state.
        """
        async with self._turn:
            return await self._commit(batch, account_for)

    async def _commit(self, batch: Batch, account_for: AccountFor | None) -> list[Refused]:
        patience = Patience("the writer")
        refused: list[Refused] = []
        rejection: Exception | None = None
        # A merge was sent whose outcome is not known: now; ever.
        unknown = doubted = looked_again = False
        while True:
            try:
                connection = await self._database.connected()
                if unknown and await _is_done(connection, self._app_version, batch.progress):
                    break
                unknown = False
                if rejection is not None:
                    found = await self._refused(connection, batch)
                    if not found:
                        raise stopping(rejection) from rejection
                    refused += found
                    batch = batch.without(found)
                    batch = account_for(batch, found) if account_for else batch
                    rejection = None
                await self._prepare(connection, batch)
                unknown = True
                await _merge(connection, self._app_version, batch)
                break
            except ERRORS as error:
                unknown = unknown and is_uncertain(error)
                doubted = doubted or unknown
                call = classify(error)
                if call is Call.RETRY:
                    self._database.drop()
                    await patience.wait(error)
                elif call is Call.REJECT:
                    rejection = error
                elif call is Call.FENCED and doubted:
                    # Perhaps the merge that was taken for lost was still running, and has been committed since.
                    unknown = True
                elif sqlstate(error) == NO_PARTITION and not looked_again:
                    looked_again = True
                    self._partitions.forget()
                else:
                    raise stopping(error) from error
        patience.over()
        return refused

    async def _prepare(self, connection: Connection, batch: Batch) -> None:
        """Steps 1 and 2."""
        for field, table in TIME_PARTITIONED.items():
            if rows := getattr(batch, field):
                await self._partitions.ensure(connection, table, event_times(rows))
        if connection is not self._announced_on:
            self._announced_on = connection
            self._announced.clear()
        moves = {(*move.key, move.epoch) for move in batch.progress}
        if not moves <= self._announced:
            await connection.execute(
                statement("announce"), self._app_version, [move.staged() for move in batch.progress]
            )
            self._announced |= moves

    async def _refused(self, connection: Connection, batch: Batch) -> list[Refused]:
        """Find the rows that Postgres does not take, by halving; nothing of it stays written."""

        async def search(table: str, start: int, end: int) -> list[Refused]:
            rows = getattr(batch, table)[start:end]
            error = await self._trial(connection, table, rows, batch.definitions_version)
            if error is None:
                return []
            if end - start == 1:
                return [Refused(table, start, rows[0], describe(error))]
            middle = (start + end) // 2
            return await search(table, start, middle) + await search(table, middle, end)

        found: list[Refused] = []
        for table in TABLES:
            if count := len(getattr(batch, table)):
                found += await search(table, 0, count)
        return found

    async def _trial(self, connection: Connection, table: str, rows: list[Any], version: int) -> Exception | None:
        transaction = connection.transaction()
        await transaction.start()
        try:
            arguments = [staged(each, rows if each == table else [], version) for each in TABLES]
            await connection.execute(statement("merge_batch"), self._app_version, [], *arguments)
        except ERRORS as error:
            if classify(error) is not Call.REJECT:
                raise
            refusal: Exception = error
            return refusal
        finally:
            if not connection.is_closed():
                await transaction.rollback()
        return None


async def _merge(connection: Connection, app_version: str, batch: Batch) -> None:
    """Step 3."""
    version = batch.definitions_version
    await connection.execute(
        statement("merge_batch"),
        app_version,
        [move.staged() for move in batch.progress],
        *[staged(table, getattr(batch, table), version) for table in TABLES],
    )


async def _is_done(connection: Connection, app_version: str, moves: Sequence[Move]) -> bool:
    """Step 4: tell whether the moves were made (True) or not (False). Raises FencedError when it is neither."""
    stands = await read_progress(connection, app_version)
    made: set[bool] = set()
    for move in moves:
        now = stands.get(move.key)
        if now is None or now.epoch != move.epoch or now.next_offset not in {None, move.from_offset, move.to_offset}:
            raise FencedError(f"expected {move} or the step before it; found {now}: another worker has taken it")
        if move.from_offset < move.to_offset:
            made.add(now.next_offset == move.to_offset)
    if len(made) > 1:
        raise FencedError(f"expected all of {[move.key for move in moves]} to have moved, or none; found some")
    return True in made

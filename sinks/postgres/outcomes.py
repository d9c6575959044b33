"""What an error of Postgres calls for, told apart by SQLSTATE and never by text."""

from enum import Enum
from typing import Final

import asyncpg

from contracts.errors import FencedError, InternalError, ServiceError, TidemarkError


class Call(Enum):
    """What to do about an error."""

    RETRY = "retry"
    """The server is away, busy or short of something: the same again, later."""
    REJECT = "reject"
    """A row that Postgres will never take: find it, and go on without it."""
    FENCED = "fenced"
    """Another worker owns the partition."""
    STOP = "stop"
    """Nobody but a person can mend it."""


ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What asyncpg raises: what the server said, a connection that is gone, and the network's own."""

FENCED_STATE: Final = "TM001"
"""Raised by `merge_batch`: a partition has another owner, or another position."""
AHEAD_STATE: Final = "TM002"
"""Raised by `merge_batch`: a row is ahead of its owner's state."""

_RETRIED_CLASSES = frozenset(
    {
        "08",  # connection exceptions
        "40",  # deadlocks, serialization
        "53",  # out of disk, memory, connections
        "57",  # shutdown, crash, starting up, statement timeout
        "58",  # I/O errors of the server
    }
)
_RETRIED = frozenset(
    {
        "25006",  # read-only: a failover is on its way
        "25P03",  # idle in a transaction for too long: the session is gone
        "55006",  # object in use
        "55P03",  # lock not available in time
    }
)
_REJECTED_CLASSES = frozenset(
    {
        "22",  # data exceptions
        "54",  # program limits: an index entry or a value too large
    }
)
_LOST_CLASSES = frozenset({"08", "57", "58"})

_WAYS_OUT = {
    "28": "check user and password of the DSN",
    "3D": "create the database that the DSN names",
    "3F": "run `tidemark migrate`",
    "42": "run `tidemark migrate`, and see that the DSN's user may use the schema",
}


def sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE of an error, or an empty text where it has none."""
    return getattr(error, "sqlstate", None) or ""


def classify(error: BaseException) -> Call:
    """Decide what an error calls for."""
    if isinstance(error, asyncpg.PostgresError):
        state = sqlstate(error)
        if state == FENCED_STATE:
            return Call.FENCED
        if state[:2] in _RETRIED_CLASSES or state in _RETRIED:
            return Call.RETRY
        return Call.REJECT if state[:2] in _REJECTED_CLASSES else Call.STOP
    if isinstance(error, asyncpg.InterfaceError):
        # asyncpg could not encode an argument: it names that by a ValueError of its own.
        return Call.REJECT if isinstance(error, ValueError) else Call.RETRY
    # Refused, reset, cut off, timed out: TimeoutError is an OSError. InternalClientError is what asyncpg 0.32 raises
    # on a connection that the server has ended but whose end has not been noticed yet.
    return Call.RETRY if isinstance(error, (OSError, asyncpg.InternalClientError)) else Call.STOP


def is_uncertain(error: BaseException) -> bool:
    """Tell whether a statement that ended with this error may have been committed all the same."""
    if isinstance(error, asyncpg.PostgresError):
        return sqlstate(error)[:2] in _LOST_CLASSES
    return isinstance(error, ERRORS) and not isinstance(error, ValueError)


def describe(error: BaseException) -> str:
    """Return the error in one line: SQLSTATE, message, and detail where there is one."""
    state = sqlstate(error)
    cause = error.__cause__ if isinstance(error, ValueError) and error.__cause__ else error
    text = f"{state} {getattr(error, 'message', None) or error}" if state else f"{type(cause).__name__}: {cause}"
    detail = getattr(error, "detail", None)
    return " ".join(f"{text} ({detail})".split() if detail else text.split())


def stopping(error: BaseException) -> TidemarkError:
    """Return what to raise for an error that calls for `FENCED` or `STOP`, with the way out."""
    state = sqlstate(error)
    if state == FENCED_STATE:
        return FencedError(describe(error))
    if state == AHEAD_STATE:
        return InternalError(
            f"expected no row in Postgres ahead of its owner's state; got {describe(error)}. "
            "The state or the database was put back on its own: rebuild from the source topics."
        )
    way_out = _WAYS_OUT.get(state[:2])
    if way_out is None:
        return InternalError(f"Postgres refused a statement: {describe(error)}")
    return ServiceError(f"Postgres refused a statement: {describe(error)}; {way_out}")

"""Redriving: messages of the quarantine go in again, at their own event time and Kafka time (ADR 0010).

What the rules of now accept is sent to its leaf with the source record's place and time, and a header that says where
it comes from. The leaf's worker decides, and takes it out of the quarantine in the same transaction. What is refused
stays where it is, with the reason of now.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from contracts.errors import TidemarkError
from contracts.origins import ORIGIN_HEADER, REDRIVE_HEADER, ROWS, WHOLE, Origin
from contracts.outcomes import Reason, Refusal
from contracts.rows import Quarantined
from contracts.settings import Settings
from domain.calls import interpret
from domain.identity import Rules
from operations.wait import wait_until_decided
from sinks.postgres.database import Connection
from sinks.postgres.quarantine import Place, give_reasons, lock_redrive, outcomes, pages
from streams.engine.cluster import Cluster, partitions_of
from streams.engine.context import partition_of
from streams.engine.producer import BatchProducer, Outgoing

log = logging.getLogger(__name__)

STANDSTILL_S: Final = 60.0
"""Workers that have got nothing done for so long are not at work, or restore a large state: better come back later."""

OnSent = Callable[[int], None]
"""Told how many messages have been sent."""


class RedriveError(TidemarkError):
    """A redrive that cannot begin as things stand; nothing was sent."""


@dataclass(slots=True)
class Redrive:
    """What a redrive did, or would do."""

    sent: int = 0
    """Messages that the rules of now accept: sent, or to be sent."""
    applied: int = 0
    duplicate: int = 0
    stays: Counter[str] = field(default_factory=Counter)
    """Messages that were refused once more, by their reason of now."""
    is_settled: bool = True
    """False where no worker has decided all of it within STANDSTILL_S; it will be, since it stands in the topic."""

    def to_builtins(self) -> dict[str, Any]:
        """Plain values, as `tidemark quarantine redrive --json` prints them."""
        return {
            "sent": self.sent,
            "applied": self.applied,
            "duplicate": self.duplicate,
            "stays": dict(self.stays),
            "is_settled": self.is_settled,
        }


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that the rules of now accept, with its leaf."""

    row: Quarantined
    leaf: str


def judge(row: Quarantined, rules: Rules) -> Accepted | Refusal:
    """Read a quarantined message by the rules of now."""
    try:
        call = interpret(row.raw, row.timestamp_ms, rules)
    except Exception as error:
        log.exception("cannot interpret %s/%d at offset %d", *row[:3])
        return Refusal(Reason.INTERNAL_ERROR, repr(error)[:300])
    return call if type(call) is Refusal else Accepted(row, call.leaf)


async def plan(settings: Settings, connection: Connection, reason: str | None, limit: int | None) -> Redrive:
    """Tell what a redrive would send, and what would stay; nothing is changed."""
    planned = Redrive()
    async for accepted, stays in _judged(settings, connection, reason, limit):
        planned.sent += len(accepted)
        planned.stays.update(row.reason for row in stays)
    return planned


async def redrive(
    settings: Settings,
    connection: Connection,
    reason: str | None,
    limit: int | None,
    *,
    standstill_s: float = STANDSTILL_S,
    on_sent: OnSent = lambda _sent: None,
) -> Redrive:
    """Redrive what is in the quarantine: of one reason where it is told, and `limit` messages at most.

    1. Nobody else redrives meanwhile.
    2. What an earlier redrive, perhaps one that was cut off, has sent is decided first: so at most one copy of a
       message is ever under way, and none that was routed by other rules.
    3. Messages are sent, each acknowledged; those that stay get the reason of now.
    4. All of it is waited for.

    Raises RedriveError where nobody is at work, or another redrive runs; ServiceError where there is no leaves topic.
    """
    if not await lock_redrive(connection):
        raise RedriveError("expected to be the only redrive of this schema; another one is at work. Wait for its end.")
    arrival = await wait_until_decided(settings, standstill_s=standstill_s)
    if arrival.missing:
        raise RedriveError(
            "expected workers to decide what is in the leaves topic before anything goes in again; "
            f"{arrival.missing[0]}, and nothing has moved for {standstill_s:.0f} s. Nothing was sent. See that workers "
            "run (tidemark status)."
        )
    done = Redrive()
    places: list[Place] = []
    cluster, topic = Cluster(settings), settings.leaves_topic
    partitions = await partitions_of(cluster, topic)
    producer = BatchProducer(cluster)
    await producer.start()
    try:
        async for accepted, stays in _judged(settings, connection, reason, limit):
            await producer.send(outgoing(each, topic, partitions) for each in accepted)
            await give_reasons(connection, stays)
            places += [Place(*each.row[:3]) for each in accepted]
            done.stays.update(row.reason for row in stays)
            on_sent(len(places))
    finally:
        await producer.stop()
    done.sent = len(places)
    done.is_settled = not (await wait_until_decided(settings, standstill_s=standstill_s)).missing
    for each in await outcomes(connection, places):
        if each.outcome is not None:
            setattr(done, each.outcome, each.messages)
        elif each.reason is not None and done.is_settled:
            done.stays[each.reason] += each.messages
    return done


def outgoing(accepted: Accepted, topic: str, partitions: int) -> Outgoing:
    """The record of the leaves topic that redrives a message."""
    row, key = accepted.row, accepted.leaf.encode()
    origin = Origin(row.topic, row.partition, row.offset, row.timestamp_ms)
    headers = [(ORIGIN_HEADER, origin.pack()), (REDRIVE_HEADER, ROWS if row.lacks_rows else WHOLE)]
    return Outgoing(topic, partition_of(key, partitions), key, row.raw, row.timestamp_ms, headers)


async def _judged(
    settings: Settings, connection: Connection, reason: str | None, limit: int | None
) -> AsyncIterator[tuple[Sequence[Accepted], Sequence[Quarantined]]]:
    """Pages of the quarantine, parted into what is accepted and what stays, the latter with the reason of now."""
    rules = Rules.of(settings.blocked_ids, settings.max_message_bytes, settings.future_tolerance_s)
    left = limit
    async for page in pages(connection, reason):
        rows = page if left is None else page[:left]
        accepted: list[Accepted] = []
        stays: list[Quarantined] = []
        for row in rows:
            judged = judge(row, rules)
            if type(judged) is Refusal:
                stays.append(row._replace(reason=judged.reason.value, detail=judged.detail, raw=b""))
            else:
                assert type(judged) is Accepted
                accepted.append(judged)
        yield accepted, stays
        if left is not None:
            left -= len(rows)
            if not left:
                return

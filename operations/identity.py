"""An operator's acts on identities: taking an anonymous leaf from a user, and letting the pair count again.

An act is a message to the anonymous leaf, kept in the leaves topic like every other; the leaf's worker decides what
follows (`domain.ownership`). Here it is checked against what Postgres shows, sent, and waited for.
"""

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import Final

from contracts.errors import TidemarkError
from contracts.origins import ACT, KIND_HEADER
from contracts.records import Act, PairAct, encode
from contracts.settings import Settings
from domain.identity import ANONYMOUS, USER
from domain.names import bounded
from sinks.postgres.database import Connection
from sinks.postgres.standing import Standing, standing
from streams.engine.cluster import Cluster, partitions_of
from streams.engine.context import partition_of
from streams.engine.producer import BatchProducer, Outgoing

ARRIVE_S: Final = 30.0
"""How long an act is waited for: a cycle takes a second at most, a rebalance after a killed worker some ten."""

_POLL_S: Final = 0.1


class IdentityError(TidemarkError):
    """An act that makes no sense as things stand; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Done:
    """An act that was sent, and what became of its leaf."""

    act_id: str
    leaf: str
    user: str
    is_applied: bool
    """False where no worker has taken it in within ARRIVE_S; it will be, since it stands in the leaves topic."""
    before: str | None
    """The profile that the leaf belonged to."""
    after: str | None
    """The one that it belongs to now; None where nothing speaks of it any more, or nothing is known yet."""


def checked_reason(reason: str) -> str:
    """Return a reason without white space around it. Raises IdentityError where nothing is left."""
    text = reason.strip()
    if not text:
        raise IdentityError(
            f"expected a --reason, for whoever reads the audit trail later; got {reason!r}. Say why in a few words."
        )
    return text


async def find(connection: Connection, anonymous: str) -> Standing:
    """Return how the leaf of an anonymousId stands; a leaf's own name (`anon:...`) is understood as well.

    Raises IdentityError for one that was never heard of.
    """
    text = anonymous.strip()
    found = await standing(connection, ANONYMOUS + bounded(text))
    if not found.is_known and text.startswith(ANONYMOUS):
        found = await standing(connection, text)
    if not found.is_known:
        raise IdentityError(
            f"expected an anonymousId that some message or claim has named; nobody knows {anonymous!r}. tidemark "
            "profile show ID lists the identifiers of a profile, tidemark identity contests those that are contested."
        )
    return found


def pair_to_unclaim(found: Standing, user: str | None) -> str:
    """Return the user leaf that is to lose the leaf: its owner, or the claimant that is named.

    Raises IdentityError where there is none.
    """
    if not found.claimants:
        raise IdentityError(
            f"expected an anonymous leaf that belongs to a user; {found.leaf} belongs to nobody but itself. There is "
            "nothing to take apart; tidemark identity acts shows what was taken apart before."
        )
    if user is None:
        return found.claimants[0]
    return _among(user, found.claimants, f"whose claim of {found.leaf} counts")


def pair_to_allow(found: Standing, user: str) -> str:
    """Return the user leaf whose claim is to count again. Raises IdentityError where no act stands against it."""
    apart = [each for each in dict.fromkeys(act.user for act in found.acts) if _is_apart(found, each)]
    return _among(user, apart, f"that {found.leaf} was taken from")


def _is_apart(found: Standing, user: str) -> bool:
    newest = found.newest_act(user)
    return newest is not None and newest.act == "unclaim"


def _among(user: str, choices: list[str] | tuple[str, ...], what: str) -> str:
    text = user.strip()
    for leaf in (USER + bounded(text), text):
        if leaf in choices:
            return leaf
    listed = ", ".join(each.removeprefix(USER) for each in choices) or "none"
    raise IdentityError(
        f"expected a userId {what} ({listed}); got {user!r}. tidemark identity contests and tidemark identity acts "
        "show who claims what."
    )


async def act(
    settings: Settings, connection: Connection, found: Standing, user: str, *, is_allowed: bool, reason: str
) -> Done:
    """Send an act on a pair, and wait until Postgres shows it.

    Raises IdentityError where this clock is behind the last act's, ServiceError where there is no leaves topic.
    """
    at = time.time_ns() // 1000
    newest = found.newest_act(user)
    if newest is not None and newest.at >= at:
        raise IdentityError(
            f"expected a clock that is ahead of the last act on this pair ({newest.act}, {newest.act_id}); this one "
            f"is {(newest.at - at) / 1e6:.0f} s behind, and the newest act is the one that holds. Set the clock right."
        )
    act_id = uuid.uuid4().hex
    await _send(settings, found.leaf, PairAct(user, Act(is_allowed, at, act_id, reason)))
    try:
        async with asyncio.timeout(ARRIVE_S):
            while True:
                now = await standing(connection, found.leaf)
                if any(each.act_id == act_id for each in now.acts):
                    return Done(act_id, found.leaf, user, True, found.profile_id, now.profile_id)
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        return Done(act_id, found.leaf, user, False, found.profile_id, None)


async def _send(settings: Settings, leaf: str, message: PairAct) -> None:
    cluster, topic, key = Cluster(settings), settings.leaves_topic, leaf.encode()
    # Of the topic, not of the settings: a leaf is looked for where it is.
    partition = partition_of(key, await partitions_of(cluster, topic))
    producer = BatchProducer(cluster)
    await producer.start()
    try:
        headers = [(KIND_HEADER, ACT)]
        await producer.send([Outgoing(topic, partition, key, encode(message), message.act.at // 1000, headers)])
    finally:
        await producer.stop()

"""How an anonymous leaf stands with the users who claim it, as Postgres shows it (SEMANTICS S1).

The leaf's own record decides; these rows follow it in the transaction of the cycle that changed it.
"""

from typing import Any

import msgspec

from sinks.postgres.database import Connection, fetch
from sinks.postgres.statements import statement


class StandingAct(msgspec.Struct, frozen=True):
    """One act of an operator on the leaf and a user."""

    act_id: str
    user: str
    """User leaf."""
    act: str
    """`unclaim` or `allow`."""
    reason: str
    at: int
    """When the operator acted, in microseconds since 1970-01-01 UTC."""


class Standing(msgspec.Struct, frozen=True):
    """What is known of one anonymous leaf, all of one moment."""

    leaf: str
    profile_id: str | None
    """The profile that it belongs to; None where no message and no claim that counts speaks of it."""
    claimants: tuple[str, ...]
    """User leaves whose claims count, the earliest first: the owner alone where nobody contests him."""
    acts: tuple[StandingAct, ...]
    """The oldest first."""

    def newest_act(self, user: str) -> StandingAct | None:
        """Return the act that holds for a pair."""
        return next((act for act in reversed(self.acts) if act.user == user), None)

    @property
    def is_known(self) -> bool:
        """Whether anything was ever heard of the leaf."""
        return self.profile_id is not None or bool(self.acts)


async def standing(connection: Connection, leaf: str) -> Standing:
    """Return how a leaf stands; one that nobody knows as well."""
    (row,) = await fetch(connection, statement("standing"), leaf)
    profile_id = row["profile_id"]
    contested: list[dict[str, Any]] = msgspec.json.decode(row["claimants"] or "[]")
    owners = () if profile_id in {None, leaf} else (profile_id,)
    acts = msgspec.json.decode(row["acts"] or "[]", type=tuple[StandingAct, ...])
    return Standing(leaf, profile_id, tuple(each["user"] for each in contested) or owners, acts)


async def claims_of(connection: Connection, user: str) -> list[str]:
    """Return the anonymous leaves that a user leaf claims, or has claimed, without owning all of them."""
    return [row["leaf"] for row in await fetch(connection, statement("claims_of"), user)]

"""Who owns an anonymous leaf, and what its owner holds of it (SEMANTICS S1).

Claims, operator's acts and contributions reach a leaf in any order and any number of times. Each function here takes
one in and returns the new record, or the old one itself where nothing changes; taking in commutes, is associative and
is idempotent, so that the order of arrival decides nothing.
"""

from typing import Final, NamedTuple

from contracts import rows
from contracts.records import Act, Claimed, Contribution, Giver, LeafClaims, LeafLinks

ANONYMOUS_LEAVES_MAX: Final = 1_000
"""Anonymous leaves that one user leaf claims at most (SEMANTICS S1): a person has dozens; a shared kiosk, or a test
account that every visitor falls under, would otherwise grow without end."""

_NO_CLAIMS: Final = LeafClaims()
_NO_LINKS: Final = LeafLinks()


class Claimant(NamedTuple):
    """A user's claim that counts, ordered as claims are: by event time, messageId, user."""

    at: int
    message_id: str
    user: str


def claimed(known: LeafClaims | None, user: str, claim: Claimed) -> LeafClaims:
    """Take in a claim: of each claimant the earliest is kept."""
    old = _NO_CLAIMS if known is None else known
    mine = old.claims.get(user)
    if mine is not None and (mine.at, mine.message_id) <= (claim.at, claim.message_id):
        return old
    return LeafClaims({**old.claims, user: claim}, old.acts)


def acted(known: LeafClaims | None, user: str, act: Act) -> LeafClaims:
    """Take in an operator's act: of each pair the newest is kept."""
    old = _NO_CLAIMS if known is None else known
    before = old.acts.get(user)
    if before is not None and (before.at, before.act_id) >= (act.at, act.act_id):
        return old
    return LeafClaims(old.claims, {**old.acts, user: act})


def claimants(known: LeafClaims | None) -> list[Claimant]:
    """Return the claims that no operator has set aside, the earliest first."""
    if known is None:
        return []
    acts = known.acts
    return sorted(
        Claimant(claim.at, claim.message_id, user)
        for user, claim in known.claims.items()
        if not acts or user not in acts or acts[user].is_allowed
    )


def owner(known: LeafClaims | None) -> str | None:
    """Return the user leaf that owns the leaf: the earliest claimant; None where nobody claims it."""
    if known is None:
        return None
    if len(known.claims) == 1 and not known.acts:
        return next(iter(known.claims))
    return min(claimants(known), default=Claimant(0, "", "")).user or None


def contest(leaf: str, known: LeafClaims | None) -> rows.Contest | None:
    """Return the contest over a leaf, None where fewer than two users claim it."""
    found = claimants(known)
    if len(found) < 2:
        return None
    return rows.Contest(
        leaf, found[0].user, found[0].at, tuple(rows.Claimant(user, at, message_id) for at, message_id, user in found)
    )


def claiming(known: LeafLinks | None, anonymous: str, at: int, message_id: str) -> LeafLinks | None:
    """Note, at a user leaf, that it claims an anonymous leaf.

    Returns the record itself where an earlier claim was sent already, and None where the claim is refused because the
    user has claimed as many leaves as one may. Only a record that is new calls for sending the claim.
    """
    old = _NO_LINKS if known is None else known
    sent = old.claimed.get(anonymous)
    if sent is None:
        if len(old.claimed) >= ANONYMOUS_LEAVES_MAX:
            return None
    elif sent <= (at, message_id):
        return old
    return LeafLinks({**old.claimed, anonymous: (at, message_id)}, old.givers)


def received(known: LeafLinks | None, contribution: Contribution) -> LeafLinks:
    """Take in, at a user leaf, a contribution or its withdrawal: of each giver the greatest version is kept."""
    old = _NO_LINKS if known is None else known
    held = old.givers.get(contribution.giver)
    if held is not None and held.version >= contribution.version:
        return old
    giver = Giver(contribution.version, contribution.counters, contribution.given is not None)
    return LeafLinks(old.claimed, {**old.givers, contribution.giver: giver})

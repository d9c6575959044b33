"""A profile is a fold over its leaves: what a user leaf has seen itself, and what its anonymous leaves contribute
(SEMANTICS S5). Commutative and associative over the leaves, and the same for a contribution that is counted once.
"""

from collections.abc import Iterable
from functools import reduce

from contracts.definitions import USER_SCOPE, Definitions
from contracts.records import GivenFields, LeafCounters, LeafFields, LeafLinks
from domain.slots import merged_all


def total(own: LeafCounters | None, links: LeafLinks | None) -> LeafCounters | None:
    """Return a profile's counters: views add up, `first_seen` is the least, `last_seen` the greatest."""
    if links is None or not links.givers:
        return own
    given = [giver.counters for giver in links.givers.values() if giver.counters is not None]
    return reduce(_added, given if own is None else [own, *given]) if own is not None or given else None


def _added(one: LeafCounters, other: LeafCounters) -> LeafCounters:
    seen = [last for last in (one.last_seen, other.last_seen) if last is not None]
    return LeafCounters(
        one.page_views + other.page_views, min(one.first_seen, other.first_seen), max(seen, default=None)
    )


def folded(
    own: LeafFields | None, given: Iterable[GivenFields], definitions: Definitions
) -> LeafFields | GivenFields | None:
    """Return a profile's fields and attributes: each newest-wins, whichever leaf it came by."""
    known = definitions.scope(USER_SCOPE)
    result: LeafFields | GivenFields | None = own
    for each in given:
        if result is None:
            result = each
        else:
            result = GivenFields(
                merged_all(result.fields, each.fields), merged_all(result.attributes, each.attributes, known)
            )
    return result

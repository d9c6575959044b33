"""Claims, acts, contributions and folds: in any order, grouping and repetition the same result (SEMANTICS S1, S5)."""

from functools import reduce
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from contracts.definitions import USER_SCOPE, AttributeType, Definition, Definitions
from contracts.records import Act, Claimed, Contribution, GivenFields, LeafCounters, LeafFields
from domain.conversion import keep
from domain.fold import folded, total
from domain.ownership import acted, claimants, claimed, claiming, contest, owner, received
from domain.slots import merged, taken, taken_all
from tests.property.strategies import SCALARS

USERS = st.sampled_from(["user:a", "user:b", "user:c"])
ANONYMOUS = st.sampled_from(["anon:x", "anon:y"])
TIMES = st.integers(0, 3)
IDS = st.sampled_from(["m1", "m2", "m3"])
CLAIMS = st.tuples(st.just(claimed), USERS, st.builds(Claimed, TIMES, IDS, st.just("segment/0/1")))
ACTS = st.tuples(
    st.just(acted), USERS, st.builds(lambda at, number: Act(number % 2 == 0, at, f"a{number}", "why"), TIMES, TIMES)
)
"""An act's id stands for one word."""
DEFINITIONS = st.sampled_from([Definition(kind, frozenset({"red", "1"})) for kind in AttributeType])
VALUES = SCALARS.map(keep)
SAID = st.tuples(VALUES, TIMES, IDS)


def in_any_order(each):
    """A list, and another order of it with repetitions."""
    return st.lists(each, min_size=1, max_size=8).flatmap(
        lambda said: st.tuples(
            st.just(said),
            st.lists(st.sampled_from(said), max_size=4).flatmap(lambda more: st.permutations(said + more)),
        )
    )


def told(letters):
    return reduce(lambda known, letter: letter[0](known, *letter[1:]), letters, None)


@given(in_any_order(st.one_of(CLAIMS, ACTS)))
def test_order_and_repetition_of_claims_and_acts_do_not_matter(orders):
    one, other = map(told, orders)
    assert one == other
    assert told([*orders[0], *orders[1]]) == one


@given(st.lists(st.one_of(CLAIMS, ACTS), min_size=1, max_size=8))
def test_the_owner_is_the_earliest_claimant_whom_no_newest_act_sets_aside(letters):
    known = told(letters)
    newest = {}
    for take, user, said in letters:
        if take is acted and (said.at, said.act_id) > newest.get(user, (-1, "", None))[:2]:
            newest[user] = (said.at, said.act_id, said.is_allowed)
    effective = {
        (said.at, said.message_id, user)
        for take, user, said in letters
        if take is claimed and newest.get(user, (0, "", True))[2]
    }
    assert owner(known) == min(effective, default=(0, "", None))[2]
    found = claimants(known)
    assert all(one < other for one, other in pairwise(found))
    assert {each.user for each in found} == {user for _, _, user in effective}
    shown = contest("anon:x", known)
    assert (shown is None) == (len(found) < 2)
    if shown is not None:
        assert (shown.owner, shown.since) == (owner(known), found[0].at)
        assert [each.user for each in shown.claimants] == [each.user for each in found]


@given(st.lists(st.tuples(ANONYMOUS, TIMES, IDS), min_size=1, max_size=8))
def test_a_claim_is_sent_only_when_it_is_earlier_than_what_was_sent(claims):
    known, sent = None, []
    for anonymous, at, message_id in claims:
        new = claiming(known, anonymous, at, message_id)
        if new is not known:
            sent.append((anonymous, at, message_id))
        known = new
    for anonymous in {each[0] for each in claims}:
        of_it = [each[1:] for each in sent if each[0] == anonymous]
        assert of_it == sorted(set(of_it), reverse=True)
        assert of_it[-1] == min(each[1:] for each in claims if each[0] == anonymous)


COUNTERS = st.builds(LeafCounters, st.integers(0, 5), TIMES, st.none() | TIMES)
GIVEN = st.none() | st.builds(
    GivenFields, st.dictionaries(st.just("email"), st.builds(lambda said: taken(None, *said), SAID))
)


@st.composite
def contributions(draw):
    """Versions of what two givers say; a version says one thing."""
    versions = {}
    for giver in ("anon:x", "anon:y"):
        for version in draw(st.sets(st.integers(1, 5), max_size=4)):
            counters = draw(st.none() | COUNTERS)
            versions[giver, version] = Contribution(giver, version, counters, counters and draw(GIVEN))
    return list(versions.values())


@given(contributions().filter(bool).flatmap(lambda said: st.tuples(st.just(said), st.permutations([*said, *said[:2]]))))
def test_the_greatest_version_of_each_giver_holds_in_any_order(orders):
    one, other = (reduce(received, said, None) for said in orders)
    assert one == other
    for giver, held in one.givers.items():
        newest = max((each for each in orders[0] if each.giver == giver), key=lambda each: each.version)
        assert (held.version, held.counters, held.has_fields) == (
            newest.version,
            newest.counters,
            newest.given is not None,
        )
    given = [held.counters for held in one.givers.values() if held.counters is not None]
    own = LeafCounters(2, 2, None)
    sums = total(own, one)
    assert sums.page_views == 2 + sum(each.page_views for each in given)
    assert sums.first_seen == min([2, *(each.first_seen for each in given)])
    assert sums.last_seen == max((each.last_seen for each in given if each.last_seen is not None), default=None)


@given(st.lists(SAID, min_size=1, max_size=9), st.lists(st.integers(0, 2), min_size=9, max_size=9), DEFINITIONS)
def test_values_come_out_the_same_by_whichever_leaves_they_came(said, leaf_of, definition):
    """Splitting what was said over leaves and merging them gives what one leaf would hold."""
    slots = {}
    for value, leaf in zip(said, leaf_of, strict=False):
        slots[leaf] = taken(slots.get(leaf), *value, definition)
    alone = reduce(lambda slot, value: taken(slot, *value, definition), said, None)
    for order in (sorted(slots), sorted(slots, reverse=True)):
        first, *rest = [slots[leaf] for leaf in order]
        assert repr(reduce(lambda one, other: merged(one, other, definition), rest, first)) == repr(alone)


@given(
    st.lists(st.tuples(st.dictionaries(st.sampled_from("ab"), VALUES), TIMES, IDS), min_size=1, max_size=9),
    st.lists(st.integers(0, 2), min_size=9, max_size=9),
    DEFINITIONS,
)
def test_a_profile_is_the_same_fold_in_any_order_of_its_leaves(said, leaf_of, definition):
    known = Definitions().extended(1, [(USER_SCOPE, "a", definition)])
    types = {"a": definition}
    leaves = {}
    alone = {}
    for (values, at, message_id), leaf in zip(said, leaf_of, strict=False):
        leaves[leaf] = taken_all(leaves.get(leaf, {}), values, at, message_id, types)
        alone = taken_all(alone, values, at, message_id, types)
    own = None if 0 not in leaves else LeafFields(attributes=leaves[0])
    given = [GivenFields(attributes=slots) for leaf, slots in sorted(leaves.items()) if leaf]
    for order in (given, given[::-1]):
        fold = folded(own, order, known)
        assert {name: repr(slot) for name, slot in fold.attributes.items()} == {
            name: repr(slot) for name, slot in alone.items()
        }

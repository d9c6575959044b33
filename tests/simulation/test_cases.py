"""Edge cases of identity (SEMANTICS S1), each spelled out by hand, and tried in every order and through crashes.

Everything here is compared with the recomputation as well: `tests.simulation.given` does that after each step.
"""

import hashlib

import pytest

from tests.simulation.given import Given, allow, at, at_once, in_every_order, message, one_after_another, unclaim

A, B = "user:A", "user:B"


def test_one_message_claims_and_is_the_anonymous_leafs_only_one():
    shown = in_every_order(message("identify", 1, userId="A", anonymousId="a1", traits={"plan": "pro"}))
    assert shown.profiles == {A: {"page_views": 0, "first_seen": at(1), "attributes": {"plan": "pro"}}}
    assert shown.identities == {A: A, "anon:a1": A}
    assert shown.contests == {}


def test_a_claim_arrives_before_any_message_of_the_anonymous_leaf():
    given = Given()
    shown = given.then(message("identify", 5, userId="A", anonymousId="a1"))
    assert shown.profiles == {A: {"page_views": 0, "first_seen": at(5)}}
    # Before he identified himself, by its event time, and anonymously again afterwards.
    shown = given.then(message("page", 2, anonymousId="a1"))
    assert shown.profiles == {A: {"page_views": 1, "first_seen": at(2), "last_seen": at(2)}}
    shown = given.then(message("page", 9, anonymousId="a1"))
    assert shown.profiles == {A: {"page_views": 2, "first_seen": at(2), "last_seen": at(9)}}
    assert shown.identities == {A: A, "anon:a1": A}
    assert shown.views == {A: ["m2", "m9"]}
    shown = in_every_order(
        message("identify", 5, userId="A", anonymousId="a1"),
        message("page", 2, anonymousId="a1"),
        message("page", 9, anonymousId="a1"),
    )
    assert shown.profiles == {A: {"page_views": 2, "first_seen": at(2), "last_seen": at(9)}}


HISTORY = [
    message("page", 2, anonymousId="a1"),
    message(
        *("identify", 3),
        anonymousId="a1",
        traits={"email": "visitor@b.co", "lions": True, "plan": "free"},
        context={"locale": "de", "personas": {"computation_class": "audience", "computation_key": "lions"}},
    ),
    message("group", 4, anonymousId="a1", groupId="acme", traits={"name": "Acme"}),
]
"""What an anonymous visitor leaves behind."""
OF_HISTORY = {
    "page_views": 1,
    "first_seen": at(2),
    "last_seen": at(2),
    "email": "visitor@b.co",
    "language": "de",
    "attributes": {"lions": "true", "plan": "free"},
}
CLAIM_OF_A = message("identify", 5, userId="A", anonymousId="a1", traits={"plan": "pro"})
PROFILE_OF_A = {"page_views": 0, "first_seen": at(5), "attributes": {"plan": "pro"}}
"""Without the visitor."""
A_WITH_HISTORY = {**OF_HISTORY, "attributes": {"lions": "true", "plan": "pro"}}
CLAIM_OF_B = message("page", 7, userId="B", anonymousId="a1")
PROFILE_OF_B = {"page_views": 1, "first_seen": at(7), "last_seen": at(7)}
B_WITH_HISTORY = {**OF_HISTORY, "page_views": 2, "last_seen": at(7)}


def test_an_earlier_claim_arrives_after_a_later_one_was_acted_on():
    given = Given()
    shown = given.then(*HISTORY)
    assert shown.profiles == {"anon:a1": OF_HISTORY}
    assert shown.identities == {"anon:a1": "anon:a1"}

    shown = given.then(CLAIM_OF_B)
    assert shown.profiles == {B: B_WITH_HISTORY}
    assert shown.identities == {"anon:a1": B, B: B}
    assert (shown.views, shown.companies, shown.audiences) == ({B: ["m2", "m7"]}, {(B, "acme")}, {(B, "lions"): True})
    assert shown.contests == {}

    shown = given.then(CLAIM_OF_A)
    assert shown.profiles == {A: A_WITH_HISTORY, B: PROFILE_OF_B}
    assert shown.identities == {"anon:a1": A, A: A, B: B}
    assert (shown.views, shown.companies, shown.audiences) == (
        {A: ["m2"], B: ["m7"]},
        {(A, "acme")},
        {(A, "lions"): True},
    )
    assert shown.contests == {"anon:a1": [(A, "m5"), (B, "m7")]}

    assert in_every_order(*HISTORY, CLAIM_OF_A, CLAIM_OF_B) == shown


def test_what_the_visitor_does_after_the_history_moved_counts_for_the_new_owner_alone():
    given = Given()
    given.then(*HISTORY, CLAIM_OF_B)
    given.then(CLAIM_OF_A)
    shown = given.then(message("page", 20, anonymousId="a1"))
    assert shown.profiles == {A: {**A_WITH_HISTORY, "page_views": 2, "last_seen": at(20)}, B: PROFILE_OF_B}
    # His own earlier claim brings it back to B, with what has happened in between.
    shown = given.then(message("identify", 1, userId="B", anonymousId="a1"))
    assert shown.profiles == {
        A: PROFILE_OF_A,
        B: {**OF_HISTORY, "first_seen": at(1), "page_views": 3, "last_seen": at(20)},
    }
    assert shown.contests == {"anon:a1": [(B, "m1"), (A, "m5")]}


def test_the_same_device_used_by_five_users():
    shown = in_every_order(
        message("page", 1, anonymousId="tablet"),
        message("page", 30, anonymousId="tablet"),
        *(message("page", minute, userId=f"u{minute}", anonymousId="tablet") for minute in (10, 11, 12, 13, 14)),
    )
    assert shown.identities == {
        "anon:tablet": "user:u10",
        **{f"user:u{minute}": f"user:u{minute}" for minute in (10, 11, 12, 13, 14)},
    }
    # The first one has what nobody had signed; everybody has his own.
    assert shown.profiles == {
        "user:u10": {"page_views": 3, "first_seen": at(1), "last_seen": at(30)},
        **{
            f"user:u{minute}": {"page_views": 1, "first_seen": at(minute), "last_seen": at(minute)}
            for minute in (11, 12, 13, 14)
        },
    }
    assert shown.contests == {"anon:tablet": [(f"user:u{minute}", f"m{minute}") for minute in (10, 11, 12, 13, 14)]}


def test_of_claims_at_the_same_time_the_least_message_id_holds():
    shown = in_every_order(
        message("page", 1, anonymousId="a1"),
        message("identify", 4, userId="A", anonymousId="a1", messageId="second"),
        message("identify", 4, userId="B", anonymousId="a1", messageId="first"),
    )
    assert shown.identities["anon:a1"] == B
    assert shown.contests == {"anon:a1": [(B, "first"), (A, "second")]}
    # One messageId may be said to two leaves; then it is the lesser userId.
    shown = in_every_order(
        *(message("identify", 4, userId=user, anonymousId="a1", messageId="same") for user in ("A", "B"))
    )
    assert shown.contests == {"anon:a1": [(A, "same"), (B, "same")]}


@pytest.mark.parametrize("user", ["A", "same"])
def test_an_anonymous_id_that_equals_some_user_id(user: str):
    claimant = f"user:{user}"
    shown = in_every_order(
        message("page", 1, anonymousId="same"),
        message("page", 2, userId="same"),
        message("identify", 3, userId=user, anonymousId="same"),
    )
    assert shown.identities == {claimant: claimant, "user:same": "user:same", "anon:same": claimant}
    if user == "same":
        assert shown.profiles == {"user:same": {"page_views": 2, "first_seen": at(1), "last_seen": at(2)}}
    else:
        assert shown.profiles == {
            "user:same": {"page_views": 1, "first_seen": at(2), "last_seen": at(2)},
            A: {"page_views": 1, "first_seen": at(1), "last_seen": at(1)},
        }
    assert shown.contests == {}


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


LONG = "x" * 10_000
UMLAUTS = "ü" * 10_000
"""Two bytes each: the 447th byte is the first of one, which is left out whole."""


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param(LONG, "x" * 447 + "~" + hashed(LONG), id="long"),
        pytest.param(UMLAUTS, "ü" * 223 + "~" + hashed(UMLAUTS), id="umlauts"),
        pytest.param("\0" * 10_000, "\ufffd" * 149 + "~" + hashed("\ufffd" * 10_000), id="NUL alone"),
        pytest.param(" 木\0🦁\u202e ", "木\ufffd🦁\u202e", id="unicode and NUL"),
    ],
)
def test_ids_of_any_length_and_letters(sent: str, kept: str):
    user, anonymous = f"user:{kept}", f"anon:{kept}"
    shown = in_every_order(
        message("page", 1, anonymousId=sent),
        message("identify", 2, userId=sent, anonymousId=sent),
        # Alike as far as it is kept.
        message("page", 3, anonymousId=LONG + "!"),
        message("alias", 4, userId="A", previousId=sent),
    )
    other = "anon:" + "x" * 447 + "~" + hashed(LONG + "!")
    assert shown.identities == {user: user, anonymous: user, other: other, A: A}
    assert shown.profiles == {
        user: {"page_views": 1, "first_seen": at(1), "last_seen": at(1)},
        other: {"page_views": 1, "first_seen": at(3), "last_seen": at(3)},
        A: {"page_views": 0, "first_seen": at(4)},
    }
    assert shown.contests == {anonymous: [(user, "m2"), (A, "m4")]}


@pytest.mark.parametrize("blocked", ["Undefined", "0000-0000", '"guest"'])
def test_a_blocked_id_is_not_claimed(blocked: str):
    shown = in_every_order(
        message("page", 1, userId="A", anonymousId=blocked),
        message("page", 2, userId="B", anonymousId=blocked),
        message("page", 3, anonymousId=blocked),
        message("alias", 4, userId="A", previousId=blocked),
        # Nobody claims for a blocked user.
        message("page", 5, userId=blocked, anonymousId="a1"),
    )
    assert shown.identities == {A: A, B: B, "anon:a1": "anon:a1"}
    assert shown.contests == {}
    assert shown.views == {A: ["m1"], B: ["m2"], "anon:a1": ["m5"]}
    assert set(shown.quarantine) == {"no_identity", "invalid_field"}
    assert shown.warnings == {"blocked_anonymous_id": 2, "blocked_user_id": 1}


@pytest.mark.parametrize("seed", range(3))
def test_the_1001st_anonymous_leaf_of_one_user_is_not_claimed(seed: int):
    # The recomputation counts what a user owns; the limit is on what he claims, and may lose to another.
    given = Given(seed, is_compared=False)
    claims = [message("page", minute, userId="A", anonymousId=f"a{minute:04}") for minute in range(100, 1100)]
    shown = given.then(*claims, message("page", 1, anonymousId="a0100"), message("page", 2, anonymousId="late"))
    owned = {f"anon:a{minute:04}": A for minute in range(100, 1100)}
    assert shown.identities == {A: A, **owned, "anon:late": "anon:late"}
    assert shown.profiles[A] == {"page_views": 1001, "first_seen": at(1), "last_seen": at(1099)}
    assert not shown.warnings

    # The message is applied, its claim refused, and counted.
    shown = given.then(message("page", 1200, userId="A", anonymousId="late"))
    assert shown.identities == {A: A, **owned, "anon:late": "anon:late"}
    assert shown.profiles == {
        A: {"page_views": 1002, "first_seen": at(1), "last_seen": at(1200)},
        "anon:late": {"page_views": 1, "first_seen": at(2), "last_seen": at(2)},
    }
    assert shown.warnings == {"claim_limit": 1}

    # An earlier claim of a leaf that he claims already is none beyond the limit.
    shown = given.then(message("page", 90, userId="B", anonymousId="a0100"))
    assert shown.identities == {A: A, B: B, **owned, "anon:a0100": B, "anon:late": "anon:late"}
    shown = given.then(message("page", 80, userId="A", anonymousId="a0100"))
    assert shown.identities == {A: A, B: B, **owned, "anon:late": "anon:late"}
    assert shown.contests == {"anon:a0100": [(A, "m80"), (B, "m90")]}
    assert shown.profiles[A] == {"page_views": 1003, "first_seen": at(1), "last_seen": at(1200)}
    assert shown.warnings == {"claim_limit": 1}


def test_alias_of_an_unknown_id():
    shown = in_every_order(message("alias", 1, userId="A", previousId="ghost"))
    assert shown.identities == {A: A, "anon:ghost": A}
    assert shown.profiles == {A: {"page_views": 0, "first_seen": at(1)}}


def test_alias_makes_two_claims_where_it_has_an_anonymous_id_too():
    shown = in_every_order(
        message("page", 1, anonymousId="a1"),
        message("page", 2, anonymousId="a2"),
        message("alias", 3, userId="A", anonymousId="a1", previousId="a2"),
    )
    assert shown.identities == {A: A, "anon:a1": A, "anon:a2": A}
    assert shown.profiles == {A: {"page_views": 2, "first_seen": at(1), "last_seen": at(2)}}


def test_alias_of_a_user_id_merges_no_users():
    shown = in_every_order(
        message("page", 1, userId="B"),
        message("alias", 2, userId="A", previousId="B"),
        message("page", 3, anonymousId="B"),
    )
    assert shown.identities == {A: A, B: B, "anon:B": A}
    assert shown.profiles == {
        A: {"page_views": 1, "first_seen": at(2), "last_seen": at(3)},
        B: {"page_views": 1, "first_seen": at(1), "last_seen": at(1)},
    }


def test_alias_of_itself():
    shown = in_every_order(
        message("alias", 1, userId="A", previousId="A"),
        message("page", 2, userId="A"),
    )
    assert shown.identities == {A: A, "anon:A": A}
    assert shown.profiles == {A: {"page_views": 1, "first_seen": at(1), "last_seen": at(2)}}
    # Without a user it claims nothing.
    shown = in_every_order(message("alias", 1, anonymousId="a1", previousId="a1"))
    assert shown.identities == {"anon:a1": "anon:a1"}
    assert shown.warnings["alias_without_user_id"] == 1


UNCLAIM_OF_A = unclaim("anon:a1", A, 30)


def test_an_unclaim_takes_apart_as_if_the_claim_had_never_been():
    given = Given()
    given.then(*HISTORY, CLAIM_OF_A)
    shown = given.then(UNCLAIM_OF_A)
    assert shown.profiles == {A: PROFILE_OF_A, "anon:a1": OF_HISTORY}
    assert shown.identities == {A: A, "anon:a1": "anon:a1"}
    assert (shown.views, shown.companies, shown.audiences) == (
        {"anon:a1": ["m2"]},
        {("anon:a1", "acme")},
        {("anon:a1", "lions"): True},
    )
    never = {name: value for name, value in CLAIM_OF_A.items() if name != "anonymousId"}
    assert one_after_another([*HISTORY, never]) == shown
    assert in_every_order(*HISTORY, CLAIM_OF_A, UNCLAIM_OF_A) == shown


def test_the_next_claimant_becomes_the_owner():
    given = Given()
    given.then(*HISTORY, CLAIM_OF_A, CLAIM_OF_B)
    shown = given.then(UNCLAIM_OF_A)
    assert shown.profiles == {A: PROFILE_OF_A, B: B_WITH_HISTORY}
    assert shown.identities == {A: A, B: B, "anon:a1": B}
    assert shown.contests == {}
    never = {name: value for name, value in CLAIM_OF_A.items() if name != "anonymousId"}
    assert at_once([*HISTORY, never, CLAIM_OF_B]) == shown
    assert in_every_order(*HISTORY, CLAIM_OF_A, CLAIM_OF_B, UNCLAIM_OF_A) == shown
    # Nobody is left.
    shown = given.then(unclaim("anon:a1", B, 31))
    assert shown.profiles == {A: PROFILE_OF_A, B: PROFILE_OF_B, "anon:a1": OF_HISTORY}


def test_a_later_claim_by_the_same_pair_changes_nothing():
    again = message("page", 40, userId="A", anonymousId="a1")
    earlier = message("identify", 1, userId="A", anonymousId="a1")
    given = Given()
    given.then(*HISTORY, CLAIM_OF_A, CLAIM_OF_B, UNCLAIM_OF_A)
    for claim in (again, earlier):
        shown = given.then(claim)
        assert shown.identities == {A: A, B: B, "anon:a1": B}
        assert shown.profiles[B] == B_WITH_HISTORY
        assert shown.contests == {}
    assert in_every_order(HISTORY[0], CLAIM_OF_A, UNCLAIM_OF_A, again, earlier).identities == {
        A: A,
        "anon:a1": "anon:a1",
    }


def test_what_is_allowed_again_is_as_if_nothing_had_been():
    allowed = allow("anon:a1", A, 31)
    given = Given()
    before = given.then(*HISTORY, CLAIM_OF_A, CLAIM_OF_B)
    given.then(UNCLAIM_OF_A)
    assert given.then(allowed) == before
    assert in_every_order(*HISTORY, CLAIM_OF_A, CLAIM_OF_B, UNCLAIM_OF_A, allowed) == before
    # The newest holds, by its own time: this one comes last, and says nothing new.
    assert given.then(unclaim("anon:a1", A, 29)) == before
    # A claim that came while the pair was apart counts from then on.
    given = Given()
    given.then(HISTORY[0], CLAIM_OF_B, UNCLAIM_OF_A)
    assert given.then(CLAIM_OF_A).identities["anon:a1"] == B
    assert given.then(allowed).identities["anon:a1"] == A


def test_a_leaf_known_by_a_claim_alone_goes_with_it():
    given = Given()
    assert given.then(CLAIM_OF_A).identities == {A: A, "anon:a1": A}
    shown = given.then(UNCLAIM_OF_A)
    assert shown.identities == {A: A}
    assert shown.profiles == {A: PROFILE_OF_A}
    assert in_every_order(CLAIM_OF_A, UNCLAIM_OF_A) == shown
    # Its first message makes it known again, by itself.
    shown = given.then(HISTORY[0])
    assert shown.identities == {A: A, "anon:a1": "anon:a1"}
    assert shown.profiles["anon:a1"] == {"page_views": 1, "first_seen": at(2), "last_seen": at(2)}
    assert given.then(allow("anon:a1", A, 31)).identities == {A: A, "anon:a1": A}


def test_an_unclaim_before_the_claim_arrives():
    given = Given()
    shown = given.then(UNCLAIM_OF_A)
    assert (shown.identities, shown.profiles) == ({}, {})
    assert given.then(*HISTORY).profiles == {"anon:a1": OF_HISTORY}
    shown = given.then(CLAIM_OF_A)
    assert shown.profiles == {A: PROFILE_OF_A, "anon:a1": OF_HISTORY}
    assert shown.identities == {A: A, "anon:a1": "anon:a1"}
    shown = given.then(CLAIM_OF_B)
    assert shown.profiles == {A: PROFILE_OF_A, B: B_WITH_HISTORY}
    assert shown.contests == {}


def test_a_duplicate_and_a_quarantined_message_claim_nothing():
    shown = in_every_order(
        message("page", 1, anonymousId="a1"),
        message("identify", 2, userId="A", anonymousId="a1", traits="none"),
        message("track", 3, userId="A", anonymousId="a1"),
    )
    assert shown.identities == {"anon:a1": "anon:a1"}
    assert set(shown.quarantine) == {"invalid_field", "missing_event_name"}
    # Of two claims of one messageId the first that came counts; a copy is the same.
    given = Given()
    given.then(message("page", 1, anonymousId="a1"), CLAIM_OF_B)
    assert given.then(CLAIM_OF_B).contests == {}

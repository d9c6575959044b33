"""What people and tests ask of the public tables."""

import pytest

from contracts.definitions import USER_SCOPE, AttributeType
from contracts.rows import AudienceMembership, Claimant, CompanyMember, Contest, Identity, IdentityAct, Quarantined
from domain.names import bounded
from sinks.postgres import queries
from sinks.postgres.batch import Batch
from sinks.postgres.definitions import DefinitionStore
from tests.integration.sink_environment import APP, TIME_US, occurrence, open_sink, whole


@pytest.fixture
async def sink(postgres_dsn):
    async with open_sink(postgres_dsn) as opened:
        await opened.take()
        yield opened


async def test_read_is_applied_duplicate_quarantined_and_in_flight(sink):
    bad = [
        Quarantined("segment", 0, n, reason, "", b"x" * n, 0)
        for n, reason in enumerate(("too_large", "forbidden", "too_large"))
    ]
    await sink.step(Batch(quarantined=bad), read=20, applied=10, duplicate=4, warnings={"future_time": 1})
    stats = await queries.stats(sink.connection, APP)
    assert (stats.read, stats.applied, stats.duplicate, stats.in_flight) == (20, 10, 4, 3)
    assert stats.quarantined == {"forbidden": 1, "too_large": 2}
    assert stats.warnings == {"future_time": 1}
    listed = await queries.quarantine_list(sink.connection, "too_large")
    assert {(each["offset"], each["octet_length"]) for each in listed} == {(0, 0), (2, 2)}
    shown = await queries.quarantine_show(sink.connection, "segment", 0, 2)
    assert (shown["reason"], shown["raw"]) == ("too_large", b"xx")
    assert await queries.quarantine_show(sink.connection, "segment", 0, 99) is None


async def test_before_the_first_record_all_is_zero(sink):
    stats = await queries.stats(sink.connection, "v9")
    assert (stats.read, stats.in_flight, stats.quarantined, stats.warnings) == (0, 0, {}, {})


async def test_a_profile_by_any_of_its_identifiers(sink):
    await sink.step(
        Batch(
            profiles=[(whole("user:u1", email="ann@example.com"), 1), (whole("anon:u1"), 2)],
            identities=[Identity("user:u1", "user:u1"), Identity("anon:a1", "user:u1"), Identity("anon:u1", "anon:u1")],
            company_members=[CompanyMember("acme", "anon:a1", TIME_US)],
            audience_memberships=[(AudienceMembership("user:u1", "vip", True, TIME_US), "m1")],
        )
    )
    for identifier in ("u1", "a1", "user:u1", "anon:a1"):
        found = await queries.profile(sink.connection, identifier)
        assert found["profile_id"] == "user:u1"
        assert found["email"] == "ann@example.com"
        assert found["leaves"] == ["anon:a1", "user:u1"]
        assert found["companies"] == ["acme"]
        assert found["audiences"] == {"vip": True}
        assert found["first_seen"] == "2023-11-14T22:13:20+00:00"
    assert (await queries.profile(sink.connection, "anon:u1"))["profile_id"] == "anon:u1"
    await sink.step(Batch(identities=[Identity("anon:u1", "user:u1")], profiles_gone=["anon:u1"]))
    for identifier in ("anon:u1", "u1", "a1"):
        found = await queries.profile(sink.connection, identifier)
        assert found["profile_id"] == "user:u1"
        assert found["leaves"] == ["anon:a1", "anon:u1", "user:u1"]
    assert await queries.profile(sink.connection, "nobody") is None


async def test_a_profile_by_an_identifier_as_a_message_may_bring_it(sink):
    long = "é" * 5000
    leaf = f"anon:{bounded(long)}"
    await sink.step(Batch(profiles=[(whole(leaf), 1)], identities=[Identity(leaf, leaf)]))
    for identifier in (long, f" {long}\n", f"anon:{long}", leaf, bounded(long)):
        assert (await queries.profile(sink.connection, identifier))["profile_id"] == leaf
    assert await queries.profile(sink.connection, f"user:{long}") is None


async def test_events_audiences_and_definitions(sink):
    await sink.step(
        Batch(
            occurrences=[
                occurrence(n)._replace(event="Viewed" if n else "Bought", leaf=f"user:u{n % 2}") for n in range(4)
            ],
            identities=[Identity(f"user:u{n}", f"user:u{n}") for n in range(2)],
            audience_memberships=[(AudienceMembership(f"user:u{n}", "vip", n == 0, TIME_US), "m") for n in range(2)],
        )
    )
    assert await queries.top_events(sink.connection, 1) == [
        {"event": "Viewed", "occurrences": 3, "leaves": 2, "last": TIME_US}
    ]
    assert await queries.audiences(sink.connection) == [{"audience": "vip", "members": 1, "ever": 2}]
    store = DefinitionStore(sink.databases[0])
    await store.set_definition(USER_SCOPE, "plan", AttributeType.FIXED_CHOICE, ["pro", "free"])
    assert await queries.definitions(sink.connection) == [
        {"scope": "user", "name": "plan", "type": "fixed_choice", "choices": ["free", "pro"], "source": "manual"}
    ]


async def test_contests_and_acts_the_latest_first(sink):
    claims = (Claimant("user:u1", TIME_US, "m1"), Claimant("user:u2", TIME_US + 1, "m2"))
    acts = [IdentityAct(f"x{n}", "anon:a1", "user:u1", "unclaim", TIME_US + n // 2, "") for n in range(4)]
    contests = [Contest(f"anon:a{n}", "user:u1", TIME_US + n // 2, claims) for n in range(4)]
    await sink.step(Batch(contests=contests, identity_acts=acts))
    first, second, _, fourth = await queries.contests(sink.connection, 9)
    assert [each["leaf"] for each in (first, second, fourth)] == ["anon:a2", "anon:a3", "anon:a1"]
    assert first == {
        "leaf": "anon:a2",
        "owner": "user:u1",
        "since": TIME_US + 1,
        "claimants": [
            {"user": "user:u1", "at": "2023-11-14T22:13:20.000000Z", "message_id": "m1"},
            {"user": "user:u2", "at": "2023-11-14T22:13:20.000001Z", "message_id": "m2"},
        ],
    }
    assert len(await queries.contests(sink.connection, 1)) == 1
    listed = await queries.identity_acts(sink.connection, 3)
    assert [each["act_id"] for each in listed] == ["x3", "x2", "x1"]
    assert listed[0] == {
        "act_id": "x3",
        "leaf": "anon:a1",
        "user_leaf": "user:u1",
        "act": "unclaim",
        "acted_at": TIME_US + 1,
        "reason": "",
    }

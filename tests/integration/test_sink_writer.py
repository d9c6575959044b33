"""What the writer promises, on a real Postgres."""

import asyncio
import random
from datetime import UTC, datetime

import msgspec
import pytest

from contracts.errors import FencedError, InternalError
from contracts.rows import (
    AudienceChange,
    AudienceMembership,
    Claimant,
    Company,
    CompanyMember,
    Contest,
    Counters,
    Identity,
    IdentityAct,
    Quarantined,
)
from sinks.postgres.batch import Batch, Move
from sinks.postgres.database import Database
from sinks.postgres.progress import Writer, let_go, read_progress, skip, take, take_changelogs
from sinks.postgres.statements import statement
from tests.integration.sink_environment import (
    APP,
    DAY_US,
    SCHEMA,
    TIME_US,
    TOPIC,
    Sink,
    occurrence,
    open_sink,
    view,
    whole,
)
from tests.twins import TWINS, row_encoder


@pytest.fixture(params=TWINS)
async def sink(postgres_dsn, request):
    """Every test here runs with rows encoded by the compiled hot path and by asyncpg."""
    async with open_sink(postgres_dsn, row_encoder(is_native=request.param)) as opened:
        await opened.take()
        yield opened


async def partitions(sink: Sink, table: str) -> set[str]:
    rows = await sink.connection.fetch(
        "select inhrelid::regclass::text from pg_inherits where inhparent = $1::text::regclass", table
    )
    return {name for (name,) in rows}


async def test_rows_and_progress_come_together(sink):
    batch = Batch(
        page_views=[view(1, properties='{"a":1}')],
        occurrences=[occurrence(2, properties='{"price":12.50}')],
        counters=[(Counters("anon:a1", 3, TIME_US - 5, TIME_US), 4)],
        profiles=[(whole(email="ann@example.com", attributes='{"plan":"pro"}'), 7)],
        identities=[Identity("user:u1", "user:u1"), Identity("anon:a1", "anon:a1")],
        companies=[(Company("c1", ("Acme", *(None,) * 5), '{"tier":1}'), 3)],
        company_members=[CompanyMember("c1", "user:u1", TIME_US)],
        audience_memberships=[(AudienceMembership("user:u1", "vip", True, TIME_US), "m1")],
        audience_changes=[AudienceChange("user:u1", "vip", True, TIME_US, "m1")],
        quarantined=[Quarantined("segment", 0, 4, "invalid_json", "cut off", b'{"\x00\xff', 0)],
    )
    assert await sink.step(batch, applied=9, duplicate=1, warnings={"future_time": 2}) == []
    rows = await sink.dump()
    assert rows["page_views"] == [
        ("m1", "user:u1", "page", TIME_US, "https://a.example/", "/", None, None, None, '{"a": 1}')
    ]
    assert rows["event_occurrences"] == [("m2", "user:u1", "Order Completed", TIME_US, '{"price": 12.50}', None)]
    anonymous, known = rows["profiles"]
    assert (anonymous[0], anonymous[1], anonymous[-4:]) == ("anon:a1", None, (3, TIME_US - 5, TIME_US, "{}"))
    assert (known[:3], known[-1]) == (("user:u1", "u1", "ann@example.com"), '{"plan": "pro"}')
    assert rows["companies"] == [("c1", "Acme", None, None, None, None, None, '{"tier": 1}')]
    assert rows["company_members"] == [("c1", "user:u1", TIME_US)]
    assert rows["audience_memberships"] == [("user:u1", "vip", True, TIME_US)]
    assert rows["audience_history"] == [("user:u1", "vip", True, TIME_US, "m1")]
    assert rows["quarantine"] == [("segment", 0, 4, "invalid_json", "cut off", b'{"\x00\xff')]
    assert rows["profile_events"] == [("user:u1", *rows["event_occurrences"][0])]
    assert rows["profile_companies"] == [("user:u1", "c1")]
    assert rows["profile_audiences"] == [("user:u1", "vip", True)]
    now = await sink.stands()
    assert (now.next_offset, now.applied, now.duplicate, now.warnings) == (10, 9, 1, {"future_time": 2})


async def test_the_same_rows_again_change_nothing(sink):
    def batch():
        return Batch(
            page_views=[view(1), view(1), view(2)],
            occurrences=[occurrence(1), occurrence(1)],
            profiles=[(whole(views=2), 7)],
            identities=[Identity("user:u1", "user:u1")] * 2,
            company_members=[CompanyMember("c1", "user:u1", TIME_US + n) for n in (1, 0)],
            audience_changes=[AudienceChange("user:u1", "vip", True, TIME_US, "m1")] * 2,
            quarantined=[Quarantined("segment", 0, 4, "too_large", "", b"", 0)] * 2,
        )

    await sink.step(batch())
    before = await sink.dump()
    await sink.step(batch())
    assert await sink.dump() == before
    assert len(before["page_views"]) == 2
    assert before["company_members"] == [("c1", "user:u1", TIME_US)]


async def test_new_rows_among_rows_that_are_there_are_written(sink):
    await sink.step(Batch(page_views=[view(2), view(4)], occurrences=[occurrence(3)]))
    changed = view(4)._replace(title="not the first")
    await sink.step(
        Batch(page_views=[view(1), changed, view(5), view(5)], occurrences=[occurrence(n) for n in (4, 3, 2, 2)]),
        applied=6,
    )
    rows = await sink.dump()
    assert [(row[0], row[6]) for row in rows["page_views"]] == [(f"m{n}", None) for n in (1, 2, 4, 5)]
    assert [row[0] for row in rows["event_occurrences"]] == ["m2", "m3", "m4"]
    assert (await sink.stands()).applied == 6


async def test_rows_are_unique_by_time_message_and_leaf_together(sink):
    views = [
        view(1),
        view(2),
        view(1, leaf="user:u2"),
        view(1, time_us=TIME_US + 1),
        view(1, time_us=TIME_US + 40 * DAY_US),
    ]
    await sink.step(Batch(page_views=views))
    await sink.step(Batch(page_views=views[::-1]))
    assert len((await sink.dump())["page_views"]) == len(views)


async def test_partitions_of_several_topics_move_in_one_transaction(sink):
    first, second = await sink.take(1), await sink.take(0, topic="companies")
    moves = [Move(TOPIC, 1, first.epoch, 0, 5, applied=5), Move("companies", 0, second.epoch, 3, 4)]
    await sink.writer.commit(Batch(progress=moves))
    assert (await sink.stands(1)).next_offset == 5
    stale = [Move(TOPIC, 1, first.epoch, 5, 6), Move("companies", 0, second.epoch, 3, 4)]
    with pytest.raises(FencedError, match="companies/0: expected epoch 1 at 3, found epoch 1 at 4"):
        await sink.writer.commit(Batch(page_views=[view(1)], progress=stale))
    assert (await sink.stands(1)).next_offset == 5
    assert (await sink.dump())["page_views"] == []


async def test_a_former_owner_is_fenced(sink):
    await sink.step(Batch(page_views=[view(1)]))
    old = await sink.stands()
    new = await sink.take(owner="w2")
    assert (new.epoch, new.next_offset, new.owner) == (old.epoch + 1, 10, "w2")
    with pytest.raises(FencedError):
        await sink.writer.commit(Batch(page_views=[view(2)], progress=[Move(TOPIC, 0, old.epoch, 10, 20, applied=1)]))
    assert len((await sink.dump())["page_views"]) == 1


async def test_a_partition_that_was_never_taken_is_fenced(sink):
    with pytest.raises(FencedError, match="found epoch none"):
        await sink.writer.commit(Batch(progress=[Move(TOPIC, 9, 1, 0, 1)]))


async def test_counts_add_up(sink):
    for n in (1, 2):
        await sink.step(
            Batch(),
            read=10,
            applied=7,
            refused=1,
            warnings={"future_time": n, f"only_{n}": 1},
            source_highs={"segment/0": n, f"segment/{n}": 5},
            last_record_time_us=TIME_US + n if n == 1 else None,
        )
    now = await sink.stands()
    assert (now.read, now.applied, now.refused) == (20, 14, 2)
    assert now.warnings == {"future_time": 3, "only_1": 1, "only_2": 1}
    assert now.source_highs == {"segment/0": 2, "segment/1": 5, "segment/2": 5}
    assert now.last_record_time_us == TIME_US + 1


async def test_counters_leave_fields_alone(sink):
    await sink.step(Batch(profiles=[(whole(email="ann@example.com", attributes='{"a":1}'), 5)]))
    await sink.step(Batch(counters=[(Counters("user:u1", 4, TIME_US - 9, TIME_US + 9), 6)]))
    (row,) = (await sink.dump())["profiles"]
    assert (row[2], row[-4:]) == ("ann@example.com", (4, TIME_US - 9, TIME_US + 9, '{"a": 1}'))


async def test_a_row_ahead_of_its_owner_is_reported(sink):
    await sink.step(
        Batch(profiles=[(whole(email="new@example.com"), 5)], companies=[(Company("c", (None,) * 6, "{}"), 5)])
    )
    for stale in (
        Batch(profiles=[(whole(email="old@example.com"), 4)]),
        Batch(counters=[(Counters("user:u1", 4, TIME_US, None), 4)]),
        Batch(companies=[(Company("c", (None,) * 6, "{}"), 4)]),
    ):
        with pytest.raises(InternalError, match="is at 5, given 4"):
            await sink.step(stale)
    assert (await sink.stands()).next_offset == 10


async def test_a_newer_definition_replaces_at_the_same_position(sink):
    for version, attributes, holds in (
        (2, '{"n":"12"}', '{"n": "12"}'),
        (3, '{"n":12}', '{"n": 12}'),
        (2, '{"n":"12"}', '{"n": 12}'),
    ):
        await sink.step(Batch(profiles=[(whole(attributes=attributes), 5)], definitions_version=version))
        assert (await sink.dump())["profiles"][0][-1] == holds


async def test_equal_numbers_of_another_form_are_written(sink):
    await sink.step(Batch(profiles=[(whole(attributes='{"n":12}'), 5)]))
    await sink.step(Batch(profiles=[(whole(attributes='{"n":12.0}'), 6)]))
    assert (await sink.dump())["profiles"][0][-1] == '{"n": 12.0}'


async def test_the_newest_membership_wins_in_any_order(sink):
    said = [
        (AudienceMembership("user:u1", "vip", n % 3 == 0, TIME_US + n // 2), f"m{'Bab'[n % 3]}{n}") for n in range(12)
    ]
    newest = max(said, key=lambda each: (each[0].changed_at, each[1].encode()))[0]
    for seed in range(4):
        shuffled = random.Random(seed).sample(said, len(said))
        for start in range(0, len(shuffled), 5):
            await sink.step(Batch(audience_memberships=shuffled[start : start + 5]))
        assert (await sink.dump())["audience_memberships"] == [tuple(newest)]
        await sink.connection.execute("delete from audience_memberships")


async def test_across_leaves_the_newest_membership_wins(sink):
    await sink.step(
        Batch(
            identities=[Identity("user:u1", "user:u1"), Identity("anon:a1", "user:u1")],
            audience_memberships=[
                (AudienceMembership("user:u1", "vip", True, TIME_US), "ma"),
                (AudienceMembership("anon:a1", "vip", False, TIME_US), "mb"),
            ],
        )
    )
    assert (await sink.dump())["profile_audiences"] == [("user:u1", "vip", False)]


def contest(leaf="anon:a1", *, owner="user:u1", since=TIME_US, users=("user:u1", "user:u2")):
    return Contest(leaf, owner, since, tuple(Claimant(user, since + n, f"m{n}") for n, user in enumerate(users)))


async def test_a_profile_that_is_gone_comes_back(sink):
    owned = Batch(
        profiles=[(whole("user:u1", views=3), 6)],
        profiles_gone=["anon:a1", "anon:never"],
        identities=[Identity("anon:a1", "user:u1")],
    )
    own = Batch(profiles=[(whole("anon:a1", email="a@example.com", views=1), 5)])
    await sink.step(own)
    for _ in range(2):
        await sink.step(owned)
        assert [row[0] for row in (await sink.dump())["profiles"]] == ["user:u1"]
    own.profiles = [(own.profiles[0][0], 7)]
    await sink.step(own)
    back, _ = (await sink.dump())["profiles"]
    assert back[:3] == ("anon:a1", None, "a@example.com")


async def test_an_identity_goes_and_comes_back(sink):
    rows = [Identity("anon:a1", "user:u1"), Identity("user:u1", "user:u1")]
    await sink.step(Batch(identities=rows))
    for _ in range(2):
        await sink.step(Batch(identities_gone=["anon:a1", "anon:a1", "anon:never"]))
        assert (await sink.dump())["identities"] == [("user:u1", "user:u1")]
    await sink.step(Batch(identities=rows))
    assert (await sink.dump())["identities"] == [tuple(row) for row in rows]


async def test_contests_are_written_anew_and_go(sink):
    older = contest(since=TIME_US - 1, owner="user:u3", users=("user:u3", "user:u1", "user:u2"))
    await sink.step(Batch(contests=[contest(), older, contest("anon:a2"), contest("anon:a2")]))
    rows = (await sink.dump())["identity_contests"]
    assert [row[:3] for row in rows] == [("anon:a1", "user:u3", TIME_US - 1), ("anon:a2", "user:u1", TIME_US)]
    assert msgspec.json.decode(rows[1][3]) == [
        {"user": "user:u1", "at": "2023-11-14T22:13:20.000000Z", "message_id": "m0"},
        {"user": "user:u2", "at": "2023-11-14T22:13:20.000001Z", "message_id": "m1"},
    ]
    place = "select ctid::text from identity_contests where leaf = 'anon:a2'"
    before = await sink.connection.fetchval(place)
    await sink.step(Batch(contests=[contest("anon:a2")], contests_gone=["anon:a1", "anon:never"]))
    assert (await sink.dump())["identity_contests"] == rows[1:]
    assert await sink.connection.fetchval(place) == before, "an equal row is not written again"
    await sink.step(Batch(contests_gone=["anon:a2"]))
    assert (await sink.dump())["identity_contests"] == []


async def test_an_act_is_recorded_once(sink):
    act = IdentityAct("x1", "anon:a1", "user:u1", "unclaim", TIME_US, "a shared tablet")
    await sink.step(Batch(identity_acts=[act, act]))
    await sink.step(Batch(identity_acts=[act._replace(act_id="x2", act="allow"), act]))
    rows = await sink.connection.fetch("select * from identity_acts order by act_id")
    assert [tuple(row) for row in rows] == [tuple(act), tuple(act._replace(act_id="x2", act="allow"))]


async def test_every_microsecond_up_to_the_year_9999_is_taken_exactly(sink):
    end = 253_402_300_800_000_000
    rng = random.Random(9)
    months = [
        int((datetime(year, month, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000
        for year in range(1970, 10_000)
        for month in (1, 3, 7)
    ]
    powers = [2**n for n in range(58)]
    edges = {0, end - 1, *(edge + near for edge in (*months, *powers, end) for near in (-2, -1, 0, 1, 2))}
    spread = (rng.randrange(end) for _ in range(100_000))
    close = (rng.randrange(2**n) for n in range(1, 58) for _ in range(500))
    times = [time for time in {*edges, *spread, *close} if 0 <= time < end]
    taken = await sink.connection.fetchval(
        "select array_agg(time_of(t.n) order by t.nth) from unnest($1::bigint[]) with ordinality as t (n, nth)", times
    )
    assert taken == times
    assert await sink.connection.fetchval("select time_of(null) is null")


async def test_times_of_any_year_find_a_partition(sink):
    years = [TIME_US - n * 365 * DAY_US for n in (-90, -70, 0, 1, 8, 30, 53)]
    batch = Batch(
        page_views=[view(n, time_us=time) for n, time in enumerate(years)],
        occurrences=[occurrence(n, time_us=time) for n, time in enumerate(years)],
    )
    await sink.step(batch)
    assert len((await sink.dump())["page_views"]) == len(years)
    made = await partitions(sink, "page_views")
    assert {"page_views_ancient", "page_views_future", "page_views_2023_11", "page_views_2022_11"} <= made
    assert len(made) == 6


async def test_no_statistics_are_taken_of_documents(sink):
    times = (TIME_US, TIME_US - 50 * 365 * DAY_US)
    await sink.step(
        Batch(
            page_views=[view(n, time_us=time, properties='{"a":1}') for n, time in enumerate(times)],
            occurrences=[occurrence(n, time_us=time, properties='{"a":1}') for n, time in enumerate(times)],
        )
    )
    await sink.connection.execute("analyze")
    rows = await sink.connection.fetch(
        "select tablename, attname from pg_stats "
        "where schemaname = current_schema() and attname in ('leaf', 'properties', 'sent_properties')"
    )
    tables = {f"{table}_{part}" for table in ("page_views", "event_occurrences") for part in ("ancient", "2023_11")}
    taken = {(table, column) for table, column in rows}
    assert {(table, "leaf") for table in tables} <= taken
    assert {column for _, column in taken} == {"leaf"}


async def test_a_partition_dropped_by_an_operator_is_made_again(sink):
    await sink.step(Batch(page_views=[view(1)]))
    await sink.connection.execute("drop table page_views_2023_11")
    await sink.step(Batch(page_views=[view(2)]))
    assert [row[0] for row in (await sink.dump())["page_views"]] == ["m2"]


async def test_two_writers_make_the_same_month(sink):
    other = sink.new_writer()
    taken = await sink.take(1)
    mine = await sink.stands()
    await asyncio.gather(
        sink.writer.commit(Batch(page_views=[view(1)], progress=[Move(TOPIC, 0, mine.epoch, 0, 1)])),
        other.commit(Batch(page_views=[view(2)], progress=[Move(TOPIC, 1, taken.epoch, 0, 1)])),
    )
    assert len((await sink.dump())["page_views"]) == 2


async def test_poison_rows_are_found_and_the_rest_goes_on(sink):
    # 22P02: no JSON; 22P05: NUL in jsonb; 22003: a number beyond numeric; 54000: a key beyond a page of the index;
    # a lone surrogate cannot even be sent.
    long = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=9000))
    bad = {
        3: view(3, properties="{"),
        17: view(17, properties='{"a":"\\u0000"}'),
        40: view(40, properties='{"a":1e400000}'),
        41: view(41)._replace(message_id=long),
        63: view(63)._replace(title="\ud800"),
    }
    views = [bad.get(n, view(n)) for n in range(64)]
    batch = Batch(page_views=views, occurrences=[occurrence(1, properties="nope"), occurrence(2)])
    refused = await sink.step(batch, applied=66)
    assert {each.place for each in refused if each.table == "page_views"} == set(bad)
    assert all(each.row is bad[each.place] for each in refused if each.table == "page_views")
    assert [each.place for each in refused if each.table == "occurrences"] == [0]
    assert [each.error[:5] for each in refused[:4]] == ["22P02", "22P05", "22003", "54000"]
    rows = await sink.dump()
    assert {row[0] for row in rows["page_views"]} == {f"m{n}" for n in range(64) if n not in bad}
    assert [row[0] for row in rows["event_occurrences"]] == ["m2"]
    assert (await sink.stands()).next_offset == 10


async def test_poison_in_what_goes_and_in_contests_is_found(sink):
    await sink.step(Batch(profiles=[(whole("anon:a1"), 1)], identities=[Identity("anon:a1", "anon:a1")]))
    batch = Batch(
        identities_gone=["anon:\x00", "anon:a1"],
        profiles_gone=["anon:a1", "anon:\x00"],
        contests=[contest(), contest("anon:a2", users=("user:\x00", "user:u2")), contest("anon:a3")],
        contests_gone=["anon:a4", "anon:a5", "anon:\x00"],
        identity_acts=[IdentityAct("x1", "anon:a1", "user:u1", "allow", TIME_US, "\x00")],
    )
    refused = await sink.step(batch)
    assert [(each.table, each.place, each.error[:5]) for each in refused] == [
        ("identities_gone", 0, "22021"),
        ("profiles_gone", 1, "22021"),
        ("contests", 1, "22P05"),
        ("contests_gone", 2, "22021"),
        ("identity_acts", 0, "22021"),
    ]
    assert [each.row for each in refused[:2]] == ["anon:\x00"] * 2
    rows = await sink.dump()
    assert rows["profiles"] == rows["identities"] == []
    assert [row[0] for row in rows["identity_contests"]] == ["anon:a1", "anon:a3"]


@pytest.mark.parametrize("name", ["announce", "merge_batch"])
async def test_to_prepare_what_a_writer_calls_locks_no_table(sink, name):
    """Its client may be stopped then, and the session is not one that Postgres would end."""
    preparing = await Database(sink.dsn, SCHEMA).open()
    try:
        async with preparing.transaction():
            await preparing.prepare(statement(name))
            modes = await sink.connection.fetch(
                "select mode from pg_locks where pid = $1 and locktype = 'relation'", preparing.get_server_pid()
            )
            assert {each["mode"] for each in modes} <= {"AccessShareLock"}
    finally:
        await preparing.close()


async def test_poison_rows_are_accounted_for_in_the_same_transaction(sink):
    def account_for(batch, refused):
        batch.quarantined = [
            *batch.quarantined,
            *(Quarantined("segment", 0, each.place, "internal_error", each.error, b"raw", 0) for each in refused),
        ]
        (move,) = batch.progress
        batch.progress = [
            Move(TOPIC, 0, move.epoch, move.from_offset, move.to_offset, applied=move.applied - len(refused))
        ]
        return batch

    epoch = (await sink.stands()).epoch
    batch = Batch(page_views=[view(0), view(1, properties="{")], progress=[Move(TOPIC, 0, epoch, 0, 2, applied=2)])
    (refused,) = await sink.writer.commit(batch, account_for)
    assert refused.row.message_id == "m1"
    assert (await sink.stands()).applied == 1
    ((topic, partition, offset, reason, detail, raw),) = (await sink.dump())["quarantine"]
    assert (topic, partition, offset, reason, raw) == ("segment", 0, 1, "internal_error", b"raw")
    assert detail.startswith("22P02")
    assert len(batch.page_views) == 2, "the caller's batch is left as it was"


async def test_a_profile_with_unchanged_attributes_keeps_its_toast(sink):
    attributes = '{"text":"' + "".join(random.Random(2).choices("abcdefghijklmnop0123456789", k=20000)) + '"}'
    await sink.step(Batch(profiles=[(whole(attributes=attributes), 1)]))
    toast = await sink.connection.fetchval(
        "select reltoastrelid::regclass::text from pg_class where oid = 'profiles'::regclass"
    )
    query = f"select array_agg(distinct chunk_id) from {toast}"
    before = await sink.connection.fetchval(query)
    await sink.step(Batch(profiles=[(whole(attributes=attributes, views=1), 2)]))
    assert await sink.connection.fetchval(query) == before


async def test_a_gap_moves_the_position_and_is_counted_once(sink):
    await sink.step(Batch(), read=10)
    epoch = (await sink.stands()).epoch
    for _ in range(2):  # the second time as after an answer that was lost
        await skip(sink.connection, APP, TOPIC, 0, epoch=epoch, from_offset=10, to_offset=25)
        now = await sink.stands()
        assert (now.next_offset, now.gap, now.read) == (25, 15, 10)
    await sink.step(Batch(), read=1)
    with pytest.raises(FencedError, match="leaves/0 at offset 10"):
        await skip(sink.connection, APP, TOPIC, 0, epoch=epoch, from_offset=10, to_offset=25)
    taken = await sink.take(owner="w2")
    assert (taken.next_offset, taken.gap) == (35, 15)
    with pytest.raises(FencedError, match="another worker has taken it"):
        await skip(sink.connection, APP, TOPIC, 0, epoch=epoch, from_offset=35, to_offset=40)
    assert (await sink.stands()).next_offset == 35


async def test_changelogs_are_taken_once_their_writer_is_fenced_or_has_let_go(sink):
    key = (sink.connection, APP, TOPIC, 1)
    first = await take_changelogs(*key, "w1", transactional_id="one")
    assert (first.epoch, first.owner) == (1, "w1")
    # Who only asks, and ends then, has changed nothing: the next one has to fence the same writer.
    for owner in ("w2", "w3"):
        found = await take_changelogs(*key, owner, transactional_id=owner, fenced=["other"])
        assert found == Writer("one", is_connected=True)
    assert (await sink.stands(1)).epoch == 1
    second = await take_changelogs(*key, "w2", transactional_id="two", fenced=["other", "one"])
    assert (second.epoch, second.owner) == (2, "w2")
    await let_go(sink.connection, APP, ["one"], [(TOPIC, 1)])
    assert await take_changelogs(*key, "w3", transactional_id="three") == Writer("two", is_connected=True)
    await let_go(sink.connection, APP, ["one", "two"], [(TOPIC, 0), (TOPIC, 1)])
    assert (await take_changelogs(*key, "w3", transactional_id="three")).epoch == 3
    assert (await take_changelogs(*key, "w3", transactional_id="three")).epoch == 4


async def test_a_writer_whose_session_is_gone(sink):
    key = (sink.connection, APP, TOPIC, 1)
    await take_changelogs(*key, "w1", transactional_id="one")
    await sink.connection.execute("update progress set owner_pid = 0")
    assert await take_changelogs(*key, "w2", transactional_id="two") == Writer("one", is_connected=False)


async def test_app_versions_do_not_meet(sink):
    other = await take(sink.connection, APP + "x", TOPIC, 0, "w9")
    assert other.next_offset is None
    assert set(await read_progress(sink.connection, APP + "x")) == {(TOPIC, 0)}

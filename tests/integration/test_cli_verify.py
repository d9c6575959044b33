"""`tidemark verify`: what does not add up is found and told, and equal tables have equal digests."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from contracts.rows import (
    AudienceMembership,
    Claimant,
    CompanyMember,
    Contest,
    Counters,
    Identity,
    Quarantined,
)
from contracts.settings import Settings
from operations.cli.root import tidemark
from operations.settings import settings_environ
from operations.verify import DEVIATIONS_SHOWN, verify
from sinks.postgres.batch import Batch
from sinks.postgres.migration import migrate
from sinks.postgres.verification import digests, total_digest
from streams.engine.cluster import Cluster
from streams.topics import create_topics, topic_specs
from tests.integration.sink_environment import APP, TIME_US, Sink, occurrence, open_sink, view, whole
from tests.integration.test_cli_load import load_bytes


@pytest.fixture
async def sink(postgres_dsn: str) -> AsyncIterator[Sink]:
    async with open_sink(postgres_dsn) as opened:
        await opened.take()
        yield opened


def told(dsn: str) -> Settings:
    """Without a Kafka: as one verifies a database that was put back from a backup."""
    return Settings(dsn=dsn, app_version=APP)


def counters(profile_id: str, views: int, last_seen: int | None) -> tuple[Counters, int]:
    return Counters(profile_id, views, TIME_US, last_seen), 10


async def a_profile_with_two_leaves(sink: Sink) -> None:
    screen = view(9, time_us=TIME_US + 9)._replace(kind="screen")
    await sink.step(
        Batch(
            page_views=[view(1), view(2, time_us=TIME_US + 5), view(3, leaf="anon:a1"), screen],
            occurrences=[occurrence(4, properties='{"total":450.0}')],
            counters=[counters("user:u1", 3, TIME_US + 5)],
            identities=[Identity("user:u1", "user:u1"), Identity("anon:a1", "user:u1")],
            quarantined=[Quarantined("segment", 0, 1, "invalid_json", "a wording", b"\x00\xff", 0)],
        ),
        read=6,
        applied=5,
    )


async def invoke(settings: Settings, *arguments: str) -> Result:
    environ = {name: value for name, value in settings_environ(settings).items() if value}
    return await asyncio.to_thread(CliRunner().invoke, tidemark, ["verify", *arguments], env=environ)


async def test_what_adds_up_is_well(sink: Sink):
    await a_profile_with_two_leaves(sink)
    result = await invoke(told(sink.dsn))
    assert result.exit_code == 0, result.output
    assert "All is well" in result.stdout
    assert "read 6; applied 5 + duplicate 0 + quarantined 1 = 6" in result.stdout
    answer = json.loads((await invoke(told(sink.dsn), "--json")).stdout)
    assert answer["ok"] is True
    assert answer["tables"]["page_views"]["rows"] == 4
    assert answer["tables"]["profiles"]["sha256"] in result.stdout
    assert answer["digest"] in result.stdout


async def test_an_empty_system_is_well(sink: Sink):
    assert (await verify(told(sink.dsn), sink.connection)).is_well


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            "update profiles set page_views = 4",
            ["user:u1, page_views: expected 3, found 4"],
        ),
        (
            "update profiles set last_seen = null",
            ["user:u1, last_seen: expected 2023-11-14T22:13:20.000005Z, found none"],
        ),
        (
            "delete from page_views where leaf = 'anon:a1'",
            ["user:u1, page_views: expected 2, found 3"],
        ),
        (
            "delete from profiles",
            ["user:u1, profile: expected a row in profiles, found none"],
        ),
        (
            "insert into profiles (profile_id, position, definitions_version) values ('anon:a1', 1, 1)",
            [
                (
                    "anon:a1, profile: expected no row in profiles, or its leaf to belong to itself, "
                    "found a row, and a leaf that belongs to user:u1"
                )
            ],
        ),
        (
            "delete from identities where leaf = 'anon:a1'",
            [
                "user:u1, page_views: expected 2, found 3",
                "anon:a1, page_views: expected a row in identities, found none",
            ],
        ),
        (
            "insert into identity_contests values ('anon:a1', 'user:u2', now(), '[]')",
            ["anon:a1, identity: expected user:u2, found user:u1"],
        ),
    ],
)
async def test_damage_is_told(sink: Sink, damage: str, expected: list[str]):
    await a_profile_with_two_leaves(sink)
    await sink.connection.execute(damage)
    result = await invoke(told(sink.dsn))
    assert result.exit_code == 1
    lines = [line.strip() for line in result.stderr.splitlines()]
    assert [line for line in lines if ", found " in line] == expected
    answer = json.loads((await invoke(told(sink.dsn), "--json")).stdout)
    assert (answer["ok"], answer["deviations"]) == (False, len(expected))


async def test_leaves_of_every_table_are_looked_for(sink: Sink):
    await sink.step(
        Batch(
            occurrences=[occurrence(1)],
            company_members=[CompanyMember("acme", "anon:m", TIME_US)],
            audience_memberships=[(AudienceMembership("anon:n", "vip", True, TIME_US), "m1")],
        )
    )
    found = await verify(told(sink.dsn), sink.connection)
    assert {(each.subject, each.what) for each in found.recount.deviations} == {
        ("user:u1", "event_occurrences"),
        ("anon:m", "company_members"),
        ("anon:n", "audience_memberships"),
    }


async def test_many_deviations_are_counted_and_some_are_shown(sink: Sink):
    many = 3 * DEVIATIONS_SHOWN
    await sink.step(
        Batch(
            counters=[counters(f"user:u{n}", 1, None) for n in range(many)],
            identities=[Identity(f"user:u{n}", f"user:u{n}") for n in range(many)],
        )
    )
    result = await invoke(told(sink.dsn))
    assert f"and {many - DEVIATIONS_SHOWN} more" in result.stderr


async def test_messages_in_flight_are_no_rest(sink: Sink):
    await sink.step(Batch(), read=5, applied=4)
    result = await invoke(told(sink.dsn))
    assert result.exit_code == 1
    assert "1 messages are in flight" in result.stderr
    assert "tidemark wait" in result.stderr


async def test_more_that_ended_than_was_read_is_told(sink: Sink):
    await sink.step(Batch(), read=5, applied=6)
    result = await invoke(told(sink.dsn))
    assert result.exit_code == 1
    assert "expected read to be applied + duplicate + quarantined" in result.stderr


async def test_records_on_their_way_are_no_rest_and_then_a_lost_one_is_told(settings: Settings, tmp_path: Path):
    await create_topics(Cluster(settings), topic_specs(settings))
    await migrate(settings.dsn, settings.schema)
    assert (await invoke(settings)).exit_code == 0
    await load_bytes(settings, tmp_path / "f", b"1\n2\n3\n")
    answer = json.loads((await invoke(settings, "--json")).stdout)
    assert (answer["ok"], answer["at_rest"], answer["lag"], answer["tables"]) == (False, False, 3, {})
    async with open_sink(settings.dsn) as sink:
        for partition, end in ((0, 2), (1, 1)):
            await sink.connection.execute(
                "insert into progress (app_version, topic, partition, epoch, owner, owner_pid, next_offset, read) "
                "values ($1, $2, $3, 1, 'w1', 1, $4, $4)",
                settings.app_version,
                settings.source_topics[0],
                partition,
                end,
            )
    answer = json.loads((await invoke(settings, "--json")).stdout)
    assert (answer["ok"], answer["at_rest"], answer["in_flight"], answer["deviations"]) == (False, True, 3, 0)


async def test_rows_that_are_made_again_are_no_rest(sink: Sink):
    settings = told(sink.dsn)
    await sink.take(topic=settings.leaves_topic)
    await sink.connection.execute(
        "insert into attribute_definitions (scope, name, type, source, version) values ('user', 'a', 'string', 'me', 7)"
    )
    result = await invoke(settings)
    assert result.exit_code == 1
    assert "made again" in result.stderr
    await sink.connection.execute("update progress set definitions_version = 7")
    assert (await invoke(settings)).exit_code == 0


async def test_equal_tables_have_equal_digests_whatever_made_them(sink: Sink):
    await a_profile_with_two_leaves(sink)
    async with sink.connection.transaction(isolation="repeatable_read", readonly=True):
        before = await digests(sink.connection)
    # Another place on disk, another time zone, other bookkeeping.
    await sink.connection.execute("update profiles set position = 4711, definitions_version = 3")
    await sink.connection.execute("update quarantine set quarantined_at = now() - interval '1 day', detail = 'another'")
    await sink.connection.execute("set timezone = 'Asia/Kathmandu'")
    moved = "with gone as (delete from page_views returning *) insert into page_views select * from gone"
    await sink.connection.execute(moved)
    async with sink.connection.transaction(isolation="repeatable_read", readonly=True):
        assert await digests(sink.connection) == before
        assert total_digest(before) == total_digest(await digests(sink.connection))


async def test_a_digest_is_what_the_document_says(sink: Sink):
    await a_profile_with_two_leaves(sink)
    document = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    documented = document.split("```sql\n", 1)[1].split("```", 1)[0]
    async with sink.connection.transaction(isolation="repeatable_read", readonly=True):
        assert await sink.connection.fetchval(documented) == (await digests(sink.connection))["identities"].sha256


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("page_views", "update page_views set title = '' where message_id = 'm1'"),
        ("page_views", "update page_views set event_time = event_time + interval '1 microsecond'"),
        ("event_occurrences", """update event_occurrences set properties = '{"total": 451}'"""),
        ("quarantine", r"update quarantine set raw = '\x00fe'"),
        ("profiles", """update profiles set attributes = '{"a": null}'"""),
        ("identities", "delete from identities where leaf = 'anon:a1'"),
    ],
)
async def test_any_other_value_is_another_digest(sink: Sink, table: str, change: str):
    await a_profile_with_two_leaves(sink)
    reads = {"isolation": "repeatable_read", "readonly": True}
    async with sink.connection.transaction(**reads):
        before = await digests(sink.connection)
    await sink.connection.execute(change)
    async with sink.connection.transaction(**reads):
        after = await digests(sink.connection)
    assert {name for name in before if before[name] != after[name]} == {table}
    assert total_digest(before) != total_digest(after)


async def test_a_contest_that_agrees_is_well(sink: Sink):
    await a_profile_with_two_leaves(sink)
    claimants = (Claimant("user:u1", TIME_US, "m1"), Claimant("user:u2", TIME_US + 1, "m2"))
    await sink.step(
        Batch(
            contests=[Contest("anon:a1", "user:u1", TIME_US, claimants)],
            profiles=[(whole("user:u2"), 10)],
            identities=[Identity("user:u2", "user:u2")],
        )
    )
    assert (await verify(told(sink.dsn), sink.connection)).is_well

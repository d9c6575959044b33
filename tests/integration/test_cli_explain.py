"""`tidemark profile explain` on what a real worker wrote: the changelog, across partitions, after changes of owner."""

import json

import msgspec
import pytest

from contracts.settings import Settings
from tests.acceptance.pipeline import Pipeline, pipeline
from tests.faults.installations import start_armed, until_struck
from tests.integration.test_cli_identity import invoke, message
from tests.integration.worker_environment import WAIT_S, until

pytestmark = pytest.mark.timeout(400)

MESSAGES = [
    message(1, "identify", anonymousId="a1", traits={"email": "early@example.com", "city": "Oslo"}),
    message(2, "page", anonymousId="a1"),
    message(3, "identify", anonymousId="a1", userId="u1", traits={"email": "late@example.com", "age": "29"}),
    message(4, "identify", anonymousId="a1", traits={"plan": "pro", "phone": None, "age": "old"}),
    message(5, "identify", anonymousId="a1", userId="u2", traits={"plan": {"x": 1}}),
    message(6, "alias", previousId="a2", userId="u1"),
    message(7, "page", anonymousId="a3"),
]


async def explained(running: Pipeline, *arguments: str) -> dict:
    result = await invoke(running.settings, "profile", "explain", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


TOPIC = "segment-explained"


async def test_a_profile_is_explained_by_its_messages(settings: Settings):
    settings = msgspec.structs.replace(
        settings, source_topics=(f"{TOPIC}-{settings.app_version}",), source_partitions=1, leaves_partitions=4
    )
    topic = settings.source_topics[0]
    async with pipeline(settings) as running:
        result = await invoke(settings, "definitions", "set", "user", "age", "integer")
        assert result.exit_code == 0, result.output
        running.start("w1")
        await running.load(MESSAGES)
        await running.wait(WAIT_S)

        found = await explained(running, "u1")
        (row,) = [each for each in (await running.tables())["profiles"] if each["profile_id"] == "user:u1"]
        fields = {each["name"]: each for each in found["fields"]}
        assert {name: each["value"] for name, each in fields.items() if each["kind"] == "attribute"} == {
            **row["attributes"],
        }
        for name, each in fields.items():
            if each["kind"] == "field":
                assert each["value"] == row[name]
        email = fields["email"]
        assert email["set_by"] == {
            "sent": "late@example.com",
            "event_time": "2026-03-01T10:03:00Z",
            "message_id": "m3",
            "source": {"topic": topic, "partition": 0, "offset": 2},
            "leaf": "user:u1",
        }
        assert [(each["message_id"], each["leaf"], each["why"]) for each in email["ignored"]] == [
            ("m1", "anon:a1", "older")
        ]
        age = fields["age"]
        assert (age["value"], age["type"], age["set_by"]["message_id"]) == (29, "integer", "m3")
        assert [(each["message_id"], each["why"]) for each in age["ignored"]] == [("m4", "does not convert to integer")]
        assert (fields["phone"]["value"], fields["phone"]["set_by"]["message_id"]) == (None, "m4")
        assert (fields["plan"]["value"], fields["plan"]["set_by"]["leaf"]) == ("pro", "anon:a1")
        assert [(each["leaf"], each["page_views"]) for each in found["leaves"]] == [
            ("user:u1", 0),
            ("anon:a1", 1),
            ("anon:a2", 0),
        ]
        assert found["leaves"][1]["joined_by"]["message_id"] == "m3"
        assert found["leaves"][2]["joined_by"]["source"] == {"topic": topic, "partition": 0, "offset": 5}
        lost = [(each["leaf"], each["user"], each["message_id"]) for each in found["lost_claims"]]
        assert lost == [("anon:a1", "user:u2", "m5")]

        other = await explained(running, "u2", "--field", "plan")
        assert [(each["value"], each["set_by"]["sent"]) for each in other["fields"]] == [('{"x":1}', {"x": 1})]
        assert [(each["leaf"], each["user"]) for each in other["lost_claims"]] == [("anon:a1", "user:u2")]

        await taken_apart(running)

        async def is_verified() -> bool:
            return (await invoke(settings, "verify")).exit_code == 0

        await until(is_verified, "every row to be made again after the change of type, and all to add up")

        result = await invoke(settings, "profile", "explain", "u1", "--field", "shoe_size")
        assert result.exit_code == 1
        assert "got 'shoe_size'" in result.stderr
        assert (await invoke(settings, "profile", "explain", "nobody")).exit_code == 1
        assert "anon:a3  1 page view" in (await invoke(settings, "profile", "explain", "a3", "--anonymous")).stdout


async def taken_apart(running: Pipeline) -> None:
    """After an unclaim the values go with the leaf, and the claim is told as set aside, on both sides."""
    result = await invoke(running.settings, "identity", "unclaim", "a1", "--reason", "a tablet")
    assert result.exit_code == 0, result.output
    await running.wait(WAIT_S)
    found = await explained(running, "u1")
    assert "plan" not in {each["name"] for each in found["fields"]}
    (lost,) = found["lost_claims"]
    assert (lost["leaf"], lost["user"], lost["message_id"]) == ("anon:a1", "user:u1", "m3")
    assert lost["why"].startswith("set aside by an operator at ")
    assert lost["why"].endswith(": a tablet")
    found = await explained(running, "u2", "--field", "email")
    assert found["fields"][0]["set_by"]["leaf"] == "anon:a1"
    shown = (await invoke(running.settings, "profile", "explain", "u2")).stdout
    assert 'email = "early@example.com"' in shown
    assert "Claims that do not count" in shown


async def test_a_changelog_that_stays_behind_postgres_is_refused_until_somebody_catches_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    """A worker that was killed between its rows and its changelog: what explains them is not there yet."""
    monkeypatch.setattr("operations.explain.BEHIND_S_MAX", 1.0)
    async with pipeline(settings) as running:
        await running.load(MESSAGES)
        start_armed(running, "w1", "leaf-written")
        await until_struck(running, "w1")
        connection = await running.connection()
        try:
            profile = await connection.fetchval("select profile_id from profiles order by 1 limit 1")
        finally:
            await connection.close()
        result = await invoke(running.settings, "profile", "explain", profile)
        assert result.exit_code != 0
        assert "to have applied what Postgres has" in result.output
        running.start("w1")
        await running.wait(WAIT_S)
        await explained(running, profile)

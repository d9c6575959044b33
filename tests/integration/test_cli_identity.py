"""`tidemark identity` against a running worker: pairs are taken apart and allowed again, and what was done is kept."""

import asyncio
import json
from collections.abc import AsyncIterator

import msgspec
import pytest
from click.testing import CliRunner, Result

from contracts.settings import Settings
from operations import identity as acts
from operations.cli.root import tidemark
from operations.settings import settings_environ
from tests.acceptance.pipeline import Pipeline, pipeline
from tests.integration.worker_environment import WAIT_S

pytestmark = pytest.mark.timeout(400)


def message(number: int, kind: str, **fields: object) -> bytes:
    time = f"2026-03-01T10:{number:02}:00Z"
    return msgspec.json.encode({"messageId": f"m{number}", "type": kind, "timestamp": time, **fields})


MESSAGES = [
    message(1, "page", anonymousId="shared"),
    message(2, "identify", anonymousId="shared", userId="u1", traits={"email": "one@example.com"}),
    message(3, "identify", anonymousId="shared", userId="u2", traits={"email": "two@example.com"}),
    message(4, "page", anonymousId="alone"),
    message(5, "identify", anonymousId="silent", userId="u1"),
]


@pytest.fixture
async def running(settings: Settings) -> AsyncIterator[Pipeline]:
    settings = msgspec.structs.replace(settings, leaves_partitions=2, companies_partitions=1, source_partitions=1)
    async with pipeline(settings) as made:
        made.start("w1")
        await made.load(MESSAGES)
        await made.wait(WAIT_S)
        yield made


async def invoke(settings: Settings, *arguments: str) -> Result:
    environ = {name: value for name, value in settings_environ(settings).items() if value} | {"COLUMNS": "300"}
    return await asyncio.to_thread(CliRunner().invoke, tidemark, [*arguments], env=environ)


async def answer(running: Pipeline, *arguments: str) -> object:
    result = await invoke(running.settings, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def identity_of(running: Pipeline, leaf: str) -> str | None:
    rows = (await running.tables())["identities"]
    return next((row["profile_id"] for row in rows if row["leaf"] == leaf), None)


async def views_of(running: Pipeline) -> dict[str, int]:
    await running.wait(WAIT_S)
    assert (await invoke(running.settings, "verify")).exit_code == 0
    return {row["profile_id"]: row["page_views"] for row in (await running.tables())["profiles"]}


async def test_a_pair_is_taken_apart_and_allowed_again(running: Pipeline):
    assert await views_of(running) == {"user:u1": 1, "user:u2": 0, "anon:alone": 1}
    (contest,) = await answer(running, "identity", "contests")
    assert (contest["leaf"], contest["owner"], contest["since"]) == ("anon:shared", "user:u1", "2026-03-01T10:02:00Z")
    assert [each["user"] for each in contest["claimants"]] == ["user:u1", "user:u2"]
    assert "anon:shared" in (await invoke(running.settings, "identity", "contests")).stdout

    done = await answer(running, "identity", "unclaim", "shared", "--reason", "a tablet")
    assert (done["before"], done["after"], done["user"]) == ("user:u1", "user:u2", "user:u1")
    assert await answer(running, "identity", "contests") == []
    assert await views_of(running) == {"user:u1": 0, "user:u2": 1, "anon:alone": 1}

    result = await invoke(
        running.settings, "identity", "unclaim", "anon:shared", "--user", "u2", "--reason", "nobody's"
    )
    assert result.exit_code == 0, result.output
    assert "it is a profile of its own now, and no longer part of user:u2" in result.stdout
    assert await views_of(running) == {"user:u1": 0, "user:u2": 0, "anon:alone": 1, "anon:shared": 1}

    done = await answer(running, "identity", "allow", "shared", "--user", "u1", "--reason", "it was his")
    assert (done["before"], done["after"]) == ("anon:shared", "user:u1")
    assert await views_of(running) == {"user:u1": 1, "user:u2": 0, "anon:alone": 1}

    trail = await answer(running, "identity", "acts")
    assert [(each["act"], each["leaf"], each["user_leaf"], each["reason"]) for each in trail] == [
        ("allow", "anon:shared", "user:u1", "it was his"),
        ("unclaim", "anon:shared", "user:u2", "nobody's"),
        ("unclaim", "anon:shared", "user:u1", "a tablet"),
    ]
    assert "it was his" in (await invoke(running.settings, "identity", "acts", "--limit", "1")).stdout


async def test_another_claimant_may_be_named_and_a_leaf_without_messages_goes(running: Pipeline):
    done = await answer(running, "identity", "unclaim", "shared", "--user", "u2", "--reason", "support")
    assert (done["before"], done["after"]) == ("user:u1", "user:u1")
    assert await answer(running, "identity", "contests") == []
    done = await answer(running, "identity", "unclaim", "silent", "--reason", "a bot")
    assert (done["before"], done["after"]) == ("user:u1", None)
    assert await identity_of(running, "anon:silent") is None
    await answer(running, "identity", "allow", "silent", "--user", "u1", "--reason", "no bot")
    assert await identity_of(running, "anon:silent") == "user:u1"


REFUSED = [
    (("unclaim", "nobody", "--reason", "r"), "nobody knows 'nobody'"),
    (("unclaim", "alone", "--reason", "r"), "anon:alone belongs to nobody but itself"),
    (("unclaim", "shared", "--reason", " "), "got ' '"),
    (("unclaim", "shared", "--reason", "r", "--user", "u3"), "(u1, u2); got 'u3'"),
    (("allow", "shared", "--reason", "r", "--user", "u1"), "(none); got 'u1'"),
    (("allow", "nobody", "--reason", "r", "--user", "u1"), "nobody knows 'nobody'"),
    (("unclaim", "shared", "--reason", "r", "--user", "u2"), "Set the clock right"),
]


async def test_what_makes_no_sense_is_refused_in_one_line(running: Pipeline):
    connection = await running.connection()
    await connection.execute(
        "insert into identity_acts values ('a', 'anon:shared', 'user:u2', 'allow', now() + interval '1 day', 'r')"
    )
    await connection.close()
    for arguments, said in REFUSED:
        result = await invoke(running.settings, "identity", *arguments)
        assert result.exit_code == 1
        (line,) = result.stderr.splitlines()
        assert said in line
    assert len(await answer(running, "identity", "acts")) == 1


async def test_without_a_worker_the_act_is_sent_and_said_to_wait(running: Pipeline, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(acts, "ARRIVE_S", 0.5)
    assert running.stop("w1") == 0
    result = await invoke(running.settings, "identity", "unclaim", "shared", "--reason", "a tablet")
    assert result.exit_code == 1
    assert "is sent, and no worker has taken it in yet" in result.stderr
    running.start("w1")
    await running.wait(WAIT_S)
    assert await identity_of(running, "anon:shared") == "user:u2"

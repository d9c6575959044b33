"""Claims, merges and operators' acts on the real services, while workers come and go (SEMANTICS S1, S4).

TIDEMARK_TEST_SEED   repeats who is killed when
"""

import asyncio
import json
import os
import random
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

import msgspec
import pytest
from click.testing import CliRunner

from contracts.settings import Settings
from operations import identity
from operations.cli.root import tidemark
from operations.settings import settings_environ
from sinks.postgres.database import Database
from sinks.postgres.standing import Standing
from streams.engine.context import partition_of
from tests.acceptance.pipeline import Pipeline, pipeline
from tests.integration.worker_environment import assert_alive, lose_state, sample, stop_all, until, until_applied
from tests.oracle import recompute

pytestmark = pytest.mark.timeout(400)

DAY = datetime(2026, 3, 1, tzinfo=UTC)
LEAVES = 12
"""Anonymous leaves of each kind."""
MESSAGES = 1500
"""Of the sample: so many have a contest among them."""
_numbers = count()


def message(kind: str, minute: int, **fields: object) -> bytes:
    time = DAY + timedelta(minutes=minute)
    return msgspec.json.encode({"type": kind, "messageId": f"m{next(_numbers)}", "timestamp": time, **fields})


def visits(anonymous: Sequence[str], minute: int) -> list[bytes]:
    """What anonymous visitors do: a view, and words of themselves."""
    return [
        each
        for leaf in anonymous
        for each in (
            message("page", minute, anonymousId=leaf),
            message("identify", minute, anonymousId=leaf, traits={"email": f"{leaf}@{minute}.example", "plan": minute}),
        )
    ]


def claims(users: Sequence[str], anonymous: Sequence[str], minute: int) -> list[bytes]:
    """Each anonymous leaf is claimed by the user of its number."""
    pairs = zip(users, anonymous, strict=True)
    return [message("identify", minute, userId=user, anonymousId=leaf, traits={"by": user}) for user, leaf in pairs]


async def partitions_of(running: Pipeline, worker: str) -> set[int]:
    """The partitions of the leaves topic that a worker has."""
    connection = await running.connection()
    try:
        rows = await connection.fetch(
            "select partition from progress where topic = $1 and owner = $2", running.settings.leaves_topic, worker
        )
    finally:
        await connection.close()
    return {row[0] for row in rows}


def ids_in(partitions: set[int], kind: str, settings: Settings) -> list[str]:
    """Ids whose leaves lie in these partitions of the leaves topic."""
    names = (f"{kind}-{number}" for number in count())
    found = (
        name for name in names if partition_of(f"{kind}:{name}".encode(), settings.leaves_partitions) in partitions
    )
    return [next(found) for _ in range(LEAVES)]


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_merge_while_the_owners_partition_is_on_a_worker_that_restarts(settings: Settings, how: str) -> None:
    # More of the leaves topic than of all others together: the group's assignor counts partitions, whatever the topic.
    settings = msgspec.structs.replace(settings, cycle_records_max=20, leaves_partitions=8, companies_partitions=1)
    async with pipeline(settings) as running:
        running.start("away")
        running.start("here")

        async def both_work() -> bool:
            return bool(await partitions_of(running, "away")) and bool(await partitions_of(running, "here"))

        await until(both_work, "both workers to have partitions of the leaves topic")
        far, near = await partitions_of(running, "away"), await partitions_of(running, "here")
        users, others = ids_in(far, "user", settings), ids_in(near, "user", settings)
        known, new, lost, won = (
            [f"{name}-{leaf}" for leaf in ids_in(near, "anon", settings)] for name in ("known", "new", "lost", "won")
        )
        before = [
            *visits([*known, *new, *lost, *won], 1),
            *claims(users, known, 50),
            *claims(users, lost, 50),
            *claims(others, won, 50),
        ]
        await running.load(before)
        await until_applied(running, len(before) // 2)

        # The users' partitions have nobody now, or change hands: claims wait there, facts and withdrawals for them too.
        if how == "killed":
            running.kill("away")
        else:
            assert running.stop("away") == 0
        meanwhile = [
            *visits(known, 60),
            *claims(users, new, 55),
            *claims(others, lost, 40),
            *claims(users, won, 40),
            *visits([*lost, *won, *new], 61),
        ]
        await running.load(meanwhile[: len(meanwhile) // 2])
        running.start("away")
        await running.load(meanwhile[len(meanwhile) // 2 :])
        await running.load(visits([*known, *new, *lost, *won], 70))
        await running.wait()

        assert await running.findings() == []
        tables = await running.tables()
        profile_of = {row["leaf"]: row["profile_id"] for row in tables["identities"]}
        for mine, owners in ((known, users), (new, users), (lost, others), (won, users)):
            assert [profile_of[f"anon:{leaf}"] for leaf in mine] == [f"user:{user}" for user in owners]
        views = {row["profile_id"]: row["page_views"] for row in tables["profiles"]}
        # Three views each of the visitors that he knew, of the new ones and of those that he has won.
        assert views == {f"user:{user}": 9 for user in users} | {f"user:{user}": 3 for user in others}
        assert len(tables["identity_contests"]) == 2 * LEAVES
        stop_all(running)


async def act(settings: Settings, pair: tuple[str, str], *, is_allowed: bool) -> None:
    """Send an act on a pair, also on one that nobody knows yet."""
    anonymous, user = pair
    connection = await Database(settings.dsn, settings.schema, application="tidemark-test").open()
    try:
        unknown = Standing(anonymous, None, (), ())
        await identity.act(settings, connection, unknown, user, is_allowed=is_allowed, reason="a test")
    finally:
        await connection.close()


async def test_unclaims_while_workers_are_killed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = int(os.environ.get("TIDEMARK_TEST_SEED") or secrets.randbits(32))
    print(f"TIDEMARK_TEST_SEED={seed}")
    rng = random.Random(seed)
    monkeypatch.setattr(identity, "ARRIVE_S", 0.1)
    settings = msgspec.structs.replace(settings, cycle_records_max=30, leaves_partitions=8, companies_partitions=1)
    async with pipeline(settings) as running:
        await running.load(sample()[:MESSAGES])
        expected = recompute(await running.source_records(), claims=True)
        claimed = [
            (contest["leaf"], claimant["user"])
            for contest in expected["identity_contests"]
            for claimant in contest["claimants"]
        ]
        owned = [(row["leaf"], row["profile_id"]) for row in expected["identities"] if row["leaf"] != row["profile_id"]]
        pairs = [*claimed, *rng.sample([pair for pair in owned if pair not in claimed], 7)]
        rng.shuffle(pairs)
        allowed = set(rng.sample(pairs, 3))
        for worker in ("a", "b"):
            running.start(worker)
        # The first before anything is known of the pair; the last when most is done.
        await act(settings, pairs[0], is_allowed=False)
        for number, pair in enumerate(pairs[1:]):
            await asyncio.sleep(rng.uniform(0.2, 1.0))
            assert_alive(running)
            await act(settings, pair, is_allowed=False)
            if number % 3 == 1:
                worker = rng.choice(("a", "b"))
                running.kill(worker)
                if rng.random() < 0.3:
                    lose_state(running, worker)
                await asyncio.sleep(rng.uniform(0, 0.5))
                running.start(worker)
        for pair in allowed:
            await act(settings, pair, is_allowed=True)
        await running.wait()
        assert await running.findings(unclaimed=set(pairs) - allowed) == []
        connection = await running.connection()
        try:
            acts = await connection.fetch("select leaf, user_leaf, act from identity_acts")
        finally:
            await connection.close()
        assert sorted(map(tuple, acts)) == sorted(
            [*((*pair, "unclaim") for pair in pairs), *((*pair, "allow") for pair in allowed)]
        )
        stop_all(running)


async def answer(running: Pipeline, *arguments: str) -> object:
    """What `tidemark identity` says."""
    environ = {name: value for name, value in settings_environ(running.settings).items() if value}
    command = ["identity", *arguments, "--json"]
    result = await asyncio.to_thread(CliRunner().invoke, tidemark, command, env=environ)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def test_an_operator_takes_a_pair_apart_and_allows_it_again(settings: Settings) -> None:
    async with pipeline(settings) as running:
        running.start("w")
        await running.load(sample()[:MESSAGES])
        await running.wait()
        before = (await running.verified()).tables
        contest, *_ = await answer(running, "contests")
        leaf, (owner, heir) = contest["leaf"], [each["user"] for each in contest["claimants"]]

        done = await answer(running, "unclaim", leaf, "--reason", "a tablet in the shop")
        assert (done["before"], done["after"]) == (owner, heir)
        await running.wait()
        assert await running.findings(unclaimed={(leaf, owner)}) == []
        # Whatever comes of the pair now, it stays apart.
        again = {"userId": owner.removeprefix("user:"), "anonymousId": leaf.removeprefix("anon:")}
        await running.load([message("page", 1, **again)])
        await running.wait()
        assert await running.findings(unclaimed={(leaf, owner)}) == []

        done = await answer(running, "allow", leaf, "--user", owner, "--reason", "it was his")
        assert (done["before"], done["after"]) == (heir, owner)
        await running.wait()
        assert await running.findings() == []
        # But for that page nothing has changed.
        after = (await running.verified()).tables
        assert {name for name in before if before[name] != after[name]} == {
            "identity_contests",
            "page_views",
            "profiles",
        }
        stop_all(running)

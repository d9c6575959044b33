"""Messages that come out of the quarantine again: once, at their own time, whatever is killed meanwhile."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from click.testing import CliRunner, Result

from contracts.rows import Quarantined, Redriven
from contracts.settings import BLOCKED_IDS, Settings
from examples.generate import generate
from operations import redrive as redriving
from operations.cli.root import tidemark
from operations.redrive import RedriveError, redrive
from operations.settings import settings_environ
from sinks.postgres import quarantine
from sinks.postgres.batch import Batch, Move
from sinks.postgres.database import Database
from sinks.postgres.queries import Stats
from tests.acceptance.pipeline import Pipeline, pipeline
from tests.integration.sink_environment import TOPIC, Sink, open_sink
from tests.integration.worker_environment import WAIT_S, lose_state, sample, stop_all, until
from tests.oracle import Tables, differences, recompute

pytestmark = pytest.mark.timeout(600)

SEED = 20_261_124
SHOPS = ("shop-1", "shop-2", "shop-3")
STRICT_BYTES = 1500
BAD = [b"{", b"[]", b'{"type":"page"}', None]


def strict(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, blocked_ids=(*BLOCKED_IDS, *SHOPS), max_message_bytes=STRICT_BYTES)


def values(count: int) -> list[bytes | None]:
    """Messages of which a quarter is refused under the strict settings alone, in any order, some of them twice."""
    rng = random.Random(SEED)
    made: list[bytes | None] = [*BAD, *sample()]
    for value in generate(SEED, count, profile="load", users=60):
        message = json.loads(value)
        drawn = rng.random()
        if drawn < 0.15:
            message["integrations"] = {"Braze": "x" * STRICT_BYTES}
        elif drawn < 0.25:
            # Without an anonymousId: else it would not be refused, but go to another leaf.
            message["userId"] = rng.choice(SHOPS)
            del message["anonymousId"]
        made.append(json.dumps(message, separators=(",", ":")).encode())
    made += rng.sample(made, len(made) // 10)
    rng.shuffle(made)
    return made


async def compared(running: Pipeline) -> Tables:
    """Wait until all has arrived, and compare every table and counter with the recomputation under the settings."""
    await running.wait(WAIT_S)
    settings = running.settings
    expected = recompute(
        await running.source_records(),
        claims=True,
        blocked_ids=settings.blocked_ids,
        max_message_bytes=settings.max_message_bytes,
    )
    # The reason of a message that nobody redrives is that of its time.
    assert differences(expected, await running.tables()) == []
    stats = await running.stats()
    assert (stats.read, stats.applied, stats.duplicate, stats.quarantined, stats.in_flight) == (
        expected.read,
        expected.applied,
        expected.duplicate,
        expected.quarantined,
        0,
    )
    assert (await running.verified()).is_well
    return expected


async def refused_by_strict_workers(running: Pipeline, loaded: Sequence[bytes | None]) -> Tables:
    """Load, and let workers with strict settings refuse what they refuse; they are stopped then."""
    settings = running.settings
    running.settings = strict(settings)
    for worker in ("a", "b"):
        running.start(worker)
    await running.load(loaded)
    before = await compared(running)
    stop_all(running)
    running.settings = settings
    return before


async def redrive_all(running: Pipeline, **options: object) -> redriving.Redrive:
    connection = await Database(running.settings.dsn, running.settings.schema).open()
    try:
        return await redrive(running.settings, connection, None, None, **options)
    finally:
        await connection.close()


async def invoke(settings: Settings, *arguments: str, said: str | None = None) -> Result:
    environ = {name: value for name, value in settings_environ(settings).items() if value} | {"COLUMNS": "300"}
    return await asyncio.to_thread(CliRunner().invoke, tidemark, [*arguments], env=environ, input=said)


async def test_what_was_refused_goes_in_under_other_settings(settings: Settings) -> None:
    async with pipeline(settings) as running:
        before = await refused_by_strict_workers(running, values(1500))
        assert before.quarantined["too_large"] > 100
        assert before.quarantined["no_identity"] > 100
        tables, stats = await running.tables(), await running.stats()

        told = await invoke(running.settings, "quarantine", "redrive", "--dry-run", "--json")
        assert told.exit_code == 0, told.output
        planned = json.loads(told.stdout)
        assert await running.tables() == tables
        assert await running.stats() == stats
        declined = await invoke(running.settings, "quarantine", "redrive", said="n\n")
        assert declined.exit_code == 0, declined.output
        assert await running.tables() == tables

        running.start("a")
        running.start("b")
        first = await invoke(
            running.settings, "quarantine", "redrive", "--reason", "too_large", "--limit", "7", "--yes", "--json"
        )
        assert first.exit_code == 0, first.output
        assert json.loads(first.stdout)["sent"] == 7
        rest = await invoke(running.settings, "quarantine", "redrive", "--yes", "--json")
        assert rest.exit_code == 0, rest.output
        done = json.loads(rest.stdout)
        assert done["sent"] == planned["sent"] - 7 == done["applied"] + done["duplicate"]
        assert done["duplicate"] > 0
        assert done["stays"] == planned["stays"]

        expected = await compared(running)
        assert expected.quarantined == planned["stays"]
        again = await invoke(running.settings, "quarantine", "redrive", "--yes")
        assert again.exit_code == 0, again.output
        assert again.stdout.startswith("0 redriven: 0 applied, 0 duplicate; stay: ")
        await compared(running)
        stop_all(running)


async def test_a_late_arrival_does_not_harm_what_is_newer(settings: Settings) -> None:
    """Times of the message and of Kafka are those of its source record, whenever it goes in."""

    def identify(number: int, *, plan: str, pad: int, **fields: object) -> bytes:
        message = {"type": "identify", "messageId": f"m{number}", "userId": "u1", "traits": {"plan": plan}}
        return json.dumps({**message, **fields, "integrations": "x" * pad}).encode()

    loaded = [
        # Without a time of its own: that of Kafka counts, which goes up.
        identify(1, plan="first", pad=STRICT_BYTES),
        identify(2, plan="second", pad=0),
        identify(3, plan="future", pad=STRICT_BYTES, timestamp="2031-01-01T00:00:00Z"),
        identify(4, plan="late", pad=STRICT_BYTES, timestamp="2020-01-01T00:00:00Z"),
    ]
    settings = msgspec.structs.replace(settings, future_tolerance_s=0, source_partitions=1)
    async with pipeline(settings) as running:
        await refused_by_strict_workers(running, loaded)
        running.start("a")
        done = await redrive_all(running)
        assert (done.sent, done.applied, done.is_settled) == (3, 3, True)
        expected = recompute(await running.source_records(), claims=True, future_tolerance_s=0)
        assert differences(expected, await running.tables()) == []
        ((row),) = (await running.tables())["profiles"]
        assert row["attributes"]["plan"] == "future"
        stop_all(running)


async def test_sent_twice_and_killed_half_way_is_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "PAGE_ROWS", 40)
    settings = msgspec.structs.replace(settings, cycle_records_max=5)
    async with pipeline(settings) as running:
        await refused_by_strict_workers(running, values(1200))

        class KilledError(Exception):
            pass

        def kill(sent: int) -> None:
            if sent > 100:
                raise KilledError

        # Nobody decides: the second time sees that the first one's are still under way.
        with pytest.raises(KilledError):
            await redrive_all(running, on_sent=kill, standstill_s=2)
        with pytest.raises(RedriveError, match="Nothing was sent"):
            await redrive_all(running, standstill_s=2)

        # Without that guard, each message twice: as if a redrive had been sent from elsewhere.
        async def at_once(_settings: Settings, **_options: object) -> object:
            return redriving_arrival

        redriving_arrival = type("Arrival", (), {"missing": ()})
        with monkeypatch.context() as patched:
            patched.setattr(redriving, "wait_until_decided", at_once)
            await redrive_all(running)
            await redrive_all(running)

        for round_ in range(3):
            before = await running.stats()
            running.start("a")
            running.start("b")

            async def goes_on(before: Stats = before) -> bool:
                now = await running.stats()
                return now.applied > before.applied or "too_large" not in now.quarantined

            if round_ < 2:
                await until(goes_on, "some messages to come out of the quarantine")
                running.kill("a")
                running.kill("b")
                if round_ == 0:
                    left = (await running.stats()).quarantined
                    assert "too_large" in left, "killed half way, not when all was done"
                lose_state(running, "a")
        await compared(running)
        done = await redrive_all(running)
        assert done.sent == 0
        await compared(running)
        stop_all(running)


async def test_workers_with_the_old_settings_refuse_again(settings: Settings) -> None:
    """What the command accepts and a worker does not stays, with the worker's reason; nothing is lost or counted."""
    async with pipeline(settings) as running:
        before = await refused_by_strict_workers(running, values(200))
        lenient, running.settings = running.settings, strict(settings)
        running.start("a")
        running.settings = lenient
        done = await redrive_all(running)
        assert done.sent > 0
        assert (done.applied, done.duplicate, done.is_settled) == (0, 0, True)
        # Of two faults the first counts, which is another one under other settings.
        assert done.stays.total() == sum(before.quarantined.values())
        stats = await running.stats()
        assert (stats.applied, stats.duplicate) == (before.applied, before.duplicate)
        assert stats.quarantined == done.stays
        stop_all(running)
        running.start("a")
        await redrive_all(running)
        await compared(running)
        stop_all(running)


async def test_only_one_redrive_at_a_time(settings: Settings) -> None:
    async with pipeline(settings) as running:
        connection = await Database(settings.dsn, settings.schema).open()
        try:
            assert await quarantine.lock_redrive(connection)
            with pytest.raises(RedriveError, match="another one is at work"):
                await redrive_all(running)
        finally:
            await connection.close()


# What the merge promises, on a real Postgres.


@pytest.fixture
async def sink(postgres_dsn: str) -> AsyncIterator[Sink]:
    async with open_sink(postgres_dsn) as opened:
        await opened.take()
        yield opened


def refused(offset: int, reason: str = "too_large", **more: bool) -> Quarantined:
    return Quarantined("segment", 0, offset, reason, f"because {reason}", b"raw", 1_795_000_000_123, **more)


def redriven(offset: int, outcome: str = "applied") -> Redriven:
    return Redriven("segment", 0, offset, outcome, TOPIC, 0)


async def stands(sink: Sink) -> tuple[list[tuple[int, str]], int, int]:
    progress = await sink.stands()
    rows = (await sink.dump())["quarantine"]
    return [(row[2], row[3]) for row in rows], progress.applied, progress.duplicate


async def test_a_row_leaves_the_quarantine_once_and_for_good(sink: Sink) -> None:
    await sink.step(Batch(quarantined=[refused(1), refused(2), refused(3)]))
    await sink.step(Batch(redriven=[redriven(1), redriven(1, "duplicate"), redriven(2, "duplicate")]), applied=5)
    assert await stands(sink) == ([(3, "too_large")], 6, 1)
    # Another redrive, the router's repetition of the refusal, and another refusal: all of them late.
    await sink.step(Batch(redriven=[redriven(1, "duplicate"), redriven(2)]))
    await sink.step(Batch(quarantined=[refused(1), refused(2, is_again=True)]))
    assert await stands(sink) == ([(3, "too_large")], 6, 1)


async def test_a_row_that_arrives_after_its_redrive_does_not_stay(sink: Sink) -> None:
    """As when Postgres was put back to a state before both, and another partition is faster."""
    await sink.step(Batch(redriven=[redriven(1)]))
    await sink.step(Batch(quarantined=[refused(1), refused(1, "invalid_field", is_again=True)]))
    assert await stands(sink) == ([], 1, 0)


async def test_another_refusal_gives_the_newest_reason(sink: Sink) -> None:
    await sink.step(Batch(quarantined=[refused(1), refused(2, lacks_rows=True)]))
    again = [refused(1, "no_identity", is_again=True), refused(1, "invalid_field", is_again=True)]
    await sink.step(Batch(quarantined=[*again, refused(2, "internal_error", is_again=True), refused(1)]))
    await sink.step(Batch(quarantined=[refused(1)]))
    assert (await stands(sink))[0] == [(1, "invalid_field"), (2, "internal_error")]
    pages = [page async for page in quarantine.pages(sink.connection, None)]
    assert [(row.offset, row.timestamp_ms, row.lacks_rows) for page in pages for row in page] == [
        (1, 1_795_000_000_123, False),
        (2, 1_795_000_000_123, True),
    ]


async def test_refused_and_redriven_at_the_same_moment(sink: Sink) -> None:
    """A transaction that quarantines cannot see one that redrives: they go one after the other."""
    await sink.take(1)
    other = sink.new_writer()
    epoch = (await sink.stands(1)).epoch
    count = 60
    await sink.step(Batch(quarantined=[refused(n) for n in range(count)]))

    async def refuse() -> None:
        for n in range(count):
            await other.commit(Batch(quarantined=[refused(n)], progress=[Move(TOPIC, 1, epoch, n, n + 1)]))

    async def take_out() -> None:
        for n in range(count):
            await sink.step(Batch(redriven=[redriven(n)]))

    await asyncio.gather(refuse(), take_out())
    assert await stands(sink) == ([], count, 0)


async def test_pages_hold_all_of_a_reason_and_few_bytes(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "PAGE_BYTES", 250)
    rows = [refused(n, "too_large" if n % 3 else "no_identity")._replace(raw=bytes(100 * (n % 5))) for n in range(30)]
    await sink.step(Batch(quarantined=rows))
    pages = [page async for page in quarantine.pages(sink.connection, "too_large")]
    assert [row for page in pages for row in page] == [row for row in rows if row.reason == "too_large"]
    assert all(sum(len(row.raw) for row in page[:-1]) < 250 for page in pages)
    assert len(pages) > 5

"""A worker that is killed in the midst of its work, and one that stops in good order (SEMANTICS S4, S12)."""

import msgspec

from contracts.settings import Settings
from tests.acceptance.pipeline import pipeline
from tests.integration.worker_environment import lose_state, sample, settled, stop_all, until_applied


async def test_killed_in_the_midst_and_started_without_local_state(settings: Settings) -> None:
    values = sample()
    # Small cycles, so that there are many to be killed in.
    settings = msgspec.structs.replace(settings, cycle_records_max=100)
    async with pipeline(settings) as running:
        running.start("a")
        running.start("b")
        await running.load(values[: len(values) // 2])
        await until_applied(running, 200)
        running.kill("a")
        await running.load(values[len(values) // 2 :])
        lose_state(running, "a")
        running.start("a")
        await settled(running)
        stop_all(running)


async def test_stopped_and_started_again_goes_on_where_it_was(settings: Settings) -> None:
    values = sample()
    settings = msgspec.structs.replace(settings, cycle_records_max=200)
    async with pipeline(settings) as running:
        await running.load(values[:2000])
        running.start("a")
        await until_applied(running, 100)
        stop_all(running)
        before = (await running.stats()).applied
        await running.load(values[2000:])
        running.start("a")
        await until_applied(running, before + 1)
        running.kill("a")
        running.start("a")
        await settled(running)
        # Nothing new: it starts and stops without touching anything.
        rows = await running.tables()
        stop_all(running)
        running.start("a")
        await running.load([b"{}"])
        await running.wait()
        stop_all(running)
        after = await running.tables()
        assert len(after.pop("quarantine")) == len(rows.pop("quarantine")) + 1
        assert after == rows

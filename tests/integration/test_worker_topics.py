"""Topics that are recreated or cut under a worker: noticed and told, nothing is skipped silently (SEMANTICS S12)."""

import pytest

from contracts.settings import Settings
from tests.acceptance.pipeline import pipeline
from tests.integration.topics_environment import cut, ends, fill, recreate
from tests.integration.worker_environment import ended, paused, sample, settled, stop_all

REFUSED = "it was recreated, cut or restored from elsewhere, and nothing is skipped silently"
GONE = "Kafka has no record at"


async def test_a_leaves_topic_that_is_recreated_is_refused(settings: Settings) -> None:
    values = sample()[:1000]
    async with pipeline(settings) as running:
        running.start("a")
        await running.load(values)
        await settled(running)
        await recreate(settings, settings.leaves_topic)
        log = await ended(running, "a")
        # By the rebalance that the new topic brings, or by a fetch from the position in the old one.
        assert REFUSED in log or GONE in log
        assert settings.leaves_topic in log
        running.start("b")
        assert REFUSED in await ended(running, "b")
        # Also where it has grown beyond the position since.
        await fill(settings, settings.leaves_topic, settings.leaves_partitions, 2000)
        running.start("c")
        log = await ended(running, "c")
        assert "is not the one that was read there" in log
        assert settings.leaves_topic in log


async def test_a_source_topic_that_is_recreated_is_refused(settings: Settings) -> None:
    values = sample()[:300]
    async with pipeline(settings) as running:
        running.start("a")
        await running.load(values)
        await settled(running)
        stop_all(running)
        source = settings.source_topics[0]
        await recreate(settings, source)
        await fill(settings, source, settings.source_partitions, 500)
        running.start("b")
        assert "is not the one that was read there" in await ended(running, "b")


@pytest.mark.faults
async def test_a_leaves_topic_that_is_cut_is_refused(settings: Settings) -> None:
    """What nobody has processed yet is deleted, under a worker and, once more, before one starts."""
    leaves = settings.leaves_topic
    async with pipeline(settings) as running:
        running.start("a")
        await running.load(sample()[:300])
        await settled(running)
        async with paused(running, "a"):
            await fill(settings, leaves, settings.leaves_partitions, 10)
            await cut(settings, leaves, await ends(settings, leaves))
        log = await ended(running, "a")
        assert GONE in log
        assert leaves in log
        running.start("b")
        log = await ended(running, "b")
        assert REFUSED in log
        assert leaves in log


@pytest.mark.faults
async def test_a_source_topic_that_is_recreated_under_a_worker_is_refused(settings: Settings) -> None:
    source = settings.source_topics[0]
    async with pipeline(settings) as running:
        running.start("a")
        await running.load(sample()[:300])
        await settled(running)
        await recreate(settings, source)
        assert source in await ended(running, "a")
        running.start("b")
        log = await ended(running, "b")
        assert REFUSED in log
        assert source in log

"""Clients of a real Kafka: what they leave behind."""

import asyncio
import gc
import warnings

import pytest

from streams.engine.producer import BatchProducer
from tests.integration.engine_environment import Topics, topics

__all__ = ["topics"]

MOMENTS_S = [n / 10_000 for n in range(100)]
"""A client takes a few milliseconds to start."""


async def consumer_of(topics: Topics) -> None:
    async with topics.cluster.consumer():
        pass


async def admin_of(topics: Topics) -> None:
    async with topics.cluster.admin():
        pass


async def producer_of(topics: Topics) -> None:
    producer = BatchProducer(topics.cluster)
    await producer.start()
    await producer.stop()


@pytest.mark.parametrize("client_of", [consumer_of, admin_of, producer_of])
async def test_cancelled_at_any_moment_no_connection_is_left_open(topics: Topics, client_of) -> None:
    cancelled = 0
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        for moment_s in MOMENTS_S:
            client = asyncio.create_task(client_of(topics))
            await asyncio.sleep(moment_s)
            client.cancel()
            await asyncio.wait([client])
            cancelled += client.cancelled()
            del client
        gc.collect()
    assert [str(each.message) for each in told] == []
    assert cancelled

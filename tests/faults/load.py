"""Messages for as long as a test wants them, and loading them whatever happens to the broker."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import count, islice

from aiokafka.errors import KafkaError

from examples.generate import generate
from tests.acceptance.pipeline import Pipeline
from tests.integration.worker_environment import sample

CHUNK = 1000
KEPT = 20_000
"""So many of the messages that have come may come again."""


def traffic(seed: int, *, users: int) -> Iterator[bytes]:
    """Messages without end: the sample, then other stories, in a load; in disorder, one in twenty a second time."""
    rng = random.Random(seed)
    kept: list[bytes] = []
    for nth in count():
        story = sample() if nth == 0 else generate(seed + nth, 1000, odd=False)
        part = [*story, *generate(seed + nth, 5000, profile="load", users=users)]
        copies = rng.sample(part + kept, len(part) // 20)
        kept = [*kept, *part][-KEPT:]
        part += copies
        rng.shuffle(part)
        yield from part


@contextlib.asynccontextmanager
async def steady_load(running: Pipeline, values: Iterator[bytes], per_s: int) -> AsyncIterator[None]:
    """Load so many messages a second until the block ends."""
    is_over = asyncio.Event()

    async def load() -> None:
        while not is_over.is_set():
            await load_in_spite(running, list(islice(values, per_s)))

    task = asyncio.create_task(load())
    try:
        yield
        is_over.set()
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def load_in_spite(running: Pipeline, values: Sequence[bytes]) -> None:
    """Load in chunks with a second after each, each again until the broker has taken it: some records come twice."""
    for start in range(0, len(values), CHUNK):
        while True:
            try:
                await running.load(values[start : start + CHUNK])
                break
            except (KafkaError, OSError, ExceptionGroup):
                await asyncio.sleep(1)
        await asyncio.sleep(1)

"""What the tests of whole workers share: the sample, waiting with a bound, and the comparison at the end."""

import asyncio
import contextlib
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from streams.engine.core import EXIT_FAILED
from tests.acceptance.pipeline import Pipeline
from tests.oracle import Definition, Tables, differences, recompute

SAMPLE = Path(__file__).parents[2] / "examples" / "sample.jsonl"
WAIT_S = 150
"""Bound of every wait: on a busy machine a killed worker is missed after seconds, and all is restored soon after."""

FETCH_S = 0.5
"""Ten times as long as the broker holds a fetch back that finds nothing."""

Definitions = Mapping[tuple[str, str], Definition]


def sample() -> list[bytes]:
    return SAMPLE.read_bytes().split(b"\n")[:-1]


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for a condition, looking again and again."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not await condition():  # noqa: ASYNC110  Postgres and processes do not tell
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"expected {what} within {WAIT_S} s") from None


async def until_applied(running: Pipeline, count: int) -> None:
    async def reached() -> bool:
        return (await running.stats()).applied >= count

    await until(reached, f"{count} messages to be applied")


async def settled(running: Pipeline, definitions: Definitions | None = None) -> Tables:
    """Wait until all has arrived, and compare every table and every counter with the recomputation."""
    await running.wait(WAIT_S)
    expected = recompute(await running.source_records(), definitions=definitions, claims=True)
    assert differences(expected, await running.tables()) == []
    stats = await running.stats()
    assert (stats.read, stats.applied, stats.duplicate, stats.quarantined, stats.in_flight) == (
        expected.read,
        expected.applied,
        expected.duplicate,
        expected.quarantined,
        0,
    )
    return expected


def assert_alive(running: Pipeline) -> None:
    for worker, process in running.workers.items():
        assert process.poll() is None, f"{worker} ended with {process.poll()}:\n{running.log(worker)[-5000:]}"


def stop_all(running: Pipeline) -> None:
    """Stop every worker in good order."""
    assert_alive(running)
    for worker in list(running.workers):
        assert running.stop(worker) == 0, running.log(worker)[-5000:]


def lose_state(running: Pipeline, worker: str) -> None:
    """Leave a worker without local state, as on a new host; only its log is kept."""
    for path in running.data_dir(worker).iterdir():
        if path.is_dir():
            shutil.rmtree(path)


@contextlib.asynccontextmanager
async def loading(running: Pipeline, values: Sequence[bytes], chunk: int, pause_s: float) -> AsyncIterator[None]:
    """Load values in the background, a chunk after each pause; all are loaded at the end of the block."""

    async def load() -> None:
        for start in range(0, len(values), chunk):
            await running.load(values[start : start + chunk])
            await asyncio.sleep(pause_s)

    task = asyncio.create_task(load())
    try:
        yield
        async with asyncio.timeout(WAIT_S):
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ended(running: Pipeline, worker: str) -> str:
    """Wait for a worker to end itself; returns its log."""

    async def is_over() -> bool:
        return running.workers[worker].poll() is not None

    await until(is_over, f"{worker} to end")
    assert running.workers.pop(worker).returncode == EXIT_FAILED, running.log(worker)[-5000:]
    return running.log(worker)


@contextlib.asynccontextmanager
async def paused(running: Pipeline, worker: str) -> AsyncIterator[None]:
    """Hold a worker still, with no fetch under way that could still bring it something."""
    process = running.workers[worker]
    process.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(FETCH_S)
        yield
    finally:
        process.send_signal(signal.SIGCONT)

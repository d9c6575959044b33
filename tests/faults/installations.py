"""Several installations side by side on the services of one session, and workers that were told where to end."""

import asyncio
import signal
import time
from collections.abc import Callable

import msgspec

from contracts.settings import Settings
from streams.engine.crash_points import VARIABLE
from tests.acceptance.pipeline import Pipeline
from tests.integration.worker_environment import WAIT_S, lose_state


def apart(settings: Settings, name: str) -> Settings:
    """Settings of another installation: topics, group, schema and data directory of its own."""
    return msgspec.structs.replace(
        settings,
        app_version=f"{settings.app_version}-{name}",
        source_topics=tuple(f"{topic}-{name}" for topic in settings.source_topics),
        schema=f"t_{name.replace('-', '_')}",
        data_dir=settings.data_dir / name,
    )


def start_armed(running: Pipeline, worker: str, point: str) -> None:
    """Start a worker that ends at a crash point."""
    running.start(worker, **{VARIABLE: point})


async def until_struck(running: Pipeline, worker: str) -> None:
    """Wait until a worker has ended at its crash point, and take note of its end."""
    process = running.workers[worker]
    deadline = time.monotonic() + WAIT_S
    while process.poll() is None:
        if time.monotonic() > deadline:
            raise AssertionError(
                f"expected {worker} to reach its crash point within {WAIT_S} s:\n{tail(running, worker)}"
            )
        await asyncio.sleep(0.05)
    assert process.returncode == -signal.SIGKILL, f"{worker} ended with {process.returncode}:\n{tail(running, worker)}"
    del running.workers[worker]


async def until_one_struck(running: Pipeline, again: Callable[[str], None]) -> tuple[str, float]:
    """Wait until one of the workers has ended at its crash point, and start it `again`; tells which, and when."""
    deadline = time.monotonic() + WAIT_S
    while True:
        for worker, process in running.workers.items():
            if process.poll() is not None:
                await until_struck(running, worker)
                again(worker)
                return worker, time.monotonic()
        if time.monotonic() > deadline:
            tails = "\n".join(tail(running, worker) for worker in running.workers)
            raise AssertionError(f"expected a worker to reach its crash point within {WAIT_S} s:\n{tails}")
        await asyncio.sleep(0.05)


def revive(running: Pipeline, worker: str, *, is_lost: bool, point: str = "") -> None:
    """Start a worker again, as it was or as a new host under its name; armed where it is told a point."""
    if is_lost:
        lose_state(running, worker)
    running.start(worker, **({VARIABLE: point} if point else {}))


def tail(running: Pipeline, worker: str) -> str:
    """The end of a worker's log."""
    return f"--- {worker}\n{running.log(worker)[-3000:]}"

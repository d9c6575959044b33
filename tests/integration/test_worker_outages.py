"""Workers whose sessions are ended again and again (SEMANTICS S12: processing waits, and goes on)."""

import asyncio

import asyncpg
import msgspec

from contracts.settings import Settings
from examples.generate import generate
from tests.acceptance.pipeline import Pipeline, pipeline
from tests.integration.worker_environment import assert_alive, loading, sample, settled, stop_all, until

SEED = 20_261_125

END_SESSIONS = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
where application_name like 'tidemark%' and datname = current_database() and pid <> pg_backend_pid()
"""


async def end_sessions(running: Pipeline, times: int, pause_s: float) -> int:
    connection = await asyncpg.connect(running.settings.dsn)
    try:
        ended = 0
        for _ in range(times):
            ended += await connection.fetchval(END_SESSIONS)
            await asyncio.sleep(pause_s)
        return ended
    finally:
        await connection.close()


async def until_both_own(running: Pipeline) -> None:
    """Wait until both workers own partitions: who has to let go of some while his sessions end may be fenced."""
    connection = await asyncpg.connect(running.settings.dsn)

    async def is_so() -> bool:
        owners: int = await connection.fetchval(f"select count(distinct owner) from {running.settings.schema}.progress")
        return owners == 2

    try:
        await until(is_so, "both workers to own partitions")
    finally:
        await connection.close()


async def test_every_session_ended_again_and_again(settings: Settings) -> None:
    values = [*sample(), *generate(SEED, 5000, profile="load", users=300)]
    settings = msgspec.structs.replace(settings, cycle_records_max=300)
    async with pipeline(settings) as running:
        running.start("a")
        running.start("b")
        async with loading(running, values, chunk=500, pause_s=0.3):
            await until_both_own(running)
            assert await end_sessions(running, times=40, pause_s=0.2) > 40
        await settled(running)
        assert_alive(running)
        stop_all(running)


async def test_sessions_ended_while_workers_start(settings: Settings) -> None:
    async with pipeline(settings) as running:
        await running.load(sample())
        running.start("a")
        running.start("b")
        await end_sessions(running, times=60, pause_s=0.1)
        await settled(running)
        stop_all(running)

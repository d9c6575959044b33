"""What a worker answers over HTTP, and how it ends when it hangs (metrics, readiness, the watchdog, stopping)."""

import asyncio
import signal

import aiohttp
import asyncpg
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from contracts.settings import Settings
from streams.app import EXIT_INTERRUPTED
from streams.endpoint import Whereabouts, read_whereabouts
from streams.engine.core import EXIT_FAILED, STOP_S_MAX
from tests.acceptance.pipeline import Pipeline, pipeline
from tests.integration.sink_environment import Proxy
from tests.integration.worker_environment import assert_alive, sample, stop_all, until

STALL_S, AWAY_S = 3, 5

WAITING = """
select count(*) from pg_stat_activity
where datname = current_database() and application_name like 'tidemark a%' and wait_event_type = 'Lock'
"""


async def whereabouts(running: Pipeline, worker: str) -> Whereabouts:
    """Where a worker that was just started listens."""
    path, process = running.data_dir(worker) / "workers" / worker / "http.json", running.workers[worker]
    found: list[Whereabouts] = []

    async def told() -> bool:
        assert process.poll() is None, running.log(worker)[-3000:]
        there = read_whereabouts(path)
        found[:] = [there] if there is not None and there.pid == process.pid else []
        return bool(found)

    await until(told, f"worker {worker} to tell where it listens")
    return found[0]


class Worker:
    """A running worker, asked over HTTP."""

    def __init__(self, session: aiohttp.ClientSession, at: Whereabouts) -> None:
        self._session = session
        self.at = at
        self.url = f"http://{at.host}:{at.port}"

    async def ready(self) -> tuple[int, list[str]]:
        async with self._session.get(f"{self.url}/health/ready") as answer:
            told = await answer.json()
            assert told["ready"] == (answer.status == 200)
            return answer.status, told["reasons"]

    async def is_ready(self) -> bool:
        return (await self.ready())[0] == 200

    async def metrics(self) -> dict[tuple[str, ...], float]:
        """Samples by name and the values of their labels, in the order of the labels' names."""
        async with self._session.get(f"{self.url}/metrics") as answer:
            assert answer.status == 200
            text = await answer.text()
        return {
            (each.name, *each.labels.values()): each.value
            for family in text_string_to_metric_families(text)
            for each in family.samples
        }


def nonzero(metrics: dict[tuple[str, ...], float], name: str) -> dict[str, float]:
    """Samples of a metric with one label that have counted something."""
    return {key[1]: value for key, value in metrics.items() if key[0] == name and value}


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as made:
        yield made


async def test_metrics_tell_what_the_counters_in_postgres_tell(
    settings: Settings, session: aiohttp.ClientSession
) -> None:
    async with pipeline(settings) as running:
        await running.load(sample())
        running.start("a")
        worker = Worker(session, await whereabouts(running, "a"))
        await running.wait()
        await until(worker.is_ready, "the worker to be ready")
        stats, metrics = await running.stats(), await worker.metrics()
        topic, leaves = settings.source_topics[0], settings.leaves_topic
        assert metrics["tidemark_records_read_total", topic] == stats.read
        assert metrics["tidemark_messages_applied_total",] == stats.applied
        assert metrics["tidemark_messages_duplicate_total",] == stats.duplicate
        assert nonzero(metrics, "tidemark_messages_quarantined_total") == stats.quarantined
        assert nonzero(metrics, "tidemark_message_warnings_total") == stats.warnings
        # Each message is a record of the leaves topic, and so are claims and contributions.
        assert metrics["tidemark_cycle_records_sum", "router"] == stats.read
        assert metrics["tidemark_end_to_end_latency_seconds_count", "router"] == stats.read
        assert metrics["tidemark_cycle_records_sum", "leaf"] > stats.applied
        assert metrics["tidemark_cycle_records_sum", "quarantine"] == sum(stats.quarantined.values())
        steps = {key[2] for key in metrics if key[:2] == ("tidemark_cycle_step_duration_seconds_count", "leaf")}
        assert steps == {"decide", "commit", "postgres", "settle", "outgoing", "changelog", "store"}
        lags = {key: value for key, value in metrics.items() if key[0] == "tidemark_lag_records"}
        assert len(lags) == 2 + 4 + 2 + 1
        assert set(lags.values()) == {0}
        assert metrics["tidemark_owned_partitions", leaves] == 4
        assert all(metrics["tidemark_state_size_bytes", str(number), leaves] > 0 for number in range(4))
        assert metrics["tidemark_restore_remaining_records", "0", leaves] == 0
        assert metrics["tidemark_ready",] == 1
        assert metrics["tidemark_rebalances_total",] >= 1
        assert metrics["tidemark_restarts_total",] == 0
        stop_all(running)
        running.start("a")
        again = Worker(session, await whereabouts(running, "a"))
        await until(again.is_ready, "the worker to be ready again")
        metrics = await again.metrics()
        assert metrics["tidemark_restarts_total",] == 1
        assert metrics["tidemark_messages_applied_total",] == 0
        stop_all(running)


async def test_a_worker_is_not_ready_while_postgres_is_away(settings: Settings, session: aiohttp.ClientSession) -> None:
    async with pipeline(settings) as running:
        proxy = Proxy(settings.dsn)
        # Waiting for Postgres is no stall, however short what is allowed.
        async with proxy.running():
            running.settings = msgspec.structs.replace(settings, dsn=proxy.dsn, stall_timeout_s=AWAY_S)
            running.start("a")
            worker = Worker(session, await whereabouts(running, "a"))
            await until(worker.is_ready, "the worker to be ready")
        await running.load(sample()[:100])

        async def waits() -> bool:
            status, reasons = await worker.ready()
            assert status in {200, 503}
            return any("the writer waits for Postgres" in reason for reason in reasons)

        await until(waits, "the writer to wait")
        await asyncio.sleep(AWAY_S + 2)
        assert_alive(running)
        assert (await worker.metrics())["tidemark_postgres_waiting",] >= 1
        port = int(proxy.dsn.rpartition("@127.0.0.1:")[2].partition("/")[0])
        async with proxy.running(port):
            await until(worker.is_ready, "the worker to be ready again")
            running.settings = settings
            await running.wait()
            # The proxy works on while it is waited for.
            await asyncio.to_thread(stop_all, running)


async def test_a_worker_that_hangs_ends_and_tells_where(settings: Settings) -> None:
    settings = msgspec.structs.replace(settings, stall_timeout_s=STALL_S)
    async with pipeline(settings) as running:
        running.start("a")
        await running.load(sample()[:50])
        await running.wait()
        holder = await asyncpg.connect(settings.dsn)
        try:
            # As a session that was left open: the merge waits for the lock, longer than this worker may.
            async with holder.transaction():
                await holder.execute(f"select from {settings.schema}.progress for update")
                await running.load(sample()[50:100])
                process = running.workers.pop("a")
                assert await asyncio.to_thread(process.wait, 60) == EXIT_FAILED
        finally:
            await holder.close()
        log = running.log("a")
        assert "router has got nothing done for" in log
        assert "task router-settle of loop 0" in log
        assert "asyncpg" in log
        assert "thread MainThread" in log
        running.start("a")
        await running.wait()
        stop_all(running)


async def test_a_takeover_that_hangs_ends_the_worker(settings: Settings, session: aiohttp.ClientSession) -> None:
    async with pipeline(settings) as running:
        proxy = Proxy(settings.dsn)
        async with proxy.running():
            running.start("b")
            running.settings = msgspec.structs.replace(settings, dsn=proxy.dsn, stall_timeout_s=STALL_S)
            running.start("a")
            worker, other = [Worker(session, await whereabouts(running, name)) for name in "ab"]

            async def share() -> bool:
                owned = [
                    sum(value for key, value in (await each.metrics()).items() if key[0] == "tidemark_owned_partitions")
                    for each in (worker, other)
                ]
                return all(owned) and await worker.is_ready() and await other.is_ready()

            await until(share, "both workers to own partitions")
            # A Postgres that is there and says nothing more: the partitions of the other one cannot be taken.
            proxy.stall_after_bytes = 0
            assert await asyncio.to_thread(running.stop, "b") == 0
            process = running.workers.pop("a")
            assert await asyncio.to_thread(process.wait, 60) == EXIT_FAILED
        log = running.log("a")
        assert "takeover has got nothing done for" in log
        assert "in Context." in log


@pytest.mark.parametrize("after_s", [0.5, 1.0, 1.3, 1.6, 2.0, 3.0])
async def test_told_to_stop_while_it_starts(settings: Settings, after_s: float) -> None:
    async with pipeline(settings) as running:
        running.start("a")
        await asyncio.sleep(after_s)
        stop_all(running)


async def test_a_second_interrupt_ends_it_at_once(settings: Settings, session: aiohttp.ClientSession) -> None:
    async with pipeline(settings) as running:
        running.start("a")
        worker = Worker(session, await whereabouts(running, "a"))
        await until(worker.is_ready, "the worker to be ready")
        process = running.workers.pop("a")
        process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 10) == EXIT_INTERRUPTED
        assert "Traceback" not in running.log("a")


async def test_told_to_stop_while_postgres_hangs(settings: Settings) -> None:
    async with pipeline(settings) as running:
        running.start("a")
        await running.load(sample()[:50])
        await running.wait()
        holder = await asyncpg.connect(settings.dsn)
        try:
            async with holder.transaction():
                await holder.execute(f"select from {settings.schema}.progress for update")
                await running.load(sample()[50:100])

                async def hangs() -> bool:
                    return await holder.fetchval(WAITING) > 0

                await until(hangs, "the worker to wait for the lock")
                process = running.workers.pop("a")
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, STOP_S_MAX + 5) == EXIT_FAILED
        finally:
            await holder.close()
        log = running.log("a")
        assert "expected what is under way to end within 6 s; still there is" in log
        assert "router: settle for" in log
        assert "TimeoutError" not in log

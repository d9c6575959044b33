"""Running one peer from its first read to its last committed row, and watching what it costs."""

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import asyncpg
import psutil
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.measures import Result, machine_cpu_s
from benchmarks.peers.catalogue import Peer
from benchmarks.pipeline import POLL_S, STANDSTILL_S
from benchmarks.traffic import DIGEST, Truth
from contracts.settings import Settings
from operations.processes import ServiceProcess, log_tail

ROOT = Path(__file__).parent.parent
SCHEMA = "peer"
IDLE_S = 1.0
"""After so long without a commit the rows are looked at: often enough, and seldom while it runs."""
START_S = 120.0
"""A peer that has not read anything by then never will."""
STOP_S = 30.0

# The newest transaction that has ended: moves with every commit that wrote, and costs nothing to ask.
NEWEST = "select pg_snapshot_xmax(pg_current_snapshot())::text"
ROWS = """
select
    (select count(*) from page_views), (select count(*) from event_occurrences),
    (select coalesce(sum(page_views), 0)::bigint from profiles)
"""


@dataclass
class Usage:
    """What processes have used: CPU seconds so far, memory now."""

    cpu_s: float
    rss_mib: float


def usage(processes: list[ServiceProcess]) -> Usage:
    """Of the processes and of their children, together."""
    cpu = rss = 0.0
    for process in processes:
        own = psutil.Process(process.pid)
        for each in (own, *own.children(recursive=True)):
            try:
                times = each.cpu_times()
                cpu += times.user + times.system
                rss += each.memory_info().rss / 2**20
            except psutil.NoSuchProcess:
                continue
    return Usage(cpu, rss)


def environ(settings: Settings, peer: Peer, home: Path, mark: Path) -> dict[str, str]:
    """What a worker is told."""
    address = urlsplit(settings.dsn)
    secrets = {"user": address.username or "", "password": address.password or "", "reWriteBatchedInserts": "true"}
    return {
        **os.environ,
        **peer.env,
        "PYTHONPATH": str(ROOT),
        "BENCH_BOOTSTRAP": settings.bootstrap_servers,
        "BENCH_DSN": settings.dsn,
        "BENCH_JDBC_URL": f"jdbc:postgresql://{address.hostname}:{address.port}{address.path}?{urlencode(secrets)}",
        "BENCH_PARTITIONS": str(settings.source_partitions),
        "BENCH_HOME": str(home),
        "BENCH_MARK": str(mark),
    }


async def prepare(settings: Settings) -> None:
    """The source topic, and the peers' tables."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(settings.source_topics[0], settings.source_partitions, 1)])
    finally:
        await admin.close()
    connection = await asyncpg.connect(settings.dsn)
    try:
        await connection.execute((ROOT / "benchmarks" / "peers" / "schema.sql").read_text())
    finally:
        await connection.close()


async def wrong_rows(connection: asyncpg.Connection, expected: Truth) -> str:
    """What differs from the truth; empty when nothing does. The costly part only where counts are right."""
    rows = tuple(await connection.fetchrow(ROWS))
    wanted = (expected.kinds["page"], expected.kinds["track"], expected.kinds["page"])
    if rows != wanted:
        return f"(views, occurrences, counted) are {rows}; expected {wanted}"
    found = await connection.fetchval(DIGEST)
    return "" if found == expected.leaves else f"profiles are {found}; expected {expected.leaves}"


async def measure_peer(settings: Settings, directory: Path, peer: Peer, expected: Truth) -> Result:
    """Start the peer's processes, wait until every row is right, stop them. SystemExit when that never happens."""
    command = peer.prepare()
    processes: list[ServiceProcess] = []
    logs, marks = [], []
    connection = await asyncpg.connect(settings.dsn, server_settings={"search_path": SCHEMA})
    try:
        for number in range(1, peer.processes + 1):
            home = directory / f"peer-{number}"
            home.mkdir()
            logs.append(home / "log")
            marks.append(home / "mark")
            env = environ(settings, peer, home, marks[-1])
            processes.append(ServiceProcess.spawn(command, logs[-1], env=env, cwd=home))
        return await _watch(connection, peer, processes, marks, logs, expected)
    finally:
        for process in processes:
            process.send(signal.SIGTERM)
        for process in processes:
            await asyncio.to_thread(process.stop, STOP_S)
        await connection.close()


async def _watch(
    connection: asyncpg.Connection,
    peer: Peer,
    processes: list[ServiceProcess],
    marks: list[Path],
    logs: list[Path],
    expected: Truth,
) -> Result:
    def fail(why: str) -> SystemExit:
        tails = "\n".join(log_tail(log, 30) for log in logs)
        return SystemExit(f"{peer.name}: {why}. The last lines of its logs:\n{tails}")

    def check_alive() -> None:
        if ended := [process for process in processes if not process.running()]:
            raise fail(f"ended by itself with {ended[0].exit_code()}")

    waited = time.monotonic()
    while not any(mark.exists() for mark in marks):
        await asyncio.sleep(POLL_S)
        check_alive()
        if time.monotonic() - waited > START_S:
            raise fail(f"has read nothing within {START_S:.0f} s")
    at_first, machine = usage(processes), machine_cpu_s()
    newest, moved, looked, peak = "", time.monotonic(), 0.0, 0.0
    at_last, machine_at_last = at_first, machine
    while True:
        await asyncio.sleep(POLL_S)
        check_alive()
        now = await connection.fetchval(NEWEST)
        spent, busy = usage(processes), machine_cpu_s()
        peak = max(peak, spent.rss_mib)
        if now != newest:
            newest, moved = now, time.monotonic()
            at_last, machine_at_last = spent, busy
        elif time.monotonic() - moved > IDLE_S and looked < moved:
            looked = time.monotonic()
            if not await wrong_rows(connection, expected):
                break
        if time.monotonic() - moved > STANDSTILL_S:
            raise fail(f"nothing has moved for {STANDSTILL_S:.0f} s: {await wrong_rows(connection, expected)}")
    began = min(float(mark.read_text()) for mark in marks if mark.exists())
    count = expected.messages
    return Result(
        peer.name,
        count / (moved - began),
        (at_last.cpu_s - at_first.cpu_s) / count * 1e6,
        (machine_at_last - machine) / count * 1e6,
        peak,
    )

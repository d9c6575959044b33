"""Postgres whose disk is full (SQLSTATE 53100): workers wait, go on when there is room, and nothing is lost (S12)."""

import asyncio
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import msgspec
import psutil
import pytest

from contracts.settings import Settings
from examples.generate import generate
from tests.acceptance.pipeline import pipeline
from tests.faults.outcomes import note, outcome_of
from tests.integration.worker_environment import assert_alive, sample, stop_all, until
from tests.services import SessionServices, drop_database, run_apart, with_database

LARGE_BYTES = 512 * 2**20
ROOM_BYTES = 2**20
"""What is left beside the empty schema; the rows below take some 10 MB."""

SEED = 20_261_129

WAITED_S = 5
FULL = "waits for Postgres: 53100"


@dataclass(frozen=True)
class SmallDisk:
    """A database whose tables lie on a file system of their own."""

    dsn: str
    path: Path

    def leave(self, room_bytes: int) -> None:
        """Make it so large that there is so much room left."""
        size = shutil.disk_usage(self.path).used + room_bytes
        _run("mount", "-o", f"remount,size={size}", str(self.path))


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"cannot {command[0]}: {error}")
    if done.returncode:
        pytest.skip(f"{' '.join(command)}: {done.stderr.strip()}")


@pytest.fixture
def small_disk(services: SessionServices) -> Iterator[SmallDisk]:
    """Skips where file systems may not be mounted, which root alone may."""
    if services.postgres is None:
        pytest.skip("Postgres runs elsewhere: its tables cannot be put on a small file system")
    path = Path(tempfile.mkdtemp(prefix="tidemark-disk-"))
    owner = psutil.Process(services.postgres.pid)
    _run("mount", "-t", "tmpfs", "-o", f"size={LARGE_BYTES},mode=700,uid={owner.uids().real}", "tmpfs", str(path))
    name = f"t_{secrets.token_hex(6)}"

    async def execute(*statements: str) -> None:
        connection = await asyncpg.connect(services.dsn)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    try:
        run_apart(execute(f"create tablespace {name} location '{path}'", f"create database {name} tablespace {name}"))
        yield SmallDisk(with_database(services.dsn, name), path)
    finally:
        run_apart(drop_database(services.dsn, name))
        run_apart(execute(f"drop tablespace if exists {name}"))
        subprocess.run(["umount", str(path)], check=True)
        path.rmdir()


@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_a_full_disk_is_waited_for(settings: Settings, small_disk: SmallDisk) -> None:
    settings = msgspec.structs.replace(settings, dsn=small_disk.dsn, cycle_records_max=400)
    values = [*sample(), *generate(SEED, 15_000, profile="load", users=1000)]
    async with pipeline(settings) as running:
        small_disk.leave(ROOM_BYTES)
        running.start("a")
        running.start("b")
        await running.load(values)

        async def is_full() -> bool:
            assert_alive(running)
            return FULL in running.log("a") + running.log("b")

        await until(is_full, "the disk to be full")
        before = await running.stats()
        await asyncio.sleep(WAITED_S)
        assert_alive(running)
        assert before.applied < len(values)
        since = time.monotonic()
        small_disk.leave(LARGE_BYTES)
        outcome = await outcome_of(running, since)
        stop_all(running)
        note(f"Postgres' disk full, for {WAITED_S} s", [outcome])

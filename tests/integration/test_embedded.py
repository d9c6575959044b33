"""The embedded services on this machine: started, left behind, taken over, stopped."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from contracts.errors import AlreadyRunningError, PortTakenError, ServiceError
from contracts.settings import Settings
from operations.embedded import account, postgres
from operations.embedded.postgres import find_postgres
from operations.embedded.state import read_state, state_file
from operations.services import open_services, start_services, stop_orphans

TOPIC = "kept"


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data directory that every account can enter, and nothing left running in it."""
    with tempfile.TemporaryDirectory(prefix="tidemark-test-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        yield path
        stop_orphans(path)


async def _execute(dsn: str, statement: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def _produce(bootstrap_servers: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers)
    await producer.start()
    await producer.send_and_wait(TOPIC, value, partition=0)
    await producer.stop()


async def _consume(bootstrap_servers: str) -> bytes:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers)
    await consumer.start()
    consumer.assign([TopicPartition(TOPIC, 0)])
    await consumer.seek_to_beginning()
    record = await consumer.getone()
    await consumer.stop()
    return record.value


_OWNER = """
import sys
from pathlib import Path
from contracts.settings import Settings
from operations.services import open_services
running = open_services(Settings(), Path(sys.argv[1]), fast=True)
print("started", flush=True)
sys.stdin.read()
"""


def _started_owner(data_dir: Path) -> "subprocess.Popen[bytes]":
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdout.readline() == b"started\n"
    return owner


async def test_services_of_a_killed_process_are_taken_over_with_their_data(data_dir: Path):
    owner = _started_owner(data_dir)
    with pytest.raises(AlreadyRunningError, match=str(owner.pid)):
        open_services(Settings(), data_dir)
    with pytest.raises(AlreadyRunningError):
        stop_orphans(data_dir)
    state = read_state(data_dir)

    admin = AIOKafkaAdminClient(bootstrap_servers=state.kafka.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, 1, 1)])
    await admin.close()
    await _produce(state.kafka.bootstrap_servers, b"before")
    await _execute(state.postgres.dsn(), "create table kept as select 'before' as value")
    owner.kill()
    owner.communicate()

    async with await start_services(Settings(), data_dir, fast=True) as running:
        assert running.kafka.identity == state.kafka.process
        assert running.postgres.identity == state.postgres.process
        assert await _consume(running.addresses.bootstrap_servers) == b"before"
        # Without a chance to clean up; what they leave is recovered from.
        os.kill(running.kafka.pid, signal.SIGKILL)
        os.kill(running.postgres.pid, signal.SIGKILL)
        running.kafka.wait(30)
        running.postgres.wait(30)
        assert running.dead() == ("kafka", "postgres")
        running.start_missing()
        assert running.dead() == ()
        assert running.addresses.bootstrap_servers == state.kafka.bootstrap_servers
        assert running.addresses.dsn == state.postgres.dsn()
        assert await _consume(running.addresses.bootstrap_servers) == b"before"
        assert await _execute(running.addresses.dsn, "select value from kept") == "before"

    assert not stop_orphans(data_dir)
    assert {path.name for path in (data_dir / "log").iterdir()} == {"kafka.log", "postgres.log"}


async def test_a_configured_service_is_reached_and_not_started(settings: Settings, data_dir: Path):
    async with await start_services(settings, data_dir) as running:
        assert running.settings == settings
        assert running.kafka is None
        assert running.postgres is None
        assert not read_state(data_dir).postgres
    assert not find_postgres(data_dir)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"bootstrap_servers": "127.0.0.1:1"}, "TIDEMARK_BOOTSTRAP_SERVERS"),
        ({"dsn": "postgresql://u:hidden@127.0.0.1:1/d"}, "TIDEMARK_DSN"),
    ],
)
async def test_a_configured_service_that_does_not_answer_is_named(data_dir: Path, changes: dict[str, str], told: str):
    with pytest.raises(ServiceError, match=told) as error:
        await start_services(Settings(**changes), data_dir)
    assert "hidden" not in str(error.value)


def test_postgres_alone_where_kafka_is_configured(kafka: str, data_dir: Path):
    running = open_services(Settings(bootstrap_servers=kafka), data_dir, fast=True)
    assert running.kafka is None
    assert running.addresses.bootstrap_servers == kafka
    running.stop_now()
    running.stop_now()
    assert find_postgres(data_dir) is None


async def test_a_lost_state_file_costs_no_data(kafka: str, data_dir: Path):
    settings = Settings(bootstrap_servers=kafka)
    async with await start_services(settings, data_dir, fast=True) as running:
        dsn = running.addresses.dsn
        await _execute(dsn, "create table kept as select 'before' as value")
    state_file(data_dir).unlink()
    (data_dir / "postgres" / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n")
    async with await start_services(settings, data_dir, fast=True) as running:
        assert running.addresses.dsn != dsn
        assert await _execute(running.addresses.dsn, "select value from kept") == "before"


async def test_an_unfinished_initialisation_is_begun_again(kafka: str, data_dir: Path):
    settings = Settings(bootstrap_servers=kafka)
    open_services(settings, data_dir, fast=True).stop_now()
    (data_dir / "postgres" / "data").rename(data_dir / "postgres" / "data.new")
    (data_dir / "postgres" / "data.new" / "PG_VERSION").unlink()
    async with await start_services(settings, data_dir, fast=True) as running:
        assert await _execute(running.addresses.dsn, "select 1") == 1


def test_a_taken_port_is_told_and_nothing_is_left_running(kafka: str, data_dir: Path):
    settings = Settings(bootstrap_servers=kafka)
    open_services(settings, data_dir, fast=True).stop_now()
    with (
        socket.create_server(("127.0.0.1", read_state(data_dir).postgres.port)),
        pytest.raises(PortTakenError, match=r"services\.json"),
    ):
        open_services(settings, data_dir, fast=True)
    assert find_postgres(data_dir) is None
    open_services(settings, data_dir, fast=True).stop_now()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run Postgres under another account")
async def test_root_keeps_data_that_the_account_cannot_reach_elsewhere(
    kafka: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    shared = data_dir / "shared"
    monkeypatch.setattr(account, "_SHARED", shared)
    hidden = data_dir / "hidden"
    hidden.mkdir(mode=0o700)
    settings = Settings(bootstrap_servers=kafka)
    for _ in range(2):
        async with await start_services(settings, hidden / "data", fast=True) as running:
            await _execute(running.addresses.dsn, "create table if not exists kept(value text)")
            assert await _execute(running.addresses.dsn, "select count(*) from kept") == 0
    assert (hidden / "data" / "postgres").is_symlink()
    assert (hidden / "data" / "postgres").resolve().parent == shared
    assert hidden.stat().st_mode & 0o777 == 0o700
    account.remove_home(hidden / "data")
    assert not (hidden / "data" / "postgres").is_symlink()
    assert list(shared.glob("data-*")) == []


def test_of_a_link_that_somebody_else_made_nothing_but_the_link_is_removed(tmp_path: Path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "postgres").symlink_to(tmp_path / "precious")
    account.remove_home(tmp_path / "data")
    assert (tmp_path / "precious").is_dir()
    assert list((tmp_path / "data").iterdir()) == []
    account.remove_home(tmp_path / "data")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run Postgres under another account")
async def test_root_copies_binaries_that_the_account_cannot_reach(
    kafka: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    shared = data_dir / "shared"
    monkeypatch.setattr(account, "_SHARED", shared)
    hidden = data_dir / "hidden"
    hidden.mkdir(mode=0o700)
    package = postgres._install().parent
    for part in (f"{package.name}/{postgres._install().name}", f"{package.name}.libs"):
        if (package.parent / part).exists():
            shutil.copytree(package.parent / part, hidden / part, symlinks=True)
    install = hidden / package.name / postgres._install().name
    monkeypatch.setattr(postgres, "_install", lambda: install)
    for _ in range(2):
        async with await start_services(Settings(bootstrap_servers=kafka), data_dir, fast=True) as running:
            assert psutil.Process(running.postgres.pid).exe().startswith(str(shared))
            assert await _execute(running.addresses.dsn, "select 1") == 1

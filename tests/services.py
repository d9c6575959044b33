"""Real Kafka and Postgres for a test session: explicit addresses, else Docker if asked for, else embedded.

TIDEMARK_TEST_BOOTSTRAP, TIDEMARK_TEST_DSN   servers that run already
TIDEMARK_TEST_SERVICES=docker                containers, through testcontainers
"""

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from contracts.errors import ServiceError
from contracts.settings import Settings
from operations.processes import ServiceProcess
from operations.services import open_services

T = TypeVar("T")

KAFKA_IMAGE = "apache/kafka:4.1.0"
POSTGRES_IMAGE = "postgres:18"

Choice = Literal["explicit", "docker", "embedded"]


@dataclass(frozen=True)
class SessionServices:
    """Addresses for a whole test session; the processes only where this session started them."""

    bootstrap_servers: str
    dsn: str
    kafka: ServiceProcess | None = None
    postgres: ServiceProcess | None = None
    data_dir: Path | None = None


def choose(environ: Mapping[str, str]) -> tuple[Choice, Choice]:
    """Where Kafka and where Postgres come from."""
    wanted = environ.get("TIDEMARK_TEST_SERVICES", "embedded")
    if wanted not in {"docker", "embedded"}:
        raise pytest.UsageError(f"TIDEMARK_TEST_SERVICES: expected docker or embedded; got {wanted!r}")
    rest: Choice = "docker" if wanted == "docker" else "embedded"
    return (
        "explicit" if environ.get("TIDEMARK_TEST_BOOTSTRAP") else rest,
        "explicit" if environ.get("TIDEMARK_TEST_DSN") else rest,
    )


@contextlib.contextmanager
def session_services(environ: Mapping[str, str]) -> Iterator[SessionServices]:
    """Services for one session, stopped at its end; a missing one skips locally and fails in CI."""
    kafka, postgres = choose(environ)
    bootstrap = environ.get("TIDEMARK_TEST_BOOTSTRAP", "")
    dsn = environ.get("TIDEMARK_TEST_DSN", "")
    with contextlib.ExitStack() as stack:
        try:
            if kafka == "docker":
                bootstrap = stack.enter_context(_docker_kafka())
            if postgres == "docker":
                dsn = stack.enter_context(_docker_postgres())
            if bootstrap and dsn:
                yield SessionServices(bootstrap, dsn)
                return
            embedded = stack.enter_context(_embedded(bootstrap, dsn))
        except ServiceError as error:
            if environ.get("CI"):
                raise
            pytest.skip(f"no services: {error}")
        yield embedded


@contextlib.contextmanager
def _embedded(bootstrap: str, dsn: str) -> Iterator[SessionServices]:
    home = Path(tempfile.mkdtemp(prefix="tidemark-test-"))
    # Where the tests run as root, Postgres runs under another account, which has to get in.
    home.chmod(0o755)
    with _removed_with_us(home):
        running = open_services(Settings(bootstrap_servers=bootstrap, dsn=dsn), home, fast=True)
        try:
            addresses = running.addresses
            yield SessionServices(addresses.bootstrap_servers, addresses.dsn, running.kafka, running.postgres, home)
        finally:
            running.stop_now()


_WATCH = """
import shutil, sys, psutil
sys.stdin.buffer.read()
home = sys.argv[1]
for process in psutil.process_iter(["cmdline"]):
    if process.pid != psutil.Process().pid and any(home in part for part in process.info["cmdline"] or ()):
        process.kill()
shutil.rmtree(home, ignore_errors=True)
"""


@contextlib.contextmanager
def _removed_with_us(home: Path) -> Iterator[None]:
    """Remove `home`, and kill what was started with it, also when this process is killed: its end of the pipe
    closes then."""
    watch = subprocess.Popen([sys.executable, "-c", _WATCH, str(home)], stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        watch.stdin.close()
        watch.wait()


@contextlib.contextmanager
def _docker_kafka() -> Iterator[str]:
    from testcontainers.core.container import DockerContainer

    from operations.embedded.ports import free_port

    port = free_port()
    broker = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": "PLAINTEXT://0.0.0.0:9092,CONTROLLER://0.0.0.0:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_MESSAGE_MAX_BYTES": str(8 * 2**20),
        "KAFKA_LOG_RETENTION_MS": "-1",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
    }
    with _container(lambda: DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, port).with_envs(**broker)):
        address = f"127.0.0.1:{port}"
        run_apart(_kafka_ready(address))
        yield address


@contextlib.contextmanager
def _docker_postgres() -> Iterator[str]:
    from testcontainers.postgres import PostgresContainer

    with _container(
        lambda: PostgresContainer(POSTGRES_IMAGE, username="tidemark", password="tidemark", dbname="tidemark")
    ) as container:
        yield container.get_connection_url(driver=None)


@contextlib.contextmanager
def _container(create: Any) -> Iterator[Any]:
    from docker.errors import DockerException

    try:
        container = create()
        container.start()
    except DockerException as error:
        raise ServiceError(f"expected a Docker engine, because TIDEMARK_TEST_SERVICES is docker; {error}") from error
    try:
        yield container
    finally:
        container.stop()


async def _kafka_ready(address: str) -> None:
    deadline = time.monotonic() + 120
    while True:
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        try:
            await admin.start()
        except (KafkaError, OSError) as error:
            if time.monotonic() > deadline:
                raise ServiceError(f"expected Kafka at {address}; {error}") from error
            await asyncio.sleep(0.5)
        else:
            return
        finally:
            await admin.close()


def run_apart(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a thread of its own: a loop may be set in the caller's."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def with_database(dsn: str, database: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


async def create_database(dsn: str, database: str, template: str = "template1") -> None:
    """A database made from a template."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"create database {database} template {template}")
    finally:
        await connection.close()


async def drop_database(dsn: str, database: str) -> None:
    """Drop it, ending sessions that a failed test has left open."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"drop database if exists {database} with (force)")
    finally:
        await connection.close()


async def delete_topics(bootstrap_servers: str, token: str) -> None:
    """Delete every topic with `token` in its name, so that a session's broker stays small."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        await admin.start()
        if topics := [topic for topic in await admin.list_topics() if token in topic]:
            await admin.delete_topics(topics)
    finally:
        await admin.close()

"""Kafka and Postgres for a run: those that the settings name, else embedded ones in the data directory."""

import asyncio
import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import asyncpg
import msgspec
from aiokafka.errors import KafkaError
from rich.console import Console

from contracts.errors import ServiceError
from contracts.settings import Settings
from operations.embedded.jars import default_cache_dir, ensure_jars
from operations.embedded.java import find_java
from operations.embedded.kafka import find_kafka, kafka_log, start_kafka, stop_kafka
from operations.embedded.postgres import find_postgres, postgres_log, start_postgres, stop_postgres
from operations.embedded.state import read_state, write_state
from operations.files import hold
from operations.processes import ServiceProcess
from streams.engine.cluster import Cluster

log = logging.getLogger(__name__)

# A configured server that needs longer than this for one round trip cannot carry a load either.
_REACH_S = 15.0


@dataclass(frozen=True, slots=True)
class Services:
    """Addresses of both services, as `TIDEMARK_BOOTSTRAP_SERVERS` and `TIDEMARK_DSN` take them."""

    bootstrap_servers: str
    dsn: str


@dataclass(frozen=True, slots=True)
class Embedded:
    """Which services are ours to start, and how."""

    kafka: bool
    postgres: bool
    fast: bool
    """Give up the durability of Postgres, for tests."""
    progress: Console | None


class RunningServices:
    """Services that this process holds; embedded ones among them end with it.

    An asynchronous context manager; `stop` may be called more than once.
    """

    def __init__(self, settings: Settings, data_dir: Path, lock: IO[str] | None, embedded: Embedded) -> None:
        self.settings = settings
        """The settings with the addresses in use."""
        self.kafka: ServiceProcess | None = None
        """The embedded broker's process; None where Kafka was configured."""
        self.postgres: ServiceProcess | None = None
        """The embedded server's process; None where Postgres was configured."""
        self._data_dir = data_dir
        self._lock = lock
        self._embedded = embedded
        self._writing = threading.Lock()

    @property
    def addresses(self) -> Services:
        """Where both services are."""
        return Services(self.settings.bootstrap_servers, self.settings.dsn)

    def dead(self) -> tuple[str, ...]:
        """Names of the embedded services that have ended by themselves."""
        known = (("kafka", self.kafka), ("postgres", self.postgres))
        return tuple(name for name, process in known if process is not None and not process.running())

    def start_missing(self) -> None:
        """Start every embedded service that does not run, both at once, each at the address it had before.

        Raises ServiceError and its kin.
        """
        wanted = [
            *([self._start_kafka] if self._embedded.kafka and not _runs(self.kafka) else []),
            *([self._start_postgres] if self._embedded.postgres and not _runs(self.postgres) else []),
        ]
        with ThreadPoolExecutor(2) as pool:
            parts = [pool.submit(start) for start in wanted]
        for part in parts:
            part.result()

    def _start_kafka(self) -> None:
        java = find_java(self.settings.java_home)
        jars = ensure_jars(default_cache_dir(self.settings.cache_dir), self._embedded.progress)
        state, self.kafka = start_kafka(self._data_dir, read_state(self._data_dir).kafka, java, jars)
        self._keep({"bootstrap_servers": state.bootstrap_servers}, kafka=state)
        self._tell(f"Kafka listens on {state.bootstrap_servers}; log: {kafka_log(self._data_dir)}")

    def _start_postgres(self) -> None:
        known = read_state(self._data_dir).postgres
        state, self.postgres = start_postgres(self._data_dir, known, fast=self._embedded.fast)
        self._keep({"dsn": state.dsn()}, postgres=state)
        self._tell(f"Postgres listens on {state.host}:{state.port}; log: {postgres_log(self._data_dir)}")

    def _keep(self, address: dict[str, str], **changes: Any) -> None:  # noqa: ANN401 - fields of ServicesState
        with self._writing:
            self.settings = msgspec.structs.replace(self.settings, **address)
            write_state(self._data_dir, msgspec.structs.replace(read_state(self._data_dir), **changes))

    def _tell(self, text: str) -> None:
        log.info(text)
        if self._embedded.progress is not None:
            self._embedded.progress.print(text, highlight=False, soft_wrap=True)

    async def stop(self) -> None:
        """Stop what is embedded, both at once, and let go of the data directory."""
        await asyncio.to_thread(self.stop_now)

    def stop_now(self) -> None:
        """As `stop`, for a caller without an event loop."""
        if self._lock is None:
            return
        lock, self._lock = self._lock, None
        with lock, ThreadPoolExecutor(2) as pool:
            stops: list[Future[bool]] = []
            if self.kafka is not None:
                stops.append(pool.submit(stop_kafka, self.kafka))
            if self.postgres is not None:
                stops.append(pool.submit(stop_postgres, self.postgres))
            for stop in stops:
                stop.result()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.stop()


def _runs(process: ServiceProcess | None) -> bool:
    return process is not None and process.running()


async def start_services(
    settings: Settings, data_dir: Path, *, progress: Console | None = None, fast: bool = False
) -> RunningServices:
    """Start or reach both services, proven by a round trip.

    `progress` is where a bar and a line a service are drawn; None draws nothing. `fast` gives up the
    durability of an embedded Postgres, for tests. Raises ServiceError and its kin, leaving nothing running.
    """
    await check_configured(settings)
    start = asyncio.ensure_future(asyncio.to_thread(open_services, settings, data_dir, progress=progress, fast=fast))
    try:
        return await asyncio.shield(start)
    except asyncio.CancelledError:
        # The thread cannot be cancelled: let it come to its end, then undo it.
        await (await start).stop()
        raise


def open_services(
    settings: Settings, data_dir: Path, *, progress: Console | None = None, fast: bool = False
) -> RunningServices:
    """The embedded part of `start_services`, for a caller without an event loop."""
    data_dir = data_dir.resolve()
    embedded = Embedded(kafka=not settings.bootstrap_servers, postgres=not settings.dsn, fast=fast, progress=progress)
    if not (embedded.kafka or embedded.postgres):
        return RunningServices(settings, data_dir, None, embedded)
    data_dir.mkdir(parents=True, exist_ok=True)
    running = RunningServices(settings, data_dir, hold(data_dir / "services.lock", "run services"), embedded)
    try:
        running.start_missing()
    except BaseException:
        running.stop_now()
        raise
    return running


def stop_orphans(data_dir: Path) -> bool:
    """Stop embedded services that a killed process has left behind; False when there are none.

    Raises AlreadyRunningError when they belong to a process that lives.
    """
    data_dir = data_dir.resolve()
    if not data_dir.exists():
        return False
    with hold(data_dir / "services.lock", "run services"):
        kafka, postgres = find_kafka(data_dir), find_postgres(data_dir)
        if kafka is not None:
            stop_kafka(kafka)
        if postgres is not None:
            stop_postgres(postgres)
    return kafka is not None or postgres is not None


async def check_configured(settings: Settings) -> None:
    """Reach each service that the settings name; ServiceError, with the setting, if one does not answer."""
    if settings.dsn:
        try:
            connection = await asyncpg.connect(settings.dsn, timeout=_REACH_S)
            try:
                await connection.fetchval("select 1")
            finally:
                await connection.close()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise ServiceError(
                f"expected a Postgres at TIDEMARK_DSN; {error or type(error).__name__}. "
                "Check the address, the password and that the server runs."
            ) from error
    if settings.bootstrap_servers:
        cluster = Cluster(settings)
        try:
            async with asyncio.timeout(_REACH_S), cluster.admin() as admin:
                await admin.list_topics()
        except (OSError, TimeoutError, KafkaError) as error:
            raise ServiceError(
                f"expected a Kafka at {settings.bootstrap_servers} that speaks {settings.security_protocol}; "
                f"{await cluster.refusal()}. Check TIDEMARK_BOOTSTRAP_SERVERS, the security "
                "settings and that the broker runs."
            ) from error

"""Kafka and Postgres for a run: those that the settings name, else embedded ones in the data directory."""

import asyncio
import fcntl
import logging
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

import asyncpg
import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from rich.console import Console

from contracts.errors import AlreadyRunningError, ServiceError
from contracts.settings import Settings
from operations.embedded.jars import default_cache_dir, ensure_jars
from operations.embedded.java import find_java
from operations.embedded.kafka import start_kafka, stop_kafka
from operations.embedded.postgres import start_postgres, stop_postgres
from operations.embedded.state import read_state, write_state
from streams.security import aiokafka_security

if TYPE_CHECKING:
    from operations.processes import ServiceProcess

log = logging.getLogger(__name__)

# A configured server that needs longer than this for one round trip cannot carry a load either.
_REACH_S = 15.0


@dataclass(frozen=True, slots=True)
class Services:
    """Addresses of both services, as `TIDEMARK_BOOTSTRAP_SERVERS` and `TIDEMARK_DSN` take them."""

    bootstrap_servers: str
    dsn: str


class RunningServices:
    """Services that this process holds; embedded ones among them end with it.

    An asynchronous context manager; `stop` may be called more than once.
    """

    def __init__(self, settings: Settings, lock: IO[str] | None) -> None:
        self.settings = settings
        """The settings with the addresses in use."""
        self.kafka: ServiceProcess | None = None
        """The embedded broker's process; None where Kafka was configured."""
        self.postgres: ServiceProcess | None = None
        """The embedded server's process; None where Postgres was configured."""
        self._lock = lock

    @property
    def addresses(self) -> Services:
        """Where both services are."""
        return Services(self.settings.bootstrap_servers, self.settings.dsn)

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


async def start_services(
    settings: Settings, data_dir: Path, *, progress: Console | None = None, fast: bool = False
) -> RunningServices:
    """Start or reach both services, proven by a round trip.

    `progress` is where a bar and a line a service are drawn; None draws nothing. `fast` gives up the
    durability of an embedded Postgres, for tests. Raises ServiceError and its kin, leaving nothing running.
    """
    await check_configured(settings)
    start = asyncio.ensure_future(
        asyncio.to_thread(open_services, settings, data_dir, progress=progress, fast=fast)
    )
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
    if settings.bootstrap_servers and settings.dsn:
        return RunningServices(settings, None)
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    running = RunningServices(settings, _take(data_dir))
    # Two threads each tell the state of theirs.
    writing = threading.Lock()

    def tell(text: str) -> None:
        log.info(text)
        if progress is not None:
            progress.print(text)

    def keep(address: dict[str, str], **changes: Any) -> None:  # noqa: ANN401 - fields of ServicesState
        with writing:
            running.settings = msgspec.structs.replace(running.settings, **address)
            write_state(data_dir, msgspec.structs.replace(read_state(data_dir), **changes))

    def kafka() -> None:
        java = find_java(settings.java_home)
        jars = ensure_jars(default_cache_dir(settings.cache_dir), progress)
        state, running.kafka = start_kafka(data_dir, read_state(data_dir).kafka, java, jars)
        keep({"bootstrap_servers": state.bootstrap_servers}, kafka=state)
        tell(f"Kafka listens on {state.bootstrap_servers}; log: {data_dir / 'log' / 'kafka.log'}")

    def postgres() -> None:
        state, running.postgres = start_postgres(data_dir, read_state(data_dir).postgres, fast=fast)
        keep({"dsn": state.dsn()}, postgres=state)
        tell(f"Postgres listens on 127.0.0.1:{state.port}; log: {data_dir / 'log' / 'postgres.log'}")

    wanted = [
        *([] if settings.bootstrap_servers else [kafka]),
        *([] if settings.dsn else [postgres]),
    ]
    try:
        with ThreadPoolExecutor(2) as pool:
            parts = [pool.submit(part) for part in wanted]
        for part in parts:
            part.result()
    except BaseException:
        running.stop_now()
        raise
    return running


def _take(data_dir: Path) -> IO[str]:
    """Hold the data directory until the file is closed; the kernel lets go of it for a killed process."""
    lock = (data_dir / "services.lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise AlreadyRunningError(
            f"expected to be the only one to run services in {data_dir}; process {holder} does already. "
            "Stop it (tidemark down), or name another --data-dir."
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


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
        admin = AIOKafkaAdminClient(
            bootstrap_servers=settings.bootstrap_servers, **aiokafka_security(settings)
        )
        try:
            async with asyncio.timeout(_REACH_S):
                await admin.start()
                await admin.list_topics()
        except (OSError, TimeoutError, KafkaError) as error:
            raise ServiceError(
                f"expected a Kafka at {settings.bootstrap_servers} that speaks {settings.security_protocol}; "
                f"{error or type(error).__name__}. Check TIDEMARK_BOOTSTRAP_SERVERS, the security "
                "settings and that the broker runs."
            ) from error
        finally:
            await admin.close()

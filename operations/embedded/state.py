"""What a data directory remembers about its embedded services: `<data>/services.json`."""

from pathlib import Path
from urllib.parse import quote

import msgspec

from contracts.errors import ServiceError
from operations.embedded.ports import LOOPBACK
from operations.files import write_private
from operations.processes import ProcessIdentity


class KafkaState(msgspec.Struct, frozen=True):
    """A single-node Kafka: its ports, its cluster id, and the process while there is one."""

    port: int
    controller_port: int
    cluster_id: str
    process: ProcessIdentity | None = None
    host: str = LOOPBACK
    """The one address at which it listens."""

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` for clients."""
        return f"{self.host}:{self.port}"


class PostgresState(msgspec.Struct, frozen=True):
    """A Postgres server: its port on loopback, its password, and the process while there is one."""

    port: int
    password: str
    process: ProcessIdentity | None = None
    host: str = LOOPBACK
    """The one address at which it listens."""

    def dsn(self, database: str = "tidemark") -> str:
        """An address that psql and asyncpg take."""
        return f"postgresql://tidemark:{quote(self.password)}@{self.host}:{self.port}/{database}"


class ServicesState(msgspec.Struct, frozen=True):
    """Both services; None for one that has never been started here."""

    kafka: KafkaState | None = None
    postgres: PostgresState | None = None


def state_file(data_dir: Path) -> Path:
    """Where the state is kept; it holds a password and is readable by its owner only."""
    return data_dir / "services.json"


def read_state(data_dir: Path) -> ServicesState:
    """The state that was written last; empty for a new data directory."""
    path = state_file(data_dir)
    try:
        return msgspec.json.decode(path.read_bytes(), type=ServicesState)
    except FileNotFoundError:
        return ServicesState()
    except msgspec.DecodeError as error:
        raise ServiceError(
            f"expected {path} to hold the addresses of the embedded services; it cannot be read ({error}). "
            "Move the file away to have new ports chosen."
        ) from error


def write_state(data_dir: Path, state: ServicesState) -> None:
    """Replace the state in one step."""
    write_private(state_file(data_dir), msgspec.json.format(msgspec.json.encode(state), indent=2))

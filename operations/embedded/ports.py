"""Free ports on loopback."""

import random
import socket

import psutil

from contracts.errors import PortTakenError, ServiceError

LOOPBACK = "127.0.0.1"

# Below 32768, where Linux begins to hand out ports to outgoing connections: a port kept in a data directory
# shall still be free after a reboot. Above the ports that well-known servers use.
_FIRST, _LAST = 20_000, 32_000
_ATTEMPTS = 200


def _is_free(port: int, host: str = LOOPBACK) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(besides: frozenset[int] = frozenset()) -> int:
    """A port that nobody listens on now, chosen at random so that two data directories do not meet."""
    for _ in range(_ATTEMPTS):
        port = random.randint(_FIRST, _LAST)  # noqa: S311 - not a secret
        if port not in besides and _is_free(port):
            return port
    raise ServiceError(
        f"expected a free port on {LOOPBACK} between {_FIRST} and {_LAST}; {_ATTEMPTS} tries found none. "
        "Stop what holds them, or set TIDEMARK_BOOTSTRAP_SERVERS and TIDEMARK_DSN to servers of your own."
    )


def require_free(port: int, service: str, state_file: str, host: str = LOOPBACK) -> None:
    """Raise PortTakenError, naming the holder where the system tells it, unless `port` is free."""
    if _is_free(port, host):
        return
    raise PortTakenError(
        f"{service} of this data directory uses port {port} on {host}, but {_holder(port)} holds it. "
        f"Stop that process, or remove {state_file} to have new ports chosen."
    )


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        pass
    return "another process"

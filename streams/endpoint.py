"""What a worker answers over HTTP: `/metrics`, `/health/live` and `/health/ready`; and the file that tells where.

It runs on the worker's own loop, so that an answer proves that the loop turns.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from contracts.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prometheus_client import CollectorRegistry

PORTS_TRIED: Final = 64
"""As many workers on one machine find a port from `http_port` on: as many as `tidemark up` starts at most."""

ANSWER_S_MAX: Final = 0.5
"""How long stopping waits for an answer that is under way; everything is answered at once."""


class Whereabouts(msgspec.Struct, frozen=True):
    """What `http.json` in a worker's data directory tells. It stays when the worker is gone: compare the pid."""

    pid: int
    host: str
    port: int
    starts: int
    """How often a worker has been started in this data directory."""


def read_whereabouts(path: Path) -> Whereabouts | None:
    """What the file tells; None where there is none, or one of another version."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Whereabouts)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


class Endpoint:
    """The HTTP server of one worker."""

    def __init__(
        self, host: str, port: int, path: Path, registry: CollectorRegistry, problems: Callable[[], list[str]]
    ) -> None:
        """`path` is that of `http.json`; `problems` tells why the worker is not ready."""
        self._host = host
        self._port = port
        self._path = path
        self._registry = registry
        self._problems = problems
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/health/live", self._live)
        app.router.add_get("/health/ready", self._ready)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=ANSWER_S_MAX)

    async def start(self) -> Whereabouts:
        """Listen, and tell where. Raises SettingError."""
        await self._runner.setup()
        ports = range(self._port, min(self._port + PORTS_TRIED, 65536)) if self._port else (0,)
        for port in ports:
            site = web.TCPSite(self._runner, self._host, port)
            try:
                await site.start()
            except OSError as error:
                if error.errno == errno.EADDRINUSE and self._port:
                    continue
                raise SettingError(
                    "http_host", f"expected an address of this machine to listen at; {self._host!r} is none: {error}"
                ) from error
            return self._tell(self._runner.addresses[0][1])
        raise SettingError(
            "http_port", f"expected a free port from {self._port} to {ports[-1]}; all are taken. 0 takes any free one"
        )

    def _tell(self, port: int) -> Whereabouts:
        before = read_whereabouts(self._path)
        found = Whereabouts(os.getpid(), self._host, port, 1 + (before.starts if before else 0))
        written = self._path.with_suffix(".new")
        written.write_bytes(msgspec.json.encode(found))
        written.replace(self._path)
        return found

    async def stop(self) -> None:
        """Close the socket and every connection."""
        await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _live(self, _: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _ready(self, _: web.Request) -> web.Response:
        reasons = self._problems()
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

"""What a worker answers over HTTP, and how it finds a port."""

import contextlib
import os
import socket
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CONTENT_TYPE_LATEST

from contracts.errors import SettingError
from streams.endpoint import Endpoint, Whereabouts, read_whereabouts
from streams.metrics import Metrics


class Problems(list[str]):
    """What stands in the way of being ready."""


@contextlib.asynccontextmanager
async def running(path: Path, port: int = 0, host: str = "127.0.0.1", problems: list[str] | None = None):
    endpoint = Endpoint(host, port, path / "http.json", Metrics().registry, lambda: problems or [])
    try:
        yield await endpoint.start()
    finally:
        await endpoint.stop()


async def ask(at: Whereabouts, path: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{at.host}:{at.port}{path}") as answer:
        return answer.status, answer.headers["Content-Type"], await answer.text()


async def test_ready_tells_why_not(tmp_path: Path):
    problems: list[str] = []
    async with running(tmp_path, problems=problems) as at:
        pass
    problems.append("taking partitions over")
    async with running(tmp_path, problems=problems) as at:
        status, kind, text = await ask(at, "/health/ready")
        assert (status, kind) == (503, "application/json; charset=utf-8")
        assert text == '{"ready": false, "reasons": ["taking partitions over"]}'
        problems.clear()
    async with running(tmp_path) as at:
        assert (await ask(at, "/health/ready"))[::2] == (200, '{"ready": true, "reasons": []}')


async def test_live_and_metrics_are_answered_whatever_is_wrong(tmp_path: Path):
    async with running(tmp_path, problems=["all of it"]) as at:
        assert (await ask(at, "/health/live"))[0] == 200
        status, kind, text = await ask(at, "/metrics")
        assert (status, kind) == (200, CONTENT_TYPE_LATEST)
        assert "# TYPE tidemark_messages_applied_total counter" in text
        assert (await ask(at, "/"))[0] == 404


async def test_where_it_listens_is_told_and_starts_are_counted(tmp_path: Path):
    for starts in (1, 2, 3):
        async with running(tmp_path) as at:
            assert (at.pid, at.host, at.starts) == (os.getpid(), "127.0.0.1", starts)
            assert read_whereabouts(tmp_path / "http.json") == at


async def test_a_file_that_cannot_be_read_is_written_anew(tmp_path: Path):
    (tmp_path / "http.json").write_text("{")
    async with running(tmp_path) as at:
        assert at.starts == 1


async def test_a_port_that_is_taken_is_passed_over(tmp_path: Path):
    async with running(tmp_path) as first, running(tmp_path, first.port) as second:
        assert first.port < second.port < first.port + 64
        assert (await ask(second, "/health/live"))[0] == 200


async def test_no_port_is_left(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 65535)), pytest.raises(SettingError) as error:
        async with running(tmp_path, 65535):
            pass
    assert error.value.setting == "http_port"
    assert "65535" in str(error.value)


async def test_an_address_of_another_machine(tmp_path: Path):
    with pytest.raises(SettingError) as error:
        async with running(tmp_path, host="192.0.2.1"):
            pass
    assert error.value.setting == "http_host"
    assert "192.0.2.1" in str(error.value)

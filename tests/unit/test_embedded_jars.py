"""Jars: pinned, fetched from a mirror on loopback, verified, kept."""

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.errors import DiskFullError, DownloadError
from operations.embedded.jars import KAFKA_VERSION, Jar, ensure_jars, pinned_jars
from operations.embedded.ports import free_port
from operations.files import require_room

CONTENTS = {f"part{number}": bytes([number]) * (1000 + number) for number in range(9)}
JARS = tuple(
    Jar(f"org.tidemark.test:{name}:1.0", hashlib.sha256(content).hexdigest(), len(content))
    for name, content in CONTENTS.items()
)


class _Handler(http.server.SimpleHTTPRequestHandler):
    requested: list[str]

    def do_GET(self) -> None:
        self.requested.append(self.path)
        super().do_GET()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


class Mirror:
    """A Maven repository on loopback."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requested: list[str] = []
        handler = type("Handler", (_Handler,), {"requested": self.requested})
        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(handler, directory=str(root))
        )
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def put(self, name: str, content: bytes) -> None:
        path = self.root / "org/tidemark/test" / name / "1.0" / f"{name}-1.0.jar"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def fetched(self) -> set[str]:
        return {path.split("/")[-1] for path in self.requested if path.endswith(".jar")}

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _use(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "jgo.conf"
    config.write_text(f"[repositories]\nmirror = {address}\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(config))


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    mirror = Mirror(tmp_path / "mirror")
    for name, content in CONTENTS.items():
        mirror.put(name, content)
    _use(mirror.address, tmp_path, monkeypatch)
    yield mirror
    mirror.close()


def test_pins_are_complete():
    jars = pinned_jars()
    assert {f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"} <= {jar.coordinates for jar in jars}
    assert len({jar.filename for jar in jars}) == len(jars)
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in jars)


def test_jars_are_fetched_once(mirror: Mirror, tmp_path: Path):
    first = ensure_jars(tmp_path / "cache", jars=JARS)
    assert [path.read_bytes() for path in first] == list(CONTENTS.values())
    mirror.requested.clear()
    assert ensure_jars(tmp_path / "cache", jars=JARS) == first
    assert mirror.requested == []


def test_what_is_cut_short_or_altered_is_fetched_again_and_leftovers_go(mirror: Mirror, tmp_path: Path):
    paths = ensure_jars(tmp_path / "cache", jars=JARS)
    mirror.requested.clear()
    paths[0].write_bytes(paths[0].read_bytes()[:10])
    paths[1].write_bytes(b"x" * JARS[1].size)
    leftover = paths[0].parent / ".fetch-killed"
    leftover.mkdir()
    (leftover / "half.jar").write_bytes(b"half")
    ensure_jars(tmp_path / "cache", jars=JARS)
    assert [path.read_bytes() for path in paths] == list(CONTENTS.values())
    assert mirror.fetched() == {JARS[0].filename, JARS[1].filename}
    assert not leftover.exists()


def test_two_at_once_take_turns(mirror: Mirror, tmp_path: Path):
    threads = [threading.Thread(target=ensure_jars, args=(tmp_path / "cache",), kwargs={"jars": JARS}) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([path for path in mirror.requested if path.endswith(".jar")]) == len(JARS)


def test_another_file_than_the_pinned_one_is_refused(mirror: Mirror, tmp_path: Path):
    mirror.put("part3", b"something else")
    with pytest.raises(DownloadError, match=r"part3.*SHA-256"):
        ensure_jars(tmp_path / "cache", jars=JARS)
    assert not (tmp_path / "cache" / f"kafka-{KAFKA_VERSION}" / "part3-1.0.jar").exists()


def test_a_refused_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _use(f"http://127.0.0.1:{free_port()}", tmp_path, monkeypatch)
    with pytest.raises(DownloadError) as error:
        ensure_jars(tmp_path / "cache", jars=JARS)
    for part in ("HTTPS_PROXY", "jgo.conf", "TIDEMARK_BOOTSTRAP_SERVERS"):
        assert part in str(error.value)


def test_too_little_room_is_told_before_anything_is_written(tmp_path: Path):
    with pytest.raises(DiskFullError, match=str(tmp_path)):
        require_room(tmp_path, 2**62, "a test")

"""What a peer runs in: pinned, fetched on demand, kept in `.bench/`, so that nothing of it is a dependency of Tidemark.

Python packages go into a virtual environment for each peer, by `requirements/<name>.txt` with hashes; jars are those of
`kafka_streams/jars.txt`, with hashes too. No JDK is needed: the Eclipse compiler, a jar, runs on the Java that the
embedded Kafka runs on. `python -m benchmarks.peers.environments` resolves the jars again and prints a new `jars.txt`.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import jgo

from contracts.settings import Settings
from operations.embedded import jars
from operations.embedded.jars import COORDINATES as _EMBEDDED
from operations.embedded.jars import Jar, ensure_jars
from operations.embedded.java import find_java

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
HOME = ROOT / ".bench"
STREAMS = HERE / "kafka_streams"
KAFKA_STREAMS_VERSION = _EMBEDDED[0].rpartition(":")[2]
COORDINATES = (
    f"org.apache.kafka:kafka-streams:{KAFKA_STREAMS_VERSION}",
    "org.postgresql:postgresql:42.7.7",
    "org.slf4j:slf4j-simple:1.7.36",
    "org.eclipse.jdt:ecj:3.42.0",
)
"""The compiler and the log binding are ours; Kafka Streams brings Jackson and RocksDB itself."""


def python(name: str) -> Path:
    """The Python of a peer, its environment made where it is missing or its requirements have changed."""
    requirements = HERE / "requirements" / f"{name}.txt"
    directory = HOME / name
    stamp = directory / ".requirements"
    wanted = f"{sys.version} {hashlib.sha256(requirements.read_bytes()).hexdigest()}"
    executable = directory / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(directory, clear=True, with_pip=True)
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes")
        subprocess.run([executable, *pip, "-r", requirements], check=True)
        stamp.write_text(wanted)
    return executable


def versions(name: str) -> dict[str, str]:
    """The packages that the requirements of a peer name themselves, with their versions."""
    lines = (HERE / "requirements" / f"{name}.in").read_text().split()
    return dict(line.split("==") for line in lines)


def java() -> Path:
    """The Java that everything here runs on."""
    return find_java(Settings(java_home=os.environ.get("TIDEMARK_JAVA_HOME", "")).java_home)


def kafka_streams() -> str:
    """The class path of the Kafka Streams peer, compiled where its sources have changed."""
    rows = (line.split() for line in (STREAMS / "jars.txt").read_text().splitlines() if not line.startswith("#"))
    jars = ensure_jars(HOME, jars=tuple(Jar(name, sha256, int(size)) for name, sha256, size in rows))
    sources = sorted((STREAMS / "src").glob("*.java"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    classes = HOME / f"classes-{digest[:16]}"
    path = os.pathsep.join(map(str, jars))
    if not classes.exists():
        compiler = (java(), "-cp", path, "org.eclipse.jdt.internal.compiler.batch.Main")
        subprocess.run([*compiler, "-17", "-cp", path, "-nowarn", "-d", f"{classes}.new", *sources], check=True)
        Path(f"{classes}.new").rename(classes)
    return f"{classes}{os.pathsep}{path}"


def _print_pins() -> None:
    found = {
        f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
        for endpoint in COORDINATES
        for artifact in jgo.resolve(endpoint)
    }
    print("# The Kafka Streams peer: coordinates, SHA-256, bytes. By: python -m benchmarks.peers.environments")
    with tempfile.TemporaryDirectory() as scratch:
        for name in sorted(found):
            path = jars._download(Jar(name, "", 0), Path(scratch), lambda _count: None)
            print(name, jars._sha256(path), path.stat().st_size)


if __name__ == "__main__":
    _print_pins()

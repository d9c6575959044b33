"""The peers: how each is started, in how many processes, and what it does not promise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.peers import environments

WORKERS = Path(__file__).parent


@dataclass(frozen=True)
class Peer:
    """One way of running one peer."""

    name: str
    prepare: Callable[[], list[str]]
    """Makes its environment, and returns the command."""
    guarantee: str
    """In a word or two; more is in `PROMISES`."""
    processes: int = 1
    messages_most: int | None = None
    """Given no more messages than these, so that a slow one takes about a minute a round; unless told otherwise."""
    env: Mapping[str, str] = field(default_factory=dict)


def _streams() -> list[str]:
    path = environments.kafka_streams()
    # A GiB of heap is plenty for 64 MiB of cache; on two cores the parallel collector gives the most throughput.
    options = ["-Xmx1g", "-XX:+UseParallelGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    # Java 24 and newer warn of native code, such as RocksDB's, unless it is allowed.
    return [str(environments.java()), *options, "--enable-native-access=ALL-UNNAMED", "-cp", path, "Job"]


def _script(name: str) -> list[str]:
    return [str(environments.python(name)), str(WORKERS / f"{name}_worker.py")]


def _all() -> list[Peer]:
    peers = []
    for threads in (1, 2):
        suffix = f"{threads} thread{'s' if threads > 1 else ''}"
        for guarantee, name in (("at_least_once", "at least once"), ("exactly_once_v2", "exactly once")):
            env = {"BENCH_THREADS": str(threads), "BENCH_GUARANTEE": guarantee}
            peers.append(Peer(f"kafka-streams, {name}, {suffix}", _streams, guarantee, env=env))
    for number in (1, 2):
        suffix = f"{number} process{'es' if number > 1 else ''}"
        for name, script, guarantee, most in (
            ("aiokafka-asyncpg", "aiokafka", "exactly once, by offsets in Postgres", None),
            ("quix-streams", "quix", "at least once", 500_000),
            ("faust-idiomatic", "faust", "at least once", 25_000),
        ):
            peers.append(Peer(f"{name}, {suffix}", partial(_script, script), guarantee, number, most))
        # Its processes have to know each other: it starts them itself.
        env = {"BENCH_PROCESSES": str(number)}
        peers.append(Peer(f"bytewax, {suffix}", partial(_script, "bytewax"), "at least once", env=env))
    return peers


PEERS = {peer.name: peer for peer in _all()}
OURS = "exactly once"
"""Tidemark's guarantee."""

PROMISES = {
    "tidemark": "Exactly once, also across crashes: state, offsets and rows move together. Does more than the others: "
    "identities of a person become one profile, attributes are typed, refused messages are kept, companies.",
    "kafka-streams, exactly once": "State and offsets exactly once; rows and profiles are idempotent writes that come "
    "before the transaction commits. Nothing fences a stalled instance's writes to Postgres.",
    "kafka-streams, at least once": "After a crash, page views of a profile can be counted twice or, where the store "
    "of seen messages got ahead of the store of profiles, not at all.",
    "quix-streams": "At least once: state and offsets are no transaction, so after a crash counts can be off as above.",
    "bytewax": "At least once, from the last snapshot, every ten seconds by default: rows are idempotent writes, and "
    "profiles follow from the snapshot. State is in memory; snapshots are SQLite files of the machine, no changelog "
    "in Kafka. Nothing removes old messageIds.",
    "faust-idiomatic": "At least once, and its tables are not flushed with the offsets: after a crash counts can be "
    "off, both ways. Nothing removes old messageIds from its table.",
    "aiokafka-asyncpg": "No state store: Postgres is the state. Rows, counts and the offsets of the second step are "
    "one transaction, so exactly once; but what a rule needs to know has to be a column, and every rule is SQL. "
    "Nothing fences a stalled process between rebalance and commit but the offsets it compares.",
}

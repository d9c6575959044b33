"""The sample through the whole product: the same tables, to the byte, whatever the order (SEMANTICS S4).

    pytest -s tests/acceptance/test_pipeline.py     # prints the digests of each run, as `tidemark verify` does

Each run is compared with an independent recomputation of every public table, and with the runs before it.
"""

import random
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from contracts.settings import Settings
from sinks.postgres.verification import TableDigest, total_digest
from tests.acceptance.pipeline import FIRST_MS, Pipeline, pipeline

SAMPLE = Path(__file__).parents[2] / "examples" / "sample.jsonl"
SEED = 20_261_124

FOUND: dict[str, dict[str, TableDigest]] = {}
"""What each run of this session has ended in, by its name."""


def sample() -> list[bytes]:
    return SAMPLE.read_bytes().split(b"\n")[:-1]


def arranged(order: str) -> list[bytes]:
    """The sample in another order."""
    values = sample()
    if order == "reversed":
        values.reverse()
    elif order == "shuffled with copies":
        # A second copy of a tenth of the messages, anywhere.
        print(f"seed {SEED}")
        shuffle = random.Random(SEED)
        values += shuffle.sample(values, len(values) // 10)
        shuffle.shuffle(values)
    return values


def times() -> dict[bytes, int]:
    """Kafka's time of each value: of its first place in the sample."""
    found: dict[bytes, int] = {}
    for number, value in enumerate(sample()):
        found.setdefault(value, FIRST_MS + number)
    return found


async def digests(running: Pipeline) -> dict[str, TableDigest]:
    """Digests of every public table, those of `tidemark verify` but for the quarantine.

    Its rows are keyed by their place in the source topic, which differs from run to run, and there is one for each
    copy: here it is each reason and value once.
    """
    found = dict((await running.verified()).tables)
    refused = sorted({(row["reason"], row["raw"]) for row in (await running.tables())["quarantine"]})
    digest = sha256(b"".join(sha256(f"{reason}\0".encode() + raw).digest() for reason, raw in refused))
    return {**found, "quarantine": TableDigest(len(refused), digest.hexdigest())}


def tell(name: str, found: dict[str, TableDigest]) -> None:
    print(f"\n{name}")
    for table, digest in found.items():
        print(f"{table:<22} {digest.rows:>8,}  {digest.sha256}")
    print(f"{'all of them':<22} {'':>8}  {total_digest(found)}")


@pytest.mark.parametrize(
    ("order", "source_partitions", "workers"),
    [("as it is", 1, 1), ("reversed", 4, 2), ("shuffled with copies", 16, 3)],
)
async def test_every_order_and_partitioning_gives_the_same_tables(
    settings: Settings, order: str, source_partitions: int, workers: int
) -> None:
    values, time_of = arranged(order), times()
    settings = msgspec.structs.replace(settings, source_partitions=source_partitions)
    async with pipeline(settings) as running:
        await running.load(values, times_ms=[time_of[value] for value in values])
        for number in range(workers):
            running.start(f"w{number}")
        await running.wait()
        assert await running.findings() == []
        name = f"{order}; {source_partitions} source partitions, {workers} workers"
        FOUND[name] = await digests(running)
        tell(name, FOUND[name])
        for other, found in FOUND.items():
            assert FOUND[name] == found, f"differs from: {other}"
        for number in range(workers):
            assert running.stop(f"w{number}") == 0, running.log(f"w{number}")

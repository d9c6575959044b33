"""The sample through the whole product, compared with an independent recomputation of every public table."""

import random
from pathlib import Path

import msgspec
import pytest

from contracts.settings import Settings
from tests.acceptance.pipeline import pipeline
from tests.oracle.comparison import differences
from tests.oracle.recomputation import recompute

SAMPLE = Path(__file__).parents[2] / "examples" / "sample.jsonl"
SEED = 20_261_124


def sample() -> list[bytes]:
    return SAMPLE.read_bytes().split(b"\n")[:-1]


@pytest.mark.parametrize(
    ("order", "source_partitions", "workers"),
    [("as it is", 1, 1), ("reversed", 4, 2), ("shuffled", 16, 3)],
)
async def test_every_order_and_partitioning_gives_the_recomputed_tables(
    settings: Settings, order: str, source_partitions: int, workers: int
) -> None:
    values = sample()
    if order == "reversed":
        values.reverse()
    elif order == "shuffled":
        # A second copy of a tenth of the messages, anywhere.
        print(f"seed {SEED}")
        shuffle = random.Random(SEED)
        values += shuffle.sample(values, len(values) // 10)
        shuffle.shuffle(values)
    settings = msgspec.structs.replace(settings, source_partitions=source_partitions)
    async with pipeline(settings) as running:
        await running.load(values)
        for number in range(workers):
            running.start(f"w{number}")
        await running.wait()
        expected = recompute(await running.source_records(), claims=True)
        assert differences(expected, await running.tables()) == []
        stats = await running.stats()
        assert (stats.read, stats.applied, stats.duplicate, stats.quarantined, stats.in_flight) == (
            expected.read,
            expected.applied,
            expected.duplicate,
            expected.quarantined,
            0,
        )
        for number in range(workers):
            assert running.stop(f"w{number}") == 0, running.log(f"w{number}")

"""Broker, database and workers on hosts of their own, whose links go away and come back (SEMANTICS S4, S12).

Hosts are network namespaces: that takes root and `ip` from iproute2. Without, these tests are skipped.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from contracts.settings import Settings
from tests.acceptance.pipeline import Pipeline, pipeline
from tests.faults.hosts import Network, NotPermittedError, hosted
from tests.faults.installations import apart
from tests.faults.load import steady_load, traffic
from tests.faults.outcomes import note, outcome_of
from tests.faults.services import supervised
from tests.integration.worker_environment import stop_all, until, until_applied
from tests.services import _removed_with_us

SEED = 20_261_128
AWAY_S = 20
"""Past the group's session, 10 s."""
PER_S = 200


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    made = Network()
    try:
        made.open()
    except NotPermittedError as error:
        pytest.skip(f"no network namespaces: {error}")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def far_settings(network: Network) -> Iterator[Settings]:
    """Settings on a broker and a database that have a host each."""
    home = Path(tempfile.mkdtemp(prefix="tidemark-hosts-"))
    # Where the tests run as root, Postgres runs under another account, which has to get in.
    home.chmod(0o755)
    with ExitStack() as stack:
        stack.enter_context(_removed_with_us(home))
        at = {
            name: stack.enter_context(hosted(network, name, network.add(name), home / name))
            for name in ("kafka", "postgres")
        }
        for worker in ("a", "b"):
            network.add(worker)
        yield Settings(
            bootstrap_servers=at["kafka"],
            dsn=at["postgres"],
            app_version="hosts",
            source_topics=("segment",),
            source_partitions=3,
            leaves_partitions=4,
            companies_partitions=2,
            cycle_records_max=500,
            data_dir=home / "workers",
            log_level="INFO",
        )


async def owners(running: Pipeline) -> set[str]:
    """Which workers have partitions of the leaves topic."""
    connection = await running.connection()
    try:
        found = await connection.fetch(
            "select distinct owner from progress where topic = $1", running.settings.leaves_topic
        )
    finally:
        await connection.close()
    return {row["owner"] for row in found}


async def until_owned_by(running: Pipeline, *workers: str) -> None:
    async def is_so() -> bool:
        return await owners(running) == set(workers)

    await until(is_so, f"{' and '.join(workers)} to have all partitions")


@pytest.mark.faults
@pytest.mark.timeout(900)
async def test_a_worker_whose_link_goes_away_is_taken_over_from_and_comes_back(
    network: Network, far_settings: Settings
) -> None:
    async with pipeline(apart(far_settings, "worker")) as running:
        running.hosts = {name: network.at(name) for name in ("a", "b")}
        running.start("a")
        running.start("b")
        async with supervised(running):
            async with steady_load(running, traffic(SEED, users=1000), PER_S):
                await until_owned_by(running, "a", "b")
                await until_applied(running, 1000)
                network.cut("a")
                try:
                    await until_owned_by(running, "b")
                    # The one that is left gets on with what the other one had.
                    await until_applied(running, (await running.stats()).applied + 5 * PER_S)
                finally:
                    network.mend("a")
                since = time.monotonic()
                await until_owned_by(running, "a", "b")
            note("a worker's link is away", [await outcome_of(running, since)])
            stop_all(running)


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("service", ["postgres", "kafka"])
async def test_a_service_whose_link_goes_away_is_waited_for(
    network: Network, far_settings: Settings, service: str
) -> None:
    async with pipeline(apart(far_settings, service)) as running:
        running.hosts = {name: network.at(name) for name in ("a", "b")}
        running.start("a")
        running.start("b")
        async with supervised(running):
            async with steady_load(running, traffic(SEED, users=1000), PER_S):
                await until_applied(running, 1000)
                network.cut(service)
                await asyncio.sleep(AWAY_S)
                network.mend(service)
                since = time.monotonic()
                await until_applied(running, (await running.stats()).applied + 5 * PER_S)
            note(f"the link of {service} is away", [await outcome_of(running, since)])
            stop_all(running)

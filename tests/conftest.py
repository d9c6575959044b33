"""Fixtures for every test: Hypothesis profiles, and real Kafka and Postgres started once a session."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from contracts.settings import Settings
from tests.services import (
    SessionServices,
    choose,
    create_database,
    delete_topics,
    drop_database,
    run_apart,
    session_services,
    with_database,
)

# No deadline: tests never assert a time, and the machine may be busy.
_COMMON = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
hypothesis_settings.register_profile("quick", max_examples=25, **_COMMON)
hypothesis_settings.register_profile("usual", max_examples=100, **_COMMON)
hypothesis_settings.register_profile("thorough", max_examples=2000, **_COMMON)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "usual"))


def pytest_report_header() -> str:
    kafka, postgres = choose(os.environ)
    return f"services: kafka {kafka}, postgres {postgres}"


@pytest.fixture(scope="session")
def services() -> Iterator[SessionServices]:
    """Real Kafka and Postgres, started when first asked for."""
    with session_services(os.environ) as running:
        yield running


@pytest.fixture(scope="session")
def kafka(services: SessionServices) -> str:
    """Bootstrap address of a real Kafka, shared by the session: choose topic names of your own."""
    return services.bootstrap_servers


@pytest.fixture
def postgres_dsn(services: SessionServices) -> Iterator[str]:
    """A fresh, empty database on a real Postgres, for this test alone."""
    database = f"t_{secrets.token_hex(6)}"
    run_apart(create_database(services.dsn, database))
    yield with_database(services.dsn, database)
    run_apart(drop_database(services.dsn, database))


@pytest.fixture
def settings(kafka: str, postgres_dsn: str, tmp_path: Path) -> Iterator[Settings]:
    """Settings on the real services; topics, group, database and data directory for this test alone."""
    token = secrets.token_hex(6)
    yield Settings(
        bootstrap_servers=kafka,
        dsn=postgres_dsn,
        app_version=f"t{token}",
        source_topics=(f"segment-t{token}",),
        source_partitions=2,
        leaves_partitions=4,
        companies_partitions=2,
        data_dir=tmp_path / "data",
        log_level="WARNING",
    )
    run_apart(delete_topics(kafka, token))

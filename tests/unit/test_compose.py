"""compose.yaml describes the same system as the embedded services."""

from pathlib import Path
from typing import Any

import pytest

from contracts.settings import Settings
from operations.embedded import kafka
from operations.embedded.jars import KAFKA_VERSION
from operations.embedded.postgres import MAJOR
from operations.settings import load_settings
from tests.services import KAFKA_IMAGE, POSTGRES_IMAGE

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def test_the_versions_are_those_of_the_embedded_services(compose: dict[str, Any]):
    services = compose["services"]
    assert services["kafka"]["image"] == KAFKA_IMAGE == f"apache/kafka:{KAFKA_VERSION}"
    assert services["postgres"]["image"] == POSTGRES_IMAGE == f"postgres:{MAJOR}"


def test_every_running_service_has_a_health_check_and_a_volume(compose: dict[str, Any]):
    for name in ("kafka", "postgres", "worker"):
        service = compose["services"][name]
        assert service["healthcheck"]["test"]
        (volume,) = service["volumes"]
        assert volume.split(":")[0] in compose["volumes"]


def test_ports_are_open_on_loopback_only(compose: dict[str, Any]):
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_worker_is_told_settings_that_exist(compose: dict[str, Any]):
    environ = compose["services"]["worker"]["environment"]
    settings = load_settings(environ=environ)
    assert settings.bootstrap_servers == "kafka:19092"
    assert settings.dsn.startswith("postgresql://tidemark:")
    assert settings.data_dir != Settings().data_dir


def test_the_broker_is_set_as_the_embedded_one(compose: dict[str, Any]):
    environ = compose["services"]["kafka"]["environment"]
    for name in ("auto.create.topics.enable", "message.max.bytes", "log.retention.ms", "transaction.state.log.min.isr"):
        assert environ["KAFKA_" + name.upper().replace(".", "_")] == kafka._BROKER[name]


def test_the_image_is_built_from_what_the_ignore_file_lets_in():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        part
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY") and "--from=" not in line
        for part in line.split()[1:-1]
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in allowed)

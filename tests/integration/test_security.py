"""Clients against a broker that is secured in each of the ways that Segment's Kafka destination knows."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError

from contracts.errors import ServiceError
from contracts.settings import Settings
from operations.embedded import kafka as embedded
from operations.embedded.jars import default_cache_dir, ensure_jars
from operations.embedded.java import find_java
from operations.embedded.ports import free_port
from operations.processes import ServiceProcess, log_tail
from operations.services import check_configured
from streams.security import aiokafka_security

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl")

USER, PASSWORD, KEY_PASSWORD = "segment", "correct horse", "battery staple"
JAAS_PLAIN = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
EXPIRED = "OLD_SSL"
"""A listener whose certificate has run out."""
CA_CONFIG = """
[ca]
default_ca = own
[own]
database = index
serial = serial
x509_extensions = server
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
default_md = sha256
policy = any
[any]
commonName = supplied
[server]
subjectAltName = IP:127.0.0.1
"""
JAAS_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@dataclass(frozen=True)
class Secured:
    """A broker's addresses by security protocol, and the files a client needs."""

    addresses: dict[str, str]
    ca: str
    cert: str
    key: str
    locked_key: str


def _openssl(home: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=home, check=True, capture_output=True)


def _certificates(home: Path) -> None:
    """ca.pem; server.pem (key and certificate for 127.0.0.1); client.pem with client.key and locked.key."""
    new_key = ("-newkey", "rsa:2048", "-nodes")
    _openssl(home, "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    (home / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "client"):
        _openssl(home, "req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2")
        _openssl(home, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing)
    (home / "store.pem").write_text((home / "server.key").read_text() + (home / "server.pem").read_text())
    (home / "ca.cnf").write_text(CA_CONFIG)
    (home / "index").touch()
    _openssl(
        home,
        *("ca", "-batch", "-config", "ca.cnf", "-in", "server.csr", "-out", "expired.pem", "-create_serial"),
        *("-startdate", "20200101000000Z", "-enddate", "20210101000000Z", "-notext"),
    )
    (home / "expired-store.pem").write_text((home / "server.key").read_text() + (home / "expired.pem").read_text())
    _openssl(home, "rsa", "-aes256", "-in", "client.key", "-out", "locked.key", "-passout", f"pass:{KEY_PASSWORD}")


def _properties(home: Path, ports: dict[str, int]) -> str:
    clients = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL", EXPIRED)
    listeners = [f"{name}://127.0.0.1:{ports[name]}" for name in clients]
    values: dict[str, Any] = {
        **embedded._BROKER,
        "listener.security.protocol.map": ",".join(
            [*(f"{n}:{n.removeprefix('OLD_')}" for n in clients), "CONTROLLER:PLAINTEXT"]
        ),
        "controller.quorum.voters": f"1@127.0.0.1:{ports['CONTROLLER']}",
        "advertised.listeners": ",".join(listeners),
        "listeners": ",".join([*listeners, f"CONTROLLER://127.0.0.1:{ports['CONTROLLER']}"]),
        "log.dirs": home / "data",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": home / "store.pem",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": home / "ca.pem",
        "listener.name.ssl.ssl.client.auth": "required",
        f"listener.name.{EXPIRED.lower()}.ssl.keystore.type": "PEM",
        f"listener.name.{EXPIRED.lower()}.ssl.keystore.location": home / "expired-store.pem",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
    }
    for name in ("sasl_plaintext", "sasl_ssl"):
        values[f"listener.name.{name}.plain.sasl.jaas.config"] = JAAS_PLAIN
        for mechanism in ("scram-sha-256", "scram-sha-512"):
            values[f"listener.name.{name}.{mechanism}.sasl.jaas.config"] = JAAS_SCRAM
    return "".join(f"{name}={value}\n" for name, value in values.items())


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    home = tmp_path_factory.mktemp("secured")
    _certificates(home)
    ports: dict[str, int] = {}
    for name in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL", EXPIRED, "CONTROLLER"):
        ports[name] = free_port(frozenset(ports.values()))
    (home / "server.properties").write_text(_properties(home, ports))
    jars = ensure_jars(default_cache_dir(""))
    log4j = Path(embedded.__file__).with_name("log4j2.xml")
    java = [str(find_java("")), f"-Dlog4j2.configurationFile={log4j}", "-Xmx256m", "-cp", ":".join(map(str, jars))]
    scram = [f"{mechanism}=[name={USER},password={PASSWORD}]" for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")]
    subprocess.run(
        [
            *java,
            *("kafka.tools.StorageTool", "format", "--cluster-id", "Iry0Ur2OSgexK2kLoQ-C6g"),
            *("--config", str(home / "server.properties"), "--add-scram", scram[0], "--add-scram", scram[1]),
        ],
        check=True,
        capture_output=True,
    )
    process = ServiceProcess.spawn([*java, "kafka.Kafka", str(home / "server.properties")], home / "log")
    try:
        deadline = time.monotonic() + 120
        while "Kafka Server started" not in log_tail(home / "log"):
            assert process.running(), log_tail(home / "log")
            assert time.monotonic() < deadline, log_tail(home / "log")
            time.sleep(0.1)
        yield Secured(
            addresses={name: f"127.0.0.1:{port}" for name, port in ports.items()},
            ca=str(home / "ca.pem"),
            cert=str(home / "client.pem"),
            key=str(home / "client.key"),
            locked_key=str(home / "locked.key"),
        )
    finally:
        process.stop(30)


def settings_for(secured: Secured, protocol: str, **changes: Any) -> Settings:
    if protocol.endswith("SSL"):
        changes.setdefault("ssl_ca_file", secured.ca)
    if protocol.startswith("SASL"):
        changes = {"sasl_username": USER, "sasl_password": PASSWORD, **changes}
    return Settings(
        bootstrap_servers=secured.addresses[protocol], security_protocol=protocol.removeprefix("OLD_"), **changes
    )


async def _round_trip(settings: Settings) -> bytes:
    arguments = {"bootstrap_servers": settings.bootstrap_servers, **aiokafka_security(settings)}
    admin = AIOKafkaAdminClient(**arguments)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("segment", 1, 1)])
    except TopicAlreadyExistsError:
        pass
    finally:
        await admin.close()
    producer = AIOKafkaProducer(**arguments)
    await producer.start()
    sent = await producer.send_and_wait("segment", b"{}", partition=0)
    await producer.stop()
    consumer = AIOKafkaConsumer(**arguments)
    await consumer.start()
    place = TopicPartition("segment", 0)
    consumer.assign([place])
    consumer.seek(place, sent.offset)
    record = await consumer.getone(place)
    await consumer.stop()
    return record.value


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_name_and_a_password(secured: Secured, protocol: str, mechanism: str):
    settings = settings_for(secured, protocol, sasl_mechanism=mechanism)
    await check_configured(settings)
    assert await _round_trip(settings) == b"{}"


async def test_a_client_certificate(secured: Secured):
    for changes in (
        {"ssl_cert_file": secured.cert, "ssl_key_file": secured.key},
        {"ssl_cert_file": secured.cert, "ssl_key_file": secured.locked_key, "ssl_key_password": KEY_PASSWORD},
    ):
        assert await _round_trip(settings_for(secured, "SSL", **changes)) == b"{}"


@pytest.mark.parametrize(
    ("protocol", "changes", "why"),
    [
        ("SSL", {}, "may want another client certificate"),
        ("SASL_SSL", {"ssl_ca_file": ""}, "unable to get local issuer certificate"),
        (EXPIRED, {}, "certificate has expired"),
        ("SASL_SSL", {"sasl_password": "wrong"}, "Authentication failed"),
        ("SASL_PLAINTEXT", {"sasl_mechanism": "SCRAM-SHA-256", "sasl_password": "wrong"}, "Authentication failed"),
    ],
    ids=["no certificate", "unknown authority", "expired certificate", "wrong password", "wrong SCRAM password"],
)
async def test_a_refused_client_says_how_it_tried_and_why(
    secured: Secured, protocol: str, changes: dict[str, str], why: str
):
    with pytest.raises(ServiceError, match=f"{protocol.removeprefix('OLD_')};.*security settings") as error:
        await check_configured(settings_for(secured, protocol, **changes))
    print(error.value)
    assert why in str(error.value)
    assert "wrong" not in str(error.value)

"""A single Kafka broker in KRaft mode, by default on loopback, with its data below a data directory."""

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import time
import uuid
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError

from contracts.errors import DiskFullError, ServiceError, StartTimeoutError
from operations.embedded.ports import free_port, require_free
from operations.embedded.state import KafkaState
from operations.files import require_room
from operations.processes import ServiceProcess, find_by_argument, log_tail

# The broker starts in 4-5 s on two free cores; a busy machine takes several times that.
_START_S = 120.0
# A clean stop takes about a second; without one the next start recovers the logs.
_STOP_S = 30.0
_FORMAT_S = 60.0
# An empty broker takes some MiB; below this much room the first load would fill the disk.
_ROOM_BYTES = 256 * 2**20
_PROBE_TOPIC = "tidemark-probe"
_PROBE_S = 5.0

_JVM = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
"""Half a GiB holds the broker's buffers below; the serial collector and a compiler that does not optimize at length
leave both cores to everybody else while the broker warms up, which takes minutes."""

_BROKER = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    # Topics are made by Tidemark with the settings they need, never by a mistyped name.
    "auto.create.topics.enable": "false",
    # Sources may hold records above our own limit: they are read, and quarantined.
    "message.max.bytes": str(8 * 2**20),
    "replica.fetch.max.bytes": str(8 * 2**20),
    # By default a record is deleted by its own time after a week, also one that was loaded a minute ago.
    "log.retention.ms": "-1",
    # One node: no copies, and few partitions for the few groups and transactional ids of one machine.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "offsets.retention.minutes": "525600",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # Workers on one machine start together: waiting for more of them only delays the first record.
    "group.initial.rebalance.delay.ms": "0",
    # Lets a killed worker be noticed within seconds, where a worker asks for it.
    "group.min.session.timeout.ms": "1000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    # The default, 128 MiB, is a quarter of the heap; 16 MiB clean 600,000 keys a pass.
    "log.cleaner.dedupe.buffer.size": str(16 * 2**20),
    # The default, 10 MiB, is a hole, which the kernel fills with zeros, megabytes at a time, at the first write to a
    # partition. 1 MiB is enough for 350 MiB of records; then the next segment begins.
    "log.index.size.max.bytes": str(2**20),
}


def start_kafka(
    data_dir: Path, state: KafkaState | None, java: Path, jars: tuple[Path, ...]
) -> tuple[KafkaState, ServiceProcess]:
    """Start the broker of `data_dir`, or take over the one that an earlier run has left behind.

    Returns once a record was written and read again. Raises ServiceError and its kin.
    """
    home = data_dir / "kafka"
    home.mkdir(exist_ok=True)
    require_room(home, _ROOM_BYTES, "the embedded Kafka")
    state = state or _new_state()
    process = find_kafka(data_dir)
    if process is None:
        process = _launch(data_dir, state, java, jars)
    state = msgspec.structs.replace(state, process=process.identity)
    try:
        _await_round_trip(state, process, kafka_log(data_dir))
    except BaseException:
        process.stop(_STOP_S)
        raise
    return state, process


def find_kafka(data_dir: Path) -> ServiceProcess | None:
    """The broker that serves `data_dir`, whoever started it."""
    return ServiceProcess.adopt(find_by_argument(str(data_dir / "kafka" / "server.properties")))


def kafka_log(data_dir: Path) -> Path:
    """Where the broker writes what it has to say."""
    return data_dir / "log" / "kafka.log"


def stop_kafka(process: ServiceProcess) -> bool:
    """Stop the broker; False when it had to be killed."""
    return process.stop(_STOP_S)


def _new_state() -> KafkaState:
    port = free_port()
    return KafkaState(
        port=port,
        controller_port=free_port(besides=frozenset({port})),
        cluster_id=_cluster_id(),
    )


def _cluster_id() -> str:
    """As Kafka writes an id; one that begins with a dash would be read as an option on a command line."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        if not text.startswith("-"):
            return text


def _launch(data_dir: Path, state: KafkaState, java: Path, jars: tuple[Path, ...]) -> ServiceProcess:
    for port in (state.port, state.controller_port):
        require_free(port, "Kafka", str(data_dir / "services.json"), state.host)
    home = data_dir / "kafka"
    properties = home / "server.properties"
    properties.write_text(_properties(state, home / "data"), "ascii")
    command = [
        str(java),
        f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.xml')}",
        *_JVM,
        "-cp",
        os.pathsep.join(map(str, jars)),
    ]
    # Java reads file names in the encoding of the locale.
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    _format(command, state, home, env)
    return ServiceProcess.spawn([*command, "kafka.Kafka", str(properties)], kafka_log(data_dir), env=env, cwd=home)


def _properties(state: KafkaState, log_dir: Path) -> str:
    values = {
        **_BROKER,
        "controller.quorum.voters": f"1@{state.host}:{state.controller_port}",
        "listeners": f"PLAINTEXT://{state.host}:{state.port},CONTROLLER://{state.host}:{state.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{state.host}:{state.port}",
        "log.dirs": str(log_dir),
    }
    # A properties file takes the escapes of a JSON string, and nothing outside of Latin-1.
    return "".join(f"{name}={json.dumps(value)[1:-1]}\n" for name, value in values.items())


def _format(command: list[str], state: KafkaState, home: Path, env: dict[str, str]) -> None:
    if (home / "data" / "meta.properties").exists():
        return
    arguments = ["format", "--cluster-id", state.cluster_id, "--config", str(home / "server.properties")]
    done = subprocess.run(  # noqa: S603 - our own Java and jars
        [*command, "kafka.tools.StorageTool", *arguments, "--ignore-formatted"],
        capture_output=True,
        text=True,
        timeout=_FORMAT_S,
        check=False,
        env=env,
        cwd=home,
    )
    if done.returncode != 0:
        raise _failure(
            f"expected Kafka to format {home / 'data'}; it ended with {done.returncode}",
            (done.stdout + done.stderr).strip()[-2000:],
        )


def _failure(what: str, output: str) -> ServiceError:
    if "No space left on device" in output:
        return DiskFullError(f"{what}, because the disk is full. Make room and start again.\n{output}")
    return ServiceError(f"{what}. Its last lines:\n{output}")


def _await_round_trip(state: KafkaState, process: ServiceProcess, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if not process.running():
            raise _failure(f"expected Kafka to run; it ended with {process.exit_code()}, see {log}", log_tail(log))
        try:
            asyncio.run(_round_trip(state))
        except (KafkaError, OSError, TimeoutError):
            time.sleep(0.1)
        else:
            return
    raise StartTimeoutError(
        f"expected Kafka to answer on {state.bootstrap_servers} within {_START_S:.0f} s; it did not. "
        f"See {log}; its last lines:\n{log_tail(log)}"
    )


async def _round_trip(state: KafkaState) -> None:
    """Write one record and read it again; KafkaError, OSError or TimeoutError while it is not ready."""
    _, writer = await asyncio.open_connection(state.host, state.port)
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(_PROBE_S):
        admin = AIOKafkaAdminClient(bootstrap_servers=state.bootstrap_servers)
        try:
            await admin.start()
            topic = NewTopic(_PROBE_TOPIC, 1, 1, topic_configs={"retention.ms": "3600000"})
            with contextlib.suppress(TopicAlreadyExistsError):
                await admin.create_topics([topic])
        finally:
            await admin.close()
        producer = AIOKafkaProducer(bootstrap_servers=state.bootstrap_servers)
        try:
            await producer.start()
            sent = await producer.send_and_wait(_PROBE_TOPIC, b"probe", partition=0)
        finally:
            await producer.stop()
        consumer = AIOKafkaConsumer(bootstrap_servers=state.bootstrap_servers, auto_offset_reset="none")
        try:
            await consumer.start()
            place = TopicPartition(_PROBE_TOPIC, 0)
            consumer.assign([place])
            consumer.seek(place, sent.offset)
            await consumer.getone(place)
        finally:
            await consumer.stop()

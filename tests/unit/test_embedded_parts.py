"""The small parts of the embedded services: Java, ports, locks, processes, choice of services for tests."""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from contracts.errors import AlreadyRunningError, PortTakenError, ServiceError, SettingError
from operations.embedded.java import find_java
from operations.embedded.ports import LOOPBACK, free_port, require_free
from operations.embedded.state import (
    KafkaState,
    PostgresState,
    ServicesState,
    read_state,
    state_file,
    write_state,
)
from operations.files import hold
from operations.processes import ProcessIdentity, ServiceProcess, find_by_argument, log_tail
from operations.workers import backoff_s
from tests.services import choose


def test_bundled_java_runs():
    assert os.access(find_java(""), os.X_OK)


def _java(home: Path, text: str) -> str:
    (home / "bin").mkdir(parents=True)
    java = home / "bin" / "java"
    java.write_text(text)
    java.chmod(0o755)
    return str(home)


def test_configured_java_goes_before_the_bundled_one(tmp_path: Path):
    home = _java(tmp_path, "#!/bin/sh\necho 'openjdk version \"17.0.1\" 2021-10-19' >&2\n")
    assert find_java(home) == tmp_path / "bin" / "java"


def test_an_old_java_is_refused(tmp_path: Path):
    home = _java(tmp_path, "#!/bin/sh\necho 'openjdk version \"11.0.1\" 2018-10-16' >&2\n")
    with pytest.raises(SettingError, match=r"Java 17 or newer.*Java 11"):
        find_java(home)


def test_no_java_at_all_names_the_setting(tmp_path: Path):
    with pytest.raises(SettingError, match="java_home"):
        find_java(str(tmp_path))


def test_a_java_for_another_machine_says_what_to_set(tmp_path: Path):
    home = _java(tmp_path, "\x7fELF of another machine")
    with pytest.raises(ServiceError, match="TIDEMARK_JAVA_HOME"):
        find_java(home)


def test_a_taken_port_names_its_holder():
    with socket.create_server((LOOPBACK, 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"Kafka.*{port}.*services\.json"):
            require_free(port, "Kafka", "services.json")


def test_ports_lie_below_those_of_outgoing_connections():
    assert 20_000 <= free_port() <= 32_000


def test_a_lock_has_one_holder(tmp_path: Path):
    path = tmp_path / "x.lock"
    with hold(path, "run"), pytest.raises(AlreadyRunningError, match=str(os.getpid())):
        hold(path, "run")
    hold(path, "run").close()


def test_the_state_is_kept_and_private(tmp_path: Path):
    state = ServicesState(
        kafka=KafkaState(port=1, controller_port=2, cluster_id="c"),
        postgres=PostgresState(port=3, password="p/w", process=ProcessIdentity(pid=4, started_at=5.0)),
    )
    assert read_state(tmp_path) == ServicesState()
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    assert state_file(tmp_path).stat().st_mode & 0o077 == 0
    state_file(tmp_path).write_text("{")
    with pytest.raises(ServiceError, match=r"services\.json"):
        read_state(tmp_path)


def test_a_process_is_known_by_pid_and_start(tmp_path: Path):
    process = ServiceProcess.spawn([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log")
    assert process.running()
    assert ServiceProcess.adopt(process.identity) is not None
    assert ServiceProcess.adopt(ProcessIdentity(process.pid, process.identity.started_at - 60)) is None
    assert process.stop(30)
    assert process.exit_code() == -signal.SIGTERM
    assert ServiceProcess.adopt(process.identity) is None


def test_a_stubborn_process_is_killed(tmp_path: Path):
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    code = f"{deaf}; print('up', flush=True); time.sleep(600)"
    process = ServiceProcess.spawn([sys.executable, "-c", code], tmp_path / "log")
    while "up" not in log_tail(tmp_path / "log"):
        assert process.running()
    assert not process.stop(0.2)
    assert not process.running()


def test_an_orphan_is_found_by_its_argument(tmp_path: Path):
    mark = str(tmp_path / "mark")
    process = ServiceProcess.spawn([sys.executable, "-c", "import time; time.sleep(600)", mark], tmp_path / "log")
    found = find_by_argument(mark)
    assert found is not None
    assert found.pid == process.pid
    process.stop(30)
    assert find_by_argument(mark) is None


def test_backoff_doubles_up_to_a_bound():
    delays = [backoff_s(failures) for failures in range(1, 12)]
    assert delays[:3] == [0.5, 1.0, 2.0]
    assert delays == sorted(delays)
    assert delays[-1] == backoff_s(10_000) == 30.0


@pytest.mark.parametrize(
    ("environ", "choice"),
    [
        ({}, ("embedded", "embedded")),
        ({"TIDEMARK_TEST_SERVICES": "docker"}, ("docker", "docker")),
        ({"TIDEMARK_TEST_SERVICES": "docker", "TIDEMARK_TEST_DSN": "x"}, ("docker", "explicit")),
        ({"TIDEMARK_TEST_BOOTSTRAP": "x"}, ("explicit", "embedded")),
    ],
)
def test_explicit_addresses_go_first_then_docker_then_embedded(environ: dict[str, str], choice: tuple[str, str]):
    assert choose(environ) == choice


def test_an_unknown_choice_of_services_is_an_error():
    with pytest.raises(pytest.UsageError, match="docker or embedded"):
        choose({"TIDEMARK_TEST_SERVICES": "podman"})

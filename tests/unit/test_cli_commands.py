"""Commands as people type them: help, where options may stand, errors in one line, exit codes."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from operations.cli.root import tidemark


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch, tmp_path):
    for variable in [name for name in os.environ if name.startswith("TIDEMARK_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(tidemark, list(arguments))


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


ALL = list(commands(tidemark))


def test_every_command_that_was_promised_is_there():
    assert {" ".join(path) for path in ALL} == {
        "demo",
        "up",
        "down",
        "status",
        "worker",
        "migrate",
        "dsn",
        "topics create",
        "topics list",
        "load",
        "wait",
        "stats",
        "verify",
        "profile show",
        "profile explain",
        "identity contests",
        "identity unclaim",
        "identity allow",
        "identity acts",
        "definitions list",
        "definitions set",
        "quarantine list",
        "quarantine redrive",
        "quarantine show",
    }


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_help_and_takes_the_data_directory(path):
    result = invoke(*path, "--help")
    assert result.exit_code == 0
    for option in ("--data-dir", "--config", "--debug"):
        assert option in result.output


def refused(result: Result, code: int = 1) -> str:
    """The one line that says what is wrong."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("tidemark: ")
    return line


@pytest.mark.parametrize(
    "arguments",
    [
        ("dsn",),
        ("stats",),
        ("verify",),
        ("profile", "show", "u1"),
        ("profile", "explain", "u1"),
        ("quarantine", "list"),
        ("identity", "contests"),
        ("identity", "unclaim", "a1", "--reason", "r"),
        ("identity", "acts"),
        ("definitions", "set", "user", "a", "string"),
        ("migrate",),
        ("topics", "list"),
        ("topics", "create"),
        ("wait",),
        ("worker",),
    ],
    ids=" ".join,
)
def test_without_services_a_command_says_how_to_get_them(arguments, tmp_path):
    line = refused(invoke(*arguments, "--data-dir", str(tmp_path / "d")))
    assert "tidemark up --detach" in line
    assert str(tmp_path / "d") in line


def test_the_data_directory_may_stand_before_the_command(tmp_path):
    assert str(tmp_path / "early") in refused(invoke("--data-dir", str(tmp_path / "early"), "dsn"))
    late = refused(invoke("--data-dir", str(tmp_path / "early"), "dsn", "--data-dir", str(tmp_path / "late")))
    assert str(tmp_path / "late") in late


def test_settings_come_from_the_data_directory(tmp_path):
    (tmp_path / "tidemark.toml").write_text('dsn = "postgresql://me@db/prod"')
    result = invoke("dsn", "--data-dir", str(tmp_path))
    assert (result.exit_code, result.stdout) == (0, "postgresql://me@db/prod\n")


def test_a_wrong_setting_is_named(monkeypatch):
    monkeypatch.setenv("TIDEMARK_LEAFS_PARTITIONS", "4")
    line = refused(invoke("status"))
    assert "leafs_partitions" in line
    assert "leaves_partitions" in line


def test_status_without_anything_running_answers_no(tmp_path):
    result = invoke("status", "--json", "--data-dir", str(tmp_path))
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["running"] is False
    assert answer["workers"] == []


def test_down_without_anything_running_is_no_failure(tmp_path):
    result = invoke("down", "--data-dir", str(tmp_path))
    assert result.exit_code == 0
    assert "Nothing runs" in result.stderr


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_postgres_that_is_away_is_told_in_one_line(monkeypatch, closed_port):
    monkeypatch.setenv("TIDEMARK_DSN", f"postgresql://me:secret@127.0.0.1:{closed_port}/db")
    line = refused(invoke("quarantine", "list"))
    assert f"127.0.0.1:{closed_port}/db" in line
    assert "secret" not in line
    assert "secret" not in refused(invoke("migrate"))


def test_a_postgres_that_has_no_address_is_named(monkeypatch):
    monkeypatch.setenv("TIDEMARK_DSN", "postgresql://me:secret@db.invalid/prod")
    assert "db.invalid:5432/prod" in refused(invoke("migrate"))


@pytest.mark.parametrize("arguments", [("up",), ("up", "--detach"), ("demo",)], ids=" ".join)
def test_a_data_directory_that_cannot_be_made_is_named(arguments, tmp_path):
    (tmp_path / "file").touch()
    line = refused(invoke(*arguments, "--data-dir", str(tmp_path / "file" / "d")))
    assert str(tmp_path / "file" / "d") in line
    assert "Name another --data-dir" in line


def test_a_kafka_that_is_away_is_told_in_one_line(monkeypatch, closed_port):
    monkeypatch.setenv("TIDEMARK_BOOTSTRAP_SERVERS", f"127.0.0.1:{closed_port}")
    assert f"127.0.0.1:{closed_port}" in refused(invoke("topics", "list"))


def test_debug_shows_the_traceback(monkeypatch, closed_port):
    monkeypatch.setenv("TIDEMARK_BOOTSTRAP_SERVERS", f"127.0.0.1:{closed_port}")
    monkeypatch.setenv("TIDEMARK_DEBUG", "1")
    result = invoke("topics", "list")
    assert result.exit_code == 1
    assert result.exception is not None
    assert not isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    "arguments",
    [
        ("load",),
        ("load", "no-such-file"),
        ("load", "-", "--rate", "0"),
        ("load", "-", "--rate", "nan"),
        ("load", "-", "--topic", "tidemark-v1-leaves"),
        ("load", "-", "--header", "nothing"),
        ("up", "--workers", "-1"),
        ("wait", "--timeout", "soon"),
        ("wait", "--timeout", "nan"),
        ("nonsense",),
        ("definitions", "set", "users", "age", "integer"),
        ("definitions", "set", "event:", "age", "integer"),
        ("definitions", "set", "user", "age", "int"),
        ("definitions", "set", "user", "plan", "fixed_choice"),
        ("definitions", "set", "user", "age", "integer", "--choices", "1,2"),
        ("definitions", "set", "user", "age", "integer", "extra"),
        ("quarantine", "list", "--reason", "none_of_them"),
        ("quarantine", "show", "segment", "zero", "0"),
        ("identity", "unclaim", "a1"),
        ("identity", "allow", "a1", "--reason", "r"),
        ("worker", "--name", "../w1"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(arguments, monkeypatch):
    monkeypatch.setenv("TIDEMARK_DSN", "postgresql://me@127.0.0.1:1/db")
    monkeypatch.setenv("TIDEMARK_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output


def test_a_configuration_file_may_be_named(tmp_path):
    path = tmp_path / "other.toml"
    path.write_text('dsn = "postgresql://me@db/prod"')
    result = invoke("dsn", "--config", str(path))
    assert result.stdout == "postgresql://me@db/prod\n"
    assert Path(os.environ.pop("TIDEMARK_CONFIG")) == path

"""`tidemark demo`, as a person types it: from nothing to a story that adds up."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from operations.demo import SAMPLE
from operations.services import stop_orphans
from operations.supervisor import stop_running


def tidemark(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "operations.cli", *arguments, "--data-dir", str(home)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("TIDEMARK_")},
            "COLUMNS": "120",
            "LC_ALL": "C.UTF-8",
        },
    )


def processes_of(home: Path) -> list[str]:
    return [
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline"])
        if any(str(home) in part for part in process.info["cmdline"] or ())
    ]


@pytest.fixture
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("demo")
    # Where tests run as root, Postgres runs under another account, which has to get in.
    for each in (home, *home.parents):
        if each.stat().st_uid == home.stat().st_uid and each != Path("/"):
            each.chmod(each.stat().st_mode | 0o011)
    yield home
    stop_running(home)
    stop_orphans(home)


def test_demo_tells_a_story_that_adds_up_and_leaves_nothing_running(home: Path):
    picture = home.with_suffix(".svg")
    done = tidemark("demo", "--svg", str(picture), home=home)
    assert done.returncode == 0, done.stderr
    lines = SAMPLE.read_bytes().count(b"\n")
    (read,) = re.findall(r"^([\d,]+) messages came in", done.stdout, re.MULTILINE)
    assert int(read.replace(",", "")) == lines
    outcomes = {
        name: int(re.search(rf"\b{name} +([\d,]+)", done.stdout)[1].replace(",", ""))
        for name in ("applied", "duplicate", "quarantined")
    }
    assert sum(outcomes.values()) == lines
    assert all(outcomes.values())
    for told in ("events/s", "invalid_json", "user:", "big_spenders", "Order Completed", "tidemark up --detach"):
        assert told in done.stdout
    assert picture.read_text().startswith("<svg")
    assert processes_of(home) == []


def test_demo_that_is_kept_answers_further_questions_and_comes_down(home: Path):
    kept = tidemark("demo", "--keep", home=home)
    assert kept.returncode == 0, kept.stderr

    status = json.loads(tidemark("status", "--json", home=home).stdout)
    assert [worker["state"] for worker in status["workers"]] == ["running"]
    (someone,) = re.findall(r"tidemark profile show (\S+)", kept.stdout)
    profile = json.loads(tidemark("profile", "show", someone, "--json", home=home).stdout)
    assert profile["user_id"] == someone
    assert profile["page_views"] > 0
    assert tidemark("profile", "show", "nobody at all", home=home).returncode == 1

    counts = json.loads(tidemark("stats", "--json", home=home).stdout)
    assert counts["applied"] + counts["duplicate"] + sum(counts["quarantined"].values()) == counts["read"]
    assert counts["in_flight"] == 0

    listed = json.loads(tidemark("quarantine", "list", "--reason", "not_an_object", "--json", home=home).stdout)
    place = [str(listed[0][name]) for name in ("topic", "partition", "offset")]
    shown = tidemark("quarantine", "show", *place, home=home)
    assert shown.returncode == 0
    assert "not_an_object" in shown.stdout

    assert tidemark("definitions", "set", "user", "order_count", "integer", home=home).returncode == 0
    definitions = json.loads(tidemark("definitions", "list", "--json", home=home).stdout)
    assert {
        "scope": "user",
        "name": "order_count",
        "type": "integer",
        "choices": None,
        "source": "manual",
    } in definitions

    # Everything again: all of it is a duplicate, or quarantined once more.
    assert tidemark("load", str(SAMPLE), home=home).returncode == 0
    arrived = tidemark("wait", "--timeout", "120", "--json", home=home)
    assert arrived.returncode == 0, arrived.stdout
    again = json.loads(tidemark("stats", "--json", home=home).stdout)
    assert again["read"] == 2 * counts["read"]
    assert again["applied"] == counts["applied"]

    assert tidemark("down", home=home).returncode == 0
    assert processes_of(home) == []
    assert tidemark("status", home=home).returncode == 1

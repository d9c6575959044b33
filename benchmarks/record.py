"""The file of a run, `results/<UTC date>.json`: written anew after every measurement, so that nothing measured is lost.

What was measured is kept whole under `runs`. The small contract that others read, `systems`, `limits`, `latency_ms` and
`growth`, is computed from it each time. A run that was cut short goes on with `--resume`.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import contract
from benchmarks.measures import Growth, Latency, Run

RESULTS = Path(__file__).parent / "results"


class Runs(msgspec.Struct):
    """Measurements as they came."""

    comparison: list[Run] = msgspec.field(default_factory=list)
    latency: list[Latency] = msgspec.field(default_factory=list)
    growth: list[Growth] = msgspec.field(default_factory=list)


class Record(msgspec.Struct):
    """What is read back from the file."""

    began: str
    """UTC, ISO 8601."""
    machine: dict[str, Any]
    told: dict[str, Any]
    """The options of the command."""
    runs: Runs = msgspec.field(default_factory=Runs)
    restore: list[dict[str, Any]] = msgspec.field(default_factory=list)
    """Rows of the restore benchmark, which has a command of its own: shown where they are there."""
    failures: dict[str, str] = msgspec.field(default_factory=dict)
    """What was tried and gave no figure, with the reason."""


def place(now: datetime) -> Path:
    """Where the run that begins now is kept, unless told otherwise."""
    return RESULTS / f"{now.astimezone(UTC):%Y-%m-%d}.json"


def begin(path: Path, fresh: Record, *, resume: bool) -> Record:
    """The record to go on with: what `path` holds, where it is to be resumed; else `fresh`.

    What is there otherwise is kept beside, under the time at which it began.
    """
    if not path.exists():
        return fresh
    old = msgspec.json.decode(path.read_bytes(), type=Record)
    if resume:
        return old
    moment = datetime.fromisoformat(old.began)
    path.rename(path.with_name(f"{path.stem}-{moment:%H%M%S}.json"))
    return fresh


def document(record: Record) -> dict[str, Any]:
    """The whole file, the small contract first."""
    rows = contract.summaries(record.runs.comparison)
    kept = msgspec.to_builtins(record)
    return {
        "machine": kept.pop("machine"),
        "systems": contract.systems(rows),
        "limits": contract.limits(rows),
        "latency_ms": contract.latency_ms(record.runs.latency),
        "growth": contract.growth(record.runs.growth),
        **kept,
    }


def write(record: Record, path: Path) -> None:
    """Put the file in its place whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    with new.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(document(record)), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)

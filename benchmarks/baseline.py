"""Whether the product has become slower: its share of what fetching and decoding give, beside the share in the tree.

Figures of two machines cannot be compared, nor those of one machine on a good and a bad day; shares of a limit that was
measured in the same run can, roughly. So a share that has fallen is a warning to look, and never a failure.
"""

import statistics
from collections.abc import Iterable
from pathlib import Path

import msgspec

from benchmarks.measures import Result, key

BASELINE = Path(__file__).with_name("baseline.json")
LIMIT = "fetch and decode"
FALL = 0.15
"""Shares of runs of the same code differ by some percent on a quiet machine; a fall by more than this wants a look."""


class Shares(msgspec.Struct, frozen=True):
    """One system against fetching and decoding: 1.0 were as good as that."""

    rate: float
    """Its events/s, of theirs."""
    cpu: float
    """Their CPU time an event, in one process, of what the whole machine spends on an event here."""


class Baseline(msgspec.Struct, frozen=True):
    """What the file holds."""

    machine: dict[str, str | int]
    messages: int
    shares: dict[str, Shares]
    """By system."""


def shares(results: Iterable[Result]) -> dict[str, Shares]:
    """Of every system, against the median of the limit's runs; empty where the limit was not measured."""
    found = list(results)
    limits = [result for result in found if result.name == LIMIT]
    if not limits:
        return {}
    rate = statistics.median(limit.events_per_s for limit in limits)
    cpu = statistics.median(limit.cpu_us_per_event for limit in limits)
    return {
        key(result.name): Shares(
            round(result.events_per_s / rate, 4),
            round(cpu / result.machine_us_per_event, 4),
        )
        for result in found
        if result.name.startswith("tidemark")
    }


def falls(now: dict[str, Shares], before: dict[str, Shares]) -> list[str]:
    """A line for each share that has fallen by more than FALL."""
    lines = []
    for system in now.keys() & before.keys():
        for name, what in (("rate", "events/s"), ("cpu", "CPU an event")):
            new, old = getattr(now[system], name), getattr(before[system], name)
            if new < old * (1 - FALL):
                lines.append(
                    f"{system}: the share in {what} fell by {1 - new / old:.0%}, from {old:.3f} to {new:.3f} of {LIMIT}"
                )
    return sorted(lines)


def read(path: Path = BASELINE) -> Baseline | None:
    """The kept shares; None where there are none."""
    return msgspec.json.decode(path.read_bytes(), type=Baseline) if path.exists() else None


def write(baseline: Baseline, path: Path = BASELINE) -> None:
    """Keep these from now on."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(baseline)) + b"\n")


def report(now: dict[str, Shares], messages: int, machine: dict[str, str | int], kept: Baseline | None) -> list[str]:
    """What to print: every share beside the kept one, and a warning for each that fell."""
    if kept is None:
        return ["there is no baseline to compare with; --write-baseline makes one"]
    lines = [
        f"{system}: {share.rate:.3f} of the events/s of {LIMIT} (kept: {_kept(kept, system, 'rate')}), "
        f"{share.cpu:.3f} in CPU (kept: {_kept(kept, system, 'cpu')})"
        for system, share in now.items()
    ]
    for what, here, there in (
        ("cores", machine["cores"], kept.machine["cores"]),
        ("messages", messages, kept.messages),
    ):
        if here != there:
            lines.append(f"the kept shares are those of {there} {what}, these of {here}")
    warnings = [f"WARNING: {fall}" for fall in falls(now, kept.shares)]
    return [*lines, *(warnings or [f"no share fell by more than {FALL:.0%}"])]


def _kept(baseline: Baseline, system: str, name: str) -> str:
    share = baseline.shares.get(system)
    return "none" if share is None else f"{getattr(share, name):.3f}"

"""The whole benchmark: `make bench`, or `python -m benchmarks --help`.

Three parts, in this order: `comparison` (Tidemark beside its peers and the limits), `latency` (from event to row) and
`growth` (what an event costs as users, partitions and attributes grow). What is measured is written at once to
`results/<UTC date>.json`; at the end also as Markdown and as plots beside it.
"""

import argparse
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from benchmarks import compare, contract, growth, latency, record, report
from benchmarks.latency import Pace
from benchmarks.measures import key, system
from benchmarks.peers import environments
from benchmarks.record import Record

PARTS = ("comparison", "latency", "growth")


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--users", type=int, default=50_000, help="of comparison and latency")
    parser.add_argument("--out", type=Path, help="the file to write (default: results/<UTC date>.json)")
    parser.add_argument("--resume", action="store_true", help="measure only what the file does not have yet")
    parser.add_argument("--no-plots", action="store_true")
    group = parser.add_argument_group("comparison")
    group.add_argument("--messages", type=int, default=1_000_000, help="a multiple of 100; slow systems get fewer")
    group.add_argument("--rounds", type=int, default=3)
    group.add_argument("--systems", nargs="+", default=[], metavar="NAME[=MESSAGES]", help="; ".join(compare.SYSTEMS))
    group = parser.add_argument_group("latency")
    group.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    group.add_argument("--rates", type=float, nargs="*", default=[3000.0], help="events/s")
    group.add_argument("--highest", type=float, help="events/s of which half is tried too (default: as just compared)")
    group.add_argument("--seconds", type=float, default=60.0)
    group.add_argument("--warm-up", type=float, default=15.0, help="seconds before those, which do not count")
    group = parser.add_argument_group("growth")
    group.add_argument(
        "--cases", nargs="+", default=[], help="; ".join(case.name for case in growth.CASES).replace("%", "%%")
    )
    group.add_argument("--growth-messages", type=int, default=300_000)
    group.add_argument("--growth-workers", type=int, default=1)
    return parser.parse_args()


def paces(told: argparse.Namespace, kept: Record) -> dict[int, list[Pace]]:
    """The rates of each number of workers; half of the highest is known once that was compared, or told."""
    rates = {
        name: each["events_per_s"] for name, each in contract.systems(contract.summaries(kept.runs.comparison)).items()
    }
    found = {}
    for workers in told.workers:
        highest = told.highest or rates.get(key(system(workers)))
        each = {f"{rate:.0f}_per_s": rate for rate in told.rates} | ({latency.HALF: highest / 2} if highest else {})
        found[workers] = [Pace(label, rate, told.seconds, told.warm_up, told.users) for label, rate in each.items()]
    return found


def measure(told: argparse.Namespace, kept: Record, console: Console) -> Iterator[None]:
    """Everything that is asked for; after each step `kept` has something more."""
    runs = kept.runs
    if "comparison" in told.parts:
        systems = compare.chosen(told.systems, told.messages)
        for found in compare.compare(systems, told.users, told.rounds, runs.comparison, kept.failures, console):
            runs.comparison += found
            yield
    if "latency" in told.parts:
        for each in latency.measure_all(paces(told, kept), runs.latency, kept.failures, console):
            runs.latency.append(each)
            yield
    if "growth" in told.parts:
        cases = growth.chosen(told.cases)
        options = (told.growth_messages, told.growth_workers)
        for case in growth.measure_all(cases, *options, runs.growth, kept.failures, console):
            runs.growth.append(case)
            yield


def main() -> None:
    """Measure and write. Exit code 1 when something gave no figure."""
    told = parse()
    console = Console(soft_wrap=True)
    now = datetime.now(UTC)
    path = told.out or record.place(now)
    options = {name: value for name, value in vars(told).items() if name not in ("out", "resume", "no_plots")}
    fresh = Record(f"{now:%Y-%m-%dT%H:%M:%SZ}", report.machine(), options)
    kept = record.begin(path, fresh, resume=told.resume)
    if kept.machine != fresh.machine:
        console.print(f"goes on with what was measured on {kept.machine}; this is {fresh.machine}", highlight=False)
    kept.failures.clear()
    # Told to end, it ends as after Ctrl-C: services are stopped, and what was measured is written.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        for _ in measure(told, kept, console):
            record.write(kept, path)
    except KeyboardInterrupt:
        raise SystemExit("cut short; --resume goes on") from None
    finally:
        record.write(kept, path)
        text = report.markdown(kept)
        path.with_suffix(".md").write_text(text)
        console.print(text, markup=False, highlight=False)
        console.print(f"written to {path}", highlight=False)
    if not told.no_plots:
        plots = Path(__file__).with_name("plots.py")
        subprocess.run([environments.python("plots"), plots, path], check=True)
    if kept.failures:
        raise SystemExit(f"without a figure: {'; '.join(kept.failures)}")


if __name__ == "__main__":
    main()

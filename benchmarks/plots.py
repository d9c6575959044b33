"""Draw a result file: `plots.py results/<UTC date>.json`, in matplotlib's own environment; SVG and PNG beside it."""

import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "tidemark"
mpl.rcParams["axes.spines.top"] = mpl.rcParams["axes.spines.right"] = False

import matplotlib.pyplot as plt  # noqa: E402 - the backend is chosen before
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

OURS, OTHERS, LIMIT = "#0b6e99", "#a0a8b0", "#dfe3e6"
PALE = "#79b4cc"
PERCENTS = {"p50": "#79b4cc", "p95": "#0b6e99", "p99": "#083d55"}
OFF_SCALE = 3
"""Times the median: longer bars are cut."""
GROWTH_LIMIT = 1.3
"""Times the base: what growth may cost."""

Row = dict[str, Any]


def save(figure: Figure, place: Path) -> None:
    """As SVG, the same bytes for the same figures, and as PNG."""
    figure.savefig(place.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(place.with_suffix(".png"), dpi=150)
    plt.close(figure)


def colour(name: str) -> str:
    """Tidemark stands out; limits are pale."""
    return OURS if name.startswith("tidemark") else OTHERS


def draw_bars(rows: Sequence[Row], measure: str, title: str, place: Path, *, ranges: bool = False) -> None:
    """Horizontal bars, the best at the top; with the least and the most of the rounds where `ranges`."""
    rows = sorted(rows, key=lambda row: row[measure], reverse=not ranges)
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(rows) + 1.2), layout="constrained")
    values = [row[measure] for row in rows]
    errors = None
    if ranges:
        errors = [
            [row[measure] - row[f"{measure}_least"] for row in rows],
            [row[f"{measure}_most"] - row[measure] for row in rows],
        ]
    colours = [LIMIT if row["limit"] else colour(row["name"]) for row in rows]
    axes.barh([row["name"] for row in rows], values, xerr=errors, color=colours, ecolor="#333")
    ends = [row[f"{measure}_most"] if ranges else row[measure] for row in rows]
    # A few that are far off would press all others into a line.
    most = max(ends) if ranges else min(max(ends), OFF_SCALE * statistics.median(ends))
    for number, (end, value) in enumerate(zip(ends, values, strict=True)):
        if end > most:
            axes.text(most, number, f"{value:,.0f}, off the scale", va="center", ha="right", fontsize=9)
        else:
            axes.text(end + most * 0.012, number, f"{value:,.0f}", va="center", fontsize=9)
    axes.set_xlim(0, most * (1.02 if max(ends) > most else 1.1))
    axes.margins(y=0.02)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_title(title, loc="left", fontsize=11)
    save(figure, place)


def draw_latency(systems: dict[str, dict[str, Row]], place: Path) -> None:
    """Groups of bars, one a system and rate, on a logarithmic scale; the maximum as a mark."""
    groups = [
        (f"{name.removeprefix('tidemark_').replace('_', ' ')}\n{row['rate']:,.0f} events/s{half(label)}", row)
        for name, rates in systems.items()
        for label, row in rates.items()
    ]
    figure, axes = plt.subplots(figsize=(max(6.5, 2 * len(groups) + 1.5), 4.5), layout="constrained")
    width = 0.8 / len(PERCENTS)
    for number, (percent, shade) in enumerate(PERCENTS.items()):
        where = [group + (number - (len(PERCENTS) - 1) / 2) * width for group in range(len(groups))]
        bars = axes.bar(where, [row[percent] for _, row in groups], width * 0.94, color=shade, label=percent)
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=9, padding=2)
    for number, (_, row) in enumerate(groups):
        label = None if number else "max"
        axes.hlines(row["max"], number - 0.4, number + 0.4, color="#b03a2e", label=label)
        axes.text(number, row["max"] * 1.06, f"{row['max']:,.0f}", ha="center", fontsize=9, color="#b03a2e")
    axes.set_xticks(range(len(groups)), [label for label, _ in groups])
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylabel("ms")
    least, most = min(row["p50"] for _, row in groups), max(row["max"] for _, row in groups)
    axes.set_ylim(10 ** math.floor(math.log10(least)), most * 2.5)
    axes.set_title("From an event being due to its row being readable", loc="left", fontsize=11)
    axes.legend(frameon=False, ncols=4, loc="upper left")
    save(figure, place)


def half(label: str) -> str:
    """Says so where a rate is half of the highest."""
    return ",\nhalf of the highest" if label.startswith("half") else ""


def draw_growth(cases: list[Row], place: Path) -> None:
    """Cost and time an event as multiples of the base: against users, against partitions, and the other cases."""
    base = cases[0]
    users = [case for case in cases if case is base or case["users"] != base["users"]]
    partitions = [case for case in cases if case is base or case["partitions"] != base["partitions"]]
    others = [case for case in cases if case not in users and case not in partitions]
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(12, 4), layout="constrained", sharey=True, width_ratios=(1, 1, 1.1)
    )
    draw_curve(left, sorted(users, key=lambda case: case["users"]), "users")
    draw_curve(middle, sorted(partitions, key=lambda case: case["partitions"]), "partitions")
    for number, (measure, shade) in enumerate((("cost_times", OURS), ("time_times", PALE))):
        where = [place + (number - 0.5) * 0.38 for place in range(len(others))]
        bars = right.bar(where, [case[measure] for case in others], 0.36, color=shade)
        right.bar_label(bars, fmt="{:.2f}", fontsize=9, padding=2)
    right.set_xticks(range(len(others)), [case["case"].replace(" a ", "\na ").replace(", ", ",\n") for case in others])
    for axes in (left, middle, right):
        axes.axhline(1, color="#999", linewidth=0.8, zorder=0)
        axes.axhline(GROWTH_LIMIT, color="#b03a2e", linewidth=0.8, linestyle="--")
    left.set_ylabel("times the base")
    left.set_ylim(0, max(GROWTH_LIMIT, *(max(case["cost_times"], case["time_times"]) for case in cases)) * 1.15)
    left.legend(frameon=False, loc="lower left")
    title = f"An event beside the base ({base['users']:,} users, {base['partitions']} partitions)"
    figure.suptitle(f"{title}; dashed: {GROWTH_LIMIT} times", x=0.01, ha="left", fontsize=11)
    save(figure, place)


def draw_curve(axes: Axes, cases: Sequence[Row], over: str) -> None:
    """One dimension of growth."""
    values = [case[over] for case in cases]
    for measure, label, shade in (("cost_times", "CPU an event", OURS), ("time_times", "time an event", PALE)):
        axes.plot(values, [case[measure] for case in cases], "o-", color=shade, label=label)
    axes.set_xscale("log", base=10 if over == "users" else 2)
    axes.set_xticks(values, [f"{value:,}" for value in values])
    axes.minorticks_off()
    axes.margins(x=0.12)
    axes.set_xlabel(over)


def main() -> None:
    """A plot of everything that the file has."""
    source = Path(sys.argv[1])
    found = json.loads(source.read_text())
    cores = found["machine"]["cores"]
    systems = [{**row, "limit": False} for row in found["systems"].values() if "variant" not in row]
    limits = [{**row, "limit": True} for row in found["limits"].values()]

    def beside(name: str) -> Path:
        return source.with_name(f"{source.stem}-{name}")

    if systems:
        title = f"Events a second, {cores} cores (median, least to most)"
        draw_bars(systems, "events_per_s", title, beside("rate"), ranges=True)
        draw_bars(systems, "machine_us_per_event", "CPU microseconds an event, whole machine", beside("machine-cpu"))
        title = "CPU microseconds an event, own processes"
        draw_bars([*systems, *limits], "cpu_us_per_event", title, beside("own-cpu"))
        draw_bars(systems, "peak_rss_mib", "Peak memory, own processes, MiB", beside("memory"))
    if found["latency_ms"]:
        draw_latency(found["latency_ms"], beside("latency"))
    growth = list(found["growth"].values())
    if len(growth) > 1 and "cost_times" in growth[0]:
        draw_growth(growth, beside("growth"))


if __name__ == "__main__":
    main()

"""Draw a comparison: `plots.py comparison.json`, in the environment that has matplotlib; SVG and PNG beside it."""

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "tidemark"

import matplotlib.pyplot as plt  # noqa: E402 - the backend is chosen before

LIMITS = ("fetch", "fetch and decode", "copy the rows")
OURS, OTHERS, LIMIT = "#0b6e99", "#a0a8b0", "#dfe3e6"


def colour(name: str) -> str:
    """Limits are pale, Tidemark stands out."""
    if name in LIMITS:
        return LIMIT
    return OURS if name.startswith("tidemark") else OTHERS


def draw(rows: list[dict], measure: str, title: str, place: Path, *, ranges: bool) -> None:
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
    bars = axes.barh(
        [row["name"] for row in rows], values, xerr=errors, color=[colour(row["name"]) for row in rows], ecolor="#333"
    )
    axes.bar_label(bars, labels=[f"{value:,.0f}" for value in values], padding=8, fontsize=9)
    axes.set_title(title, loc="left", fontsize=11)
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(place.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(place.with_suffix(".png"), dpi=150)
    plt.close(figure)


def main() -> None:
    """Three plots."""
    source = Path(sys.argv[1])
    found = json.loads(source.read_text())
    rows = found["summary"]
    cores = found["machine"]["cores"]
    systems = [row for row in rows if row["name"] not in LIMITS]
    place = source.parent
    draw(
        systems, "events_per_s", f"Events a second, {cores} cores (median, least to most)", place / "rate", ranges=True
    )
    draw(
        systems,
        "machine_us_per_event",
        "CPU microseconds an event, the whole machine",
        place / "machine-cpu",
        ranges=False,
    )
    draw(rows, "cpu_us_per_event", "CPU microseconds an event, own processes", place / "own-cpu", ranges=False)


if __name__ == "__main__":
    main()

"""Tables and lines for people. What came in a message is shown with its control characters made visible."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from operations.runstate import Status
from operations.stats import Report
from sinks.postgres.queries import PUBLIC_COLUMNS
from streams.topics import DAY_MS, TopicSpec

_STATE_STYLES: Final = {"running": "green", "configured": "green", "waiting": "yellow", "orphaned": "red"}
_RAW_SHOWN_BYTES: Final = 4096
"""More of a quarantined record than this does not help on a terminal; --raw writes all of it."""


def printable(text: str) -> str:
    """The text with every character that could move a cursor or change a colour written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable_bytes(raw: bytes) -> str:
    """Bytes as text where they are UTF-8, each other one as an escape."""
    return printable(raw.decode("utf-8", "backslashreplace"))


def short(text: str, length: int) -> str:
    """At most `length` characters, the last an ellipsis where something was cut."""
    return text if len(text) <= length else text[: length - 1] + "…"


def moment(time_us: int | None) -> str:
    """Microseconds since 1970 as a time in UTC; a dash for none."""
    return "-" if time_us is None else f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d %H:%M:%S}"


def count(number: int) -> str:
    """A number with its thousands set apart."""
    return f"{number:,}"


def cell(value: object) -> Text:
    """A value from a message, safe to show; a dash for none."""
    if value is None:
        return Text("-", style="dim")
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return Text(printable(text))


def table(title: str, *columns: str, right: Collection[str] = (), cut: str | None = None) -> Table:
    """An empty table; columns named in `right` are set to the right, the one named by `cut` takes what is left."""
    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        expand=cut is not None,
    )
    for column in columns:
        if column == cut:
            made.add_column(column, no_wrap=True, overflow="ellipsis", ratio=1)
        else:
            made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def pairs(title: str, rows: Iterable[tuple[str, object]]) -> Table:
    """Names and values below each other."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False)
    made.add_column(style="dim")
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(Text(printable(name)), value if isinstance(value, Text) else cell(value))
    return made


def _state(state: str) -> Text:
    return Text(state, style=_STATE_STYLES.get(state, "dim"))


def status(found: Status) -> RenderableType:
    """`tidemark status`."""
    head = Text.assemble(
        (found.phase, _STATE_STYLES.get(found.phase, "yellow" if found.running else "dim")),
        f" in {found.data_dir}" + (f", process {found.pid}" if found.pid else ""),
    )
    processes = table("", "what", "state", "pid", "restarts", "where", right=("pid", "restarts"))
    for name, service in (("kafka", found.kafka), ("postgres", found.postgres)):
        pid = str(service.pid) if service.pid else ""
        processes.add_row(name, _state(service.state), pid, "", service.address)
    for worker in found.workers:
        pid = str(worker.pid) if worker.pid else ""
        ended = f", ended with {worker.exit_code} before" if worker.exit_code is not None else ""
        processes.add_row(
            f"worker {worker.name}", _state(worker.state), pid, str(worker.restarts), f"{worker.log}{ended}"
        )
    return Group(head, processes)


def topics(specs: Sequence[TopicSpec], counts: Mapping[str, int], created: Collection[str] = ()) -> Table:
    """Topics with what they need; `counts` are the partitions of those that exist."""
    made = table("", "topic", "role", "partitions", "copies", "kept", "", right=("partitions", "copies"))
    for spec in specs:
        found = counts.get(spec.name)
        partitions = Text("missing", style="red") if found is None else Text(str(found))
        if found != spec.partitions:
            partitions.append(f" (settings: {spec.partitions})")
        state = Text("created", style="green") if spec.name in created else Text()
        made.add_row(spec.name, spec.role, partitions, str(spec.replication_factor), _kept(spec.configs), state)
    return made


def _kept(configs: Mapping[str, str]) -> str:
    if configs.get("cleanup.policy") == "compact":
        return "newest of a key"
    retention = configs.get("retention.ms")
    if retention is None:
        return "cluster's default"
    return "all" if retention == "-1" else f"{int(retention) / DAY_MS:g} days"


def stats(report: Report) -> RenderableType:
    """`tidemark stats`."""
    counts = report.counts
    quarantined = sum(counts.quarantined.values())
    sums = table("", "read", "applied", "duplicate", "quarantined", "in flight")
    for column in sums.columns:
        column.justify = "right"
    sums.add_row(
        *map(count, (counts.read, counts.applied, counts.duplicate, quarantined, counts.in_flight)),
    )
    parts: list[RenderableType] = [sums]
    if counts.gap:
        parts.append(
            Text(f"\nGap: {count(counts.gap)} records were deleted by a source topic's retention, unread.", style="red")
        )
    if counts.quarantined:
        parts.append(counted("\nQuarantined by reason", "reason", counts.quarantined))
    if counts.warnings:
        parts.append(counted("\nWarnings by kind", "kind", counts.warnings))
    lag = table("\nLag", "topic", "records", "by partition", right=("records",))
    for topic, partitions in report.lag.items():
        lag.add_row(topic, count(sum(partitions.values())), " ".join(map(str, partitions.values())))
    return Group(*parts, lag)


def counted(title: str, column: str, counts: Mapping[str, int]) -> Table:
    """Names with how often they came, the most frequent first."""
    made = table(title, column, "records", right=("records",))
    for name, number in sorted(counts.items(), key=lambda each: (-each[1], each[0])):
        made.add_row(Text(printable(name)), count(number))
    return made


def profile(found: Mapping[str, Any]) -> RenderableType:
    """`tidemark profile show`: what is set, then attributes, companies and audiences."""
    columns = (name for name in PUBLIC_COLUMNS["profiles"][0] if name != "attributes")
    rows = [(name, found[name]) for name in columns if found[name] is not None]
    parts: list[RenderableType] = [pairs("Profile", rows)]
    if found["attributes"]:
        parts.append(pairs("\nAttributes", sorted(found["attributes"].items())))
    if found["audiences"]:
        members = [(name, Text("member") if member else Text("not", style="dim"))
                   for name, member in sorted(found["audiences"].items())]  # fmt: skip
        parts.append(pairs("\nAudiences", members))
    if found["companies"]:
        parts.append(pairs("\nCompanies", [("", company) for company in found["companies"]]))
    parts.append(pairs("\nIdentifiers", [("", leaf) for leaf in found["leaves"]]))
    return Group(*parts)


def contests(found: Sequence[Mapping[str, Any]]) -> Iterator[Text]:
    """`tidemark identity contests`, in lines: identifiers are to be copied, so none of them is folded."""
    for each in found:
        yield Text(printable(each["leaf"]), style="bold")
        for claimant in each["claimants"]:
            is_owner = claimant["user"] == each["owner"]
            yield Text.assemble(
                f"  {printable(claimant['user'])}",
                ("  owner" if is_owner else "", "green"),
                (f"  since {claimant['at']}, by {printable(claimant['message_id'])}", "dim"),
            )


def acts(found: Sequence[Mapping[str, Any]]) -> Iterator[Text]:
    """`tidemark identity acts`, in lines."""
    for each in found:
        what = f"{each['act']} {each['leaf']} {'from' if each['act'] == 'unclaim' else 'to'} {each['user_leaf']}"
        yield Text.assemble(
            f"{moment(each['acted_at'])}  {printable(what)}: {printable(each['reason'])}",
            (f"  {printable(each['act_id'])}", "dim"),
        )


def definitions(found: Sequence[Mapping[str, Any]]) -> Table:
    """`tidemark definitions list`."""
    made = table("", "scope", "name", "type", "choices", "source")
    for each in found:
        choices = ", ".join(each["choices"] or ())
        made.add_row(*(cell(text) for text in (each["scope"], each["name"], each["type"], choices, each["source"])))
    return made


def quarantine(found: Sequence[Mapping[str, Any]]) -> Table:
    """`tidemark quarantine list`."""
    numbers = ("partition", "offset", "bytes")
    made = table("", "topic", "partition", "offset", "reason", "bytes", "detail", right=numbers)
    for each in found:
        made.add_row(
            cell(each["topic"]),
            str(each["partition"]),
            str(each["offset"]),
            cell(each["reason"]),
            count(each["octet_length"]),
            cell(short(each["detail"], 200)),
        )
    return made


def quarantined(place: str, found: Mapping[str, Any]) -> RenderableType:
    """`tidemark quarantine show`: the start of the raw bytes, and what was wrong with them."""
    raw: bytes = found["raw"]
    rows = [
        ("record", place),
        ("reason", found["reason"]),
        ("detail", found["detail"]),
        ("since", moment(found["quarantined_at"])),
        ("bytes", count(len(raw))),
    ]
    cut = (
        f"\n… {count(len(raw) - _RAW_SHOWN_BYTES)} more bytes; --raw writes all" if len(raw) > _RAW_SHOWN_BYTES else ""
    )
    return Group(pairs("", rows), Text("\n" + printable_bytes(raw[:_RAW_SHOWN_BYTES])), Text(cut, style="dim"))

"""What a load of messages has become, gathered and told: the demo's last page."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from contracts.settings import Settings
from operations import show
from operations.stats import Report, read_report
from sinks.postgres import queries
from sinks.postgres.database import Connection, fetch
from sinks.postgres.statements import statement

PROFILES_SHOWN: Final = 8
EVENTS_SHOWN: Final = 8
COMPANIES_SHOWN: Final = 8
_ID_LENGTH = 20
_TO_THE_MINUTE = len("2026-01-01 00:00")
# Wider than a terminal: what does not fit is cut when it is shown.
_RAW_SHOWN_BYTES = 400

_CALLS: Final = frozenset({"identify", "page", "screen", "track", "group", "alias"})
UNREADABLE: Final = "other"
"""Stands for lines that are no JSON object with one of Segment's six types."""


class _Typed(msgspec.Struct):
    type: Any = None


@dataclass(frozen=True, slots=True)
class Story:
    """What came in and what became of it."""

    kinds: Mapping[str, int]
    """Lines by type of call."""
    report: Report
    seconds: float
    """From the first line that was sent to the last commit."""
    totals: Mapping[str, int]
    profiles: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    audiences: Sequence[Mapping[str, Any]]
    companies: Sequence[Mapping[str, Any]]
    examples: Mapping[str, tuple[str, bytes]]
    """Detail and raw bytes of one record for each reason of the quarantine."""


def kinds_of(lines: Iterable[bytes]) -> dict[str, int]:
    """How many lines there are of each type of call."""
    counts: Counter[str] = Counter()
    decoder = msgspec.json.Decoder(_Typed)
    for line in lines:
        try:
            kind = decoder.decode(line).type
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            kind = None
        counts[kind if isinstance(kind, str) and kind in _CALLS else UNREADABLE] += 1
    return dict(counts.most_common())


async def gather(settings: Settings, connection: Connection, sample: Path, began_us: int) -> Story:
    """Read the story of `sample`, which was loaded from `began_us` on (microseconds since 1970 UTC)."""
    (totals,) = await fetch(connection, statement("totals"), settings.app_version)
    examples = await fetch(connection, statement("quarantine_examples"))
    with sample.open("rb") as file:
        kinds = kinds_of(line.removesuffix(b"\n") for line in file)
    return Story(
        kinds=kinds,
        report=await read_report(settings, connection),
        seconds=(totals["last_commit"] - began_us) / 1e6,
        totals=dict(totals),
        profiles=await queries.profiles(connection, PROFILES_SHOWN),
        events=await queries.top_events(connection, EVENTS_SHOWN),
        audiences=await queries.audiences(connection),
        companies=[dict(row) for row in await fetch(connection, statement("companies"), COMPANIES_SHOWN)],
        examples={reason: (detail, raw) for reason, detail, raw in examples},
    )


def told(story: Story) -> RenderableType:
    """The story for a terminal."""
    counts = story.report.counts
    rate = counts.read / story.seconds if story.seconds > 0 else 0.0
    head = Text.assemble(
        (show.count(counts.read), "bold cyan"),
        " messages came in; they tell of ",
        (show.count(story.totals["profiles"]), "bold cyan"),
        f" people, {show.count(story.totals['users'])} of them known by a userId. ",
        f"{story.seconds:.1f} s from the first message sent to the last commit: ",
        (f"{rate:,.0f} events/s", "bold cyan"),
        ".",
    )
    recognised = story.totals["recognised"]
    if recognised:
        head.append(f" {show.count(recognised)} anonymous visitors turned out to be users.")
    return Group(
        head,
        Text(),
        _rule("What came in"),
        _beside(_kinds(story), _outcomes(story), _warnings(story)),
        _rule("What was refused, and why: kept with its raw bytes"),
        _refused(story),
        Text(),
        _rule("Whose it was: the most active"),
        _people(story),
        Text(),
        _rule("What they did, and where they belong"),
        _beside(_events(story), _audiences(story), _companies(story)),
    )


def _beside(*tables: Table) -> Columns:
    """Tables side by side, or below each other where it is too narrow."""
    return Columns([Padding(each, (0, 0, 1, 0)) for each in tables], padding=(0, 3))


def _rule(title: str) -> Rule:
    return Rule(Text(title, style="bold"), align="left", style="dim")


def _kinds(story: Story) -> Table:
    made = show.table("", "call", "messages", right=("messages",))
    for kind, number in story.kinds.items():
        made.add_row(kind, show.count(number))
    return made


def _outcomes(story: Story) -> Table:
    counts = story.report.counts
    made = show.table("", "outcome", "messages", right=("messages",))
    made.add_row("applied", show.count(counts.applied))
    made.add_row("duplicate", show.count(counts.duplicate))
    made.add_row("quarantined", show.count(sum(counts.quarantined.values())))
    if counts.in_flight:
        made.add_row("in flight", show.count(counts.in_flight))
    made.add_section()
    made.add_row("read", show.count(counts.read), style="bold")
    return made


def _warnings(story: Story) -> Table:
    made = show.table("", "applied, with a warning", "messages", right=("messages",))
    for kind, number in sorted(story.report.counts.warnings.items(), key=lambda each: -each[1]):
        made.add_row(kind, show.count(number))
    return made


def _refused(story: Story) -> Table:
    made = show.table("", "reason", "messages", "for example", right=("messages",), cut="for example")
    for reason, number in sorted(story.report.counts.quarantined.items(), key=lambda each: -each[1]):
        detail, raw = story.examples.get(reason, ("", b""))
        example = Text.assemble(show.printable(detail), "\n", (show.printable_bytes(raw[:_RAW_SHOWN_BYTES]), "dim"))
        made.add_row(Text(reason, style="yellow"), show.count(number), example)
    return made


def _people(story: Story) -> Table:
    made = show.table("", "profile", "pages", "last seen", "who", right=("pages",), cut="who")
    for each in story.profiles:
        name = " ".join(part for part in (each["first_name"], each["last_name"]) if part)
        attributes = msgspec.json.decode(each["attributes"], type=dict[str, Any])
        known = ", ".join(f"{key}={_plain(value)}" for key, value in sorted(attributes.items()))
        who = Text.assemble(show.cell(name or "nobody yet"), "  ", (show.printable(each["email"] or ""), "cyan"))
        if known:
            who.append("\n" + show.printable(known), style="dim")
        profile_id = show.cell(show.short(each["profile_id"], _ID_LENGTH))
        last_seen = show.moment(each["last_seen"])[:_TO_THE_MINUTE]
        made.add_row(profile_id, show.count(each["page_views"]), last_seen, who)
    return made


def _plain(value: object) -> str:
    return show.short(value if isinstance(value, str) else msgspec.json.encode(value).decode(), 24)


def _events(story: Story) -> Table:
    made = show.table("", "event", "times", "by", right=("times", "by"))
    for each in story.events:
        made.add_row(show.cell(each["event"]), show.count(each["occurrences"]), show.count(each["leaves"]))
    return made


def _audiences(story: Story) -> Table:
    made = show.table("", "audience", "members", "ever", right=("members", "ever"))
    for each in story.audiences:
        made.add_row(show.cell(each["audience"]), show.count(each["members"]), show.count(each["ever"]))
    return made


def _companies(story: Story) -> Table:
    made = show.table("", "company", "employees", "members", right=("employees", "members"))
    for each in story.companies:
        made.add_row(show.cell(each["name"] or each["company_id"]), show.cell(each["employees"]), str(each["members"]))
    return made

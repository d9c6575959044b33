"""The command that tells why a profile is what it is: profile explain."""

import time
from collections.abc import Iterator

import click
import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from domain.timing import iso_text
from operations.cli.run import FAILED, Run, as_json, ask, command, err, out, tell_json
from operations.explain import explain_profile
from operations.explanation import Explanation, Field, Lost, Member, Said, raw_json
from operations.show import printable
from sinks.postgres.database import Connection

_PATIENCE_S = 1.0
"""Reading takes less for a small system; then a bar would only flicker."""

_NAMES_SHOWN = 20


@click.command("explain")
@click.argument("identifier", metavar="ID")
@click.option("--field", metavar="FIELD", help="Of one standard field or attribute only.")
@click.option("--anonymous", is_flag=True, help="ID is an anonymousId, also where a userId of the same text exists.")
@as_json
@command
def explain(told: Run, *, identifier: str, field: str | None, anonymous: bool, as_json: bool) -> int:
    """Tell which message set each field of a profile, which joined each leaf, and what was ignored and why.

    Reads the changelog of the leaves concerned from its beginning, which takes a while in a large system.

    \b
    tidemark profile explain u-1001
    tidemark profile explain u-1001 --field email --json
    """  # noqa: D301
    settings = told.with_both()
    began = time.monotonic()
    columns = (TextColumn("reading the changelog"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
    task = bar.add_task("", total=None)

    def read(records: int, total: int) -> None:
        if not bar.live.is_started and time.monotonic() - began > _PATIENCE_S:
            bar.start()
        bar.update(task, completed=records, total=total)

    async def work(connection: Connection) -> Explanation | None:
        return await explain_profile(settings, connection, f"anon:{identifier}" if anonymous else identifier, read)

    try:
        found = ask(told, work)
    finally:
        bar.stop()
    if found is None:
        err.print(f"[bold red]tidemark:[/] nobody has the identifier {printable(identifier)!r}.", soft_wrap=True)
        return FAILED
    if field is not None:
        fields = tuple(each for each in found.fields if each.name == field)
        if not fields:
            names = [printable(each.name) for each in found.fields]
            listed = ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "")
            text = (
                f"tidemark: expected a field that some message of {found.profile_id} has set ({listed or 'none'}); "
                f"got {field!r}. tidemark profile explain without --field shows all."
            )
            err.print(Text(printable(text)), soft_wrap=True)
            return FAILED
        found = msgspec.structs.replace(found, fields=fields)
    if as_json:
        tell_json(found.to_builtins())
    else:
        for line in lines(found):
            out.print(line, soft_wrap=True)
    return 0


def lines(found: Explanation) -> Iterator[Text]:
    """An explanation for people."""
    yield Text(printable(found.profile_id), style="bold")
    yield Text("\nLeaves", style="bold")
    for member in found.leaves:
        yield _indented(member.leaf, _member(found.profile_id, member))
    if found.fields:
        yield Text("\nFields", style="bold")
    for field in found.fields:
        yield from _field(field)
    if found.lost_claims:
        yield Text("\nClaims that do not count", style="bold")
    for lost in found.lost_claims:
        yield _lost(lost)


def _indented(name: str, rest: str, spaces: int = 2) -> Text:
    return Text.assemble(" " * spaces, printable(name), (f"  {printable(rest)}", "dim"))


def _member(root: str, member: Member) -> str:
    views = 0 if member.counters is None else member.counters.page_views
    text = f"{views:,} page view{'' if views == 1 else 's'}"
    if member.leaf == root:
        return text
    if member.joined_by is None:
        return f"{text}; the claim that joined it is not in the changelog yet"
    claimed = member.joined_by
    return f"{text}; joined by {claimed.message_id}, {iso_text(claimed.at)}, {claimed.source}"


def _field(field: Field) -> Iterator[Text]:
    kind = f"  attribute, {field.type}" if field.is_attribute else ""
    if field.set_by is None:
        shown = "nothing"
    elif field.set_by.value is None:
        shown = "removed"
    else:
        shown = msgspec.json.encode(field.value).decode()
    head = Text.assemble("  ", (printable(field.name), "bold"), " = ", printable(shown), (kind, "dim"))
    yield head
    if field.set_by is not None:
        is_as_sent = field.set_by.value == field.value and type(field.set_by.value) is type(field.value)
        yield _indented("set by", _where(field.set_by) if is_as_sent else _said(field.set_by), 6)
    for each in field.ignored:
        yield _indented("ignored", f"{each.why}: {_said(each.said)}", 6)


def _where(said: Said) -> str:
    return f"{said.message_id}, {iso_text(said.at)}, {said.source}, of {said.leaf}"


def _said(said: Said) -> str:
    return f"{_where(said)}, sent {msgspec.json.encode(raw_json(said.value)).decode()}"


def _lost(lost: Lost) -> Text:
    claimed = lost.claimed
    said = f"{lost.why}: {claimed.message_id}, {iso_text(claimed.at)}, {claimed.source}"
    return _indented(f"{lost.user} on {lost.leaf}", said)

"""Commands that show what is in Postgres: stats, profile, definitions, quarantine."""

import base64
import sys
from typing import Any

import click

from contracts.definitions import COMPANY_SCOPE, USER_SCOPE, AttributeType, event_scope
from contracts.outcomes import Reason
from domain.names import bounded
from operations import show
from operations.cli.redrive import quarantine_redrive
from operations.cli.run import FAILED, Run, as_json, ask, command, err, out, tell_json
from operations.stats import read_report
from sinks.postgres import queries
from sinks.postgres.database import Connection, Database
from sinks.postgres.definitions import DefinitionStore

_CHOICE_TYPES = frozenset({AttributeType.FIXED_CHOICE, AttributeType.MULTIPLE_CHOICE})


@click.command()
@as_json
@command
def stats(told: Run, *, as_json: bool) -> None:
    """Tell what became of the records that were read, and how many are still to be read.

    At rest, applied + duplicate + quarantined = read.
    """
    settings = told.with_both()
    report = ask(told, lambda connection: read_report(settings, connection))
    if as_json:
        tell_json(report.to_builtins())
    else:
        out.print(show.stats(report))


@click.group()
def profile() -> None:
    """Look at profiles."""


@profile.command("show")
@click.argument("identifier", metavar="ID")
@click.option("--anonymous", is_flag=True, help="ID is an anonymousId, also where a userId of the same text exists.")
@as_json
@command
def profile_show(told: Run, *, identifier: str, anonymous: bool, as_json: bool) -> int:
    """Show the profile that a userId, or else an anonymousId, belongs to. Exit code 1 when there is none.

    \b
    tidemark profile show u-1001
    tidemark profile show 3f2b6c1e-… --anonymous --json
    """  # noqa: D301

    async def find(connection: Connection) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        other = await queries.profile(connection, f"anon:{identifier}")
        return (other if anonymous else await queries.profile(connection, identifier)), other

    found, other = ask(told, find)
    if found is None:
        err.print(f"[bold red]tidemark:[/] nobody has the identifier {show.printable(identifier)!r}.", soft_wrap=True)
        return FAILED
    if as_json:
        tell_json(found)
        return 0
    out.print(show.profile(found))
    if other is not None and other["profile_id"] != found["profile_id"]:
        err.print("There is an anonymous visitor with this id, too: --anonymous shows it.", style="yellow")
    return 0


@click.group()
def definitions() -> None:
    """Look at the types of attributes and properties, or set them."""


@definitions.command("list")
@as_json
@command
def definitions_list(told: Run, *, as_json: bool) -> None:
    """List every definition: those that messages made (auto) and those that were set (manual)."""
    found = ask(told, queries.definitions)
    if as_json:
        tell_json(found)
    else:
        out.print(show.definitions(found))


@definitions.command("set")
@click.argument("scope")
@click.argument("name")
@click.argument("type_", metavar="TYPE", type=click.Choice([each.value for each in AttributeType]))
@click.argument("more", nargs=-1, metavar="")
@click.option("--choices", multiple=True, metavar="A,B,...", help="What a choice chooses from.")
@command
def definitions_set(
    told: Run, *, scope: str, name: str, type_: str, more: tuple[str, ...], choices: tuple[str, ...]
) -> None:
    """Set the type of an attribute. SCOPE is user, company or event:NAME; TYPE one of the types of User.com.

    Values that came already are converted again from what was sent; nothing has to be replayed.

    \b
    tidemark definitions set user age integer
    tidemark definitions set "event:Order Completed" total number
    tidemark definitions set user plan fixed_choice --choices free,pro,team
    """  # noqa: D301
    if scope not in {USER_SCOPE, COMPANY_SCOPE} and not (scope.startswith("event:") and len(scope) > len("event:")):
        raise click.BadParameter(f"expected user, company or event:NAME; got {scope!r}", param_hint="SCOPE")
    if not name:
        raise click.BadParameter("expected the name of an attribute; got an empty text", param_hint="NAME")
    if more and not choices:
        raise click.UsageError(f"Got unexpected extra arguments ({' '.join(more)})")
    if scope not in {USER_SCOPE, COMPANY_SCOPE}:
        scope = event_scope(bounded(scope.removeprefix(event_scope(""))))
    # As a message's are: long names are cut.
    name = bounded(name)
    kind = AttributeType(type_)
    # `--choices a b` comes as one choice and one argument more.
    listed = [choice for text in (*choices, *more) for choice in text.split(",") if choice]
    if kind in _CHOICE_TYPES and not listed:
        raise click.BadParameter(f"expected at least one, because the type is {type_}", param_hint="--choices")
    if listed and kind not in _CHOICE_TYPES:
        raise click.BadParameter(f"expected none, because the type is {type_}", param_hint="--choices")

    async def change(_connection: Connection) -> None:
        database = Database(told.settings.dsn, told.settings.schema, application="tidemark-cli")
        try:
            await DefinitionStore(database).set_definition(scope, name, kind, listed)
        finally:
            await database.close()

    ask(told, change)
    chosen = f" of {', '.join(sorted(set(listed)))}" if listed else ""
    err.print(show.cell(f"{scope} {name} is {type_}{chosen}."), soft_wrap=True)


@click.group()
def quarantine() -> None:
    """Look at what was refused, and why; let it go in again."""


quarantine.add_command(quarantine_redrive)


@quarantine.command("list")
@click.option("--reason", type=click.Choice([each.value for each in Reason]), help="Of this reason only.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="So many of the newest.")
@as_json
@command
def quarantine_list(told: Run, *, reason: str | None, limit: int, as_json: bool) -> None:
    """List what was refused, the newest first.

    \b
    tidemark quarantine list --reason invalid_json --limit 5
    """  # noqa: D301
    found = ask(told, lambda connection: queries.quarantine_list(connection, reason, limit))
    if as_json:
        tell_json([_plain(each) for each in found])
    else:
        out.print(show.quarantine(found))


@quarantine.command("show")
@click.argument("topic")
@click.argument("partition", type=click.IntRange(0))
@click.argument("offset", type=click.IntRange(0))
@click.option("--raw", is_flag=True, help="Write the bytes as they came, and nothing else.")
@as_json
@command
def quarantine_show(told: Run, *, topic: str, partition: int, offset: int, raw: bool, as_json: bool) -> int:
    """Show one refused record of a source topic, with its bytes. Exit code 1 when it is not in the quarantine.

    With --json the bytes are in base64.

    \b
    tidemark quarantine show segment 0 4711
    tidemark quarantine show segment 0 4711 --raw > message.json
    """  # noqa: D301
    found = ask(told, lambda connection: queries.quarantine_show(connection, topic, partition, offset))
    place = f"{show.printable(topic)}/{partition} at offset {offset}"
    if found is None:
        err.print(f"[bold red]tidemark:[/] {place} is not in the quarantine.", soft_wrap=True)
        return FAILED
    if raw:
        sys.stdout.buffer.write(found["raw"])
        sys.stdout.buffer.flush()
    elif as_json:
        record = {"topic": topic, "partition": partition, "offset": offset, **found}
        tell_json(_plain(record) | {"raw": base64.b64encode(found["raw"]).decode()})
    else:
        out.print(show.quarantined(place, found))
    return 0


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    names = {"octet_length": "bytes"}
    return {names.get(name, name): value for name, value in record.items()} | {
        "quarantined_at": show.moment(record["quarantined_at"]).replace(" ", "T") + "Z"
    }

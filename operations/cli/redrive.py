"""The command that lets messages of the quarantine go in again."""

import click
from rich.text import Text

from contracts.outcomes import Reason
from operations import show
from operations.cli.run import FAILED, Run, as_json, ask, command, err, out, tell_json
from operations.redrive import Redrive, plan, redrive


@click.command("redrive")
@click.option("--reason", type=click.Choice([each.value for each in Reason]), help="Of this reason only.")
@click.option("--limit", type=click.IntRange(1), help="So many at most, by topic, partition and offset.")
@click.option("--dry-run", is_flag=True, help="Tell what would go in and what would stay; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@command
def quarantine_redrive(
    told: Run, *, reason: str | None, limit: int | None, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Let quarantined messages go in again, which the settings or the version of now accept.

    They keep the times of their source records, so that nothing newer is harmed. Give this command the settings that
    the workers have. What is refused once more stays, with the reason of now. Twice is once.

    \b
    tidemark quarantine redrive --reason too_large --dry-run
    tidemark quarantine redrive --reason no_identity --yes
    """  # noqa: D301
    settings = told.with_postgres() if dry_run else told.with_both()
    if dry_run or not yes:
        planned = ask(told, lambda connection: plan(settings, connection, reason, limit))
        if dry_run:
            tell_json(planned.to_builtins()) if as_json else out.print(_planned(planned), soft_wrap=True)
            return 0
        err.print(_planned(planned), soft_wrap=True)
        if not planned.sent or not click.confirm("Redrive?", err=True):
            return 0
    done = ask(told, lambda connection: redrive(settings, connection, reason, limit))
    tell_json(done.to_builtins()) if as_json else out.print(_done(done), soft_wrap=True)
    if done.is_settled:
        return 0
    err.print(
        "tidemark: not all of it is decided yet. It is not lost: see that workers run (tidemark status), then tidemark "
        "stats.",
        soft_wrap=True,
    )
    return FAILED


def _planned(planned: Redrive) -> Text:
    return show.cell(f"{show.count(planned.sent)} to redrive; would stay: {_stays(planned)}.")


def _done(done: Redrive) -> Text:
    return show.cell(
        f"{show.count(done.sent)} redriven: {show.count(done.applied)} applied, {show.count(done.duplicate)} "
        f"duplicate; stay: {_stays(done)}."
    )


def _stays(done: Redrive) -> str:
    return ", ".join(f"{reason} {show.count(count)}" for reason, count in sorted(done.stays.items())) or "none"

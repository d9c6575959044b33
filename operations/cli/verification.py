"""The command that recounts: verify."""

import click
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from operations import show
from operations.cli.run import FAILED, Run, as_json, command, err, out, run, tell_json
from operations.verify import STATEMENT_TIMEOUT_MS, Verification
from operations.verify import verify as verify_tables
from sinks.postgres.verification import total_digest


@click.command()
@as_json
@command
def verify(told: Run, *, as_json: bool) -> int:
    """Recount a system at rest, and print a digest of each table. Exit code 1 when something does not add up.

    Profiles are compared with page views and identities, leaves with identities, counters with each other. Two
    installations whose tables are equal print the same digests.

    \b
    tidemark wait && tidemark verify
    diff <(tidemark verify --data-dir a) <(tidemark verify --data-dir b)
    """  # noqa: D301
    settings = told.with_postgres()

    async def work() -> Verification:
        columns = (TextColumn("recounting"), TextColumn("{task.fields[now]}"), TimeElapsedColumn())
        with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
            task = bar.add_task("", total=None, now="")
            async with told.connection(statement_timeout_ms=STATEMENT_TIMEOUT_MS) as connection:
                return await verify_tables(
                    settings,
                    connection,
                    lambda table, rows: bar.update(task, now=f"{table}: {rows:,} rows"),
                )

    found = run(work())
    if as_json:
        tell_json(found.to_builtins())
    else:
        _tell(found)
    return 0 if found.is_well else FAILED


def _tell(found: Verification) -> None:
    counts = found.counts
    quarantined = sum(counts.quarantined.values())
    if not found.is_at_rest:
        under_way = [
            *([f"{found.lag:,} records are on their way"] if found.lag else []),
            *([f"{found.unaccounted:,} messages are in flight"] if found.lag is None and found.unaccounted > 0 else []),
            *([f"rows of {found.to_remake} partitions are made again after a change of type"] * bool(found.to_remake)),
        ]
        err.print(
            f"[bold red]tidemark:[/] expected a system at rest; {', and '.join(under_way)}. See that workers run "
            "(tidemark status), tidemark wait, and verify again.",
            soft_wrap=True,
        )
        return
    for name, table in found.tables.items():
        out.print(f"{name:<22} {table.rows:>12,}  {table.sha256}", soft_wrap=True)
    out.print(f"{'all of them':<22} {'':>12}  {total_digest(found.tables)}", soft_wrap=True)
    sums = (
        f"read {counts.read:,}; applied {counts.applied:,} + duplicate {counts.duplicate:,} + "
        f"quarantined {quarantined:,} = {counts.read - found.unaccounted:,}"
    )
    out.print(sums, soft_wrap=True)
    if found.is_well:
        out.print("All is well: profiles, identities and counters are what the rows add up to.", soft_wrap=True)
        return
    if found.unaccounted:
        err.print(
            f"[bold red]tidemark:[/] expected read to be applied + duplicate + quarantined; {sums}, and nothing is on "
            "its way. Keep the topics and the workers' logs: a rebuild from the source topics is the way out.",
            soft_wrap=True,
        )
    if found.recount is not None and found.recount.total:
        err.print(f"[bold red]tidemark:[/] {found.recount.total:,} things are not what they are to be:", soft_wrap=True)
        for each in found.recount.deviations:
            err.print(show.cell(f"  {each}"), soft_wrap=True)
        if found.recount.total > len(found.recount.deviations):
            err.print(f"  and {found.recount.total - len(found.recount.deviations):,} more", soft_wrap=True)
        err.print("Keep the workers' logs; a rebuild from the source topics makes every row anew.", soft_wrap=True)

"""The command `tidemark` and what stands below it."""

import importlib.metadata
from pathlib import Path

import click

from operations.cli.data import demo, load, wait
from operations.cli.explanation import explain
from operations.cli.identity import identity
from operations.cli.run import config_option, data_dir_option
from operations.cli.services import down, dsn, migrate, status, topics, up, worker
from operations.cli.verification import verify
from operations.cli.views import definitions, profile, quarantine, stats


class InOrder(click.Group):
    """Lists commands in the order in which they were added: that of a first acquaintance."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names of commands."""
        return list(self.commands)


@click.group(
    cls=InOrder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 failed or answered with no, 2 wrong usage, 130 interrupted.",
)
@data_dir_option
@config_option
@click.version_option(importlib.metadata.version("tidemark"), message="tidemark %(version)s")
def tidemark(data_dir: Path | None, config: Path | None) -> None:
    """Exact profiles, audiences and events from Segment's Kafka topic, in your own Postgres.

    \b
    tidemark demo                     the whole of it, in a minute
    tidemark up --workers 2 --detach  services and workers, kept alive
    tidemark load messages.jsonl      messages onto the source topic
    tidemark wait                     until all of it has arrived in Postgres
    tidemark stats                    what became of it
    """  # noqa: D301 - \b is click's: keep the lines


for each in (
    demo,
    up,
    status,
    down,
    load,
    wait,
    stats,
    verify,
    profile,
    identity,
    quarantine,
    definitions,
    dsn,
    topics,
    migrate,
    worker,
):
    tidemark.add_command(each)
profile.add_command(explain)

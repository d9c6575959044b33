"""Commands that run things: up, down, status, worker, migrate, dsn, topics."""

import logging
import sys

import click
import msgspec

from contracts.settings import Settings
from operations import show
from operations.cli.run import FAILED, Run, as_json, command, err, forget_logging, out, run, tell_json
from operations.files import hold, make_directory
from operations.runstate import RunState, read_status
from operations.supervisor import Supervisor, run_supervisor, start_detached, stop_running, supervisor_log
from sinks.postgres.database import Database
from sinks.postgres.migration import migrate as migrate_schema
from streams.engine.cluster import Cluster, partition_counts
from streams.topics import TopicSpec, create_topics, topic_specs


async def prepare(settings: Settings) -> None:
    """What workers need before they start: topics and schema."""
    await create_topics(Cluster(settings), topic_specs(settings))
    await migrate_schema(settings.dsn, settings.schema)


@click.command()
@click.option("--workers", type=click.IntRange(0, 64), default=1, show_default=True, help="Worker processes.")
@click.option("--detach", is_flag=True, help="Return once everything runs; `tidemark down` ends it.")
@command
def up(told: Run, *, workers: int, detach: bool) -> None:
    """Run Kafka and Postgres (or reach those that the settings name) and workers, and keep them alive.

    Without addresses in the settings, both services are embedded: their data stays in the data directory.
    Ends with Ctrl-C, or with `tidemark down` from elsewhere.

    \b
    tidemark up --workers 2
    tidemark up --detach --data-dir /var/lib/tidemark
    TIDEMARK_BOOTSTRAP_SERVERS=kafka:9092 TIDEMARK_DSN=postgresql://... tidemark up
    """  # noqa: D301
    if detach:
        state = start_detached(told.told, told.data_dir, workers, progress=err)
        _tell_running(told, state)
        return
    # On a terminal a line a service is enough; a log file shall tell more.
    console = err if sys.stderr.isatty() else None
    if console is None:
        logging.getLogger().setLevel(told.told.log_level)

    def ready(supervisor: Supervisor) -> None:
        names = ", ".join(worker.name for worker in supervisor.workers) or "none"
        err.print(f"Running; workers: {names}; logs: {told.data_dir / 'log'}. Ctrl-C ends it.", soft_wrap=True)

    run(run_supervisor(told.told, told.data_dir, workers, prepare=prepare, progress=console, on_ready=ready))


def _tell_running(told: Run, state: RunState) -> None:
    err.print(
        f"Running as process {state.supervisor.pid} with {len(state.workers)} workers; "
        f"log: {supervisor_log(told.data_dir)}",
        soft_wrap=True,
    )
    where = f" --data-dir {told.data_dir}" if told.data_dir_told else ""
    err.print(f"Next: tidemark load FILE{where}; tidemark status{where}; tidemark down{where}", soft_wrap=True)


@click.command()
@command
def down(told: Run) -> None:
    """End the `tidemark up` of the data directory: workers finish what they have begun, services stop cleanly.

    Also ends what a killed one has left behind. Data stays. That nothing runs is no failure.
    """
    stopped = stop_running(told.data_dir)
    err.print(
        f"Stopped what ran in {told.data_dir}." if stopped else f"Nothing runs in {told.data_dir}.", soft_wrap=True
    )


@click.command()
@as_json
@command
def status(told: Run, *, as_json: bool) -> int:
    """Tell what runs in the data directory. Exit code 1 when no `tidemark up` does."""
    found = read_status(told.data_dir)
    if as_json:
        tell_json(msgspec.to_builtins(found))
    else:
        out.print(show.status(found))
    return 0 if found.running else FAILED


@click.command()
@click.option("--name", "--worker-name", "name", default="w1", show_default=True, help="Names its local state.")
@command
def worker(told: Run, *, name: str) -> None:
    """Run one worker against services that run elsewhere, until SIGTERM or Ctrl-C.

    Its state is kept in the data directory under its name: a worker that comes back under the same name need
    not restore it from Kafka. Topics and schema have to be there (tidemark topics create, tidemark migrate).

    \b
    Exit codes: 0 told to stop, 1 could not begin, 70 ended itself (another worker took over, or an error that a
    restart may mend).

    \b
    tidemark worker --name w2 --data-dir /var/lib/tidemark
    """  # noqa: D301
    settings = told.with_both()
    if not name.replace("-", "").replace("_", "").isalnum():
        raise click.BadParameter(f"expected letters, digits, '-' and '_'; got {name!r}", param_hint="--name")
    # Faust is slow to import, and only a worker needs it.
    from streams.app import run_worker  # noqa: PLC0415

    forget_logging()
    home = told.data_dir / "workers" / name
    make_directory(home)
    with hold(home / "worker.lock", f"be worker {name}"):
        run_worker(msgspec.structs.replace(settings, data_dir=home), name)


@click.command()
@as_json
@command
def migrate(told: Run, *, as_json: bool) -> None:
    """Bring Postgres' schema up to this version of Tidemark. Safe to repeat, and to run from several places."""
    settings = told.with_postgres()

    async def work() -> list[str]:
        # One attempt, so that a wrong address is told at once: the migration itself waits for Postgres.
        await (await told.open(Database(settings.dsn, settings.schema))).close()
        return await migrate_schema(settings.dsn, settings.schema)

    applied = run(work())
    if as_json:
        tell_json({"schema": settings.schema, "applied": applied})
    else:
        names = ", ".join(applied)
        out.print(
            f"Schema {settings.schema}: applied {names}." if names else f"Schema {settings.schema} is up to date."
        )


@click.command()
@command
def dsn(told: Run) -> None:
    """Print the address of the Postgres in use, with its password.

    \b
    psql "$(tidemark dsn)" -c "select profile_id, page_views from tidemark.profiles limit 5"
    """  # noqa: D301
    click.echo(told.with_postgres().dsn)


@click.group()
def topics() -> None:
    """Create or list the topics that Tidemark reads and writes."""


@topics.command("create")
@click.option("--partitions", type=int, help="Of source topics that do not exist yet.")
@click.option("--leaves-partitions", type=int, help="Of the leaves topic and its changelogs: bounds parallelism.")
@click.option("--replication-factor", type=int, help="Copies of each partition.")
@click.option("--min-insync-replicas", type=int, help="Copies that must have a record before it is acknowledged.")
@as_json
@command
def topics_create(
    told: Run,
    *,
    partitions: int | None,
    leaves_partitions: int | None,
    replication_factor: int | None,
    min_insync_replicas: int | None,
    as_json: bool,
) -> None:
    """Create every topic that does not exist yet. Safe to repeat.

    Workers have to be told of other numbers by the settings of the same names, too.

    \b
    tidemark topics create --partitions 12 --replication-factor 3 --min-insync-replicas 2
    """  # noqa: D301
    changes = {
        "source_partitions": partitions,
        "leaves_partitions": leaves_partitions,
        "replication_factor": replication_factor,
        "min_insync_replicas": min_insync_replicas,
    }
    settings = msgspec.structs.replace(
        told.with_kafka(), **{name: value for name, value in changes.items() if value is not None}
    )
    specs = topic_specs(settings)
    done = run(create_topics(Cluster(settings), specs))
    if as_json:
        existing = {topic.name: topic.partitions for topic in done.existing}
        tell_json({"created": list(done.created), "existing": existing})
        return
    counts = {spec.name: spec.partitions for spec in specs} | {each.name: each.partitions for each in done.existing}
    out.print(show.topics(specs, counts, created=done.created))


@topics.command("list")
@as_json
@command
def topics_list(told: Run, *, as_json: bool) -> int:
    """List the topics of this app version. Exit code 1 when one is missing."""
    settings = told.with_kafka()
    specs = topic_specs(settings)
    counts = run(_counts(settings, specs))
    missing = [spec.name for spec in specs if spec.name not in counts]
    if as_json:
        tell_json(
            [
                {
                    "name": spec.name,
                    "role": spec.role,
                    "partitions": counts.get(spec.name),
                    "wanted": {"partitions": spec.partitions, "replication_factor": spec.replication_factor}
                    | {"configs": dict(spec.configs)},
                }
                for spec in specs
            ]
        )
    else:
        out.print(show.topics(specs, counts))
        if missing:
            err.print("Some are missing: tidemark topics create makes them.")
    return FAILED if missing else 0


async def _counts(settings: Settings, specs: list[TopicSpec]) -> dict[str, int]:
    async with Cluster(settings).admin() as admin:
        return await partition_counts(admin, [spec.name for spec in specs])

"""Commands that move data: load, wait, demo."""

import asyncio
import contextlib
import math
import os
import shlex
import signal
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from contracts.settings import OWN_PREFIX, Settings
from operations.cli.run import FAILED, Run, as_json, command, err, out, run, tell_json
from operations.cli.services import prepare
from operations.demo import Moving, demo_settings, empty_demo_dir, run_demo
from operations.load import Loaded
from operations.load import load as load_lines
from operations.story import Story
from operations.story import told as tell_story
from operations.wait import Missing, wait_until_arrived

_MISSING_SHOWN = 20
_SVG_WIDTH = 120


def _header(_ctx: click.Context, _param: click.Parameter, texts: tuple[str, ...]) -> list[tuple[str, bytes]]:
    headers = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"expected NAME=VALUE; got {text!r}")
        headers.append((name, os.fsencode(value)))
    return headers


def _finite(_ctx: click.Context, _param: click.Parameter, number: float | None) -> float | None:
    if number is not None and not math.isfinite(number):
        raise click.BadParameter(f"expected a finite number; got {number}")
    return number


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@click.option("--topic", help="Where to.  [default: the first of source_topics]")
@click.option("--rate", type=click.FloatRange(0, min_open=True), callback=_finite, help="Lines a second, at most.")
@click.option("--header", "headers", multiple=True, callback=_header, metavar="NAME=VALUE", help="On every record.")
@as_json
@command
def load(
    told: Run,
    *,
    file: Path,
    topic: str | None,
    rate: float | None,
    headers: list[tuple[str, bytes]],
    as_json: bool,
) -> None:
    """Load FILE (- for standard input) onto a source topic: each line one record value, without a key.

    Bytes go as they are. A line ends with a line feed alone, and an empty line is an empty value.

    \b
    tidemark load examples/sample.jsonl
    zcat segment-*.jsonl.gz | tidemark load - --rate 5000
    tidemark load export.jsonl --topic segment-eu --header tidemark-api-key=...
    """  # noqa: D301
    settings = told.with_kafka()
    if topic is not None and topic not in settings.source_topics:
        if topic.startswith(OWN_PREFIX):
            # One record that is not Tidemark's ends every worker that reads it, for good.
            raise click.BadParameter(
                f"expected a source topic ({', '.join(settings.source_topics)}); {topic} is one that only Tidemark "
                "itself may write",
                param_hint="--topic",
            )
        err.print(f"Nobody reads {topic}: source_topics are {', '.join(settings.source_topics)}.", style="yellow")
    from_stdin = str(file) == "-"
    total = None if from_stdin else file.stat().st_size
    columns = (TextColumn("loading"), BarColumn(), DownloadColumn(), TextColumn("{task.fields[lines]:,} lines"))
    with (
        contextlib.nullcontext(sys.stdin.buffer) if from_stdin else file.open("rb") as source,
        Progress(*columns, TimeElapsedColumn(), console=err, transient=True, disable=not err.is_terminal) as bar,
    ):
        task = bar.add_task("", total=total, lines=0)
        done = run(
            load_lines(
                settings,
                source.fileno(),
                topic=topic,
                rate=rate,
                headers=headers,
                on_loaded=lambda lines, size: bar.update(task, completed=size, lines=lines),
            )
        )
    _tell_loaded(done, topic or settings.source_topics[0], as_json=as_json)


def _tell_loaded(done: Loaded, topic: str, *, as_json: bool) -> None:
    if as_json:
        tell_json(
            {
                "topic": topic,
                "lines": done.lines,
                "bytes": done.bytes,
                "seconds": round(done.seconds, 3),
                "rate": round(done.rate, 1),
            }
        )
    else:
        out.print(f"Loaded {done.lines:,} lines onto {topic} in {done.seconds:.1f} s: {done.rate:,.0f} a second.")


@click.command()
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    callback=_finite,
    help="Seconds.  [default: until nothing moves for 5 minutes]",
)
@as_json
@command
def wait(told: Run, *, timeout: float | None, as_json: bool) -> int:
    """Wait until all that is in the source topics now has ended in Postgres, with everything that follows from it.

    Where a type was changed, until the rows of profiles and companies have been made again, too.

    Exit code 1, with what is missing, when the time is over first.

    \b
    tidemark load messages.jsonl && tidemark wait --timeout 600 && tidemark stats
    """  # noqa: D301
    settings = told.with_both()
    with Progress(
        TextColumn("waiting for {task.fields[role]}"),
        TextColumn("{task.fields[behind]:,} to go"),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as bar:
        task = bar.add_task("", total=None, role="source", behind=0)

        def told_of(role: str, missing: object) -> None:
            assert isinstance(missing, tuple)
            bar.update(task, role=role, behind=sum(each.target - each.position for each in missing))

        arrival = run(wait_until_arrived(settings, timeout_s=timeout, on_progress=told_of))
    missing = arrival.missing
    if as_json:
        tell_json(
            {
                "arrived": not missing,
                "seconds": round(arrival.seconds, 3),
                "missing": [_plain(each) for each in missing],
            }
        )
    elif missing:
        err.print(f"[bold red]tidemark:[/] after {arrival.seconds:.0f} s not everything has arrived:")
        for each in missing[:_MISSING_SHOWN]:
            err.print(f"  {each}")
        if len(missing) > _MISSING_SHOWN:
            err.print(f"  and {len(missing) - _MISSING_SHOWN} partitions more")
        err.print("See that workers run (tidemark status), and their logs.")
    else:
        out.print(f"Everything has arrived, after {arrival.seconds:.1f} s.")
    return FAILED if missing else 0


def _plain(missing: Missing) -> dict[str, object]:
    return {
        "topic": missing.topic,
        "partition": missing.partition,
        "position": missing.position,
        "target": missing.target,
        "of": "definitions" if missing.is_of_types else "offsets",
    }


@click.command()
@click.option("--keep", is_flag=True, help="Leave services and worker running; `tidemark down` ends them.")
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Write what is shown as a picture, too.")
@command
def demo(told: Run, *, keep: bool, svg: Path | None) -> None:
    """See the whole of it: Kafka, Postgres and a worker start, a sample goes through, and its story is told.

    Needs no service and no Docker: the first run downloads Kafka (60 MB) and keeps it. Everything stays in the
    directory `demo` of the data directory, which the next demo empties; with --data-dir, in that one.

    \b
    tidemark demo
    tidemark demo --keep
    """  # noqa: D301
    data_dir = told.data_dir if told.data_dir_told else told.data_dir / "demo"
    settings = demo_settings(told.told, data_dir)
    empty_demo_dir(data_dir)
    story = run(_demo(settings, data_dir, keep=keep))
    console = Console(record=svg is not None, highlight=False, width=_SVG_WIDTH if svg is not None else None)
    console.print()
    console.print(tell_story(story))
    console.print()
    _tell_further(console, _shown(data_dir), story, keep=keep)
    if svg is not None:
        console.save_svg(str(svg), title="tidemark demo")


async def _demo(settings: Settings, data_dir: Path, *, keep: bool) -> Story:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    err.print(f"Kafka and Postgres start in {_shown(data_dir)}", soft_wrap=True)
    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        read = bar.add_task("read from Kafka", total=None, visible=False)
        rested = bar.add_task("in Postgres", total=None, visible=False)
        last = ""

        def moving(now: Moving) -> None:
            nonlocal last
            if now.phase != last:
                err.print(now.phase[:1].upper() + now.phase[1:])
                last = now.phase
            if now.loaded:
                bar.update(read, total=now.loaded, completed=now.read, visible=True)
                bar.update(rested, total=now.loaded, completed=now.rested, visible=True)

        return await run_demo(settings, data_dir, prepare=prepare, keep=keep, progress=err, on_moving=moving)


def _tell_further(console: Console, where: str, story: Story, *, keep: bool) -> None:
    steps = [
        (f"tidemark up --detach --data-dir {where}", "run it again, with what is in it now"),
        (f"tidemark profile show {_someone(story)} --data-dir {where}", "one of them, whole"),
        (f"tidemark quarantine list --data-dir {where}", "every message that was refused"),
        (f'psql "$(tidemark dsn --data-dir {where})"', "the tables themselves, in the schema tidemark"),
        (f"tidemark load FILE --data-dir {where}", "messages of your own, one a line"),
        (f"tidemark down --data-dir {where}", "end it"),
    ]
    if keep:
        del steps[0]
    console.print("It goes on running. Look further:" if keep else "All of it is stopped, and kept. Look further:")
    width = max(len(line) for line, _ in steps)
    is_wide = all(2 + width + 2 + len(why) <= console.width for _, why in steps)
    for line, why in steps:
        if is_wide:
            shown = Text.assemble("  ", (line.ljust(width), "cyan"), "  ", (why, "dim"))
        else:
            shown = Text.assemble("  ", (f"{why}:", "dim"), "\n    ", (line, "cyan"))
        console.print(shown, soft_wrap=True)


def _someone(story: Story) -> str:
    for each in story.profiles:
        if each["profile_id"].startswith("user:"):
            return shlex.quote(each["profile_id"].removeprefix("user:"))
    return "ID"


def _shown(path: Path) -> str:
    """A path as short as it can be written here."""
    try:
        short = path.relative_to(Path.cwd())
    except ValueError:
        short = path
    return shlex.quote(str(short))

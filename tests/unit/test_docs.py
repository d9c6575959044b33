"""What the documents say of settings, files, commands, rules and tables is what there is."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click
import pytest

from contracts.outcomes import Reason, WarningKind
from contracts.settings import Settings
from operations.cli.root import tidemark
from operations.settings import PREFIX, settings_environ
from sinks.postgres.queries import PUBLIC_COLUMNS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PACKAGES = ("contracts", "domain", "tables", "sinks", "streams", "operations", "tests", "examples", "benchmarks")


def document_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=document_id)


def text_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """The text below a heading of the second level."""
    return text.split(f"\n## {heading}", 1)[1].split("\n## ", 1)[0]


def cells(text: str) -> list[list[str]]:
    """Rows of every table, without those of hyphens."""
    rows = [line.strip().strip("|").split("|") for line in text.splitlines() if line.lstrip().startswith("|")]
    return [[cell.strip() for cell in row] for row in rows if not set("".join(row)) <= set("- ")]


def code_spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", without_blocks(text))


def blocks(text: str) -> list[str]:
    """Blocks of code, fenced or indented; a line of a shell that ends in a backslash goes on."""
    indented = ["\n".join(re.findall(r"(?m)^    (\S.*)$", text))]
    return [block.replace("\\\n", " ") for block in re.findall(r"(?ms)^```\w*\n(.*?)^```", text) + indented]


def without_blocks(text: str) -> str:
    return re.sub(r"(?ms)^```.*?^```", "", text)


def anchors(document: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.+)$", without_blocks(document.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(text: str) -> Iterator[str]:
    """What follows `tidemark` wherever it is typed."""
    for piece in [*code_spans(text), *(line for block in blocks(text) for line in block.splitlines())]:
        for part in re.split(r"&&|\||;", piece.split(" # ")[0]):
            if found := re.search(r"(?:^|[\s/(])tidemark ([a-z-][^)\"]*)", part):
                yield found[1]


def test_settings_are_listed_with_their_defaults() -> None:
    listed = {}
    for row in cells(text_of("docs/settings.md")):
        if row[0].startswith(f"`{PREFIX}"):
            assert row[0] not in listed, f"{row[0]} stands twice"
            listed[row[0].strip("`")] = row[1].strip("`").replace('""', "")
    assert listed == settings_environ(Settings())


def test_every_variable_that_is_named_is_a_setting() -> None:
    known = {*settings_environ(Settings()), "TIDEMARK_CONFIG", "TIDEMARK_DEBUG"}
    for document in DOCUMENTS:
        named = set(re.findall(r"TIDEMARK_[A-Z_]*[A-Z]", document.read_text(encoding="utf-8")))
        unknown = {name for name in named - known if not name.startswith("TIDEMARK_TEST_")}
        assert not unknown, document


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path.name != "operations.md"], ids=document_id)
def test_paths_exist(document: Path) -> None:
    """Those in `operations.md` are below a data directory."""
    for span in code_spans(document.read_text(encoding="utf-8")):
        is_path = re.fullmatch(r"[\w.-]+/[\w./-]*|[\w.-]+\.(md|py|toml|yaml|lock|sql)|Makefile|Dockerfile", span)
        if is_path and span != "tidemark.toml":
            assert (ROOT / span).exists(), span


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@each_document
def test_commands_and_their_options_exist(document: Path) -> None:
    for typed in commands(document.read_text(encoding="utf-8")):
        command: click.Command = tidemark
        for word in typed.split():
            if isinstance(command, click.Group) and not word.startswith("-"):
                assert word in command.commands, typed
                command = command.commands[word]
            elif word.startswith("--"):
                known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
                assert word.partition("=")[0] in known, typed


def test_every_command_is_in_the_readme() -> None:
    def leaves(group: click.Group, path: tuple[str, ...]) -> Iterator[str]:
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                yield from leaves(command, (*path, name))
            else:
                yield " ".join((*path, name))

    listed = [row[0].strip("`") for row in cells(section(text_of("README.md"), "Commands"))[1:]]
    assert sorted(listed) == sorted(f"tidemark {command}" for command in leaves(tidemark, ()))


@each_document
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z][\w-]*):", text_of("Makefile")))
    text = document.read_text(encoding="utf-8")
    for piece in [*code_spans(text), *(line for block in blocks(text) for line in block.splitlines())]:
        if found := re.match(r"make (?:\w+=\S+ )?([a-z][\w-]*)", piece):
            assert found[1] in targets, piece


def test_rules_stand_in_order_and_every_cited_one_exists() -> None:
    rules = [int(number) for number in re.findall(r"(?m)^## S(\d+) ", text_of("docs/semantics.md"))]
    assert rules == list(range(1, 13))
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for number in re.findall(r"SEMANTICS S(\d+)", path.read_text(encoding="utf-8")):
                assert int(number) in rules, path


def test_reasons_stand_in_their_order() -> None:
    rows = cells(section(text_of("docs/semantics.md"), "S12"))
    names = [row[0].strip("`") for row in rows]
    assert [name for name in names if name in set(Reason)] == list(Reason)
    places = [text_of("contracts/outcomes.py").index(f'"{reason}"') for reason in Reason]
    assert all(first < second for first, second in pairwise(places))


def test_every_kind_of_warning_is_explained() -> None:
    table = section(text_of("docs/semantics.md"), "S12").split("| kind |", 1)[1]
    named = [name for row in cells(table) for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(named) == sorted(WarningKind)


def test_public_tables_have_the_columns_that_are_promised() -> None:
    promised = {}
    for row in cells(section(text_of("docs/semantics.md"), "Postgres: the public tables")):
        names = re.findall(r"`(\w+)`", row[1])
        if "and the columns of" in row[1]:
            names = [names[0], *promised[names[1]]]
        promised[row[0].strip("`")] = names
    del promised["table"], promised["view"]
    assert promised.keys() == PUBLIC_COLUMNS.keys()
    for table, (columns, _) in PUBLIC_COLUMNS.items():
        assert {column.strip('"') for column in columns} <= set(promised[table]), table

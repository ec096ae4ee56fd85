"""What the documents show and name is there: output, files, links, commands, numbers of the walkthrough."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import pytest
from support.command_line import Outcome
from support.recordings import TESTS

from meshobs.cli.main import cli

ROOT = TESTS.parent
README = (ROOT / "README.md").read_text()
WALKTHROUGH = (ROOT / "docs/walkthrough.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
# Those that people write; the reference is made from the code.
WRITTEN = [path for path in DOCUMENTS if path.parent.name != "reference"]
# Packages, not modules with a function or tables with a column.
_PACKAGES = {"compression", "meshobs"}
ROOMS = ("analyzer", "collector", "lab", "meshobs", "queries", "tests", "docs", "proto")


def test_readme_shows_exactly_what_make_demo_prints(meshobs: Callable[..., Outcome]) -> None:
    """The demo comes out as the README says, to the letter; the Makefile's line is the one that runs here."""
    sample = README.split("<!-- demo -->\n```\n")[1].split("\n```")[0]
    Path("build").mkdir()
    assert "$(BIN)/meshobs --db $(DEMO) demo" in (ROOT / "Makefile").read_text()

    outcome = meshobs("--db", "build/demo.duckdb", "demo")

    assert outcome.code == 0, outcome.err
    assert outcome.out.rstrip() == sample


def test_every_number_of_the_walkthrough_leads_there() -> None:
    """Each S and T number in code, documents and experiments has an anchor; no anchor stands twice."""
    anchors = re.findall(r'<a id="([st]\d+)"></a>', WALKTHROUGH)
    used = {
        (number.lower(), str(path.relative_to(ROOT)))
        for path in _sources()
        for number in re.findall(r"\b[ST][1-9]\d?\b", path.read_text())
    }

    assert len(used) > 50
    assert anchors == [f"s{number}" for number in range(1, 18)] + [f"t{number}" for number in range(1, 15)]
    assert {one for one in used if one[0] not in anchors} == set()


def test_every_step_of_the_walkthrough_has_a_command() -> None:
    """Each step and each trap says which command does, shows or proves it."""
    sections = re.split(r'<a id="([st]\d+)"></a>', WALKTHROUGH.partition("\n## What else")[0])[1:]
    traps = re.split(r'<a id="([st]\d+)"></a>', WALKTHROUGH.partition("\n## Traps")[2])[1:]
    texts = dict(zip(sections[::2] + traps[::2], sections[1::2] + traps[1::2], strict=True))

    assert len(texts) == 17 + 14
    assert [name for name, text in texts.items() if not list(_commands(text))] == []


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_documents_exist(path: Path) -> None:
    """Every `meshobs ...` in a document is a command, and its flags are flags of that command."""
    for words in _commands(path.read_text()):
        _check_command(words)


def test_documents_show_commands() -> None:
    """The test above has something to look at, and refuses what does not exist."""
    assert len([words for path in WRITTEN for words in _commands(path.read_text())]) > 80
    for wrong in ("lab rise", "report --evil", "lab up --sett x", "report affinity|sql"):
        with pytest.raises(AssertionError):
            _check_command(wrong.split())


def test_links_lead_somewhere() -> None:
    """Every relative link of the documents leads to a file, and to a heading or anchor in it."""
    checked = 0
    for document in DOCUMENTS:
        for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)", document.read_text()):
            path = (document.parent / target).resolve() if target else document
            assert path.exists(), (document, target)
            assert not anchor or anchor in _anchors(path.read_text()), (document, target, anchor)
            checked += 1
    assert checked > 100


def test_documents_name_files_that_exist() -> None:
    """A file or folder that a document names in code is there, by its path or the end of it."""
    paths = _paths()
    folders = {part for path in paths for part in path.split("/")[:-1]}
    named = {
        (document.name, span.rstrip("/"))
        for document in WRITTEN
        for span in re.findall(r"`([a-z0-9_./-]+)`", document.read_text())
        if re.search(r"\w\.(py|md|yaml|proto)$|/$|[/0-9_]\w*\.sql$", span)
        or ("/" in span and span.split("/")[0] in folders)
    }

    assert len(named) > 40
    assert {one for one in named if not _is_end_of(paths, one[1])} == set()


def test_code_names_documents_and_files_that_exist() -> None:
    """A path in a comment, docstring or message is there; so is the section of a document that is cited."""
    paths, checked = _paths(), 0
    for source in _sources():
        for name in re.findall(
            rf"(?<![\w/.-])(?:{'|'.join(ROOMS)})/[a-z0-9_./-]+\.(?:py|sql|md|yaml)\b", source.read_text()
        ):
            assert _is_end_of(paths, name), (source, name)
            checked += 1
        for name, section in re.findall(r'(docs/[a-z/]+\.md),? "([^"]+)"', source.read_text()):
            assert f"## {section}\n" in (ROOT / name).read_text(), (source, name, section)
            checked += 1
    assert checked > 30


def test_internals_name_functions_and_columns_that_exist() -> None:
    """`module.function` is in a module of that name, `table.column` in a table."""
    sources = list(_sources())
    tables = "".join(path.read_text() for path in sources if path.parent.name == "schema")
    spans = re.findall(r"`([a-z_0-9]+)\.([a-z_]+)`", (ROOT / "docs/internals.md").read_text())
    named = {(first, second) for first, second in spans if second not in {"py", "sql"} and first not in _PACKAGES}

    assert len(named) >= 3
    for first, second in named:
        modules = [path.read_text() for path in sources if first in (path.stem, path.parent.name)]
        columns = re.findall(rf"^create table {first} \((.*?)^\);", tables, re.MULTILINE | re.DOTALL)
        found = [text for text in modules if re.search(rf"^(def|class) {second}\b|^{second}\b", text, re.MULTILINE)]
        assert found or re.search(rf'^ +"?{second}"? ', "".join(columns), re.MULTILINE), f"{first}.{second}"


def _paths() -> set[str]:
    """Return every file of the repository, and each module without its ending."""
    files = {
        path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*") if "__pycache__" not in path.parts
    }
    files |= {path.relative_to(ROOT) for path in ROOT.glob("*.*")}
    return (
        {str(path) for path in files}
        | {str(path.with_suffix("")) for path in files if path.suffix == ".py"}
        | set(ROOMS)
    )


def _is_end_of(paths: set[str], name: str) -> bool:
    return any(path == name or path.endswith(f"/{name}") for path in paths)


def _sources() -> Iterator[Path]:
    """Yield the files that people read: code, SQL, experiments, documents; not what is generated or recorded."""
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            if (
                path.suffix in {".py", ".sql", ".toml", ".md"}
                and not {"pb", "data"} & set(path.parts)
                and "tests/recordings" not in path.as_posix()
            ):
                yield path
    yield from ROOT.glob("*.md")


def _commands(text: str) -> Iterator[list[str]]:
    """Yield the words after each `meshobs` in the code of a document; alternatives (`a|b`) are one word."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL) + re.findall(
        r"^ {4}.*", text, re.MULTILINE
    )
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    for line in [line for block in blocks for line in block.splitlines()] + [" ".join(span.split()) for span in spans]:
        for call in re.findall(r"(?:^|[\s(])meshobs (?![ .])([^;&)]*)", line.partition(" #")[0].strip()):
            words = re.sub(r" \| ", "|", re.sub(r'"[^"]*"?', "TEXT", call)).split("  ")[0].split()
            while words and words[0].startswith("-"):
                words = words[2 if words[0] in {"--db", "--config"} else 1 :]
            if words and re.match(r"[a-z]", words[0]):
                yield words


def _check_command(words: Sequence[str]) -> None:
    """Hold the words after `meshobs` against the command line."""
    command: click.Command = cli
    rest = words
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        context = click.Context(command)
        found = [command.get_command(context, name) for name in rest[0].split("|")]
        assert all(found), f"there is no `meshobs {' '.join(words)}`"
        if len(found) > 1 or not found[0]:
            return
        command, rest = found[0], rest[1:]
    flags = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    first = next((one for one in command.params if isinstance(one, click.Argument)), None)
    if first and isinstance(first.type, click.Choice) and rest:
        assert set(rest[0].split("|")) <= {*first.type.choices, first.human_readable_name}, words
    assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= flags | {"--help"}, words


def _anchors(text: str) -> set[str]:
    """Return what a link can lead to in a document: GitHub's names of headings, and anchors."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)"', text))

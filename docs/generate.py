"""Writes docs/reference.md from commands, SQL files and settings; `--check` fails where it is out of date."""

import dataclasses
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from meshobs import settings, sqlfiles
from meshobs.cli.main import cli
from meshobs.store import Store

TARGET = Path(__file__).with_name("reference.md")
_HEAD = """\
# Reference

Made by `make docs`; do not edit. Commands first, then what is in the database, then settings.
"""
_REPORTS = """\
## Reports

Each is a table macro in the database file: `duckdb meshobs.duckdb -c "from report_affinity()"` gives the rows that
`meshobs report affinity --format csv` gives. `meshobs report NAME --format json` gives one object:

```json
{"report": "...", "since": "...", "until": "...", "verdict": "ok | violation | insufficient", "reason": "...",
 "coverage": {"nodes_expected": 0, "nodes_watched": 0, "lost_events": 0, "gaps": 0, "one_sided_share": 0.0,
              "door_unknown_share": 0.0},
 "limits": ["what was not asked for"], "rows": [], "evidence": []}
```

Times are RFC 3339 in UTC with nine digits; a cluster named `""` is outside the mesh; `evidence` is there with
`--evidence`. More keys may come, these stay.
"""
_COLUMNS = """
select table_name, column_name, data_type from duckdb_columns() where not internal order by table_oid, column_index
"""
# A comment block right before something that is created, and its name.
_CREATED = re.compile(
    r"((?:^--.*\n)+)create (?:or replace )?(table|view|macro) (\w+)(\((?:[^()]|\([^()]*\))*\))?", re.MULTILINE
)


@dataclasses.dataclass(frozen=True)
class Item:
    """Something that a SQL file creates.

    Attributes:
        kind: table, view, macro or table macro.
        name: its name.
        parameters: of a macro, as written.
        comment: the text above it.
    """

    kind: str
    name: str
    parameters: str
    comment: str


def main() -> None:
    """Write the reference, or compare it."""
    text = reference()
    if "--check" not in sys.argv:
        TARGET.write_text(text, encoding="utf-8")
    elif not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
        sys.exit("docs/reference.md is out of date: run `make docs` and commit it")


def reference() -> str:
    """Return the whole page."""
    items = list(_items())
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "x.duckdb", write=True) as store:
        parts = [_HEAD, *_commands(), _REPORTS, *_reports(store, items), *_tables(store, items), *_macros(items)]
    return "\n".join([*parts, *_settings()])


def _commands() -> Iterator[str]:
    yield "## Commands\n"
    context = click.Context(cli, info_name="meshobs", max_content_width=100, terminal_width=100)
    yield _block(cli.get_help(context))
    yield from _subcommands(cli, context)


def _subcommands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command:
            inner = click.Context(command, info_name=name, parent=context, max_content_width=100, terminal_width=100)
            yield f"### {inner.command_path}\n"
            yield _block(command.get_help(inner))
            if isinstance(command, click.Group):
                yield from _subcommands(command, inner)


def _items() -> Iterator[Item]:
    for folder in ("queries/schema", *sqlfiles.INSTALLED):
        for name in sqlfiles.names(folder):
            for match in _CREATED.finditer(sqlfiles.read(name)):
                comment, kind, created, parameters = match.groups()
                yield Item(kind, created, " ".join((parameters or "").split()), _plain(comment))


def _reports(store: Store, items: list[Item]) -> Iterator[str]:
    for item in items:
        if item.name.startswith("report_") and item.name != "report_protocol":
            yield from _heading(item)
            yield item.comment + "\n"
            yield _columns(store.rows(f"select column_name, column_type from (describe from {item.name}())"))


def _heading(item: Item) -> Iterator[str]:
    yield f"### {item.name}\n"
    yield f"`{item.name}{item.parameters.replace('( ', '(').replace(' )', ')')}`\n"


def _tables(store: Store, items: list[Item]) -> Iterator[str]:
    yield "## Tables and views\n"
    comments = {item.name: item.comment for item in items}
    meanings = _column_comments()
    by_table: dict[str, list[tuple[str, ...]]] = {}
    for table, column, kind in store.rows(_COLUMNS):
        row = str(column), str(kind).lower(), meanings.get((str(table), str(column)), "")
        by_table.setdefault(str(table), []).append(row)
    for table, listed in by_table.items():
        yield f"### {table}\n"
        if table in comments:
            yield comments[table] + "\n"
        yield _table(("column", "type", "meaning"), listed)


def _column_comments() -> dict[tuple[str, str], str]:
    """Return what stands beside the columns in the schema files, by table and column."""
    found: dict[tuple[str, str], str] = {}
    for name in sqlfiles.names("queries/schema"):
        for table, body in re.findall(
            r"^create table (\w+) \((.*?)^\);", sqlfiles.read(name), re.MULTILINE | re.DOTALL
        ):
            for column, comment in re.findall(r'^ +"?(\w+)"? .*?-- (.+)$', body, re.MULTILINE):
                found[table, column] = comment
    return found


def _macros(items: list[Item]) -> Iterator[str]:
    yield "## Other macros\n"
    for item in items:
        if item.kind == "macro" and not (item.name.startswith("report_") and item.name != "report_protocol"):
            yield from _heading(item)
            yield item.comment + "\n"


def _settings() -> Iterator[str]:
    yield "## meshobs.toml\n"
    yield "Looked for in the current folder, then in the user's configuration folder. Flags and environment win.\n"
    yield _table(
        ("key", "default", "meaning"),
        [
            (field.name, "none" if field.name == "clusters" else repr(field.default), _meanings()[field.name])
            for field in dataclasses.fields(settings.Settings)
        ],
    )
    yield "A table `[clusters.NAME]` names `relay` or `context`, or both; the other keys are flags of `collect`:\n"
    yield _table(("key", "type"), [(key, kind.__name__) for key, kind in settings.CLUSTER_KEYS.items()])


def _meanings() -> dict[str, str]:
    """Return what the docstring of Settings says of each key."""
    found = re.findall(r"^ +(\w+): (.+(?:\n {12}.+)*)", settings.Settings.__doc__ or "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _columns(rows: list[tuple[object, ...]]) -> str:
    return _table(("column", "type"), [(str(name), str(kind).lower()) for name, kind in rows])


def _table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [headings, tuple("---" for _ in headings), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _block(text: str) -> str:
    return f"```\n{text}\n```\n"


def _plain(comment: str) -> str:
    """Return a SQL comment's text; indented lines become code."""
    lines = [line.removeprefix("--").removeprefix(" ") for line in comment.rstrip().splitlines()]
    return "\n".join(f"- {line.strip()}" if line.startswith("  ") else line for line in lines)


if __name__ == "__main__":
    main()

"""Writes docs/reference/ from commands, SQL files and settings; `--check` fails where it is out of date."""

import dataclasses
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click

from meshobs import settings, sqlfiles
from meshobs.cli.main import cli
from meshobs.store import Store

FOLDER = Path(__file__).with_name("reference")
INDEX = "README.md"
# File -> title and what the page holds; the order of the index.
_PAGES = {
    "commands.md": ("Commands", "What `--help` prints."),
    "reports.md": ("Reports", "The questions with a verdict, their columns, and the flows behind them."),
    "causes.md": ("Causes", "What each cause of a verdict means, and what to do."),
    "tables.md": ("Tables", "What the database file holds."),
    "views.md": ("Views", "Made from the tables when they are asked: `from connections limit 5` in any DuckDB shell."),
    "macros.md": ("Macros", "What views and reports are made of; each can be called in any DuckDB shell."),
    "settings.md": ("Settings", "The file `meshobs.toml`."),
}
_GENERATED = "Made by `make docs`; do not edit.\n"
_REPORTS = """\
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
select table_name, column_name, data_type from duckdb_columns()
where not internal and (table_name in (select view_name from duckdb_views())) = $views order by table_oid, column_index
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
    made = pages()
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*")}
    if made == there:
        return
    if "--check" in sys.argv:
        wrong = sorted(name for name in {*made, *there} if made.get(name) != there.get(name))
        sys.exit(f"docs/reference is out of date ({', '.join(wrong)}): run `make docs` and commit it")
    FOLDER.mkdir(exist_ok=True)
    for name in {*made, *there}:
        if name in made:
            (FOLDER / name).write_text(made[name], encoding="utf-8")
        else:
            (FOLDER / name).unlink()


def pages() -> dict[str, str]:
    """Return the text of each file."""
    items = list(_items())
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "x.duckdb", write=True) as store:
        parts = {
            "commands.md": _commands(),
            "reports.md": _reports(store, items),
            "causes.md": causes(store),
            "tables.md": _tables(store, items, views=False),
            "views.md": _tables(store, items, views=True),
            "macros.md": _macros(items),
            "settings.md": _settings(),
        }
        texts = {name: _page(name, parts[name]) for name in _PAGES}
    return {INDEX: _index(texts), **texts}


def _page(name: str, parts: Iterable[str]) -> str:
    title, about = _PAGES[name]
    return "\n".join([f"# {title}\n", f"{about} {_GENERATED}", *parts])


def _index(texts: Mapping[str, str]) -> str:
    """Return the page that leads to each heading of the others."""
    parts = ["# Reference\n", _GENERATED]
    for name, text in texts.items():
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        parts.append(f"## [{_PAGES[name][0]}]({name})\n\n{_PAGES[name][1]}\n")
        if headings:
            parts.append(", ".join(f"[{heading}]({name}#{heading.replace(' ', '-')})" for heading in headings) + "\n")
    return "\n".join(parts)


def _commands() -> Iterator[str]:
    context = click.Context(cli, info_name="meshobs", max_content_width=100, terminal_width=100)
    yield _block(cli.get_help(context))
    yield from _subcommands(cli, context)


def _subcommands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command:
            inner = click.Context(command, info_name=name, parent=context, max_content_width=100, terminal_width=100)
            yield f"## {inner.command_path}\n"
            yield _block(command.get_help(inner))
            if isinstance(command, click.Group):
                yield from _subcommands(command, inner)


def _items() -> Iterator[Item]:
    for name in (*sqlfiles.names("queries/schema"), *sorted(sqlfiles.list_installed())):
        for match in _CREATED.finditer(sqlfiles.read(name)):
            comment, kind, created, parameters = match.groups()
            yield Item(kind, created, " ".join((parameters or "").split()), _plain(comment))


def _reports(store: Store, items: list[Item]) -> Iterator[str]:
    yield _REPORTS
    for item in filter(_of_report, items):
        yield from _heading(item)
        yield item.comment + "\n"
        if item.name.startswith("report_"):
            yield _columns(store.rows(f"select column_name, column_type from (describe from {item.name}())"))


def _of_report(item: Item) -> bool:
    return item.name.startswith(("report_", "evidence_", "causes_")) and item.name != "report_protocol"


def causes(store: Store) -> Iterator[str]:
    """Give the view `causes` as a table for each report."""
    yield (
        "Each row of a report names the `cause` of its verdict, empty where nothing is wrong."
        " The same in any DuckDB shell: `from causes`.\n"
    )
    for (report,) in store.rows("select distinct report from causes order by all"):
        yield f"## report_{report}\n"
        rows = store.rows(
            "select cause, verdict, meaning, cure from causes where report = ? order by cause, verdict", [report]
        )
        cells = [(f"`{cause}`" if cause else "", *map(str, texts)) for cause, *texts in rows]
        yield _table(("cause", "verdict", "meaning", "what to do"), cells)


def _heading(item: Item) -> Iterator[str]:
    yield f"## {item.name}\n"
    yield f"`{item.name}{item.parameters.replace('( ', '(').replace(' )', ')')}`\n"


def _tables(store: Store, items: list[Item], *, views: bool) -> Iterator[str]:
    comments = {item.name: item.comment for item in items}
    meanings = _column_comments()
    by_table: dict[str, list[tuple[str, ...]]] = {}
    for table, column, kind in store.rows(_COLUMNS, {"views": views}):
        row = str(column), str(kind).lower(), meanings.get((str(table), str(column)), "")
        by_table.setdefault(str(table), []).append(row)
    for table, listed in by_table.items():
        yield f"## {table}\n"
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
    for item in items:
        if item.kind == "macro" and not _of_report(item):
            yield from _heading(item)
            yield item.comment + "\n"


def _settings() -> Iterator[str]:
    yield "Looked for in the current folder, then in the user's configuration folder. Flags and environment win.\n"
    yield _table(
        ("key", "default", "meaning"),
        [
            (
                field.name,
                "none" if field.default is dataclasses.MISSING else repr(field.default),
                _meanings()[field.name],
            )
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
    """Return a SQL comment's text; indented lines become a list."""
    lines = [line.removeprefix("--").removeprefix(" ") for line in comment.rstrip().splitlines()]
    listed = "\n".join(f"- {line.strip()}" if line.startswith("  ") else line for line in lines)
    return re.sub(r"^(- .*)\n(?!- )", r"\1\n\n", listed, flags=re.MULTILINE)


if __name__ == "__main__":
    main()

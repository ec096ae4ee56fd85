"""Where things go: data to stdout, talk to stderr; colours and progress only where a person looks."""

import json
import sys
from typing import TYPE_CHECKING

import click

from meshobs.cli.terminal.flags import with_flags
from meshobs.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa
    from click.decorators import FC
    from rich.console import Console
    from rich.table import Table

FORMATS = ("table", "json", "csv", "markdown")
# Of what is about a lab: most answers are no one table.
TABLE_OR_JSON = ("table", "json")
_ENDLESS = 10_000
_COLOURS = {Verdict.OK.value: "green", Verdict.VIOLATION.value: "red", Verdict.INSUFFICIENT.value: "yellow"}


def format_option(default: str = "table", forms: "Sequence[str]" = FORMATS) -> "Callable[[FC], FC]":
    """Return the option that every command with data has."""
    return click.option(
        "--format",
        "-o",
        "form",
        type=click.Choice(forms),
        default=default,
        show_default=True,
        help="How to print the data.",
    )


def say(text: str) -> None:
    """Tell the user something that is no data."""
    click.echo(text, err=True)


def remark(text: str) -> None:
    """Tell the user something that a job says."""
    say(f"meshobs: {with_flags(text)}")


def print_rows(table: "pa.Table", form: str, title: str = "", *, short: bool = False) -> None:
    """Print the rows of a query; for CSV its cells must be texts already. `short` cuts times in a table to seconds."""
    from meshobs.analyzer import render  # noqa: PLC0415 - DuckDB comes with it, and not all commands print rows

    if form == "json":
        click.echo(render.table_json(table))
    elif form == "csv":
        click.echo(render.table_csv(table), nl=False)
    elif form == "markdown":
        click.echo(render.markdown(table.column_names, render.cells(table)), nl=False)
    else:
        right = {field.name for field in table.schema if _is_number(field.type)}
        print_table(table.column_names, render.cells(table, short=short), right, title)


def print_table(headings: list[str], rows: list[list[str]], right: set[str], title: str = "") -> None:
    """Print texts as a table; into a pipe it is as wide as it needs.

    Args:
        headings: of the columns.
        rows: a text for each heading.
        right: headings of the columns that are numbers.
        title: a line above.
    """
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - rich is slow to load
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console() if sys.stdout.isatty() else Console(width=_ENDLESS)
    table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", title_style="", pad_edge=False)
    for name in headings:
        table.add_column(name.replace("_", " "), justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        # Text, not markup: a pod may be called "[red]".
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    for line in _lines(console, table):
        click.echo(line)


def print_texts(headings: "Sequence[str]", rows: "Sequence[Sequence[str]]", form: str) -> None:
    """Print texts as a table or as JSON (TABLE_OR_JSON)."""
    if form == "json":
        click.echo(json.dumps([dict(zip(headings, row, strict=True)) for row in rows]))
    else:
        print_table(list(headings), [list(row) for row in rows], set())


def _is_number(kind: "pa.DataType") -> bool:
    from pyarrow import types  # noqa: PLC0415 - only where a table exists

    return any(is_kind(kind) for is_kind in (types.is_integer, types.is_floating, types.is_decimal))


def _lines(console: "Console", table: "Table") -> list[str]:
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines() if line.strip()]

"""`meshobs sql`: one query on the database, read only."""

import sys

import click

from meshobs.cli.terminal.output import format_option, print_rows
from meshobs.cli.terminal.session import Session, pass_session
from meshobs.errors import InputError


@click.command("sql")
@click.argument("query")
@format_option()
@pass_session
def command(session: Session, query: str, form: str) -> None:
    """Run a query, e.g. "from report_affinity()"; - reads it from standard input.

    The database is opened read only. The tables, views and macros are listed in docs/reference.
    """
    text = sys.stdin.read() if query == "-" else query
    with session.read() as store:
        if not store.is_query(text):
            raise InputError('there is no query: try "from report_affinity()"')
        print_rows(store.table(text) if form != "csv" else store.texts(text), form)

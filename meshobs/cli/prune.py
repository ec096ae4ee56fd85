"""`meshobs prune`: forget old flows."""

import click

from meshobs.cli.terminal.output import say
from meshobs.cli.terminal.session import Session, pass_session
from meshobs.errors import InputError
from meshobs.times import duration


@click.command("prune")
@click.option("--older-than", required=True, help="Age of what to forget: 12h, 7d.")
@pass_session
def command(session: Session, older_than: str) -> None:
    """Delete flows and events older than an age; the history of services and nodes stays as far as it still counts.

    The space is used again by later flows; the file itself does not shrink.
    """
    from meshobs.jobs import maintenance  # noqa: PLC0415 - DuckDB

    age = duration(older_than)
    if age is None:
        raise InputError(f"--older-than {older_than!r} is no age: write it as 12h or 7d")
    flows = maintenance.prune(session.db, age)
    say(f"{session.db}: {flows} flows older than {older_than} deleted")

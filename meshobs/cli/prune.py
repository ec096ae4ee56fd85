"""`meshobs prune`: forget old flows."""

from datetime import UTC, datetime

import click

from meshobs import sqlfiles
from meshobs.cli.output import say
from meshobs.cli.session import Session, pass_session
from meshobs.cli.window import duration
from meshobs.errors import InputError
from meshobs.times import SECOND


@click.command("prune")
@click.option("--older-than", required=True, help="Age of what to forget: 12h, 7d.")
@pass_session
def command(session: Session, older_than: str) -> None:
    """Delete flows and events older than an age; the history of services and nodes stays as far as it still counts.

    The space is used again by later flows; the file itself does not shrink.
    """
    age = duration(older_than)
    if age is None:
        raise InputError(f"--older-than {older_than!r} is no age: write it as 12h or 7d")
    before = int((datetime.now(tz=UTC) - age).timestamp()) * SECOND
    with session.write() as store:
        flows = store.value("select count(*) from flows where time < make_timestamp_ns(?)", [before])
        with store.transaction():
            store.run("set variable prune_before = make_timestamp_ns(?)", [before])
            store.run(sqlfiles.read("jobs/sql/prune.sql"))
        store.run("checkpoint")
    say(f"{session.db}: {flows} flows older than {older_than} deleted")

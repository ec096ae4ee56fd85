"""`meshobs prune`: forget what is old, layer by layer."""

import json
from dataclasses import asdict

import click

from meshobs.cli.terminal.output import TABLE_OR_JSON, format_option, remark, say
from meshobs.cli.terminal.session import Session, pass_session
from meshobs.cli.terminal.step import show_step
from meshobs.errors import InputError
from meshobs.retention import LAYERS, Retention


@click.command("prune")
@click.option("--flows", metavar="AGE", help="Age of flows to delete: 12h, 2d. Reports answer as before.")
@click.option("--events", metavar="AGE", help="Age of events to delete: reports begin there, connections stay.")
@click.option("--connections", metavar="AGE", help="Age of connections to delete, with the history of objects.")
@click.option("--older-than", metavar="AGE", help="The same age for all of them.")
@click.option("--compact/--no-compact", default=True, help="Write a file anew of which a quarter or more is free then.")
@format_option(forms=TABLE_OR_JSON)
@pass_session
def command(session: Session, /, older_than: str | None, compact: bool, form: str, **ages: str | None) -> None:
    """Delete what is older than an age, layer by layer; without one, as [retention] of meshobs.toml says.

    Flows take most of the room, and reports do not need them: evidence names those that are gone by uuid, time and
    node. Events are those that decide, and how many there were: reports rest on them. Connections are what they made
    (`from connections`). The history of services and nodes stays as far as it still counts. Flows that come later and
    are older than those that are kept are left out.
    """
    from meshobs.jobs import maintenance  # noqa: PLC0415 - DuckDB

    given = {layer: age for layer, age in ages.items() if age is not None}
    if older_than is not None:
        if given:
            raise InputError("--older-than is for all layers: leave it out, or the ages of single ones")
        given = dict.fromkeys(LAYERS, older_than)
    retention = Retention.of(given or session.settings.retention)
    if not retention:
        raise InputError("say what to forget: --flows 2d (flows alone), --older-than 30d (all that is older)")
    with show_step() as step:
        done = maintenance.prune(session.db, retention, compact=compact, say=remark, show=step)
    if form == "json":
        click.echo(json.dumps(asdict(done)))
    else:
        say(f"{session.db}: {done}")

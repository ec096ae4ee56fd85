"""`meshobs settle`: makes the connections of flows, so that no report has to."""

import json
from dataclasses import asdict

import click

from meshobs.cli.terminal.output import TABLE_OR_JSON, format_option, say
from meshobs.cli.terminal.session import Session, pass_session
from meshobs.cli.terminal.step import show_step


@click.command("settle")
@format_option(forms=TABLE_OR_JSON)
@pass_session
def command(session: Session, form: str) -> None:
    """Make the connections of all flows that have none yet, and those again for which flows or objects came later.

    `import` and `collect` do it by themselves. A file of an older meshobs, or one whose collection was killed, answers
    as truly without, but each report reads all its flows. What was done is kept when it is stopped halfway.
    """
    from meshobs.jobs import maintenance  # noqa: PLC0415 - DuckDB

    with show_step() as step:
        step("making connections")
        done = maintenance.settle(session.db, lambda so_far: step(f"making connections: {so_far}"))
    if form == "json":
        click.echo(json.dumps(asdict(done)))
    elif done.stretches:
        say(f"{session.db}: {done}")
    else:
        say(f"{session.db}: all was settled")

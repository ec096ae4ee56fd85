"""`meshobs status`: what the database holds."""

import click

from meshobs.analyzer import render
from meshobs.cli.output import format_option, print_frame
from meshobs.cli.session import Session, pass_session

# How many runs are listed, the newest first.
_RUNS = 20


@click.command("status")
@format_option()
@pass_session
def command(session: Session, form: str) -> None:
    """Tell what the database holds: clusters, Relays, nodes, window, flows, loss, size, and the runs that filled it."""
    size = session.db.stat().st_size if session.db.exists() else 0
    with session.read() as store:
        summary = store.frame("select *, $bytes as bytes from status_summary", {"bytes": size})
        relays, nodes = store.frame("from status_relays"), store.frame("from status_nodes")
        runs = store.frame(f"from status_runs limit {_RUNS}")
    if form == "json":
        parts = {name: render.values(frame) for name, frame in (("relays", relays), ("nodes", nodes), ("runs", runs))}
        click.echo(render.json_text({**render.values(summary)[0], **parts}))
        return
    if form == "table":
        (cells,) = render.cells(summary, short=True)
        for name, cell in zip(summary.columns, cells, strict=True):
            click.echo(f"{name.replace('_', ' '):12}{cell}")
        runs = runs.drop("first_flow", "last_flow", "filtered", "asked")
    else:
        print_frame(summary, form)
    if form != "table" or not relays.is_empty():
        print_frame(relays, form, "relays", short=True)
    print_frame(nodes, form, "nodes", short=True)
    print_frame(runs, form, "runs", short=True)

"""`meshobs status`: what the database holds."""

import click

from meshobs.analyzer import render
from meshobs.analyzer.values import values
from meshobs.cli.terminal.output import format_option, print_rows
from meshobs.cli.terminal.session import Session, pass_session

# What is listed, and where; of runs the newest.
_VIEWS = {"relays": "status_relays", "nodes": "status_nodes", "runs": "status_runs limit 20"}


@click.command("status")
@format_option()
@pass_session
def command(session: Session, form: str) -> None:
    """Tell what the database holds: clusters, Relays, nodes, window, flows, loss, size, and the runs that filled it."""
    size = session.db.stat().st_size if session.db.exists() else 0
    with session.read() as store:
        read = store.texts if form == "csv" else store.table
        summary = read("select *, $bytes as bytes from status_summary", {"bytes": size})
        tables = {name: read(f"from {view}") for name, view in _VIEWS.items()}
    if form == "json":
        parts = {name: values(table) for name, table in tables.items()}
        click.echo(render.json_text({**values(summary)[0], **parts}))
        return
    if form == "table":
        (cells,) = render.cells(summary, short=True)
        for name, cell in zip(summary.column_names, cells, strict=True):
            click.echo(f"{name.replace('_', ' '):12}{cell}")
        tables["runs"] = tables["runs"].drop_columns(["first_flow", "last_flow", "filtered", "asked"])
        tables = {name: table for name, table in tables.items() if table.num_rows}
    else:
        print_rows(summary, form)
    for name, table in tables.items():
        click.echo()
        print_rows(table, form, name, short=True)

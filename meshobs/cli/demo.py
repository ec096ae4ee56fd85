"""`meshobs demo`: the walkthrough on the embedded mesh, and what it shows."""

import click

from meshobs.cli import experiment as experiments
from meshobs.cli.terminal.session import Session, pass_session
from meshobs.errors import InputError
from meshobs.jobs import maintenance
from meshobs.lab import state
from meshobs.lab.driver import DRIVERS
from meshobs.lab.experiments.model import load

# What the walkthrough finds, in its order: S8, S10-S14, S16.
_EXPERIMENTS = ("direct", "affinity", "hairpin")
# The phase in which the walkthrough counts pods (S10).
_GLOBAL = "global, no affinity"
_GO_ON = """
The database is {db}. Go on with:
    meshobs --db {db} report affinity --all
    duckdb {db}      from report_nat(whole := true);  from truth limit 5;
    meshobs lab up                the same mesh to play with; then: meshobs collect"""


@click.command("demo")
@click.option(
    "--driver", "driver", type=click.Choice(DRIVERS), default="sim", show_default=True,
    help="What stands the mesh up: real clusters, real Cilium in namespaces, the embedded twin.",
)  # fmt: skip
@pass_session
@click.pass_context
def command(ctx: click.Context, session: Session, driver: str) -> None:
    """Play the walkthrough: the mesh comes up, its phases run, flows of both Relays are collected and judged.

    On the embedded mesh (driver sim) it takes about a minute and needs nothing but this machine; on kind and netns it
    takes longer and needs what `meshobs lab up` needs there. The mesh is taken down again.
    """
    if found := state.read():
        raise InputError(f"a lab is up (driver {found.driver}): meshobs lab down first")
    lines = []
    try:
        for line in experiments.run(session, {}, [load(name) for name in _EXPERIMENTS], skip=False, driver=driver):
            lines.append(line)  # noqa: PERF402 - what is over is shown, also where something fails later
    finally:
        if lines:
            experiments.table(lines)
    with session.read() as store:
        for client, truth, flows in maintenance.pods_called(store, _GLOBAL):
            click.echo(f"  {_GLOBAL}: {client}'s 100 requests over the four pods: {truth}; by the flows: {flows}")
    click.echo(_GO_ON.format(db=session.db))
    if not all(line.agrees for line in lines):
        ctx.exit(1)

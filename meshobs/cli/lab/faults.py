"""`meshobs lab fault`: faults on and off."""

import click

from meshobs.cli.terminal.output import print_table, remark
from meshobs.errors import InputError
from meshobs.jobs import labs
from meshobs.lab import faults, state


@click.command("fault")
@click.argument("name", required=False)
@click.argument("switch", type=click.Choice(["on", "off"]), required=False)
@click.option("--scope", default="", help="The cluster or node; by default all clusters, or a worker of the last one.")
def fault(name: str | None, switch: str | None, scope: str) -> None:
    """Turn a fault on or off; without arguments, list them."""
    if not name:
        rows = [[one.name, one.scope or "mesh", one.does] for one in faults.FAULTS.values()]
        print_table(["fault", "scope", "what it does"], rows, set())
        return
    found = faults.find_fault(name)
    if not switch:
        raise InputError(f"say on or off: meshobs lab fault {name} on")
    labs.attach(state.require_running()).fault(found.name, scope, on=switch == "on")
    remark(f"{found.name} is {switch}{f': {found.does}' if switch == 'on' else ''}")

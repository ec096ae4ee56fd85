"""The options of the driver kind."""

from collections.abc import Mapping
from pathlib import Path

import click

from meshobs.cli.terminal.options import Command

# Names of what `options` adds, as click passes them; keys of table `kind` of a mesh description.
KEYS = ("set", "engine", "node_image", "chart_directory")


def options(function: Command) -> Command:
    """Add the options that say how kind makes a mesh."""
    given = (
        click.option("--engine", type=click.Choice(["docker", "podman"]), help="kind: what runs the nodes."),
        click.option("--node-image", metavar="IMAGE", help="kind: image of all nodes."),
        click.option("--chart-directory", metavar="PATH", help="kind: Cilium's chart, instead of the CLI's own."),
        click.option("--set", multiple=True, metavar="KEY=VALUE", help="kind: more values of Cilium's chart."),
    )  # fmt: skip
    for option in reversed(given):
        function = option(function)
    return function


def table(given: Mapping[str, object]) -> dict[str, object]:
    """Return what `options` read as keys of table `kind`, without what was not given."""
    found = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in given.items()
        if value not in (None, ())
    }
    if "chart_directory" in found:
        found["chart_directory"] = str(Path(str(found["chart_directory"])).absolute())
    return found

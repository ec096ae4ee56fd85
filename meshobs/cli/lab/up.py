"""`meshobs lab up`, `down` and `plan`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from meshobs.cli.lab import kind
from meshobs.cli.terminal.options import Command, gather
from meshobs.cli.terminal.output import TABLE_OR_JSON, format_option, remark
from meshobs.cli.terminal.step import show_step
from meshobs.jobs import labs
from meshobs.jobs.labs import LabOptions
from meshobs.lab import driver, state
from meshobs.lab.mesh import variants, versions


@dataclass(frozen=True)
class MeshOptions:
    """Which mesh: a description and what stands instead of what it says.

    Attributes:
        path: of the description, None for the walkthrough's.
        settings: that were given of it.
        kind: that were given of its table `kind`.
    """

    path: Path | None
    settings: dict[str, object]
    kind: dict[str, object]

    @property
    def content(self) -> dict[str, object]:
        """Return the whole description."""
        return labs.content_of(self.path, self.settings, self.kind)


def mesh_options(function: Command) -> Command:
    """Add the options that say which mesh; the command takes them as `mesh`, beside `name` of the driver."""
    options = (
        click.option("--driver", "name", type=click.Choice(driver.DRIVERS), help="What stands it up."),
        click.option("--config", "path", type=click.Path(path_type=Path), help="A mesh description, see docs/lab.md."),
        click.option("--cilium", metavar="VERSION", help=f"Of all clusters.  [default: {versions.CILIUM}]"),
        click.option("--aggregation", type=click.Choice(["none", "medium"]), help="Hubble's.  [default: none]"),
        click.option("--variant", metavar="NAME|FILE.toml", help="Kind of Cilium, netns.  [default: native]"),
        click.option("--seed", type=int, help="sim: what its chance starts from.  [default: 1]"),
    )  # fmt: skip
    function = gather("mesh", _mesh, ("path", "cilium", "aggregation", "variant", "seed", *kind.KEYS))(function)
    function = kind.options(function)
    for option in reversed(options):
        function = option(function)
    return function


def _mesh(
    path: Path | None,
    cilium: str | None,
    aggregation: str | None,
    variant: str | None,
    seed: int | None,
    **of_kind: object,
) -> MeshOptions:
    settings = {
        "cilium": cilium,
        "aggregation": aggregation,
        "variant": None if variant is None else variants.load(variant),
        "seed": seed,
    }
    return MeshOptions(path, {key: value for key, value in settings.items() if value is not None}, kind.table(of_kind))


@click.command("up")
@mesh_options
@click.option(
    "--traffic", "rate", type=click.FloatRange(0, 200), default=5.0, show_default=True,
    help="Steady background requests a second of every cluster's client to its service; 0 for none.",
)  # fmt: skip
@click.option(
    "--relay-binary", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="sim: a real hubble-relay to run before its nodes.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="kind: go on whatever the first look finds in the way.")
@click.option("--cleanup", is_flag=True, help="kind: leave nothing of an attempt that fails.")
def up(name: str | None, mesh: MeshOptions, rate: float, relay_binary: Path | None, force: bool, cleanup: bool) -> None:
    """Stand the mesh up; it stays until `meshobs lab down`.

    A line for each step; on kind this takes five to ten minutes, and what broke off goes on with the same command.
    """
    options = LabOptions(relay_binary, force, cleanup, mesh.kind)
    with show_step() as show:
        labs.start(name, mesh.content, rate, options, say=remark, show=show)
    remark("the lab is up; go on with: meshobs collect --duration 1m; meshobs report affinity")


@click.command("down")
def down() -> None:
    """Take the lab down and leave nothing behind."""
    found = state.read()
    if not found:
        labs.clear()
        remark("no lab is up")
        return
    labs.stop(found)
    remark("the lab is down")


@click.command("plan")
@mesh_options
@format_option(forms=TABLE_OR_JSON)
def plan(name: str | None, mesh: MeshOptions, form: str) -> None:
    """Print what `up` would do, and do nothing. S numbers: docs/walkthrough.md."""
    chosen, why = driver.choose_driver(name)
    remark(f"driver {chosen}: {why}")
    steps = labs.plan(chosen, mesh.content, LabOptions(kind=mesh.kind))
    if form == "json":
        click.echo(json.dumps([asdict(step) for step in steps]))
        return
    for number, step in enumerate(steps, start=1):
        click.echo(f"{number}. {step.title} ({step.source})")
        for line in step.detail:
            click.echo(f"   {line}")

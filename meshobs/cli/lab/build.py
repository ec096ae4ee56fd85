"""`meshobs lab build`: the real programs that a driver runs, built before the first `up`."""

from collections.abc import Sequence

import click

from meshobs.cli.terminal.output import TABLE_OR_JSON, format_option, print_texts, remark
from meshobs.errors import InputError, MeshobsError
from meshobs.lab import driver
from meshobs.lab.mesh import versions


@click.command("build")
@click.option("--driver", "name", type=click.Choice(driver.DRIVERS), default="netns", show_default=True)
@click.option("--cilium", "wanted", metavar="VERSION", multiple=True, help=f"Repeatable.  [default: {versions.CILIUM}]")
@click.option("--force", is_flag=True, help="Build even where this machine could not run it.")
@format_option(forms=TABLE_OR_JSON)
def build(name: str, wanted: Sequence[str], force: bool, form: str) -> None:
    """Build the real programs of a lab with Go, once for each version, and print where they are.

    They lie in ~/.cache/meshobs, or where MESHOBS_CACHE says. What this machine lacks to run them is told before.
    """
    if name != "netns":
        raise InputError(f"the driver {name} builds nothing: only netns runs programs of its own")
    from meshobs.lab.programs import build as programs  # noqa: PLC0415 - only here
    from meshobs.lab.programs import machine, modules  # noqa: PLC0415

    wanted_modules = [modules.cilium(version) for version in wanted or [versions.CILIUM]]
    lacking = machine.find_lacks()
    for one in lacking:
        remark(f"{one.what}: {one.cure}")
    if lacking and not force:
        raise MeshobsError(
            f"this machine cannot run the driver {name} yet: mend the {len(lacking)} above; --force builds nevertheless"
        )
    needed = {one.path: one for module in wanted_modules for one in modules.of_netns(module.version)}
    programs.build(list(needed.values()), remark)
    rows = [[one.name, one.module.version, str(path)] for path, one in needed.items()]
    rows += [[data, module.version, str(module.folder / data)] for module in wanted_modules for data in module.data]
    print_texts(["name", "version", "path"], rows, form)

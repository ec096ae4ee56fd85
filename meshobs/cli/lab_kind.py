"""What the command line has for the driver kind: its options, its progress, and how its Relays are asked."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from meshobs.lab.kind.driver import KindDriver

# Option -> key in table `kind` of a mesh description.
_KEYS = ("engine", "node_image", "chart_directory", "set")


def options(function: Any) -> Any:  # noqa: ANN401 - click's decorators take any function
    """Add the options that say how kind makes a mesh."""
    given = (
        click.option("--engine", type=click.Choice(["docker", "podman"]), help="kind: what runs the nodes."),
        click.option("--node-image", metavar="IMAGE", help="kind: image of all nodes."),
        click.option("--chart-directory", metavar="PATH", help="kind: Cilium's chart, instead of the CLI's own."),
        click.option("--set", "set_", multiple=True, metavar="KEY=VALUE", help="kind: more values of Cilium's chart."),
    )  # fmt: skip
    for option in reversed(given):
        function = option(function)
    return function


def named(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the flags of what click read that only this driver knows."""
    flags = {"set_": "--set", **{key: f"--{key.replace('_', '-')}" for key in (*_KEYS, "force", "cleanup")}}
    return tuple(flag for key, flag in flags.items() if given.get(key))


def table_of(content: Mapping[str, object], given: dict[str, Any]) -> Mapping[str, object]:
    """Move what `options` read into the description's table `kind`; return the table.

    Args:
        content: the description as the file has it.
        given: what click read; the driver's keys are taken out of it.
    """
    given["set"] = list(given.pop("set_")) or None
    told = {key: value for key in _KEYS if (value := given.pop(key)) is not None}
    if "chart_directory" in told:
        told["chart_directory"] = str(Path(told["chart_directory"]).absolute())
    before = content.get("kind", {})
    return {**(before if isinstance(before, Mapping) else {}), **told}


@contextmanager
def driver(*, force: bool = False, cleanup: bool = False) -> Iterator["KindDriver"]:
    """Give the driver; on a terminal the step under way is shown with its time."""
    from meshobs.lab.kind.driver import KindDriver  # noqa: PLC0415 - only where it is used

    with _showing() as now:
        yield KindDriver(relay_nodes, now, force=force, cleanup=cleanup)


def relay_nodes(kubeconfig: Path, context: str) -> tuple[int, int]:
    """Ask a cluster's Relay, by port-forward, how many nodes it serves and how many it cannot reach.

    Raises:
        MeshobsError: it does not answer.
    """
    from meshobs.collector.follow.clusters import ClusterSpec, OpenClusters  # noqa: PLC0415 - grpc
    from meshobs.errors import MeshobsError  # noqa: PLC0415

    with OpenClusters() as members:
        members.add(ClusterSpec(context=context), kubeconfig=kubeconfig, watch=False, say=lambda _text: None)
        if not members.relays:
            raise MeshobsError("; ".join(members.problems))
        (relay,) = members.relays.values()
        status = relay.status()
        return status.connected or 0, status.unavailable or 0


@contextmanager
def _showing() -> Iterator[Callable[[str], None]]:
    if not sys.stderr.isatty():
        yield lambda _text: None
        return
    from rich.console import Console  # noqa: PLC0415 - rich is slow to load
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    running = False

    def now(text: str) -> None:
        nonlocal running
        for task in progress.task_ids:
            progress.remove_task(task)
        if text:
            progress.add_task(text, total=None)
        if bool(text) != running:
            (progress.start if text else progress.stop)()
            running = bool(text)

    try:
        yield now
    finally:
        now("")

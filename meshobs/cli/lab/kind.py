"""What the command line has for the driver kind: its options and its progress."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshobs.cli.terminal.options import Command

if TYPE_CHECKING:
    from rich.progress import Progress

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


@contextmanager
def show_step() -> Iterator[Callable[[str], None]]:
    """Give what shows the step under way with its time, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _text: None
        return
    shown = _Shown()
    try:
        yield shown
    finally:
        shown("")


class _Shown:
    """Shows one text at a time with a spinner; loads rich for the first."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def __call__(self, text: str) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None
        if text:
            from rich.console import Console  # noqa: PLC0415 - rich is slow to load
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
            self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self._progress.add_task(text, total=None)
            self._progress.start()

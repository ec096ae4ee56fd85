"""`meshobs lab record`: what a lab really shows, with its ground truth, as a folder for tests and for `import`."""

from pathlib import Path

import click

from meshobs.cli.terminal.output import remark
from meshobs.lab import state
from meshobs.lab.experiments import model


@click.command("record")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--experiment", "name", metavar="NAME|FILE.toml",
    help="Whose phases are recorded.  [default: 100 calls of each cluster's client to each of its services, and of each"
    " NodePort from outside]",
)  # fmt: skip
def record(folder: Path, name: str | None) -> None:
    """Record what happens on the lab into a new FOLDER: flows, Kubernetes objects and their changes, the ground truth.

    \b
    meshobs lab record shared-false --experiment mine.toml
    meshobs --db case.duckdb import shared-false
    """  # noqa: D301 - \b is click's
    from meshobs.jobs import recording  # noqa: PLC0415 - grpc and DuckDB

    recording.record(state.require_running(), folder, model.load(name) if name else None, remark)
    remark(f"recorded in {folder}; read it with: meshobs --db case.duckdb import {folder}")

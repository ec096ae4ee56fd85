"""`meshobs export`: the tables as Parquet."""

from pathlib import Path

import click

from meshobs.cli.terminal.output import say
from meshobs.cli.terminal.session import Session, pass_session
from meshobs.errors import InputError


@click.command("export")
@click.option(
    "--parquet",
    "folder",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for TABLE.parquet; made if missing, else empty.",
)
@pass_session
def command(session: Session, folder: Path) -> None:
    """Write each table to a Parquet file that DuckDB, polars, pandas or Spark can read."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not an empty folder: name another one")
    with session.read() as store:
        folder.mkdir(parents=True, exist_ok=True)
        for table, rows in store.copy_tables(folder):
            say(f"{folder / table}.parquet: {rows} rows")

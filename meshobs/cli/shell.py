"""`meshobs shell`: the real DuckDB shell on the database."""

import os
import shutil
import sysconfig
from pathlib import Path

import click

from meshobs import live
from meshobs.catalog import questions
from meshobs.cli.terminal.session import Session, pass_session
from meshobs.errors import MeshobsError


@click.command("shell", context_settings={"ignore_unknown_options": True})
@click.option("--write", is_flag=True, help="Open the database for writing.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@pass_session
def command(session: Session, write: bool, arguments: tuple[str, ...]) -> None:
    """Open the DuckDB shell on the database, read only; ARGUMENTS go to the shell."""
    session.read().close()  # brings the file up to date and says what is wrong with it
    program = duckdb_shell()
    if live.find(session.db):
        if write:
            raise MeshobsError(f"{session.db} is being collected into and can only be read: leave --write out")
        os.execv(program, [program, "-init", str(live.file_of(session.db)), *arguments])  # noqa: S606
    listing = "\n".join(f"{f'from report_{name}();':26}-- {question}" for name, question in questions().items())
    greeting = [f"-cmd=.print {line}" for line in ("reports in this database:", *listing.splitlines())]
    commands = [part for line in greeting for part in line.split("=", 1)]
    mode = [] if write else ["-readonly"]
    os.execv(program, [program, *mode, *commands, *arguments, str(session.db)])  # noqa: S606 - the user's own shell


def duckdb_shell() -> str:
    """Return the shell of the extra `shell`, which has the version of our store, else the one on PATH."""
    beside = Path(sysconfig.get_path("scripts")) / "duckdb"
    program = str(beside) if beside.exists() else shutil.which("duckdb")
    if not program:
        raise MeshobsError("the DuckDB shell is not installed: pip install 'meshobs[shell]'")
    return program

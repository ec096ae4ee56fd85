"""The `meshobs` command. Commands are imported when they are called, so that `--help` stays quick."""

import sys
from importlib import import_module
from pathlib import Path

import click

import meshobs
from meshobs.cli.terminal.flags import with_flags
from meshobs.cli.terminal.session import Session
from meshobs.errors import MeshobsError

# Name -> module of meshobs.cli and the line for --help, which therefore loads none of them.
COMMANDS = {
    "demo": ("demo", "Play the walkthrough on a mesh made for it and print what it shows."),
    "lab": ("lab", "Stand a two-cluster mesh up, play with it, and take it down."),
    "experiment": ("experiment", "Run experiments: promise, what clients saw, what the flows say."),
    "import": ("import_recordings", "Import recordings of flows and Kubernetes objects."),
    "collect": ("collect", "Collect live flows from Hubble Relays."),
    "report": ("report", "Answer a question about the traffic, with a verdict."),
    "sql": ("sql", "Run one query on the database."),
    "shell": ("shell", "Open the DuckDB shell on the database."),
    "status": ("status", "Tell what the database holds."),
    "export": ("export", "Write the tables to Parquet files."),
    "settle": ("settle", "Make the connections of flows once, so that no report has to."),
    "prune": ("prune", "Delete old flows."),
}


class Commands(click.Group):
    """A group that imports a command's module only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands in the order of a day's work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"meshobs.cli.{COMMANDS[cmd_name][0]}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Name the reports, which are looked up only for this."""
        from meshobs import catalog  # noqa: PLC0415

        text, self.help = self.help, (self.help or "").format(reports=", ".join(catalog.names()))
        super().format_help_text(ctx, formatter)
        self.help = text


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--db",
    type=click.Path(path_type=Path),
    envvar="MESHOBS_DB",
    help="The database file.  [env: MESHOBS_DB; default: meshobs.duckdb]",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="MESHOBS_CONFIG",
    help="The configuration file.  [env: MESHOBS_CONFIG; default: ./meshobs.toml, else the user's]",
)
@click.version_option(meshobs.__version__, message="meshobs %(version)s")
@click.pass_context
def cli(ctx: click.Context, db: Path | None, config: Path | None) -> None:
    """Show and prove where traffic goes in a Cilium Cluster Mesh.

    \b
    meshobs collect --relay ...      live flows of Hubble Relays -> one DuckDB file
    meshobs import RECORDING...      recordings of flows and objects -> one DuckDB file
    meshobs report affinity          local : remote per service and setting, with a verdict
    meshobs report ...               {reports}
    duckdb meshobs.duckdb            the same: from report_affinity()
    """  # noqa: D301 - \b is click's
    ctx.obj = Session(db, config)


def main() -> None:
    """Run the command line; what a user can mend is one line on stderr and exit code 2."""
    try:
        # What a command leaves with (`ctx.exit`) comes back as its result.
        sys.exit(cli.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        # click raises its own from the interruption; who has something to say of it has noted that there.
        said = getattr(error.__cause__ or error, "__notes__", ())
        click.echo("; ".join(("meshobs: stopped", *said)), err=True)
        sys.exit(130)
    except MeshobsError as error:
        click.echo(f"meshobs: {with_flags(str(error))}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()  # the reader is gone; nobody wants to hear of it
        sys.exit(141)

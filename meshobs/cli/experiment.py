"""`meshobs experiment`: what a setting promises, what clients saw, what the flows say."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from meshobs.analyzer import render
from meshobs.cli.terminal.interruption import stop_on_interrupt
from meshobs.cli.terminal.output import TABLE_OR_JSON, format_option, print_table, print_texts, remark, say
from meshobs.cli.terminal.session import Session, pass_session
from meshobs.errors import InputError
from meshobs.lab.experiments import model as experiments

if TYPE_CHECKING:
    from meshobs.lab.experiments.findings import Finding
    from meshobs.lab.experiments.model import Experiment

_HEADINGS = ("phase", "who", "promise", "clients saw", "flows say (95 %)", "verdict", "as expected")


@click.command("experiment")
@click.argument("names", nargs=-1, metavar="NAME...|all")
@click.option("--reasons", is_flag=True, help="Also why each verdict is what it is.")
@click.option("--accelerated", is_flag=True, help="Skip time: no Relay, the mesh's recording is imported.")
@click.option("--seed", type=int, default=1, show_default=True, help="What chance starts from, with --accelerated.")
@format_option(forms=TABLE_OR_JSON)
@pass_session
@click.pass_context
def command(
    ctx: click.Context, session: Session, names: Sequence[str], reasons: bool, accelerated: bool, seed: int, form: str
) -> None:
    """Run experiments on the lab, collect what happens, and hold the reports against what the clients saw.

    NAME is one of those that are listed without it, or a file of your own (docs/lab.md). Where no lab is up, one is
    stood up for them and taken down again. S numbers: docs/walkthrough.md. Exit code 1: a report did not say what was
    expected.
    """
    if not names:
        rows = [[one.name, one.source, one.question] for one in map(experiments.load, experiments.names())]
        print_texts(["experiment", "walkthrough", "question"], rows, form)
        return
    from meshobs.jobs import experiments as jobs  # noqa: PLC0415 - grpc and DuckDB

    chosen = [experiments.load(name) for name in (experiments.names() if "all" in names else names)]
    found: list[Finding] = []
    try:
        for needs, group in jobs.groups(chosen):
            if accelerated:
                content = {**needs, "seed": seed}
                lines = jobs.run_accelerated(session.db, content, group, skip="all" in names, say=remark, tell=tell)
            else:
                lines = run(session, needs, group, skip="all" in names)
            for line in lines:
                found.append(line)  # noqa: PERF402 - what is over is shown, also where something fails later
    finally:
        if found and form == "json":
            click.echo(render.json_text([asdict(line) for line in found]))
        else:
            show(found, reasons=reasons)
    if not found:
        raise InputError("nothing could run: what is left out is said above")
    if not all(line.agrees for line in found):
        ctx.exit(1)


def run(
    session: Session, needs: Mapping[str, str], group: Sequence["Experiment"], *, skip: bool, driver: str = "sim"
) -> Iterator["Finding"]:
    """Run experiments with the same needs in real time; Ctrl-C ends them in order."""
    from meshobs.jobs import experiments as jobs  # noqa: PLC0415 - grpc and DuckDB

    return jobs.run(
        session.db, needs, group, skip=skip, say=remark, tell=tell, running=stop_on_interrupt, driver=driver
    )


def tell(text: str) -> None:
    """Tell of progress."""
    say(f"  {text}")


def show(found: Sequence["Finding"], *, reasons: bool = False) -> None:
    """Print the lines of experiments, a table for each."""
    for name in dict.fromkeys(line.experiment for line in found):
        about = experiments.load(name) if name in experiments.names() else None
        click.echo(f"{name}: {about.question}{f' ({about.source})' if about.source else ''}" if about else name)
        table([line for line in found if line.experiment == name], reasons=reasons)


def table(lines: Sequence["Finding"], *, reasons: bool = False) -> None:
    """Print lines as one table; a phase is named in its first line only."""
    phases = [line.phase for line in lines]
    names = [one if one not in phases[:index] else "" for index, one in enumerate(phases)]
    print_table(list(_HEADINGS), [_cells(*pair) for pair in zip(names, lines, strict=True)], set())
    for line in lines:
        if line.reason and (reasons or not line.agrees):
            click.echo(f"  {line.phase}, {line.who}: {line.reason}")


def _cells(phase: str, line: "Finding") -> list[str]:
    flows = f"{line.flows} ({line.interval})" if line.interval else line.flows
    mark = "yes" if line.agrees else f"no: {line.expected.value}"
    return [phase, line.who, line.promise, line.clients, flows, line.verdict.value, mark]

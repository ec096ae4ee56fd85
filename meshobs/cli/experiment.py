"""`meshobs experiment`: what a setting promises, what clients saw, what the flows say."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from meshobs.analyzer import render
from meshobs.cli import lab as labs
from meshobs.cli.output import format_option, print_table, say
from meshobs.cli.session import Session, pass_session
from meshobs.errors import InputError
from meshobs.lab import experiment as experiments
from meshobs.lab import faults, state

if TYPE_CHECKING:
    from meshobs.lab.driver import LabState
    from meshobs.lab.experiment import Experiment
    from meshobs.lab.findings import Finding

_HEADINGS = ("phase", "who", "promise", "clients saw", "flows say (95 %)", "verdict", "as expected")


@click.command("experiment")
@click.argument("names", nargs=-1, metavar="NAME...|all")
@click.option("--reasons", is_flag=True, help="Also why each verdict is what it is.")
@click.option("--accelerated", is_flag=True, help="Skip time: no Relay, the mesh's recording is imported.")
@click.option("--seed", type=int, default=1, show_default=True, help="What chance starts from, with --accelerated.")
@format_option()
@pass_session
@click.pass_context
def command(
    ctx: click.Context, session: Session, names: Sequence[str], reasons: bool, accelerated: bool, seed: int, form: str
) -> None:
    """Run experiments on the lab, collect what happens, and hold the reports against what the clients saw.

    NAME is one of those that are listed without it, or a file of your own (docs/lab.md). Where no lab is up, one is
    stood up for them and taken down again. Exit code 1: a report did not say what was expected.
    """
    if not names:
        rows = [[one.name, one.source, one.question] for one in map(experiments.load, experiments.names())]
        print_table(["experiment", "walkthrough", "question"], rows, set())
        return
    chosen = [experiments.load(name) for name in (experiments.names() if "all" in names else names)]
    found: list[Finding] = []
    try:
        for needs, group in _groups(chosen):
            if accelerated:
                some = _accelerated(session, {**needs, "seed": seed}, _unserved(group) if "all" in names else group)
            else:
                some = run(session, needs, group, skip="all" in names)
            for line in some:
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
    """Run experiments with the same needs on the lab that is up, else on one for them.

    Args:
        session: whose database.
        needs: settings of the clusters.
        group: the experiments.
        skip: leave out those that do not fit the lab that is up, and say so.
        driver: of the lab for them.
    """
    from meshobs.cli.proving import open_lab, prove  # noqa: PLC0415 - grpc and DuckDB

    with _lab(needs, driver) as found:
        lab = labs.attach(found)
        if skip and (lacking := [f"{key} {value}" for key, value in needs.items() if not lab.mesh.has(key, value)]):
            say(f"meshobs: left out: {', '.join(one.name for one in group)} (needs {', '.join(lacking)})")
            return
        with open_lab(found) as members, session.write() as store:
            yield from prove(store, lab, members, group, lambda text: say(f"  {text}"))


def _unserved(group: Sequence["Experiment"]) -> list["Experiment"]:
    """Return experiments whose faults need no servers; the others are said to be left out."""
    fit = [one for one in group if not any(faults.named(name).served for name in one.faults)]
    if left := [one.name for one in group if one not in fit]:
        say(f"meshobs: left out: {', '.join(left)} (needs real time)")
    return fit


def _accelerated(session: Session, content: Mapping[str, object], group: Sequence["Experiment"]) -> Iterator["Finding"]:
    from meshobs.cli.proving import prove_accelerated  # noqa: PLC0415 - DuckDB
    from meshobs.lab.meshfile import mesh_of  # noqa: PLC0415

    with session.write() as store:
        yield from prove_accelerated(store, mesh_of(content), group, lambda text: say(f"  {text}"))


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
    mark = "yes" if line.agrees else f"no: {line.expected}"
    return [phase, line.who, line.promise, line.clients, flows, line.verdict, mark]


@contextmanager
def _lab(needs: Mapping[str, str], driver: str) -> Iterator["LabState"]:
    """Give the lab that is up, else one that is taken down afterwards."""
    up = state.read()
    if up and up.whole and labs.attach(up).alive:
        yield up
        return
    made = labs.start(driver, labs.content_of(None, needs), 0, labs.Manner(cleanup=driver == "kind"))
    try:
        yield made
    finally:
        labs.stop(made)


def _groups(chosen: Sequence["Experiment"]) -> list[tuple[Mapping[str, str], list["Experiment"]]]:
    """Return experiments by what they need, those that need nothing first."""
    groups: dict[tuple[tuple[str, str], ...], list[Experiment]] = {}
    for one in chosen:
        groups.setdefault(tuple(sorted(one.needs.items())), []).append(one)
    return [(dict(key), groups[key]) for key in sorted(groups)]

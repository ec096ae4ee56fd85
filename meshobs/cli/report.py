"""`meshobs report`: an answer with its verdict, from the macros in the database."""

from dataclasses import replace

import click

from meshobs import catalog
from meshobs.analyzer import Question, Report, evidence, render, run, texts
from meshobs.cli.terminal.options import Command, gather
from meshobs.cli.terminal.output import format_option, print_rows, print_table
from meshobs.cli.terminal.session import Session, pass_session
from meshobs.cli.terminal.window import window_options
from meshobs.verdict import Verdict

# The worst first. Every report is ok or worse.
_FLAGGED = [verdict.value for verdict in reversed(Verdict) if verdict is not Verdict.OK]


_QUESTIONS = "\n".join(f"{name:<10} {question}" for name, question in catalog.questions().items())
_HELP = f"""Answer a question about the traffic, with a verdict: ok, violation or insufficient.

\b
{_QUESTIONS}

Without a window it is about the last import or collection.
"""


def question_options(function: Command) -> Command:
    """Add the options that say what a report is about; the command takes them as `question`."""
    function = gather("question", Question, ("since", "until", "whole", "namespace", "service"))(function)
    function = click.option("--service", help="Only this service.")(function)
    function = click.option("--namespace", "-n", help="Only services of this namespace.")(function)
    return window_options(function)


@click.command("report", help=_HELP)
@click.argument("name", metavar="REPORT", type=click.Choice(catalog.names()))
@question_options
@click.option("--evidence", "with_evidence", is_flag=True, help="List the flows behind the verdict.")
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many flows of evidence."
)
@click.option(
    "--max-unproved",
    type=click.FloatRange(0, 1, max_open=True),
    help="Share of lost or one-sided events above which a verdict is insufficient.  [default: 0.01]",
)
@click.option("--fail-on", type=click.Choice(_FLAGGED), help="Exit with 1 at this verdict or a worse one.")
@format_option()
@pass_session
@click.pass_context
def command(
    ctx: click.Context,
    session: Session,
    name: str,
    question: Question,
    with_evidence: bool,
    limit: int,
    max_unproved: float | None,
    fail_on: str | None,
    form: str,
) -> None:
    """Answer one report's question and print it."""
    share = session.settings.max_unproved if max_unproved is None else max_unproved
    question = replace(question, max_unproved=share)
    with session.read() as store:
        report = run(store, name, question)
        flows = evidence(store, name, question, limit, as_texts=form == "csv") if with_evidence else None
        if form == "json":
            click.echo(render.report_json(report, flows))
        elif form == "csv":
            print_rows(texts(store, name, question) if flows is None else flows, form)
        else:
            _print(report, form)
            if flows is not None:
                print_rows(flows, form)
    if fail_on and report.verdict.at_least(Verdict(fail_on)):
        ctx.exit(1)


def _print(report: Report, form: str) -> None:
    headings, rows, numbers = render.table(report)
    for line in render.headline(report):
        click.echo(line)
    if form == "markdown":
        click.echo("\n" + render.markdown(headings, rows))
    elif rows:
        print_table(headings, rows, numbers)
    for line in render.reasons(report):
        click.echo(f"- {line}" if form == "markdown" else f"  {line}")

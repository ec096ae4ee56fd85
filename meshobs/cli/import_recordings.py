"""`meshobs import`: recordings -> the database."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshobs.cli.terminal.flags import with_flags
from meshobs.cli.terminal.output import say
from meshobs.cli.terminal.session import Session, pass_session
from meshobs.cli.terminal.step import show_step
from meshobs.errors import InputError
from meshobs.text import printable
from meshobs.times import rfc3339

if TYPE_CHECKING:
    from meshobs.collector.importer import Progress, Result
    from meshobs.collector.recordings.files import RecordingFile


@click.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--cluster", help="Cluster of nodes and objects that do not name one.")
@click.option("--strict", is_flag=True, help="Stop at the first message that cannot be read.")
@pass_session
def command(session: Session, paths: tuple[Path, ...], cluster: str | None, strict: bool) -> None:
    """Import recordings of Hubble and of Kubernetes objects.

    PATHS are files, folders (with all folders in them), zip or tar archives, or - for standard input. A file is known
    by its content: JSON of `hubble observe -o jsonpb` or of Hubble's exporter, in lines, pretty-printed or in arrays;
    raw captures (4-byte length + protobuf); Kubernetes objects and watch logs in JSON or YAML; a Relay's status. Plain,
    .gz or .zst; UTF-8 or UTF-16. A folder or zip of `cilium sysdump` is read as it is.

    Messages may be wrapped as container runtimes, log shippers and log stores do: CRI, Docker, kubectl logs,
    fluent-bit, Vector, Loki, Elasticsearch, Splunk, Azure Log Analytics, logfmt and others. Which it was is said for
    each file.

    Whose objects a file holds is said by its name, by cilium-config, by its nodes, or by --cluster:

    \b
    k8s-CLUSTER.json                         kubectl get svc,endpointslices,nodes,ciliumnodes -A -o json
    watch-CLUSTER-KIND.jsonl                 watch events, each with the time it was received
    relay-NAME.json                          ServerStatus and GetNodes, or hubble list nodes -o json

    What is not read is named with the reason; a file that cannot be read stops nothing. Exit code 2: nothing was found.
    An event that is there already is not stored again: importing twice changes nothing.
    """  # noqa: D301
    from meshobs.jobs.importing import import_recordings  # noqa: PLC0415 - DuckDB and protobuf

    with show_step() as step:
        result = import_recordings(
            session.db,
            *paths,
            cluster=cluster or session.settings.cluster,
            strict=strict,
            arguments=sys.argv[1:],
            showing=_show_progress,
            show_settled=lambda done: step(f"making connections: {done}"),
        )
    _tell_summary(session.db, result)
    if not result.found:
        raise InputError("nothing was found: neither flows nor objects (each file is named above with the reason)")


def _tell_summary(db: Path, result: "Result") -> None:
    for note in result.notes:
        say(printable(with_flags(note)))
    for entry in result.ledger.entries:
        counts = entry.counts
        say(
            f"{printable(entry.name)}: {counts.received} received = {counts.stored} stored"
            f" + {counts.duplicate} duplicate + {counts.filtered} filtered + {counts.undecodable} undecodable"
            f"{f'; {counts.foreign} lines of something else' if counts.foreign else ''}"
        )
    for problem in result.ledger.total.problems:
        say(f"  {printable(with_flags(problem))}")
    span = result.ledger.span
    window = f"; flows from {rfc3339(span.first)} to {rfc3339(span.last)}" if span else ""
    say(f"{db}: run {result.ledger.number}, {result.objects} states of Kubernetes objects{window}")


@contextmanager
def _show_progress(sources: "Sequence[RecordingFile]") -> "Iterator[Progress]":
    """Show a bar over all bytes on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _source, _size: None
        return
    from rich.console import Console  # noqa: PLC0415 - rich is slow to load
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("importing", total=sum(source.size for source in sources) or None)
        yield lambda source, size: bar.update(task, advance=size, description=printable(source.name))

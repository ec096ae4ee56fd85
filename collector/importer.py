"""`meshobs import`: recordings -> the database, each message in exactly one counter, and a row in `collections`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from meshobs.collector import messages, notes, topology
from meshobs.collector.kube import Json, parsed
from meshobs.collector.ledger import Entry, Ledger, State
from meshobs.collector.sources import Kind, Source, document, find
from meshobs.collector.topology import Sighting, Span
from meshobs.collector.writer import Writer
from meshobs.errors import InputError
from meshobs.store import Store

# Told of each source: its name, the bytes read since the last call, all its bytes.
Progress = Callable[[Source, int], None]


@dataclass(frozen=True)
class Options:
    """How to import.

    Attributes:
        cluster: cluster of nodes and objects that name none themselves.
        strict: stop at the first message that cannot be read.
        arguments: the command line, for the record.
    """

    cluster: str = ""
    strict: bool = False
    arguments: Sequence[str] = ()


@dataclass(frozen=True)
class Result:
    """What an import did.

    Attributes:
        ledger: counts by source.
        objects: states of Kubernetes objects that were understood.
    """

    ledger: Ledger
    objects: int


def plan(paths: Sequence[Path]) -> list[list[Source]]:
    """Return the recordings at the paths: the files that are named are one, each folder is one.

    Raises:
        InputError: a path holds no recording.
    """
    files: list[Source] = []
    folders: list[list[Source]] = []
    for path in paths:
        if path.is_dir():
            folders.extend(find(path))
        else:
            files.extend(source for recording in find(path) for source in recording)
    return [files, *folders] if files else folders


def run(store: Store, recordings: Sequence[Sequence[Source]], options: Options, progress: Progress) -> Result:
    """Import recordings.

    Args:
        store: opened for writing.
        recordings: from `plan`.
        options: how.
        progress: called with a source and the number of its bytes that were just read.

    Raises:
        InputError: with `strict`, a message cannot be read; without, a Kubernetes file is damaged.
    """
    ledger = Ledger(store, "import", options.arguments)
    state, objects = State.FAILED, 0
    writer = Writer(store, ledger, options.cluster)
    try:
        for recording in recordings:
            span = _flows(writer, ledger, recording, options, progress)
            objects += _topology(store, recording, options, span, progress)
        with store.transaction():
            notes.remake_history(store)
        state = State.COMPLETE
    except KeyboardInterrupt:
        state = State.INTERRUPTED
        raise
    finally:
        writer.rollback()  # what an error or a Ctrl-C left half-done
        ledger.save(state)
    return Result(ledger, objects)


def _flows(
    writer: Writer, ledger: Ledger, recording: Sequence[Source], options: Options, progress: Progress
) -> Span | None:
    entries = []
    for source in recording:
        if source.kind in (Kind.CAPTURE, Kind.LINES, Kind.UNREADABLE):
            entry = ledger.open(source.name, source.stem, source.kind.value)
            entries.append(entry)
            _read(writer, entry, source, progress, strict=options.strict)
    return Span.around(entry.span for entry in entries)


def _read(writer: Writer, entry: Entry, source: Source, progress: Progress, *, strict: bool) -> None:
    if source.kind is Kind.UNREADABLE:
        entry.counts.broken(source.name, source.problem)
        return
    writer.begin()
    with source.open(partial(progress, source)) as stream:
        raw = source.kind is Kind.CAPTURE
        for batch in messages.messages(stream) if raw else messages.lines(stream):
            if raw:
                writer.write_messages(batch, entry)
            else:
                writer.write_lines(batch, entry)
            if strict and entry.counts.undecodable:
                writer.commit()
                raise InputError(f"{entry.counts.problems[0]} (stopped here because of `strict`)")
    writer.commit()


def _topology(
    store: Store, recording: Sequence[Source], options: Options, span: Span | None, progress: Progress
) -> int:
    watched: list[Sighting] = []
    snapped: list[Sighting] = []
    for source in recording:
        told = partial(progress, source)
        if source.kind is Kind.WATCH_LOG:
            watched.extend(topology.watched(_events(source, told), _cluster(source, options)))
        elif source.kind is Kind.OBJECTS:
            snapped.extend(topology.snapshot(document(source, told), _cluster(source, options), span))
        elif source.kind is Kind.RELAY_STATUS:
            nodes = topology.relay_nodes(document(source, told), span)
            notes.add_relay_nodes(store, source.stem, nodes, options.cluster)
    # What was watched needs no snapshot, which knows the end only.
    seen = {sighting.object for sighting in watched}
    sightings = watched + [sighting for sighting in snapped if sighting.object not in seen]
    notes.add_sightings(store, sightings)
    return len(sightings)


def _events(source: Source, told: Callable[[int], None]) -> Iterator[Json]:
    with source.open(told) as stream:
        for batch in messages.lines(stream):
            yield from (parsed(item) for item in batch.items)


def _cluster(source: Source, options: Options) -> str:
    cluster = topology.cluster_of(source.stem) or options.cluster
    if not cluster:
        raise InputError(
            f"{source.name} does not say whose objects it holds: name it k8s-CLUSTER.json, or pass `cluster`"
        )
    return cluster

"""`meshobs import`: recordings -> the database, each message in exactly one counter, and a row in `collections`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from meshobs.collector.kube.document import Json, parse
from meshobs.collector.kube.sighting import Sighting
from meshobs.collector.recordings import framing, objects
from meshobs.collector.recordings.files import FileKind, RecordingFile, document, find
from meshobs.collector.span import Span
from meshobs.collector.write import facts
from meshobs.collector.write.ledger import Ledger, LedgerEntry, RunState
from meshobs.collector.write.writer import FlowWriter
from meshobs.errors import InputError
from meshobs.store import Store

# Told of each source: its name, the bytes read since the last call, all its bytes.
Progress = Callable[[RecordingFile, int], None]


@dataclass(frozen=True)
class ImportOptions:
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


def plan(paths: Sequence[Path]) -> list[list[RecordingFile]]:
    """Return the recordings at the paths: the files that are named are one, each folder is one.

    Raises:
        InputError: a path holds no recording.
    """
    files: list[RecordingFile] = []
    folders: list[list[RecordingFile]] = []
    for path in paths:
        if path.is_dir():
            folders.extend(find(path))
        else:
            files.extend(source for recording in find(path) for source in recording)
    return [files, *folders] if files else folders


def run(
    store: Store, recordings: Sequence[Sequence[RecordingFile]], options: ImportOptions, progress: Progress
) -> Result:
    """Import recordings.

    Args:
        store: opened for writing.
        recordings: from `plan`.
        options: how.
        progress: called with a source and the number of its bytes that were just read.

    Raises:
        InputError: with `strict`, a message cannot be read; without, a Kubernetes file is damaged.
    """
    ledger = Ledger(store, "import", options.arguments).begin()
    state, found = RunState.FAILED, 0
    writer = FlowWriter(store, ledger, options.cluster).prepare()
    try:
        for recording in recordings:
            span = _flows(writer, ledger, recording, options, progress)
            found += _store_objects(store, recording, options, span, progress)
        with store.transaction():
            facts.remake_history(store)
        state = RunState.COMPLETE
    except KeyboardInterrupt:
        state = RunState.INTERRUPTED
        raise
    finally:
        writer.rollback()  # what an error or a Ctrl-C left half-done
        ledger.save(state)
    return Result(ledger, found)


def _flows(
    writer: FlowWriter, ledger: Ledger, recording: Sequence[RecordingFile], options: ImportOptions, progress: Progress
) -> Span | None:
    entries = []
    for source in recording:
        if source.kind in (FileKind.CAPTURE, FileKind.LINES, FileKind.UNREADABLE):
            entry = ledger.open(source.name, source.stem, source.kind.value)
            entries.append(entry)
            _read(writer, entry, source, progress, strict=options.strict)
    return Span.around(entry.span for entry in entries)


def _read(writer: FlowWriter, entry: LedgerEntry, source: RecordingFile, progress: Progress, *, strict: bool) -> None:
    if source.kind is FileKind.UNREADABLE:
        entry.counts.add_broken(source.name, source.problem)
        return
    writer.start_source()
    with source.open(partial(progress, source)) as stream:
        raw = source.kind is FileKind.CAPTURE
        for batch in framing.messages(stream) if raw else framing.lines(stream):
            if raw:
                writer.write_messages(batch, entry)
            else:
                writer.write_lines(batch, entry)
            if strict and entry.counts.undecodable:
                writer.commit()
                raise InputError(f"{entry.counts.problems[0]} (stopped here because of `strict`)")
    writer.commit()


def _store_objects(
    store: Store, recording: Sequence[RecordingFile], options: ImportOptions, span: Span | None, progress: Progress
) -> int:
    watched: list[Sighting] = []
    snapped: list[Sighting] = []
    for source in recording:
        on_bytes = partial(progress, source)
        if source.kind is FileKind.WATCH_LOG:
            watched.extend(objects.read_watch_log(_events(source, on_bytes), _cluster(source, options)))
        elif source.kind is FileKind.OBJECTS:
            snapped.extend(objects.read_objects(document(source, on_bytes), _cluster(source, options), span))
        elif source.kind is FileKind.RELAY_STATUS:
            nodes = objects.read_relay_nodes(document(source, on_bytes), span)
            facts.add_relay_nodes(store, source.stem, nodes, options.cluster)
    # What was watched needs no snapshot, which knows the end only.
    seen = {sighting.object for sighting in watched}
    sightings = watched + [sighting for sighting in snapped if sighting.object not in seen]
    facts.add_sightings(store, sightings)
    return len(sightings)


def _events(source: RecordingFile, progress: Callable[[int], None]) -> Iterator[Json]:
    with source.open(progress) as stream:
        for batch in framing.lines(stream):
            yield from (parse(item) for item in batch.items)


def _cluster(source: RecordingFile, options: ImportOptions) -> str:
    cluster = objects.cluster_of(source.stem) or options.cluster
    if not cluster:
        raise InputError(
            f"{source.name} does not say whose objects it holds: name it k8s-CLUSTER.json, or pass `cluster`"
        )
    return cluster

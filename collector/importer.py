"""`meshobs import`: recordings -> the database, each message in exactly one counter, and a row in `collections`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from meshobs.collector.hubble.answers import RelayNode
from meshobs.collector.kube.document import Json
from meshobs.collector.recordings import objects
from meshobs.collector.recordings.files import RecordingFile, find, merge
from meshobs.collector.recordings.objects import ObjectReading
from meshobs.collector.recordings.owners import Owners
from meshobs.collector.recordings.recognise import FileKind
from meshobs.collector.recordings.streams import BROKEN
from meshobs.collector.span import Span
from meshobs.collector.write import facts, settle
from meshobs.collector.write.ledger import Ledger, LedgerEntry, RunState
from meshobs.collector.write.writer import FlowWriter
from meshobs.errors import InputError
from meshobs.retention import Keep
from meshobs.store import Store

# So many files that are not read are named with a line of their own.
_LEFT_OUT_NAMED = 10
# Told of each source: its name, the bytes read since the last call, all its bytes.
Progress = Callable[[RecordingFile, int], None]


@dataclass(frozen=True)
class ImportOptions:
    """How to import.

    Attributes:
        cluster: cluster of nodes and objects that name none themselves.
        strict: stop at the first message that cannot be read.
        arguments: the command line, for the record.
        keep: which flows are stored.
    """

    cluster: str = ""
    strict: bool = False
    arguments: Sequence[str] = ()
    keep: Keep = Keep.FLOWS


@dataclass(frozen=True)
class Result:
    """What an import did.

    Attributes:
        ledger: counts by source.
        objects: states of Kubernetes objects that were understood.
        notes: what else there is to tell: how files were read, and which were not, each with the reason.
        found: whether anything was there that could be read.
    """

    ledger: Ledger
    objects: int
    notes: Sequence[str] = ()
    found: bool = True


def plan(paths: Sequence[Path]) -> list[list[RecordingFile]]:
    """Return the recordings at the paths: the files that are named are one; folders and archives are others.

    Raises:
        InputError: a path does not exist, or none of them holds a recording.
    """
    files: list[RecordingFile] = []
    others: list[list[RecordingFile]] = []
    problems: list[RecordingFile] = []
    for path in paths:
        try:
            found = find(path)
        except InputError as error:
            if len(paths) == 1 or not path.exists():
                raise
            problems.append(RecordingFile(path, FileKind.UNREADABLE, 0, problem=str(error)))
            continue
        if path.is_dir() or len(found) > 1 or found[0][0].unpacked:
            others.extend(found)
        else:
            files.extend(source for recording in found for source in recording)
    if not files and not others:
        raise InputError("; ".join(problem.problem for problem in problems))
    recordings = merge([files, *others]) if files else merge(others)
    recordings[0].extend(problems)
    return recordings


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
        InputError: with `strict`, something cannot be read.
    """
    return _Import(store, options, progress).run(recordings)


class _Import:
    """One run of `meshobs import`."""

    def __init__(self, store: Store, options: ImportOptions, progress: Progress) -> None:
        self._store = store
        self._options = options
        self._progress = progress
        self._ledger = Ledger(store, "import", options.arguments, options.keep)
        self._writer = FlowWriter(store, self._ledger, options.cluster)
        self._notes: list[str] = []
        self._facts = 0

    def run(self, recordings: Sequence[Sequence[RecordingFile]]) -> Result:
        """Import recordings; see the function `run`."""
        self._ledger.begin()
        self._writer.prepare()
        state, objects_found = RunState.FAILED, 0
        try:
            for recording in recordings:
                span = self._flows(recording)
                objects_found += self._objects(recording, span)
                self._name_left_out(recording)
            with self._store.transaction():
                facts.remake_history(self._store)
                settle.forget_changed(self._store)
            state = RunState.COMPLETE
        except KeyboardInterrupt:
            state = RunState.INTERRUPTED
            raise
        finally:
            self._writer.rollback()  # what an error or a Ctrl-C left half-done
            self._ledger.save(state)
        if note := self._writer.left_out():
            self._notes.append(note)
        total = self._ledger.total
        found = bool(total.received - total.undecodable or objects_found or self._facts)
        return Result(self._ledger, objects_found, tuple(self._notes), found)

    def _flows(self, recording: Sequence[RecordingFile]) -> Span | None:
        entries = []
        for source in recording:
            if source.kind in (FileKind.CAPTURE, FileKind.LINES, FileKind.UNREADABLE):
                entry = self._ledger.open(source.name, source.stem, source.kind.value)
                entries.append(entry)
                self._read(entry, source)
        return Span.around(entry.span for entry in entries)

    def _read(self, entry: LedgerEntry, source: RecordingFile) -> None:
        if source.kind is FileKind.UNREADABLE:
            entry.counts.add_broken("", source.problem)
            self._stop_if_strict(entry)
            return
        if source.chain:
            words = ", in it ".join(wrapper.name for wrapper in source.chain)
            self._notes.append(f"{source.name}: messages are wrapped: {words}")
        self._writer.start_source()
        with source.open(partial(self._progress, source)) as stream:
            for batch in source.batches(stream):
                if source.kind is FileKind.CAPTURE:
                    self._writer.write_messages(batch, entry)
                else:
                    self._writer.write_lines(batch, entry)
                self._stop_if_strict(entry)
        self._writer.commit()

    def _stop_if_strict(self, entry: LedgerEntry) -> None:
        if self._options.strict and entry.counts.undecodable:
            self._writer.commit()
            raise InputError(f"{entry.counts.problems[0]} (stopped here because of `strict`)")

    def _objects(self, recording: Sequence[RecordingFile], span: Span | None) -> int:
        """Store what a recording says besides flows; return how many states of objects that were."""
        sources = [source for source in recording if source.kind in (FileKind.OBJECTS, FileKind.WATCH_LOG)]
        readings: dict[str, ObjectReading] = {}
        owners = Owners(recording, self._writer.nodes_known())
        for source in sources:
            owner = owners.owner(source, self._options.cluster)
            if owner.note:
                self._notes.append(owner.note)
            if not owner.cluster:
                self._add_broken(source, source.name, owner.problem)
                continue
            reading = readings.setdefault(owner.cluster, ObjectReading(owner.cluster, span))
            for line, document, problem in self._documents(source):
                if problem:
                    self._add_broken(source, f"{source.name} line {line}", problem)
                else:
                    reading.add(document)
        for source in recording:
            if source.kind is FileKind.RELAY_STATUS:
                self._relay_nodes(source, span)
        found = [sighting for reading in readings.values() for sighting in reading.sightings()]
        facts.add_sightings(self._store, found)
        for reading in readings.values():
            self._notes.extend(reading.notes())
        return len(found)

    def _relay_nodes(self, source: RecordingFile, span: Span | None) -> None:
        nodes: list[RelayNode] = []
        for line, document, problem in self._documents(source):
            if problem:
                self._add_broken(source, f"{source.name} line {line}", problem)
            else:
                nodes += objects.read_relay_nodes(document, span)
        if not nodes:
            self._notes.append(f"{source.name}: names no node")
        self._facts += len(nodes)
        facts.add_relay_nodes(self._store, source.stem, nodes, self._options.cluster)

    def _documents(self, source: RecordingFile) -> Iterator[tuple[int, Json, str]]:
        with source.open(partial(self._progress, source)) as stream:
            try:
                yield from source.documents(stream)
            except BROKEN as error:
                yield 0, None, f"the compressed file is damaged or cut off ({error})"

    def _add_broken(self, source: RecordingFile, where: str, problem: str) -> None:
        entries = [entry for entry in self._ledger.entries if entry.name == source.name]
        entry = entries[0] if entries else self._ledger.open(source.name, source.stem, source.kind.value)
        entry.counts.add_broken(where, problem)
        self._stop_if_strict(entry)

    def _name_left_out(self, recording: Sequence[RecordingFile]) -> None:
        left = [source for source in recording if source.kind is FileKind.LEFT_OUT]
        for source in left:
            self._progress(source, 0)
        self._notes.extend(f"not read: {source.problem}" for source in left[:_LEFT_OUT_NAMED])
        more = [source.name for source in left[_LEFT_OUT_NAMED:]]
        if more:
            self._notes.append(f"not read, for the same reasons: {', '.join(more)}")

"""What the user points at: files, folders, archives and standard input, and what each of them holds.

Everything there is looked at and known by its content; what is not read is named with the reason.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from meshobs.collector.kube.document import Json, parse
from meshobs.collector.kube.objects import KINDS
from meshobs.collector.recordings import framing, tables, values, yaml_objects
from meshobs.collector.recordings.archives import Unpacked, is_archive, members
from meshobs.collector.recordings.framing import Batch
from meshobs.collector.recordings.recognise import Content, FileKind, Layout, NothingError, recognise
from meshobs.collector.recordings.streams import ByteStream, Progress, open_file, standard_input
from meshobs.collector.recordings.wrappers import Wrapper, unwrap
from meshobs.errors import InputError
from meshobs.text import storable

_ENDINGS = re.compile(r"(\.(bin|jsonpb|jsonl|ndjson|json|yaml|yml|log|txt|csv|gz|zst))+$")
# Files of these names are given as recordings: if they hold none, something is wrong with them.
_OURS = re.compile(r"((k8s|relay)-.+\.json|watch-.+\.jsonl|.+\.(bin|jsonpb|jsonl|ndjson))(\.gz|\.zst)?")
_LOG = re.compile(r".+\.log([.-][\w.:-]+)?(\.gz|\.zst)?")
# `cilium sysdump` puts its time into every name; what it calls so holds no flows, whatever it holds.
_OF_SYSDUMP = re.compile(r"(?P<what>.+?)-\d{8}-\d{6}(-prev)?(\.\w+)+")
_BUGTOOL = re.compile(r"cilium-bugtool-.*")
# An archive in an archive in a folder is as deep as anybody means it.
_DEEPEST = 3
_USED = KINDS | {"Endpoints"}
_FLOWS = frozenset({FileKind.CAPTURE, FileKind.LINES})
_FACTS = frozenset({FileKind.OBJECTS, FileKind.WATCH_LOG, FileKind.RELAY_STATUS})


@dataclass(frozen=True)
class RecordingFile:
    """One file, or standard input where `path` is None.

    Attributes:
        size: bytes on disk, 0 for standard input and for what is not read.
        stream: standard input, already looked at; None for a file.
        problem: why a file is not read.
        label: what it is called where that is not its path: a file of an archive.
        folder: what it lies in, as the user calls it; files of one folder are of one cluster unless they say so.
        layout: how its messages or objects stand in it.
        chain: what each message is wrapped in.
        list_kind: the kind of the list that its objects are in, where only the list says it.
        unpacked: keeps what an archive held.
    """

    path: Path | None
    kind: FileKind
    size: int
    stream: ByteStream | None = None
    problem: str = ""
    label: str = ""
    folder: str = ""
    layout: Layout = Layout.LINES
    chain: tuple[Wrapper, ...] = ()
    list_kind: str = ""
    unpacked: Unpacked | None = None

    @property
    def name(self) -> str:
        """Return what the user calls it."""
        return storable(self.label or (str(self.path) if self.path else "standard input"))

    @property
    def stem(self) -> str:
        """Return the file's name without its endings, e.g. `west` of `west.bin.gz`."""
        return _ENDINGS.sub("", PurePosixPath(self.name).name) if self.path else "stdin"

    @contextmanager
    def open(self, progress: Progress | None = None) -> Iterator[ByteStream]:
        """Open the source from its start; `progress` is told of every byte read from disk."""
        if self.path:
            with open_file(self.path, progress) as stream:
                yield stream
        elif self.stream:
            yield self.stream

    def documents(self, stream: ByteStream) -> Iterator[tuple[int, Json, str]]:
        """Yield its Kubernetes objects, lists of them, events or answers: line, value, and why it cannot be read.

        A value of a kind that nobody uses may be no more than its kind.
        """
        if self.layout is Layout.YAML:
            for item in yaml_objects.read(stream, _USED):
                found = item.value if item.value is not None or item.problem else {"kind": item.kind}
                yield item.line, _with_kind(found, self.list_kind), item.problem
            return
        for value in values.read(stream):
            if value.text is None:
                yield value.line, None, value.problem
            else:
                yield value.line, _with_kind(parse(value.text.encode(errors="replace")), value.list_kind), ""

    def batches(self, stream: ByteStream) -> Iterator[Batch]:
        """Yield the messages of its stream, unwrapped."""
        if self.layout is Layout.FRAMES:
            return framing.messages(stream)
        if self.layout is Layout.LINES and not self.chain:
            return framing.lines(stream)
        read = {Layout.LINES: framing.numbered_lines, Layout.CSV: tables.rows}.get(self.layout, _texts)
        found: Iterator[tuple[int, bytes | str]] = read(stream)
        return framing.batches(unwrap(found, self.chain) if self.chain else found)


def find(path: Path) -> list[list[RecordingFile]]:
    """Return the recordings at a path, each as the sources that belong together, and what is not read.

    A file is one. A folder or an archive is as many as it has folders with flows and objects in them, one where they
    lie apart; an unreadable file there spoils only itself. `-` is standard input.

    Raises:
        InputError: nothing is there, it cannot be read, or it holds no recording.
    """
    if str(path) == "-":
        return [[identify(None)]]
    if not path.is_dir():
        if not _holds_archive(path):
            return [[identify(path)]]
        return _sorted_out(str(path), _of_archive(path, str(path), Unpacked(), 1))
    return _sorted_out(str(path), _of_folder(path, set()))


def identify(path: Path | None) -> RecordingFile:
    """Tell what a file, or standard input, holds.

    Raises:
        InputError: it cannot be read, or holds nothing that is known.
    """
    if path is None:
        stream = standard_input()
        return _as_file(RecordingFile(None, FileKind.LINES, 0, stream), recognise(stream, "standard input"))
    with open_file(path) as stream:
        content = recognise(stream, str(path))
    return _as_file(RecordingFile(path, FileKind.LINES, path.stat().st_size, folder=str(path.parent)), content)


def is_of_sysdump(name: str) -> bool:
    """Tell whether `cilium sysdump` gives a file such a name: what it says then is a kind, no cluster."""
    return _OF_SYSDUMP.fullmatch(PurePosixPath(name).name) is not None


def merge(recordings: list[list[RecordingFile]]) -> list[list[RecordingFile]]:
    """Make recordings one where objects lie apart from the flows that they belong to."""
    lone = [one for one in recordings if _kinds(one) & _FACTS and not _kinds(one) & _FLOWS]
    if not lone or len(lone) == len(recordings):
        return recordings if len(lone) < 2 else [[source for one in recordings for source in one]]  # noqa: PLR2004
    return [[source for one in recordings for source in one]]


def _kinds(recording: Iterable[RecordingFile]) -> set[FileKind]:
    return {source.kind for source in recording}


def _as_file(file: RecordingFile, content: Content) -> RecordingFile:
    return replace(file, kind=content.kind, layout=content.layout, chain=content.chain, list_kind=content.list_kind)


def _sorted_out(name: str, files: Iterable[RecordingFile]) -> list[list[RecordingFile]]:
    """Group what was found by folder."""
    folders: dict[str, list[RecordingFile]] = {}
    for file in files:
        folders.setdefault(file.folder, []).append(file)
    found = [one for one in folders.values() if _kinds(one) - {FileKind.LEFT_OUT}]
    rest = [file for one in folders.values() if not _kinds(one) - {FileKind.LEFT_OUT} for file in one]
    if not found:
        reasons = "; ".join(file.problem for file in rest[:3])
        raise InputError(
            f"{name} holds no recording: expected flows (*.bin, *.jsonpb, *.jsonl, *.json, *.log ..., also .gz, .zst)"
            f" beside k8s-CLUSTER.json, watch-CLUSTER-KIND.jsonl, relay-NAME.json{f' ({reasons})' if reasons else ''}"
        )
    recordings = merge(found)
    recordings[0].extend(rest)
    return recordings


def _of_folder(folder: Path, seen: set[Path]) -> Iterator[RecordingFile]:
    """Yield all files of a folder and of those in it, in the order of their names."""
    real = folder.resolve()
    if real in seen:
        return
    seen.add(real)
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        yield _left_out(
            folder, str(folder), str(folder.parent), f"{folder} cannot be read: {error.strerror}", count=True
        )
        return
    for entry in entries:
        if entry.is_dir():
            yield from _of_folder(entry, seen)
        elif not entry.is_file():
            yield _left_out(entry, str(entry), str(folder), f"{entry} is no file")
        else:
            yield from _of_file(entry, str(entry), str(folder), None, 1)


def _of_file(path: Path, label: str, folder: str, unpacked: Unpacked | None, depth: int) -> Iterator[RecordingFile]:
    name = PurePosixPath(label).name
    if _BUGTOOL.fullmatch(name):
        yield _left_out(path, label, folder, f"{label} is a bug tool's archive, without flows or objects")
        return
    try:
        if _holds_archive(path):
            if depth > _DEEPEST:
                raise NothingError(f"{label} is an archive in archives: unpack it first")
            yield from _of_archive(path, label, unpacked or Unpacked(), depth)
            return
        with open_file(path) as stream:
            content = recognise(stream, label)
    except InputError as error:
        empty = not path.stat().st_size if path.exists() else False
        expected = _OURS.fullmatch(name) or (empty and _LOG.fullmatch(name))
        count = not isinstance(error, NothingError) or bool(expected and not is_of_sysdump(name))
        yield _left_out(path, label, folder, str(error), count=count)
        return
    size = path.stat().st_size
    yield _as_file(RecordingFile(path, content.kind, size, label=label, folder=folder, unpacked=unpacked), content)


def _of_archive(path: Path, label: str, unpacked: Unpacked, depth: int) -> Iterator[RecordingFile]:
    """Yield the files of an archive; those that are read are unpacked."""
    try:
        for member, content in members(path, label):
            name = f"{label}/{member}"
            folder = str(PurePosixPath(name).parent)
            if _BUGTOOL.fullmatch(PurePosixPath(member).name):
                yield _left_out(None, name, folder, f"{name} is a bug tool's archive, without flows or objects")
                continue
            stored, problem = unpacked.store(content)
            if problem:
                yield _left_out(None, f"{name} (not whole)", folder, f"{name} {problem}", count=True)
            if problem and not stored.stat().st_size:
                continue
            wanted = False
            for file in _of_file(stored, name, folder, unpacked, depth + 1):
                wanted = wanted or (file.path == stored and file.kind not in (FileKind.LEFT_OUT, FileKind.UNREADABLE))
                yield file
            if not wanted:
                stored.unlink()
    except InputError as error:
        yield _left_out(path, label, label, str(error), count=True)


def _left_out(path: Path | None, label: str, folder: str, reason: str, *, count: bool = False) -> RecordingFile:
    kind = FileKind.UNREADABLE if count else FileKind.LEFT_OUT
    return RecordingFile(path, kind, 0, problem=reason, label=label, folder=folder)


def _holds_archive(path: Path) -> bool:
    with open_file(path) as stream:
        try:
            return is_archive(stream.head(whole=True))
        except Exception:  # noqa: BLE001 - damage is told of where the content is looked at
            return False


def _with_kind(value: Json, list_kind: str) -> Json:
    """Return an item of a typed list with the kind that only its list says."""
    if not list_kind or not isinstance(value, dict) or value.get("kind"):
        return value
    return {**value, "kind": list_kind.removesuffix("List")}


def _texts(stream: ByteStream) -> Iterator[tuple[int, bytes | str]]:
    """Yield JSON values as lines."""
    for value in values.read(stream):
        yield value.line, value.problem if value.text is None else value.text.encode(errors="replace")

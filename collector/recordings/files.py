"""What the user points at: files, folders and standard input, and what each of them holds.

A file is known by its content. Inside a folder its name decides whether it is looked at: other files there (notes,
ground truth, routes) are none of ours.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from meshobs.collector.decode.plain import fault
from meshobs.collector.kube.document import Json
from meshobs.collector.recordings.framing import LONGEST
from meshobs.collector.recordings.streams import BROKEN, ByteStream, Progress, open_file, standard_input
from meshobs.errors import InputError

_IN_FOLDER = re.compile(
    r"((k8s|relay)-.+\.json|watch-.+\.jsonl|.+\.(bin|jsonpb)|(?!watch-).+\.jsonl|.+\.log([.-][\w.:-]+)?)(\.gz|\.zst)?"
)
_ENDINGS = re.compile(r"(\.(bin|jsonpb|jsonl|json|log|gz|zst))+$")
_HUBBLE = {
    *("flow", "lost_events", "node_status", "agent_event", "debug_event"),
    *("lostEvents", "nodeStatus", "agentEvent", "debugEvent"),
}
_BARE_FLOW = {"verdict", "IP"}
_RELAY = {"GetNodes", "ServerStatus", "nodes"}
_KEY = re.compile(r'[\s,]*"([^"\\]*)"\s*:\s*')
_JSON = json.JSONDecoder()


class FileKind(Enum):
    """What a source holds."""

    CAPTURE = "raw capture"
    LINES = "hubble lines"
    OBJECTS = "kubernetes objects"
    WATCH_LOG = "watch log"
    RELAY_STATUS = "relay status"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class RecordingFile:
    """One file, or standard input where `path` is None.

    Attributes:
        size: bytes on disk, 0 for standard input.
        stream: standard input, already looked at; None for a file.
        problem: why a file of a folder is unreadable.
    """

    path: Path | None
    kind: FileKind
    size: int
    stream: ByteStream | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """Return what the user calls it."""
        return str(self.path) if self.path else "standard input"

    @property
    def stem(self) -> str:
        """Return the file's name without its endings, e.g. `west` of `west.bin.gz`."""
        return _ENDINGS.sub("", self.path.name) if self.path else "stdin"

    @contextmanager
    def open(self, progress: Progress | None = None) -> Iterator[ByteStream]:
        """Open the source from its start; `progress` is told of every byte read from disk."""
        if self.path:
            with open_file(self.path, progress) as stream:
                yield stream
        elif self.stream:
            yield self.stream


def find(path: Path) -> list[list[RecordingFile]]:
    """Return the recordings at a path, each as the sources that belong together.

    A file is one. A folder is one, or as many as it has folders with recordings in them; an unreadable file there
    spoils only itself. `-` is standard input.

    Raises:
        InputError: nothing is there, it cannot be read, or it holds no recording.
    """
    if str(path) == "-":
        return [[identify(None)]]
    if not path.is_dir():
        return [[identify(path)]]
    folders = (
        [path] if _parts(path) else [folder for folder in sorted(path.iterdir()) if folder.is_dir() and _parts(folder)]
    )
    if not folders:
        raise InputError(
            f"{path} holds no recording: expected *.bin, *.jsonpb, *.jsonl or *.log files (also .gz, .zst)"
            " beside k8s-CLUSTER.json, watch-CLUSTER-KIND.jsonl, relay-NAME.json"
        )
    return [[_identify(file) for file in _parts(folder)] for folder in folders]


def identify(path: Path | None) -> RecordingFile:
    """Tell what a file, or standard input, holds.

    Raises:
        InputError: it cannot be read, or holds nothing that is known.
    """
    if path is None:
        stream = standard_input()
        return RecordingFile(None, _kind(stream, "standard input"), 0, stream)
    with open_file(path) as stream:
        return RecordingFile(path, _kind(stream, str(path)), path.stat().st_size)


def _identify(path: Path) -> RecordingFile:
    try:
        return identify(path)
    except InputError as error:
        return RecordingFile(path, FileKind.UNREADABLE, path.stat().st_size, problem=str(error))


def document(source: RecordingFile, progress: Progress | None = None) -> Json:
    """Read a source that is one JSON document.

    Raises:
        InputError: it is damaged.
    """
    with source.open(progress) as stream:
        try:
            loaded: Json = json.loads(b"".join(iter(lambda: stream.read(2**20), b"")))
        except (*BROKEN, ValueError, RecursionError) as error:
            raise InputError(f"{source.name} is no readable JSON document ({error})") from error
    return loaded


def _parts(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.iterdir()) if file.is_file() and _IN_FOLDER.fullmatch(file.name)]


def _kind(stream: ByteStream, name: str) -> FileKind:
    try:
        head = stream.head()
    except BROKEN as error:
        raise InputError(f"{name} is a damaged compressed file ({error})") from error
    if not head:
        raise InputError(f"{name} is empty")
    text = head.decode(errors="replace")
    # A line of its own first; else a document over several lines.
    kind = next((found for part in (*text.splitlines(), text) if (found := _kind_of(_keys(part)))), None)
    if kind is None and _is_capture(head):
        kind = FileKind.CAPTURE
    if kind is None:
        raise InputError(
            f"{name} is no recording: neither a raw capture, nor JSON lines of Hubble, nor Kubernetes objects,"
            " a watch log or a Relay's status in JSON"
        )
    return kind


def _keys(text: str) -> set[str]:
    """Return the keys of the JSON object that a text starts with, as far as the text goes."""
    keys: set[str] = set()
    opening = re.match(r"\s*\{", text)
    at = opening.end() if opening else len(text)
    while key := _KEY.match(text, at):
        keys.add(key[1])
        try:
            _, at = _JSON.raw_decode(text, key.end())
        except (ValueError, RecursionError):
            break
    return keys


def _kind_of(keys: set[str]) -> FileKind | None:
    if keys & _HUBBLE or keys >= _BARE_FLOW:
        return FileKind.LINES
    if keys >= {"type", "object"}:
        return FileKind.WATCH_LOG
    if "items" in keys or {"kind", "metadata"} <= keys:
        return FileKind.OBJECTS
    if keys & _RELAY:
        return FileKind.RELAY_STATUS
    return None


def _is_capture(head: bytes) -> bool:
    """Tell whether bytes start with a length and a readable message, or with what the head has of one."""
    length = int.from_bytes(head[:4], "big")
    message = head[4 : 4 + length]
    if not 0 < length <= LONGEST:
        return False
    return len(message) < length or fault(message) is None

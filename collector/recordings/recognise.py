"""What a stream holds, told by its content: messages of Hubble in any known wrapping, Kubernetes objects, or neither.

The first bytes decide nearly always. Text in which they say nothing (an agent's log before its first flow) is searched
to its end for a message.
"""

import io
import re
from dataclasses import dataclass
from enum import Enum
from itertools import islice

from meshobs.collector.decode.plain import fault
from meshobs.collector.kube.document import Json, at, parse, text
from meshobs.collector.recordings import tables, values, yaml_objects
from meshobs.collector.recordings.archives import is_archive
from meshobs.collector.recordings.framing import LONGEST, numbered_lines
from meshobs.collector.recordings.streams import BROKEN, ByteStream
from meshobs.collector.recordings.wrappers import MARK, SURE_MARK, WRAPPERS, Wrapper, chain_of, is_message, unwrap
from meshobs.errors import InputError
from meshobs.text import printable

_RELAY = {"GetNodes", "ServerStatus", "nodes"}
_RELAY_NODE = {"num_flows", "numFlows", "max_flows", "maxFlows"}
# So many values, or lines that look like messages, are tried before a file is given up; and so many bytes are kept
# meanwhile, where they cannot be read a second time.
_TRIED = 1000
_LOOKED_AT = 64 * 2**20
# So much of a line that is not understood is shown.
_SHOWN = 80
# Text that people save by mistake: how it looks, what it is, what to do.
_TEXT, _JSON = "save it with -o jsonpb", "save it with kubectl get -o json"
_MISTAKES = (
    (rb"(?m)^\w{3} +\d+ [\d:.]+(?: \[[^\]]*\])?: .*(?:->|<-|<>) ", "the text that `hubble observe` prints", _TEXT),
    (rb"(?m)^ *TIMESTAMP: .*\n *SOURCE: ", "the text that `hubble observe -o dict` prints", _TEXT),
    (rb"^TIMESTAMP +SOURCE +", "the table that `hubble observe` prints", _TEXT),
    (rb"(?m)^Name: +\S+\n(?:Namespace|Roles|Labels): ", "the text of `kubectl describe`", _JSON),
    (rb"(?m)^NAMESPACE +NAME +[A-Z]", "a table that kubectl prints", _JSON),
    (rb"^NAME +STATUS +AGE +FLOWS/S", "the table that `hubble list nodes` prints", "save it with -o json"),
    (
        rb"(?m)^NAME +(?:TYPE|STATUS|ENDPOINTS|ADDRESSTYPE|DATA|CILIUMINTERNALIP)\b",
        "a table that kubectl prints",
        _JSON,
    ),
)
# The names of columns: words, quoted or not.
_CSV_HEAD = re.compile(rb'"?[A-Za-z_@][\w .@\[\]/-]*"?(?:,"?[A-Za-z_@][\w .@\[\]/-]*"?)*')
_BINARY = (
    (b"\xfd7zXZ\x00", "compressed with xz: unpack it first, or use gzip or zstd"),
    (b"BZh", "compressed with bzip2: unpack it first, or use gzip or zstd"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first, or use zip or tar"),
    (b"Rar!", "a RAR archive: unpack it first, or use zip or tar"),
    (b"\xd4\xc3\xb2\xa1", "a packet capture: Hubble's flows are needed"),
    (b"\x0a\x0d\x0d\x0a", "a packet capture: Hubble's flows are needed"),
)


class FileKind(Enum):
    """What a source holds."""

    CAPTURE = "raw capture"
    LINES = "hubble lines"
    OBJECTS = "kubernetes objects"
    WATCH_LOG = "watch log"
    RELAY_STATUS = "relay status"
    UNREADABLE = "unreadable"
    LEFT_OUT = "not read"


class Layout(Enum):
    """How its messages or objects stand in it."""

    FRAMES = "frames"
    LINES = "lines"
    VALUES = "values"
    YAML = "yaml"
    CSV = "csv"


@dataclass(frozen=True)
class Content:
    """What was recognised.

    Attributes:
        chain: what each message is wrapped in, the outermost first.
        list_kind: of YAML, the kind of the list that its items are in.
    """

    kind: FileKind
    layout: Layout
    chain: tuple[Wrapper, ...] = ()
    list_kind: str = ""


class NothingError(InputError):
    """A file holds nothing that is known."""


def recognise(stream: ByteStream, name: str) -> Content:
    """Tell what a stream holds; it is read from its start afterwards only if it was rewound or opened anew.

    Raises:
        NothingError: nothing that is known.
        InputError: it cannot be read.
    """
    try:
        head = stream.head()
        if not head:
            raise NothingError(f"{name} is empty")
        found = _look(stream, head, name)
    except BROKEN as error:
        raise InputError(f"{name} is a damaged compressed file ({error})") from error
    return found


def kind_of(value: Json) -> FileKind | None:
    """Tell what a JSON value is one of."""
    if not isinstance(value, dict):
        return None
    keys = set(value)
    if is_message(value):
        return FileKind.LINES
    if keys >= {"type", "object"}:
        return FileKind.WATCH_LOG
    if "items" in keys or {"kind", "metadata"} <= keys:
        return FileKind.OBJECTS
    if keys & _RELAY or (text(value, "name") and (keys & _RELAY_NODE or text(value, "state").startswith("NODE_"))):
        return FileKind.RELAY_STATUS
    return None


def _look(stream: ByteStream, head: bytes, name: str) -> Content:
    if stream.once and is_archive(head):
        raise NothingError(f"{name} is an archive: name the file instead")
    for magic, what in _BINARY:
        if head.startswith(magic):
            raise NothingError(f"{name} is {what}")
    if _is_capture(head):
        return Content(FileKind.CAPTURE, Layout.FRAMES)
    if _is_document(head.lstrip()):
        return _look_at_values(stream, name)
    return _look_at_csv(head) or _look_at_lines(head) or _look_at_text(stream, name)


def _look_at_text(stream: ByteStream, name: str) -> Content:
    """Recognise text of which the first lines say nothing."""
    head = stream.head(whole=True)
    if found := _look_at_csv(head) or _look_at_lines(head):
        return found
    if yaml_objects.STARTS.match(head.decode(errors="replace").lstrip()) and (found := _look_at_yaml(stream)):
        return found
    for pattern, what, remedy in _MISTAKES:
        if re.search(pattern, head):
            raise NothingError(f"{name} is {what}: {remedy}")
    # A document after a few words, such as kubectl's own.
    if re.search(rb"(?m)^[{\[]\s*$", head):
        return _look_at_values(stream, name)
    return _search(stream, name)


def _is_document(start: bytes) -> bool:
    """Tell whether text begins with JSON that does not stand on one line, or stands around a list."""
    if re.match(rb"\[\s*(?:[{\[\"\]]|$)", start):
        return True
    if start[:1] != b"{":
        return False
    line = start.split(b"\n", 1)[0]
    return parse(line) is None or values.holds_list(line.decode(errors="replace"))


def _look_at_lines(head: bytes) -> Content | None:
    """Recognise the first line that is anything of ours."""
    *lines, last = head.split(b"\n")
    for line in (*lines, last):
        chain = chain_of(line)
        if chain is not None:
            return Content(FileKind.LINES, Layout.LINES, chain)
        if line.lstrip()[:1] == b"{" and (kind := kind_of(parse(line))):
            return Content(kind, Layout.LINES)
    for wrapper in WRAPPERS:  # messages in parts: none of the lines is one
        if any(map(wrapper.goes_on, lines)):
            for _, inner in unwrap(enumerate(lines), (wrapper,)):
                chain = chain_of(inner) if isinstance(inner, bytes) else None
                if chain is not None:
                    return Content(FileKind.LINES, Layout.LINES, (wrapper, *chain))
    return None


def _look_at_csv(head: bytes) -> Content | None:
    """Recognise a table of which a column holds messages: an export of Splunk, Azure Log Analytics, Grafana."""
    first, _, rest = head.partition(b"\n")
    if not _CSV_HEAD.fullmatch(first.rstrip(b"\r")) or not MARK.search(rest):
        return None
    for _, row in tables.rows(io.BytesIO(head)):
        chain = chain_of(row) if isinstance(row, bytes) else None
        if chain:
            return Content(FileKind.LINES, Layout.CSV, chain)
    return None


def _look_at_values(stream: ByteStream, name: str) -> Content:
    """Recognise the first value that is anything of ours."""
    problem = marked = ""
    found: Content | None = None
    stream.keep()
    for value in islice(values.read(stream), _TRIED):
        if value.text is None:
            problem = problem or value.problem
        elif found := _of_value(value.text, value.list_kind):
            break
        elif SURE_MARK.search(value.text.encode(errors="replace")):
            marked = marked or value.text
        if stream.kept > _LOOKED_AT:
            break
    stream.rewind()
    if not found or problem:
        # Lines after all: the first one is no JSON, or none of ours.
        found = _look_at_lines(stream.head(whole=True)) or found
    if found:
        return found
    if marked:
        raise InputError(_unknown(name, marked))
    if problem in values.OF_JSON:
        raise InputError(f"{name} is no readable JSON document ({problem})")
    return _search(stream, name)


def _of_value(value: str, list_kind: str) -> Content | None:
    chain = chain_of(value.encode(errors="replace"))
    if chain is not None:
        return Content(FileKind.LINES, Layout.VALUES, chain)
    document = parse(value.encode(errors="replace"))
    kind = FileKind.OBJECTS if list_kind and at(document, "metadata") else kind_of(document)
    return Content(kind, Layout.VALUES) if kind else None


def _look_at_yaml(stream: ByteStream) -> Content | None:
    if stream.once:
        stream.keep()
    found = yaml_objects.kinds(stream)
    if stream.once:
        stream.rewind()
    lists = sorted(kind.removesuffix("List") for kind in found if kind.endswith("List") and kind != "List")
    return Content(FileKind.OBJECTS, Layout.YAML, list_kind=lists[0] if len(lists) == 1 else "") if found else None


def _search(stream: ByteStream, name: str) -> Content:
    """Search text to its end for a message; what has zeros in it is no text."""
    if b"\0" in stream.head():
        raise NothingError(_none(name))
    if stream.once:
        stream.keep()
    found, first = _search_lines(stream)
    if stream.once:
        stream.rewind()
    if found:
        return found
    raise InputError(_unknown(name, first)) if first else NothingError(_none(name))


def _search_lines(stream: ByteStream) -> tuple[Content | None, str]:
    """Return what the first message tells; else the first line that looks like one."""
    first, tried = "", 0
    for _, line in numbered_lines(stream):
        if stream.kept > _LOOKED_AT or (first and tried > _TRIED):
            break
        if isinstance(line, str) or not (SURE_MARK if tried > _TRIED else MARK).search(line):
            continue
        chain = chain_of(line)
        if chain is not None:
            return Content(FileKind.LINES, Layout.LINES, chain), ""
        if not first and SURE_MARK.search(line):
            first = line.decode(errors="replace").strip()
        tried += 1
    return None, first


def _none(name: str) -> str:
    return (
        f"{name} is no recording: neither a raw capture, nor JSON lines of Hubble, nor Kubernetes objects,"
        " a watch log or a Relay's status in JSON"
    )


def _unknown(name: str, line: str) -> str:
    shown = printable(" ".join(line.split())[:_SHOWN])
    return f"{name} may hold messages of Hubble, but in no wrapping that is known, nor bare: {shown}..."


def _is_capture(head: bytes) -> bool:
    """Tell whether bytes start with a length and a readable message, or with what the head has of one."""
    length = int.from_bytes(head[:4], "big")
    message = head[4 : 4 + length]
    if len(head) < 4 or not 0 < length <= LONGEST:  # noqa: PLR2004 - the length's own
        return False
    return len(message) < length or fault(message) is None

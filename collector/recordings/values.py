"""JSON that does not keep to lines: pretty-printed, arrays, one document after the other, and lists inside answers.

Values are found one at a time, so a list of any length needs no more memory than its longest element.
"""

import codecs
import json
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from meshobs.collector.recordings.framing import LONGEST
from meshobs.collector.recordings.streams import ByteStream

# Where a document holds a list of what counts, by the keys that lead there; elements of a list add none.
_LISTS = frozenset(
    {
        ("items",),  # Kubernetes: a List, a ServiceList
        ("hits", "hits"),  # Elasticsearch: _search
        ("responses",),  # _msearch
        ("responses", "hits", "hits"),
        ("data", "result"),  # Loki: query_range; each stream with [time, line]
        ("data", "result", "values"),
        ("streams",),  # Loki: push
        ("streams", "values"),
        ("tables",),  # Azure Log Analytics: query
        ("tables", "rows"),
        ("Tables",),  # Kusto: v1
        ("Tables", "Rows"),
        ("Rows",),  # Kusto: a frame of v2
        ("results",),  # Splunk: search export, output_mode=json
        ("rows",),  # Splunk: json_rows
        ("records",),  # Azure: diagnostic settings, Event Hubs; Kinesis
        ("events",),  # CloudWatch: filter-log-events
        ("entries",),  # Google: entries.list
        ("resourceLogs",),  # OTLP
        ("resourceLogs", "scopeLogs"),
        ("resourceLogs", "scopeLogs", "logRecords"),
    }
)
_ON_THE_WAY = frozenset(path[:length] for path in _LISTS for length in range(len(path) + 1))
_JSON = json.JSONDecoder()
_SPACE = re.compile(r"[\s\0]*")
_KEY = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:\s*')
# An error so close to the end of what was read may only mean that more must be read: `fals`, `\u00`.
_MARGIN = 16
_ENDS, _TOO_LONG = "the file ends in the middle of it", "a number in it has too many digits"
# What is wrong only with a text that is JSON otherwise.
OF_JSON = frozenset({_ENDS, _TOO_LONG})
_CHUNK = 2**20


@dataclass(frozen=True)
class Value:
    """One value.

    Attributes:
        line: where it starts, from 1.
        text: as it stands; None for what cannot be read.
        problem: why it cannot.
        list_kind: the kind of the Kubernetes list that it is in, if that said it before its items.
    """

    line: int
    text: str | None
    problem: str = ""
    list_kind: str = ""


class _BadError(Exception):
    """No JSON from here on."""


def read(stream: ByteStream) -> Iterator[Value]:
    """Yield the values of a stream; what is no JSON is passed over up to the next line that starts like one."""
    scanner = _Scanner(stream)
    while scanner.peek():
        if scanner.next in "{[":
            yield from _element(scanner, (), "", top=True)
        else:
            line = scanner.line
            scanner.resync("")
            yield Value(line, None, "not a Hubble message")


def holds_list(text: str) -> bool:
    """Tell whether a JSON object on one line is an answer around a list."""
    try:
        found, _ = _JSON.raw_decode(text.strip())
    except (ValueError, RecursionError):
        return False
    return any(_reaches(found, path) for path in _LISTS)


def _reaches(value: object, path: tuple[str, ...]) -> bool:
    for key in path:
        if isinstance(value, list):
            value = value[0] if value else None
        value = value.get(key) if isinstance(value, dict) else None
    return isinstance(value, list)


def _element(scanner: "_Scanner", path: tuple[str, ...], list_kind: str, *, top: bool = False) -> Iterator[Value]:
    """Yield one value, or what the lists in it hold; after damage go on with what starts like it."""
    line, indent = scanner.line, scanner.indent
    try:
        yield from _walk(scanner, path, list_kind, top=top)
    except (_BadError, RecursionError) as error:
        scanner.resync(indent)
        yield Value(line, None, str(error) if isinstance(error, _BadError) else "nested too deeply")


def _walk(scanner: "_Scanner", path: tuple[str, ...], list_kind: str, *, top: bool) -> Iterator[Value]:
    # A list in a list is a row, and one value.
    if top and scanner.next == "[":
        yield from _list(scanner, path, list_kind)
        return
    line = scanner.line
    scanner.mark()
    if scanner.next != "{" or path not in _ON_THE_WAY:
        scanner.value()
    elif (yield from _object(scanner, path)):
        return
    yield Value(line, scanner.marked(), "", list_kind)


def _object(scanner: "_Scanner", path: tuple[str, ...]) -> Generator[Value, None, bool]:
    """Walk an object; yield what its lists hold. Return whether there was one: else nothing was yielded."""
    held, kind = False, ""
    scanner.take("{")
    while scanner.peek() != "}":
        key = scanner.key()
        below = (*path, key)
        if below in _LISTS and scanner.next == "[":
            held = True
            scanner.unmark()
            yield from _list(scanner, below, kind)
        elif below in _ON_THE_WAY and scanner.next == "{":
            held |= yield from _object(scanner, below)
        else:
            value = scanner.value()
            if key == "kind" and isinstance(value, str):
                kind = value
        if scanner.peek() == ",":
            scanner.take(",")
    scanner.take("}")
    return held


def _list(scanner: "_Scanner", path: tuple[str, ...], list_kind: str) -> Iterator[Value]:
    scanner.take("[")
    while scanner.peek() and scanner.next != "]":
        yield from _element(scanner, path, list_kind)
        if scanner.peek() == ",":
            scanner.take(",")
    if scanner.next:
        scanner.take("]")


class _Scanner:
    """The text of a stream around the place that is looked at."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._text = ""
        self._at = 0
        self._start: int | None = None
        self._ended = False
        # The line of `_at`, counted up to `_counted`.
        self._line = 1
        self._counted = 0

    @property
    def next(self) -> str:
        """Return the character that is looked at, empty at the end."""
        return self._text[self._at : self._at + 1]

    @property
    def line(self) -> int:
        """Return the number of the line that is looked at."""
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    @property
    def indent(self) -> str | None:
        """Return what stands before the place in its line, None if that is more than spaces."""
        before = self._text[self._text.rfind("\n", 0, self._at) + 1 : self._at]
        return before if not before.strip(" \t") else None

    def peek(self) -> str:
        """Pass over space and return the next character, empty at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text) or not self._more():
                return self.next

    def take(self, character: str) -> None:
        """Pass over a character that must be there."""
        if self.peek() != character:
            raise _BadError(self._told(f"expected {character!r}"))
        self._at += 1

    def key(self) -> str:
        """Return a key; its value is looked at next."""
        self.peek()
        while True:
            match = _KEY.match(self._text, self._at)
            if match and match.end() < len(self._text):
                self._at = match.end()
                return match[1]
            if len(self._text) - self._at > _CHUNK or not self._more():
                raise _BadError(self._told("expected a key"))

    def value(self) -> object:
        """Return the value that is looked at and pass over it."""
        while True:
            try:
                found, end = _JSON.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                short = error.pos >= len(self._text) - _MARGIN or error.msg.startswith("Unterminated string")
                if not short or len(self._text) - self._at > LONGEST:
                    raise _BadError(f"no readable JSON ({error.msg})") from error
                if not self._more():
                    raise _BadError(_ENDS) from error
                continue
            except ValueError as error:  # Python reads no number of thousands of digits
                raise _BadError(_TOO_LONG) from error
            # A number at the very end may go on.
            if end < len(self._text) or not self._more():
                self._at = end
                return found

    def mark(self) -> None:
        """Remember this place as a value's start."""
        self._start = self._at

    def unmark(self) -> None:
        """Forget the start: the value is not wanted as a whole."""
        self._start = None

    def marked(self) -> str:
        """Return the text from the start to here."""
        text = self._text[self._start : self._at]
        self._start = None
        return text

    def resync(self, indent: str | None) -> None:
        """Go on at the next line that starts an object or a list at an indent, or at the end."""
        self._start = None
        # The line that is broken is never looked at again.
        pattern = re.compile(rf"\n{re.escape(indent or '')}(?=[{{\[])")
        while True:
            match = pattern.search(self._text, self._at) if indent is not None else None
            if match:
                self._at = match.end()
                return
            self._at = max(self._at, self._text.rfind("\n", self._at), len(self._text) - 2**10)
            if not self._more():
                self._at = len(self._text)
                return

    def _told(self, reason: str) -> str:
        if self._ended and self._at >= len(self._text):
            return _ENDS
        return f"no readable JSON ({reason})"

    def _more(self) -> bool:
        """Read on; what lies behind is forgotten."""
        if self._ended:
            return False
        if self._start is not None and len(self._text) - self._start > LONGEST:
            raise _BadError(f"it is longer than {LONGEST} characters")
        chunk = self._stream.read(max(_CHUNK, len(self._text) - self._at))
        self._ended = not chunk
        _ = self.line
        # One character more: what stands before the place tells its indent.
        begin = self._at if self._start is None else min(self._start, self._at)
        begin = self._text.rfind("\n", 0, begin) if begin - self._text.rfind("\n", 0, begin) < _MARGIN * 4 else begin
        begin = max(begin, 0)
        self._text = self._text[begin:] + self._decoder.decode(chunk, final=self._ended)
        self._at -= begin
        self._counted -= begin
        if self._start is not None:
            self._start -= begin
        return not self._ended

"""Kubernetes objects in YAML, one at a time: documents, and the items of a list. Collecting's only door to PyYAML.

A file is cut into items by its lines, as kubectl and `cilium sysdump` write them; the parser sees one item only, and
only if its kind is of use.
"""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml

from meshobs.collector.kube.document import Json
from meshobs.collector.recordings.framing import numbered_lines
from meshobs.collector.recordings.streams import ByteStream

# A document of ours starts with one of these; indented or not, at the start of a line.
STARTS = re.compile(r"(?:---|apiVersion:|kind:|items:|metadata:|- (?:apiVersion|kind|metadata):|data:)", re.MULTILINE)
_KIND = re.compile(rb"(?m)^kind: *[\"']?(\w+)")
_ITEM_KIND = re.compile(r"(?m)^(?:  |- )kind: *[\"']?(\w+)")
_LIST = "List"
_LIST_KIND = re.compile(r"(?m)^kind: *[\"']?\w*List\b")


# In C where PyYAML was built with it: ten times as fast.
_Fastest: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Fastest):  # type: ignore[misc]  # chosen when it runs
    """YAML as Kubernetes means it: times stay texts."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, object]]]] = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:  # noqa: ANN401, FBT002 - PyYAML's signature
        """Return a mapping with texts for keys: YAML reads a label `1: x` or `on: x` as a number or a truth."""
        found: dict[object, Any] = super().construct_mapping(node, deep)
        return {key if isinstance(key, str) else json.dumps(key, default=str): value for key, value in found.items()}


@dataclass(frozen=True)
class Item:
    """One object.

    Attributes:
        line: where it starts, from 1.
        kind: its kind as far as the text says it; empty if only its list knows.
        value: None where the kind is of no use, or for what cannot be read.
        problem: why it cannot.
    """

    line: int
    kind: str
    value: Json
    problem: str = ""


def kinds(stream: ByteStream) -> set[str]:
    """Return the kinds that documents of a stream say of themselves."""
    found: set[str] = set()
    rest = b""
    while chunk := stream.read(2**20):
        text = rest + chunk
        found |= {match[1].decode() for match in _KIND.finditer(text)}
        rest = text[text.rfind(b"\n") + 1 :][: 2**10]
    return found


def read(stream: ByteStream, useful: Collection[str]) -> Iterator[Item]:
    """Yield the objects of a stream, those of lists one by one."""
    cutter = _Cutter()
    for number, line in numbered_lines(stream):
        if isinstance(line, str):
            yield Item(number, "", None, line)
            continue
        for begin, text in cutter.feed(number, line.decode(errors="replace").rstrip("\r")):
            yield from _objects(begin, text, useful)
    for begin, text in cutter.finish():
        yield from _objects(begin, text, useful)


def _objects(line: int, text: str, useful: Collection[str]) -> Iterator[Item]:
    said = _ITEM_KIND.search(text)
    kind = said[1] if said else ""
    if kind and kind not in useful and not kind.endswith(_LIST):
        yield Item(line, kind, None)
        return
    try:
        value: Json = yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        yield Item(line, kind, None, f"no readable YAML ({str(error).splitlines()[0]})")
        return
    if not isinstance(value, dict):
        if value is not None:
            yield Item(line, kind, None, "no Kubernetes object")
        return
    listed = value.get("items")
    if not isinstance(listed, list):
        yield Item(line, str(value.get("kind") or kind), value)
        return
    for item in listed:  # a list in flow style, which cannot be cut by lines
        yield Item(line, str(item.get("kind") or "") if isinstance(item, dict) else "", item)


class _Cutter:
    """Lines -> the texts of single objects, each with the line that it starts at."""

    def __init__(self) -> None:
        self._document: list[str] = []
        self._start = 1
        self._item: list[str] = []
        self._item_start = 1
        # How far items are indented; None outside a list.
        self._indent: int | None = None
        self._in_list = False
        self._had_items = False

    def feed(self, number: int, line: str) -> Iterator[tuple[int, str]]:
        """Take a line; yield what it completes."""
        if line.startswith("---") and (len(line) == 3 or line[3].isspace()):  # noqa: PLR2004 - the mark itself
            yield from self.finish()
            return
        if line.startswith("#"):
            return
        dash = len(line) - len(line.lstrip(" "))
        begins = line[dash:].startswith("- ") or line[dash:] == "-"
        if not self._document and not self._item and begins and not dash:
            self._in_list, self._indent = True, 0  # a bare sequence
        if self._in_list:
            if self._indent is None and begins:
                self._indent = dash
            if begins and dash == self._indent:
                yield from self._complete()
                self._item_start = number
                self._item = [f"{line[:dash]}  {line[dash + 2 :]}"]
                return
            if line.startswith(" ") and self._item:
                self._item.append(line)
                return
            yield from self._complete()
            self._in_list, self._indent = False, None
        if line.rstrip() == "items:":
            self._in_list = True
            return
        if not self._document:
            self._start = number
        self._document.append(line)

    def finish(self) -> Iterator[tuple[int, str]]:
        """Yield what is left at the end of a document."""
        yield from self._complete()
        text = "\n".join(self._document)
        # What is left of a list is its head.
        if self._document and not (self._had_items and _LIST_KIND.search(text)):
            yield self._start, text
        self._document, self._in_list, self._indent, self._had_items = [], False, None, False

    def _complete(self) -> Iterator[tuple[int, str]]:
        if self._item:
            self._had_items = True
            yield self._item_start, "\n".join(self._item)
        self._item = []

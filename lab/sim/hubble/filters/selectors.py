"""Label selectors as filters take them: Kubernetes' syntax, keys with Cilium's source before a colon. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping

Labels = Mapping[tuple[str, str], str]  # (source, key) -> value
Test = Callable[[Labels], bool]

_WORD = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?"
_KEY = rf"{_WORD}(?::{_WORD})?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_PART = re.compile(
    rf"\s*(?:(?P<absent>!)\s*(?P<not>{_KEY})"
    rf"|(?P<key>{_KEY})\s*(?:(?P<op>==?|!=)\s*(?P<value>{_VALUE})"
    rf"|(?P<word>in|notin)\s*\((?P<values>\s*{_VALUE}\s*(?:,\s*{_VALUE}\s*)*)\))?)\s*(?P<end>,|$)"
)


def labels(texts: Iterable[str]) -> Labels:
    """Return labels as Cilium writes them: SOURCE:KEY=VALUE."""
    found: dict[tuple[str, str], str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        source, colon, key = name.partition(":")
        found[(source, key) if colon else ("", source)] = value
    return found


def compile_selector(selector: str) -> Test:
    """Return whether labels fit a selector; an empty one fits all.

    Raises:
        ValueError: it is none.
    """
    if not selector.strip():
        return lambda _found: True
    tests: list[Test] = []
    at = 0
    while True:
        part = _PART.match(selector, at)
        if part is None:
            raise ValueError(f"unable to parse requirement: {selector[at:]!r}")
        tests.append(_part(part))
        at = part.end()
        if part["end"] != ",":
            return lambda found: all(test(found) for test in tests)


def _part(part: "re.Match[str]") -> Test:
    if part["absent"]:
        find = _finder(part["not"])
        return lambda found: find(found) is None
    find = _finder(part["key"])
    if part["op"] is None and part["word"] is None:
        return lambda found: find(found) is not None
    wanted = {part["value"]} if part["op"] else {value.strip() for value in part["values"].split(",")}
    if part["op"] == "!=" or part["word"] == "notin":
        return lambda found: find(found) not in wanted
    return lambda found: find(found) in wanted


def _finder(name: str) -> Callable[[Labels], str | None]:
    """Return how to find a key's value; without a source, or with `any`, of any source."""
    source, colon, key = name.partition(":")
    if not colon:
        source, key = "any", name
    if source != "any":
        return lambda found: found.get((source, key))
    return lambda found: next((value for (_, own), value in found.items() if own == key), None)

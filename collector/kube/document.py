"""JSON documents of unknown shape: reading them never fails."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

# Characters beyond 16 bits stand as two escapes; an escaped backslash starts none.
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL
)
_LENGTH_OF_ONE = len(r"\ud800")
Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"


def parse(text: bytes) -> Json:
    """Return a JSON text's value, None if it is none.

    Halves of characters, which no database takes, become the sign for what cannot be read, as in Go.
    """
    try:
        value: Json = json.loads(_ESCAPE.sub(_whole, text) if _HALF.search(text) else text)
    except (ValueError, RecursionError):
        return None
    return value


def _whole(escape: re.Match[bytes]) -> bytes:
    lone = len(escape[0]) == _LENGTH_OF_ONE and escape[0][1:3].lower() == b"ud"
    return rb"\ufffd" if lone else escape[0]


def at(value: Json, *path: str) -> Json:
    """Follow keys into nested objects; None where the path ends."""
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def text(value: Json, *path: str) -> str:
    """Return the string at a path, empty if there is none."""
    found = at(value, *path)
    return found if isinstance(found, str) else ""


def items(value: Json, *path: str) -> list[Json]:
    """Return the list at a path, empty if there is none."""
    found = at(value, *path)
    return list(found) if isinstance(found, Sequence) and not isinstance(found, str) else []

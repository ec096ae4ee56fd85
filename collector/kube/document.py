"""JSON documents of unknown shape: reading them never fails."""

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"


def parse(text: bytes) -> Json:
    """Return a JSON text's value, None if it is none."""
    try:
        value: Json = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value


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

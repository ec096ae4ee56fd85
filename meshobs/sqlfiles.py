"""The SQL files of `queries/`, by name. SQL text lives there and nowhere else."""

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

ROOT = files("meshobs") / "queries"


def read(name: str) -> str:
    """Return the text of one file, e.g. ``ingest/project.sql``."""
    return _at(name).read_text(encoding="utf-8")


def names(folder: str) -> list[str]:
    """Return the names of a folder's SQL files in order, e.g. ``schema/0001_initial.sql``."""
    return sorted(f"{folder}/{entry.name}" for entry in _entries(folder) if entry.name.endswith(".sql"))


def installed() -> list[str]:
    """Return the names of the files with views and macros, in the order in which they are run."""
    return [*names("macros"), *names("reports")]


def quoted(text: str) -> str:
    """Return text as it stands between the quotes of a SQL string: for what takes no parameters."""
    return text.replace("'", "''")


def _entries(folder: str) -> Iterator[Traversable]:
    return _at(folder).iterdir()


def _at(name: str) -> Traversable:
    at: Traversable = ROOT
    for part in name.split("/"):
        at = at / part
    return at

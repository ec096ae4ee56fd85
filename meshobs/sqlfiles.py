"""SQL in files: in `queries/` what a person may read or call, in a folder `sql` what only the code beside it runs.

Names are paths below the package. Only what fits a line or two, or is made of other things than text, stands in code.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import TopologicalSorter
from importlib.resources import files
from importlib.resources.abc import Traversable

ROOT = files("meshobs")
# What is installed in each database, as views and macros.
INSTALLED = ("queries/model", "queries/reports", "queries/status")
# From when on flows are kept, in nanoseconds; 0 where none were pruned.
FLOWS_SINCE = "select epoch_ns(kept_since('flows'))"
_CREATED = re.compile(r"^create or replace (?:macro|view) (\w+)", re.MULTILINE)
_COMMENT = re.compile(r"--.*")
# What a statement calls, or reads as a table.
_USED = re.compile(r"\b(\w+)\(|\b(?:from|join) (\w+)")
_PART = re.compile(r"{([a-z_]+)}")


@cache
def read(name: str) -> str:
    """Return the text of one file, e.g. ``queries/schema/0001_initial.sql``."""
    return _at(name).read_text(encoding="utf-8")


def fill(name: str, parts: Mapping[str, str]) -> str:
    """Return the text of one file with SQL in place of each ``{part}``: tables, and values where no parameter may be.

    Raises:
        KeyError: the file has a part that is not given.
    """
    return _PART.sub(lambda found: parts[found[1]], read(name))


def reading_all(flows_since: object) -> str:
    """Return the SQL after which whoever asks expects flows of which nothing is made yet.

    Args:
        flows_since: from when on flows are kept, in nanoseconds, as FLOWS_SINCE gives it.
    """
    text = read("sql/read_all.sql")
    return text + fill("sql/read_pruned.sql", {"since": f"make_timestamp_ns({flows_since})"}) if flows_since else text


def names(folder: str) -> list[str]:
    """Return the names of all SQL files below a folder in order, e.g. ``queries/schema/0001_initial.sql``."""
    return sorted(name for name in _below(folder) if name.endswith(".sql"))


def list_installed() -> list[str]:
    """Return the names of the files with views and macros, each after those that it uses: DuckDB looks for these."""
    texts = {name: _COMMENT.sub("", read(name)) for folder in INSTALLED for name in names(folder)}
    makers = {created: name for name, text in texts.items() for created in _CREATED.findall(text)}
    used = {name: {word for pair in _USED.findall(text) for word in pair} for name, text in texts.items()}
    needed = {name: sorted({makers[word] for word in used[name] & makers.keys()} - {name}) for name in texts}
    return list(TopologicalSorter(needed).static_order())


def quote(text: str) -> str:
    """Return text as it stands between the quotes of a SQL string: for what takes no parameters."""
    return text.replace("'", "''")


def _below(folder: str) -> Iterator[str]:
    for entry in _at(folder).iterdir():
        name = f"{folder}/{entry.name}"
        if entry.is_dir():
            yield from _below(name)
        else:
            yield name


def _at(name: str) -> Traversable:
    return ROOT.joinpath(*name.split("/"))

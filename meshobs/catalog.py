"""Which reports there are: one file queries/macros/NN_report_NAME.sql each, its first line the question it answers."""

import re
from functools import cache

from meshobs import sqlfiles

_NAME = re.compile(r"macros/\d+_report_(\w+)\.sql")


@cache
def names() -> tuple[str, ...]:
    """Return the reports' names in alphabetic order."""
    return tuple(sorted(_files()))


@cache
def questions() -> dict[str, str]:
    """Return each report's name and question, in alphabetic order."""
    files = _files()
    return {name: sqlfiles.read(files[name]).splitlines()[0].removeprefix("-- ") for name in names()}


def _files() -> dict[str, str]:
    return {match[1]: name for name in sqlfiles.names("macros") if (match := _NAME.fullmatch(name))}

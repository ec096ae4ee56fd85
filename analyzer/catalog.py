"""Which reports there are: one file queries/macros/NN_report_NAME.sql each, its first line the question it answers."""

import re
from functools import cache

from meshobs import sqlfiles

_NAME = re.compile(r"queries/macros/\d+_report_(\w+)\.sql")


@cache
def questions() -> dict[str, str]:
    """Return each report's name and question, in alphabetic order."""
    found = {match[1]: name for name in sqlfiles.names("queries/macros") if (match := _NAME.fullmatch(name))}
    return {name: sqlfiles.read(found[name]).splitlines()[0].removeprefix("-- ") for name in sorted(found)}

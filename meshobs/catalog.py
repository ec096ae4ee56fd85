"""Which reports there are: one file queries/reports/NAME.sql each, its first line the question that it answers."""

from functools import cache
from pathlib import PurePath

from meshobs import sqlfiles


@cache
def names() -> tuple[str, ...]:
    """Return the reports' names in alphabetic order."""
    return tuple(PurePath(name).stem for name in sqlfiles.names("queries/reports"))


@cache
def questions() -> dict[str, str]:
    """Return each report's name and question, in alphabetic order."""
    return {name: sqlfiles.read(f"queries/reports/{name}.sql").splitlines()[0].removeprefix("-- ") for name in names()}


def causes() -> str:
    """Return the SQL of the view `causes`, which puts together what the reports' files say of theirs."""
    parts = (f"select '{name}' as report, * from causes_{name}()" for name in names())  # noqa: S608 - of our own files
    return f"create or replace view causes as {' union all '.join(parts)};\n"

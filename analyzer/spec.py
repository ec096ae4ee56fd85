"""What the analyzer knows of one report: which rows count for its verdict, and how people see them.

A report's module has its name and holds its SPEC. What it asks, its columns as data and what its causes mean stand in
queries/reports/NAME.sql, for a plain DuckDB shell knows nothing of this room.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from typing import TypeAlias

from meshobs.verdict import Verdict, worst

Row: TypeAlias = Mapping[str, object]
# The name of a row's value, or what makes a text of the row.
Cell: TypeAlias = str | Callable[[Row], str]


class Kind(Enum):
    """What a column holds: numbers stand to the right."""

    TEXT = "text"
    NUMBER = "number"


@dataclass(frozen=True)
class Column:
    """One column of the table for people."""

    heading: str
    cell: Cell
    kind: Kind

    def text_of(self, row: Row) -> str:
        """Return its text in a row."""
        return str(row[self.cell]) if isinstance(self.cell, str) else self.cell(row)


def text(heading: str, cell: Cell) -> Column:
    """Return a column of texts."""
    return Column(heading, cell, Kind.TEXT)


def number(heading: str, cell: Cell) -> Column:
    """Return a column of numbers, shares or times."""
    return Column(heading, cell, Kind.NUMBER)


VERDICT = text("verdict", "verdict")


@dataclass(frozen=True)
class Judgement:
    """A verdict and why."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class ReportSpec:
    """One report.

    Attributes:
        columns: of its table.
        row_name: what a row is about, in a few words.
        nothing: the reason where no row counts.
        counting: picks the rows that count.
        summary: what all rows say together, beside the verdict; empty for nothing.
        reads: the columns of `connections` that it and what is told beside it read, as SQL.
    """

    columns: Sequence[Column]
    row_name: Callable[[Row], str]
    nothing: str
    reads: str
    counting: Callable[[Sequence[Row]], Sequence[Row]] = list
    summary: Callable[[Sequence[Row]], str] = lambda _rows: ""

    def judge(self, rows: Sequence[Row]) -> Judgement:
        """Return the report's verdict: the worst of the rows that count, with that row's reason.

        No row that counts is insufficient: nothing was seen that could have gone wrong.
        """
        counting = self.counting(rows)
        verdict = worst(Verdict(row["verdict"]) for row in counting)
        found = [row for row in counting if row["verdict"] == verdict.value]
        if not found:
            return Judgement(verdict, self.nothing)
        more = f" (and {len(found) - 1} more like it)" if len(found) > 1 else ""
        return Judgement(verdict, f"{self.row_name(found[0])}: {found[0]['reason']}{more}")


def spec_of(report: str) -> ReportSpec:
    """Return the SPEC of a report that the catalog knows."""
    spec: ReportSpec = import_module(f"meshobs.analyzer.{report}").SPEC
    return spec

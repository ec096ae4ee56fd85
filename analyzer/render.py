"""Tables and reports as text: JSON, CSV as the DuckDB shell writes it, Markdown, and cells for a terminal. Pure."""

import csv
import io
import json
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

from meshobs.analyzer.answer import Report
from meshobs.analyzer.cells import clock
from meshobs.analyzer.spec import Kind, spec_of
from meshobs.analyzer.values import values
from meshobs.text import printable

if TYPE_CHECKING:
    import pyarrow as pa


def report_json(report: Report, flows: "pa.Table | None" = None) -> str:
    """Return a report as one JSON object: the contract for machines, docs/reference/reports.md.

    Args:
        report: the answer.
        flows: the evidence, which becomes the key `evidence`.
    """
    content: dict[str, object] = {
        "report": report.name,
        "since": report.since,
        "until": report.until,
        "verdict": report.verdict.value,
        "reason": report.reason,
        "coverage": dict(report.coverage),
        "limits": list(report.limits),
        "rows": list(report.values),
    }
    if flows is not None:
        content["evidence"] = values(flows)
    return json_text(content)


def table_json(table: "pa.Table") -> str:
    """Return a table as a JSON list of objects."""
    return json_text(values(table))


def json_text(value: object) -> str:
    """Return a value as JSON; every character that could steer a terminal is escaped."""
    return json.dumps(value, indent=2, default=_plain)


def table_csv(texts: "pa.Table") -> str:
    """Return a table of texts as CSV, absent values as NULL: as the DuckDB shell prints it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(texts.column_names)
    columns = [column.to_pylist() for column in texts.columns]
    writer.writerows(
        ["NULL" if cell is None else printable(str(cell)) for cell in row] for row in zip(*columns, strict=True)
    )
    return out.getvalue()


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return texts as a Markdown table."""
    lines = [list(headings), ["---"] * len(headings), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def headline(report: Report) -> list[str]:
    """Return verdict, window and coverage as lines for people."""
    coverage = report.coverage
    summary = spec_of(report.name).summary(report.values)
    return [
        ", ".join(filter(None, [f"{report.name}: {report.verdict.value}", summary])),
        ", ".join(
            [
                f"{clock(report.since)} to {clock(report.until)}",
                f"{coverage['nodes_watched']} of {coverage['nodes_expected']} nodes watched",
                f"{coverage['lost_events']} events lost",
                f"{coverage['gaps']} gaps",
                f"{coverage['one_sided_share']:.1%} one-sided",
                f"{coverage['door_unknown_share']:.1%} by an unknown door",
            ]
        ),
    ]


def reasons(report: Report) -> list[str]:
    """Return each row's reason under the row's name, the report's where no row exists; then what was not asked for."""
    row_name = spec_of(report.name).row_name
    rows = report.values
    found = [printable(f"{row_name(row)}: {row['reason']}") for row in rows] or [report.reason]
    return found + [printable(limit) for limit in report.limits]


def table(report: Report) -> tuple[list[str], list[list[str]], set[str]]:
    """Return a report as a table for people: headings, rows of texts, and which headings are those of numbers."""
    columns = spec_of(report.name).columns
    rows = [[printable(column.text_of(row)) for column in columns] for row in report.values]
    numbers = {column.heading for column in columns if column.kind is Kind.NUMBER}
    return [column.heading for column in columns], rows, numbers


def cells(table: "pa.Table", *, short: bool = False) -> list[list[str]]:
    """Return a table's values as printable texts, nothing for null; `short` cuts times to seconds."""
    times = {field.name for field in table.schema if str(field.type).startswith("timestamp")} if short else set()
    return [[_cell(value, is_time=name in times) for name, value in row.items()] for row in values(table)]


def _plain(value: object) -> str:
    return str(value.value if isinstance(value, Enum) else value)


def _cell(value: object, *, is_time: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()  # as DuckDB, and JSON, have it
    if is_time:
        return clock(str(value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return printable(", ".join(str(item) for item in value))
    return printable(str(value))

"""A report as HTML, for notebooks."""

from collections.abc import Sequence
from html import escape

from meshobs.analyzer import render
from meshobs.analyzer.answer import Report


def html(report: Report) -> str:
    """Return verdict, window, table and reasons. All texts are escaped: what flows carry is whatever a sender chose."""
    headings, rows, _ = render.table(report)
    parts = ["".join(f"<p>{escape(line)}</p>" for line in render.headline(report))]
    if rows:
        parts.append(f"<table><thead>{_row(headings, 'th')}</thead><tbody>")
        parts += [_row(cells, "td") for cells in rows]
        parts.append("</tbody></table>")
    parts.append(f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in render.reasons(report))}</ul>")
    return "".join(parts)


def _row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"

"""The one verdict of a report, from those of its rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from meshobs.verdict import Verdict, worst

Row: TypeAlias = Mapping[str, object]


@dataclass(frozen=True)
class Judgement:
    """A verdict and why."""

    verdict: Verdict
    reason: str


def judge(report: str, rows: Sequence[Row]) -> Judgement:
    """Return a report's verdict: the worst of the rows that count, with that row's reason.

    No row that counts is insufficient: nothing was seen that could have gone wrong.
    """
    rule = _RULES[report]
    counting = rule.counting(rows)
    verdict = worst(Verdict(row["verdict"]) for row in counting)
    found = [row for row in counting if row["verdict"] == verdict.value]
    if not found:
        return Judgement(verdict, rule.nothing)
    more = f" (and {len(found) - 1} more like it)" if len(found) > 1 else ""
    return Judgement(verdict, f"{rule.name(found[0])}: {found[0]['reason']}{more}")


def row_name(report: str, row: Row) -> str:
    """Return what a row is about, in a few words."""
    return _RULES[report].name(row)


@dataclass(frozen=True)
class _Rule:
    """How the rows of one report are judged.

    Attributes:
        counting: picks the rows that count.
        nothing: the reason where none does.
        name: what a row is about.
    """

    counting: Callable[[Sequence[Row]], list[Row]]
    nothing: str
    name: Callable[[Row], str]


def _nat_rows(rows: Sequence[Row]) -> list[Row]:
    """Leave out what came from outside the mesh."""
    return [row for row in rows if row["source_cluster"] != ""]


def _affinity_rows(rows: Sequence[Row]) -> list[Row]:
    """Leave out services that are not global unless they are broken or there is nothing else.

    Every cluster calls such services (DNS, its API), often too rarely for a proof, and they have no setting to keep.
    """
    told = [row for row in rows if row["setting"] != "not-global" or row["verdict"] == Verdict.VIOLATION.value]
    return told or list(rows)


def _all_rows(rows: Sequence[Row]) -> list[Row]:
    return list(rows)


def _pair(row: Row) -> str:
    return f"{row['source_cluster'] or 'outside'} -> {row['destination_cluster']}"


def _hop(row: Row) -> str:
    service = f" {row['namespace']}/{row['service']}" if row["service"] else ""
    return f"{_pair(row)} by {row['door']}{service}"


_RULES = {
    "nat": _Rule(
        _nat_rows, "no connection crossed clusters in the window", lambda row: f"{_pair(row)} {row['protocol']}"
    ),
    "affinity": _Rule(
        _affinity_rows,
        "no connection through a service was seen in the window",
        lambda row: f"{row['client_cluster']}, {row['namespace']}/{row['service']}, {row['setting']}",
    ),
    "hops": _Rule(_all_rows, "no connection was seen in the window", _hop),
    "coverage": _Rule(_all_rows, "no node was seen in the window", lambda row: f"{row['cluster']}/{row['node']}"),
}

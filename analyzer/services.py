"""`report services`: a row is a service, a cluster and a state of its Service object; what is not known stays empty."""

from collections.abc import Callable

from meshobs.analyzer import hops
from meshobs.analyzer.cells import clock, service
from meshobs.analyzer.spec import VERDICT, ReportSpec, Row, number, text


def _flag(name: str) -> Callable[[Row], str]:
    return lambda row: "" if row[name] is None else "yes" if row[name] else "no"


def _texts(name: str) -> Callable[[Row], str]:
    def join(row: Row) -> str:
        found = row[name]
        return ", ".join(map(str, found)) if isinstance(found, list) else ""

    return join


def _time(name: str) -> Callable[[Row], str]:
    return lambda row: "" if row[name] is None else clock(str(row[name]))


def _backends(row: Row) -> str:
    return "" if row["backends_known"] is None else f"{row['backends_active']} of {row['backends_known']}"


SPEC = ReportSpec(
    columns=(
        text("service", service),
        text("cluster", "cluster"),
        text("global", _flag("global")),
        text("shared", _flag("shared")),
        text("affinity", lambda row: str(row["affinity"] or "")),
        text("ports", _texts("ports")),
        number("backends", _backends),
        number("since", _time("since")),
        number("known from", _time("known_from")),
        text("as written", _texts("annotations")),
        VERDICT,
    ),
    row_name=lambda row: f"{service(row)} in {row['cluster']}",
    nothing="no global service is known, and no service was seen called across clusters",
    reads=hops.SPEC.reads,
)

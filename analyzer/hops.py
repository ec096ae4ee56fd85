"""`report hops`: a row is a way from cluster to cluster by one door."""

from meshobs.analyzer import crossings
from meshobs.analyzer.cells import cluster, interval, pair, service
from meshobs.analyzer.spec import VERDICT, ReportSpec, Row, number, text


def _row_name(row: Row) -> str:
    return " ".join(part for part in (f"{pair(row)} by {row['door']}", service(row)) if part)


SPEC = ReportSpec(
    columns=(
        text("from", cluster("source_cluster")),
        text("to", "destination_cluster"),
        text("door", "door"),
        text("service", service),
        number("connections", "connections"),
        number("crossings", "crossings"),
        number("avoidable", "avoidable"),
        number("avoidable share (95 %)", interval("avoidable_share")),
        number("trombones", "trombones"),
        number("hairpins", "hairpins"),
        number("dropped", "dropped"),
        VERDICT,
    ),
    row_name=_row_name,
    nothing="no connection was seen in the window",
    reads=(
        "attempt, outcome, time, client_ns, protocol, client_kind, client_cluster, client_address, "
        "ingress_cluster, server_cluster, server_address, server_port, departure_uuid, unseen, door, "
        "door_namespace, door_service, door_port, aimed_cluster"
    ),
    summary=crossings.summary,
)

"""`report affinity`: a row is a client cluster, a service and a period of one setting."""

from collections.abc import Sequence

from meshobs.analyzer.cells import clock, interval, service, share
from meshobs.analyzer.spec import VERDICT, ReportSpec, Row, number, text
from meshobs.verdict import Verdict


def _keep_global(rows: Sequence[Row]) -> Sequence[Row]:
    """Leave out services that are not global unless they are broken or there is nothing else.

    Every cluster calls such services (DNS, its API), often too rarely for a proof, and they have no setting to keep.
    """
    found = [row for row in rows if row["setting"] != "not-global" or row["verdict"] == Verdict.VIOLATION.value]
    return found or rows


def _frontend(row: Row) -> str:
    """Return the service, and which of its ports where it has several."""
    return f"{service(row)}:{row['port']}" if row["port"] else service(row)


SPEC = ReportSpec(
    columns=(
        text("client", "client_cluster"),
        text("service", _frontend),
        text("setting", "setting"),
        number("since", lambda row: clock(str(row["since"]))[11:]),
        number("backends", lambda row: f"{row['backends_local']} + {row['backends_remote']}"),
        number("local : remote", lambda row: f"{row['local']} : {row['remote']}"),
        number("local share (95 %)", interval("local_share")),
        number("expected", share("expected_local_share")),
        number("fallback", "fallback"),
        number("against", "violations"),
        number("dropped", "dropped"),
        VERDICT,
    ),
    row_name=lambda row: f"{row['client_cluster']}, {_frontend(row)}, {row['setting']}",
    nothing="no connection through a service was seen in the window",
    reads=(
        "attempt, outcome, time, ns, client_ns, protocol, client_kind, client_cluster, client_namespace, "
        "client_pod, client_node_cluster, client_node, client_address, client_port, seen_identity, "
        "server_cluster, server_node, server_namespace, server_pod, server_address, server_port, drop_reason, "
        "arrival_uuid, arrival_time, arrival_seen_by, departure_uuid, departure_time, departure_seen_by, unseen, "
        "door, door_namespace, door_service, door_port, translation, call_uuid, call_time, call_seen_by"
    ),
    counting=_keep_global,
)

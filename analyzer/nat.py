"""`report nat`: what came from outside the mesh is shown and does not count."""

from meshobs.analyzer.cells import cluster, interval, pair
from meshobs.analyzer.spec import VERDICT, ReportSpec, number, text

SPEC = ReportSpec(
    columns=(
        text("from", cluster("source_cluster")),
        text("to", "destination_cluster"),
        text("protocol", "protocol"),
        number("connections", "connections"),
        number("kept", "untranslated"),
        number("kept share (95 %)", interval("untranslated_share")),
        number("source changed", "translated"),
        number("destination changed", "destination_translated"),
        number("one-sided", "one_sided"),
        number("ambiguous", "ambiguous"),
        VERDICT,
    ),
    row_name=lambda row: f"{pair(row)} {row['protocol']}",
    nothing="no connection crossed clusters in the window",
    reads=(
        "outcome, protocol, client_kind, client_cluster, client_namespace, client_pod, client_address, "
        "seen_address, server_cluster, server_address, server_port, door, translation, translated_by"
    ),
    counting=lambda rows: [row for row in rows if row["source_cluster"] != ""],
)

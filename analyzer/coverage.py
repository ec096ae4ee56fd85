"""`report coverage`: a row is a node that should have been watched."""

from meshobs.analyzer.cells import share
from meshobs.analyzer.spec import VERDICT, ReportSpec, number, text

SPEC = ReportSpec(
    columns=(
        text("cluster", "cluster"),
        text("node", "node"),
        text("version", "version"),
        number("flows", "flows"),
        number("lost", "lost"),
        number("gaps", lambda row: f"{row['gap_seconds']:.1f} s"),
        number("watched", share("watched_share")),
        number("clock", lambda row: f"{row['clock_offset']:+.1f} s" if row["clock_offset"] is not None else ""),
        VERDICT,
    ),
    row_name=lambda row: f"{row['cluster']}/{row['node']}",
    nothing="no node was seen in the window",
    reads="outcome, client_kind, door",
)

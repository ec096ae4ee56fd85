"""What a run is told besides flows: states of Kubernetes objects, of Relays, nodes and clocks, and gaps.

Nothing here changes the catalog: the writer's prepared statements stay as they are. Many values go as JSON: DuckDB 1.5
takes a millisecond for each dict of a list, in which it looks for pandas.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

from meshobs import sqlfiles
from meshobs.collector.hubble.answers import RelayNode, RelayStatus
from meshobs.collector.kube.sighting import Sighting
from meshobs.collector.node_name import NodeName
from meshobs.collector.write.gap import Gap
from meshobs.store import Writer


def add_sightings(store: Writer, sightings: Sequence[Sighting], *, first_list: bool = False) -> None:
    """Store states; the same one again changes nothing.

    Args:
        store: open for writing.
        sightings: the states.
        first_list: what a run sees first; it may hold since the last run's end.
    """
    rows = [
        {
            "cluster": seen.cluster,
            "kind": seen.state.kind,
            "namespace": seen.state.namespace,
            "name": seen.state.name,
            "uid": seen.state.uid,
            "created": seen.state.created,
            "state": seen.state.state,
            "valid_from": seen.valid_from,
            "known_from": seen.known_from,
            "deleted": seen.deleted,
        }
        for seen in sightings
    ]
    if rows:
        parameters = {"rows": json.dumps(rows), "first_list": first_list}
        store.run(sqlfiles.read("collector/write/sql/facts/add_states.sql"), parameters)


def add_missing(store: Writer, cluster: str, kinds: Iterable[str], seen: Iterable[str], at: int) -> None:
    """Store that objects of earlier runs are gone.

    Args:
        store: open for writing.
        cluster: its name.
        kinds: which were listed completely.
        seen: KIND/NAMESPACE/NAME of what was listed.
        at: when, nanoseconds.
    """
    parameters = {"cluster": cluster, "kinds": list(kinds), "seen": json.dumps(list(seen)), "at": at}
    store.run(sqlfiles.read("collector/write/sql/facts/add_missing.sql"), parameters)


def add_watched(store: Writer, clusters: Sequence[str], at: int) -> None:
    """Store until when the objects of clusters were watched, in nanoseconds."""
    if clusters:
        store.run(sqlfiles.read("collector/write/sql/facts/add_watched.sql"), {"clusters": list(clusters), "at": at})


def remake_history(store: Writer) -> None:
    """Make the history tables from all stored states; the caller opens the transaction."""
    for name in sqlfiles.names("queries/history"):
        store.run(sqlfiles.read(name))


def add_relay_nodes(store: Writer, reader: str, nodes: Sequence[RelayNode], fallback_cluster: str) -> None:
    """Store what a Relay said of its nodes; the same again changes nothing."""
    rows = []
    for relay_node in nodes:
        cluster, name = NodeName.parse(relay_node.node_name, fallback_cluster)
        rows.append(
            {
                "time": relay_node.time,
                "cluster": cluster,
                "node": name,
                "state": relay_node.state,
                "version": relay_node.version,
                "address": relay_node.address,
                "uptime_ns": relay_node.uptime_ns,
                "num_flows": relay_node.num_flows,
                "max_flows": relay_node.max_flows,
                "seen_flows": relay_node.seen_flows,
            }
        )
    if rows:
        told = json.dumps(rows)
        store.run(sqlfiles.read("collector/write/sql/facts/add_nodes.sql"), {"reader": reader, "rows": told})
        store.run(sqlfiles.read("collector/write/sql/facts/add_versions.sql"), {"rows": told})


def add_relay(store: Writer, reader: str, address: str, status: RelayStatus, at: int, collection: int) -> None:
    """Store what a Relay said of itself."""
    parameters = {
        "time": at,
        "reader": reader,
        "address": address,
        "version": status.version,
        "connected": status.connected,
        "unavailable": status.unavailable,
        "num_flows": status.num_flows,
        "max_flows": status.max_flows,
        "seen_flows": status.seen_flows,
        "uptime_ns": status.uptime_ns,
        "flows_rate": status.flows_rate,
        "expires": status.expires.replace(tzinfo=None) if status.expires else None,
        "collection": collection,
    }
    store.run(sqlfiles.read("collector/write/sql/facts/add_relay.sql"), parameters)


def add_gap(store: Writer, gap: Gap, collection: int) -> None:
    """Store a stretch of which nothing could be had."""
    cluster, name = NodeName.parse(gap.node)
    parameters = {"cluster": cluster, "node": name, "reader": gap.reader, "first": gap.first, "end": gap.end}
    store.run(
        sqlfiles.read("collector/write/sql/facts/add_gap.sql"),
        {**parameters, "reason": gap.reason, "collection": collection},
    )


def add_clocks(store: Writer, lags: Mapping[str, int], at: int, collection: int) -> None:
    """Store by how much each node's time lagged behind at the least, in nanoseconds."""
    for node, lag in lags.items():
        cluster, name = NodeName.parse(node)
        parameters = {"cluster": cluster, "node": name, "collection": collection, "time": at, "lag": lag / 1e9}
        store.run(sqlfiles.read("collector/write/sql/facts/add_clock.sql"), parameters)

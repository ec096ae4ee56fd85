"""What a run is told besides flows: states of Kubernetes objects, of Relays, nodes and clocks, and gaps.

Nothing here changes the catalog: the writer's prepared statements stay as they are.
"""

from collections.abc import Iterable, Mapping, Sequence

from meshobs import sqlfiles
from meshobs.collector import scope
from meshobs.collector.recovery import Gap
from meshobs.collector.topology import RelayNode, RelayStatus, Sighting
from meshobs.store import Store


def add_sightings(store: Store, sightings: Sequence[Sighting], *, first_list: bool = False) -> None:
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
        store.run(sqlfiles.read("collector/sql/facts/add_states.sql"), {"rows": rows, "first_list": first_list})


def add_missing(store: Store, cluster: str, kinds: Iterable[str], seen: Iterable[str], at: int) -> None:
    """Store that objects of earlier runs are gone.

    Args:
        store: open for writing.
        cluster: its name.
        kinds: which were listed completely.
        seen: KIND/NAMESPACE/NAME of what was listed.
        at: when, nanoseconds.
    """
    parameters = {"cluster": cluster, "kinds": list(kinds), "seen": list(seen), "at": at}
    store.run(sqlfiles.read("collector/sql/facts/add_missing.sql"), parameters)


def add_watched(store: Store, clusters: Sequence[str], at: int) -> None:
    """Store until when the objects of clusters were watched, in nanoseconds."""
    if clusters:
        store.run(sqlfiles.read("collector/sql/facts/add_watched.sql"), {"clusters": list(clusters), "at": at})


def remake_history(store: Store) -> None:
    """Make the history tables from all stored states; the caller opens the transaction."""
    for name in sqlfiles.names("queries/history"):
        store.run(sqlfiles.read(name))


def add_relay_nodes(store: Store, reader: str, nodes: Sequence[RelayNode], fallback_cluster: str) -> None:
    """Store what a Relay said of its nodes; the same again changes nothing."""
    rows = []
    for told in nodes:
        cluster, _, name = scope.full_name(told.node_name, fallback_cluster).partition("/")
        rows.append(
            {
                "time": told.time,
                "cluster": cluster,
                "node": name,
                "state": told.state,
                "version": told.version,
                "address": told.address,
                "uptime_ns": told.uptime_ns,
                "num_flows": told.num_flows,
                "max_flows": told.max_flows,
                "seen_flows": told.seen_flows,
            }
        )
    if rows:
        store.run(sqlfiles.read("collector/sql/facts/add_nodes.sql"), {"reader": reader, "rows": rows})
        versions = [{key: row[key] for key in ("time", "cluster", "node", "version")} for row in rows]
        store.run(sqlfiles.read("collector/sql/facts/add_versions.sql"), {"rows": versions})


def add_relay(store: Store, reader: str, address: str, told: RelayStatus, at: int, collection: int) -> None:
    """Store what a Relay said of itself."""
    parameters = {
        "time": at,
        "reader": reader,
        "address": address,
        "version": told.version,
        "connected": told.connected,
        "unavailable": told.unavailable,
        "num_flows": told.num_flows,
        "max_flows": told.max_flows,
        "seen_flows": told.seen_flows,
        "uptime_ns": told.uptime_ns,
        "flows_rate": told.flows_rate,
        "expires": told.expires.replace(tzinfo=None) if told.expires else None,
        "collection": collection,
    }
    store.run(sqlfiles.read("collector/sql/facts/add_relay.sql"), parameters)


def add_gap(store: Store, gap: Gap, collection: int) -> None:
    """Store a stretch of which nothing could be had."""
    cluster, _, name = gap.node.partition("/")
    parameters = {"cluster": cluster, "node": name, "reader": gap.reader, "first": gap.first, "end": gap.end}
    store.run(
        sqlfiles.read("collector/sql/facts/add_gap.sql"), {**parameters, "reason": gap.reason, "collection": collection}
    )


def add_clocks(store: Store, lags: Mapping[str, int], at: int, collection: int) -> None:
    """Store by how much each node's time lagged behind at the least, in nanoseconds."""
    for node, lag in lags.items():
        cluster, _, name = node.partition("/")
        parameters = {"cluster": cluster, "node": name, "collection": collection, "time": at, "lag": lag / 1e9}
        store.run(sqlfiles.read("collector/sql/facts/add_clock.sql"), parameters)

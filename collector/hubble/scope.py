"""Which Relay is asked for which nodes, and for what not. Pure.

A Relay of a mesh returns the nodes of all clusters. Several Relays are each asked for their own cluster's nodes, so
that nothing is sent twice; one alone, or each of them with `redundant`, is asked for all.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from ipaddress import ip_address

from meshobs.collector.node_name import DEFAULT_CLUSTER, NodeName, cluster_of
from meshobs.pb.flow.flow_pb2 import FlowFilter

# Where agents and Relays serve Hubble; no application's. At aggregation `none` a reader would feed on its own traffic.
_HUBBLE_PORTS = ("4244", "4245")


def assign(relays: Mapping[str, Sequence[str]], *, redundant: bool = False) -> dict[str, list[str] | None]:
    """Return the clusters that each Relay is asked for; None asks for all nodes.

    Args:
        relays: name of each Relay -> names of the nodes that it knows.
        redundant: ask each Relay for all.
    """
    known = {name: {cluster_of(node) for node in nodes} for name, nodes in relays.items()}
    if redundant or len(relays) == 1 or not _overlap(known):
        return dict.fromkeys(relays)
    wanted: dict[str, list[str] | None] = {name: [name] if name in clusters else [] for name, clusters in known.items()}
    taken = {name for name in known if name in known[name]}
    for cluster in sorted(set().union(*known.values()) - taken):
        first = next(name for name, clusters in known.items() if cluster in clusters)
        wanted[first] = [*(wanted[first] or []), cluster]
    return wanted


def narrow(filters: Sequence[FlowFilter], clusters: Sequence[str] | None) -> list[FlowFilter] | None:
    """Return an allowlist for the nodes of some clusters only (None: of all); None if none are left to ask."""
    if clusters is None:
        return list(filters)
    made = []
    for one in filters or [FlowFilter()]:
        copy = FlowFilter()
        copy.CopyFrom(one)
        # A pattern that the user gave narrows further only where it lies in these clusters.
        names = [_within(name, cluster) for name in one.node_name or ["/"] for cluster in clusters]
        del copy.node_name[:]
        copy.node_name.extend(dict.fromkeys(name for name in names if name))
        if copy.node_name:
            made.append(copy)
    return made or None


def covers(filters: Sequence[FlowFilter], node_name: str) -> bool:
    """Tell whether any flow of a node can pass an allowlist, as far as the node's name tells."""
    cluster, node = NodeName.parse(node_name)
    patterns = [[_within(pattern, cluster) for pattern in one.node_name] for one in filters]
    return not filters or any(
        not within or any(one and fnmatchcase(node, one.partition("/")[2] or "*") for one in within)
        for within in patterns
    )


def own_traffic(observers: Sequence[str], relays: Sequence[str], api_servers: Sequence[str]) -> list[FlowFilter]:
    """Return a denylist of Hubble's and the collector's own traffic.

    Args:
        observers: addresses of agents (HOST:PORT), as GetNodes tells them.
        relays: addresses of the Relays in use.
        api_servers: addresses of the Kubernetes API servers in use.
    """
    # Any other port may be an application's elsewhere: it is left out for that address only.
    hosted = {
        (address.rpartition(":")[0].strip("[]"), port)
        for address in (*observers, *relays, *api_servers)
        if (port := address.rpartition(":")[2]) not in _HUBBLE_PORTS
    }
    filters = [FlowFilter(source_port=_HUBBLE_PORTS), FlowFilter(destination_port=_HUBBLE_PORTS)]
    for host, port in sorted(hosted):
        if _is_address(host) and port.isdecimal():
            filters.append(FlowFilter(source_ip=[host], source_port=[port]))
            filters.append(FlowFilter(destination_ip=[host], destination_port=[port]))
    return filters


def _within(pattern: str, cluster: str) -> str:
    """Return a node pattern for one cluster only, empty if it names others.

    Hubble takes a missing cluster in a pattern for any, one in a node's name for `default`; * is all its wildcards.
    """
    theirs, _, node = pattern.partition("/") if "/" in pattern else ("", "", pattern)
    name = cluster or DEFAULT_CLUSTER
    return f"{name}/{node}" if not theirs or fnmatchcase(name, theirs) else ""


def _overlap(known: Mapping[str, set[str]]) -> bool:
    """Tell whether any cluster is seen by several Relays."""
    return sum(map(len, known.values())) > len(set().union(*known.values()))


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True

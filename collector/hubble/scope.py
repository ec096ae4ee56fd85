"""Which Relay is asked for which nodes, and for what not. Pure.

A Relay of a mesh returns the nodes of all clusters. Several Relays are each asked for their own cluster's nodes, so
that nothing is sent twice; one alone, or each of them with `redundant`, is asked for all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import ip_address

from meshobs.collector.node_name import DEFAULT_CLUSTER, NodeName, cluster_of
from meshobs.pb.flow.flow_pb2 import FlowFilter

# Where agents and Relays serve Hubble; no application's. At aggregation `none` a reader would feed on its own traffic.
_HUBBLE_PORTS = ("4244", "4245")
# Of kubelets, to which API servers carry port-forwards on; of API servers where they do not say.
_KUBELET_PORT = "10250"
_API_PORT = "6443"


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


@dataclass(frozen=True)
class ForwardPath:
    """What a Relay's port-forward passes on the nodes of its cluster: API server, then kubelet.

    Attributes:
        nodes: addresses of the cluster's nodes.
        api_ports: where its API servers listen, as nodes see it; empty where that is not known.
    """

    nodes: Sequence[str]
    api_ports: Sequence[str] = ()

    @property
    def ports(self) -> list[str]:
        """Return the ports of API server and kubelet."""
        return sorted({*(self.api_ports or (_API_PORT,)), _KUBELET_PORT}, key=int)


def forward_path(name: str, nodes: Mapping[str, str], api_servers: Sequence[str]) -> ForwardPath:
    """Return what the port-forward to a cluster's Relay passes.

    Args:
        name: of the cluster.
        nodes: name -> address of its agent (HOST:PORT) of all nodes that the Relay knows.
        api_servers: addresses of the cluster's API servers (HOST:PORT), none where they may not be read.
    """
    # Where no node carries the cluster's name, it goes by another one.
    own = [address for node, address in nodes.items() if cluster_of(node) == name] or list(nodes.values())
    hosts = {_host(address) for address in (*own, *api_servers)}
    ports = {address.rpartition(":")[2] for address in api_servers}
    return ForwardPath(sorted(filter(_is_address, hosts)), sorted(filter(str.isdecimal, ports)))


def own_traffic(
    observers: Sequence[str], relays: Sequence[str], api_servers: Sequence[str], forwards: Iterable[ForwardPath] = ()
) -> list[FlowFilter]:
    """Return a denylist of Hubble's and the collector's own traffic.

    At aggregation `none` each packet is a flow, and a reader that sees its own packets makes more of them.

    Args:
        observers: addresses of agents (HOST:PORT), as GetNodes tells them.
        relays: addresses of the Relays in use.
        api_servers: addresses of the Kubernetes API servers in use.
        forwards: what port-forwards in use pass.
    """
    # Any other port may be an application's elsewhere: it is left out for that address only.
    hosted = {
        (_host(address), port)
        for address in (*observers, *relays, *api_servers)
        if (port := address.rpartition(":")[2]) not in _HUBBLE_PORTS
    }
    filters = [FlowFilter(source_port=_HUBBLE_PORTS), FlowFilter(destination_port=_HUBBLE_PORTS)]
    for host, port in sorted(hosted):
        if _is_address(host) and port.isdecimal():
            filters.append(FlowFilter(source_ip=[host], source_port=[port]))
            filters.append(FlowFilter(destination_ip=[host], destination_port=[port]))
    for path in forwards:
        if path.nodes:
            filters.append(FlowFilter(source_ip=path.nodes, source_port=path.ports))
            filters.append(FlowFilter(destination_ip=path.nodes, destination_port=path.ports))
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


def is_loopback(host: str) -> bool:
    """Tell whether a host that is dialled is this machine."""
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True

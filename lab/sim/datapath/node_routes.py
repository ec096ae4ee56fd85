"""Routes of the nodes, as autoDirectNodeRoutes makes them (S6). Pure."""

from collections.abc import Mapping, Sequence

from meshobs.lab.mesh.model import Mesh


def routes(mesh: Mesh, *, joined: bool) -> Mapping[str, Sequence[str]]:
    """Return each node's routes to pods, by the node's full name.

    Args:
        mesh: whose.
        joined: with the clusters connected: also to the nodes of the others.
    """
    found = {}
    for node in mesh.nodes:
        lines = [
            f"{other.pod_cidr} via {node.router} dev cilium_host proto kernel src {node.router}"
            if other == node
            else f"{other.pod_cidr} via {other.address} dev eth0 proto kernel"
            for other in mesh.nodes
            if joined or other.cluster == node.cluster
        ]
        own = [f"{node.router} dev cilium_host proto kernel scope link"]
        net = [f"{mesh.network} dev eth0 proto kernel scope link src {node.address}"]
        found[node.full] = sorted(lines + own + net)
    return found

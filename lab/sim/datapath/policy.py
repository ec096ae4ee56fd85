"""Rules that a connection meets on its way: who is masqueraded, whom a policy refuses."""

from functools import lru_cache
from ipaddress import ip_address, ip_network

from meshobs.lab.mesh.model import Cluster, Node
from meshobs.lab.sim.world.world import Pod, Policy, World
from meshobs.pb.flow import flow_pb2


def is_masqueraded(world: World, cluster: Cluster, address: str) -> bool:
    """Tell whether a cluster's nodes hide their pods from a destination on another node."""
    if address in world.node_at:
        # Natively never towards a node; into a tunnel goes only what is for pods.
        return cluster.variant.tunnels
    if cluster.variant.tunnels:
        return not any(is_within(address, one.pod_cidr) for one in world.mesh.clusters)
    return not any(
        is_within(address, network) for network in (cluster.native_routing_cidr, *cluster.non_masquerade_cidrs)
    )


@lru_cache(maxsize=65536)
def is_within(address: str, network: str) -> bool:
    """Tell whether an address lies in a network; an empty one holds none, nor one of the other family."""
    return bool(network) and ip_address(address) in ip_network(network)


def policy_verdict(
    world: World, server: Pod | None, node: Node | None, saw: str
) -> tuple[Policy | None, flow_pb2.DropReason | None]:
    """Return the policy that selects the server and why it refuses this source, None if it does not."""
    if server is None or server.host_network:
        return None, None
    selecting = [
        one for one in world.policies
        if (one.cluster, one.namespace, one.app) == (server.cluster, server.namespace, server.app)
    ]  # fmt: skip
    if not selecting or (saw in world.node_at and world.node_at[saw] == node):
        return None, None  # a pod's own node is always let in, without a verdict event
    source = world.pod_at.get(saw)
    for policy in sorted(selecting, key=lambda one: not one.explicit):
        # Only pods carry their cluster's label: an explicit rule misses whoever hides behind a node's address,
        # while a list of who is let in does not name it.
        if source is None and not policy.explicit:
            return policy, flow_pb2.POLICY_DENIED
        if source is not None and source.cluster == policy.source_cluster:
            return policy, flow_pb2.POLICY_DENY if policy.explicit else flow_pb2.POLICY_DENIED
    return selecting[0], None

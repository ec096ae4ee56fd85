"""How a node's agent describes the two ends of a flow: endpoint messages, made once and copied into every flow.

Only the agent of a pod's own node knows its endpoint number and its workload; all others know what the IP cache says.
"""

from functools import lru_cache
from zlib import crc32

from meshobs.lab.mesh.model import Node
from meshobs.lab.sim.world.world import Pod, World
from meshobs.pb.flow import flow_pb2

_HOST, _WORLD, _REMOTE_NODE, _KUBE_APISERVER, _WORLD_IPV4, _WORLD_IPV6 = 1, 2, 6, 7, 9, 10
OF_WORLD = flow_pb2.Endpoint(identity=_WORLD, labels=["reserved:world"])
# With both families Cilium tells them apart.
_OF_WORLD_IPV4 = flow_pb2.Endpoint(identity=_WORLD_IPV4, labels=["reserved:world-ipv4"])
_OF_WORLD_IPV6 = flow_pb2.Endpoint(identity=_WORLD_IPV6, labels=["reserved:world-ipv6"])
OF_REMOTE_NODE = flow_pb2.Endpoint(identity=_REMOTE_NODE, labels=["reserved:remote-node"])


def describe(world: World, observer: Node, address: str) -> flow_pb2.Endpoint:
    """Return what a node's agent says about an address. The message is shared: copy it, do not change it."""
    pod = world.pod_at.get(address)
    if pod is not None:
        return _of_pod(pod, local=pod.node == observer.full)
    node = world.node_at.get(address)
    if node is None:
        if not world.clusters[observer.cluster].variant.dual_stack:
            return OF_WORLD
        return _OF_WORLD_IPV6 if ":" in address else _OF_WORLD_IPV4
    if address == node.router and node != observer:
        return OF_REMOTE_NODE
    return _of_node(node, observer, by_ipv6=":" in address)


def identity(world: World, observer: Node, address: str) -> flow_pb2.Endpoint:
    """Return what a node's agent says of a packet that has the identity of an address, but another address."""
    known = describe(world, observer, address)
    return flow_pb2.Endpoint(identity=known.identity, labels=known.labels, cluster_name=known.cluster_name)


@lru_cache(maxsize=4096)
def _of_pod(pod: Pod, *, local: bool) -> flow_pb2.Endpoint:
    endpoint = flow_pb2.Endpoint(
        identity=pod.identity,
        namespace=pod.namespace,
        labels=[
            f"k8s:app={pod.app}",
            f"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name={pod.namespace}",
            f"k8s:io.cilium.k8s.policy.cluster={pod.cluster}",
            f"k8s:io.kubernetes.pod.namespace={pod.namespace}",
        ],
        pod_name=pod.name,
        cluster_name=pod.cluster,
    )
    if local:
        endpoint.ID = pod.endpoint
        if pod.workload:
            endpoint.workloads.add(name=pod.workload, kind="Deployment")
    return endpoint


@lru_cache(maxsize=4096)
def _of_node(node: Node, observer: Node, *, by_ipv6: bool) -> flow_pb2.Endpoint:
    """Return a node as another sees it: an API server is known as one in its own cluster only, and by IPv4."""
    if node == observer:
        labels = ["reserved:host", "reserved:kube-apiserver"] if node.control_plane else ["reserved:host"]
        return flow_pb2.Endpoint(identity=_HOST, labels=labels)
    if node.control_plane and not by_ipv6 and node.cluster == observer.cluster:
        return flow_pb2.Endpoint(identity=_KUBE_APISERVER, labels=["reserved:kube-apiserver", "reserved:remote-node"])
    return OF_REMOTE_NODE


@lru_cache(maxsize=1024)
def labels_of(node: Node) -> tuple[str, ...]:
    """Return a node's labels as they stand in each of its flows."""
    role = ("node-role.kubernetes.io/control-plane=",) if node.control_plane else ()
    return (
        "kubernetes.io/arch=amd64",
        f"kubernetes.io/hostname={node.name}",
        "kubernetes.io/os=linux",
        *role,
        f"topology.kubernetes.io/region={node.zone or node.cluster}",
    )


@lru_cache(maxsize=4096)
def hardware(name: str) -> str:
    """Return the hardware address of an interface; it follows from the name and is locally administered."""
    number = crc32(name.encode()) << 8 | crc32(name[::-1].encode()) & 0xFF
    return ":".join(f"{byte:02x}" for byte in (0x02, *number.to_bytes(5, "big")))


def cgroup_of(pod: Pod) -> int:
    """Return the number of a pod's control group."""
    return 5000 + crc32(pod.full.encode()) % 5000

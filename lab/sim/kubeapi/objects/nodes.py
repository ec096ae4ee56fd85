"""Nodes and CiliumNodes as an API server shows them. Pure."""

from meshobs.lab.mesh import versions
from meshobs.lab.mesh.model import Cluster, Node
from meshobs.lab.sim.kubeapi.objects.maker import Json, Key, Maker

KUBELET_PORT = 10250
_ROOM = {"cpu": "2", "memory": "4Gi", "pods": "110"}

# The API wants them of every Node.
_UNKNOWN = (
    *("bootID", "containerRuntimeVersion", "kernelVersion", "kubeProxyVersion", "machineID", "osImage", "systemUUID"),
)


def add(maker: Maker, cluster: Cluster) -> None:
    """Make a cluster's Nodes and CiliumNodes."""
    for node in cluster.nodes:
        _node(maker, node)
        _cilium_node(maker, node)


def _node(maker: Maker, node: Node) -> None:
    spec: Json = {
        "podCIDR": node.pod_cidr,
        "podCIDRs": list(node.pod_cidrs),
        "providerID": f"kind://docker/{node.cluster}/{node.name}",
    }
    if node.control_plane:
        spec["taints"] = [{"effect": "NoSchedule", "key": "node-role.kubernetes.io/control-plane"}]
    maker.add(
        Key("nodes", "", node.name),
        "v1",
        "Node",
        labels=node.labels,
        spec=spec,
        status={
            "addresses": [
                *({"address": address, "type": "InternalIP"} for address in node.addresses),
                {"address": node.name, "type": "Hostname"},
            ],
            "allocatable": dict(_ROOM),
            "capacity": dict(_ROOM),
            "conditions": [
                {"type": "NetworkUnavailable", "status": "False", "reason": "CiliumIsUp"},
                {"type": "Ready", "status": "True", "reason": "KubeletReady"},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
            "nodeInfo": dict.fromkeys(_UNKNOWN, "")
            | {"architecture": "amd64", "kubeletVersion": f"v{versions.KUBERNETES}", "operatingSystem": "linux"},
        },
    )


def _cilium_node(maker: Maker, node: Node) -> None:
    maker.add(
        Key("ciliumnodes", "", node.name),
        "cilium.io/v2",
        "CiliumNode",
        labels=node.labels,
        owner=maker.owner(Key("nodes", "", node.name), "v1", "Node", controller=False),
        meta={"generation": 1},
        spec={
            "addresses": [
                *({"ip": address, "type": "InternalIP"} for address in node.addresses),
                *({"ip": address, "type": "CiliumInternalIP"} for address in node.routers),
            ],
            "alibaba-cloud": {},
            "azure": {},
            "encryption": {},
            "eni": {},
            "health": {},
            "ingress": {},
            "ipam": {"podCIDRs": list(node.pod_cidrs), "pools": {}},
        },
    )

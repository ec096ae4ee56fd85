"""What the driver hands to kind and to Cilium's chart: cluster files (S1) and values (S3-S7). Pure."""

from collections.abc import Mapping
from typing import Any

from meshobs.lab.kind.options import Options
from meshobs.lab.mesh.model import Cluster, Mesh

# The mesh etcd of the first cluster; each further cluster has its own port. With the same port in two clusters an agent
# that dials the other one's node is answered by its own etcd (cilium#24692, trap T1).
_MESH_PORT = 32_379


def context(cluster: str) -> str:
    """Return the context that kind makes for a cluster."""
    return f"kind-{cluster}"


def cluster_file(cluster: Cluster, options: Options) -> Mapping[str, Any]:
    """Return kind's configuration of a cluster (S1).

    Nodes stay NotReady until Cilium is there: the own CNI is off, and so is kube-proxy.
    """
    apps, interface, worker_apps = options.ports[cluster.name]
    nodes: list[dict[str, Any]] = []
    workers = 0
    for node in cluster.nodes:
        made: dict[str, Any] = {
            "role": "control-plane" if node.control_plane else "worker",
            "image": options.node_image,
        }
        if node.control_plane:
            made["extraPortMappings"] = [_map_port(apps), _map_port(interface)]
        elif not workers:
            made["extraPortMappings"] = [_map_port(worker_apps)]
        workers += not node.control_plane
        nodes.append(made)
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": cluster.name,
        "networking": {
            "disableDefaultCNI": True,
            "kubeProxyMode": "none",
            "podSubnet": cluster.pod_cidr,
            "serviceSubnet": cluster.service_cidr,
        },
        "nodes": nodes,
    }


def mesh_port(mesh: Mesh, cluster: Cluster) -> int:
    """Return the NodePort of a cluster's mesh etcd."""
    return _MESH_PORT + mesh.clusters.index(cluster)


def install_values(mesh: Mesh, cluster: Cluster, options: Options) -> list[str]:
    """Return the `--set` values of `cilium install` (S3), KEY=VALUE as helm reads them."""
    values = {
        "ipam.mode": "kubernetes",
        "kubeProxyReplacement": "true",
        "bpf.masquerade": "true",
        "endpointHealthChecking.enabled": "false",
        "healthChecking": "false",
        "operator.replicas": "1",
        "debug.enabled": "true",
        "routingMode": "native",
        "autoDirectNodeRoutes": "true",
        "ipv4NativeRoutingCIDR": cluster.native_routing_cidr,
        "ipMasqAgent.enabled": "true",
        "ipMasqAgent.config.nonMasqueradeCIDRs": _list_cidrs(cluster.non_masquerade_cidrs),
        "cluster.name": cluster.name,
        "cluster.id": str(cluster.id),
        "clustermesh.apiserver.service.nodePort": str(mesh_port(mesh, cluster)),
        "bpf.monitorAggregation": cluster.aggregation,
        "hubble.eventBufferCapacity": str(cluster.ring),
    }
    if not cluster.socket_lb:
        values["socketLB.hostNamespaceOnly"] = "true"
    return [*(f"{key}={value}" for key, value in values.items()), *options.set]


def hubble_values(cluster: Cluster, options: Options) -> list[str]:
    """Return the `--set` values that give Hubble's UI its port (S7)."""
    return ["hubble.ui.service.type=NodePort", f"hubble.ui.service.nodePort={options.ports[cluster.name][1]}"]


def _map_port(port: int) -> dict[str, Any]:
    return {"containerPort": port, "hostPort": port, "protocol": "TCP"}


def _list_cidrs(cidrs: tuple[str, ...]) -> str:
    """Return a list as helm reads it."""
    return "{" + ",".join(cidrs) + "}"

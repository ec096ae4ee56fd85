"""The mesh that a lab stands up: clusters, nodes, workloads, services. West and east of the walkthrough by default.

One description for every driver. A file (TOML) names what differs from the default; docs/lab.md documents its keys.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Network, ip_network

from meshobs.lab.mesh import ipv6, versions
from meshobs.lab.mesh.variants import NATIVE, Variant
from meshobs.lab.mesh.versions import Traits

GLOBAL = "service.cilium.io/global"
SHARED = "service.cilium.io/shared"
AFFINITY = "service.cilium.io/affinity"
# As files and commands call them.
ANNOTATIONS = {"affinity": AFFINITY, "shared": SHARED, "global": GLOBAL}


@dataclass(frozen=True)
class Node:
    """A node. `name` is without the cluster, `full` is Hubble's `cluster/node`.

    Attributes:
        address6: with the length of its prefix, beside `address`; empty where its cluster has IPv4 only.
    """

    cluster: str
    name: str
    address: str
    pod_cidr: str
    control_plane: bool
    zone: str = ""
    address6: str = ""

    @property
    def full(self) -> str:
        """Return the name as Hubble writes it."""
        return f"{self.cluster}/{self.name}"

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return its address of each family."""
        return (self.address, self.address6.partition("/")[0]) if self.address6 else (self.address,)

    @property
    def pod_cidrs(self) -> tuple[str, ...]:
        """Return its pod range of each family."""
        return (self.pod_cidr, ipv6.pool_of(self.pod_cidr)) if self.address6 else (self.pod_cidr,)

    @property
    def router(self) -> str:
        """Return the address of cilium_host on this node."""
        return self.routers[0]

    @property
    def routers(self) -> tuple[str, ...]:
        """Return the address of cilium_host of each family."""
        return tuple(str(ip_network(cidr)[_ROUTER]) for cidr in self.pod_cidrs)

    @property
    def labels(self) -> dict[str, str]:
        """Return what its kubelet labels it with."""
        labels = {
            "kubernetes.io/arch": "amd64",
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "topology.kubernetes.io/region": self.zone or self.cluster,
        }
        if self.control_plane:
            labels["node-role.kubernetes.io/control-plane"] = ""
        if self.zone:
            labels["topology.kubernetes.io/zone"] = self.zone
        return labels


@dataclass(frozen=True)
class Cluster:
    """A cluster with its Cilium.

    Attributes:
        id: 1 to 255; the upper bits of its identities.
        native_routing_cidr: traffic to it is never masqueraded.
        non_masquerade_cidrs: nor is traffic to these.
        aggregation: `none` or `medium`.
        socket_lb: True translates at connect(), False each packet of a pod (bpf-lb-sock-hostns-only).
        ring: how many flows each node's ring holds, 2^n - 1. Cilium's own 4,095 hold two seconds of a busy node at
            aggregation none.
        variant: how it routes, masquerades and balances.
    """

    name: str
    id: int
    pod_cidr: str
    service_cidr: str
    nodes: tuple[Node, ...]
    native_routing_cidr: str
    non_masquerade_cidrs: tuple[str, ...]
    cilium: str = versions.CILIUM
    aggregation: str = "none"
    socket_lb: bool = True
    ring: int = 16_383
    variant: Variant = NATIVE

    @property
    def service_cidrs(self) -> tuple[str, ...]:
        """Return its range of Services of each family."""
        return (self.service_cidr, ipv6.pool_of(self.service_cidr)) if self.variant.dual_stack else (self.service_cidr,)

    @property
    def native_routing_cidr6(self) -> str:
        """Return what `native_routing_cidr` is in IPv6."""
        return ipv6.range_of(self.native_routing_cidr)

    @property
    def native_cidrs(self) -> tuple[str, ...]:
        """Return the ranges of each family that its traffic reaches with its own addresses."""
        four = (self.pod_cidr, *self.non_masquerade_cidrs)
        return (*four, *map(ipv6.range_of, four)) if self.variant.dual_stack else four

    @property
    def nodeports(self) -> str:
        """Return who serves its NodePorts: `cilium` or `kube-proxy`."""
        return "cilium" if self.variant.replaces_kube_proxy else "kube-proxy"

    @property
    def doors(self) -> str:
        """Return whether flows tell calls of a service from calls of its pods, by socket events: `told` or `untold`."""
        hidden = self.aggregation != "none" and self.traits.limits_sockets and self.variant.replaces_kube_proxy
        return "untold" if hidden else "told"

    @property
    def traits(self) -> Traits:
        """Return what its version of Cilium does."""
        return versions.traits(self.cilium)


@dataclass(frozen=True)
class Workload:
    """Pods of one kind in some clusters.

    Attributes:
        app: value of the pods' label `app`.
        image: what they run.
        replicas: in each cluster.
        clusters: where.
        port: what they listen on, 0 for a client.
        bare: pods of their own without a Deployment, named as the workload.
        host_network: with their node's address.
        drain: seconds for which they still serve after they were told to end.
    """

    name: str
    app: str
    image: str
    clusters: tuple[str, ...]
    replicas: int = 1
    port: int = 0
    namespace: str = "default"
    bare: bool = False
    host_network: bool = False
    drain: int = 0


@dataclass(frozen=True)
class Service:
    """A Service of the same name in some clusters.

    Attributes:
        app: label of the pods behind it.
        node_port: 0 for a ClusterIP.
        annotations: as they are first.
        spec: more fields of its spec, as Kubernetes calls them; `ports` there stand for `port` and `target_port`.
    """

    name: str
    app: str
    clusters: tuple[str, ...]
    port: int = 80
    target_port: int = 80
    protocol: str = "TCP"
    namespace: str = "default"
    node_port: int = 0
    annotations: Mapping[str, str] = field(default_factory=dict)
    spec: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Mesh:
    """All of it.

    Attributes:
        seed: everything random of the sim follows from it.
        network: the nodes' own; addresses outside the mesh (the balancer, a client) lie in it, too.
        balancer: address of the load balancer outside (S16).
        outside: address of a client outside.
    """

    clusters: tuple[Cluster, ...]
    workloads: tuple[Workload, ...]
    services: tuple[Service, ...]
    seed: int = 1
    network: str = "172.18.0.0/16"

    @cached_property
    def balancer(self) -> str:
        """Return the address of the load balancer outside the mesh."""
        return str(IPv4Network(self.network)[-6])

    @cached_property
    def outside(self) -> str:
        """Return the address of a client outside the mesh."""
        return str(IPv4Network(self.network)[-5])

    @cached_property
    def dual_stack(self) -> bool:
        """Tell whether any cluster speaks IPv6."""
        return any(cluster.variant.dual_stack for cluster in self.clusters)

    @cached_property
    def tunnels(self) -> bool:
        """Tell whether what pods send crosses to other nodes in a tunnel; all clusters of a mesh do alike."""
        return any(cluster.variant.tunnels for cluster in self.clusters)

    def on_link6(self, address: str) -> str:
        """Return what stands in IPv6 for an address on the nodes' network, with the length of its prefix."""
        return ipv6.on_link(address, self.network)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Return the nodes of all clusters."""
        return tuple(node for cluster in self.clusters for node in cluster.nodes)

    @cached_property
    def in_turn(self) -> tuple[Node, ...]:
        """Return the nodes that a balancer takes in turn, a whole round of them: every cluster as often."""
        rounds = math.lcm(*(len(cluster.nodes) for cluster in self.clusters))
        return tuple(one.nodes[number % len(one.nodes)] for number in range(rounds) for one in self.clusters)

    def has(self, key: str, value: str) -> bool:
        """Tell whether all clusters have a setting, as `cilium` or `aggregation`."""
        return all(str(getattr(cluster, key)) == value for cluster in self.clusters)

    def lacks(self, needs: Mapping[str, str]) -> list[str]:
        """Return which of some settings not all clusters have, as `KEY VALUE`."""
        return [f"{key} {value}" for key, value in needs.items() if not self.has(key, value)]

    def cluster(self, name: str) -> Cluster:
        """Return a cluster by its name."""
        return next(cluster for cluster in self.clusters if cluster.name == name)


# Where cilium_host lies in a node's range; pods take the addresses after it.
_ROUTER = 4


def nodes_of(cluster: str, count: int, pod_cidr: str, addresses: list[str]) -> tuple[Node, ...]:
    """Return a cluster's nodes: a control plane and workers, each with a /24 of the pod range.

    Args:
        cluster: its name.
        count: how many.
        pod_cidr: of the cluster; must hold a /24 for each.
        addresses: one for each.
    """
    ranges = IPv4Network(pod_cidr).subnets(new_prefix=24)
    names = ["control-plane", "worker", *(f"worker{number}" for number in range(2, count))][:count]
    return tuple(
        Node(cluster, f"{cluster}-{name}", address, str(pods), control_plane=name == "control-plane", zone=cluster)
        for name, address, pods in zip(names, addresses, ranges, strict=False)
    )


def walkthrough(*, cilium: str = versions.CILIUM, aggregation: str = "none", seed: int = 1) -> Mesh:
    """Return west and east with S1-S10's exact values."""
    first = list(map(str, IPv4Network("172.18.0.0/29").hosts()))[1:]  # .1 is the bridge

    def cluster(name: str, number: int, pods: str, services: str, other: str, addresses: list[str]) -> Cluster:
        return Cluster(
            name, number, pods, services, nodes_of(name, 2, pods, addresses), pods, (other,), cilium, aggregation
        )

    both = ("west", "east")
    return Mesh(
        clusters=(
            cluster("west", 1, "10.0.0.0/16", "10.2.0.0/16", "10.1.0.0/16", first[:2]),
            cluster("east", 2, "10.1.0.0/16", "10.3.0.0/16", "10.0.0.0/16", first[2:4]),
        ),
        workloads=(
            Workload("curl-pod", "curl", versions.CLIENT_IMAGE, both, bare=True),
            Workload("webpod", "webpod", versions.SERVER_IMAGE, both, replicas=2, port=80),
        ),
        services=(Service("webpod", "webpod", both, annotations={GLOBAL: "true"}),),
        seed=seed,
    )

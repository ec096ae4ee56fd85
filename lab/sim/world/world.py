"""The state of a simulated mesh at one moment: a frozen value that the API server shows and the datapath acts on.

A change makes a new world. What the agents have programmed follows the Services and pods a little later, as it does on
a real mesh; both are here.
"""

import random
import string
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from ipaddress import ip_network
from types import MappingProxyType
from typing import TypeVar

from meshobs.lab.mesh import ipv6
from meshobs.lab.mesh.model import Cluster, Mesh, Node, Workload
from meshobs.lab.mesh.model import Service as Described

# Identities 0-255 are reserved; those of a cluster carry its id above.
_FIRST_IDENTITY = 256


@dataclass(frozen=True)
class Pod:
    """A pod as the datapath knows it.

    Attributes:
        node: full name of its node.
        identity: the same for pods with the same labels in a cluster.
        endpoint: its number on its node.
        workload: the Deployment's name, empty for a bare pod.
        interface: name and index of its veth on the node.
        ready: its EndpointSlice says so.
        terminating: it is going away, still serving.
        address6: beside `address`; empty where its cluster has IPv4 only.
    """

    cluster: str
    node: str
    namespace: str
    name: str
    app: str
    address: str
    identity: int
    endpoint: int
    workload: str
    interface: str
    index: int
    port: int
    host_network: bool = False
    ready: bool = True
    terminating: bool = False
    address6: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return its address of each family."""
        return (self.address, self.address6) if self.address6 else (self.address,)

    @property
    def active(self) -> bool:
        """Tell whether it takes new connections through a Service."""
        return self.ready and not self.terminating

    @property
    def full(self) -> str:
        """Return cluster/namespace/name."""
        return f"{self.cluster}/{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Service:
    """A Service of one cluster as its API says; `address6` is empty where its cluster has IPv4 only."""

    cluster: str
    namespace: str
    name: str
    app: str
    address: str
    port: int
    target_port: int
    protocol: str
    node_port: int
    annotations: Mapping[str, str]
    address6: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return its address of each family."""
        return (self.address, self.address6) if self.address6 else (self.address,)


HasBoth = TypeVar("HasBoth", Pod, Service)


@dataclass(frozen=True)
class Policy:
    """Ingress from one cluster to an app is refused; explicitly (POLICY_DENY) or by default (POLICY_DENIED)."""

    cluster: str
    namespace: str
    name: str
    app: str
    source_cluster: str
    explicit: bool = True


@dataclass(frozen=True)
class Frontend:
    """What one cluster's agents have programmed for one Service: the backends that a new connection chooses from."""

    service: Service
    backends: tuple[Pod, ...]


@dataclass(frozen=True)
class World:
    """Everything at one moment.

    Attributes:
        mesh: the description with its clusters' settings; masquerading and aggregation act from here.
        programmed: by cluster, what its agents do for each Service.
    """

    mesh: Mesh
    pods: tuple[Pod, ...]
    services: tuple[Service, ...]
    policies: tuple[Policy, ...] = ()
    programmed: Mapping[str, tuple[Frontend, ...]] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def nodes(self) -> Mapping[str, Node]:
        """Return the nodes by full name."""
        return {node.full: node for node in self.mesh.nodes}

    @cached_property
    def pod_at(self) -> Mapping[str, Pod]:
        """Return the pods by address; those on the host network have none of their own."""
        return {pod.address: pod for pod in self.pods if not pod.host_network}

    @cached_property
    def node_at(self) -> Mapping[str, Node]:
        """Return the nodes by address, their router addresses included."""
        return {address: node for node in self.mesh.nodes for address in (node.address, node.router)}

    @cached_property
    def clusters(self) -> Mapping[str, Cluster]:
        """Return the clusters by name."""
        return {cluster.name: cluster for cluster in self.mesh.clusters}

    @cached_property
    def by_ipv6(self) -> "World":
        """Return what of it can be reached by IPv6, with the addresses of that family in place of IPv4's.

        The datapath does the same in both families, so it knows of one at a time.
        """
        clusters = tuple(_by_ipv6(one) for one in self.mesh.clusters)
        return replace(
            self,
            mesh=replace(self.mesh, clusters=clusters, network=ipv6.link_of(self.mesh.network)),
            pods=tuple(in_ipv6(one) for one in self.pods if one.address6),
            services=tuple(in_ipv6(one) for one in self.services if one.address6),
            programmed={
                name: tuple(
                    Frontend(in_ipv6(one.service), tuple(in_ipv6(pod) for pod in one.backends if pod.address6))
                    for one in frontends
                    if one.service.address6
                )
                for name, frontends in self.programmed.items()
            },
        )

    def service(self, cluster: str, namespace: str, name: str) -> Service | None:
        """Return a Service, None if there is none."""
        wanted = (cluster, namespace, name)
        return next((one for one in self.services if (one.cluster, one.namespace, one.name) == wanted), None)

    def pod(self, full: str) -> Pod | None:
        """Return a pod by cluster/namespace/name, None if there is none."""
        return next((pod for pod in self.pods if pod.full == full), None)


def in_ipv6(one: HasBoth) -> HasBoth:
    """Return a pod or Service with its address of IPv6 in place of IPv4's."""
    return replace(one, address=one.address6, address6="")


def build(mesh: Mesh) -> World:
    """Return the world of a mesh description before its agents have programmed anything. Repeatable: mesh.seed."""
    identities: dict[tuple[str, str, str], int] = {}
    placed: dict[str, int] = {}
    pods = tuple(
        place_pod(mesh, workload, name, number, placed, identities)
        for workload in mesh.workloads
        for name in workload.clusters
        for number in range(workload.replicas)
    )
    services = tuple(service_of(mesh, one, name) for one in mesh.services for name in one.clusters)
    return World(mesh, pods, services)


def service_of(mesh: Mesh, one: Described, cluster: str) -> Service:
    """Return a cluster's own Service of a description; its address follows from the seed and its name."""
    address, address6 = _cluster_ips(mesh, cluster, f"{one.namespace}/{one.name}")
    annotations = MappingProxyType(dict(one.annotations))
    return Service(
        cluster,
        one.namespace,
        one.name,
        one.app,
        address,
        one.port,
        one.target_port,
        one.protocol,
        one.node_port,
        annotations,
        address6,
    )


def place_pod(
    mesh: Mesh,
    workload: Workload,
    cluster_name: str,
    number: int,
    placed: dict[str, int],
    identities: dict[tuple[str, str, str], int],
) -> Pod:
    """Return one more pod.

    Args:
        mesh: whose.
        workload: of what kind.
        cluster_name: where.
        number: which replica; workers are filled before the control plane.
        placed: pods by node so far; counted on.
        identities: by cluster, namespace and app so far; completed.
    """
    cluster = mesh.cluster(cluster_name)
    order = [node for node in cluster.nodes if not node.control_plane] + [n for n in cluster.nodes if n.control_plane]
    node = order[number % len(order)]
    slot = placed[node.full] = placed.get(node.full, 0) + 1
    chance = random.Random(f"{mesh.seed}/{cluster_name}/{workload.namespace}/{workload.name}/{number}")  # noqa: S311 - no secret
    key = (cluster_name, workload.namespace, workload.app)
    known = sum(1 for other in identities if other[0] == cluster_name)
    identity = identities.setdefault(key, (cluster.id << 16) + _FIRST_IDENTITY + known)
    addresses = (
        node.addresses if workload.host_network else [str(ip_network(cidr)[4 + slot]) for cidr in node.pod_cidrs]
    )
    return Pod(
        cluster_name, node.full, workload.namespace, _pod_name(mesh, workload, number, chance), workload.app,
        addresses[0], identity, 256 + slot * 7 + chance.randrange(7), "" if workload.bare else workload.name,
        f"lxc{chance.randrange(16**12):012x}", 4 + 2 * slot, workload.port, workload.host_network,
        address6=addresses[1] if len(addresses) > 1 else "",
    )  # fmt: skip


def _pod_name(mesh: Mesh, workload: Workload, number: int, chance: random.Random) -> str:
    if workload.bare:
        return workload.name if number == 0 else f"{workload.name}-{number}"
    letters = "bcdfghjklmnpqrstvwxz2456789"
    of_all = random.Random(f"{mesh.seed}/{workload.name}")  # noqa: S311 - no secret
    template = "".join(of_all.choices(string.digits + "bcdf", k=10))
    return f"{workload.name}-{template}-{''.join(chance.choices(letters, k=5))}"


def _cluster_ips(mesh: Mesh, cluster: str, name: str) -> tuple[str, str]:
    """Return a Service's address of each family, the second empty where its cluster has IPv4 only."""
    networks = [ip_network(cidr) for cidr in mesh.cluster(cluster).service_cidrs]
    chance = random.Random(f"{mesh.seed}/{cluster}/{name}")  # noqa: S311 - no secret
    place = chance.randrange(256, networks[0].num_addresses - 1)
    found = [str(network[place]) for network in networks]
    return found[0], found[1] if len(found) > 1 else ""


def _by_ipv6(cluster: Cluster) -> Cluster:
    nodes = tuple(
        replace(node, address=node.addresses[1], pod_cidr=node.pod_cidrs[1], address6="") if node.address6 else node
        for node in cluster.nodes
    )
    return replace(
        cluster,
        pod_cidr=ipv6.range_of(cluster.pod_cidr),
        nodes=nodes,
        native_routing_cidr=cluster.native_routing_cidr6,
        non_masquerade_cidrs=tuple(map(ipv6.range_of, cluster.non_masquerade_cidrs)),
    )

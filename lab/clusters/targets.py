"""What a real cluster's API says of pods, Services and nodes; what names of clients and targets mean there. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from meshobs.errors import InputError
from meshobs.lab.mesh.model import Mesh, Node
from meshobs.lab.traffic import CLIENT, address_of, host_port, service_name, split_target

# Pods there are the cluster's own.
_SYSTEM = ("kube-system", "kube-public", "kube-node-lease", "local-path-storage", "cilium-secrets")
# The address of a Service that has none.
_HEADLESS = "None"
T = TypeVar("T")


@dataclass(frozen=True)
class LivePod:
    """A pod as the API shows it.

    Attributes:
        port: that its container listens on, 0 for a client.
        host_network: it has its node's address.
        address6: beside `address`; empty where there is none.
    """

    cluster: str
    namespace: str
    name: str
    app: str
    node: str
    address: str
    port: int
    ready: bool
    host_network: bool
    address6: str = ""

    @property
    def addresses(self) -> Sequence[str]:
        """Return its address of each family."""
        return [one for one in (self.address, self.address6) if one]

    @property
    def full(self) -> str:
        """Return cluster/namespace/pod."""
        return f"{self.cluster}/{self.namespace}/{self.name}"


@dataclass(frozen=True)
class LiveService:
    """A Service as the API shows it.

    Attributes:
        ports: of each: port, protocol, node_port (0 for none).
        address6: empty where it has IPv4 only.
    """

    cluster: str
    namespace: str
    name: str
    address: str
    annotations: Mapping[str, str]
    ports: Sequence[Mapping[str, Any]]
    address6: str = ""

    @property
    def port(self) -> int:
        """Return its first port, 0 if it has none."""
        return int(self.ports[0]["port"]) if self.ports else 0

    @property
    def node_port(self) -> int:
        """Return the NodePort of its first port, 0 if there is none."""
        return int(self.ports[0]["node_port"]) if self.ports else 0

    @property
    def addresses(self) -> Sequence[str]:
        """Return its address of each family."""
        return [one for one in (self.address, self.address6) if one]


@dataclass(frozen=True)
class HostClient:
    """A process on a node's own network."""

    node: Node


@dataclass(frozen=True)
class OutsideClient:
    """A process on the nodes' network that is none of them."""


Client = LivePod | HostClient | OutsideClient


@dataclass(frozen=True)
class LiveObjects:
    """The workloads of all clusters at one moment.

    Attributes:
        nodes: with the addresses that they really have.
        balancer: address of the load balancer outside; empty where none runs.
    """

    pods: Sequence[LivePod]
    services: Sequence[LiveService]
    nodes: Sequence[Node]
    balancer: str = ""

    def find_answering(self, addresses: Iterable[str], name: str) -> LivePod | None:
        """Return the pod that answered, by its addresses, else by its host name."""
        wanted = set(addresses)
        found = [one for one in self.pods if one.address in wanted and not one.host_network]
        named = [one for one in self.pods if one.name == name]
        hosted = [one for one in self.pods if one.host_network and one.node == name]
        return next(iter(found or named or hosted), None)


def pods_of(cluster: str, items: Iterable[Mapping[str, Any]]) -> list[LivePod]:
    """Return the pods of a list of the API that are not the cluster's own, oldest name first."""
    return sorted(
        (_pod(cluster, one) for one in items if one["metadata"]["namespace"] not in _SYSTEM),
        key=lambda one: (one.namespace, one.name),
    )


def services_of(cluster: str, items: Iterable[Mapping[str, Any]]) -> list[LiveService]:
    """Return the Services of a list of the API that are not the cluster's own."""
    found = []
    for one in items:
        meta, spec = one["metadata"], one["spec"]
        if meta["namespace"] in _SYSTEM or (meta["namespace"], meta["name"]) == ("default", "kubernetes"):
            continue
        ports = [
            {
                "port": int(each["port"]),
                "protocol": each.get("protocol", "TCP"),
                "node_port": int(each.get("nodePort", 0)),
            }
            for each in spec.get("ports") or ()
        ]
        found.append(
            LiveService(
                cluster, meta["namespace"], meta["name"], spec.get("clusterIP", ""),
                _own_annotations(meta.get("annotations", {})), ports, _first6(spec.get("clusterIPs", ())),
            )
        )  # fmt: skip
    return found


def nodes_of(mesh: Mesh, cluster: str, items: Iterable[Mapping[str, Any]]) -> list[Node]:
    """Return the mesh's nodes of a cluster with the addresses and pod ranges that they really have."""
    items_by_name = {one["metadata"]["name"]: one for one in items}
    found = []
    for node in mesh.cluster(cluster).nodes:
        one = items_by_name.get(node.name)
        if one is None:
            continue
        addresses = [a["address"] for a in one["status"].get("addresses", ()) if a["type"] == "InternalIP"]
        given = {"address": addresses[0], "address6": _first6(addresses)} if addresses else {}
        if pods := one["spec"].get("podCIDR"):
            given["pod_cidr"] = pods
        found.append(replace(node, **given))
    return found


def with_nodes(mesh: Mesh, nodes: Sequence[Node]) -> Mesh:
    """Return a mesh with the nodes that there really are."""
    clusters = tuple(
        replace(one, nodes=tuple(node for node in nodes if node.cluster == one.name) or one.nodes)
        for one in mesh.clusters
    )
    return replace(mesh, clusters=clusters)


def client_of(live: LiveObjects, text: str) -> Client:
    """Return the client that a text names, see `Traffic.client`.

    Raises:
        InputError: there is none.
    """
    if text == "outside":
        return OutsideClient()
    if text.startswith("host/"):
        return HostClient(_node(live, text.removeprefix("host/")))
    cluster, _, rest = text.partition("/")
    namespace, _, name = rest.rpartition("/")
    here = [one for one in live.pods if one.cluster == cluster and one.namespace == (namespace or "default")]
    if name:
        found = [one for one in here if name in (one.name, one.app) or one.name.startswith(f"{name}-")]
    else:
        # The walkthrough's client, else whoever serves nothing.
        found = [one for one in here if one.name == CLIENT] or [one for one in here if not one.port]
    if not found:
        asked = f"{cluster}/{namespace or 'default'}/{name or CLIENT}"
        known = ", ".join(one.full for one in live.pods[:6])
        raise InputError(f"there is no client {asked}: name a pod as CLUSTER/NAMESPACE/POD ({known})")
    return found[0]


def targets_of(live: LiveObjects, client: Client, text: str) -> list[tuple[str, int]]:
    """Return the addresses and ports that connections to a target aim at, in turn; see `Traffic.target`.

    Raises:
        InputError: there is no such thing.
    """
    kind, rest, six = split_target(text)
    if kind in ("svc", "service"):
        return _of_family([_service(live, client, rest)], text, six=six)
    if kind in ("pod", "pods"):
        return _of_family(_pods(live, kind, rest), text, six=six)
    if kind in ("node", "nodes"):
        name, port = host_port(rest)
        nodes = [one for one in live.nodes if name in (one.cluster, "")] if kind == "nodes" else [_node(live, name)]
        found = [(one.addresses, port) for one in _some(nodes, f"there is no cluster {name}")]
        return _of_family(found, text, six=six)
    address, port = host_port(text)
    if address != "balancer":
        return [(address, port)]
    if not live.balancer:
        raise InputError("no load balancer runs outside this lab")
    return [(live.balancer, port)]


def _pod(cluster: str, one: Mapping[str, Any]) -> LivePod:
    meta, spec, status = one["metadata"], one["spec"], one.get("status", {})
    ports = [port for container in spec.get("containers", ()) for port in container.get("ports", ())]
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", ()))
    return LivePod(
        cluster,
        meta["namespace"],
        meta["name"],
        meta.get("labels", {}).get("app", ""),
        spec.get("nodeName", ""),
        status.get("podIP", ""),
        int(ports[0]["containerPort"]) if ports else 0,
        ready and "deletionTimestamp" not in meta,
        bool(spec.get("hostNetwork")),
        _first6(one["ip"] for one in status.get("podIPs", ())),
    )


def _first6(addresses: Iterable[str]) -> str:
    return next((one for one in addresses if ":" in one), "")


def _own_annotations(annotations: Mapping[str, str]) -> Mapping[str, str]:
    """Leave out what kubectl notes for itself."""
    return {key: value for key, value in annotations.items() if not key.startswith("kubectl.kubernetes.io/")}


def _of_family(ends: Iterable[tuple[Sequence[str], int]], text: str, *, six: bool) -> list[tuple[str, int]]:
    """Return addresses of one family and their ports.

    Raises:
        InputError: one has no address of it.
    """
    return [(address_of(addresses, text, six=six), port) for addresses, port in ends]


def _service(live: LiveObjects, client: Client, text: str) -> tuple[Sequence[str], int]:
    if isinstance(client, OutsideClient):
        raise InputError("a client outside the mesh reaches no ClusterIP: aim at node/NODE:PORT or balancer:PORT")
    cluster = client.cluster if isinstance(client, LivePod) else client.node.cluster
    namespace, name, port = service_name(text)
    wanted = (cluster, namespace, name)
    found = next((one for one in live.services if (one.cluster, one.namespace, one.name) == wanted), None)
    if not found:
        raise InputError(f"cluster {cluster} has no service {namespace}/{name}")
    if found.address == _HEADLESS:
        raise InputError(f"service {namespace}/{name} is headless: aim at its pods, as pods/CLUSTER/APP")
    return found.addresses, port or found.port


def _pods(live: LiveObjects, kind: str, text: str) -> list[tuple[Sequence[str], int]]:
    if kind == "pod":
        found = [one for one in live.pods if text in (one.name, f"{one.namespace}/{one.name}", one.full)][:1]
        return [(one.addresses, one.port) for one in _some(found, f"there is no pod {text}")]
    cluster, _, app = text.partition("/")
    pods = [one for one in live.pods if one.cluster == cluster and one.app == app and one.address]
    return [(one.addresses, one.port) for one in _some(pods, f"cluster {cluster} has no pod of app {app}")]


def _node(live: LiveObjects, name: str) -> Node:
    found = next((node for node in live.nodes if name in (node.name, node.full)), None)
    if not found:
        raise InputError(f"there is no node {name}: {', '.join(node.name for node in live.nodes[:8])}")
    return found


def _some(values: Sequence[T], problem: str) -> Sequence[T]:
    if not values:
        raise InputError(problem)
    return values

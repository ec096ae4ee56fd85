"""What runs beside the workloads as an API server shows it: Cilium's settings, Hubble Relay, the API itself. Pure."""

from ipaddress import IPv4Network, ip_network

from meshobs.lab.mesh import ipv6
from meshobs.lab.mesh.model import Cluster, Node
from meshobs.lab.sim.kubeapi.objects import workloads
from meshobs.lab.sim.kubeapi.objects.maker import Json, Key, Maker

_SYSTEM = "kube-system"
_RELAY = "hubble-relay"
_RELAY_PORT = 4245
API_PORT = 6443
# Addresses of kube-system's pods come from the end of their node's range, those of workloads from its start.
_LAST = -6


def add(maker: Maker, cluster: Cluster) -> None:
    """Make a cluster's own objects."""
    _config(maker, cluster)
    _relay(maker, cluster)
    _api(maker, cluster)


def relay_node(cluster: Cluster) -> Node:
    """Return the node that Hubble Relay runs on: a worker where there is one."""
    return min(cluster.nodes, key=lambda one: one.control_plane)


def _config(maker: Maker, cluster: Cluster) -> None:
    """Make ConfigMaps cilium-config and ip-masq-agent, with the keys that Cilium's chart writes."""
    data = {
        "auto-direct-node-routes": "true",
        "bpf-lb-sock": "true",
        "cluster-id": str(cluster.id),
        "cluster-name": cluster.name,
        "enable-bpf-masquerade": "true",
        "enable-hubble": "true",
        "enable-ip-masq-agent": "true",
        "enable-ipv4": "true",
        "enable-ipv4-masquerade": "true",
        "enable-ipv6": "false",
        "hubble-disable-tls": "true",
        "hubble-event-buffer-capacity": str(cluster.ring),
        "hubble-listen-address": ":4244",
        "identity-allocation-mode": "crd",
        "ipam": "kubernetes",
        "ipv4-native-routing-cidr": cluster.native_routing_cidr,
        "kube-proxy-replacement": "true",
        "monitor-aggregation": cluster.aggregation,
        "routing-mode": "native",
    }
    if cluster.variant.dual_stack:
        data |= {
            "enable-ipv6": "true",
            "enable-ipv6-masquerade": "true",
            "ipv6-native-routing-cidr": cluster.native_routing_cidr6,
        }
    if not cluster.socket_lb:
        data["bpf-lb-sock-hostns-only"] = "true"
    data = cluster.variant.apply(data)
    maker.add(Key("configmaps", _SYSTEM, "cilium-config"), "v1", "ConfigMap", labels=_of_cilium(""), data=data)
    spared = cluster.non_masquerade_cidrs
    if cluster.variant.dual_stack:
        spared += tuple(map(ipv6.range_of, spared))
    lines = ("nonMasqueradeCIDRs:", *(f"- {cidr}" for cidr in spared), "masqLinkLocal: false", "")
    config = "\n".join(lines)
    maker.add(Key("configmaps", _SYSTEM, "ip-masq-agent"), "v1", "ConfigMap", data={"config": config})


def _relay(maker: Maker, cluster: Cluster) -> None:
    """Make Service, EndpointSlice, Pod and Deployment of Hubble Relay, without TLS."""
    service = Key("services", _SYSTEM, _RELAY)
    address = str(IPv4Network(cluster.service_cidr)[-2])
    chosen = {"k8s-app": _RELAY}
    port: Json = {"port": 80, "protocol": "TCP", "targetPort": "grpc"}
    workloads.add_service(maker, service, [address], port, labels=_of_cilium(_RELAY), selector=chosen)
    node = relay_node(cluster)
    own = str(IPv4Network(node.pod_cidr)[_LAST])
    template = maker.suffix(_RELAY)
    replica_set = Key("replicasets", _SYSTEM, f"{_RELAY}-{template}")
    pod = Key("pods", _SYSTEM, f"{replica_set.name}-{maker.suffix(*replica_set)}")
    container = workloads.container(
        _RELAY,
        f"quay.io/cilium/hubble-relay:v{cluster.cilium}",
        [{"containerPort": _RELAY_PORT, "name": "grpc", "protocol": "TCP"}],
    )
    workloads.add_deployment(maker, Key("deployments", _SYSTEM, _RELAY), chosen, container, 1, 1)
    workloads.add_pod(
        maker,
        pod,
        node.name,
        node.address,
        [str(ip_network(cidr)[_LAST]) for cidr in node.pod_cidrs],
        container,
        labels={**_of_cilium(_RELAY), "pod-template-hash": template},
        owner=maker.owner(replica_set, "apps/v1", "ReplicaSet"),
        meta={"generateName": f"{replica_set.name}-"},
    )
    endpoint: Json = {
        "addresses": [own],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": node.name,
        "targetRef": {"kind": "Pod", "name": pod.name, "namespace": _SYSTEM, "uid": maker.uid(pod)},
    }
    maker.add(
        Key("endpointslices", _SYSTEM, f"{_RELAY}-{maker.suffix(*service)}"),
        "discovery.k8s.io/v1",
        "EndpointSlice",
        labels={
            **_of_cilium(_RELAY),
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            "kubernetes.io/service-name": _RELAY,
        },
        owner=maker.owner(service, "v1", "Service"),
        meta={"generateName": f"{_RELAY}-", "generation": 1},
        addressType="IPv4",
        endpoints=[endpoint],
        ports=[{"name": "", "port": _RELAY_PORT, "protocol": "TCP"}],
    )


def _api(maker: Maker, cluster: Cluster) -> None:
    """Make Service and EndpointSlice `kubernetes`, which the API server keeps itself."""
    address = str(IPv4Network(cluster.service_cidr)[1])
    port: Json = {"name": "https", "port": 443, "protocol": "TCP", "targetPort": API_PORT}
    labels = {"component": "apiserver", "provider": "kubernetes"}
    workloads.add_service(maker, Key("services", "default", "kubernetes"), [address], port, labels=labels)
    maker.add(
        Key("endpointslices", "default", "kubernetes"),
        "discovery.k8s.io/v1",
        "EndpointSlice",
        labels={"kubernetes.io/service-name": "kubernetes"},
        meta={"generation": 1},
        addressType="IPv4",
        endpoints=[
            {"addresses": [node.address], "conditions": {"ready": True}} for node in cluster.nodes if node.control_plane
        ],
        ports=[{"name": "https", "port": API_PORT, "protocol": "TCP"}],
    )


def _of_cilium(app: str) -> dict[str, str]:
    named = {"app.kubernetes.io/name": app, "k8s-app": app} if app else {}
    return {"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/part-of": "cilium", **named}

"""Kubernetes objects -> the states that history is made of. Pure: JSON values in, states out.

Annotations follow Cilium: both spellings, `service.cilium.io/*` before `io.cilium/*`; shared and affinity count only on
a global service; shared defaults to true there.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from meshobs.collector.kube.document import Json, at, items, text
from meshobs.times import possible_moment

_PREFIX = "service.cilium.io/"
_GLOBAL = (f"{_PREFIX}global", "io.cilium/global-service")
_SHARED = (f"{_PREFIX}shared", "io.cilium/shared-service")
_AFFINITY = (f"{_PREFIX}affinity", "io.cilium/service-affinity")
_SOURCE_CLUSTER = "multicluster.kubernetes.io/source-cluster"
_SERVICE_NAME = "kubernetes.io/service-name"
_GLOBAL_NAMESPACE = "clustermesh.cilium.io/global"
_TOPOLOGY_MODE = ("service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints")


@dataclass(frozen=True)
class KubeState:
    """What an object said at one moment.

    Attributes:
        kind: Service, EndpointSlice, Namespace, Node, CiliumNode or ConfigMap.
        created: its creation time as Kubernetes writes it, empty if unknown.
        state: the facts that meshobs uses, as JSON; queries/history reads it.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    created: str
    state: str


def state_of(document: Json, cluster: str) -> KubeState | None:
    """Return the state of one object of `cluster`; None for kinds and objects that meshobs has no use for."""
    kind = text(document, "kind")
    if kind not in _FACTS:
        return None
    facts = _FACTS[kind](document, cluster)
    name, created = text(document, "metadata", "name"), text(document, "metadata", "creationTimestamp")
    if facts is None or not name:
        return None
    return KubeState(
        kind=kind,
        namespace=text(document, "metadata", "namespace"),
        name=name,
        uid=text(document, "metadata", "uid"),
        created=created if possible_moment(created) is not None else "",
        state=json.dumps(facts, sort_keys=True),
    )


def _service(document: Json, _: str) -> Json:
    annotations = _strings(at(document, "metadata", "annotations"))
    is_global = _first(annotations, _GLOBAL).lower() == "true"
    shared = _first(annotations, _SHARED)
    affinity = _first(annotations, _AFFINITY).lower()
    addresses = [*_texts(items(document, "spec", "clusterIPs")), text(document, "spec", "clusterIP")]
    balancers = [text(ingress, "ip") for ingress in items(document, "status", "loadBalancer", "ingress")]
    return {
        "global": is_global,
        "shared": is_global and (not shared or shared.lower() == "true"),
        "affinity": affinity if is_global else "",
        "annotations": {key: value for key, value in annotations.items() if key in (*_GLOBAL, *_SHARED, *_AFFINITY)},
        "type": text(document, "spec", "type"),
        "addresses": _distinct(address for address in addresses if address != "None"),
        "balancer_addresses": _distinct([*balancers, *_texts(items(document, "spec", "externalIPs"))]),
        "ports": [
            {
                "name": text(port, "name"),
                "protocol": text(port, "protocol") or "TCP",
                "port": _number(port, "port"),
                "node_port": _number(port, "nodePort"),
            }
            for port in items(document, "spec", "ports")
        ],
        "session_affinity": text(document, "spec", "sessionAffinity"),
        "internal_traffic_policy": text(document, "spec", "internalTrafficPolicy"),
        "traffic_distribution": text(document, "spec", "trafficDistribution") or _topology_mode(annotations),
    }


def _topology_mode(annotations: Mapping[str, str]) -> str:
    """Return the older annotation that narrows the choice by zone, where it does."""
    mode = _first(annotations, _TOPOLOGY_MODE)
    return f"topology-mode {mode}" if mode and mode.lower() != "disabled" else ""


def _endpoint_slice(document: Json, cluster: str) -> Json:
    labels = _strings(at(document, "metadata", "labels"))
    service = labels.get(_SERVICE_NAME, "")
    # Cilium and the MCS API can mirror another cluster's endpoints into this one's slices.
    if not service or labels.get(_SOURCE_CLUSTER, cluster) != cluster:
        return None
    return {
        "service": service,
        "hinted": any(
            items(endpoint, "hints", "forZones") or items(endpoint, "hints", "forNodes")
            for endpoint in items(document, "endpoints")
        ),
        "ports": [
            {"name": text(port, "name"), "protocol": text(port, "protocol") or "TCP", "port": _number(port, "port")}
            for port in items(document, "ports")
        ],
        "endpoints": [
            {
                "addresses": _texts(items(endpoint, "addresses")),
                "node": text(endpoint, "nodeName"),
                "pod": text(endpoint, "targetRef", "name"),
                # Absent conditions: ready counts as true, serving as ready, terminating as false.
                "ready": at(endpoint, "conditions", "ready") is not False,
                "serving": _condition(endpoint, "serving", "ready") is not False,
                "terminating": at(endpoint, "conditions", "terminating") is True,
            }
            for endpoint in items(document, "endpoints")
        ],
    }


def _condition(endpoint: Json, *names: str) -> Json:
    """Return the first of the conditions that is there."""
    found = (at(endpoint, "conditions", name) for name in names)
    return next((value for value in found if value is not None), None)


def _node(document: Json, _: str) -> Json:
    labels = _strings(at(document, "metadata", "labels"))
    addresses = [address for address in items(document, "status", "addresses") if text(address, "type").endswith("IP")]
    return {
        "addresses": _distinct(text(address, "address") for address in addresses),
        "pod_cidrs": _distinct([*_texts(items(document, "spec", "podCIDRs")), text(document, "spec", "podCIDR")]),
        "zone": labels.get("topology.kubernetes.io/zone", ""),
        "region": labels.get("topology.kubernetes.io/region", ""),
        "runs_no_agent": _no_agent(document, labels),
    }


def _no_agent(document: Json, labels: Mapping[str, str]) -> str:
    """Return why Cilium's agent cannot run on a node, empty where it can."""
    told = labels.get("kubernetes.io/os") or labels.get("beta.kubernetes.io/os")
    taints = [text(taint, "key") for taint in items(document, "spec", "taints")]
    if (told or text(document, "status", "nodeInfo", "operatingSystem")).lower() == "windows":
        return "Windows"
    if labels.get("eks.amazonaws.com/compute-type") == "fargate":
        return "Fargate"
    # Virtual kubelets give their name as a label or a taint.
    if labels.get("type") == "virtual-kubelet" or any(
        key.startswith("virtual-kubelet.io/") for key in (*labels, *taints)
    ):
        return "virtual kubelet"
    return ""


def _cilium_node(document: Json, _: str) -> Json:
    return {
        "addresses": _distinct(text(address, "ip") for address in items(document, "spec", "addresses")),
        "pod_cidrs": _distinct([*_texts(items(document, "spec", "ipam", "podCIDRs")), *_pools(document)]),
        "pod_addresses": _single_addresses(document),
        "zone": "",
        "region": "",
    }


def _pools(document: Json) -> list[str]:
    """Return the ranges that IPAM mode multi-pool gave a node."""
    return [
        cidr for pool in items(document, "spec", "ipam", "pools", "allocated") for cidr in _texts(items(pool, "cidrs"))
    ]


def _single_addresses(document: Json) -> list[str]:
    """Return the addresses that a cloud (or `crd`) gave a node for its pods, one by one instead of in ranges."""
    pool = at(document, "spec", "ipam", "pool") or at(document, "status", "ipam", "used")
    return sorted(pool) if isinstance(pool, Mapping) else []


def _config_map(document: Json, _: str) -> Json:
    if text(document, "metadata", "name") != "cilium-config":
        return None
    return {
        "cluster_id": text(document, "data", "cluster-id"),
        "cluster_name": text(document, "data", "cluster-name"),
        "max_connected_clusters": text(document, "data", "max-connected-clusters"),
        "global_namespaces": text(document, "data", "clustermesh-default-global-namespace"),
        "service_topology": text(document, "data", "enable-service-topology"),
        "ipam": text(document, "data", "ipam"),
    }


def _namespace(document: Json, _: str) -> Json:
    return {"global": _strings(at(document, "metadata", "annotations")).get(_GLOBAL_NAMESPACE, "").lower()}


_FACTS = {
    "Service": _service,
    "EndpointSlice": _endpoint_slice,
    "Namespace": _namespace,
    "Node": _node,
    "CiliumNode": _cilium_node,
    "ConfigMap": _config_map,
}

# What state_of has a use for; the Endpoints of a recording are turned into slices (kube/endpoints).
KINDS = frozenset(_FACTS)


def _first(annotations: Mapping[str, str], names: Sequence[str]) -> str:
    return next((annotations[name] for name in names if name in annotations), "")


def _strings(value: Json) -> dict[str, str]:
    pairs = value.items() if isinstance(value, Mapping) else ()
    return {key: item for key, item in pairs if isinstance(item, str)}


def _texts(values: Sequence[Json]) -> list[str]:
    return [value for value in values if isinstance(value, str)]


def _number(value: Json, key: str) -> int | None:
    found = at(value, key)
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 < found < 2**16 else None


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))

"""Kubernetes objects beside the workloads: nodes, Cilium's settings and Secrets, a pod's state. Pure."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from meshobs.lab.mesh.model import Node
from meshobs.lab.netns.host.pki import Pair
from meshobs.lab.programs import modules

Object = dict[str, Any]
SYSTEM = "kube-system"
_ROOM = {"cpu": "2", "memory": "4Gi", "pods": "110"}


def now() -> str:
    """Return the time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def node(one: Node) -> Object:
    """Return a Node as its kubelet registers it."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": one.name, "labels": one.labels},
        "spec": {
            "podCIDR": one.pod_cidr,
            "podCIDRs": list(one.pod_cidrs),
            "providerID": f"netns://{one.cluster}/{one.name}",
        },
    }


def node_status(one: Node) -> Object:
    """Return a Node's state."""
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    times = {"lastHeartbeatTime": now(), "lastTransitionTime": now()}
    return {
        "status": {
            "addresses": [
                *({"type": "InternalIP", "address": address} for address in one.addresses),
                {"type": "Hostname", "address": one.name},
            ],
            "capacity": _ROOM,
            "allocatable": _ROOM,
            "conditions": [ready | times],
            "nodeInfo": {
                "kubeletVersion": f"v{modules.KUBERNETES}", "architecture": "amd64", "operatingSystem": "linux",
            }
            | dict.fromkeys(
                (
                    "bootID", "containerRuntimeVersion", "kernelVersion", "kubeProxyVersion", "machineID", "osImage",
                    "systemUUID",
                ), ""
            ),
        }
    }  # fmt: skip


def config(settings: Mapping[str, str], masquerade: str) -> Iterable[Object]:
    """Return ConfigMaps cilium-config and ip-masq-agent as Cilium's chart makes them."""
    for name, data in (("cilium-config", dict(settings)), ("ip-masq-agent", {"config": masquerade})):
        meta = {"name": name, "namespace": SYSTEM}
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def secret(name: str, files: Mapping[str, Path]) -> Object:
    """Return a Secret of Cilium's."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": SYSTEM},
        "data": {key: base64.b64encode(path.read_bytes()).decode() for key, path in files.items()},
    }


def tls_secret(name: str, pair: Pair) -> Object:
    """Return a Secret with a certificate."""
    return secret(name, {"ca.crt": pair.ca, "tls.crt": pair.cert, "tls.key": pair.key})


def choose_node(pod: Mapping[str, Any], nodes: Iterable[Node], placed: Iterable[tuple[str, str]]) -> Node:
    """Return the node for a pod: where the fewest of its app are, then the fewest at all; workers first.

    Args:
        pod: as the API shows it.
        nodes: of its cluster.
        placed: app and node name of the pods that have one.
    """
    app = app_of(pod)
    known = list(placed)

    def order(one: Node) -> tuple[int, int, bool]:
        here = [placed_app for placed_app, name in known if name == one.name]
        return here.count(app), len(here), one.control_plane

    return min(nodes, key=order)


def make_binding(pod: Mapping[str, Any], node_name: str) -> Object:
    """Return what a scheduler posts."""
    meta = {"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]}
    target = {"apiVersion": "v1", "kind": "Node", "name": node_name}
    return {"apiVersion": "v1", "kind": "Binding", "metadata": meta, "target": target}


def pod_status(pod: Mapping[str, Any], node: Node, addresses: Sequence[str], container: str) -> Object:
    """Return the state of a pod that runs and is ready.

    Args:
        pod: as the API shows it.
        node: where.
        addresses: its own, one of each family.
        container: its name.
    """
    time = now()
    first = pod["spec"]["containers"][0]
    return {
        "status": {
            "phase": "Running",
            "podIP": addresses[0],
            "podIPs": [{"ip": one} for one in addresses],
            "hostIP": node.address,
            "hostIPs": [{"ip": one} for one in node.addresses],
            "startTime": time,
            "qosClass": "BestEffort",
            "conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": time}
                for kind in ("Initialized", "PodScheduled", "ContainersReady", "Ready")
            ],
            "containerStatuses": [
                {
                    "name": first["name"],
                    "image": first["image"],
                    "imageID": first["image"],
                    "ready": True,
                    "started": True,
                    "restartCount": 0,
                    "containerID": f"containerd://{container}",
                    "state": {"running": {"startedAt": time}},
                }
            ],
        }
    }


def first_hosts(cidr: str) -> Iterable[str]:
    """Return the addresses of a range, in order."""
    return (str(one) for one in IPv4Network(cidr).hosts())


def app_of(pod: Mapping[str, Any]) -> str:
    """Return a pod's label `app`."""
    return str(pod["metadata"].get("labels", {}).get("app", ""))

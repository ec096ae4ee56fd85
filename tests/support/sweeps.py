"""Each field of a message or an object with odd values in its place, one variant a line: thousands of them are one import."""

import json
from collections.abc import Iterator
from typing import Any

from support.forms import AT, LINES, endpoints, shop_mesh
from support.mutations import ODD_VALUES

_HERE = "@@HERE@@"
_EVERYTHING: dict[str, Any] = {
    "l7": {
        "type": "REQUEST",
        "latency_ns": "5",
        "dns": {"query": "x", "rcode": 1},
        "http": {"code": 200, "method": "GET", "url": "x"},
        "kafka": {"api_key": "x", "topic": "y", "error_code": 1},
    },
    "source_service": {"name": "a", "namespace": "b"},
    "destination_service": {"name": "a", "namespace": "b"},
    "emitter": {"name": "x", "version": "1.19.1"},
    "aggregate": {"ingress_flow_count": 1, "egress_flow_count": 2, "unknown_direction_flow_count": 3},
    "interface": {"name": "x"},
    "proxy_port": 1,
    "socket_cookie": "7",
    "drop_reason": 3,
    "drop_reason_desc": "POLICY_DENIED",
    "trace_reason": "NEW",
}
NODE_STATUS = {
    "node_status": {"state_change": "NODE_CONNECTED", "node_names": ["west/w1", "east/e1"], "message": "x"},
    "node_name": "relay",
    "time": AT,
}
LOST_EVENTS = {
    "lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "5", "cpu": 1, "first": AT, "last": AT},
    "node_name": "west/w1",
    "time": AT,
}
BARE_FLOW = {
    "time": AT,
    "node_name": "n1",
    "verdict": "FORWARDED",
    "IP": {"source": "10.0.0.1", "destination": "10.0.0.2"},
    "source": {"ID": 5, "identity": 66000, "labels": ["k8s:io.cilium.k8s.policy.cluster=west"]},
    "destination": {"identity": 1},
    "l4": {"TCP": {"source_port": 1, "destination_port": 2, "flags": {"SYN": True}}},
}
RELAY = {
    "nodes": [
        {"name": "west/west-1", "version": "cilium v1.19.6+g1", "state": "NODE_CONNECTED", "num_flows": "4095"}
        | {"max_flows": "4095", "seen_flows": "1", "uptime_ns": "5", "address": "10.0.0.1:4244"}
    ]
}


def messages() -> list[dict[str, Any]]:
    """Return a message of each kind with every field that is read."""
    message = json.loads(LINES[0])
    message["flow"].update(_EVERYTHING)
    return [message, NODE_STATUS, LOST_EVENTS, BARE_FLOW]


def objects() -> list[dict[str, Any]]:
    """Return an object of each kind with every field that is read."""
    of_mesh = shop_mesh().objects["west"]
    found = {one["kind"]: one for one in [*of_mesh, *endpoints(of_mesh)]}
    found["Namespace"] = {
        "kind": "Namespace",
        "metadata": {"name": "shop", "annotations": {"clustermesh.cilium.io/global": "true"}},
    }
    metadata = {"uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"a": "b"}}
    for one in found.values():
        one["metadata"] = metadata | one["metadata"]
    found["Node"]["spec"]["taints"] = [{"key": "x"}]
    found["Node"]["status"]["addresses"] = [{"type": "InternalIP", "address": "10.0.0.9"}]
    pools = {"pool": {"10.0.0.1": {}}, "pools": {"allocated": [{"pool": "d", "cidrs": ["10.0.0.0/24"]}]}}
    addresses = [{"type": "CiliumInternalIP", "ip": "10.0.0.8"}]
    found["CiliumNode"] = {"kind": "CiliumNode", "metadata": metadata | {"name": "west-1"}}
    found["CiliumNode"]["spec"] = {"addresses": addresses, "ipam": {"podCIDRs": ["10.0.0.0/24"], **pools}}
    found["Service"]["spec"]["externalIPs"] = ["1.2.3.5"]
    found["Service"]["status"] = {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}
    return list(found.values())


def object_lines(step: int) -> Iterator[str]:
    """Yield lines of objects with odd fields, each under a name of its own as far as it has one."""
    number = 0
    for one in objects():
        name = json.dumps(one["metadata"]["name"])
        for line in variants(one, step=step):
            number += 1
            yield line if one["kind"] == "ConfigMap" else line.replace(f'"name": {name}', f'"name": "x-{number}"', 1)


def watch_event() -> dict[str, Any]:
    """Return a change as a watch tells it."""
    return {"type": "ADDED", "received": AT, "object": objects()[0]}


def variants(value: dict[str, Any], *, step: int = 1) -> Iterator[str]:
    """Yield lines: the value with one of its fields exchanged for something odd; with `step` only each so manieth."""
    odd = [one for one in ODD_VALUES if len(one) < 60_000]
    number = 0
    for path in _paths(value):
        text = json.dumps(_with(value, path, _HERE))
        for one in odd:
            number += 1
            if number % step == 0:
                yield text.replace(json.dumps(_HERE), one).replace("\n", " ")


def _paths(value: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    below: list[tuple[str | int, Any]] = list(value.items()) if isinstance(value, dict) else []
    if isinstance(value, list):
        below = list(enumerate(value[:1]))
    for key, inner in below:
        yield (*above, key)
        yield from _paths(inner, (*above, key))


def _with(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    if not path:
        return new
    if isinstance(value, dict):
        return {key: _with(inner, path[1:], new) if key == path[0] else inner for key, inner in value.items()}
    return [_with(inner, path[1:], new) if number == path[0] else inner for number, inner in enumerate(value)]

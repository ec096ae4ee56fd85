"""A hand-made mesh for cases that no recording has: writes a recording folder of the events that a real one leaves.

The shapes of events are those of tests/recordings; only what decides a report is filled in.
"""

import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshobs.pb.flow import flow_pb2 as flow
from meshobs.pb.observer.observer_pb2 import GetFlowsResponse
from meshobs.pb.relay import relay_pb2
from meshobs.times import rfc3339

SECOND = 10**9
START = 1_795_400_000 * SECOND
POINTS = flow.TraceObservationPoint
REASONS = flow.TraceReason
GLOBAL = {"service.cilium.io/global": "true"}
LOCAL = {**GLOBAL, "service.cilium.io/affinity": "local"}
OUTSIDE = "192.0.2.77"


@dataclass
class Mesh:
    """Clusters with two nodes each: CLUSTER-1 and CLUSTER-2; pods are added as they are needed.

    Attributes:
        clusters: name -> cluster id.
        aggregation: `none` or `medium`: medium leaves out FROM_* events and what follows masquerading.
        versions: Cilium's, by cluster.
        silent: nodes whose events are missing, as `cluster/node`.
    """

    clusters: dict[str, int] = field(default_factory=lambda: {"west": 1, "east": 2})
    aggregation: str = "none"
    version: str = "1.19.6"
    silent: set[str] = field(default_factory=set)
    messages: list[GetFlowsResponse] = field(default_factory=list)
    pods: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    objects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    proxies: dict[str, tuple[str, str]] = field(default_factory=dict)
    changes: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)
    now: int = START
    _cookie: int = 100
    _port: int = 40_000

    def __post_init__(self) -> None:
        """Make the nodes."""
        self.nodes = {
            f"10.{number}.255.{n}": (cluster, f"{cluster}-{n}")
            for number, cluster in enumerate(self.clusters)
            for n in (1, 2)
        }
        for number, cluster in enumerate(self.clusters):
            self.objects[cluster] = [
                {
                    "kind": "Node",
                    "metadata": {"name": f"{cluster}-{n}"},
                    "spec": {"podCIDRs": [f"10.{number}.{n}.0/24"]},
                    "status": {"addresses": [{"type": "InternalIP", "address": f"10.{number}.255.{n}"}]},
                }
                for n in (1, 2)
            ]
            self.objects[cluster] += [
                {
                    "kind": "Namespace",
                    "metadata": {"name": "shop", "annotations": {"clustermesh.cilium.io/global": "true"}},
                }
            ]

        self.status("NODE_CONNECTED", *sorted("/".join(owner) for owner in self.nodes.values()))

    def pod(self, cluster: str, name: str, node: int = 1) -> str:
        """Add a pod and return its address."""
        number = list(self.clusters).index(cluster)
        address = f"10.{number}.{node}.{10 + len(self.pods)}"
        self.pods[address] = (cluster, f"{cluster}-{node}", name)
        return address

    def node(self, cluster: str, n: int = 1) -> str:
        """Return a node's address."""
        return next(address for address, (_, name) in self.nodes.items() if name == f"{cluster}-{n}")

    def service(
        self, cluster: str, name: str, backends: list[str], *, ports: tuple[int, int] = (80, 8080), **more: Any
    ) -> str:
        """Add a service and its EndpointSlice; return its address.

        Args:
            ports: of the service and of its backends.
            more: `annotations`, `node_port`, `balancer`, `protocol`, `ready`, `spec`.
        """
        number = list(self.clusters).index(cluster)
        address = f"10.1{number}.0.{len(self.objects[cluster])}"
        protocol = more.get("protocol", "TCP")
        port = {"port": ports[0], "protocol": protocol, "targetPort": ports[1]}
        self.objects[cluster] += [
            {
                "kind": "Service",
                "metadata": {"name": name, "namespace": "shop", "annotations": more.get("annotations", {})},
                "spec": {
                    "clusterIP": address,
                    "clusterIPs": [address],
                    "ports": [{**port, **({"nodePort": more["node_port"]} if "node_port" in more else {})}],
                    **more.get("spec", {}),
                },
                "status": {"loadBalancer": {"ingress": [{"ip": ip} for ip in more.get("balancer", [])]}},
            },
            {
                "kind": "EndpointSlice",
                "metadata": {
                    "name": f"{name}-x",
                    "namespace": "shop",
                    "labels": {"kubernetes.io/service-name": name},
                },
                "ports": [{"name": "", "port": ports[1], "protocol": protocol}],
                "endpoints": [
                    {
                        "addresses": [backend],
                        "conditions": {"ready": more.get("ready", True)},
                        **self._place(backend),
                    }
                    for backend in backends
                ],
            },
        ]
        return address

    def _place(self, backend: str) -> dict[str, Any]:
        if backend in self.pods:
            return {"nodeName": self.pods[backend][1]}
        return {"nodeName": self.nodes[backend][1]} if backend in self.nodes else {}

    def envoy(self, cluster: str, node: int = 1) -> str:
        """Return the address of a node's Envoy for Ingresses and Gateways: in the pod range, identity 8."""
        address = f"10.{list(self.clusters).index(cluster)}.{node}.250"
        self.proxies[address] = (cluster, f"{cluster}-{node}")
        return address

    def change(self, cluster: str, service: str, annotations: dict[str, str], at: int) -> None:
        """Annotate a service anew at a time; only recordings with watch logs tell."""
        old = next(
            one for one in self.objects[cluster] if one["kind"] == "Service" and one["metadata"]["name"] == service
        )
        metadata = {**old["metadata"], "annotations": annotations}
        self.changes.append((cluster, at, {**old, "metadata": metadata}))

    def event(
        self, node: str, point: str, source: str, destination: str, ports: tuple[int, int], **more: Any
    ) -> GetFlowsResponse:
        """Add one trace event as node `cluster/name` sees it.

        Args:
            more: `reason`, `reply`, `protocol`, `xlated`, `flags`, `later` (seconds after now), `kind` (event type).
        """
        message = GetFlowsResponse(node_name=node)
        one: Any = message.flow
        one.uuid, one.node_name = str(uuid.uuid4()), node
        at = self.now + int(more.get("later", 0) * SECOND)
        one.time.seconds, one.time.nanos = divmod(at, SECOND)
        message.time.CopyFrom(one.time)
        one.verdict = flow.Verdict.FORWARDED
        one.event_type.type = more.get("kind", 4)
        one.event_type.sub_type = more.get("sub_type", 0)
        one.trace_observation_point = POINTS.Value(point)
        one.trace_reason = REASONS.Value(more.get("reason", "TRACE_REASON_UNKNOWN"))
        if "reply" in more:
            one.is_reply.value = more["reply"]
        one.IP.source, one.IP.destination, one.IP.source_xlated = source, destination, more.get("xlated", "")
        self._ports(one, ports, more)
        if self.version >= "1.19":
            one.emitter.version = self.version
        self._end(one.source, source, node)
        self._end(one.destination, destination, node)
        if node not in self.silent:
            self.messages.append(message)
        return message

    def unavailable(self, *nodes: str) -> None:
        """Let the Relay say from the start that it does not reach nodes; they leave no events."""
        self.without_hubble(*nodes)
        self.status("NODE_UNAVAILABLE", *nodes)

    def without_hubble(self, *nodes: str) -> None:
        """Let nodes be known to Kubernetes only; they leave no events."""
        self.silent |= set(nodes)
        connected = self.messages[0].node_status
        kept = [name for name in connected.node_names if name not in nodes]
        del connected.node_names[:]
        connected.node_names.extend(kept)

    def _ports(self, one: Any, ports: tuple[int, int], more: dict[str, Any]) -> None:
        protocol = more.get("protocol", "TCP")
        if protocol == "ICMP":
            one.l4.ICMPv4.type = 8
            return
        l4 = getattr(one.l4, protocol)
        l4.source_port, l4.destination_port = ports
        if protocol == "TCP":
            for name in more.get("flags", "SYN").split():
                setattr(l4.flags, name, True)

    def _end(self, end: Any, address: str, node: str) -> None:
        if address in self.pods:
            cluster, home, name = self.pods[address]
            end.identity = (self.clusters[cluster] << 16) + 500
            end.cluster_name, end.namespace, end.pod_name = cluster, "shop", name
            end.ID = 77 if node == f"{cluster}/{home}" else 0
        elif address in self.nodes:
            end.identity = 1 if node == "/".join(self.nodes[address]) else 6
        elif address in self.proxies:
            end.identity = 8
        else:
            end.identity = 2

    def home(self, address: str) -> str:
        """Return the node of an address as `cluster/name`."""
        if address in self.pods:
            return "/".join(self.pods[address][:2])
        return "/".join(self.proxies.get(address) or self.nodes[address])

    def call(self, client: str, backend: str, *, port: int = 8080, **more: Any) -> int:
        """Leave the events of one connection from pod to pod, and wait a little; return its source port.

        Args:
            port: of the backend.
            more: `aim` (address, port) that the socket aimed at, `protocol`, `masquerade`, `dropped`, `lost_arrival`,
                `packet_lb` (the answers carry the aim's address), `pause` (seconds before the next).
        """
        self._port = sport = 40_000 + (self._port - 39_999) % 20_000
        protocol = more.get("protocol", "TCP")
        node, far = self.home(client), self.home(backend)
        aim = more.get("aim")
        if aim and not more.get("packet_lb"):
            self.socket(node, client, aim, (backend, port), protocol)
        self.leave(client, backend, (sport, port), aim=aim if more.get("packet_lb") else None, **_kept(more))
        seen = client
        if more.get("masquerade"):
            seen = next(address for address, owner in self.nodes.items() if "/".join(owner) == node)
            if self.aggregation == "none":
                self.event(node, "TO_NETWORK", client, backend, (sport, port), xlated=seen, protocol=protocol)
        if more.get("dropped"):
            drop = self.event(far, "UNKNOWN_POINT", seen, backend, (sport, port), kind=1, sub_type=133, later=0.02)
            drop.flow.verdict, drop.flow.drop_reason_desc = flow.Verdict.DROPPED, flow.DropReason.POLICY_DENIED
        elif not more.get("lost_arrival"):
            self.arrive(seen, backend, (sport, port), protocol=protocol)
            xlated = aim[0] if aim and more.get("packet_lb") else ""
            self.event(
                node, "TO_ENDPOINT", backend, client, (port, sport),
                reason="REPLY", reply=True, xlated=xlated, flags="SYN ACK", protocol=protocol, later=0.03,
            )  # fmt: skip
        self.now += int(more.get("pause", 0.2) * SECOND)
        return sport

    def call_unseen(
        self, client: str, backend: str, aim: tuple[str, int] | None, *, port: int = 8080, **more: Any
    ) -> None:
        """Leave the events of a pod's call of a backend that gives no arrival: a host, a machine outside.

        Args:
            more: `protocol`, `received` (the host's node shows what came in), `pause`.
        """
        self._port = sport = 40_000 + (self._port - 39_999) % 20_000
        protocol = more.get("protocol", "TCP")
        if aim:
            self.socket(self.home(client), client, aim, (backend, port), protocol)
        self.leave(client, backend, (sport, port), protocol=protocol)
        if more.get("received"):
            self.event(
                self.home(backend), "FROM_NETWORK", client, backend, (sport, port), protocol=protocol, later=0.01
            )
        self.now += int(more.get("pause", 0.2) * SECOND)

    def call_itself(self, pod: str, aim: tuple[str, int], *, port: int = 8080, protocol: str = "TCP") -> None:
        """Leave the events of a call that the socket load balancer leads back to the caller: no packet shows."""
        self.socket(self.home(pod), pod, aim, (pod, port), protocol)
        self.now += SECOND // 5

    def leave(self, source: str, destination: str, ports: tuple[int, int], **more: Any) -> None:
        """Leave the events of a pod's packet on its own node."""
        node = self.home(source)
        if self.aggregation == "none":
            first = more.get("aim") or (destination, ports[1])
            self.event(node, "FROM_ENDPOINT", source, first[0], (ports[0], first[1]), **_kept(more))
        if destination not in self.pods or self.home(destination) != node:
            self.event(node, "TO_NETWORK", source, destination, ports, reason="NEW", reply=False, **_kept(more))

    def arrive(self, source: str, destination: str, ports: tuple[int, int], **more: Any) -> None:
        """Leave the event of a packet that reaches a pod."""
        more = {"later": 0.02, **more}
        self.event(self.home(destination), "TO_ENDPOINT", source, destination, ports, reason="NEW", reply=False, **more)

    def passes(self, node: str, client: str, backend: str, ports: tuple[int, int], *, node_port: int) -> None:
        """Leave the events of an ingress node that passes a NodePort call on under its own address."""
        name = "/".join(self.nodes[node])
        if self.aggregation == "none":
            self.event(name, "FROM_NETWORK", client, node, (ports[0], node_port), later=0.01)
            self.event(name, "TO_NETWORK", node, backend, ports, later=0.01)
        self.event(
            name, "TO_NETWORK", node, client, (node_port, ports[0]), reason="REPLY", reply=True, flags="SYN ACK", later=0.03
        )  # fmt: skip

    def socket(self, node: str, client: str, aim: tuple[str, int], backend: tuple[str, int], protocol: str) -> None:
        """Leave the two events of a socket that the load balancer leads on."""
        self._cookie += 1
        for sub_type, (address, port) in ((1, aim), (2, backend)):
            message = self.event(
                node, "UNKNOWN_POINT", client, address, (0, port),
                kind=7, sub_type=sub_type, protocol=protocol, flags="", later=-0.001,
            )  # fmt: skip
            message.flow.socket_cookie, message.flow.Type = self._cookie, flow.FlowType.SOCK

    def lose(self, node: str, events: int, source: str = "PERF_EVENT_RING_BUFFER") -> None:
        """Add a lost event."""
        message = GetFlowsResponse(node_name=node)
        message.time.seconds, message.time.nanos = divmod(self.now, SECOND)
        lost: Any = message.lost_events
        lost.source = flow.LostEventSource.Value(source)
        lost.num_events_lost = events
        self.messages.append(message)

    def status(self, state: str, *nodes: str, text: str = "", at: int | None = None) -> None:
        """Add what the Relay says of nodes, of now or of another moment."""
        message = GetFlowsResponse(node_name="relay")
        message.time.FromNanoseconds(self.now if at is None else at)
        told: Any = message.node_status
        told.state_change = relay_pb2.NodeState.Value(state)
        told.node_names.extend(nodes)
        told.message = text
        self.messages.append(message)

    def write(self, folder: Path, *, watched: bool = True) -> Path:
        """Write the recording and return its folder; `watched`: the objects were watched from before the start."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "relay.bin").write_bytes(frames(self.messages))
        for cluster, objects in self.objects.items():
            if watched:
                events = [{"received": "2026-11-22T00:00:00Z", "type": "ADDED", "object": one} for one in objects]
                events += [
                    {"received": rfc3339(at), "type": "MODIFIED", "object": one}
                    for owner, at, one in self.changes
                    if owner == cluster
                ]
                (folder / f"watch-{cluster}-svc.jsonl").write_text("".join(json.dumps(one) + "\n" for one in events))
            else:
                (folder / f"k8s-{cluster}.json").write_text(json.dumps({"kind": "List", "items": objects}))
        return folder


def frames(messages: list[GetFlowsResponse]) -> bytes:
    """Return messages as a raw capture."""
    raw = [message.SerializeToString() for message in messages]
    return b"".join(len(one).to_bytes(4, "big") + one for one in raw)


def _kept(more: dict[str, Any]) -> dict[str, Any]:
    return {key: more[key] for key in ("protocol",) if key in more}


def shop(mesh: Mesh, annotations: dict[str, str] = GLOBAL) -> tuple[str, str, dict[str, list[str]]]:
    """Put two backends and service shop/back into each cluster; return a client, its ClusterIP, and the backends."""
    client = mesh.pod("west", "front-1")
    backends = {cluster: [mesh.pod(cluster, f"back-{n}", n) for n in (1, 2)] for cluster in mesh.clusters}
    addresses = {c: mesh.service(c, "back", backends[c], annotations=annotations) for c in mesh.clusters}
    return client, addresses["west"], backends

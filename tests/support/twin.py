"""A connection's path, the signature of an event, and the twin of a recorded attempt: what the twin is measured with.

A signature leaves out what differs from one connection to the next (port numbers, addresses, names, times) and keeps
what each of them stands for: the client's pod, the server's node, the address that was aimed at.
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import NamedTuple

from meshobs.lab.mesh.model import Cluster, Mesh, Node
from meshobs.lab.mesh.variants import NAMED
from meshobs.lab.sim.datapath.attempt import REFUSED, TIMED_OUT
from meshobs.lab.sim.datapath.call import Call, Client, Host, Outcome, Outside, Sockets, carry_call, in_family
from meshobs.lab.sim.datapath.packets import CURL, ClientBehaviour
from meshobs.lab.sim.world.world import Frontend, Pod, Policy, Service, World
from meshobs.pb.flow import flow_pb2

# Client and server of all recordings but kind's: a Python client that asks for its peer's name once, a Python server
# that answers in two segments.
PYTHON = ClientBehaviour(segments=2, peers=1, peers_again=1, client_first=0.22, prompt=0.35)
# Client and server of the driver netns: nobody asks for a peer's name, an answer is one segment, the server closes.
LAB = ClientBehaviour(peers=0, client_first=0.1, prompt=0.4)

_RESERVED = {1: "host", 2: "world", 6: "remote-node", 7: "kube-apiserver"}
_OUTCOMES = {"": "answered", TIMED_OUT: "TimeoutError", REFUSED: "ConnectionRefusedError"}
_INCOMING = {5, 7, 10}  # FROM_ENDPOINT, FROM_HOST, FROM_NETWORK: none at medium
SECOND = 10**9


class Side(NamedTuple):
    """One end of a flow: whose address, which port, which identity, which fields are filled."""

    address: str
    port: str
    identity: str
    filled: str


class Signature(NamedTuple):
    """An event without what differs between two connections of one path; enums as their numbers.

    Attributes:
        node: its role.
        kind: type and sub type of the event, type of the flow, observation point, socket point.
        reason: trace reason.
        reply: is_reply, None if absent, and the older field.
        direction: of the traffic.
        verdict: with drop reason (twice) and policy match.
        flags: of TCP, or type and code of ICMP.
        held: which further fields are filled.
        emitter: the flow says which version sent it.
        interface: name without its own number.
        text: the summary.
    """

    node: str
    kind: tuple[int, ...]
    reason: int
    reply: tuple[bool | None, bool]
    direction: int
    verdict: tuple[int, ...]
    source: Side
    destination: Side
    xlated: str
    services: tuple[str, str]
    protocol: str
    flags: bytes
    held: tuple[bool, ...]
    emitter: bool
    interface: str
    text: str


class Way(NamedTuple):
    """A path through the mesh; connections of one path look alike."""

    version: str
    aggregation: str
    balancing: str
    programs: str
    variant: str
    family: str
    client: str
    aimed: str
    ingress: str
    server: str
    translated: bool
    policed: bool
    outcome: str
    protocol: str
    requests: int


@dataclass(frozen=True)
class Facts:
    """What is true for a whole recording: settings, nodes, pods and Services by address."""

    version: str
    aggregation: str
    socket_lb: bool
    masquerades: bool
    denying: bool
    programs: str
    variant: str
    nodes: Mapping[str, Node]
    pods: Mapping[str, Pod]
    services: tuple[Service, ...]


@dataclass(frozen=True)
class Attempt:
    """What is true for one attempt: addresses of client, target and server, the one that the server saw, the outcome."""

    source: str
    client: str
    port: int
    target: str
    aimed_port: int
    server: str
    saw: str
    start: int
    end: int
    outcome: str = "answered"
    protocol: str = "TCP"
    requests: int = 1

    @property
    def gap(self) -> int:
        """Return the mean time between two requests."""
        return (self.end - self.start) // max(self.requests - 1, 1)


@dataclass(frozen=True)
class Roles:
    """Who took part in one connection: nodes by role, what each address and each port stands for."""

    nodes: tuple[tuple[str, str], ...]
    addresses: Mapping[str, str]
    ports: Mapping[int, str]


@dataclass
class Connection:
    """One connection with all its flows."""

    way: Way
    roles: Roles
    attempt: Attempt
    facts: Facts
    flows: list[flow_pb2.Flow] = field(default_factory=list)

    def counts(self) -> Counter[Signature]:
        """Return how often each signature occurs."""
        return Counter(signature(flow, self.roles) for flow in self.flows)

    @property
    def aggregated(self) -> bool:
        """Tell whether no event of it is one that aggregation leaves out."""
        return not any(flow.event_type.type == 4 and flow.event_type.sub_type in _INCOMING for flow in self.flows)


def signature(flow: flow_pb2.Flow, roles: Roles) -> Signature:
    """Return what a flow says, with each name replaced by its role."""
    protocol = flow.l4.WhichOneof("protocol") or ""
    layer = getattr(flow.l4, protocol or "TCP")
    source_port = destination_port = 0
    if protocol in {"TCP", "UDP"}:
        source_port, destination_port = layer.source_port, layer.destination_port
    names = roles.addresses
    return Signature(
        "+".join([role for role, name in roles.nodes if name == flow.node_name]) or "other",
        (
            flow.event_type.type, flow.event_type.sub_type, flow.Type, flow.trace_observation_point,
            flow.sock_xlate_point,
        ),
        flow.trace_reason,
        (flow.is_reply.value if flow.HasField("is_reply") else None, flow.reply),
        flow.traffic_direction,
        (flow.verdict, flow.drop_reason, flow.drop_reason_desc, flow.policy_match_type),
        _side(flow.source, flow.IP.source, source_port, roles),
        _side(flow.destination, flow.IP.destination, destination_port, roles),
        names.get(flow.IP.source_xlated, flow.IP.source_xlated),
        (flow.source_service.name, flow.destination_service.name),
        protocol,
        (layer.flags if protocol == "TCP" else layer).SerializeToString() if protocol != "UDP" else b"",
        (
            bool(flow.socket_cookie), bool(flow.cgroup_id), bool(flow.node_labels), bool(flow.ingress_denied_by),
            bool(flow.ingress_allowed_by), flow.HasField("ethernet"), flow.IP.ipVersion == flow_pb2.IPv4,
        ),
        flow.HasField("emitter"),
        flow.interface.name if flow.interface.name == "eth0" else flow.interface.name[:3],
        flow.Summary,
    )  # fmt: skip


def _side(endpoint: flow_pb2.Endpoint, address: str, port: int, roles: Roles) -> Side:
    identity, filled = _known(endpoint.SerializeToString(deterministic=True))
    place = roles.addresses.get(address, address)
    return Side(place, roles.ports.get(port, str(port)) if port else "", identity, filled)


@cache
def _known(data: bytes) -> tuple[str, str]:
    """Return an endpoint's kind of identity and which fields are filled; few endpoints make up all flows."""
    endpoint = flow_pb2.Endpoint.FromString(data)
    pod = f"pod of {endpoint.identity >> 16}" if endpoint.identity >= 256 else str(endpoint.identity)
    names = ("ID", "namespace", "labels", "pod_name", "workloads", "cluster_name")
    held = [
        *(name for name in names if getattr(endpoint, name)),
        *(one for one in endpoint.labels if "reserved" in one),
    ]
    return _RESERVED.get(endpoint.identity, pod), "+".join(held)


def described(facts: Facts, attempt: Attempt) -> tuple[Way, Roles]:
    """Return an attempt's path and who took part."""
    here = _node(facts, attempt.source) or _hosting(facts, attempt.client)
    there, ingress = _node(facts, attempt.server), facts.nodes.get(attempt.target)
    roles = (("client", here), ("ingress", ingress), ("server", there))
    addresses = {
        address: "node:" + ("+".join(role for role, one in roles if one == node) or "other")
        for address, node in facts.nodes.items()
    }
    addresses |= {address: "service" for service in facts.services for address in service.addresses}
    host = attempt.source not in facts.pods
    tunnels = NAMED[facts.variant].tunnels
    if tunnels and ingress is not None and there != ingress:
        addresses |= dict.fromkeys((attempt.saw, *ingress.routers), "router of ingress")
    if host and here is not None and (here == there or (tunnels and ingress is None)):
        addresses |= dict.fromkeys((attempt.saw, *here.routers), "router")
    elif attempt.source not in facts.nodes:
        addresses[attempt.source] = "client"
    if ingress is None or there != ingress or attempt.server != attempt.target:
        addresses[attempt.server] = "server"
    aimed = "service" if addresses.get(attempt.target) == "service" else "nodeport" if ingress else "pod"
    own_door = here is not None and any(
        (one.cluster, one.node_port) == (here.cluster, attempt.aimed_port) for one in facts.services
    )
    way = Way(
        facts.version,
        facts.aggregation,
        "socket" if facts.socket_lb else "packet",
        facts.programs,
        facts.variant,
        "IPv6" if ":" in attempt.target else "IPv4",
        f"{'host' if here and host else 'pod' if here else 'outside'} {_place(here, None)}",
        aimed + (" known" if aimed == "nodeport" and own_door else ""),
        f"{_place(ingress, here)}, server {_place(there, ingress)}" if ingress else "",
        _place(there, here),
        attempt.saw not in {attempt.source, "router"} and addresses.get(attempt.saw) != "router",
        facts.denying and there is not None and there.cluster == "east",
        attempt.outcome,
        attempt.protocol,
        attempt.requests,
    )
    ports = {attempt.port: "own", attempt.aimed_port: "aimed"}
    ports.setdefault(80, "backend")
    named = tuple((role, node.full) for role, node in roles if node is not None)
    return way, Roles(named, addresses, ports)


def _node(facts: Facts, address: str) -> Node | None:
    pod = facts.pods.get(address)
    if pod is None:
        return facts.nodes.get(address)
    return next(node for node in facts.nodes.values() if node.full == pod.node)


def _hosting(facts: Facts, client: str) -> Node | None:
    """Return the node of a client on a host network, named cluster/host/node."""
    return next((node for node in facts.nodes.values() if client.endswith(f"/host/{node.name}")), None)


def _place(node: Node | None, seen_from: Node | None) -> str:
    """Return what a node is and where it lies from another: the same, next to it, in another cluster."""
    if node is None:
        return ""
    kind = "control plane" if node.control_plane else "worker"
    if seen_from is None:
        return kind
    where = "same" if node == seen_from else "next" if node.cluster == seen_from.cluster else "abroad"
    return f"{where} {kind}"


def world_of(facts: Facts, backend: str) -> World:
    """Return the recording's mesh; every Service leads to the one backend that answered."""
    clusters = tuple(
        Cluster(
            name, number, cidr, "",
            tuple(node for node in dict.fromkeys(facts.nodes.values()) if node.cluster == name), cidr,
            () if facts.masquerades else (other,), facts.version, facts.aggregation, facts.socket_lb,
            variant=NAMED[facts.variant],
        )
        for name, number, cidr, other in (
            ("west", 1, "10.0.0.0/16", "10.1.0.0/16"), ("east", 2, "10.1.0.0/16", "10.0.0.0/16"),
        )
    )  # fmt: skip
    policies = (Policy("east", "default", "deny-west", "webpod", "west"),) if facts.denying else ()
    programmed = {
        cluster.name: tuple(
            Frontend(one, (facts.pods[backend],) if backend in facts.pods else ())
            for one in facts.services if one.cluster == cluster.name
        )
        for cluster in clusters
    }  # fmt: skip
    pods = tuple(dict.fromkeys(facts.pods.values()))
    return World(Mesh(clusters, (), ()), pods, facts.services, policies, programmed)


def client_of(facts: Facts, world: World, attempt: Attempt) -> Client:
    """Return an attempt's client as the twin knows it."""
    pod = facts.pods.get(attempt.source)
    if pod is not None:
        return pod
    node = facts.nodes.get(attempt.source) or _hosting(facts, attempt.client)
    if node is not None:
        return Host(node)
    return Outside(attempt.source if ":" not in attempt.source else world.mesh.outside)


def simulated(
    recorded: Connection, chance: random.Random, sockets: Sockets | None = None, at: int = 0
) -> tuple[Connection, Outcome]:
    """Return what the twin makes of a recorded attempt."""
    facts, attempt = recorded.facts, recorded.attempt
    world = world_of(facts, attempt.server)
    port = chance.randrange(32768, 61000) if attempt.protocol != "ICMP" else 0
    manner = {"python": PYTHON, "curl": CURL, "lab": LAB}[facts.programs]
    manner = replace(manner, patience=attempt.end - attempt.start)
    outcome = carry_call(
        world,
        in_family(world, Call(
            client_of(facts, world, attempt), attempt.target, attempt.aimed_port, attempt.protocol, port,
            attempt.requests, attempt.gap if attempt.requests > 1 else 0,
        )),
        at, chance, sockets or Sockets(), manner,
    )  # fmt: skip
    saw = outcome.server_saw.rpartition(":")[0] or attempt.source
    twin = replace(attempt, port=port, saw=saw, outcome=_OUTCOMES.get(outcome.error, outcome.error))
    made = Connection(*described(facts, twin), twin, facts, [event.flow for event in outcome.events])
    return made, outcome

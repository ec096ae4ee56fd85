"""Where a call leads: load balancing, NodePort, masquerading, policy. A decision without any packet yet."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from meshobs.lab.mesh.model import Node
from meshobs.lab.sim.datapath.attempt import NO_ROUTE, NOT_PERMITTED, REFUSED, TIMED_OUT, Call, Client, Host, Outside
from meshobs.lab.sim.datapath.flows import End
from meshobs.lab.sim.datapath.policy import is_masqueraded, is_within, policy_verdict
from meshobs.lab.sim.world.world import Frontend, Pod, Policy, World
from meshobs.pb.flow import flow_pb2


@dataclass(frozen=True)
class Route:
    """The way of one connection.

    Attributes:
        pod: the client, if it has an address of its own.
        node: the client's, None outside.
        source: address that the client sends from.
        aimed: what it asked for.
        first: where its packets go as they leave its node's load balancing.
        final: where they arrive.
        by_socket: translated at connect().
        by_packet: translated packet by packet.
        ingress: the node whose NodePort they reach over the network.
        masquerade: the node address that hides the client, empty if none does.
        saw: the source address at the server.
        server: the pod that answers, if one does.
        server_node: where it or the node's own stack answers; None outside the mesh.
        policy: that selects the server.
        drop: why the policy refuses, None if it does not.
        error: empty if it is answered.
        tunnelled: it ends at a pod, and crosses to the pod's node in a tunnel.
    """

    pod: Pod | None
    node: Node | None
    source: str
    aimed: End
    first: End
    final: End
    by_socket: bool = False
    by_packet: bool = False
    ingress: Node | None = None
    masquerade: str = ""
    saw: str = ""
    server: Pod | None = None
    server_node: Node | None = None
    policy: Policy | None = None
    drop: flow_pb2.DropReason | None = None
    error: str = ""
    tunnelled: bool = False

    @property
    def wire(self) -> str:
        """Return the source address between the client's node and the next."""
        return self.masquerade or self.source

    @property
    def local(self) -> bool:
        """Tell whether it never leaves the client's node."""
        return self.node is not None and self.node == self.server_node and self.ingress is None

    @property
    def host_tunnelled(self) -> bool:
        """Tell whether a host's packets go into the tunnel, under its router's address."""
        return self.tunnelled and self.pod is None and self.node is not None and self.source == self.node.router

    @property
    def to_pod(self) -> bool:
        """Tell whether it ends at a pod with an address of its own."""
        return self.server is not None and not self.server.host_network


@dataclass
class _Draft:
    """A route while it is decided."""

    world: World
    call: Call
    chance: random.Random
    frontend: Frontend | None = None
    backend: Pod | None = None
    ingress: Node | None = None
    first: End = field(default_factory=lambda: End("", 0))


def decide(world: World, call: Call, chance: random.Random) -> Route | str:
    """Return the way of a call, or the error that its connect() ends with at once and without a packet."""
    pod, node, source = _origin(world, call.client)
    draft = _Draft(world, call, chance, first=End(call.address, call.port))
    if node is not None:
        draft.frontend = _own_frontend(world, call, node, pod)
    if draft.frontend is not None and node is not None:
        if not draft.frontend.backends:
            return NO_ROUTE if world.clusters[node.cluster].traits.refuses_unreachable else NOT_PERMITTED
        draft.backend = chance.choice(draft.frontend.backends)
        draft.first = End(draft.backend.address, draft.frontend.service.target_port)
    final = draft.first
    if draft.backend is None and (at := world.node_at.get(call.address)) is not None and at != node:
        entered = _frontend_of(world.programmed.get(at.cluster, ()), call, node_port=True)
        if entered is not None and call.address == at.address:
            draft.ingress = at
            if not entered.backends:
                return REFUSED
            draft.backend = chance.choice(entered.backends)
            final = End(draft.backend.address, entered.service.target_port)
    return _complete(draft, pod, node, source, final)


def _complete(draft: _Draft, pod: Pod | None, node: Node | None, source: str, final: End) -> Route:
    world, call = draft.world, draft.call
    server = _server(world, call, draft.backend, final)
    server_node = _node_of(world, server, final.address)
    tunnelled = world.mesh.tunnels and any(is_within(final.address, one.pod_cidr) for one in world.mesh.clusters)
    into_tunnel = tunnelled and pod is None and draft.ingress is None and final.address in world.pod_at
    if into_tunnel and node is not None and node != server_node:
        source = node.router
    inside = pod is not None and node is not None and server_node is not None and draft.ingress is None
    local = inside and server_node == node
    masquerade = ""
    if pod is not None and node is not None and not local and is_masqueraded(
        world, world.clusters[node.cluster], draft.first.address
    ):  # fmt: skip
        masquerade = node.address
    saw = masquerade or source
    if draft.ingress is not None and server_node != draft.ingress:
        saw = draft.ingress.router if tunnelled else draft.ingress.address
    elif pod is None and node is not None and server_node == node and server is not None and not server.host_network:
        saw = node.router
    per_packet = draft.frontend is not None and pod is not None and not world.clusters[pod.cluster].socket_lb
    service = None if draft.frontend is None else draft.frontend.service
    # By IPv6 the agent finds a NodePort of another node under any address.
    elsewhere = call.by_ipv6 and world.node_at.get(call.address, node) != node
    shown = "::" if service is not None and elsewhere else call.address
    named = service if service is not None and _knows(world, call, node, shown) else None
    policy, drop = policy_verdict(world, server, server_node, saw)
    error = TIMED_OUT if drop is not None else _error(world, call, server, server_node, final)
    return Route(
        pod, node, source, End(shown, call.port, named), draft.first, final,
        draft.frontend is not None and not per_packet, per_packet, draft.ingress, masquerade, saw,
        server, server_node, policy, drop, error, tunnelled,
    )  # fmt: skip


def _origin(world: World, client: Client) -> tuple[Pod | None, Node | None, str]:
    """Return the client as a pod with an address of its own, its node, its address."""
    if isinstance(client, Outside):
        return None, None, client.address
    if isinstance(client, Host):
        return None, client.node, client.node.address
    node = world.nodes[client.node]
    return (None, node, node.address) if client.host_network else (client, node, client.address)


def _own_frontend(world: World, call: Call, node: Node, pod: Pod | None) -> Frontend | None:
    """Return what the client's own agent translates: a ClusterIP, or a NodePort where it is known to it."""
    cluster = world.clusters[node.cluster]
    frontends = world.programmed.get(cluster.name, ())
    at = world.node_at.get(call.address)
    if at is None:
        return _frontend_of(frontends, call, node_port=False)
    if call.address != at.address:
        return None
    if pod is not None and not cluster.socket_lb and at != node:
        return None
    if at.cluster != cluster.name and not cluster.traits.answers_foreign_nodeports:
        return None
    return _frontend_of(frontends, call, node_port=True)


def _frontend_of(frontends: Iterable[Frontend], call: Call, *, node_port: bool) -> Frontend | None:
    for frontend in frontends:
        service = frontend.service
        if service.protocol != call.protocol:
            continue
        if node_port:
            if call.port and service.node_port == call.port:
                return frontend
        elif (service.address, service.port) == (call.address, call.port):
            return frontend
    return None


def _knows(world: World, call: Call, node: Node | None, shown: str) -> bool:
    """Tell whether the agent knows the Service by this address: a ClusterIP or, by IPv4, its own node's NodePort."""
    at = world.node_at.get(shown)
    return at is None or (at == node and not call.by_ipv6)


def _server(world: World, call: Call, backend: Pod | None, final: End) -> Pod | None:
    """Return the pod at an address, on the host network the one that listens there; None if it is gone."""
    if backend is not None and backend.host_network:
        return backend
    found = world.pod_at.get(final.address)
    if found is not None or final.address not in world.node_at or call.protocol == "ICMP":
        return found
    node = world.node_at[final.address].full
    return next((pod for pod in world.pods if pod.host_network and pod.node == node and pod.port == final.port), None)


def _node_of(world: World, server: Pod | None, address: str) -> Node | None:
    """Return the node where packets for an address arrive, also for a pod that is gone; None outside the mesh."""
    if server is not None:
        return world.nodes[server.node]
    if address in world.node_at:
        return world.node_at[address]
    return next((node for node in world.mesh.nodes if is_within(address, node.pod_cidr)), None)


def _error(world: World, call: Call, server: Pod | None, node: Node | None, final: End) -> str:
    """Return what a client gets whom no policy refuses."""
    if server is not None:
        if call.protocol == "ICMP" or server.port == final.port:
            return ""
        return REFUSED if call.protocol == "TCP" else TIMED_OUT
    if node is not None and final.address in world.node_at:
        return {"ICMP": "", "TCP": REFUSED}.get(call.protocol, TIMED_OUT)
    # Outside, machines on the nodes' own network answer: the balancer, a client's host.
    return "" if node is None and is_within(final.address, world.mesh.network) else TIMED_OUT

"""The points at which a connection's packets are seen, there and back, each with the template of its flow."""

from dataclasses import dataclass

from meshobs.lab.mesh.model import Node
from meshobs.lab.sim.datapath.endpoints import OF_REMOTE_NODE, OF_WORLD, identity
from meshobs.lab.sim.datapath.flows import ETH0, VXLAN, End, Ends, Point, drop, trace, verdict
from meshobs.lab.sim.datapath.route import Route
from meshobs.lab.sim.world.world import Pod, World
from meshobs.pb.flow import flow_pb2

_CILIUM_HOST = (4, "cilium_host")


@dataclass(frozen=True)
class ObservationPoint:
    """One point.

    Attributes:
        node: who observes.
        template: of its flows.
        distance: from the sending end, 0 to 1.
        tracked: the event carries the connection's state.
        quiet: left out by aggregation.
        once: for the first packet of a connection only.
        always: aggregation does not touch it.
        anew: each packet is told, as new: the connection has no state there.
    """

    node: Node
    template: flow_pb2.Flow
    distance: float
    tracked: bool = False
    quiet: bool = False
    once: bool = False
    always: bool = False
    anew: bool = False


class _Path:
    """Collects the hops of one direction."""

    def __init__(self, world: World, protocol: str, *, reply: bool) -> None:
        self.hops: list[ObservationPoint] = []
        self.world = world
        self._protocol = protocol
        self._reply = reply

    def add_trace(
        self, node: Node, point: Point, source: End, destination: End, distance: float, *,
        interface: tuple[int, str] | None = None, xlated: str = "", ingress: bool = False, tracked: bool = True,
        source_as: flow_pb2.Endpoint | None = None, direction: flow_pb2.TrafficDirection | None = None,
        anew: bool = False,
    ) -> None:  # fmt: skip
        """Add a trace event.

        Args:
            node: who observes.
            point: where.
            source: of the packet.
            destination: of the packet.
            distance: from the sending end, 0 to 1.
            interface: it passes through.
            xlated: its source after translation.
            ingress: labelled so; only a server's answers are.
            tracked: it carries the connection's state; nothing that comes in does.
            source_as: what the agent knows of the packet's source, where that is not what it knows of the address.
            direction: of what is tracked, where it is not by `ingress`.
            anew: each packet is told, as new.
        """
        ends = Ends(source, destination, self._protocol)
        wire = "eth0" if interface == ETH0 and not (tracked and point is Point.TO_NETWORK) else "lxc"
        flow = trace(self.world, node, point, ends, interface=interface, xlated=xlated, wire=wire)
        if source_as is not None:
            flow.source.CopyFrom(source_as)
        tracked = tracked and not point.incoming
        if tracked:
            own = flow_pb2.INGRESS if ingress else flow_pb2.EGRESS
            flow.traffic_direction = own if direction is None else direction
            flow.is_reply.value = self._reply
            flow.reply = self._reply
        self.hops.append(ObservationPoint(node, flow, distance, tracked=tracked, quiet=not tracked, anew=anew))

    def add_verdict(self, node: Node, ends: Ends, route: Route, distance: float) -> None:
        """Add what the server's policy says, if it has one."""
        if route.policy is None:
            return
        flow = verdict(self.world, node, ends, route.policy, route.drop)
        self.hops.append(ObservationPoint(node, flow, distance, once=route.drop is None, always=True))
        if route.drop is not None:
            self.hops.append(ObservationPoint(node, drop(self.world, node, ends, route.drop), distance, always=True))


def forward(world: World, route: Route, protocol: str, port: int) -> tuple[ObservationPoint, ...]:
    """Return the points on the way to the server."""
    path = _Path(world, protocol, reply=False)
    _leave(path, route, port)
    if route.server_node is not None:
        _enter(path, route, route.server_node, port)
        _arrive(path, route, route.server_node, Ends(End(route.saw, port), route.final, protocol))
    return tuple(path.hops)


def backward(world: World, route: Route, protocol: str, port: int) -> tuple[ObservationPoint, ...]:
    """Return the points on the way back to the client."""
    path = _Path(world, protocol, reply=True)
    if route.server_node is not None:
        _answer(path, route, route.server_node, port)
    if route.ingress is not None:
        _pass_back(path, route, route.ingress, port)
    if route.node is not None:
        _return(path, route, route.node, port)
    return tuple(path.hops)


def _out(*, tunnelled: bool) -> tuple[Point, tuple[int, str]]:
    """Return where packets leave a node for another one, and by which interface."""
    return (Point.TO_OVERLAY, VXLAN) if tunnelled else (Point.TO_NETWORK, ETH0)


def _in(*, tunnelled: bool) -> tuple[Point, tuple[int, str]]:
    """Return where packets of another node enter, and by which interface."""
    return (Point.FROM_OVERLAY, VXLAN) if tunnelled else (Point.FROM_NETWORK, ETH0)


def _leave(path: _Path, route: Route, port: int) -> None:
    """Add the client's node, on the way out."""
    here, client = route.node, End(route.source, port)
    if here is None:
        return
    if route.pod is not None:
        path.add_trace(here, Point.FROM_ENDPOINT, client, route.aimed if route.by_packet else route.first, 0)
    elif route.to_pod and (route.local or route.host_tunnelled):
        path.add_trace(here, Point.FROM_HOST, End(route.saw, port), route.final, 0)
    if route.local:
        return
    if route.host_tunnelled:
        for tracked in (False, True):
            path.add_trace(
                here, Point.TO_OVERLAY, client, route.first, 0, interface=VXLAN, tracked=tracked,
                source_as=OF_REMOTE_NODE, direction=flow_pb2.TRAFFIC_DIRECTION_UNKNOWN,
            )  # fmt: skip
        return
    point, interface = _out(tunnelled=route.tunnelled and route.ingress is None)
    path.add_trace(here, point, client, route.first, 0, interface=interface)
    if route.pod is not None:
        # Once more by the node's own program, which is where masquerading shows.
        path.add_trace(
            here, point, client, route.first, 0,
            interface=interface, xlated=route.masquerade, tracked=False,
        )  # fmt: skip


def _enter(path: _Path, route: Route, there: Node, port: int) -> None:
    """Add the node whose NodePort was called, then the server's from the network."""
    saw = End(route.saw, port)
    if route.ingress is not None:
        distance = 1 if route.ingress == there else 0.5
        path.add_trace(route.ingress, Point.FROM_NETWORK, End(route.wire, port), route.first, distance, interface=ETH0)
        if route.ingress != there and route.tunnelled:
            path.add_trace(
                route.ingress, Point.TO_OVERLAY, saw, route.final, 0.5, interface=VXLAN,
                source_as=OF_WORLD, ingress=True, anew=True,
            )  # fmt: skip
        elif route.ingress != there:
            path.add_trace(route.ingress, Point.TO_NETWORK, saw, route.final, 0.5, interface=ETH0, tracked=False)
    if not route.local and route.ingress != there:
        point, interface = _in(tunnelled=route.tunnelled)
        path.add_trace(there, point, saw, route.final, 1, interface=interface, source_as=_seen_as(route))


def _arrive(path: _Path, route: Route, there: Node, ends: Ends) -> None:
    """Add the server's end: a pod behind its policy, or the node's own stack."""
    if route.to_pod:
        path.add_verdict(there, ends, route, 1)
        if route.drop is None:
            path.add_trace(
                there, Point.TO_ENDPOINT, ends.source, ends.destination, 1,
                interface=_veth(route.server), source_as=_seen_as(route),
            )  # fmt: skip
    elif route.local and route.pod is not None:
        path.add_trace(there, Point.TO_STACK, ends.source, ends.destination, 1)


def _answer(path: _Path, route: Route, there: Node, port: int) -> None:
    """Add the server's node, on the way back."""
    saw = End(route.saw, port)
    point, interface = _out(tunnelled=route.tunnelled and route.ingress != there)
    if route.to_pod:
        path.add_trace(there, Point.FROM_ENDPOINT, route.final, saw, 0)
        if not route.local:
            path.add_trace(there, point, route.final, saw, 0, interface=interface, ingress=True)
        elif route.pod is None:
            path.add_trace(there, Point.TO_STACK, route.final, saw, 0, ingress=True)
    elif route.local and route.pod is not None:
        path.add_trace(there, Point.FROM_HOST, route.final, saw, 0)
    if not route.local and route.ingress != there:
        path.add_trace(there, point, route.final, saw, 0, interface=interface, tracked=False)


def _pass_back(path: _Path, route: Route, ingress: Node, port: int) -> None:
    """Add the node whose NodePort was called: the answer takes that address again, with its state if it began there."""
    began = ingress == route.server_node
    if not began:
        point, interface = _in(tunnelled=route.tunnelled)
        path.add_trace(ingress, point, route.final, End(route.saw, port), 0.5, interface=interface)
    wire = End(route.wire, port)
    distance = 0 if began else 0.5
    named = began and path.world.clusters[ingress.cluster].traits.names_backend_of_nodeport
    path.add_trace(
        ingress, Point.TO_NETWORK, route.first, wire, distance, interface=ETH0, tracked=began,
        source_as=identity(path.world, ingress, route.final.address) if named else None,
    )  # fmt: skip


def _return(path: _Path, route: Route, here: Node, port: int) -> None:
    """Add the client's node, on the way back."""
    if not route.local:
        point, interface = _in(tunnelled=route.tunnelled and route.ingress is None)
        path.add_trace(here, point, route.first, End(route.wire, port), 1, interface=interface)
        if route.host_tunnelled:
            path.add_trace(
                here, Point.TO_STACK, route.first, End(route.wire, port), 1, interface=_CILIUM_HOST, tracked=False
            )
    if route.pod is not None:
        xlated = route.aimed.address if route.by_packet else ""
        client, veth = End(route.source, port), _veth(route.pod)
        path.add_trace(here, Point.TO_ENDPOINT, route.first, client, 1, interface=veth, xlated=xlated)


def _seen_as(route: Route) -> flow_pb2.Endpoint | None:
    """Return how an ingress node's tunnel names a caller to the server's node: as the world."""
    passed_on = route.tunnelled and route.ingress is not None and route.ingress != route.server_node
    return OF_WORLD if passed_on else None


def _veth(pod: Pod | None) -> tuple[int, str] | None:
    return None if pod is None else (pod.index, pod.interface)

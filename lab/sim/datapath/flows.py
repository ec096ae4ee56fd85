"""Flows as Hubble makes them of monitor events: templates of one connection at one point, filled in per packet."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from uuid import NAMESPACE_DNS, uuid5

from meshobs.lab.mesh import versions
from meshobs.lab.mesh.model import Node
from meshobs.lab.sim.datapath.endpoints import cgroup_of, describe, hardware, labels_of
from meshobs.lab.sim.world.world import Pod, Policy, Service, World
from meshobs.pb.flow import flow_pb2

_DROP, _TRACE, _VERDICT, _SOCKET = 1, 4, 5, 7
_L3_ONLY, _ALL = 1, 4
ETH0 = (2, "eth0")
VXLAN = (7, "cilium_vxlan")


class Point(IntEnum):
    """Where in the datapath a trace event comes from; the value is its sub type."""

    TO_ENDPOINT = 0
    TO_STACK = 3
    TO_OVERLAY = 4
    FROM_ENDPOINT = 5
    FROM_HOST = 7
    FROM_OVERLAY = 9
    FROM_NETWORK = 10
    TO_NETWORK = 11

    @property
    def incoming(self) -> bool:
        """Tell whether it is one of those that aggregation leaves out."""
        return self in {Point.FROM_ENDPOINT, Point.FROM_HOST, Point.FROM_OVERLAY, Point.FROM_NETWORK}


_POINTS = {
    Point.TO_ENDPOINT: flow_pb2.TO_ENDPOINT,
    Point.TO_STACK: flow_pb2.TO_STACK,
    Point.TO_OVERLAY: flow_pb2.TO_OVERLAY,
    Point.FROM_ENDPOINT: flow_pb2.FROM_ENDPOINT,
    Point.FROM_HOST: flow_pb2.FROM_HOST,
    Point.FROM_OVERLAY: flow_pb2.FROM_OVERLAY,
    Point.FROM_NETWORK: flow_pb2.FROM_NETWORK,
    Point.TO_NETWORK: flow_pb2.TO_NETWORK,
}


@dataclass(frozen=True)
class End:
    """An address with its port, 0 for none, and the Service that is known to be there."""

    address: str
    port: int
    service: Service | None = None


@dataclass(frozen=True)
class Ends:
    """Who talks to whom, over what."""

    source: End
    destination: End
    protocol: str

    def reverse(self) -> "Ends":
        """Return the answer's ends."""
        return Ends(self.destination, self.source, self.protocol)


def trace(
    world: World,
    node: Node,
    point: Point,
    ends: Ends,
    *,
    interface: tuple[int, str] | None = None,
    xlated: str = "",
    wire: str = "lxc",
) -> flow_pb2.Flow:
    """Return the template of a trace event; reason, reply and flags come with each packet.

    Args:
        world: gives the ends their names.
        node: who observes.
        point: where.
        ends: of the packet.
        interface: it is sent or received through.
        xlated: the source address after translation.
        wire: names the pair of interfaces whose hardware addresses the frame carries.
    """
    flow = _blank(world, node, ends, wire)
    flow.verdict = flow_pb2.FORWARDED
    flow.event_type.type = _TRACE
    flow.event_type.sub_type = point
    flow.trace_observation_point = _POINTS[point]
    if interface is not None:
        flow.interface.index, flow.interface.name = interface
    if xlated:
        flow.IP.source_xlated = xlated
    return flow


def verdict(world: World, node: Node, ends: Ends, policy: Policy, drop: flow_pb2.DropReason | None) -> flow_pb2.Flow:
    """Return the template of a policy verdict at a pod's ingress: allowed, or refused for a reason."""
    flow = _blank(world, node, ends, "lxc")
    flow.event_type.type = _VERDICT
    flow.traffic_direction = flow_pb2.INGRESS
    if drop is None:
        flow.verdict = flow_pb2.FORWARDED
        flow.is_reply.value = False
        flow.policy_match_type = _ALL if policy.explicit else _L3_ONLY
        flow.ingress_allowed_by.append(_policy_message(policy))
        return flow
    _set_drop(flow, drop)
    if drop == flow_pb2.POLICY_DENY:
        flow.policy_match_type = _L3_ONLY
        flow.ingress_denied_by.append(_policy_message(policy))
    return flow


def drop(world: World, node: Node, ends: Ends, reason: flow_pb2.DropReason) -> flow_pb2.Flow:
    """Return the template of a drop at a pod's ingress."""
    flow = _blank(world, node, ends, "lxc")
    flow.event_type.type = _DROP
    flow.event_type.sub_type = reason
    flow.traffic_direction = flow_pb2.INGRESS
    _set_drop(flow, reason)
    return flow


def socket(
    world: World, node: Node, pod: Pod, point: flow_pb2.SocketTranslationPoint, ends: Ends, cookie: int
) -> flow_pb2.Flow:
    """Return a socket event of a pod.

    Args:
        world: gives the ends their names.
        node: who observes.
        pod: whose socket.
        point: 1 and 2 before and after translation of connect(), 3 and 4 of what getpeername() says.
        ends: towards the peer for 1 and 2, from it for 3 and 4; the pod's own port is unknown there.
        cookie: of the socket.
    """
    flow = _blank(world, node, ends, "")
    flow.verdict = flow_pb2.TRACED if point % 2 else flow_pb2.TRANSLATED
    flow.Type = flow_pb2.SOCK
    flow.event_type.type = _SOCKET
    flow.event_type.sub_type = point
    flow.sock_xlate_point = point
    flow.socket_cookie = cookie
    flow.cgroup_id = cgroup_of(pod)
    flow.Summary = ends.protocol
    return flow


def fill(template: flow_pb2.Flow, protocol: str, flags: Sequence[str], *, echo: bool) -> flow_pb2.Flow:
    """Return a flow of its own for one packet.

    Args:
        template: of its point.
        protocol: of the packet.
        flags: of TCP.
        echo: a ping, else its answer.
    """
    flow = flow_pb2.Flow()
    flow.CopyFrom(template)
    if protocol == "TCP":
        for flag in flags:
            setattr(flow.l4.TCP.flags, flag, True)
        flow.Summary = f"TCP Flags: {', '.join(flags)}"
    elif protocol == "UDP":
        flow.Summary = "UDP"
    else:
        four = flow.IP.ipVersion == flow_pb2.IPv4
        layer, kinds = (flow.l4.ICMPv4, (8, 0)) if four else (flow.l4.ICMPv6, (128, 129))
        layer.type = kinds[0] if echo else kinds[1]
        flow.Summary = f"ICMPv{4 if four else 6} {'EchoRequest' if echo else 'EchoReply'}"
    return flow


def _blank(world: World, node: Node, ends: Ends, wire: str) -> flow_pb2.Flow:
    flow = flow_pb2.Flow()
    flow.CopyFrom(_node_fields(node, world.clusters[node.cluster].cilium))
    source, destination = ends.source, ends.destination
    flow.IP.source, flow.IP.destination = source.address, destination.address
    four = ":" not in destination.address
    flow.IP.ipVersion = flow_pb2.IPv4 if four else flow_pb2.IPv6
    if wire:
        flow.ethernet.source = hardware(f"{node.full}/{wire}/{source.address}")
        flow.ethernet.destination = hardware(f"{node.full}/{wire}/{destination.address}")
    if ends.protocol == "TCP":
        flow.l4.TCP.source_port, flow.l4.TCP.destination_port = source.port, destination.port
    elif ends.protocol == "UDP":
        flow.l4.UDP.source_port, flow.l4.UDP.destination_port = source.port, destination.port
    else:
        (flow.l4.ICMPv4 if four else flow.l4.ICMPv6).SetInParent()
    flow.source.CopyFrom(describe(world, node, source.address))
    flow.destination.CopyFrom(describe(world, node, destination.address))
    if world.clusters[node.cluster].traits.names_services:
        if source.service is not None:
            flow.source_service.name, flow.source_service.namespace = source.service.name, source.service.namespace
        if destination.service is not None:
            flow.destination_service.name = destination.service.name
            flow.destination_service.namespace = destination.service.namespace
    return flow


@lru_cache(maxsize=1024)
def _node_fields(node: Node, version: str) -> flow_pb2.Flow:
    """Return what stands in every flow of a node."""
    flow = flow_pb2.Flow(node_name=node.full, node_labels=labels_of(node), Type=flow_pb2.L3_L4)
    if versions.traits(version).names_emitter:
        flow.emitter.name, flow.emitter.version = "Hubble", f"{version}+g0000000"
    return flow


def _set_drop(flow: flow_pb2.Flow, reason: flow_pb2.DropReason) -> None:
    flow.verdict = flow_pb2.DROPPED
    flow.drop_reason = reason
    flow.drop_reason_desc = reason


@lru_cache(maxsize=1024)
def _policy_message(policy: Policy) -> flow_pb2.Policy:
    label = "k8s:io.cilium.k8s.policy"
    return flow_pb2.Policy(
        name=policy.name,
        namespace=policy.namespace,
        labels=[
            f"{label}.derived-from=CiliumNetworkPolicy",
            f"{label}.name={policy.name}",
            f"{label}.namespace={policy.namespace}",
            f"{label}.uid={uuid5(NAMESPACE_DNS, f'{policy.cluster}/{policy.namespace}/{policy.name}')}",
        ],
        revision=2,
        kind="CiliumNetworkPolicy",
    )

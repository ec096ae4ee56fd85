"""The datapath of a simulated Cluster Mesh: one client attempt in, the flow events of each node out.

Held to recordings of real meshes by tests/lab/sim/test_twin.py; what differs stands in docs/lab.md.
"""

import random
from dataclasses import replace

from meshobs.lab.mesh import ipv6
from meshobs.lab.sim.datapath import conntrack, packets, points
from meshobs.lab.sim.datapath.attempt import REFUSED, Call, Client, Event, Host, Outcome, Outside
from meshobs.lab.sim.datapath.flows import fill
from meshobs.lab.sim.datapath.packets import CURL, ClientBehaviour, Exchange, Packet
from meshobs.lab.sim.datapath.points import ObservationPoint
from meshobs.lab.sim.datapath.route import Route, decide
from meshobs.lab.sim.datapath.sockets import Sockets, socket_events
from meshobs.lab.sim.world.world import Pod, World, in_ipv6
from meshobs.pb.flow import flow_pb2

__all__ = ["Call", "Client", "Event", "Host", "Outcome", "Outside", "Sockets", "carry_call", "in_family"]

# Nanoseconds from one end to the other. All nodes of a lab are neighbours: another cluster is hardly farther.
_WAY_SAME, _WAY_OTHER, _WAY_ABROAD, _DETOUR = 3_500, 60_000, 90_000, 50_000
# An agent stamps events when it reads them, not when they happen: later by this on average, at most by that. The
# far end is stamped earlier than the near one in about half of all connections.
_LAG, _LONGEST_LAG = 4_000_000, 60_000_000
_BETWEEN_EVENTS = 400


def carry_call(
    world: World, call: Call, at: int, chance: random.Random, sockets: Sockets, manner: ClientBehaviour = CURL
) -> Outcome:
    """Return what one attempt of a client leads to.

    Args:
        world: as it is when the call begins.
        call: the attempt, as `in_family` returns it.
        at: nanoseconds since the epoch.
        chance: the source of all draws.
        sockets: what the nodes remember between calls.
        manner: of the client's and the server's programs.
    """
    world = world.by_ipv6 if call.by_ipv6 else world
    route = decide(world, call, chance)
    if isinstance(route, str):
        return Outcome((), None, "", route, ())
    exchange = _exchange(route, call, chance, manner)
    answered = bool(exchange.answers)
    return Outcome(
        _events(world, route, call, exchange, at, chance, sockets),
        route.server if answered else None,
        f"{route.saw}:{call.source_port}" if answered else "",
        route.error,
        exchange.answers,
    )


def in_family(world: World, call: Call) -> Call:
    """Return a call whose client has the address that it calls from: of the family of what it aims at."""
    client = call.client
    if not call.by_ipv6:
        return call
    if isinstance(client, Pod):
        return replace(call, client=in_ipv6(client))
    if isinstance(client, Host):
        return replace(call, client=Host(world.by_ipv6.nodes[client.node.full]))
    return replace(call, client=Outside(ipv6.on_link(client.address, world.mesh.network).partition("/")[0]))


def _exchange(route: Route, call: Call, chance: random.Random, manner: ClientBehaviour) -> Exchange:
    way = _way(route)
    if call.protocol != "TCP":
        return packets.datagrams(call.requests, call.gap, way, chance, answered=not route.error)
    if not route.error:
        return packets.tcp(call.requests, call.gap, way, manner, chance)
    if route.error == REFUSED:
        return packets.refuse(way, chance)
    return packets.give_up(manner)


def _way(route: Route) -> int:
    if route.ingress is not None:
        return _WAY_ABROAD + _DETOUR
    if route.node is None or route.server_node is None:
        return _WAY_ABROAD
    if route.node == route.server_node:
        return _WAY_SAME
    return _WAY_OTHER if route.node.cluster == route.server_node.cluster else _WAY_ABROAD


def _events(
    world: World, route: Route, call: Call, exchange: Exchange, at: int, chance: random.Random, sockets: Sockets
) -> tuple[Event, ...]:
    there = points.forward(world, route, call.protocol, call.source_port)
    back = points.backward(world, route, call.protocol, call.source_port)
    tracker = conntrack.Tracker(medium={one.name: one.aggregation != "none" for one in world.mesh.clusters})
    way, clock = _way(route), _Clock(chance)
    happened = [(one.time, one.node.full, one.flow) for one in socket_events(
        world, route, call.protocol, call.source_port, exchange, at, sockets
    )]  # fmt: skip
    for packet in exchange.packets:
        for number, hop in enumerate(there if packet.forward else back):
            if tracker.reports(hop, packet):
                time = packet.time + int(hop.distance * way) + number * _BETWEEN_EVENTS
                happened.append((time, hop.node.full, _flow(hop, packet, call.protocol)))
    happened.sort(key=lambda one: one[0])
    events = [Event(clock.stamp(node, time), node, flow) for time, node, flow in happened]
    return tuple(sorted(events, key=lambda event: event.offset))


def _flow(hop: ObservationPoint, packet: Packet, protocol: str) -> flow_pb2.Flow:
    flow = fill(hop.template, protocol, packet.flags, echo=packet.forward)
    if hop.tracked:
        flow.trace_reason = flow_pb2.NEW if hop.anew else conntrack.reason(packet)
    return flow


class _Clock:
    """When each node's agent stamps what happens there: with one lag a call, in the order in which it happened."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._lags: dict[str, int] = {}
        self._last: dict[str, int] = {}

    def stamp(self, node: str, time: int) -> int:
        if node not in self._lags:
            self._lags[node] = min(int(self._chance.expovariate(1 / _LAG)), _LONGEST_LAG)
        stamped = max(time + self._lags[node], self._last.get(node, -1) + 1)
        self._last[node] = stamped
        return stamped

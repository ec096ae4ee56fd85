"""Socket events: what the load balancer at connect() and getpeername() tell; limited from 1.19 on at `medium`."""

from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

from meshobs.lab.mesh.model import Node
from meshobs.lab.sim.datapath.flows import End, Ends, socket
from meshobs.lab.sim.datapath.packets import Exchange
from meshobs.lab.sim.datapath.route import Route
from meshobs.lab.sim.world.world import Pod, World
from meshobs.pb.flow import flow_pb2

_INTERVAL = 5_000_000_000
_PRE_FWD, _POST_FWD = flow_pb2.SOCK_XLATE_POINT_PRE_DIRECTION_FWD, flow_pb2.SOCK_XLATE_POINT_POST_DIRECTION_FWD
_PRE_REV, _POST_REV = flow_pb2.SOCK_XLATE_POINT_PRE_DIRECTION_REV, flow_pb2.SOCK_XLATE_POINT_POST_DIRECTION_REV
# After the packet before them, so that they keep their place among the node's events.
_AFTER = 2_000


class Sockets:
    """What the nodes remember from one call to the next: cookies, and when they last spent their token."""

    def __init__(self) -> None:
        self._cookies: dict[str, int] = {}
        self._spent: dict[tuple[str, bool], int] = {}

    def cookie(self, node: Node) -> int:
        """Return a new socket's cookie."""
        known = self._cookies.get(node.full, crc32(node.full.encode()) % 4096)
        self._cookies[node.full] = known + 1
        return known + 1

    def permits(self, node: Node, at: int, *, by_ipv6: bool) -> bool:
        """Spend a node's one token of these 5 s, of which each family has its own; False if it is spent."""
        last = self._spent.get((node.full, by_ipv6))
        if last is not None and 0 <= at - last < _INTERVAL:
            return False
        self._spent[node.full, by_ipv6] = at
        return True


@dataclass(frozen=True)
class SocketEvent:
    """A socket event and when it happened."""

    node: Node
    time: int
    flow: flow_pb2.Flow


def socket_events(
    world: World, route: Route, protocol: str, port: int, exchange: Exchange, at: int, sockets: Sockets
) -> Iterator[SocketEvent]:
    """Yield the socket events of a connection; only pods with an address of their own have any.

    Args:
        world: gives the ends their names and clusters their settings.
        route: of the connection.
        protocol: of the connection; pings have none.
        port: the client's.
        exchange: when the connection stood.
        at: when the call began, for the limit.
        sockets: cookies and limits.
    """
    if protocol == "ICMP":
        return
    if route.pod is not None and route.node is not None:
        yield from _client(world, route, route.pod, route.node, protocol, exchange, at, sockets)
    server, node = route.server, route.server_node
    if server is None or node is None or server.host_network or exchange.accepted < 0 or _is_limited(world, node):
        return
    ends = Ends(End(route.saw, port), End(server.address, 0), protocol)
    yield SocketEvent(
        node, exchange.accepted + _AFTER, socket(world, node, server, _PRE_REV, ends, sockets.cookie(node))
    )


def _client(
    world: World, route: Route, pod: Pod, node: Node, protocol: str, exchange: Exchange, at: int, sockets: Sockets
) -> Iterator[SocketEvent]:
    cookie, limited = sockets.cookie(node), _is_limited(world, node)
    own = End(pod.address, 0)
    aimed, first = Ends(own, route.aimed, protocol), Ends(own, route.first, protocol)
    if route.by_socket and (not limited or sockets.permits(node, at, by_ipv6=":" in pod.address)):
        yield SocketEvent(node, 0, socket(world, node, pod, _PRE_FWD, aimed, cookie))
        if not limited:
            yield SocketEvent(node, _AFTER, socket(world, node, pod, _POST_FWD, first, cookie))
    if limited:
        return
    # A socket that packets are translated for still believes in the ClusterIP.
    peer = aimed if route.by_packet else first
    for when in exchange.peers:
        yield SocketEvent(node, when + _AFTER // 2, socket(world, node, pod, _PRE_REV, peer.reverse(), cookie))
        if route.by_socket:
            yield SocketEvent(node, when + _AFTER // 2, socket(world, node, pod, _POST_REV, aimed.reverse(), cookie))


def _is_limited(world: World, node: Node) -> bool:
    cluster = world.clusters[node.cluster]
    return cluster.aggregation != "none" and cluster.traits.limits_sockets

"""What nodes see of a port-forward that their API server carries (docs/lab.md): its packets on both legs. Pure.

kubelet (port 10250) -> API server (port 6443) -> collector; what the collector sends upward is little and left out.
"""

from collections.abc import Iterator
from ipaddress import IPv4Network

from meshobs.lab.mesh.model import Node
from meshobs.lab.sim.datapath.attempt import Event
from meshobs.lab.sim.datapath.flows import ETH0, End, Ends, Point, fill, trace
from meshobs.lab.sim.kubeapi.objects.nodes import KUBELET_PORT
from meshobs.lab.sim.kubeapi.objects.system import API_PORT, relay_node
from meshobs.lab.sim.world.world import World

# What a packet carries at an MTU of 1500.
_SEGMENT = 1448
# Ports of the two clients: the collector, and the API server towards the kubelet.
_COLLECTOR_PORT, _API_CLIENT_PORT = 50_400, 50_500
_WAY = 60_000


def events(world: World, cluster: str, size: int) -> Iterator[Event]:
    """Return the events of so many bytes from the Relay's Pod; none where aggregation leaves packets out.

    Args:
        world: the mesh.
        cluster: whose API server carries them.
        size: bytes that came at once.
    """
    about = world.clusters[cluster]
    if about.aggregation != "none":
        return
    control_plane = next((node for node in about.nodes if node.control_plane), about.nodes[0])
    kubelets = relay_node(about)
    server = End(control_plane.address, API_PORT)
    collector = End(str(IPv4Network(world.mesh.network)[1]), _COLLECTOR_PORT)
    packets = -(-size // _SEGMENT)
    if kubelets != control_plane:
        kubelet, client = End(kubelets.address, KUBELET_PORT), End(control_plane.address, _API_CLIENT_PORT)
        yield from _sent(world, kubelets, control_plane, Ends(kubelet, client, "TCP"), packets)
        yield from _sent(world, control_plane, kubelets, Ends(client, kubelet, "TCP"), 1)
    yield from _sent(world, control_plane, None, Ends(server, collector, "TCP"), packets)
    yield from _sent(world, None, control_plane, Ends(collector, server, "TCP"), 1)


def _sent(world: World, sender: Node | None, receiver: Node | None, ends: Ends, packets: int) -> Iterator[Event]:
    """Return what is seen of packets that go from one machine to another; None is no node of the mesh."""
    points = ((sender, Point.TO_NETWORK, 0), (receiver, Point.FROM_NETWORK, _WAY))
    for node, point, after in points:
        if node:
            template = trace(world, node, point, ends, interface=ETH0, wire="eth0")
            for number in range(packets):
                yield Event(after + number, node.full, fill(template, "TCP", ("ACK",), echo=False))

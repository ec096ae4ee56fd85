"""Network namespaces and what links them, by the program `ip`. Works in the lab's own mounts: no name shows outside."""

from ipaddress import IPv4Network
from pathlib import Path

from meshobs.errors import MeshobsError
from meshobs.lab import shell
from meshobs.lab.mesh.model import Mesh, Node
from meshobs.lab.netns.host.layout import BRIDGE, HUBBLE_PORT

_SECONDS = 20.0
_DEVICE, _BESIDE = "br0", "br1"
# Of a node, for Hubble only, with its table of routes.
_HUBBLE, _TABLE = "hubble0", "4244"


def make(mesh: Mesh) -> None:
    """Make the nodes' network: a bridge in a namespace without a way out, a namespace with one device for each node.

    The bridge's namespace also has the addresses of whoever is outside the mesh. Where a cluster has two families, its
    nodes do, and the bridge does.
    """
    network = IPv4Network(mesh.network)
    ip("netns", "add", BRIDGE)
    ip("-n", BRIDGE, "link", "set", "lo", "up")
    ip("-n", BRIDGE, "link", "add", _DEVICE, "type", "bridge")
    for address in (str(network[1]), mesh.balancer, mesh.outside):
        ip("-n", BRIDGE, "address", "add", f"{address}/{network.prefixlen}", "dev", _DEVICE)
        if mesh.dual_stack:
            _add_address6(BRIDGE, _DEVICE, mesh.on_link6(address))
    ip("-n", BRIDGE, "link", "set", _DEVICE, "up")
    ip("-n", BRIDGE, "link", "add", _BESIDE, "up", "type", "bridge")
    for number, node in enumerate(mesh.nodes):
        ip("netns", "add", node.name)
        ip("-n", node.name, "link", "set", "lo", "up")
        _plug(node, "eth0", f"node{number}", _DEVICE, f"{node.address}/{network.prefixlen}")
        if node.address6:
            _add_address6(node.name, "eth0", node.address6)
        _plug(node, _HUBBLE, f"hubble{number}", _BESIDE, f"{_beside(number)}/16")
    for node in mesh.nodes:
        _route_beside(mesh, node)


def _plug(node: Node, device: str, port: str, bridge: str, address: str) -> None:
    """Give a node a device with an address, plugged into a bridge."""
    ip("-n", BRIDGE, "link", "add", port, "type", "veth", "peer", "name", device, "netns", node.name)
    ip("-n", BRIDGE, "link", "set", port, "master", bridge, "up")
    ip("-n", node.name, "address", "add", address, "dev", device)
    ip("-n", node.name, "link", "set", device, "up")


def _add_address6(namespace: str, device: str, address: str) -> None:
    """Give a device an address that can be used at once: nobody else has it."""
    ip("-n", namespace, "address", "add", address, "dev", device, "nodad")


def _route_beside(mesh: Mesh, node: Node) -> None:
    """Let what Relays and agents say to each other take a device that Cilium does not look after.

    At aggregation none each packet is an event: told over the network that is watched, each event would make others,
    and rings would turn over in seconds. Everything else, and all addresses, stay as they are.
    """
    for number, other in enumerate(mesh.nodes):
        if other != node:
            way = (f"{other.address}/32", "via", _beside(number), "dev", _HUBBLE, "src", node.address)
            ip("-n", node.name, "route", "add", *way, "table", _TABLE)
    for end in ("dport", "sport"):
        ip("-n", node.name, "rule", "add", "priority", "50", "ipproto", "tcp", end, str(HUBBLE_PORT), "lookup", _TABLE)


def _beside(number: int) -> str:
    """Return the address of the so-many-th node on the network beside the nodes' own."""
    return str(IPv4Network("169.254.0.0/16")[number + 257])


def add(namespace: Path) -> None:
    """Make a pod's namespace, with nothing but loopback."""
    ip("netns", "add", namespace.name)
    ip("-n", namespace.name, "link", "set", "lo", "up")


def remove(namespace: Path) -> None:
    """Remove a pod's namespace; one that is not there is no mistake."""
    shell.call(("ip", "netns", "delete", namespace.name), _SECONDS)


def routes(namespace: Path) -> list[str]:
    """Return a node's routes."""
    return sorted(line.strip() for line in ip("-n", namespace.name, "route").splitlines() if line.strip())


def ip(*words: str) -> str:
    """Run `ip`; return what it prints.

    Raises:
        MeshobsError: it fails.
    """
    done = shell.call(("ip", *words), _SECONDS)
    if done.code:
        raise MeshobsError(f"ip {' '.join(words)}: {done.err.strip() or done.code}")
    return done.out

"""Names of clients and targets -> what they are in a world. Pure."""

from collections.abc import Sequence
from typing import TypeVar

from meshobs.errors import InputError
from meshobs.lab.mesh.model import Node
from meshobs.lab.sim.datapath.call import Host, Outside
from meshobs.lab.sim.world.world import Pod, World
from meshobs.lab.traffic import CLIENT, address_of, host_port, service_name, split_target

_BALANCER = "balancer"
T = TypeVar("T")


def client_of(world: World, text: str) -> Pod | Host | Outside:
    """Return the client that a text names, see `Traffic.client`."""
    if text == "outside":
        return Outside(world.mesh.outside)
    if text.startswith("host/"):
        return Host(_node(world, text.removeprefix("host/")))
    cluster, _, rest = text.partition("/")
    namespace, _, name = rest.rpartition("/")
    here = [pod for pod in world.pods if pod.cluster == cluster and pod.namespace == (namespace or "default")]
    if not name:
        # The walkthrough's client, else whoever serves nothing.
        found = [pod for pod in here if pod.name == CLIENT] or [pod for pod in here if not pod.port]
    else:
        found = [pod for pod in here if name in (pod.name, pod.workload, pod.app)]
    if not found:
        asked = f"{cluster}/{namespace or 'default'}/{name or CLIENT}"
        raise InputError(f"there is no client {asked}: name a pod as CLUSTER/NAMESPACE/POD ({_some(world.pods)})")
    return found[0]


def target_of(world: World, client: Pod | Host | Outside, text: str, number: int) -> tuple[str, int]:
    """Return address and port that the `number`-th connection to a target aims at, see `Traffic.target`.

    Raises:
        InputError: there is no such target, or it or the client has no address of that family.
    """
    kind, rest, six = split_target(text)
    found = _target(world, client, kind, rest, number)
    if found is None:
        address, port = host_port(text)
        return (world.mesh.balancer if address == _BALANCER else address), port
    addresses, port = found
    address = address_of(addresses, text, six=six)
    if not isinstance(client, Outside):
        # Who calls has one of that family, too.
        caller = client if isinstance(client, Pod) else client.node
        address_of(caller.addresses, caller.full, six=six)
    return address, port


def _target(
    world: World, client: Pod | Host | Outside, kind: str, rest: str, number: int
) -> tuple[Sequence[str], int] | None:
    """Return the addresses of a target and its port; None if it is an address itself."""
    if kind in ("svc", "service"):
        return _service(world, client, rest)
    if kind == "pods":
        cluster, _, app = rest.partition("/")
        pods = [pod for pod in world.pods if pod.cluster == cluster and pod.app == app]
        pod = _in_turn(pods, number, f"cluster {cluster} has no pod of app {app}")
        return pod.addresses, pod.port
    if kind == "pod":
        named = [pod for pod in world.pods if rest in (pod.name, f"{pod.namespace}/{pod.name}", pod.full)]
        pod = _in_turn(named, 0, f"there is no pod {rest}")
        return pod.addresses, pod.port
    if kind == "node":
        name, port = host_port(rest)
        return _node(world, name).addresses, port
    if kind == "nodes":
        cluster, port = host_port(rest)
        nodes = [node for node in world.mesh.nodes if cluster in (node.cluster, "")]
        return _in_turn(nodes, number, f"there is no cluster {cluster}").addresses, port
    return None


def _service(world: World, client: Pod | Host | Outside, text: str) -> tuple[Sequence[str], int]:
    if isinstance(client, Outside):
        raise InputError("a client outside the mesh reaches no ClusterIP: aim at node/NODE:PORT or balancer:PORT")
    cluster = client.cluster if isinstance(client, Pod) else client.node.cluster
    namespace, name, port = service_name(text)
    found = world.service(cluster, namespace, name)
    if not found:
        raise InputError(f"cluster {cluster} has no service {namespace}/{name}")
    return found.addresses, port or found.port


def _node(world: World, name: str) -> Node:
    found = next((node for node in world.mesh.nodes if name in (node.name, node.full)), None)
    if not found:
        raise InputError(f"there is no node {name}: {', '.join(node.name for node in world.mesh.nodes[:8])}")
    return found


def _in_turn(values: Sequence[T], number: int, problem: str) -> T:
    if not values:
        raise InputError(problem)
    return values[number % len(values)]


def _some(pods: Sequence[Pod]) -> str:
    return ", ".join(pod.full for pod in pods[:6])

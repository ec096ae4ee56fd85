"""Changes of a world, as values: each takes a world and returns another. Pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from types import MappingProxyType

from meshobs.errors import InputError
from meshobs.lab.mesh.model import Service, Workload
from meshobs.lab.sim.world.world import Pod, Policy, World, place_pod, service_of

Change = Callable[[World], World]
_MOST_REPLICAS = 200


def annotate(cluster: str, namespace: str, service: str, changes: Mapping[str, str | None]) -> Change:
    """Set annotations of a Service, and remove those that are None.

    Raises:
        InputError: when applied where there is no such Service.
    """

    def change(world: World) -> World:
        found = world.service(cluster, namespace, service)
        if not found:
            raise InputError(f"cluster {cluster} has no service {namespace}/{service}")
        merged = {**found.annotations, **changes}
        kept = MappingProxyType({key: value for key, value in merged.items() if value is not None})
        changed = replace(found, annotations=kept)
        return replace(world, services=tuple(changed if one is found else one for one in world.services))

    return change


def scale(cluster: str, namespace: str, workload: str, replicas: int) -> Change:
    """Give a workload so many pods in a cluster; the last ones go first.

    Raises:
        InputError: when applied where there is no such workload, or too many are asked for.
    """
    if not 0 <= replicas <= _MOST_REPLICAS:
        raise InputError(f"{replicas} replicas are not possible: 0 to {_MOST_REPLICAS}")

    def change(world: World) -> World:
        found = next((one for one in world.mesh.workloads if (one.namespace, one.name) == (namespace, workload)), None)
        if not found or cluster not in found.clusters:
            raise InputError(f"cluster {cluster} has no workload {namespace}/{workload}")
        kept = [pod for pod in world.pods if (pod.cluster, pod.namespace, pod.app) == (cluster, namespace, found.app)]
        others = tuple(pod for pod in world.pods if pod not in kept)
        made_new = _place_pods(world, found, cluster, range(len(kept), replicas))
        return replace(world, pods=(*others, *kept[:replicas], *made_new))

    return change


def add(workloads: Sequence[Workload], services: Sequence[Service]) -> Change:
    """Add workloads and Services; what is there stays."""

    def change(world: World) -> World:
        known = {(one.namespace, one.name) for one in world.mesh.workloads}
        new = [one for one in workloads if (one.namespace, one.name) not in known]
        mesh = replace(world.mesh, workloads=(*world.mesh.workloads, *new))
        world = replace(world, mesh=mesh)
        for workload in new:
            for cluster in workload.clusters:
                world = replace(
                    world, pods=(*world.pods, *_place_pods(world, workload, cluster, range(workload.replicas)))
                )
        there = {(one.cluster, one.namespace, one.name) for one in world.services}
        made_new = [service_of(mesh, one, cluster) for one in services for cluster in one.clusters]
        fresh = [one for one in made_new if (one.cluster, one.namespace, one.name) not in there]
        return replace(world, services=(*world.services, *fresh))

    return change


def remove(workloads: Collection[tuple[str, str]], services: Collection[tuple[str, str]]) -> Change:
    """Remove workloads and Services by namespace and name, in all clusters."""

    def change(world: World) -> World:
        gone = [one for one in world.mesh.workloads if (one.namespace, one.name) in workloads]
        kept = tuple(one for one in world.mesh.workloads if one not in gone)
        apps = {(one.namespace, one.app) for one in gone}
        return replace(
            world,
            mesh=replace(world.mesh, workloads=kept),
            pods=tuple(pod for pod in world.pods if (pod.namespace, pod.app) not in apps),
            services=tuple(one for one in world.services if (one.namespace, one.name) not in services),
        )

    return change


def set_policy(policy: Policy, *, on: bool) -> Change:
    """Put a policy in force, or take it away."""

    def change(world: World) -> World:
        others = tuple(one for one in world.policies if one != policy)
        return replace(world, policies=(*others, policy) if on else others)

    return change


def _place_pods(world: World, workload: Workload, cluster: str, numbers: range) -> tuple[Pod, ...]:
    identities = {(pod.cluster, pod.namespace, pod.app): pod.identity for pod in world.pods}
    placed = {}
    for node in world.mesh.nodes:
        base = int(IPv4Network(node.pod_cidr).network_address) + 4
        placed[node.full] = max(
            (
                int(IPv4Address(pod.address)) - base
                for pod in world.pods
                if pod.node == node.full and not pod.host_network
            ),
            default=0,
        )
    return tuple(place_pod(world.mesh, workload, cluster, number, placed, identities) for number in numbers)

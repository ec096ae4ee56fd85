"""What agents program for a Service: which backends of which clusters a new connection chooses from. Pure.

The rules are Cilium's, as real meshes showed them (docs/lab.md): remote backends count where both sides are global and
the remote one shares; an affinity prefers one side as long as it has an active backend; a terminating backend takes no
new connection while another is active.
"""

from collections.abc import Mapping

from meshobs.lab.mesh.model import AFFINITY, GLOBAL, SHARED
from meshobs.lab.sim.world.world import Frontend, Pod, Service, World

_OLD = {GLOBAL: "io.cilium/global-service", SHARED: "io.cilium/shared-service", AFFINITY: "io.cilium/service-affinity"}


def program(world: World, cluster: str) -> tuple[Frontend, ...]:
    """Return what a cluster's agents do for its Services."""
    return tuple(Frontend(one, choose_backends(world, one)) for one in world.services if one.cluster == cluster)


def choose_backends(world: World, service: Service) -> tuple[Pod, ...]:
    """Return the backends that a new connection to a Service chooses from, each with the same chance."""
    local, remote = _backends(world, service), _remote(world, service)
    affinity = _value(service.annotations, AFFINITY)
    active_local, active_remote = _find_active(local), _find_active(remote)
    if affinity == "local" or (affinity == "none" and world.clusters[service.cluster].traits.literal_none_is_local):
        preferred, other = active_local, active_remote
        if affinity == "none":
            return preferred or _find_serving(local)
    elif affinity == "remote":
        preferred, other = active_remote, active_local
    else:
        preferred, other = active_local + active_remote, ()
    return preferred or other or _find_serving(local + remote)


def is_global(service: Service) -> bool:
    """Tell whether a Service is joined with those of the same name in other clusters."""
    return _value(service.annotations, GLOBAL) == "true"


def _remote(world: World, service: Service) -> tuple[Pod, ...]:
    if not is_global(service):
        return ()
    same = (
        other
        for other in world.services
        if (other.namespace, other.name) == (service.namespace, service.name) and other.cluster != service.cluster
    )
    return tuple(
        pod
        for other in same
        if is_global(other) and _value(other.annotations, SHARED) in ("", "true")
        for pod in _backends(world, other)
    )


def _backends(world: World, service: Service) -> tuple[Pod, ...]:
    wanted = (service.cluster, service.namespace, service.app)
    return tuple(pod for pod in world.pods if (pod.cluster, pod.namespace, pod.app) == wanted)


def _find_active(pods: tuple[Pod, ...]) -> tuple[Pod, ...]:
    return tuple(pod for pod in pods if pod.active)


def _find_serving(pods: tuple[Pod, ...]) -> tuple[Pod, ...]:
    """Return what is left when nothing is active: backends that are going away but still serve."""
    return tuple(pod for pod in pods if pod.ready and pod.terminating)


def _value(annotations: Mapping[str, str], name: str) -> str:
    return annotations.get(name, annotations.get(_OLD[name], "")).lower()

"""The plan of a lab: the walkthrough's steps S1-S10 with a mesh's values, and how a list of steps is carried out.

Each driver has one such list, in its room's `steps`: `lab plan` prints it, and `lab up` carries out the same.
"""

import time
from collections.abc import Callable, Collection, Sequence
from itertools import combinations

from meshobs.errors import MeshobsError
from meshobs.lab.driver import Step
from meshobs.lab.mesh.model import Cluster, Mesh
from meshobs.lab.mesh.variants import NATIVE


def describe_clusters(mesh: Mesh) -> list[str]:
    """Return a line for each cluster: its nodes and ranges."""
    return [
        f"{cluster.name}: {len(cluster.nodes)} nodes ({', '.join(node.name for node in cluster.nodes)}),"
        f" pods {cluster.pod_cidr}, services {cluster.service_cidr}"
        for cluster in mesh.clusters
    ]


def describe_cilium(mesh: Mesh) -> list[str]:
    """Return a line for each cluster: its Cilium's version and settings."""
    return [
        f"{cluster.name}: Cilium {cluster.cilium}, cluster.id={cluster.id}, {_describe_variant(cluster)},"
        f" monitorAggregation={cluster.aggregation}"
        for cluster in mesh.clusters
    ]


def _describe_variant(cluster: Cluster) -> str:
    """Return how a cluster routes, masquerades and balances: Helm's values, or what a variant makes of them."""
    native = (
        f"routingMode=native, autoDirectNodeRoutes=true, kubeProxyReplacement=true, bpf.masquerade=true,"
        f" ipv4NativeRoutingCIDR={cluster.native_routing_cidr},"
        f" nonMasqueradeCIDRs={{{','.join(cluster.non_masquerade_cidrs)}}}"
    )
    variant = cluster.variant
    if variant == NATIVE:
        return native
    parts = [f"{key}={value}" for key, value in variant.settings.items()]
    parts += [f"no {key}" for key in variant.without]
    parts += ["IPv6 beside IPv4"] if variant.dual_stack else []
    parts += ["kvstoremesh"] if variant.kvstoremesh else []
    parts += [f"clustermesh-apiserver --{key}={value}" for key, value in variant.clustermesh_apiserver.items()]
    return f"variant {variant} ({', '.join(parts)}), the rest of {native}"


def describe_joining(mesh: Mesh) -> list[str]:
    """Return a line for each pair of clusters that is joined."""
    return [f"connect {one.name} and {other.name}" for one, other in combinations(mesh.clusters, 2)]


def describe_hubble(mesh: Mesh) -> list[str]:
    """Return a line for each cluster: its rings and its Relay."""
    return [f"{cluster.name}: Hubble, Relay, rings of {cluster.ring} flows" for cluster in mesh.clusters]


def describe_workloads(mesh: Mesh) -> list[str]:
    """Return a line for each workload and each Service."""
    return [
        f"{workload.name} ({workload.image}) x {workload.replicas} in {', '.join(workload.clusters)}"
        for workload in mesh.workloads
    ] + [
        f"Service {service.namespace}/{service.name}:{service.port} in {', '.join(service.clusters)}"
        f" {' '.join(f'{key}={value}' for key, value in service.annotations.items())}".rstrip()
        for service in mesh.services
    ]


def carry_out(
    steps: Sequence[Step],
    act: Callable[[Step], None],
    say: Callable[[str], None],
    show: Callable[[str], None] = lambda _text: None,
    *,
    done: Collection[str] = (),
    if_broken_off: str = "",
    if_failed: str = "",
) -> None:
    """Carry steps out, one after another.

    Args:
        steps: in their order.
        act: carries one out.
        say: told of each that is done, with its seconds.
        show: told of the one under way; empty when it is over.
        done: keys of those that were carried out before.
        if_broken_off: how it goes on where the user ends it.
        if_failed: how it goes on where a step fails.

    Raises:
        MeshobsError: a step fails; which one, after how long, and why.
    """
    for number, step in enumerate(steps, start=1):
        if step.key in done:
            continue
        began = time.monotonic()
        show(f"[{number}/{len(steps)}] {step.title}")
        try:
            act(step)
        except KeyboardInterrupt:
            show("")
            say(f"interrupted in step {number} of {len(steps)}, {step.title}{if_broken_off}")
            raise
        except MeshobsError as error:
            raise MeshobsError(
                f"step {number} of {len(steps)}, {step.title} ({step.source}), failed after"
                f" {time.monotonic() - began:.0f} s: {error}{if_failed}"
            ) from error
        finally:
            show("")
        say(f"[{number:{len(str(len(steps)))}}/{len(steps)}] {step.title}: {time.monotonic() - began:.1f} s")

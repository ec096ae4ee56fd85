"""The one plan of a lab: the walkthrough's steps S1-S10 in order, with this mesh's values. Drivers carry them out."""

from collections.abc import Sequence

from meshobs.lab.driver import Step
from meshobs.lab.mesh.model import Mesh


def plan(mesh: Mesh) -> Sequence[Step]:
    """Return the steps of standing a mesh up."""
    clusters = mesh.clusters
    pairs = [(one, other) for index, one in enumerate(clusters) for other in clusters[index + 1 :]]
    return (
        Step("create the clusters", "S1", [
            f"{one.name}: {len(one.nodes)} nodes ({', '.join(node.name for node in one.nodes)}),"
            f" pods {one.pod_cidr}, services {one.service_cidr}" for one in clusters
        ]),
        Step("install Cilium", "S3", [
            f"{one.name}: Cilium {one.cilium}, cluster.id={one.id}, routingMode=native, autoDirectNodeRoutes=true,"
            f" kubeProxyReplacement=true, bpf.masquerade=true, ipv4NativeRoutingCIDR={one.native_routing_cidr},"
            f" nonMasqueradeCIDRs={{{','.join(one.non_masquerade_cidrs)}}}, monitorAggregation={one.aggregation}"
            for one in clusters
        ]),
        Step("share the CA", "S4", [f"cilium-ca of {clusters[0].name} to {other.name}" for other in clusters[1:]]),
        Step("join the mesh", "S5", [f"connect {one.name} and {other.name}" for one, other in pairs]),
        Step("enable Hubble", "S7", [f"{one.name}: Hubble, Relay, rings of {one.ring} flows" for one in clusters]),
        Step("deploy the workloads", "S8, S10", [
            f"{one.name} ({one.image}) x {one.replicas} in {', '.join(one.clusters)}" for one in mesh.workloads
        ] + [
            f"Service {one.namespace}/{one.name}:{one.port} in {', '.join(one.clusters)}"
            f" {' '.join(f'{key}={value}' for key, value in one.annotations.items())}".rstrip()
            for one in mesh.services
        ]),
    )  # fmt: skip

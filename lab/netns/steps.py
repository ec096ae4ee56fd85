"""The walkthrough S1-S10 in network namespaces: what `lab plan` prints and `lab up` carries out, in order. Pure."""

from collections.abc import Sequence

from meshobs.lab import plan
from meshobs.lab.driver import Step
from meshobs.lab.mesh.model import GLOBAL, Mesh, Service


def steps(mesh: Mesh) -> Sequence[Step]:
    """Return the steps of standing a mesh up."""
    names = [cluster.name for cluster in mesh.clusters]
    planned = [
        Step("create", "create the clusters: nodes, etcd, API servers", "S1", plan.describe_clusters(mesh)),
        Step("install", "install Cilium: its kinds, settings and agents", "S3", plan.describe_cilium(mesh)),
        Step("share-ca", "share the CA", "S4", [f"Secret cilium-ca of one authority in {', '.join(names)}"]),
        Step("hubble", "start the Relays", "S7", plan.describe_hubble(mesh)),
        Step("routes", "note the routes before the clusters are joined", "S6", [node.full for node in mesh.nodes]),
    ]
    if len(names) > 1:
        planned.append(Step("join", "join the mesh", "S5", plan.describe_joining(mesh)))
    planned.append(Step("deploy", "deploy the workloads", "S8, S10", plan.describe_workloads(mesh)))
    if service := spread_service(mesh):
        called = f"clients call {service.namespace}/{service.name} until {', '.join(service.clusters)} answered each"
        planned.append(Step("prove", "let every cluster be answered by every other", "S8", [called]))
    return planned


def spread_service(mesh: Mesh) -> Service | None:
    """Return the first global service that more than one cluster has."""
    for service in mesh.services:
        if service.annotations.get(GLOBAL) == "true" and len(service.clusters) > 1:
            return service
    return None

"""Workloads and Services of a mesh -> Kubernetes objects (S8, S10), for drivers with a real API server. Pure.

The lab's only door to PyYAML.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import yaml

from meshobs.lab.mesh.model import Cluster, Mesh, Service, Workload

Manifest = dict[str, Any]
# What whoami listens on by itself.
_OWN_PORT = 80


def of_cluster(mesh: Mesh, cluster: str) -> list[Manifest]:
    """Return the objects of all workloads and Services of a cluster."""
    return of(mesh.workloads, mesh.services, mesh.cluster(cluster))


def of(workloads: Sequence[Workload], services: Sequence[Service], cluster: Cluster) -> list[Manifest]:
    """Return the objects of some workloads and Services that a cluster has; their namespaces first."""
    own = [one for one in workloads if cluster.name in one.clusters]
    here = [one for one in services if cluster.name in one.clusters]
    spaces = dict.fromkeys([*(one.namespace for one in own), *(one.namespace for one in here)])
    return [
        *(_namespace(name) for name in spaces if name != "default"),
        *(made for one in own for made in workload(one)),
        *(service(one, dual_stack=cluster.variant.dual_stack) for one in here),
    ]


def workload(one: Workload) -> Iterator[Manifest]:
    """Return a workload's objects: a Deployment, or bare Pods, as many as it has replicas."""
    if not one.bare:
        yield {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _meta(one.name, one),
            "spec": {
                "replicas": one.replicas,
                "selector": {"matchLabels": {"app": one.app}},
                "template": {"metadata": {"labels": {"app": one.app}}, "spec": _spec(one)},
            },
        }
        return
    for number in range(1, one.replicas + 1):
        name = one.name if number == 1 else f"{one.name}-{number}"
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": _meta(name, one), "spec": _spec(one)}


def service(one: Service, *, dual_stack: bool = False) -> Manifest:
    """Return a Service; of a cluster with two families it has an address of each."""
    port: Manifest = {"port": one.port, "targetPort": one.target_port, "protocol": one.protocol}
    if one.node_port:
        port["nodePort"] = one.node_port
    meta: Manifest = {"name": one.name, "namespace": one.namespace, "labels": {"app": one.app}}
    if one.annotations:
        meta["annotations"] = dict(one.annotations)
    kind = "NodePort" if one.node_port else "ClusterIP"
    spec: Manifest = {"type": kind, "selector": {"app": one.app}, "ports": [port]}
    if dual_stack:
        # What the API gives by itself is one family.
        spec["ipFamilyPolicy"] = "RequireDualStack"
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec | dict(one.spec)}


def text(objects: Iterable[object]) -> str:
    """Return documents as YAML."""
    return str(yaml.safe_dump_all(objects, sort_keys=False, width=10_000))


def parse(document: str) -> Any:  # noqa: ANN401 - any YAML
    """Return what a document in YAML says."""
    return yaml.safe_load(document)


def _namespace(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _meta(name: str, one: Workload) -> Manifest:
    return {"name": name, "namespace": one.namespace, "labels": {"app": one.app}}


def _spec(one: Workload) -> Manifest:
    # An image without a tag means Always, which fails without a network or at Docker Hub's limit (trap T9).
    container: Manifest = {"name": one.app, "image": one.image, "imagePullPolicy": "IfNotPresent"}
    if not one.port:
        container["command"] = ["sleep", "infinity"]
    else:
        container["ports"] = [{"containerPort": one.port}]
        if one.port != _OWN_PORT:
            container["env"] = [{"name": "WHOAMI_PORT_NUMBER", "value": str(one.port)}]
    if one.drain:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": one.drain}}}
    # Time for the hook, and a moment for the process behind it.
    grace = one.drain + 1 if one.drain else 0
    spec: Manifest = {"terminationGracePeriodSeconds": grace, "containers": [container]}
    if one.host_network:
        spec |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    return spec

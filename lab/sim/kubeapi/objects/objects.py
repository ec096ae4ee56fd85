"""The Kubernetes objects that a cluster's API shows of a world. Pure.

Shapes are those of real clusters' answers (docs/lab.md). What a server adds by itself (versions, times) is left to it.
"""

from itertools import islice

from meshobs.lab.mesh.model import Workload
from meshobs.lab.sim.kubeapi.objects import nodes, system, workloads
from meshobs.lab.sim.kubeapi.objects.maker import Json, Key, Maker
from meshobs.lab.sim.world.world import Pod, Service, World

_HASH = "pod-template-hash"
# Those that an API server makes itself.
_OWN_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
# The controller puts no more endpoints into one slice.
_SLICE = 100


def objects(world: World, cluster: str, created: str = "") -> dict[Key, Json]:
    """Return all objects of a cluster.

    Args:
        world: the state of the mesh.
        cluster: which one's.
        created: their creationTimestamp; empty: whoever serves them says when, as a real server does.
    """
    maker = Maker(world.mesh.seed, cluster, created)
    system.add(maker, world.clusters[cluster])
    nodes.add(maker, world.clusters[cluster])
    for namespace in sorted({*_OWN_NAMESPACES, *(workload.namespace for workload in world.mesh.workloads)}):
        _namespace(maker, namespace)
    for workload in world.mesh.workloads:
        if cluster in workload.clusters and not workload.bare:
            _deployment(maker, world, workload)
    for pod in world.pods:
        if pod.cluster == cluster:
            _pod(maker, world, pod)
    for service in world.services:
        if service.cluster == cluster:
            _service(maker, service)
            for family in ("IPv4", "IPv6")[: len(service.addresses)]:
                _slices(maker, world, service, family)
    return maker.made


def _namespace(maker: Maker, name: str) -> None:
    maker.add(
        Key("namespaces", "", name),
        "v1",
        "Namespace",
        labels={"kubernetes.io/metadata.name": name},
        spec={"finalizers": ["kubernetes"]},
        status={"phase": "Active"},
    )


def _service(maker: Maker, service: Service) -> None:
    port: Json = {"port": service.port, "protocol": service.protocol, "targetPort": service.target_port}
    if service.node_port:
        port["nodePort"] = service.node_port
    workloads.add_service(
        maker,
        Key("services", service.namespace, service.name),
        service.addresses,
        port,
        labels={"app": service.app},
        annotations=service.annotations,
        selector={"app": service.app},
    )


def _slices(maker: Maker, world: World, service: Service, family: str) -> None:
    """Make a Service's EndpointSlices of a family; without pods the controller keeps another one, without ports."""
    wanted = (service.cluster, service.namespace, service.app)
    pods = {
        pod: address
        for pod in world.pods
        if (pod.cluster, pod.namespace, pod.app) == wanted
        for address in pod.addresses
        if (":" in address) == (family == "IPv6")
    }
    owner = Key("services", service.namespace, service.name)
    for first in range(0, max(len(pods), 1), _SLICE):
        of = "".join((str(first) if pods else "placeholder", family.removeprefix("IPv4")))
        maker.add(
            Key("endpointslices", service.namespace, f"{service.name}-{maker.suffix(*owner, of)}"),
            "discovery.k8s.io/v1",
            "EndpointSlice",
            labels={
                "app": service.app,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": service.name,
            },
            owner=maker.owner(owner, "v1", "Service"),
            meta={"generateName": f"{service.name}-", "generation": 1},
            addressType=family,
            endpoints=[
                _endpoint(maker, world, pod, address) for pod, address in islice(pods.items(), first, first + _SLICE)
            ]
            or None,
            ports=[{"name": "", "port": service.target_port, "protocol": service.protocol}] if pods else None,
        )


def _endpoint(maker: Maker, world: World, pod: Pod, address: str) -> Json:
    return {
        "addresses": [address],
        "conditions": {"ready": pod.active, "serving": pod.ready, "terminating": pod.terminating},
        "nodeName": world.nodes[pod.node].name,
        "targetRef": {
            "kind": "Pod",
            "name": pod.name,
            "namespace": pod.namespace,
            "uid": maker.uid(Key("pods", pod.namespace, pod.name)),
        },
    }


def _pod(maker: Maker, world: World, pod: Pod) -> None:
    node = world.nodes[pod.node]
    image = next((one.image for one in world.mesh.workloads if _is_of(pod, one)), "")
    labels: dict[str, str] = {"app": pod.app}
    owner: Json | None = None
    meta: Json = {}
    if pod.workload:
        replica_set = pod.name.rpartition("-")[0]
        labels[_HASH] = replica_set.rpartition("-")[2]
        owner = maker.owner(Key("replicasets", pod.namespace, replica_set), "apps/v1", "ReplicaSet")
        meta = {"generateName": f"{replica_set}-"}
    if pod.terminating:
        meta["deletionGracePeriodSeconds"] = 30
    ports = [{"containerPort": pod.port, "protocol": "TCP"}] if pod.port else []
    workloads.add_pod(
        maker,
        Key("pods", pod.namespace, pod.name),
        node.name,
        node.address,
        pod.addresses,
        workloads.container(pod.app, image, ports),
        labels=labels,
        owner=owner,
        meta=meta,
        ready=pod.ready,
        host_network=pod.host_network,
    )


def _deployment(maker: Maker, world: World, workload: Workload) -> None:
    wanted = (maker.cluster, workload.namespace, workload.name)
    pods = [pod for pod in world.pods if (pod.cluster, pod.namespace, pod.workload) == wanted and not pod.terminating]
    ports = [{"containerPort": workload.port, "protocol": "TCP"}] if workload.port else []
    workloads.add_deployment(
        maker,
        Key("deployments", workload.namespace, workload.name),
        {"app": workload.app},
        workloads.container(workload.app, workload.image, ports),
        len(pods),
        sum(pod.ready for pod in pods),
    )


def _is_of(pod: Pod, workload: Workload) -> bool:
    return (pod.namespace, pod.app) == (workload.namespace, workload.app) and pod.workload in ("", workload.name)

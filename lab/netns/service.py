"""What the process of a running mesh does when it is asked."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from meshobs.errors import MeshobsError
from meshobs.lab.clusters import manifests
from meshobs.lab.clusters.targets import LiveService
from meshobs.lab.mesh.model import Service, Workload
from meshobs.lab.netns.clients import Clients, NetnsClientRun
from meshobs.lab.netns.cluster import agent_api
from meshobs.lab.netns.faults import NetnsFaults
from meshobs.lab.netns.host.layout import state
from meshobs.lab.netns.machine import Machine
from meshobs.lab.netns.nodes import agent_name
from meshobs.lab.netns.steps import spread_service
from meshobs.lab.remote.service import LabService
from meshobs.lab.traffic import Request, Traffic

_SECONDS = 120.0
_PROOFS = 20


class NetnsService(LabService):
    """Answers for one mesh of real parts."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine
        self._clients = Clients(machine)
        self._faults = NetnsFaults(machine)

    def prove(self) -> None:
        """Let a client of each cluster reach all clusters by a global service, where the mesh has both.

        Raises:
            MeshobsError: a cluster is never reached.
        """
        if service := spread_service(self._machine.mesh):
            for cluster in service.clusters:
                self._reach(cluster, service)

    def _reach(self, cluster: str, service: Service) -> None:
        if not self._caller(cluster):
            return
        traffic = Traffic(self._caller(cluster), f"svc/{service.namespace}/{service.name}", count=_PROOFS, rate=100)
        answered: set[str] = set()
        deadline = time.monotonic() + _SECONDS
        while not answered.issuperset(service.clusters):
            if time.monotonic() > deadline:
                raise MeshobsError(
                    f"{cluster}'s calls of {service.name} are answered by {', '.join(answered) or 'nobody'}"
                )
            answered |= {one.answered_cluster for one in self.run([traffic])}

    def status(self) -> Mapping[str, Any]:
        """Return nodes, services and pods, and the faults that are on."""
        live = self._machine.live()
        return {
            "nodes": [self._node(node.name, node.full) for node in self._machine.mesh.nodes],
            "services": [
                _service(one, address) for one in live.services for address in one.addresses or ("",)
            ],
            "pods": [
                {"cluster": one.cluster, "name": one.name, "node": one.node, "address": address,
                 "ready": one.ready}
                for one in live.pods
                for address in one.addresses or ("",)
            ],
            "faults": list(self._faults.on),
        }  # fmt: skip

    def _node(self, name: str, full: str) -> Mapping[str, Any]:
        node = next(one for one in self._machine.mesh.nodes if one.name == name)
        status = agent_api.status(state(node)) if self._machine.processes.alive(agent_name(node)) else {}
        observer = (status.get("hubble") or {}).get("observer") or {}
        return {
            "node": full,
            "address": node.address,
            "agent": str((status.get("cilium") or {}).get("state") or "stopped"),
            "flows": int(observer.get("current-flows") or 0),
            "capacity": int(observer.get("max-flows") or 0),
            "seen": int(observer.get("seen-flows") or 0),
        }

    def routes(self) -> tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]:
        """Return each node's routes before the mesh was joined, and now."""
        return self._machine.routes_before, self._machine.nodes.routes()

    def start_client(self, traffic: Traffic, *, endless: bool = False) -> NetnsClientRun:
        """Start a client in its pod's namespace."""
        return self._clients.start(traffic, endless=endless)

    def complete(self, requests: list[Request]) -> list[Request]:
        """Return requests with the sources that servers saw of pings."""
        return self._clients.saw_pings(requests)

    def background_traffic(self, rate: float) -> Sequence[Traffic]:
        """Return calls of each cluster's first client to each of its services."""
        protocols = {one.name: one.protocol for one in self._machine.mesh.services}
        return [
            Traffic(caller, f"svc/{one.namespace}/{one.name}", protocols.get(one.name, "TCP"), rate=rate)
            for one in self._machine.live().services
            if (caller := self._caller(one.cluster))
        ]

    def _caller(self, cluster: str) -> str:
        """Return a cluster's first pod that serves nothing."""
        found = [one.full for one in self._machine.live().pods if one.cluster == cluster and not one.port]
        return next(iter(found), "")

    def annotate(self, cluster: str, namespace: str, service: str, changes: Mapping[str, str | None]) -> None:
        """Set annotations of a Service, or remove those that are None."""
        api = self._machine.apis[cluster]
        path = f"/api/v1/namespaces/{namespace}/services/{service}"
        if api.get(path) is None:
            raise MeshobsError(f"cluster {cluster} has no service {namespace}/{service}")
        api.patch(path, {"metadata": {"annotations": dict(changes)}})

    def scale(self, cluster: str, namespace: str, workload: str, replicas: int) -> None:
        """Give a workload so many pods, and wait until they are there."""
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{workload}"
        api = self._machine.apis[cluster]
        if api.get(path) is None:
            raise MeshobsError(f"cluster {cluster} has no deployment {namespace}/{workload}")
        api.patch(path, {"spec": {"replicas": replicas}})
        self._machine.wait_for(
            lambda: self._is_settled(cluster, namespace, workload, replicas), f"{workload} in {cluster}"
        )

    def _is_settled(self, cluster: str, namespace: str, workload: str, replicas: int) -> bool:
        """Tell whether a Deployment has the pods that it wants, and its EndpointSlices say so."""
        api = self._machine.apis[cluster]
        found = api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{workload}")
        status = (found or {}).get("status") or {}
        if (status.get("replicas", 0), status.get("readyReplicas", 0)) != (replicas, replicas):
            return False
        label = found["spec"]["selector"]["matchLabels"]["app"] if found else ""
        pods, _ = api.items(f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{label}")
        names = {one["metadata"]["name"] for one in pods}
        slices, _ = api.items(
            f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector=app%3D{label}"
        )
        behind = [
            {end["targetRef"]["name"] for end in one.get("endpoints") or () if end["conditions"].get("ready")}
            for one in slices
        ]
        return len(names) == replicas and all(one == names for one in behind)

    def add(self, workloads: Sequence[Workload], services: Sequence[Service]) -> None:
        """Add workloads and Services, and wait until their pods are there; what is there stays."""
        for cluster in self._machine.mesh.clusters:
            self._machine.kubectls[cluster.name].apply(manifests.of(workloads, services, cluster))
        for one in workloads:
            for name in one.clusters if not one.bare else ():
                done = partial(self._is_settled, name, one.namespace, one.name, one.replicas)
                self._machine.wait_for(done, f"{one.name} in {name}")

    def remove(self, workloads: Sequence[Workload], services: Sequence[Service]) -> None:
        """Remove what `add` added."""
        for cluster in self._machine.mesh.clusters:
            self._machine.kubectls[cluster.name].delete(manifests.of(workloads, services, cluster))

    def fault(self, name: str, scope: str, *, on: bool) -> None:
        """Turn a fault on or off, and wait until the mesh is so."""
        self._faults.turn(name, scope, on=on)


def _service(one: LiveService, address: str) -> Mapping[str, Any]:
    """Return a Service as `status` tells it: one of two families comes twice."""
    known = {key: value for key, value in asdict(one).items() if key != "address6"}
    return known | {"address": address, "port": one.port, "node_port": one.node_port}

"""What can be done to a running mesh, by name: the far side of `remote.RemoteLab`."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from meshobs.errors import MeshobsError
from meshobs.lab.clusters import manifests
from meshobs.lab.mesh.model import Service
from meshobs.lab.netns.clients import ClientRun, Clients
from meshobs.lab.netns.cluster import agent_api
from meshobs.lab.netns.faults import NetnsFaults
from meshobs.lab.netns.host.layout import state
from meshobs.lab.netns.machine import Machine
from meshobs.lab.netns.nodes import agent_name
from meshobs.lab.remote.lab import parse_added
from meshobs.lab.traffic import Request, Traffic

Progress = Callable[[Any], bool]
# How often a command with traffic tells how far it is.
_TELL = 0.1
_SECONDS = 120.0
_PROOFS = 20


class NetnsService:
    """Commands for one mesh; `end` is set by the last of them."""

    def __init__(self, machine: Machine) -> None:
        self.end = threading.Event()
        self._machine = machine
        self._clients = Clients(machine)
        self._faults = NetnsFaults(machine)
        self._background: list[tuple[Traffic, ClientRun]] = []
        self._paused: list[Traffic] = []

    @property
    def actions(self) -> Mapping[str, Callable[[Mapping[str, Any], Progress], Any]]:
        """Return them by name."""
        return {
            "status": lambda _given, _progress: self._status(),
            "routes": lambda _given, _progress: [self._machine.routes_before, self._machine.nodes.routes()],
            "traffic": self._traffic,
            "endless": lambda given, _progress: self._endless(Traffic(**given["traffic"])),
            "background": lambda given, _progress: self._steady(float(given["rate"])),
            "pause": lambda _given, _progress: self._pause(),
            "resume": lambda _given, _progress: self._resume(),
            "annotate": lambda given, _progress: self._annotate(**given),
            "scale": lambda given, _progress: self._scale(**given),
            "add": lambda given, _progress: self._add(given),
            "remove": lambda given, _progress: self._remove(given),
            "fault": lambda given, _progress: self._faults.set(given["name"], given["scope"], on=given["on"]),
            "down": lambda _given, _progress: self.end.set(),
        }

    def prove(self, say: Callable[[str], None]) -> None:
        """Let a client of each cluster reach all clusters by a global service, where the mesh has both.

        Raises:
            MeshobsError: a cluster is never reached.
        """
        began = time.monotonic()
        for service in self._machine.mesh.services:
            if service.annotations.get("service.cilium.io/global") != "true" or len(service.clusters) == 1:
                continue
            for cluster in service.clusters:
                self._reach(cluster, service)
            say(f"every cluster is answered by every other ({time.monotonic() - began:.1f} s)")
            return

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
            answered |= {one.answered_cluster for one in self._run([traffic], lambda _value: True)}

    def _status(self) -> Mapping[str, Any]:
        live = self._machine.live()
        return {
            "nodes": [self._node(node.name, node.full) for node in self._machine.mesh.nodes],
            "services": [asdict(one) for one in live.services],
            "pods": [
                {"cluster": one.cluster, "name": one.name, "node": one.node, "address": one.address,
                 "ready": one.ready}
                for one in live.pods
            ],
            "faults": list(self._faults.on),
            "background": len(self._background),
            "paused": len(self._paused),
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

    def _traffic(self, given: Mapping[str, Any], progress: Progress) -> list[Mapping[str, Any]]:
        wanted = [Traffic(**one) for one in given["traffic"]]
        return [asdict(one) for one in self._run(wanted, progress)]

    def _run(self, traffic: list[Traffic], progress: Progress) -> list[Request]:
        runs: list[ClientRun] = []
        try:
            runs += [self._clients.start(one) for one in traffic]
            while not all(run.done for run in runs):
                if not progress(sum(len(run.requests) for run in runs)):
                    break
                if self.end.wait(_TELL):
                    raise MeshobsError("the lab ended in mid-traffic")
        finally:
            for run in runs:
                run.stop()
        requests = [one for run in runs for one in run.requests]
        return self._clients.saw_pings(sorted(requests, key=lambda one: one.time))

    def _endless(self, traffic: Traffic) -> None:
        self._background.append((traffic, self._clients.start(traffic, endless=True)))

    def _pause(self) -> int:
        for _, run in self._background:
            run.stop()
        self._paused += [traffic for traffic, _ in self._background]
        self._background.clear()
        return len(self._paused)

    def _resume(self) -> None:
        while self._paused:
            self._endless(self._paused.pop())

    def _steady(self, rate: float) -> None:
        self._pause()
        self._paused.clear()
        if not rate:
            return
        for service in self._machine.live().services:
            if caller := self._caller(service.cluster):
                target = f"svc/{service.namespace}/{service.name}"
                protocol = next(
                    (one.protocol for one in self._machine.mesh.services if one.name == service.name), "TCP"
                )
                self._endless(Traffic(caller, target, protocol, rate=rate))

    def _caller(self, cluster: str) -> str:
        """Return a cluster's first pod that serves nothing."""
        found = [one.full for one in self._machine.live().pods if one.cluster == cluster and not one.port]
        return next(iter(found), "")

    def _annotate(self, cluster: str, namespace: str, service: str, changes: Mapping[str, str | None]) -> None:
        api = self._machine.apis[cluster]
        path = f"/api/v1/namespaces/{namespace}/services/{service}"
        if api.get(path) is None:
            raise MeshobsError(f"cluster {cluster} has no service {namespace}/{service}")
        api.patch(path, {"metadata": {"annotations": dict(changes)}})

    def _scale(self, cluster: str, namespace: str, workload: str, replicas: int) -> None:
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

    def _add(self, given: Mapping[str, Any]) -> None:
        workloads, services = parse_added(given)
        for cluster in self._machine.mesh.clusters:
            self._machine.kubectls[cluster.name].apply(manifests.of(workloads, services, cluster.name))
        for one in workloads:
            for name in one.clusters if not one.bare else ():
                done = partial(self._is_settled, name, one.namespace, one.name, one.replicas)
                self._machine.wait_for(done, f"{one.name} in {name}")

    def _remove(self, given: Mapping[str, Any]) -> None:
        workloads, services = parse_added(given)
        for cluster in self._machine.mesh.clusters:
            self._machine.kubectls[cluster.name].delete(manifests.of(workloads, services, cluster.name))

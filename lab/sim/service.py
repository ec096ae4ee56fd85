"""What the process of a running sim does when it is asked."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import cached_property
from typing import Any

from meshobs.lab.mesh.model import Service, Workload
from meshobs.lab.remote.service import LabService
from meshobs.lab.sim.datapath import node_routes
from meshobs.lab.sim.faults import FaultyServers, SimFaults
from meshobs.lab.sim.motion.client import SimulatedClient
from meshobs.lab.sim.realtime import RealtimeMesh
from meshobs.lab.sim.world import changes as world_changes
from meshobs.lab.traffic import Traffic


class SimService(LabService):
    """Answers for one mesh in real time."""

    def __init__(self, live: RealtimeMesh) -> None:
        super().__init__()
        self._live = live
        live.on_end = self.end.set

    @cached_property
    def _faults(self) -> SimFaults:
        live = self._live
        return SimFaults(live.simulation, live.change, FaultyServers(live.hubble, live.kube, live.binaries))

    def status(self) -> Mapping[str, Any]:
        """Return nodes, services and pods, and the faults that are on."""
        with self._live.moment():
            world = self._live.simulation.world
        return {
            "nodes": [{"node": name, **asdict(one)} for name, one in self._live.hubble.status().items()],
            "services": [
                {
                    "cluster": one.cluster, "namespace": one.namespace, "name": one.name, "address": one.address,
                    "port": one.port, "node_port": one.node_port, "annotations": dict(one.annotations),
                    "ports": [{"port": one.port, "protocol": one.protocol, "node_port": one.node_port}],
                }
                for one in world.services
            ],
            "pods": [
                {"cluster": one.cluster, "name": one.name, "node": one.node, "address": one.address,
                 "ready": one.active}
                for one in world.pods
            ],
            "faults": list(self._faults.on),
        }  # fmt: skip

    def routes(self) -> tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]:
        """Return each node's routes before the mesh was joined, and now."""
        mesh = self._live.simulation.world.mesh
        return node_routes.routes(mesh, joined=False), node_routes.routes(mesh, joined=True)

    def together(self) -> AbstractContextManager[object]:
        """Hold the mesh still: clients that are started meanwhile begin at the same moment."""
        return self._live.moment()

    def start_client(self, traffic: Traffic, *, endless: bool = False) -> SimulatedClient:
        """Start a client."""
        with self._live.moment() as now:
            return self._live.simulation.start(now, traffic, endless=endless)

    def background_traffic(self, rate: float) -> Sequence[Traffic]:
        """Return calls of each cluster's first client to each of its services."""
        world = self._live.simulation.world
        callers = {pod.cluster: pod.full for pod in reversed(world.pods) if not pod.port}
        return [
            Traffic(callers[one.cluster], f"svc/{one.namespace}/{one.name}", one.protocol, rate=rate)
            for one in world.services
            if one.cluster in callers
        ]

    def annotate(self, cluster: str, namespace: str, service: str, changes: Mapping[str, str | None]) -> None:
        """Set annotations of a Service, or remove those that are None."""
        self._live.change(world_changes.annotate(cluster, namespace, service, changes))

    def scale(self, cluster: str, namespace: str, workload: str, replicas: int) -> None:
        """Give a workload so many pods."""
        self._live.change(world_changes.scale(cluster, namespace, workload, replicas))

    def add(self, workloads: Sequence[Workload], services: Sequence[Service]) -> None:
        """Add workloads and Services; what is there stays."""
        self._live.change(world_changes.add(workloads, services))

    def remove(self, workloads: Sequence[Workload], services: Sequence[Service]) -> None:
        """Remove what `add` added."""
        named = [(one.namespace, one.name) for one in workloads], [(one.namespace, one.name) for one in services]
        self._live.change(world_changes.remove(*named))

    def fault(self, name: str, scope: str, *, on: bool) -> None:
        """Turn a fault on or off while the mesh stands still."""
        with self._live.moment():
            self._faults.turn(name, scope, on=on)

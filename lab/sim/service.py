"""What can be done to a running sim, by name: the far side of `driver.SimLab`."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from meshobs.errors import MeshobsError
from meshobs.lab.remote.lab import parse_added
from meshobs.lab.sim.faults import FaultyServers, SimFaults
from meshobs.lab.sim.motion.client import SimulatedClient
from meshobs.lab.sim.realtime import RealtimeMesh
from meshobs.lab.sim.world import changes
from meshobs.lab.traffic import Request, Traffic

Progress = Callable[[Any], bool]
# How often a command with traffic tells how far it is.
_TELL = 0.1


class SimService:
    """Commands for one live mesh; `end` is set by the last of them."""

    def __init__(self, live: RealtimeMesh) -> None:
        self.end = threading.Event()
        self._live = live
        self._faults = SimFaults(live.simulation, live.change, FaultyServers(live.hubble, live.kube, live.binaries))
        self._background: list[tuple[Traffic, SimulatedClient]] = []
        self._paused: list[Traffic] = []
        live.on_end = self.end.set

    @property
    def actions(self) -> Mapping[str, Callable[[Mapping[str, Any], Progress], Any]]:
        """Return them by name."""
        return {
            "status": lambda _given, _progress: self._status(),
            "traffic": self._traffic,
            "endless": lambda given, _progress: self._endless(Traffic(**given["traffic"])),
            "background": lambda given, _progress: self._steady(float(given["rate"])),
            "pause": lambda _given, _progress: self._pause(),
            "resume": lambda _given, _progress: self._resume(),
            "annotate": lambda given, _progress: self._live.change(changes.annotate(**given)),
            "scale": lambda given, _progress: self._live.change(changes.scale(**given)),
            "add": lambda given, _progress: self._add(given),
            "remove": lambda given, _progress: self._remove(given),
            "fault": lambda given, _progress: self._fault(**given),
            "down": lambda _given, _progress: self.end.set(),
        }

    def _status(self) -> Mapping[str, Any]:
        with self._live.moment():
            world = self._live.simulation.world
        return {
            "nodes": [{"node": name, **asdict(one)} for name, one in self._live.hubble.status().items()],
            "services": [
                {
                    "cluster": one.cluster, "namespace": one.namespace, "name": one.name, "address": one.address,
                    "port": one.port, "node_port": one.node_port, "annotations": dict(one.annotations),
                }
                for one in world.services
            ],
            "pods": [
                {"cluster": one.cluster, "name": one.name, "node": one.node, "address": one.address,
                 "ready": one.active}
                for one in world.pods
            ],
            "faults": list(self._faults.on),
            "background": len(self._background),
            "paused": len(self._paused),
        }  # fmt: skip

    def _traffic(self, given: Mapping[str, Any], progress: Progress) -> list[Mapping[str, Any]]:
        on_request: list[Request] = []
        clients: list[SimulatedClient] = []
        try:
            with self._live.moment() as now:
                for one in given["traffic"]:
                    clients.append(self._live.simulation.start(now, Traffic(**one), on_request.append))  # noqa: PERF401 - what began is stopped
            while not all(client.done for client in clients):
                if not progress(len(on_request)):
                    break
                if self.end.wait(_TELL):
                    raise MeshobsError("the lab ended in mid-traffic; its log says why, if nobody ended it")
        finally:
            for client in clients:
                client.stopped = True
        return [asdict(one) for one in sorted(on_request, key=lambda one: one.time)]

    def _endless(self, traffic: Traffic) -> None:
        with self._live.moment() as now:
            self._background.append((traffic, self._live.simulation.start(now, traffic, _ignore, endless=True)))

    def _pause(self) -> int:
        with self._live.moment():
            for _, client in self._background:
                client.stopped = True
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
        with self._live.moment():
            world = self._live.simulation.world
            for service in world.services:
                callers = [pod for pod in world.pods if pod.cluster == service.cluster and not pod.port]
                if callers:
                    target = f"svc/{service.namespace}/{service.name}"
                    self._endless(Traffic(callers[0].full, target, service.protocol, rate=rate))

    def _fault(self, name: str, scope: str, *, on: bool) -> None:
        with self._live.moment():
            self._faults.set(name, scope, on=on)

    def _add(self, given: Mapping[str, Any]) -> None:
        workloads, services = parse_added(given)
        self._live.change(changes.add(workloads, services))

    def _remove(self, given: Mapping[str, Any]) -> None:
        workloads = [(one["namespace"], one["name"]) for one in given["workloads"]]
        services = [(one["namespace"], one["name"]) for one in given["services"]]
        self._live.change(changes.remove(workloads, services))


def _ignore(_request: Request) -> None:
    """Take a request that nobody asked for."""

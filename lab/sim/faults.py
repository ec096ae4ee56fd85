"""Faults of the sim: what each one does to the mesh, and how it is undone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from meshobs.errors import InputError
from meshobs.lab import faults
from meshobs.lab.faults import FaultSwitch, Undo
from meshobs.lab.sim.hubble.relay_binary import RelayBinary
from meshobs.lab.sim.hubble.server import Hubble
from meshobs.lab.sim.kubeapi.server import KubeServer
from meshobs.lab.sim.motion.simulation import Simulation
from meshobs.lab.sim.world import changes
from meshobs.lab.sim.world.world import Policy

_SKEW = 400_000_000
_LOSS = 0.1


@dataclass(frozen=True)
class FaultyServers:
    """The servers of a mesh in real time."""

    hubble: Hubble
    kube: Mapping[str, KubeServer]
    binaries: Mapping[str, RelayBinary]


class SimFaults(FaultSwitch):
    """Faults of one mesh. Its caller holds the mesh still meanwhile.

    Args:
        simulation: the mesh.
        change: changes its world, now.
        servers: what some faults need; None where there are none.
    """

    def __init__(
        self, simulation: Simulation, change: Callable[[changes.Change], None], servers: "FaultyServers | None" = None
    ) -> None:
        makers: dict[str, Callable[[str], Undo]] = {
            "masquerade": self._masquerade,
            "stale-backends": self._stale,
            "event-loss": self._event_loss,
            "ring-loss": self._ring_loss,
            "agent-down": self._agent_down,
            "relay-down": self._relay_down,
            "blind": self._blind,
            "clock-skew": self._skew,
            "policy": self._policy,
            "kube-down": self._kube_down,
        }
        super().__init__(makers, lambda: simulation.world.mesh)
        self._simulation = simulation
        self._change = change
        self._servers = servers

    def _masquerade(self, cluster: str) -> Undo:
        before = self._simulation.world.clusters[cluster].non_masquerade_cidrs
        self._simulation.reconfigure(cluster, non_masquerade_cidrs=())
        return lambda: self._simulation.reconfigure(cluster, non_masquerade_cidrs=before)

    def _stale(self, cluster: str) -> Undo:
        self._simulation.disturbance.stuck.add(cluster)

        def undo() -> None:
            self._simulation.disturbance.stuck.discard(cluster)
            self._change(lambda world: world)

        return undo

    def _event_loss(self, node: str) -> Undo:
        loss = self._simulation.disturbance.loss
        loss[node] = _LOSS
        return lambda: loss.__delitem__(node)

    def _skew(self, node: str) -> Undo:
        skew = self._simulation.disturbance.skew
        skew[node] = _SKEW
        return lambda: skew.__delitem__(node)

    def _ring_loss(self, node: str) -> Undo:
        cluster = node.partition("/")[0]
        before = self._simulation.world.clusters[cluster].ring
        self._need_servers().hubble.set_ring(node, faults.SMALL_RING)
        return lambda: self._need_servers().hubble.set_ring(node, before)

    def _agent_down(self, node: str) -> Undo:
        self._need_servers().hubble.stop_agent(node)
        return lambda: self._need_servers().hubble.start_agent(node)

    def _relay_down(self, cluster: str) -> Undo:
        served = self._need_servers()
        if cluster in served.binaries:
            served.binaries[cluster].stop()
            return served.binaries[cluster].start
        served.hubble.stop_relay(cluster)
        return lambda: served.hubble.start_relay(cluster)

    def _blind(self, node: str) -> Undo:
        self._need_servers().hubble.hide(node, hidden=True)
        return lambda: self._need_servers().hubble.hide(node, hidden=False)

    def _policy(self, _scope: str) -> Undo:
        clusters = self._simulation.world.mesh.clusters
        policy = Policy(clusters[-1].name, "default", f"deny-{clusters[0].name}", faults.REFUSED_APP, clusters[0].name)
        self._change(changes.set_policy(policy, on=True))
        return lambda: self._change(changes.set_policy(policy, on=False))

    def _kube_down(self, cluster: str) -> Undo:
        self._need_servers().kube[cluster].stop()
        return self._need_servers().kube[cluster].start

    def _need_servers(self) -> FaultyServers:
        if not self._servers:
            raise InputError("this fault needs a mesh in real time: leave `accelerated` out")
        return self._servers

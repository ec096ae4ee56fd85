"""The mesh in time that is skipped: a lab in this very process whose flows and objects go into a recording.

No Relay, no API server, no waiting: an experiment of a minute takes two seconds. What only servers have (rings that
turn over, agents and Relays that go) needs real time.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from meshobs.lab.driver import Capabilities
from meshobs.lab.experiments.recording import Recording
from meshobs.lab.faults import FAULTS, possible_faults
from meshobs.lab.mesh.model import Mesh, Service, Workload
from meshobs.lab.sim.faults import SimFaults
from meshobs.lab.sim.kubeapi.objects import objects
from meshobs.lab.sim.kubeapi.store import KubeStore, StoredChange
from meshobs.lab.sim.motion.simulation import Simulation
from meshobs.lab.sim.world import changes as changing
from meshobs.lab.sim.world.world import World
from meshobs.lab.traffic import Request, Traffic
from meshobs.pb.flow.flow_pb2 import PERF_EVENT_RING_BUFFER, Flow, LostEvent
from meshobs.pb.observer.observer_pb2 import GetFlowsResponse
from meshobs.pb.relay.relay_pb2 import NODE_CONNECTED, NodeStatusEvent
from meshobs.times import SECOND

# How far time goes on before it is looked whether all clients are done.
_STRIDE = SECOND // 20
# What is under way at the end of traffic: a connection's last packets, a loss that is still to be told.
_REST = 2.0
_APART = SECOND // 1000


def capabilities_of(mesh: Mesh) -> Capabilities:
    """Return what a mesh can do without servers: what only they have needs real time."""
    return Capabilities(
        faults=frozenset(name for name in possible_faults(mesh) if not FAULTS[name].served), specs=False
    )


class AcceleratedLab:
    """A lab without servers.

    Args:
        mesh: what it is.
        folder: for the recording; must hold nothing.
        start: its first moment, nanoseconds.

    Attributes:
        now: its clock.
    """

    def __init__(self, mesh: Mesh, folder: Path, start: int) -> None:
        self.mesh = mesh
        self.now = start
        self._recording = Recording(folder)

    @property
    def capabilities(self) -> Capabilities:
        """Return what its mesh can do."""
        return capabilities_of(self.mesh)

    def start(self) -> Self:
        """Begin the recording and the mesh's time."""
        self._recording.make()
        self._kube = {one.name: KubeStore(self.clock, self._recorder(one.name)) for one in self.mesh.clusters}
        self._announce_nodes()
        self.simulation = Simulation(self.mesh, self, self.now)
        self._faults = SimFaults(self.simulation, self.change)
        return self

    def clock(self) -> int:
        """Return the time in the lab, nanoseconds."""
        return self.now

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += int(seconds * SECOND)
        self.simulation.timeline.run(self.now)

    def change(self, change: changing.Change) -> None:
        """Change the world, now; no two changes fall together, for a recording tells their order by their time."""
        self.now += _APART
        self.simulation.change(self.now, change)

    def traffic(
        self, traffic: Sequence[Traffic], meanwhile: Sequence[tuple[float, Callable[[], None]]] = ()
    ) -> list[Request]:
        """Run traffic side by side until all of it is over."""
        clients = [self.simulation.start(self.now, one) for one in traffic]
        for after, action in meanwhile:
            # An action acts by the lab's clock, which otherwise moves in strides.
            self.simulation.timeline.at(self.now + int(after * SECOND), self._act(action))
        while not all(client.done for client in clients):
            self.now += _STRIDE
            self.simulation.timeline.run(self.now)
        self.wait(_REST)
        requests = [request for client in clients for request in client.requests]
        return sorted(requests, key=lambda request: request.time)

    def annotate(self, cluster: str, namespace: str, service: str, changes: Mapping[str, str | None]) -> None:
        """Set annotations of a Service, or remove those that are None."""
        self.change(changing.annotate(cluster, namespace, service, changes))

    def scale(self, cluster: str, namespace: str, workload: str, replicas: int) -> None:
        """Give a workload so many pods."""
        self.change(changing.scale(cluster, namespace, workload, replicas))

    def add(self, workloads: Sequence[Workload], services: Sequence[Service]) -> None:
        """Add workloads and Services; what is there stays."""
        self.change(changing.add(workloads, services))

    def remove(self, workloads: Sequence[Workload], services: Sequence[Service]) -> None:
        """Remove what `add` added."""
        names = [{(one.namespace, one.name) for one in group} for group in (workloads, services)]
        self.change(changing.remove(*names))

    def fault(self, name: str, scope: str, *, on: bool) -> None:
        """Turn a fault on or off."""
        self._faults.turn(name, scope, on=on)

    def close(self) -> None:
        """Write the rest of the recording."""
        nodes = [
            {"name": node.full, "state": "NODE_CONNECTED", "version": f"cilium v{one.cilium}", "address": node.address}
            for one in self.mesh.clusters
            for node in one.nodes
        ]
        relays = {self.mesh.clusters[0].name: {"GetNodes": {"nodes": nodes}}}
        self._recording.close({name: store.objects().values() for name, store in self._kube.items()}, relays, {})

    def flow(self, node: str, at: int, flow: Flow) -> None:
        """Record a flow; one Relay tells of all nodes."""
        message = GetFlowsResponse(flow=flow, node_name=node)
        message.time.FromNanoseconds(at)
        self._write(message)

    def lost(self, node: str, at: int, count: int) -> None:
        """Record a loss before the ring."""
        lost = LostEvent(source=PERF_EVENT_RING_BUFFER, num_events_lost=count)
        lost.cpu.value = 0
        message = GetFlowsResponse(lost_events=lost, node_name=node)
        message.time.FromNanoseconds(at)
        self._write(message)

    def world(self, at: int, world: World) -> None:
        """Record what the Kubernetes APIs show from now on."""
        self.now = max(self.now, at)
        for cluster, store in self._kube.items():
            store.update(objects.objects(world, cluster))

    def _act(self, action: Callable[[], None]) -> Callable[[int], None]:
        def act(at: int) -> None:
            self.now = max(self.now, at)
            action()

        return act

    def _announce_nodes(self) -> None:
        """Let the Relay say, as it does first, that it has all nodes."""
        names = [node.full for node in self.mesh.nodes]
        message = GetFlowsResponse(node_status=NodeStatusEvent(state_change=NODE_CONNECTED, node_names=names))
        message.node_name = f"hubble-relay-{self.mesh.clusters[0].name}"
        message.time.FromNanoseconds(self.now)
        self._write(message)

    def _write(self, message: GetFlowsResponse) -> None:
        self._recording.flow(self.mesh.clusters[0].name, message.SerializeToString())

    def _recorder(self, cluster: str) -> Callable[[StoredChange], None]:
        def record(change: StoredChange) -> None:
            self._recording.event(cluster, change.key.resource, self.now, change.type, change.last)

        return record

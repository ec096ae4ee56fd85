"""The mesh in real time: a simulation whose clock is the machine's, behind the real APIs."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from meshobs.lab.mesh.model import Mesh
from meshobs.lab.sim import forward_events
from meshobs.lab.sim.hubble.relay_binary import RelayBinary
from meshobs.lab.sim.hubble.server import Hubble
from meshobs.lab.sim.kubeapi.objects import objects
from meshobs.lab.sim.kubeapi.server import KubeServer
from meshobs.lab.sim.motion.simulation import Simulation
from meshobs.lab.sim.world import changes
from meshobs.lab.sim.world.world import World
from meshobs.pb.flow.flow_pb2 import Flow

# How late an event may be told: agents read their rings about as often.
_TICK = 0.005


class RealtimeMesh:
    """A running mesh with its servers.

    Args:
        mesh: what to run.
        relay_binary: a real hubble-relay to run before the nodes, None for the sim's own.
        folder: for the logs of real Relays.

    Attributes:
        relay_binary: as given.
        simulation: from the first step on.
        on_end: called when time stops, also where a mistake of ours stops it; the log then has a traceback.
    """

    simulation: Simulation

    def __init__(self, mesh: Mesh, relay_binary: Path | None = None, folder: Path = Path()) -> None:
        self.relay_binary = relay_binary
        self.binaries: dict[str, RelayBinary] = {}
        self._mesh = mesh
        self._folder = folder
        self.token = secrets.token_hex(16)
        self.hubble = Hubble(mesh)
        self.kube = {
            cluster.name: KubeServer(
                cluster.name,
                self.token,
                on_annotate=lambda *given: self.change(changes.annotate(*given)),
                on_scale=lambda *given: self.change(changes.scale(*given)),
                on_forward=lambda *_, name=cluster.name: self.relays[name],
                on_carried=partial(self._carried, cluster.name),
            )
            for cluster in mesh.clusters
        }
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="simulation", daemon=True)
        self.on_end: Callable[[], None] = lambda: None

    @property
    def relays(self) -> dict[str, str]:
        """Return where each cluster's Relay listens."""
        return {**self.hubble.relays, **{name: one.address for name, one in self.binaries.items()}}

    @property
    def actions(self) -> Mapping[str, Callable[[], None]]:
        """Return how each of `steps` is carried out, by its key.

        They raise MeshobsError where the real Relay does not come up.
        """
        return {
            "world": self._make_world,
            "hubble": self._serve_hubble,
            "kubernetes": self._serve_kubernetes,
            "time": self._thread.start,
        }

    def _make_world(self) -> None:
        self.simulation = Simulation(self._mesh, self, time.time_ns())

    def _serve_hubble(self) -> None:
        self.hubble.start()
        if self.relay_binary:
            for name, peers in self.hubble.peers.items():
                self.binaries[name] = RelayBinary(self.relay_binary, peers, self._folder / f"relay-{name}.log")
                self.binaries[name].start()

    def _serve_kubernetes(self) -> None:
        for server in self.kube.values():
            server.start()

    def stop(self) -> None:
        """End everything."""
        self._stop.set()
        self._thread.join(5)
        for binary in self.binaries.values():
            binary.stop()
        self.hubble.stop()
        for server in self.kube.values():
            server.stop()

    def change(self, change: changes.Change) -> None:
        """Change the world, now."""
        with self.moment() as now:
            self.simulation.change(now, change)

    @contextmanager
    def moment(self) -> Iterator[int]:
        """Hold the mesh still to change it; the moment is now."""
        with self._lock:
            now = time.time_ns()
            self.simulation.timeline.run(now)
            yield now

    def flow(self, node: str, at: int, flow: Flow) -> None:
        """Put a flow into its node's ring."""
        self.hubble.write(node, at, flow)

    def lost(self, node: str, at: int, count: int) -> None:
        """Put a loss before the ring into it."""
        self.hubble.lose(node, at, count, "PERF_EVENT_RING_BUFFER")

    def world(self, at: int, world: World) -> None:
        """Let the Kubernetes APIs show another state."""
        del at
        for cluster, server in self.kube.items():
            server.update(objects.objects(world, cluster))

    def _carried(self, cluster: str, size: int) -> None:
        """Let nodes see what a port-forward of their API server carried."""
        with self.moment() as now:
            self.simulation.happen(now, forward_events.events(self.simulation.world, cluster, size))

    def _run(self) -> None:
        try:
            while not self._stop.wait(_TICK):
                with self._lock:
                    self.simulation.timeline.run(time.time_ns())
        finally:
            # A mesh whose time stands still answers nobody any more.
            self.on_end()

"""Driver sim: the mesh as one background process of Python, reached by its control channel."""

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from meshobs import private
from meshobs.errors import MeshobsError
from meshobs.lab import control, shell
from meshobs.lab.driver import ClusterState, LabState, Step
from meshobs.lab.mesh import Mesh, Service, Workload
from meshobs.lab.meshfile import mesh_of
from meshobs.lab.sim import routing
from meshobs.lab.traffic import Request, Traffic
from meshobs.lab.walkthrough import plan

_MODULE = "meshobs.lab.sim.process"
_START_SECONDS = 60.0


class SimDriver:
    """Stands a sim up."""

    name = "sim"

    def __init__(self, relay_binary: Path | None = None) -> None:
        self._relay_binary = relay_binary

    def plan(self, content: Mapping[str, object]) -> Sequence[Step]:
        """Return what `up` would do."""
        return plan(mesh_of(content))

    def up(self, content: Mapping[str, object], folder: Path, say: Callable[[str], None]) -> LabState:
        """Start the process and wait until it serves.

        Args:
            content: the mesh description, as `meshfile` reads it.
            folder: for its files; made if it is not there.
            say: told of each step.

        Raises:
            MeshobsError: it does not come up; its log says why.
        """
        from meshobs.lab.sim.process import KUBECONFIG, MESH, READY  # noqa: PLC0415 - the process' own names, with grpc

        mesh = mesh_of(content)
        relay = [str(self._relay_binary.absolute())] if self._relay_binary else []
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MeshobsError(
                f"the lab's folder {folder} cannot be made ({error.strerror}): name another one by MESHOBS_LAB"
            ) from error
        ready, log = folder / READY, folder / "sim.log"
        ready.unlink(missing_ok=True)
        private.write(folder / MESH, json.dumps(content).encode())
        number = shell.detach([sys.executable, "-m", _MODULE, str(folder), *relay], log)
        try:
            _await(ready, number, log)
        except BaseException:
            shell.end(number, _MODULE)
            raise
        told = json.loads(ready.read_text(encoding="utf-8"))
        for cluster in mesh.clusters:
            say(f"{cluster.name}: {len(cluster.nodes)} nodes, Relay {told['relays'][cluster.name]}")
        clusters = [ClusterState(name, address, f"sim-{name}") for name, address in told["relays"].items()]
        link = {"address": told["control"], "key": told["key"], "process": str(number)}
        if relay:
            link |= {"relay_binary": relay[0], "relay_processes": " ".join(map(str, told["processes"]))}
        return LabState(self.name, str(folder), time.time_ns(), str(folder / KUBECONFIG), clusters, link)

    def attach(self, state: LabState) -> "SimLab":
        """Return the running sim."""
        return SimLab(state)


class SimLab:
    """A sim that is up.

    Raises:
        MeshobsError: when called while its process does not answer.
    """

    def __init__(self, state: LabState) -> None:
        self.state = state

    @property
    def mesh(self) -> Mesh:
        """Return its mesh as it was described."""
        from meshobs.lab.sim.process import MESH  # noqa: PLC0415 - with grpc

        return mesh_of(json.loads((Path(self.state.folder) / MESH).read_text(encoding="utf-8")))

    @property
    def alive(self) -> bool:
        """Tell whether its process runs."""
        return shell.alive(int(self.state.control["process"]), _MODULE)

    def status(self) -> Mapping[str, Any]:
        """Return what its process says of nodes, services, pods and faults."""
        found: Mapping[str, Any] = self._ask("status")
        return found

    def routes(self) -> tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]:
        """Return each node's routes before the mesh was joined, and now."""
        return routing.routes(self.mesh, joined=False), routing.routes(self.mesh, joined=True)

    def traffic(
        self, traffic: Sequence[Traffic], meanwhile: Sequence[tuple[float, Callable[[], None]]] = ()
    ) -> list[Request]:
        """Run traffic side by side until all of it is over."""
        timers = [threading.Timer(after, action) for after, action in meanwhile]
        for timer in timers:
            timer.start()
        try:
            found = self._ask("traffic", {"traffic": [asdict(one) for one in traffic]})
        finally:
            for timer in timers:
                timer.cancel()
        return [Request(**one) for one in found]

    def endless(self, traffic: Traffic) -> None:
        """Run traffic in the background until `background` sets something else."""
        self._ask("endless", {"traffic": asdict(traffic)})

    def background(self, rate: float) -> None:
        """Let every cluster's clients call its services, so many requests a second each; 0 ends it."""
        self._ask("background", {"rate": rate})

    def annotate(self, cluster: str, namespace: str, service: str, changes: Mapping[str, str | None]) -> None:
        """Set annotations of a Service, or remove those that are None."""
        self._ask(
            "annotate", {"cluster": cluster, "namespace": namespace, "service": service, "changes": dict(changes)}
        )

    def scale(self, cluster: str, namespace: str, workload: str, replicas: int) -> None:
        """Give a workload so many pods."""
        given = {"cluster": cluster, "namespace": namespace, "workload": workload, "replicas": replicas}
        self._ask("scale", given)

    def add(self, workloads: Sequence[Workload], services: Sequence[Service]) -> None:
        """Add workloads and Services; what is there stays."""
        self._ask("add", {"workloads": [asdict(one) for one in workloads], "services": [asdict(s) for s in services]})

    def remove(self, workloads: Sequence[Workload], services: Sequence[Service]) -> None:
        """Remove what `add` added."""
        self._ask(
            "remove", {"workloads": [asdict(one) for one in workloads], "services": [asdict(s) for s in services]}
        )

    def fault(self, name: str, scope: str, *, on: bool) -> None:
        """Turn a fault on or off."""
        self._ask("fault", {"name": name, "scope": scope, "on": on})

    def down(self) -> None:
        """End the process, and the Relays that it would have left behind had it been killed."""
        link = self.state.control
        shell.end(int(link["process"]), _MODULE)
        for number in link.get("relay_processes", "").split():
            shell.end(int(number), link["relay_binary"])

    def _ask(self, what: str, given: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - any JSON
        return control.ask(self.state.control["address"], self.state.control["key"], what, given)


def _tail(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return text.strip().rpartition("\n")[2] or "empty"


def _await(ready: Path, number: int, log: Path) -> None:
    """Wait until the process says that it serves."""
    deadline = time.monotonic() + _START_SECONDS
    while not ready.exists():
        if shell.ended(number) or time.monotonic() > deadline:
            raise MeshobsError(f"the sim did not come up; {_tail(log)} (log: {log})")
        time.sleep(0.02)

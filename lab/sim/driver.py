"""Driver sim: the mesh as one background process of Python, reached by its control channel."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from meshobs import private
from meshobs.errors import MeshobsError
from meshobs.lab import shell, state
from meshobs.lab.driver import ClusterState, LabState, Step
from meshobs.lab.mesh.file import mesh_of
from meshobs.lab.plan import plan
from meshobs.lab.remote.lab import RemoteLab
from meshobs.lab.sim.datapath import node_routes

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
        state.make(folder)
        ready, log = folder / READY, folder / "sim.log"
        ready.unlink(missing_ok=True)
        private.write(folder / MESH, json.dumps(content).encode())
        number = shell.detach([sys.executable, "-m", _MODULE, str(folder), *relay], log)
        try:
            _await(ready, number, log)
        except BaseException:
            shell.end(number, _MODULE)
            raise
        ready = json.loads(ready.read_text(encoding="utf-8"))
        for cluster in mesh.clusters:
            say(f"{cluster.name}: {len(cluster.nodes)} nodes, Relay {ready['relays'][cluster.name]}")
        clusters = [ClusterState(name, address, f"sim-{name}") for name, address in ready["relays"].items()]
        link = {"address": ready["control"], "key": ready["key"], "process": str(number)}
        if relay:
            link |= {"relay_binary": relay[0], "relay_processes": " ".join(map(str, ready["processes"]))}
        return LabState(self.name, str(folder), time.time_ns(), str(folder / KUBECONFIG), clusters, link)

    def attach(self, state: LabState) -> "SimLab":
        """Return the running sim."""
        return SimLab(state)


class SimLab(RemoteLab):
    """A sim that is up."""

    @property
    def alive(self) -> bool:
        """Tell whether its process runs."""
        return shell.alive(int(self.state.control["process"]), _MODULE)

    def routes(self) -> tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]:
        """Return each node's routes before the mesh was joined, and now."""
        return node_routes.routes(self.mesh, joined=False), node_routes.routes(self.mesh, joined=True)

    def down(self) -> None:
        """End the process, and the Relays that it would have left behind had it been killed."""
        link = self.state.control
        shell.end(int(link["process"]), _MODULE)
        for number in link.get("relay_processes", "").split():
            shell.end(int(number), link["relay_binary"])


def _tail(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return text.strip().rpartition("\n")[2] or "empty"


def _await(ready: Path, number: int, log: Path) -> None:
    """Wait until the process says that it serves."""
    deadline = time.monotonic() + _START_SECONDS
    while not ready.exists():
        if shell.has_ended(number) or time.monotonic() > deadline:
            raise MeshobsError(f"the sim did not come up; {_tail(log)} (log: {log})")
        time.sleep(0.02)

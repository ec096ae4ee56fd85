"""Driver sim: the mesh as one background process of Python, reached by its control channel."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from meshobs import private
from meshobs.lab import shell, state
from meshobs.lab.driver import Capabilities, ClusterState, LabState, Step
from meshobs.lab.faults import possible_faults
from meshobs.lab.mesh.file import mesh_of
from meshobs.lab.remote import process
from meshobs.lab.remote.lab import RemoteLab
from meshobs.lab.sim.steps import steps
from meshobs.lab.state import DESCRIPTION

_MODULE = "meshobs.lab.sim.process"
_START_SECONDS = 60.0


class SimDriver:
    """Stands a sim up.

    Args:
        relay_binary: a real hubble-relay, None for the sim's own.
        show: told of the step under way; empty when it is over.
    """

    name = "sim"

    def __init__(self, relay_binary: Path | None = None, show: Callable[[str], None] = lambda _text: None) -> None:
        self._relay_binary = relay_binary
        self._show = show

    def plan(self, content: Mapping[str, object]) -> Sequence[Step]:
        """Return what `up` would do."""
        return steps(mesh_of(content), self._relay_binary)

    def up(self, content: Mapping[str, object], folder: Path, say: Callable[[str], None]) -> LabState:
        """Start the process and wait until it serves.

        Args:
            content: the mesh description, as `meshfile` reads it.
            folder: for its files; made if it is not there.
            say: told of each step.

        Raises:
            MeshobsError: it does not come up; its log says why.
        """
        mesh = mesh_of(content)
        relay = [str(self._relay_binary.absolute())] if self._relay_binary else []
        state.make(folder)
        log = folder / "sim.log"
        private.write(folder / DESCRIPTION, json.dumps(content).encode())
        number = process.start(_MODULE, folder, log, relay)
        try:
            ready = process.wait_ready(folder, number, log, say, self._show, _START_SECONDS)
        except BaseException:
            self._show("")
            shell.end(number, _MODULE)
            raise
        for cluster in mesh.clusters:
            say(f"{cluster.name}: {len(cluster.nodes)} nodes, Relay {ready['relays'][cluster.name]}")
        clusters = [ClusterState(name, address, f"sim-{name}") for name, address in ready["relays"].items()]
        link = {"address": ready["control"], "key": ready["key"], "process": str(number)}
        if relay:
            link |= {"relay_binary": relay[0], "relay_processes": " ".join(map(str, ready["processes"]))}
        return LabState(self.name, str(folder), time.time_ns(), str(folder / process.KUBECONFIG), clusters, link)

    def attach(self, state: LabState) -> "SimLab":
        """Return the running sim."""
        return SimLab(state)


class SimLab(RemoteLab):
    """A sim that is up."""

    @property
    def capabilities(self) -> Capabilities:
        """Return what its mesh can do."""
        return Capabilities(faults=possible_faults(self.mesh), specs=False)

    @property
    def alive(self) -> bool:
        """Tell whether its process runs."""
        return shell.alive(int(self.state.control["process"]), _MODULE)

    def down(self) -> None:
        """End the process, and the Relays that it would have left behind had it been killed."""
        link = self.state.control
        shell.end(int(link["process"]), _MODULE)
        for number in link.get("relay_processes", "").split():
            shell.end(int(number), link["relay_binary"])

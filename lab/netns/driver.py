"""Driver netns: a real mesh in namespaces of this machine, looked after by one background process."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from meshobs import private
from meshobs.lab import shell, state
from meshobs.lab.driver import Capabilities, ClusterState, LabState, Step
from meshobs.lab.faults import possible_faults
from meshobs.lab.mesh.file import mesh_of
from meshobs.lab.netns import requirements
from meshobs.lab.netns.host import cgroup
from meshobs.lab.netns.steps import steps
from meshobs.lab.remote import process
from meshobs.lab.remote.lab import RemoteLab
from meshobs.lab.state import DESCRIPTION

_MODULE = "meshobs.lab.netns.process"


class NetnsDriver:
    """Stands a real mesh up.

    Args:
        show: told of the step under way; empty when it is over.
    """

    name = "netns"

    def __init__(self, show: Callable[[str], None] = lambda _text: None) -> None:
        self._show = show

    def plan(self, content: Mapping[str, object]) -> Sequence[Step]:
        """Return what `up` would do with a mesh description."""
        return steps(mesh_of(content))

    def up(self, content: Mapping[str, object], folder: Path, say: Callable[[str], None]) -> LabState:
        """Start the lab's process and wait until the mesh is up; whatever ends this takes all of it down.

        Args:
            content: the mesh description, as `meshfile` reads it.
            folder: for its files; made if it is not there.
            say: told of each step.

        Raises:
            InputError: this machine lacks something.
            MeshobsError: it does not come up; its log says why.
        """
        requirements.check(mesh_of(content))
        # Whatever folder the next command is called in.
        folder = folder.absolute()
        cgroup.remove(folder)
        state.make(folder)
        for name in ("logs", "nodes"):
            shutil.rmtree(folder / name, ignore_errors=True)
        private.write(folder / DESCRIPTION, json.dumps(content).encode())
        log = folder / "netns.log"
        number = process.start(_MODULE, folder, log)
        try:
            ready = process.wait_ready(folder, number, log, say, self._show)
        except BaseException:
            self._show("")
            _end(number, folder)
            raise
        tls = {"ca": ready["tls"]["ca"], "client_cert": ready["tls"]["cert"], "client_key": ready["tls"]["key"]}
        clusters = [
            ClusterState(name, address, f"netns-{name}", **tls, server_name=f"{name}.hubble-relay.cilium.io")
            for name, address in ready["relays"].items()
        ]
        link = {"address": ready["control"], "key": ready["key"], "process": str(number)}
        return LabState(self.name, str(folder), time.time_ns(), str(folder / process.KUBECONFIG), clusters, link)

    def attach(self, state: LabState) -> "NetnsLab":
        """Return the running mesh."""
        return NetnsLab(state)


class NetnsLab(RemoteLab):
    """A mesh that is up."""

    @property
    def capabilities(self) -> Capabilities:
        """Return what its mesh can do."""
        # All nodes share this machine's clock.
        return Capabilities(faults=possible_faults(self.mesh) - {"clock-skew"})

    @property
    def alive(self) -> bool:
        """Tell whether its process runs."""
        return shell.alive(int(self.state.control["process"]), self.state.folder)

    def down(self) -> None:
        """End all that runs, also where the lab's process was killed."""
        _end(int(self.state.control["process"]), Path(self.state.folder))


def _end(number: int, folder: Path) -> None:
    """End the lab's process, whose command line names its folder, and all that it has started."""
    shell.end(number, str(folder), 0)
    cgroup.remove(folder)

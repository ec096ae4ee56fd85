"""The near side of a lab that a process of its own runs (drivers sim and netns): each call is asked there."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from meshobs.lab.driver import Capabilities, LabState
from meshobs.lab.mesh.file import mesh_of
from meshobs.lab.mesh.model import Mesh, Service, Workload
from meshobs.lab.remote import wire
from meshobs.lab.state import DESCRIPTION
from meshobs.lab.traffic import Request, Traffic, run_timed


class RemoteLab:
    """A lab that is up.

    Raises:
        MeshobsError: when called while its process does not answer.
    """

    def __init__(self, state: LabState) -> None:
        self.state = state

    @property
    def capabilities(self) -> Capabilities:
        """Return what it can do: all that there is."""
        return Capabilities()

    @property
    def mesh(self) -> Mesh:
        """Return its mesh as it was described."""
        return mesh_of(json.loads((Path(self.state.folder) / DESCRIPTION).read_text(encoding="utf-8")))

    def status(self) -> Mapping[str, Any]:
        """Return what its process says of nodes, services, pods and faults."""
        found: Mapping[str, Any] = self.ask("status")
        return found

    def routes(self) -> tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]:
        """Return each node's routes before the mesh was joined, and now."""
        before, now = self.ask("routes")
        return before, now

    def traffic(
        self, traffic: Sequence[Traffic], meanwhile: Sequence[tuple[float, Callable[[], None]]] = ()
    ) -> list[Request]:
        """Run traffic side by side until all of it is over."""
        with run_timed(meanwhile):
            found = self.ask("traffic", {"traffic": [asdict(one) for one in traffic]})
        return [Request(**one) for one in found]

    def endless(self, traffic: Traffic) -> None:
        """Run traffic in the background until `background` sets something else."""
        self.ask("endless", {"traffic": asdict(traffic)})

    def background(self, rate: float) -> None:
        """Let every cluster's clients call its services, so many requests a second each; 0 ends it."""
        self.ask("background", {"rate": rate})

    def pause(self) -> int:
        """Stop background traffic until `resume`; return how many clients that were."""
        return int(self.ask("pause"))

    def resume(self) -> None:
        """Let the background traffic that was paused go on."""
        self.ask("resume")

    def annotate(self, cluster: str, namespace: str, service: str, changes: Mapping[str, str | None]) -> None:
        """Set annotations of a Service, or remove those that are None."""
        self.ask("annotate", {"cluster": cluster, "namespace": namespace, "service": service, "changes": dict(changes)})

    def scale(self, cluster: str, namespace: str, workload: str, replicas: int) -> None:
        """Give a workload so many pods."""
        given = {"cluster": cluster, "namespace": namespace, "workload": workload, "replicas": replicas}
        self.ask("scale", given)

    def add(self, workloads: Sequence[Workload], services: Sequence[Service]) -> None:
        """Add workloads and Services; what is there stays."""
        self.ask("add", {"workloads": [asdict(one) for one in workloads], "services": [asdict(s) for s in services]})

    def remove(self, workloads: Sequence[Workload], services: Sequence[Service]) -> None:
        """Remove what `add` added."""
        self.ask("remove", {"workloads": [asdict(one) for one in workloads], "services": [asdict(s) for s in services]})

    def fault(self, name: str, scope: str, *, on: bool) -> None:
        """Turn a fault on or off."""
        self.ask("fault", {"name": name, "scope": scope, "on": on})

    def ask(self, what: str, given: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - any JSON
        """Let the process do something; return its result."""
        return wire.ask(self.state.control["address"], self.state.control["key"], what, given)

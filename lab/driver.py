"""What every driver can do, and which one is taken where none is named."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from meshobs.lab import shell
from meshobs.lab.faults import FAULTS
from meshobs.lab.mesh.model import Mesh, Service, Workload
from meshobs.lab.traffic import PROTOCOLS, Request, Traffic

DRIVERS = ("kind", "netns", "sim")
# A container engine that hangs is none.
_ENGINE_SECONDS = 5.0


@dataclass(frozen=True)
class Step:
    """One step of a plan.

    Attributes:
        key: its name among the steps of a plan.
        title: what is done, for people.
        source: number in the walkthrough.
        detail: what exactly, a line each.
    """

    key: str
    title: str
    source: str
    detail: Sequence[str] = ()


@dataclass(frozen=True)
class ClusterState:
    """Where a cluster of a running lab is reached.

    Attributes:
        relay: HOST:PORT; empty where it is reached through the context.
        context: of the lab's kubeconfig.
        ca, client_cert, client_key: files for TLS with the Relay; empty for plain text.
        server_name: that the Relay's certificate carries.
    """

    name: str
    relay: str
    context: str
    ca: str = ""
    client_cert: str = ""
    client_key: str = ""
    server_name: str = ""


@dataclass(frozen=True)
class LabState:
    """A running lab, as its state file records it.

    Attributes:
        folder: all that the lab wrote.
        kubeconfig: its own, never the user's.
        control: what the driver needs to reach it again.
        whole: False while it is built, or where that broke off.
    """

    driver: str
    folder: str
    started: int
    kubeconfig: str
    clusters: Sequence[ClusterState]
    control: Mapping[str, str] = field(default_factory=dict)
    whole: bool = True


@dataclass(frozen=True)
class Capabilities:
    """What a lab can do of what phases of experiments ask for.

    Attributes:
        protocols: that its clients and servers speak.
        faults: names of those that it can make.
        specs: it has Services with more fields of their spec, and pods that drain.
    """

    protocols: frozenset[str] = frozenset(PROTOCOLS)
    faults: frozenset[str] = frozenset(FAULTS)
    specs: bool = True


class Stage(Protocol):
    """What experiments need of a lab."""

    @property
    def capabilities(self) -> Capabilities:
        """Return what it can do."""
        ...

    @property
    def mesh(self) -> Mesh:
        """Return the mesh as it was described."""
        ...

    def traffic(
        self, traffic: Sequence[Traffic], meanwhile: Sequence[tuple[float, Callable[[], None]]] = ()
    ) -> list[Request]:
        """Run traffic side by side until all of it is over.

        Args:
            traffic: of each client.
            meanwhile: what to do after so many seconds.
        """
        ...

    def annotate(self, cluster: str, namespace: str, service: str, changes: Mapping[str, str | None]) -> None:
        """Set annotations of a Service, or remove those that are None."""
        ...

    def scale(self, cluster: str, namespace: str, workload: str, replicas: int) -> None:
        """Give a workload so many pods."""
        ...

    def add(self, workloads: Sequence[Workload], services: Sequence[Service]) -> None:
        """Add workloads and Services, what is there stays."""
        ...

    def remove(self, workloads: Sequence[Workload], services: Sequence[Service]) -> None:
        """Remove what `add` added."""
        ...

    def fault(self, name: str, scope: str, *, on: bool) -> None:
        """Turn a fault on or off; `scope` is a cluster or node, empty for the fault's own choice."""
        ...


class Lab(Stage, Protocol):
    """A lab that is up."""

    state: LabState

    @property
    def alive(self) -> bool:
        """Tell whether it still runs."""
        ...

    def status(self) -> Mapping[str, Any]:
        """Return nodes, services and pods, a list of rows each, and the faults that are on."""
        ...

    def routes(self) -> tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]:
        """Return each node's routes before the mesh was joined, and now."""
        ...

    def endless(self, traffic: Traffic) -> None:
        """Run traffic in the background until `background` sets something else; its count does not matter."""
        ...

    def background(self, rate: float) -> None:
        """Let every cluster's clients call its services, so many requests a second each; 0 ends it."""
        ...

    def pause(self) -> int:
        """Stop background traffic until `resume`; return how many clients that were."""
        ...

    def resume(self) -> None:
        """Let the background traffic that was paused go on; without any, do nothing."""
        ...

    def down(self) -> None:
        """End it and leave nothing behind."""
        ...


@contextmanager
def background_paused(lab: Lab, say: Callable[[str], None]) -> Iterator[None]:
    """Let no background traffic run meanwhile: experiments count calls. It goes on afterwards, whatever happens."""
    try:
        if clients := lab.pause():
            say(f"background traffic of {clients} clients is paused")
        yield
    finally:
        lab.resume()


class Driver(Protocol):
    """A way to stand a mesh up."""

    name: str

    def plan(self, content: Mapping[str, object]) -> Sequence[Step]:
        """Return what `up` would do with a mesh description."""
        ...

    def up(self, content: Mapping[str, object], folder: Path, say: Callable[[str], None]) -> LabState:
        """Stand the mesh of a description up; what it writes lies in a folder."""
        ...

    def attach(self, state: LabState) -> Lab:
        """Return a lab that is up."""
        ...


def choose_driver(name: str | None) -> tuple[str, str]:
    """Return the driver to use and why, in a few words."""
    if name:
        return name, "as asked"
    if shell.run(("docker", "info"), _ENGINE_SECONDS)[0]:
        return "sim", "no Docker answers here (podman: `driver` kind, `engine` podman)"
    if missing := [tool for tool in ("kind", "cilium", "kubectl") if not shutil.which(tool)]:
        return "sim", f"docker is here, but not {', '.join(missing)}"
    return "kind", "docker, kind, cilium and kubectl are here"

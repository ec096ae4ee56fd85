"""The far side of `RemoteLab`: what the process of a lab is asked to do, once for all drivers that have one."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any, Protocol

from meshobs.errors import MeshobsError
from meshobs.lab.mesh.model import Service, Workload
from meshobs.lab.remote.wire import Action
from meshobs.lab.traffic import Request, Traffic

# Told how many requests are over; False when nobody waits for them any more.
Progress = Callable[[Any], bool]
# How often traffic tells how far it is, seconds.
_TELL = 0.1


class ClientRun(Protocol):
    """Traffic of one client that runs."""

    @property
    def requests(self) -> Sequence[Request]:
        """Return those that are over."""
        ...

    @property
    def done(self) -> bool:
        """Tell whether all of them are over."""
        ...

    def stop(self) -> None:
        """End it now."""
        ...


class LabService(ABC):
    """Answers for one running mesh.

    Attributes:
        end: set when the process is to end.
    """

    def __init__(self) -> None:
        self.end = threading.Event()
        self._background: list[tuple[Traffic, ClientRun]] = []
        self._paused: list[Traffic] = []

    @property
    def actions(self) -> Mapping[str, Action]:
        """Return what can be asked, by name."""
        return {
            "status": lambda _given, _progress: self._status(),
            "routes": lambda _given, _progress: self.routes(),
            "traffic": self._traffic,
            "endless": lambda given, _progress: self._start_background([Traffic(**given["traffic"])]),
            "background": lambda given, _progress: self._set_background(float(given["rate"])),
            "pause": lambda _given, _progress: self._pause(),
            "resume": lambda _given, _progress: self._resume(),
            "annotate": lambda given, _progress: self.annotate(**given),
            "scale": lambda given, _progress: self.scale(**given),
            "add": lambda given, _progress: self.add(*_parse_added(given)),
            "remove": lambda given, _progress: self.remove(*_parse_added(given)),
            "fault": lambda given, _progress: self.fault(**given),
            "down": lambda _given, _progress: self.end.set(),
        }

    # What each driver does in its own way; `driver.Lab` says what each of these means.

    @abstractmethod
    def status(self) -> Mapping[str, Any]:
        """Return nodes, services and pods, a list of rows each, and the faults that are on."""

    @abstractmethod
    def routes(self) -> tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]:
        """Return each node's routes before the mesh was joined, and now."""

    @abstractmethod
    def start_client(self, traffic: Traffic, *, endless: bool = False) -> ClientRun:
        """Start a client; of an endless one nobody asks what it saw."""

    @abstractmethod
    def background_traffic(self, rate: float) -> Sequence[Traffic]:
        """Return what lets every cluster's client call its services, so many requests a second each."""

    @abstractmethod
    def annotate(self, cluster: str, namespace: str, service: str, changes: Mapping[str, str | None]) -> None:
        """Set annotations of a Service, or remove those that are None."""

    @abstractmethod
    def scale(self, cluster: str, namespace: str, workload: str, replicas: int) -> None:
        """Give a workload so many pods."""

    @abstractmethod
    def add(self, workloads: Sequence[Workload], services: Sequence[Service]) -> None:
        """Add workloads and Services; what is there stays."""

    @abstractmethod
    def remove(self, workloads: Sequence[Workload], services: Sequence[Service]) -> None:
        """Remove what `add` added."""

    @abstractmethod
    def fault(self, name: str, scope: str, *, on: bool) -> None:
        """Turn a fault on or off."""

    def together(self) -> AbstractContextManager[object]:
        """Let clients that are started inside begin together."""
        return nullcontext()

    def complete(self, requests: list[Request]) -> list[Request]:
        """Return requests with what only servers know of them."""
        return requests

    # What is the same everywhere.

    def run(self, traffic: Sequence[Traffic], progress: Progress = lambda _count: True) -> list[Request]:
        """Run traffic side by side until all of it is over, or nobody waits for it any more.

        Raises:
            MeshobsError: the lab ended meanwhile.
        """
        runs: list[ClientRun] = []
        try:
            with self.together():
                for one in traffic:
                    runs.append(self.start_client(one))  # noqa: PERF401 - what began is stopped
            while not all(run.done for run in runs):
                if not progress(sum(len(run.requests) for run in runs)):
                    break
                if self.end.wait(_TELL):
                    raise MeshobsError("the lab ended in mid-traffic; its log says why, if nobody ended it")
        finally:
            for run in runs:
                run.stop()
        requests = [request for run in runs for request in run.requests]
        return self.complete(sorted(requests, key=lambda request: request.time))

    def _status(self) -> Mapping[str, Any]:
        return {**self.status(), "background": len(self._background), "paused": len(self._paused)}

    def _traffic(self, given: Mapping[str, Any], progress: Progress) -> list[Mapping[str, Any]]:
        wanted = [Traffic(**one) for one in given["traffic"]]
        return [asdict(request) for request in self.run(wanted, progress)]

    def _start_background(self, traffic: Sequence[Traffic]) -> None:
        with self.together():
            for one in traffic:
                self._background.append((one, self.start_client(one, endless=True)))

    def _set_background(self, rate: float) -> None:
        self._pause()
        self._paused.clear()
        if rate:
            self._start_background(self.background_traffic(rate))

    def _pause(self) -> int:
        with self.together():
            for _, run in self._background:
                run.stop()
        self._paused += [traffic for traffic, _ in self._background]
        self._background.clear()
        return len(self._paused)

    def _resume(self) -> None:
        while self._paused:
            self._start_background([self._paused.pop()])


def _parse_added(given: Mapping[str, Any]) -> tuple[list[Workload], list[Service]]:
    """Return what `add` and `remove` sent; JSON has no tuples."""
    return [Workload(**_with_tuple(one)) for one in given["workloads"]], [
        Service(**_with_tuple(one)) for one in given["services"]
    ]


def _with_tuple(given: Mapping[str, Any]) -> dict[str, Any]:
    return {**given, "clusters": tuple(given["clusters"])}

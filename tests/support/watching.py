"""Watches of a Kubernetes API as tests look at them."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import urllib3

from meshobs.collector.kube.cluster import KubeCluster
from meshobs.collector.kube.sighting import Sighting
from meshobs.collector.kube.watch import ClusterWatch
from support.api_server import Object
from support.relay_nodes import wait_until

# As Cilium's, without its schema.
CRD: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "ciliumnodes.cilium.io"},
    "spec": {
        "group": "cilium.io",
        "scope": "Cluster",
        "names": {"kind": "CiliumNode", "plural": "ciliumnodes", "singular": "ciliumnode"},
        "versions": [
            {
                "name": "v2",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


class Watched:
    """What a watch saw and said."""

    def __init__(self, cluster: KubeCluster) -> None:
        self.seen: list[Sighting] = []
        self.said: list[str] = []
        self.began = time.time_ns()
        self.stop = threading.Event()
        self.watch = ClusterWatch(cluster, "west", self._put, self.said.append, self.stop)
        self._lock = threading.Lock()

    def _put(self, sightings: list[Sighting]) -> None:
        with self._lock:
            self.seen += sightings

    def of(self, name: str, kind: str = "Service") -> list[Sighting]:
        """Return what was seen of an object, in the order of receipt."""
        return [one for one in list(self.seen) if (one.state.kind, one.state.name) == (kind, name)]

    def next_of(self, name: str, count: int, kind: str = "Service") -> Sighting:
        """Wait for the sighting of that number and return it."""
        wait_until(lambda: len(self.of(name, kind)) >= count, f"no sighting {count} of {kind} {name}")
        return self.of(name, kind)[count - 1]


@contextmanager
def watching(cluster: KubeCluster, state: str = "watching") -> Iterator[Watched]:
    """Watch until the end of the block; it is synced from the start on, and ends within a second."""
    watched = Watched(cluster)
    watched.watch.start()
    try:
        wait_until(lambda: watched.watch.synced and watched.watch.state == state)
        yield watched
    finally:
        began = time.monotonic()
        watched.watch.end()
        took = time.monotonic() - began
    assert took < 1
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("watch west")])


class Forging(KubeCluster):
    """A cluster that asks for something else once.

    Attributes:
        lists: how often Services were listed from the start.
    """

    def __init__(self, *arguments: Any, forge: Callable[[dict[str, str]], bool], **options: Any) -> None:
        self.lists = 0
        self.forge = forge
        super().__init__(*arguments, **options)

    def open(
        self, path: str, query: Mapping[str, str] | None = None, read_seconds: float = 30.0
    ) -> urllib3.BaseHTTPResponse:
        asked = dict(query or {})
        if path == "/api/v1/services":
            if self.forge(asked):
                self.forge = lambda _asked: False
            self.lists += not asked.keys() & {"watch", "continue"}
        return super().open(path, asked, read_seconds)

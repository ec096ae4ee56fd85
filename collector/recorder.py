"""Passes on, unread, what Relays and Kubernetes APIs send: for recordings, which must hold what really came."""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from meshobs.collector.hubble.relay import Relay, Stream
from meshobs.collector.kube.api import KubeError
from meshobs.collector.kube.cluster import SERVICES, KubeCluster
from meshobs.collector.kube.document import Json, items, text
from meshobs.collector.kube.resource import Resource
from meshobs.collector.kube.watch import RESOURCES, SILENCE_SECONDS, WATCH_SECONDS, read_lines
from meshobs.pb.flow.flow_pb2 import FlowFilter
from meshobs.pb.observer.observer_pb2 import GetFlowsRequest, GetFlowsResponse

# What a recording lists at its end, beside what it watches.
_LISTED = (
    *RESOURCES,
    Resource("", "v1", "pods", "Pod"),
    Resource("cilium.io", "v2", "ciliumendpoints", "CiliumEndpoint"),
)
# Which of them tell of changes that reports ask for.
_WATCHED = (SERVICES, RESOURCES[1])
_TAIL_SECONDS = 30.0
_AGAIN_SECONDS = 0.5

Flow = Callable[[str, bytes], None]
# Cluster, resource, time of receipt in nanoseconds, type, object.
Event = Callable[[str, str, int, str, Mapping[str, Any]], None]


class Recorder:
    """Records from `start` to `end`.

    Args:
        relays: by cluster.
        clusters: Kubernetes APIs, by cluster.
        excluded: flows to leave out.
        flow: takes a message of a cluster's Relay, from any thread.
        event: takes an event of a watch, from any thread.
    """

    def __init__(
        self,
        relays: Mapping[str, Relay],
        clusters: Mapping[str, KubeCluster],
        excluded: Sequence[FlowFilter],
        flow: Flow,
        event: Event,
    ) -> None:
        self._relays = relays
        self._clusters = clusters
        self._excluded = excluded
        self._flow = flow
        self._event = event
        self._stop = threading.Event()
        self._streams: list[Stream] = []
        self._seen: dict[str, set[str]] = {name: set() for name in relays}
        self._threads: list[threading.Thread] = []
        self._answers: dict[tuple[str, str], Any] = {}
        self._began = time.time_ns()

    def start(self) -> None:
        """Begin: each API's objects have been listed when this returns, flows come from then on.

        Raises:
            MeshobsError: a Relay or an API does not answer.
        """
        for name, cluster in self._clusters.items():
            for resource in _WATCHED:
                version = self._list(name, cluster, resource)
                self._run(self._watch, name, cluster, resource, version)
        self._began = time.time_ns()
        for name, relay in self._relays.items():
            request = GetFlowsRequest(follow=True, blacklist=self._excluded)
            request.since.FromNanoseconds(self._began)
            stream = relay.flows(request)
            self._streams.append(stream)
            self._run(self._follow, name, stream)

    def end(self) -> None:
        """End, and fetch what Relays held back: they sort the last flows of a quiet stream until more come."""
        until = time.time_ns()
        self._stop.set()
        for stream in self._streams:
            stream.close()
        for answer in list(self._answers.values()):
            with suppress(ValueError, RuntimeError, OSError):
                answer.shutdown()
        for thread in self._threads:
            thread.join(_AGAIN_SECONDS)
        for name, relay in self._relays.items():
            request = GetFlowsRequest(blacklist=self._excluded)
            request.since.FromNanoseconds(max(self._began, until - int(_TAIL_SECONDS * 1e9)))
            request.until.FromNanoseconds(until)
            for messages in relay.flows(request).messages():
                for raw in messages:
                    if self._fresh(name, raw):
                        self._flow(name, raw)

    def objects(self) -> dict[str, list[Mapping[str, Any]]]:
        """Return all objects that there are, by cluster."""
        found: dict[str, list[Mapping[str, Any]]] = {}
        for name, cluster in self._clusters.items():
            found[name] = []
            for resource in _LISTED:
                # A cluster may lack a kind.
                with suppress(KubeError):
                    found[name] += [_whole(one, resource) for one in items(cluster.get(resource.path()), "items")]
        return found

    def _run(self, action: Callable[..., None], *given: object) -> None:
        thread = threading.Thread(target=action, args=given, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _follow(self, name: str, stream: Stream) -> None:
        # Broken off by `end`: whatever the socket says then is no news.
        with suppress(Exception):
            for messages in stream.messages():
                for raw in messages:
                    # A Relay that has a node again sends its flows again: that proves that none is missing.
                    self._fresh(name, raw)
                    self._flow(name, raw)

    def _fresh(self, name: str, raw: bytes) -> bool:
        """Tell whether a message comes for the first time, as far as it is a flow."""
        message = GetFlowsResponse.FromString(raw)
        if not message.HasField("flow"):
            return True
        key = f"{message.node_name} {message.flow.uuid}"
        fresh = key not in self._seen[name]
        self._seen[name].add(key)
        return fresh

    def _list(self, name: str, cluster: KubeCluster, resource: Resource) -> str:
        page = cluster.get(resource.path())
        moment = time.time_ns()
        for one in items(page, "items"):
            self._event(name, resource.plural, moment, "ADDED", _whole(one, resource))
        return text(page, "metadata", "resourceVersion")

    def _watch(self, name: str, cluster: KubeCluster, resource: Resource, version: str) -> None:
        while not self._stop.is_set():
            query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS)}
            try:
                answer = cluster.open(resource.path(), query, SILENCE_SECONDS)
            except KubeError:
                self._stop.wait(_AGAIN_SECONDS)
                continue
            self._answers[name, resource.plural] = answer
            # A watch that breaks, in whatever way, goes on from the last version.
            with suppress(Exception):
                for line in (line for lines in read_lines(answer) for line in lines):
                    event: Json = json.loads(line)
                    if text(event, "type") == "ERROR":
                        version = self._list(name, cluster, resource)
                        break
                    item: Any = event["object"] if isinstance(event, dict) else {}
                    version = text(item, "metadata", "resourceVersion") or version
                    self._event(name, resource.plural, time.time_ns(), text(event, "type"), item)
            answer.close()


def _whole(item: Json, resource: Resource) -> Mapping[str, Any]:
    """Return an item of a list with what lists leave out."""
    version = f"{resource.group}/{resource.version}".removeprefix("/")
    return {"apiVersion": version, "kind": resource.kind, **(item if isinstance(item, Mapping) else {})}

"""Writes a recording folder: flows as a Relay sent them, Kubernetes objects and their changes, and the ground truth.

CLUSTER.bin.gz                  messages of a Relay, each after its length (4 bytes, big-endian)
watch-CLUSTER-RESOURCE.jsonl    events of a watch with the time they were received
k8s-CLUSTER.json                objects at the end
relay-CLUSTER.json              what the Relay said of itself and its nodes
truth.json                      the ground truth
"""

import gzip
import json
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self, TextIO

from meshobs.errors import InputError
from meshobs.times import rfc3339

# Services are watched as `kubectl get svc` calls them.
_SHORT = {"services": "svc"}
# Of gzip: half the time of its default for a tenth more bytes.
_LEVEL = 4


class Recording:
    """A recording that is being made. Safe from any thread; nothing may come after `close`.

    Args:
        folder: made where it is not there; must hold nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._flows: dict[str, gzip.GzipFile] = {}
        self._events: dict[tuple[str, str], TextIO] = {}

    def make(self) -> Self:
        """Make the folder.

        Raises:
            InputError: it holds something, or cannot be written.
        """
        folder = self.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            taken = any(folder.iterdir())
        except OSError as error:
            raise InputError(
                f"no recording can be written to {folder} ({error.strerror}): name another folder"
            ) from error
        if taken:
            raise InputError(f"{folder} is not empty: name a new folder for the recording")
        return self

    def flow(self, cluster: str, raw: bytes) -> None:
        """Append a message (GetFlowsResponse) that a cluster's Relay sent."""
        with self._lock:
            if cluster not in self._flows:
                # Without a time inside: the same messages make the same file.
                self._flows[cluster] = gzip.GzipFile(self.folder / f"{cluster}.bin.gz", "wb", _LEVEL, mtime=0)
            self._flows[cluster].write(len(raw).to_bytes(4, "big") + raw)

    def event(self, cluster: str, resource: str, received_ns: int, type_: str, item: Mapping[str, Any]) -> None:
        """Append an event of a watch.

        Args:
            cluster: whose.
            resource: of what, in plural.
            received_ns: when, in nanoseconds.
            type_: ADDED, MODIFIED or DELETED.
            item: the object.
        """
        received = rfc3339(received_ns)[:26] + "Z"  # microseconds, as recordings of real meshes have them
        line = json.dumps(
            {"received": received, "type": type_, "object": _sort_keys(item)}, separators=(",", ":"), ensure_ascii=False
        )
        with self._lock:
            key = cluster, resource
            if key not in self._events:
                path = self.folder / f"watch-{cluster}-{_SHORT.get(resource, resource)}.jsonl"
                self._events[key] = path.open("w", encoding="utf-8")
            self._events[key].write(f"{line}\n")

    def close(
        self,
        objects: Mapping[str, Iterable[Mapping[str, Any]]],
        relays: Mapping[str, Mapping[str, Any]],
        truth: Mapping[str, Any],
    ) -> None:
        """Write the rest.

        Args:
            objects: by cluster, all there are at the end.
            relays: by cluster, what its Relay says: ServerStatus, GetNodes, GetNamespaces, 64-bit numbers as texts.
            truth: what really happened, with the keys of other recordings' truth.json.
        """
        with self._lock:
            for flows in self._flows.values():
                flows.close()
            for events in self._events.values():
                events.close()
            for cluster, items in objects.items():
                listed = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}}
                self._write(f"k8s-{cluster}.json", {**listed, "items": [_sort_keys(item) for item in items]})
            for cluster, relay in relays.items():
                self._write(f"relay-{cluster}.json", relay)
            self._write("truth.json", truth)

    def _write(self, name: str, content: object) -> None:
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (self.folder / name).write_text(f"{text}\n", encoding="utf-8")


def _sort_keys(value: object) -> object:
    """Return a value with its keys in order, as Kubernetes writes them."""
    loaded: object = json.loads(json.dumps(value, sort_keys=True))
    return loaded

"""The Kubernetes side of a run: watches of each cluster -> states in the store -> history, made anew now and then."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import Full, Queue
from typing import Any

from meshobs.collector.kube.cluster import ClusterInfo, KubeCluster
from meshobs.collector.kube.sighting import BEFORE_NS, Sighting
from meshobs.collector.kube.watch import ClusterWatch
from meshobs.collector.write import facts
from meshobs.store import Store

# The history is made anew at most so often, and never takes more than a twentieth of the time.
_REMAKE_SECONDS = 5.0
_REMAKE_SHARE = 20
_QUIET_SECONDS = 20.0


@dataclass(frozen=True)
class SightingBatch:
    """States of objects of a cluster, as its watch put them."""

    cluster: str
    sightings: Sequence[Sighting]


class Watchers:
    """All clusters of a run. Only the thread that writes may call anything here.

    Args:
        store: opened for writing.
        clusters: name -> API and what it says of itself.
        queue: of the run; watches put what they see there, as a `Seen`.
        say: told what the user should know.
        clock: the collector's, in nanoseconds.
    """

    def __init__(
        self,
        store: Store,
        clusters: Mapping[str, tuple[KubeCluster, ClusterInfo]],
        queue: "Queue[Any]",
        say: Callable[[str], None],
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._clusters = clusters
        self._queue = queue
        self._clock = clock
        self._over = threading.Event()
        self._watches = {
            name: ClusterWatch(cluster, name, self._putter(name), say, self._over, clock)
            for name, (cluster, _) in clusters.items()
        }
        self._started = clock()
        self._seen: dict[str, set[str]] = {name: set() for name in clusters}
        self._changed = False
        self._due = 0.0
        # When watching ended, and which clusters were watched then.
        self._until: tuple[int, list[str]] | None = None

    def start(self) -> None:
        """Begin to list and watch."""
        for name, (_, info) in self._clusters.items():
            if info.state:
                self.take(SightingBatch(name, [Sighting(name, info.state, self._started - BEFORE_NS, self._started)]))
        for watch in self._watches.values():
            watch.start()

    def end(self) -> None:
        """Stop watching; what was put stays in the queue."""
        if not self._over.is_set():
            self._until = (self._clock(), self._current)
            self._over.set()
            for watch in self._watches.values():
                watch.end()

    @property
    def states(self) -> dict[str, str]:
        """Return how each watch stands, in a word or two."""
        return {name: watch.state for name, watch in self._watches.items()}

    @property
    def synced(self) -> bool:
        """Tell whether everything that may be listed was listed once."""
        return all(watch.synced for watch in self._watches.values())

    def take(self, seen: SightingBatch) -> None:
        """Store what was seen."""
        if seen.cluster in self._seen:
            states = (sighting.state for sighting in seen.sightings)
            self._seen[seen.cluster] |= {f"{state.kind}/{state.namespace}/{state.name}" for state in states}
        facts.add_sightings(self._store, seen.sightings, first_list=seen.cluster in self._seen)
        self._changed = True

    @property
    def due(self) -> bool:
        """Tell whether to refresh: soon after a change, else now and then."""
        waited = time.monotonic() - self._due
        return bool(self._clusters) and waited >= (0 if self._changed else _QUIET_SECONDS)

    def refresh(self) -> None:
        """Make the history anew if anything changed; outside of transactions."""
        if not self._clusters:
            return
        now = time.monotonic()
        with self._store.transaction():
            self._note()
            if self._changed:
                facts.remake_history(self._store)
                self._changed = False
        took = time.monotonic() - now
        self._due = time.monotonic() + max(_REMAKE_SECONDS, took * _REMAKE_SHARE)

    def _note(self) -> None:
        """Tell of objects that are gone since the last run, once; from then on, until when each cluster is watched."""
        for name, watch in self._watches.items():
            if watch.synced and self._queue.empty() and name in self._seen:
                seen = self._seen.pop(name)
                facts.add_missing(self._store, name, watch.listed, seen, self._started)
                self._changed = True
        at, current = self._until or (self._clock(), self._current)
        facts.add_watched(self._store, [name for name in current if name not in self._seen], at)

    @property
    def _current(self) -> list[str]:
        return [name for name, watch in self._watches.items() if watch.current]

    def _putter(self, name: str) -> Callable[[list[Sighting]], None]:
        def put(sightings: list[Sighting]) -> None:
            while sightings and not self._over.is_set():
                try:
                    self._queue.put(SightingBatch(name, sightings), timeout=1)
                except Full:
                    continue
                return

        return put

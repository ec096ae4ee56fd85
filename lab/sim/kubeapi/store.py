"""The objects of one cluster with their versions and history, as etcd and a watch cache keep them."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile

from meshobs.lab.sim.kubeapi.objects.maker import Json, Key
from meshobs.times import rfc3339

# Changes that are kept for watches and pages that began before them.
_KEPT = 8192
# What of an object is no part of what was asked for, so that a change of it is no new generation.
_NO_GENERATION = {"metadata", "status"}


class GoneError(Exception):
    """History of that version is not kept any more.

    Attributes:
        version: the oldest that is.
    """

    def __init__(self, version: int) -> None:
        super().__init__(str(version))
        self.version = version


@dataclass(frozen=True)
class StoredChange:
    """One change.

    Attributes:
        version: of the change.
        key: of the object.
        old: the object before, None for a new one.
        new: the object after, None for one that is gone.
        last: what watchers are shown.
    """

    version: int
    key: Key
    old: Json | None
    new: Json | None
    last: Json

    @property
    def type(self) -> str:
        """Return what a watch calls it."""
        return "DELETED" if self.new is None else "ADDED" if self.old is None else "MODIFIED"


class KubeStore:
    """Objects by key. Safe from any thread; what is taken out must not be changed.

    Args:
        clock: the server's, in nanoseconds.
        on_change: called for each change, under the lock and in order.
    """

    def __init__(
        self, clock: Callable[[], int], on_change: Callable[[StoredChange], None] = lambda _change: None
    ) -> None:
        self.clock = clock
        self._on_change = on_change
        self._changed = threading.Condition(threading.RLock())
        self._given: dict[Key, Json] = {}
        self._held: dict[Key, Json] = {}
        self._log: deque[StoredChange] = deque()
        self._version = 1
        self._oldest = 1
        self._cuts = 0

    @property
    def version(self) -> int:
        """Return the version of all of it together."""
        with self._changed:
            return self._version

    def update(self, objects: Mapping[Key, Json]) -> None:
        """Take over what objects there are now; each that differs gets a new version."""
        with self._changed:
            for key in sorted(self._given.keys() - objects.keys()):
                self._put(key, None)
            for key, given in objects.items():
                self._put(key, given)
            self._changed.notify_all()

    def annotate(self, key: Key, annotations: Mapping[str, str]) -> None:
        """Give an object other annotations, unless it has them already; nothing happens to one that is gone."""
        with self._changed:
            given = self._given.get(key)
            if given is not None:
                metadata = {name: value for name, value in given["metadata"].items() if name != "annotations"}
                metadata |= {"annotations": dict(annotations)} if annotations else {}
                self._put(key, {**given, "metadata": metadata})
                self._changed.notify_all()

    def get(self, key: Key) -> Json | None:
        """Return an object, None if there is none."""
        with self._changed:
            return self._held.get(key)

    def objects(self) -> dict[Key, Json]:
        """Return all objects as they are served."""
        with self._changed:
            return dict(self._held)

    def list_objects(self, resource: str, version: int | None = None) -> tuple[int, list[tuple[Key, Json]]]:
        """Return a version and what objects of a resource there were then, in the order of their keys.

        Args:
            resource: which.
            version: None for now.

        Raises:
            GoneError: that is no longer known.
        """
        with self._changed:
            found = {key: held for key, held in self._held.items() if key.resource == resource}
            if version is None:
                return self._version, sorted(found.items(), key=lambda pair: pair[0])
            self._check(version)
            for change in reversed(self._log):
                if change.version <= version:
                    break
                if change.key.resource == resource:
                    found.pop(change.key, None)
                    if change.old is not None:
                        found[change.key] = change.old
            return version, sorted(found.items(), key=lambda pair: pair[0])

    def after(self, resource: str, version: int, seconds: float) -> tuple[int, list[StoredChange]]:
        """Wait for changes of a resource; return up to which version they reach, and none if time is up.

        Raises:
            GoneError: not all changes since that version are known.
        """
        with self._changed:
            cuts = self._cuts
            self._changed.wait_for(lambda: self._version > version or cuts != self._cuts, seconds)
            self._check(version)
            newer = list(takewhile(lambda change: change.version > version, reversed(self._log)))
            return self._version, [change for change in reversed(newer) if change.key.resource == resource]

    def compact(self) -> None:
        """Forget all history."""
        with self._changed:
            self._log.clear()
            self._oldest = self._version

    def wake(self) -> None:
        """End the wait of everybody who waits for changes."""
        with self._changed:
            self._cuts += 1
            self._changed.notify_all()

    def _check(self, version: int) -> None:
        # A version that is still to come is of an earlier run.
        if not self._oldest <= version <= self._version:
            raise GoneError(self._oldest if version < self._oldest else self._version)

    def _put(self, key: Key, given: Json | None) -> None:
        if self._given.get(key) == given:
            return
        old = self._held.get(key)
        self._version += 1
        if given is None:
            last = _stamp(old or {}, {"resourceVersion": str(self._version)})
            self._given.pop(key)
            self._held.pop(key)
            change = StoredChange(self._version, key, old, None, last)
        else:
            new = self._complete(old, given)
            self._given[key], self._held[key] = given, new
            change = StoredChange(self._version, key, old, new, new)
        self._log.append(change)
        while len(self._log) > _KEPT:
            self._oldest = self._log.popleft().version
        self._on_change(change)

    def _complete(self, old: Json | None, given: Json) -> Json:
        """Return an object with what a server adds: version, times, generation."""
        before: Json = old["metadata"] if old else {}
        now = rfc3339(self.clock())[:19] + "Z"
        stamps: Json = {"resourceVersion": str(self._version)}
        if "creationTimestamp" not in given["metadata"]:
            stamps["creationTimestamp"] = before.get("creationTimestamp", now)
        if "deletionGracePeriodSeconds" in given["metadata"]:
            stamps["deletionTimestamp"] = before.get("deletionTimestamp", now)
        if old and "generation" in given["metadata"]:
            stamps["generation"] = before["generation"] + (_desired(old) != _desired(given))
        return _stamp(given, stamps)


def _stamp(item: Json, stamps: Json) -> Json:
    return {**item, "metadata": {**item["metadata"], **stamps}}


def _desired(item: Json) -> Json:
    return {name: value for name, value in item.items() if name not in _NO_GENERATION}

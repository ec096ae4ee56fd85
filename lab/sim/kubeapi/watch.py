"""One watch of an API server: what it tells its client, in order, until it ends."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus

from meshobs.lab.sim.kubeapi import kinds, printing
from meshobs.lab.sim.kubeapi.kinds import ApiKind
from meshobs.lab.sim.kubeapi.objects.maker import Json
from meshobs.lab.sim.kubeapi.request import Selection
from meshobs.lab.sim.kubeapi.store import GoneError, KubeStore, StoredChange

# A real server sends a bookmark each minute.
_BOOKMARK_SECONDS = 60.0
# How often a watch looks whether its client is still there.
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class ServedWatch:
    """A watch.

    Attributes:
        api: of what kind.
        chosen: tells which objects.
        version: changes after it; None to begin with all objects there are.
        seconds: how long.
        bookmarks: whether to tell of versions without a change.
        tables: whether each object comes as a table of one row.
    """

    store: KubeStore
    api: ApiKind
    chosen: Selection
    version: int | None
    seconds: float
    bookmarks: bool
    tables: bool = False

    def events(self, gone: Callable[[], bool]) -> Iterator[Json]:
        """Yield events until time is up, history is lost or the client is gone.

        Args:
            gone: tells whether it is.
        """
        end = time.monotonic() + self.seconds
        due = time.monotonic() + _BOOKMARK_SECONDS
        version = self.version
        if version is None:
            version, held = self.store.list_objects(self.api.plural)
            yield from ({"type": "ADDED", "object": self._show(item)} for _, item in held if self.chosen(item))
        while (left := end - time.monotonic()) > 0:
            try:
                version, changes = self.store.after(self.api.plural, version, min(left, _LOOK_SECONDS))
            except GoneError as error:
                yield {
                    "type": "ERROR",
                    "object": expired_status(f"too old resource version: {version} ({error.version})"),
                }
                return
            yield from (event for change in changes if (event := self._event(change)))
            if gone():
                return
            if self.bookmarks and time.monotonic() > due:
                due += _BOOKMARK_SECONDS
                yield self._bookmark(version)
        if self.bookmarks:
            yield self._bookmark(version)

    def _event(self, change: StoredChange) -> Json | None:
        """Return what a change is for this watch: an object may come into or leave what it asks for."""
        before = change.old is not None and self.chosen(change.old)
        now = change.new is not None and self.chosen(change.new)
        if not before and not now:
            return None
        kind = "MODIFIED" if before and now else "ADDED" if now else "DELETED"
        return {"type": kind, "object": self._show(change.last)}

    def _show(self, item: Json) -> Json:
        if not self.tables:
            return item
        metadata = {"resourceVersion": item["metadata"]["resourceVersion"]}
        return printing.table(self.api, [item], metadata, self.store.clock())

    def _bookmark(self, version: int) -> Json:
        metadata = {"resourceVersion": str(version), "creationTimestamp": None}
        shown = {"kind": self.api.kind, "apiVersion": self.api.group_version, "metadata": metadata}
        return {"type": "BOOKMARK", "object": shown}


def expired_status(message: str) -> Json:
    """Return the object that says that history is lost."""
    return kinds.status(HTTPStatus.GONE, "Expired", message)

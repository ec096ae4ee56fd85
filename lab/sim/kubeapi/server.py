"""The Kubernetes API of one simulated cluster on a loopback port: lists, watches, and the few changes a lab needs.

Whoever runs the sim says what objects there are (`update`). A client may change annotations and replicas: that is
handed to callbacks, which change the world. docs/lab.md says where a real API server differs.
"""

import threading
import time
from collections.abc import Callable, Mapping

from meshobs.lab.sim.kubeapi.answers import Answers, ApiFaults, Hooks
from meshobs.lab.sim.kubeapi.http import Listener
from meshobs.lab.sim.kubeapi.objects.maker import Json, Key
from meshobs.lab.sim.kubeapi.store import KubeStore, StoredChange


class KubeServer:
    """One cluster's API.

    Args:
        cluster: its name, for the callbacks.
        token: what clients have to show, as bearer token or as the first part of the path.
        clock: time of creations and deletions, in nanoseconds.
        on_annotate: called with cluster, namespace, name of a Service and its annotations that a client changes, None
            for those it removes; it may call `update` before it returns, else the server changes the Service itself.
            A MeshobsError of it, or of `on_scale`, refuses the request.
        on_scale: called with cluster, namespace, name and replicas of a Deployment when a client scales it.
        on_forward: called with namespace, name and port of a Pod that a client wants a connection to; returns HOST:PORT
            where that is served, empty if nowhere.
        on_carried: told how many bytes a port-forward brought from its Pod at once, from any thread.
        on_change: told of each change of an object, in order, from whatever thread; must not call back.
        port: 0 for a free one.

    Attributes:
        forbidden: resources that nobody may read, also `pods/portforward`: a fault.
    """

    def __init__(
        self,
        cluster: str,
        token: str,
        clock: Callable[[], int] = time.time_ns,
        *,
        on_annotate: Callable[[str, str, str, dict[str, str | None]], None] = lambda *_: None,
        on_scale: Callable[[str, str, str, int], None] = lambda *_: None,
        on_forward: Callable[[str, str, int], str] = lambda *_: "",
        on_carried: Callable[[int], None] = lambda _size: None,
        on_change: Callable[[StoredChange], None] = lambda _change: None,
        port: int = 0,
    ) -> None:
        self.cluster = cluster
        self.forbidden: set[str] = set()
        self._token = token
        self._store = KubeStore(clock, on_change)
        self._hooks = Hooks(
            annotate=lambda namespace, name, changes: on_annotate(cluster, namespace, name, changes),
            scale=lambda namespace, name, replicas: on_scale(cluster, namespace, name, replicas),
            forward=on_forward,
            carried=on_carried,
        )
        self._wanted_port = port
        self._listener: Listener | None = None

    @property
    def address(self) -> str:
        """Return the URL of the server while it runs."""
        if not self._listener:
            raise RuntimeError("the API server was not started")
        return f"http://127.0.0.1:{self._listener.port}"

    def start(self) -> None:
        """Begin to serve."""
        answers = Answers(self._store, self._hooks, ApiFaults(self.forbidden))
        self._listener = Listener(self._wanted_port, answers, self._token)
        self._wanted_port = self._listener.port  # after a stop it comes back where clients look for it
        threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Cut every connection and refuse new ones. The objects stay; `start` serves them again."""
        listener, self._listener = self._listener, None
        if listener:
            listener.shutdown()
            listener.server_close()
            listener.cut()
            self._store.wake()

    def update(self, objects: Mapping[Key, Json]) -> None:
        """Say what objects there are now; whoever watches is told what changed."""
        self._store.update(objects)

    def objects(self) -> dict[Key, Json]:
        """Return the objects as clients see them, with versions and times."""
        return self._store.objects()

    def compact(self) -> None:
        """Forget history: whoever goes on from an older version is told to list anew. A fault."""
        self._store.compact()

    def break_watches(self) -> None:
        """Cut all connections; new ones are served. A fault."""
        if self._listener:
            self._listener.cut()
            self._store.wake()

"""Lists and watches what the history of one cluster is made of: the kinds of RESOURCES.

A change that is watched holds from its receipt. One that happened while the watch was broken is found by a new list: it
holds since the last contact at the earliest, and is known from the new list. What does not change what meshobs keeps
of an object yields nothing.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from http import HTTPStatus

import urllib3

from meshobs.collector.backoff import backoff_seconds
from meshobs.collector.kube import objects
from meshobs.collector.kube.api import KubeError
from meshobs.collector.kube.cluster import SERVICES, KubeCluster
from meshobs.collector.kube.document import Json, at, items, text
from meshobs.collector.kube.objects import KubeState
from meshobs.collector.kube.resource import Resource
from meshobs.collector.kube.sighting import BEFORE_NS, Sighting
from meshobs.times import SECOND, nanoseconds

CILIUM_NODES = Resource("cilium.io", "v2", "ciliumnodes", "CiliumNode")
RESOURCES = (
    SERVICES,
    Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    Resource("", "v1", "nodes", "Node"),
    Resource("", "v1", "namespaces", "Namespace"),
    CILIUM_NODES,
)
# Objects of one page of a list.
PAGE = 500
# A watch ends in order after so long; servers and proxies between like that better than their own limits.
WATCH_SECONDS = 240
# Servers send a bookmark each minute: silence for longer is a broken connection.
SILENCE_SECONDS = 150.0
# What the user has to grant or install may come at any time.
RETRY_SECONDS = 60.0
# A watch that opens so soon after the last contact brings nothing that is older than its receipt says.
_SEAMLESS = 1 * SECOND
# The API is not reached, wants another login, or has too much to do.
_AWAY = (0, HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)
# How long the end waits for its threads; they are daemons and put nothing any more.
_END_SECONDS = 0.8


class WatchState(Enum):
    """How the watch of one kind stands."""

    LISTING = "listing"
    WATCHING = "watching"
    LOST = "reconnecting"
    DENIED = "no permission"
    ABSENT = "absent"


class ClusterWatch:
    """The watches of one cluster.

    Args:
        cluster: its API.
        name: the cluster's, for the sightings.
        put: takes what was seen, from any thread.
        say: told what the user should know, a line each, from any thread.
        stop: set when the run ends.
        clock: the collector's, in nanoseconds.
    """

    def __init__(
        self,
        cluster: KubeCluster,
        name: str,
        put: Callable[[list[Sighting]], None],
        say: Callable[[str], None],
        stop: threading.Event,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.cluster = cluster
        self.name = name
        self.put = put
        self.clock = clock
        self._say = say
        self._stop = stop
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._lost = ""
        self._kinds = [_KindWatch(self, resource) for resource in RESOURCES]

    def start(self) -> None:
        """Begin; returns at once."""
        for kind in self._kinds:
            kind.thread.start()

    def end(self) -> None:
        """Stop at once: reads under way are broken off, nothing is put any more."""
        self._ended.set()
        for kind in self._kinds:
            kind.hang_up()
        deadline = time.monotonic() + _END_SECONDS
        for kind in self._kinds:
            if kind.thread.is_alive():
                kind.thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def over(self) -> bool:
        """Tell whether the run ends."""
        return self._ended.is_set() or self._stop.is_set()

    @property
    def state(self) -> str:
        """Return how it stands, in a few words."""
        states = {kind.resource.plural: kind.state for kind in self._kinds}
        for state in (WatchState.LOST, WatchState.LISTING):
            if state in states.values():
                return str(state.value)
        denied = [plural for plural, state in states.items() if state is WatchState.DENIED]
        return f"no permission for {', '.join(denied)}" if denied else str(WatchState.WATCHING.value)

    @property
    def synced(self) -> bool:
        """Tell whether every kind that may be listed was listed."""
        return all(kind.listed or kind.state in (WatchState.DENIED, WatchState.ABSENT) for kind in self._kinds)

    @property
    def listed(self) -> set[str]:
        """Return the kinds that were listed completely once."""
        return {kind.resource.kind for kind in self._kinds if kind.listed}

    @property
    def current(self) -> bool:
        """Tell whether every kind that may be listed is watched just now."""
        return all(kind.state in (WatchState.WATCHING, WatchState.DENIED, WatchState.ABSENT) for kind in self._kinds)

    def wait(self, seconds: float) -> None:
        """Wait, at most until the end."""
        deadline = time.monotonic() + seconds
        while not self.over and (left := deadline - time.monotonic()) > 0:
            self._ended.wait(min(left, 0.5))

    def say(self, line: str) -> None:
        """Tell the user, unless the run ends."""
        if not self.over:
            self._say(line)

    def report_lost(self, error: KubeError) -> None:
        """Say once that the API does not answer, and once that it wants another login."""
        trouble = "login" if error.status == HTTPStatus.UNAUTHORIZED else "away"
        with self._lock:
            is_new, self._lost = self._lost != trouble, trouble
        if is_new:
            self.say(f"{error}; changes until it answers again are seen late")

    def report_found(self) -> None:
        """Say that the API answers again."""
        with self._lock:
            is_new, self._lost = self._lost, ""
        if is_new:
            self.say(f"context {self.cluster.context}: the Kubernetes API answers again")


class _KindWatch:
    """List and watch of one kind, in a thread.

    Attributes:
        listed: it was listed completely once.
    """

    def __init__(self, watch: ClusterWatch, resource: Resource) -> None:
        self.resource = resource
        self.state = WatchState.LISTING
        self.listed = False
        self.thread = threading.Thread(target=self._run, name=f"watch {watch.name} {resource.plural}", daemon=True)
        self._watch = watch
        self._known: dict[tuple[str, str], Sighting] = {}
        self._contact: int | None = None
        self._latest = 0
        self._said = ""
        self._answer: urllib3.BaseHTTPResponse | None = None
        self._lock = threading.Lock()

    def hang_up(self) -> None:
        """Break the read under way off, from another thread."""
        with self._lock, suppress(ValueError, RuntimeError, OSError):
            if self._answer:
                self._answer.shutdown()

    def _run(self) -> None:
        pauses = backoff_seconds()
        while not self._watch.over:
            began = time.monotonic()
            try:
                version = self._list()
                while version and not self._watch.over:
                    version = self._follow(version)
                self.state = WatchState.LOST
                pause = next(pauses)
            except KubeError as error:
                pause = self._report(error, pauses)
            except Exception as error:  # noqa: BLE001 - a thread that dies would go unnoticed
                self.state = WatchState.LOST
                self._say_once(f"context {self._watch.cluster.context}: watch of {self.resource.plural}: {error!r}")
                pause = next(pauses)
            if time.monotonic() - began > SILENCE_SECONDS:
                pauses = backoff_seconds()
            self._watch.wait(pause)

    def _list(self) -> str:
        """Read all objects, page by page; return the version that they have together."""
        if self.state not in (WatchState.DENIED, WatchState.ABSENT):
            self.state = WatchState.LISTING
        query, seen, moment = {"limit": str(PAGE)}, set[tuple[str, str]](), 0
        while True:
            page = self._watch.cluster.get(self.resource.path(), query)
            # All pages show the moment of the first.
            moment = moment or self._moment()
            found = [self._read_listed(one, moment, seen) for one in items(page, "items")]
            self._put([sighting for sighting in found if sighting])
            token = text(page, "metadata", "continue")
            if not token:
                break
            query["continue"] = token
        self._put([self._remove(key, self._since(0, moment), moment) for key in self._known.keys() - seen])
        self._contact, self.listed, self._said = moment, True, ""
        self._watch.report_found()
        return text(page, "metadata", "resourceVersion")

    def _read_listed(self, item: Json, moment: int, seen: set[tuple[str, str]]) -> Sighting | None:
        key, state = self._read(item)
        if not state:
            return None
        seen.add(key)
        return self._change(key, state, self._since(nanoseconds(state.created) or 0, moment), moment)

    def _since(self, created: int, moment: int) -> int:
        """Return since when what a list shows may have held."""
        earliest = moment - BEFORE_NS if self._contact is None else self._contact
        return max(earliest, min(created, moment))

    def _follow(self, version: str) -> str:
        """Watch from a version on; return the last one, empty where the list must be read anew."""
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        began = time.monotonic()
        try:
            answer = self._watch.cluster.open(self.resource.path(), query, SILENCE_SECONDS)
        except KubeError as error:
            if error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED):
                raise
            return ""  # also 410 Gone: the version is too old
        with self._lock:
            self._answer = answer
        try:
            if self._watch.over:
                return ""
            self.state = WatchState.WATCHING
            version = self._events(answer, version)
        finally:
            with self._lock:
                self._answer = None
            answer.close()
        # A server that ends every watch at once is not to be asked without a pause.
        return version if time.monotonic() - began > 1 else ""

    def _events(self, answer: urllib3.BaseHTTPResponse, version: str) -> str:
        """Take events until the watch ends; return the last version, empty where it did not end in order."""
        opened = self._moment()
        # What happened since the last contact comes first: it did not happen just now if that is long ago.
        contact = self._contact if self._contact and opened - self._contact > _SEAMLESS else None
        try:
            for lines in read_lines(answer):
                found = []
                for line in lines:
                    event: Json = json.loads(line)
                    if text(event, "type") == "ERROR":
                        return ""
                    version = text(event, "object", "metadata", "resourceVersion") or version
                    moment = self._contact = self._moment()
                    since = contact if contact and moment - opened < _SEAMLESS else moment
                    found.append(self._event(text(event, "type"), at(event, "object"), since, moment))
                self._put([sighting for sighting in found if sighting])
        except (urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError):
            return ""  # AttributeError: Python's TLS socket, shut down by another thread
        if self._watch.over:
            return ""
        self._contact = self._moment()
        return version

    def _event(self, type_: str, item: Json, since: int, moment: int) -> Sighting | None:
        key, state = self._read(item)
        if type_ in ("ADDED", "MODIFIED") and state:
            return self._change(key, state, since, moment)
        if type_ in ("ADDED", "MODIFIED", "DELETED") and key in self._known:
            return self._remove(key, since, moment)
        return None

    def _read(self, item: Json) -> tuple[tuple[str, str], KubeState | None]:
        """Return which object it is and its state; items of a list do not name their kind."""
        document: dict[str, Json] = {**item, "kind": self.resource.kind} if isinstance(item, Mapping) else {}
        key = text(document, "metadata", "namespace"), text(document, "metadata", "name")
        return key, objects.state_of(document, self._watch.name)

    def _change(self, key: tuple[str, str], state: KubeState, since: int, moment: int) -> Sighting | None:
        last = self._known.get(key)
        if last and last.state.state == state.state:
            return None
        if last:  # two states of an object cannot begin together
            since = max(since, last.valid_from + 1)
        self._known[key] = Sighting(self._watch.name, state, since, max(since, moment))
        return self._known[key]

    def _remove(self, key: tuple[str, str], since: int, moment: int) -> Sighting:
        last = self._known.pop(key)
        since = max(since, last.valid_from + 1)
        return Sighting(self._watch.name, last.state, since, max(since, moment), deleted=True)

    def _moment(self) -> int:
        """Return the time, later than any before: the order of states must not depend on a coarse clock."""
        self._latest = max(self._watch.clock(), self._latest + 1)
        return self._latest

    def _put(self, sightings: list[Sighting]) -> None:
        if sightings and not self._watch.over:
            self._watch.put(sightings)

    def _report(self, error: KubeError, pauses: Iterator[float]) -> float:
        """Say what is wrong with a list, each trouble once; return how long to wait."""
        context, plural = self._watch.cluster.context, self.resource.plural
        if error.status == HTTPStatus.FORBIDDEN:
            self.state = WatchState.DENIED
            self._say_once(f"context {context}: may not list {plural}: {self.resource.rule('list', 'watch')}")
            return RETRY_SECONDS
        if error.status == HTTPStatus.NOT_FOUND:
            self.state = WatchState.ABSENT
            if self.resource != CILIUM_NODES:
                self._say_once(f"context {context}: the API knows no {plural}: Kubernetes 1.21 or newer is needed")
            return RETRY_SECONDS
        self.state = WatchState.LOST
        if error.status in _AWAY or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._watch.report_lost(error)
        elif error.status != HTTPStatus.GONE:
            self._say_once(str(error))
        return next(pauses)

    def _say_once(self, line: str) -> None:
        is_new, self._said = line != self._said, line
        if is_new:
            self._watch.say(line)


def read_lines(answer: urllib3.BaseHTTPResponse) -> Iterator[list[bytes]]:
    """Yield the complete lines of what comes, as it comes."""
    rest = b""
    while chunk := answer.read1(65_536):
        *lines, rest = (rest + chunk).split(b"\n")
        yield [line for line in lines if line]

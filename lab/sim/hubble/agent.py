"""A node's agent as Hubble shows it: its ring, since when it runs, whether anybody reaches it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from meshobs.lab.mesh.model import Cluster, Node
from meshobs.lab.sim.hubble.ring import Ring
from meshobs.pb.flow.flow_pb2 import Flow, LostEventSource
from meshobs.pb.observer.observer_pb2 import GetFlowsResponse, ServerStatusResponse

SECOND = 10**9
# Where a node's agent would listen.
PORT = 4244
# Where agents and Relays say which build they are; nobody's.
_REVISION = "g00000000"
# A namespace is told of for an hour after its last flow.
_NAMESPACE_SECONDS = 3600


def build(cilium: str) -> str:
    """Return how a program of some version calls itself."""
    return f"{cilium}+{_REVISION}"


@dataclass(frozen=True)
class AgentStatus:
    """What an agent is like now.

    Attributes:
        state: `connected`, `stopped` or `hidden`.
        flows: how many its ring holds.
        capacity: how many it can hold.
        seen: how many it wrote since its start.
        missed: how many happened on its node while it was stopped; nobody can know of them.
        readers: how many calls read its ring now.
    """

    state: str
    flows: int
    capacity: int
    seen: int
    missed: int
    readers: int


class Agent:
    """One node's.

    Attributes:
        ring: a new one after each start.
        breaks: how often its connections broke; a call that began before is dead.
        how: what broke them last, as a client's gRPC says it.
    """

    def __init__(self, node: Node, cluster: Cluster, clock: Callable[[], int]) -> None:
        self.node = node
        self.cluster = cluster
        self.breaks = 0
        self.how = ""
        self.missed = 0
        self.clock = clock
        self._capacity = cluster.ring
        self._running = True
        self._hidden = False
        self._lock = threading.Lock()
        self._fresh()

    @property
    def version(self) -> str:
        """Return its own version as it tells it."""
        return f"cilium v{build(self.cluster.cilium)}"

    @property
    def reachable(self) -> bool:
        """Tell whether connections to it succeed."""
        return self._running and not self._hidden

    @property
    def state(self) -> str:
        """Return the state in a word."""
        return "stopped" if not self._running else "hidden" if self._hidden else "connected"

    def write(self, at: int, flow: Flow) -> None:
        """Take a complete flow in, unless it is stopped."""
        message = GetFlowsResponse(flow=flow, node_name=flow.node_name, time=flow.time).SerializeToString()
        with self._lock:
            if not self._running:
                self.missed += 1
                return
            self.seen += 1
            for namespace in (flow.source.namespace, flow.destination.namespace):
                if namespace:
                    self._namespaces[namespace] = at
            self.ring.write(at, message)

    def lose(self, at: int, count: int, source: LostEventSource, cpu: int = 0) -> None:
        """Lose events before they reach the ring."""
        with self._lock:
            if self._running:
                self.ring.lose(at, count, source, cpu)

    def stop(self) -> None:
        """End it; its ring is gone."""
        with self._lock:
            self._running = False
            self._break("error reading from server: EOF")

    def start(self) -> None:
        """Begin anew, if it is stopped."""
        with self._lock:
            if not self._running:
                self._fresh()
                self._running = True

    def hide(self, hidden: bool) -> None:
        """Cut it off from its readers, or no longer; it goes on writing."""
        with self._lock:
            if hidden and not self._hidden:
                self._break("error reading from server: connection reset by peer")
            self._hidden = hidden

    def resize(self, capacity: int) -> None:
        """Give it a smaller or larger ring; the newest flows stay."""
        with self._lock:
            self.ring.resize(capacity)
            self._capacity = capacity

    def server_status(self) -> ServerStatusResponse:
        """Return what it says of itself."""
        now = self.clock()
        return ServerStatusResponse(
            num_flows=self.ring.held,
            max_flows=self.ring.capacity,
            seen_flows=self.seen,
            uptime_ns=max(0, now - self._started),
            version=self.version,
            flows_rate=self._rate(now),
        )

    def namespaces(self) -> list[str]:
        """Return the namespaces of its flows, those of other clusters' pods included."""
        oldest = self.clock() - _NAMESPACE_SECONDS * SECOND
        return sorted(name for name, at in list(self._namespaces.items()) if at >= oldest)

    def status(self) -> AgentStatus:
        """Return what it is like now."""
        return AgentStatus(self.state, self.ring.held, self.ring.capacity, self.seen, self.missed, self.ring.readers)

    def _break(self, how: str) -> None:
        self.breaks += 1
        self.how = how
        # Readers that wait find out at once.
        self.ring.wake_all()

    def _fresh(self) -> None:
        self.ring = Ring(self.node.full, self._capacity, self.cluster.traits.merges_losses)
        self.seen = 0
        self._started = self.clock()
        self._namespaces: dict[str, int] = {}

    def _rate(self, now: int) -> float:
        """Return the flows per second of the last minute, or of the time that a full ring covers of it."""
        _, entries = self.ring.snapshot()
        since = now - 60 * SECOND
        newer = [entry.at for entry in entries if not entry.lost and entry.at >= since]
        if newer and newer[0] == entries[0].at and len(entries) == self.ring.capacity:
            since = newer[0]
        return len(newer) * SECOND / max(1, now - since)

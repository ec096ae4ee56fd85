"""A node's ring of flows: a writer that never waits, and readers that it may overtake."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from google.protobuf.wrappers_pb2 import Int32Value

from meshobs.pb.flow.flow_pb2 import Flow, LostEvent, LostEventSource
from meshobs.pb.observer.observer_pb2 import GetFlowsResponse


class RingEntry(NamedTuple):
    """What stands at one position: a GetFlowsResponse as it is sent, of a flow or of a loss before the ring."""

    at: int
    raw: bytes
    lost: bool

    def flow(self) -> Flow:
        """Return its flow. Parsed anew: 200 full rings of parsed flows would not fit into a laptop's memory."""
        flow: Flow = GetFlowsResponse.FromString(self.raw).flow
        return flow


@dataclass(frozen=True)
class RingPart:
    """What a reader finds at its position.

    Attributes:
        missed: how many positions from the reader's on were overwritten; then there are no entries.
        more: there is more behind the last entry already.
    """

    entries: list[RingEntry]
    missed: int
    more: bool


class Ring:
    """The newest flows of a node.

    Positions count what was ever written. Unlike Hubble's ring, which shows an event only when the next one is
    written, this one shows it at once: a lab's mesh may fall silent.

    Attributes:
        merges_losses: readers are told of losses once a second, not once per lost position (from 1.19).

    Raises:
        ValueError: the capacity is not 2^n - 1.
    """

    def __init__(self, node: str, capacity: int, merges_losses: bool) -> None:
        self.node = node
        self.merges_losses = merges_losses
        self._capacity = _check(capacity)
        self._entries: list[RingEntry] = []
        self._written = 0
        self._base = 0  # the position of slot 0, counted in whole turns
        self._lock = threading.Lock()
        self._hooks: tuple[Callable[[], None], ...] = ()

    @property
    def capacity(self) -> int:
        """Return how many flows it can hold."""
        return self._capacity

    @property
    def held(self) -> int:
        """Return how many flows it holds."""
        return len(self._entries)

    @property
    def readers(self) -> int:
        """Return how many follow it."""
        return len(self._hooks)

    def resize(self, capacity: int) -> None:
        """Hold more or fewer flows from now on; the newest stay.

        Raises:
            ValueError: the capacity is not 2^n - 1.
        """
        with self._lock:
            self._entries = self._all()[-_check(capacity) :]
            self._capacity = capacity
            self._base = self._written - len(self._entries)

    def write(self, at: int, raw: bytes) -> None:
        """Write a flow.

        Args:
            at: its time.
            raw: a GetFlowsResponse.
        """
        self._append(RingEntry(at, raw, lost=False))

    def lose(self, at: int, count: int, source: LostEventSource, cpu: int) -> None:
        """Write that events were lost before they came here: every reader finds the same, whatever it filters."""
        lost = LostEvent(source=source, num_events_lost=count, cpu=Int32Value(value=cpu))
        self._append(RingEntry(at, make_lost_message(self.node, at, lost), lost=True))

    def read(self, position: int, limit: int) -> RingPart:
        """Return up to `limit` entries from a position on."""
        with self._lock:
            oldest = self._written - len(self._entries)
            if position < oldest:
                return RingPart([], oldest - position, more=True)
            end = min(self._written, position + limit)
            return RingPart([self._at(index) for index in range(position, end)], 0, end < self._written)

    def snapshot(self) -> tuple[int, list[RingEntry]]:
        """Return the oldest position and everything from there on."""
        with self._lock:
            return self._written - len(self._entries), self._all()

    def end(self) -> int:
        """Return the position that is written next."""
        return self._written

    def hook(self, hook: Callable[[], None]) -> None:
        """Call somebody after each write, in the writer's thread."""
        with self._lock:
            self._hooks = (*self._hooks, hook)

    def unhook(self, hook: Callable[[], None]) -> None:
        """Call it no more."""
        with self._lock:
            self._hooks = tuple(one for one in self._hooks if one is not hook)

    def wake_all(self) -> None:
        """Wake every reader."""
        for hook in self._hooks:
            hook()

    def _append(self, entry: RingEntry) -> None:
        with self._lock:
            if len(self._entries) < self._capacity:
                self._entries.append(entry)
            else:
                self._entries[(self._written - self._base) % self._capacity] = entry
            self._written += 1
        self.wake_all()

    def _at(self, position: int) -> RingEntry:
        return self._entries[(position - self._base) % self._capacity]

    def _all(self) -> list[RingEntry]:
        return [self._at(index) for index in range(self._written - len(self._entries), self._written)]


def make_lost_message(node: str, at: int, lost: LostEvent) -> bytes:
    """Return how a node tells of a loss."""
    message = GetFlowsResponse(lost_events=lost, node_name=node)
    message.time.FromNanoseconds(at)
    raw: bytes = message.SerializeToString()
    return raw


def _check(capacity: int) -> int:
    if capacity < 1 or capacity & (capacity + 1):
        raise ValueError(f"a ring holds 2^n - 1 flows, as 4095, not {capacity}")
    return capacity

"""How a Relay mixes its peers' answers: a small window sorted by time, and equal errors put together."""

import heapq
import time
from collections.abc import Callable, Iterator, Sequence

from meshobs.lab.sim.hubble.getflows import SECOND, Message
from meshobs.pb.relay.relay_pb2 import NODE_ERROR, NodeState

# As real Relays' own settings.
_LENGTH = 100
_DRAIN_SECONDS = 1.0
_ERROR_SECONDS = 10.0

# State, names, text, time in nanoseconds.
StatusEvent = Callable[[NodeState, Sequence[str], str, int], Message]


class Sorter:
    """The window: what leaves a full one is the oldest in it.

    While it is not full it is drained only after a second without a message, of what is older than a second. So the end
    of a quiet stream waits here, and is dropped with it.

    Attributes:
        next_drain: when (monotonic) it is to be drained.
    """

    def __init__(self, wanted: int) -> None:
        """Make it.

        Args:
            wanted: how many messages can come at all, 0 for any number.
        """
        self._length = min(wanted or _LENGTH, _LENGTH)
        self._heap: list[tuple[int, int, bytes]] = []
        self._count = 0
        self.next_drain = time.monotonic() + _DRAIN_SECONDS

    def push(self, message: Message) -> Iterator[bytes]:
        """Take a message in; yield what must leave."""
        self._count += 1
        item = (message.at, self._count, message.raw)
        self.next_drain = time.monotonic() + _DRAIN_SECONDS
        if len(self._heap) < self._length:
            heapq.heappush(self._heap, item)
            return
        oldest = heapq.heapreplace(self._heap, item)
        yield oldest[2]

    def drain(self, now: float, clock: Callable[[], int]) -> Iterator[bytes]:
        """Yield what waited long enough, if it is time."""
        if now < self.next_drain:
            return
        self.next_drain = now + _DRAIN_SECONDS
        limit = clock() - int(_DRAIN_SECONDS * SECOND)
        while self._heap and self._heap[0][0] <= limit:
            yield heapq.heappop(self._heap)[2]

    def rest(self) -> Iterator[bytes]:
        """Yield all that is left, oldest first."""
        while self._heap:
            yield heapq.heappop(self._heap)[2]


class Errors:
    """Errors of peers: the last one waits for equal ones, until another comes or ten seconds have passed.

    It is told late, with the time of the first.

    Attributes:
        next_flush: when (monotonic) the one that waits is to be sent.
    """

    def __init__(self, event: StatusEvent, clock: Callable[[], int]) -> None:
        self._event = event
        self._clock = clock
        self._at = 0
        self._text = ""
        self._names: list[str] = []
        self._ready: list[Message] = []
        self.next_flush = float("inf")

    def add(self, name: str, text: str) -> None:
        """Take a peer's error in."""
        if self._names and text != self._text:
            self._flush()
        if not self._names:
            self._at = self._clock()
            self.next_flush = time.monotonic() + _ERROR_SECONDS
        self._text = text
        self._names.append(name)

    def due(self, now: float) -> list[Message]:
        """Return what is to be sent now."""
        if self._names and now >= self.next_flush:
            self._flush()
        ready, self._ready = self._ready, []
        return ready

    def rest(self) -> list[Message]:
        """Return all that is left."""
        return self.due(float("inf"))

    def _flush(self) -> None:
        self._ready.append(self._event(NODE_ERROR, self._names, self._text, self._at))
        self._names = []
        self.next_flush = float("inf")

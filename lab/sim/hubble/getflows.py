"""What a node's agent answers to GetFlows: one request, read from one ring."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from meshobs.lab.sim.hubble.filters import fieldmask, filters
from meshobs.lab.sim.hubble.ring import Ring, RingEntry, make_lost_message
from meshobs.lab.sim.hubble.wakeup import Wakeup, WakeupHook
from meshobs.pb.flow.flow_pb2 import HUBBLE_RING_BUFFER, LostEvent
from meshobs.pb.observer.observer_pb2 import GetFlowsRequest, GetFlowsResponse

SECOND = 10**9
# As the agents' hubble-lost-event-send-interval.
_LOST_INTERVAL = SECOND
# So many entries are read at once; also how finely the answers of several nodes mix.
STEP = 64


class Message(NamedTuple):
    """A GetFlowsResponse and the time in it, 0 where a mask left it out."""

    at: int
    raw: bytes


class RequestRefusedError(Exception):
    """A request that is refused.

    Attributes:
        code: gRPC's name of the status code, as `INVALID_ARGUMENT`.
        text: what is said to the client.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class FlowReading:
    """A request under way.

    Attributes:
        done: everything that was asked for was read.

    Raises:
        RefusedError: the request is none.
    """

    def __init__(self, ring: Ring, request: GetFlowsRequest, clock: Callable[[], int]) -> None:
        if request.first and request.follow:
            raise RequestRefusedError("INVALID_ARGUMENT", "first cannot be specified with follow")
        try:
            self._wanted = filters.compile_filters(request.whitelist, request.blacklist, ring.node)
            self._since = _moment(request.since) if request.HasField("since") else None
            self._until = _moment(request.until) if request.HasField("until") else None
            self._position = self._start(ring, request)
            self._mask = fieldmask.compile_mask(request.field_mask.paths, modern=ring.merges_losses)
        except ValueError as error:
            raise RequestRefusedError("UNKNOWN", str(error)) from error
        self.done = False
        self._ring = ring
        self._clock = clock
        self._follow = request.follow
        self._left = None if request.follow or not request.number else request.number
        self._losses = _Losses()

    def take(self) -> tuple[list[Message], bool]:
        """Return what comes next, and whether there is more already."""
        if self.done:
            return [], False
        piece = self._ring.read(self._position, STEP)
        if piece.missed:
            return self._overtake(piece.missed), True
        self._position += len(piece.entries)
        made: list[Message] = []
        for entry in piece.entries:
            if self._losses.count and (lost := self._losses.due(now := self._clock())) is not None:
                made.append(self._lost_message(now, lost))
            if not self._passes(entry):
                if self.done:
                    return made, False
                continue
            made.append(self._message(entry))
            if self._left is not None and not entry.lost:
                self._left -= 1
                if not self._left:
                    self.done = True
                    return made, False
        if not piece.more and not self._follow:
            self.done = True
        return made, piece.more

    def _passes(self, entry: RingEntry) -> bool:
        """Tell whether an entry is sent; losses always are. The first flow after `until` ends it."""
        if entry.lost:
            return True
        if self._until is not None and entry.at > self._until:
            self.done = True
            return False
        if self._since is not None and entry.at < self._since:
            return False
        return self._fits(entry)

    def _fits(self, entry: RingEntry) -> bool:
        wanted = self._wanted
        return wanted is None or (wanted is not filters.match_nothing and wanted(entry.flow()))

    def _message(self, entry: RingEntry) -> Message:
        if self._mask is None or entry.lost:
            return Message(entry.at, entry.raw)
        flow = self._mask(entry.flow())
        # An agent takes the wrapper's fields from the masked flow: what the mask leaves out is missing there, too.
        made = GetFlowsResponse(flow=flow, node_name=flow.node_name, time=flow.time if flow.HasField("time") else None)
        return Message(_moment(flow.time), made.SerializeToString())

    def _overtake(self, missed: int) -> list[Message]:
        """Return what is said of lost positions: before 1.19 one event for each, later none yet."""
        now = self._clock()
        if self._ring.merges_losses:
            self._losses.add(now, missed)
            self._position += missed
            return []
        count = min(missed, STEP)
        self._position += count
        return [self._lost_message(now, LostEvent(num_events_lost=1))] * count

    def _lost_message(self, at: int, lost: LostEvent) -> Message:
        lost.source = HUBBLE_RING_BUFFER
        return Message(at, make_lost_message(self._ring.node, at, lost))

    def _start(self, ring: Ring, request: GetFlowsRequest) -> int:
        """Return the position that an answer begins at."""
        oldest, entries = ring.snapshot()
        # An agent that walks all through a ring that has turned over goes one too far, and tells of that as a loss.
        beginning = max(oldest - 1, 0)
        if self._since is not None:
            for index in range(len(entries) - 1, -1, -1):
                entry = entries[index]
                if not entry.lost and entry.at < self._since and self._fits(entry):
                    return oldest + index + 1
            return beginning
        if request.first:
            return oldest
        if not request.number:
            return oldest + len(entries) if request.follow else beginning
        found = 0
        for index in range(len(entries) - 1, -1, -1):
            entry = entries[index]
            found += not entry.lost and self._fits(entry)
            if found == request.number:
                return oldest + index
        return beginning


class _Losses:
    """Losses of a ring that were not told yet (from 1.19)."""

    def __init__(self) -> None:
        self.count = 0
        self._first = 0
        self._last = 0

    def add(self, now: int, count: int) -> None:
        self._first = self._first if self.count else now
        self._last = now
        self.count += count

    def due(self, now: int) -> LostEvent | None:
        """Return them a second after the first; an agent looks when the next event comes, no earlier."""
        if now - self._first < _LOST_INTERVAL:
            return None
        made = LostEvent(num_events_lost=self.count)
        made.first.FromNanoseconds(self._first)
        made.last.FromNanoseconds(self._last)
        self.count = 0
        return made


def flows(ring: Ring, request: GetFlowsRequest, clock: Callable[[], int], wakeup: Wakeup) -> Iterator[bytes]:
    """Yield an agent's answer; the wakeup ends it.

    Raises:
        RefusedError: the request is none.
    """
    reading = FlowReading(ring, request, clock)
    hook = WakeupHook(wakeup, ring.node)
    ring.hook(hook)
    try:
        while not wakeup.over and not reading.done:
            messages, more = reading.take()
            for message in messages:
                yield message.raw
            if not more and not reading.done:
                wakeup.wait(None)
                wakeup.take_sources()
    finally:
        ring.unhook(hook)


def _moment(stamp: Timestamp) -> int:
    return int(stamp.seconds) * SECOND + int(stamp.nanos)

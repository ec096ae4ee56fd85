"""Threads that talk to one Relay: they put what comes into the collection's queue and never touch the store."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from queue import Full, Queue
from typing import TypeAlias

from meshobs.collector.backoff import backoff_seconds
from meshobs.collector.follow.watches import SightingBatch
from meshobs.collector.hubble import scope
from meshobs.collector.hubble.answers import RelayNode, RelayStatus
from meshobs.collector.hubble.relay import Relay, Stream
from meshobs.collector.hubble.stream import OK, UNAVAILABLE, StreamStatus
from meshobs.collector.write.ledger import LedgerEntry
from meshobs.errors import MeshobsError
from meshobs.pb.flow.flow_pb2 import FlowFilter
from meshobs.pb.observer.observer_pb2 import GetFlowsRequest
from meshobs.times import SECOND

# How often GetNodes and ServerStatus are asked: reconnects are never announced.
POLL_SECONDS = 30.0
# How long the last look at the nodes waits for the end of the stream.
_END_SECONDS = 5.0
# Lists of messages that may wait for the writer; each is what one read of the socket gave, at most 256 KiB.
QUEUE_LENGTH = 8


class Purpose(Enum):
    """What a call is for.

    FOLLOW: the live stream; BACKFILL: what rings hold; PROBE and MARK: from when to when that is, nothing of which is
    stored; TAIL: what the Relay's sorting held back at the end.
    """

    FOLLOW = "follow"
    BACKFILL = "backfill"
    PROBE = "probe"
    MARK = "mark"
    TAIL = "tail"


@dataclass(eq=False)
class FlowRequest:
    """One GetFlows call, as the writer sees it.

    Attributes:
        started: when it was made, by the collector's clock.
        positions: node -> until where it was stored when the call began, where that matters.
        first: node -> first flow that came.
    """

    reader: "RelayReader"
    purpose: Purpose
    started: int
    positions: Mapping[str, int] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Flows:
    """Messages of a call, in order."""

    call: FlowRequest
    messages: list[bytes]


@dataclass(frozen=True)
class Ended:
    """A call is over."""

    call: FlowRequest
    status: StreamStatus


@dataclass(frozen=True)
class RelayAnswer:
    """What a Relay said of itself and its nodes; `problem` instead if it did not answer."""

    reader: "RelayReader"
    status: RelayStatus | None
    peers: list[RelayNode] | None
    problem: str = ""


Item: TypeAlias = "Flows | Ended | RelayAnswer | SightingBatch"


@dataclass(frozen=True)
class FlowSelection:
    """What a reader asks for.

    Attributes:
        allow: filters one of which must fit, narrowed to the reader's clusters.
        deny: filters none of which may fit.
    """

    allow: tuple[FlowFilter, ...]
    deny: tuple[FlowFilter, ...]

    def of(self, nodes: Iterable[str]) -> "FlowSelection":
        """Return the same for some nodes only, by their full names."""
        made = []
        for one in self.allow or (FlowFilter(),):
            copy = FlowFilter()
            copy.CopyFrom(one)
            del copy.node_name[:]
            copy.node_name.extend(sorted(nodes))
            made.append(copy)
        return FlowSelection(tuple(made), self.deny)

    def oldest(self, nodes: Iterable[str]) -> GetFlowsRequest:
        """Return a request for the oldest flow that each of some nodes has, whatever it is."""
        return GetFlowsRequest(first=True, number=1, whitelist=[FlowFilter(node_name=sorted(nodes))])

    def covers(self, node_name: str) -> bool:
        """Tell whether flows of a node are asked for, as far as its name tells."""
        return scope.covers(self.allow, node_name)

    def request(self, *, follow: bool, since: int = 0, until: int = 0, last: int = 0) -> GetFlowsRequest:
        """Return a request; times are nanoseconds, 0 for none."""
        made = GetFlowsRequest(follow=follow, whitelist=self.allow, blacklist=self.deny, number=last)
        for field_, at in ((made.since, since), (made.until, until)):
            if at:
                field_.seconds, field_.nanos = divmod(at, SECOND)
        return made


class RelayReader:
    """All traffic with one Relay.

    Args:
        relay: dialled.
        entry: its account in the ledger.
        queue: where everything goes.
        stop: set when the collection ends.
        clock: the collector's, in nanoseconds.
    """

    def __init__(
        self, relay: Relay, entry: LedgerEntry, queue: "Queue[Item]", stop: threading.Event, clock: Callable[[], int]
    ) -> None:
        self.relay = relay
        self.entry = entry
        self.name = entry.reader
        self.asking = FlowSelection((), ())
        self.stock = False
        self._queue = queue
        self._stop = stop
        self._clock = clock
        self._threads: list[threading.Thread] = []
        self._look = threading.Event()
        self._followed = threading.Event()
        self._stream: Stream | None = None

    def follow(self, asking: FlowSelection, last: int = 0) -> None:
        """Start to follow, again and again until the end, and to ask for the state of the nodes."""
        self.asking = asking
        self._start(self._follow, last)
        self._start(self._poll)

    def backfill(self, call: FlowRequest, request: GetFlowsRequest) -> None:
        """Fetch what the rings hold, beside the stream that is followed."""
        self._start(self._read, call, request)

    def call(self, purpose: Purpose, positions: Mapping[str, int] | None = None) -> FlowRequest:
        """Return a new call of this reader."""
        return FlowRequest(self, purpose, self._clock(), positions or {})

    def look(self) -> RelayAnswer:
        """Ask for the state of the Relay and its nodes.

        Raises:
            MeshobsError: the Relay does not answer.
        """
        return RelayAnswer(self, self.relay.status(), self.relay.nodes())

    def look_now(self) -> None:
        """Ask for the state of the nodes soon, not only at the next turn."""
        self._look.set()

    def end(self) -> None:
        """Let the stream that is followed end now."""
        self._look.set()
        stream = self._stream
        if stream:
            stream.close()

    @property
    def alive(self) -> bool:
        """Tell whether any thread still runs."""
        return any(thread.is_alive() for thread in self._threads)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=target, args=arguments, name=f"{self.name} {target.__name__}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _follow(self, last: int) -> None:
        pauses = backoff_seconds()
        while not self._stop.is_set():
            call = self.call(Purpose.FOLLOW)
            self._read(call, self.asking.request(follow=True, last=last))
            last = 0
            if self._clock() - call.started > 60 * SECOND:
                pauses = backoff_seconds()
            self._stop.wait(next(pauses))
        self._followed.set()

    def _read(self, call: FlowRequest, request: GetFlowsRequest) -> None:
        try:
            stream = self.relay.flows(request, stock=self.stock)
            if call.purpose is Purpose.FOLLOW:
                self._stream = stream
            for messages in stream.messages():
                if messages:
                    self._put(Flows(call, messages))
                if call.purpose is Purpose.FOLLOW and self._stop.is_set():
                    stream.close()
                    break
            status = stream.status or StreamStatus(OK, "")
        except MeshobsError as error:
            status = StreamStatus(UNAVAILABLE, str(error))
        self._put(Ended(call, status))

    def _poll(self) -> None:
        over = False
        while not over:
            over = self._stop.is_set()
            if over:
                # Once more, after the last that the stream said of nodes: what is back by then can still be fetched.
                self._followed.wait(_END_SECONDS)
            try:
                answer = self.look()
            except MeshobsError as error:
                answer = RelayAnswer(self, None, None, str(error))
            self._put(answer)
            if not over:
                self._look.wait(POLL_SECONDS)
            if self._look.is_set():
                self._look.clear()
                self._stop.wait(1)  # a node that just failed needs a moment

    def _put(self, item: Item) -> None:
        """Wait for a place in the queue: a slow writer slows the Relay down, memory does not grow."""
        while True:
            try:
                self._queue.put(item, timeout=1)
            except Full:
                continue
            return

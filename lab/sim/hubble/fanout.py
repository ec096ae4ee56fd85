"""One call of GetFlows at a Relay: every peer is asked the same, what they answer is mixed."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from meshobs.lab.sim.hubble.agent import PORT, Agent
from meshobs.lab.sim.hubble.getflows import FlowReading, Message, RequestRefusedError
from meshobs.lab.sim.hubble.sorting import Errors, Sorter, StatusEvent
from meshobs.lab.sim.hubble.wakeup import Wakeup, WakeupHook
from meshobs.pb.observer.observer_pb2 import GetFlowsRequest
from meshobs.pb.relay.relay_pb2 import NODE_CONNECTED, NODE_UNAVAILABLE

# As real Relays' own setting.
_REFRESH_SECONDS = 2.0


@dataclass
class _PeerStream:
    """A peer's part of a call."""

    agent: Agent
    reading: FlowReading
    hook: WakeupHook
    breaks: int


class Fanout:
    """A call of GetFlows under way.

    Args:
        agents: the Relay's peers.
        request: what each is asked.
        wakeup: what ends it.
        clock: the wall's.
        event: makes what is said of nodes.
    """

    def __init__(
        self,
        agents: Sequence[Agent],
        request: GetFlowsRequest,
        wakeup: Wakeup,
        clock: Callable[[], int],
        event: StatusEvent,
    ) -> None:
        self._agents = agents
        self._request = request
        self._wakeup = wakeup
        self._clock = clock
        self._event = event
        self._streams: dict[str, _PeerStream] = {}
        # Peers that have answered to the end count as connected: they are not asked again.
        self._answered: set[str] = set()
        # Peers that broke off: a Relay tries each once more before it sees that there is no connection.
        self._suspects: set[str] = set()
        self._sorter = Sorter(request.number * len(agents))
        self._errors = Errors(event, clock)

    def close(self) -> None:
        """Leave the rings."""
        for stream in self._streams.values():
            stream.agent.ring.unhook(stream.hook)

    def answer(self) -> Iterator[bytes]:
        """Yield it."""
        connected, unavailable = self._collect()
        for state, names in ((NODE_CONNECTED, connected), (NODE_UNAVAILABLE, unavailable)):
            if names:
                yield self._event(state, names, "", self._clock()).raw
        refresh = time.monotonic() + _REFRESH_SECONDS
        # As a Relay's: without any stream left the call is over, followed or not.
        while self._streams and not self._wakeup.over:
            for message in self._arrivals():
                yield from self._sorter.push(message)
            now = time.monotonic()
            yield from self._sorter.drain(now, self._clock)
            if self._request.follow and now >= refresh:
                refresh = now + _REFRESH_SECONDS
                self._collect()
            if self._streams and not self._wakeup.queue:
                until = min(self._sorter.next_drain, self._errors.next_flush, refresh)
                self._wakeup.wait(max(0.0, until - time.monotonic()))
        if not self._wakeup.over:
            for message in self._errors.rest():
                yield from self._sorter.push(message)
            yield from self._sorter.rest()

    def _arrivals(self) -> Iterator[Message]:
        """Yield what has come: a step of each peer that has something, and errors whose time it is."""
        for hook in self._wakeup.take_sources():
            yield from self._read(hook)
        yield from self._errors.due(time.monotonic())

    def _collect(self) -> tuple[list[str], list[str]]:
        """Ask every peer that is not asked already; the request is the first one's, so it repeats what was sent."""
        connected, unavailable = [], []
        for agent in self._agents:
            name = agent.node.full
            if name in self._streams or name in self._answered:
                connected.append(name)
            elif agent.reachable:
                connected.append(name)
                self._open(agent)
            elif name in self._suspects:
                self._suspects.discard(name)
                self._errors.add(name, _refusal(agent))
            else:
                unavailable.append(name)
        return connected, unavailable

    def _open(self, agent: Agent) -> None:
        name = agent.node.full
        self._suspects.discard(name)
        breaks = agent.breaks
        try:
            reading = FlowReading(agent.ring, self._request, self._clock)
        except RequestRefusedError as refusal:
            known = refusal.code == "UNKNOWN"
            code = "".join(word.capitalize() for word in refusal.code.split("_"))
            self._errors.add(name, refusal.text if known else f"rpc error: code = {code} desc = {refusal.text}")
            return
        hook = WakeupHook(self._wakeup, name)
        self._streams[name] = _PeerStream(agent, reading, hook, breaks)
        agent.ring.hook(hook)
        hook()

    def _read(self, hook: WakeupHook) -> list[Message]:
        """Return a step of one peer's answer; peers take turns."""
        stream = self._streams.get(hook.name)
        if stream is None or stream.hook is not hook:
            return []
        if stream.agent.breaks != stream.breaks:
            self._drop(stream)
            self._suspects.add(hook.name)
            self._errors.add(hook.name, f"rpc error: code = Unavailable desc = {stream.agent.how}")
            return []
        messages, more = stream.reading.take()
        if stream.reading.done:
            self._answered.add(hook.name)
            self._drop(stream)
        elif more:
            hook()
        return messages

    def _drop(self, stream: _PeerStream) -> None:
        stream.agent.ring.unhook(stream.hook)
        del self._streams[stream.hook.name]


def _refusal(agent: Agent) -> str:
    reason = f"dial tcp {agent.node.address}:{PORT}: connect: connection refused"
    return f'rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: {reason}"'

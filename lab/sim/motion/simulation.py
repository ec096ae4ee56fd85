"""The running mesh: a world that changes, agents that follow it, clients that call; flows and objects go to a sink.

Nothing here knows whether time is real: whoever drives the timeline does. One thread at a time may use it.
"""

import random
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Protocol

from meshobs.lab.mesh.model import Mesh
from meshobs.lab.sim.datapath.call import Call, Event, Outcome, Sockets, carry_call
from meshobs.lab.sim.motion.client import SimulatedClient
from meshobs.lab.sim.motion.timeline import Timeline
from meshobs.lab.sim.world import programmed
from meshobs.lab.sim.world import world as worlds
from meshobs.lab.sim.world.world import World
from meshobs.lab.traffic import Traffic
from meshobs.pb.flow.flow_pb2 import Flow
from meshobs.times import SECOND

# A change of an annotation or of readiness reached the datapath of real meshes in 0.27 to 0.7 s.
FOLLOW = 300_000_000


class Sink(Protocol):
    """Where a mesh shows what happens in it."""

    def flow(self, node: str, at: int, flow: Flow) -> None:
        """Take a flow event of a node."""

    def lost(self, node: str, at: int, count: int) -> None:
        """Take that a node's kernel lost events before the ring."""

    def world(self, at: int, world: World) -> None:
        """Take the state that the Kubernetes APIs show from now on."""


@dataclass
class Disturbance:
    """What faults do to events and agents.

    Attributes:
        stuck: clusters whose agents follow no change any more.
        skew: by node, how far its clock is off, nanoseconds.
        loss: by node, share of events that its kernel loses.
    """

    stuck: set[str] = field(default_factory=set)
    skew: dict[str, int] = field(default_factory=dict)
    loss: dict[str, float] = field(default_factory=dict)


class Simulation:
    """A mesh in motion.

    Args:
        mesh: what it is at first.
        sink: where it shows.
        start: the first moment, nanoseconds.
    """

    def __init__(self, mesh: Mesh, sink: Sink, start: int) -> None:
        self.timeline = Timeline()
        self.disturbance = Disturbance()
        self.world = worlds.build(mesh)
        self._sink = sink
        self._sockets = Sockets()
        self._uuids = random.Random(f"{mesh.seed}/uuid")  # noqa: S311 - no secret
        self._clients = 0
        self._lost: dict[str, int] = {}
        self._reprogram(start)
        sink.world(start, self.world)

    def change(self, at: int, change: Callable[[World], World]) -> None:
        """Let the APIs show another world at once, and the agents follow."""
        self.world = change(self.world)
        self._sink.world(at, self.world)
        self.timeline.at(at + FOLLOW, self._reprogram)

    def reconfigure(self, name: str, **settings: object) -> None:
        """Change settings of a cluster's Cilium; they act on the next packet."""
        clusters = tuple(
            replace(one, **settings) if one.name == name else one  # type: ignore[arg-type]  # named by the caller
            for one in self.world.mesh.clusters
        )
        self.world = replace(self.world, mesh=replace(self.world.mesh, clusters=clusters))

    def start(self, at: int, traffic: Traffic, *, endless: bool = False) -> SimulatedClient:
        """Let a client begin.

        Args:
            at: when.
            traffic: what it does.
            endless: go on until stopped, whatever the count.

        Raises:
            InputError: there is no such client or target.
        """
        self._clients += 1
        client = SimulatedClient(self, traffic, f"{self.world.mesh.seed}/{self._clients}", endless=endless)
        client.begin(at)
        return client

    def call(self, call: Call, at: int, chance: random.Random) -> Outcome:
        """Let one call happen: its events come to the sink when they are due."""
        outcome = carry_call(self.world, call, at, chance, self._sockets)
        self.happen(at, outcome.events)
        return outcome

    def happen(self, at: int, events: Iterable[Event]) -> None:
        """Let events come to the sink when they are due."""
        for event in events:
            self.timeline.at(at + event.offset, lambda moment, event=event: self._emit(moment, event))  # type: ignore[misc]

    def _emit(self, moment: int, event: Event) -> None:
        loss = self.disturbance.loss.get(event.node, 0)
        if loss and self._uuids.random() < loss:
            self._lose(event.node, moment)
            return
        at = moment + self.disturbance.skew.get(event.node, 0)
        flow = event.flow
        flow.time.FromNanoseconds(at)
        flow.uuid = str(uuid.UUID(int=self._uuids.getrandbits(128), version=4))
        self._sink.flow(event.node, at, flow)

    def _lose(self, node: str, moment: int) -> None:
        """Count a lost event; the kernel tells of them together."""
        if node not in self._lost:
            self._lost[node] = 0
            self.timeline.at(moment + SECOND // 2, lambda at: self._tell_loss(node, at))
        self._lost[node] += 1

    def _tell_loss(self, node: str, at: int) -> None:
        self._sink.lost(node, at + self.disturbance.skew.get(node, 0), self._lost.pop(node))

    def _reprogram(self, _at: int) -> None:
        stuck = {name: self.world.programmed[name] for name in self.disturbance.stuck if name in self.world.programmed}
        names = [cluster.name for cluster in self.world.mesh.clusters]
        states = {name: stuck.get(name) or programmed.program(self.world, name) for name in names}
        self.world = replace(self.world, programmed=MappingProxyType(states))

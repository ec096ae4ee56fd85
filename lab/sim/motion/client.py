"""Clients: they call at their rate, through the balancer where they are told to, and keep what they saw."""

import random
from typing import Protocol

from meshobs.lab.sim.datapath.call import Call, Host, Outcome, Outside, in_family
from meshobs.lab.sim.motion.targets import client_of, target_of
from meshobs.lab.sim.motion.timeline import Timeline
from meshobs.lab.sim.world.world import Pod, World
from meshobs.lab.traffic import Request, Traffic
from meshobs.times import SECOND

# Linux's range of ports for clients.
_PORTS = (32_768, 60_999)


class CallTarget(Protocol):
    """The mesh that a client calls in."""

    timeline: Timeline
    world: World

    def call(self, call: Call, at: int, chance: random.Random) -> Outcome:
        """Let one call happen."""
        ...


class SimulatedClient:
    """One client with its traffic.

    Attributes:
        requests: those that are over; of an endless client none is kept.
    """

    def __init__(
        self,
        mesh: CallTarget,
        traffic: Traffic,
        seed: str,
        *,
        endless: bool = False,
    ) -> None:
        self._mesh = mesh
        self._traffic = traffic
        self._endless = endless
        self.requests: list[Request] = []
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._begun = 0
        self._open = 0
        self._port = self._chance.randint(*_PORTS)
        self._stopped = False

    @property
    def done(self) -> bool:
        """Tell whether all its requests are over."""
        return self._open == 0 and (self._stopped or (not self._endless and self._begun >= self._traffic.count))

    def stop(self) -> None:
        """Begin no further call."""
        self._stopped = True

    def begin(self, at: int) -> None:
        """Start at a moment.

        Raises:
            InputError: there is no such client or target.
        """
        client = client_of(self._mesh.world, self._traffic.client)
        target_of(self._mesh.world, client, self._traffic.target, 0)
        self._mesh.timeline.at(at, self._connect)

    def _connect(self, at: int) -> None:
        if self._stopped or (not self._endless and self._begun >= self._traffic.count):
            return
        # Open before begun: whoever looks from another thread must not find the last one neither to come nor there.
        self._open += 1
        number, self._begun = self._begun, self._begun + 1
        # Clients do not tick: a tenth of the pause around it.
        pause = SECOND / self._traffic.rate
        self._mesh.timeline.at(at + int(pause * self._chance.uniform(0.9, 1.1)), self._connect)
        self._call(at, number)

    def _call(self, at: int, number: int) -> None:
        world, traffic = self._mesh.world, self._traffic
        client = client_of(world, traffic.client)
        address, port = target_of(world, client, traffic.target, number)
        call = in_family(world, Call(
            client, address, 0 if traffic.protocol == "ICMP" else port, traffic.protocol,
            0 if traffic.protocol == "ICMP" else self._next_port(), traffic.requests, int(traffic.gap * SECOND),
        ))  # fmt: skip
        outcome = self._mesh.call(call, at, self._chance)
        if address == world.mesh.balancer:
            outcome = self._through_balancer(world, call, at, number)
        over = at + (outcome.answers[-1] if outcome.answers else _timeout(outcome))
        self._mesh.timeline.at(over, lambda _moment: self._tell(call, outcome, at))

    def _through_balancer(self, world: World, call: Call, at: int, number: int) -> Outcome:
        """Let the balancer pass a call on: a connection of its own to a node's port."""
        order = world.mesh.in_turn
        node = order[number % len(order)]
        onward = Call(
            Outside(world.mesh.balancer), node.address, call.port, call.protocol, self._next_port(), call.requests,
            call.gap,
        )  # fmt: skip
        return self._mesh.call(onward, at, self._chance)

    def _tell(self, call: Call, outcome: Outcome, at: int) -> None:
        self._open -= 1
        before = at
        answers = outcome.answers or (_timeout(outcome),)
        for number, offset in enumerate(answers):
            if not self._endless:
                self.requests.append(_request(call, outcome, before, at + offset, reused=number > 0))
            before = at + offset + call.gap

    def _next_port(self) -> int:
        self._port = self._port + 1 if self._port < _PORTS[1] else _PORTS[0]
        return self._port


def _timeout(outcome: Outcome) -> int:
    """Return after how long a client gave up: a timeout after 1.5 s, a refusal at once."""
    return 3 * SECOND // 2 if "time" in outcome.error else 1_000_000


def _request(call: Call, outcome: Outcome, began: int, ended: int, *, reused: bool) -> Request:
    client, answered = call.client, outcome.answered
    if isinstance(client, Pod):
        name, cluster, address = client.full, client.cluster, client.address
    elif isinstance(client, Host):
        name, cluster, address = f"host/{client.node.name}", client.node.cluster, client.node.address
    else:
        name, cluster, address = "outside", "", client.address
    return Request(
        began, ended, name, cluster, address, call.source_port, f"{call.address}:{call.port}", call.protocol,
        answered.cluster if answered else "", answered.name if answered else "",
        answered.address if answered else "", answered.node if answered else "", outcome.server_saw, outcome.error,
        reused,
    )  # fmt: skip

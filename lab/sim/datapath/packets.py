"""The packets of one exchange, as the recordings show them: who sends what when. Times are those on the wire."""

import random
from dataclasses import dataclass

# Requests and answers take about this long (nanoseconds); measured within one machine, so a lower bound elsewhere.
_STEP = 12_000
_THINK = (300_000, 2_500_000)
_RETRANSMIT = 1_000_000_000
# A client's connect() is over that long after its ACK: after it arrived within a node, before the request.
_CONNECTED = 4_900
# Later requests of a connection are acknowledged with their answers, but for these few (2 of 98 recorded).
_SLOW = 0.02


@dataclass(frozen=True)
class ClientBehaviour:
    """How the two programs behave that talk to each other; it decides how many packets and socket events there are.

    Attributes:
        segments: in which the server sends an answer.
        peers: how often the client asks for its peer's name per connection.
        peers_again: and per request on a connection of several.
        client_first: how often the client closes before it has seen the server's FIN.
        prompt: how often the server takes a connection before the first request is there.
        patience: nanoseconds until the client gives up.
    """

    segments: int = 1
    peers: int = 2
    peers_again: int = 0
    client_first: float = 1.0
    prompt: float = 0.85
    patience: int = 1_500_000_000


# curl and whoami, the images of the walkthrough, as recorded on real kind clusters.
CURL = ClientBehaviour()


@dataclass(frozen=True)
class Packet:
    """A packet.

    Attributes:
        forward: from the client to the server.
        flags: names of TCP flags in Hubble's order, none for UDP and ICMP.
        time: nanoseconds after the call began when it leaves.
        opens: it is the first of the connection.
        last: it answers a FIN after both sides have sent theirs.
    """

    forward: bool
    flags: tuple[str, ...]
    time: int
    opens: bool = False
    last: bool = False


@dataclass(frozen=True)
class Exchange:
    """The packets of one connection and when the client had each answer.

    Attributes:
        peers: when the client asked for its peer's name.
        accepted: when the server took the connection, -1 if it never did.
    """

    packets: tuple[Packet, ...]
    answers: tuple[int, ...]
    peers: tuple[int, ...] = ()
    accepted: int = -1


class _Script:
    """Writes packets down while time passes."""

    def __init__(self, way: int, chance: random.Random) -> None:
        self.packets: list[Packet] = []
        self.now = 0
        self._way = way
        self._chance = chance

    def forward(self, *flags: str, last: bool = False) -> None:
        self._send(forward=True, flags=flags, last=last)

    def back(self, *flags: str, last: bool = False) -> None:
        self._send(forward=False, flags=flags, last=last)

    def cross(self) -> None:
        """Let the packet on its way arrive."""
        self.now += self._way

    def wait(self, low: int, high: int) -> int:
        """Let a time between two pass and return it."""
        waited = self._chance.randint(low, high)
        self.now += waited
        return waited

    def _send(self, *, forward: bool, flags: tuple[str, ...], last: bool) -> None:
        self.now += self._chance.randint(_STEP // 2, 2 * _STEP)
        self.packets.append(Packet(forward, flags, self.now, opens=not self.packets, last=last))


def tcp(requests: int, gap: int, way: int, manner: ClientBehaviour, chance: random.Random) -> Exchange:
    """Return an answered connection.

    Args:
        requests: on this connection.
        gap: nanoseconds between two.
        way: nanoseconds from one end to the other.
        manner: of the two programs.
        chance: the source of all draws.
    """
    script = _Script(way, chance)
    script.forward("SYN")
    script.cross()
    script.back("SYN", "ACK")
    script.cross()
    script.forward("ACK")
    peers, answers, accepted = [script.now + _CONNECTED] * manner.peers, list[int](), script.now + way
    for number in range(requests):
        if number:
            script.now += gap
        script.forward("ACK", "PSH")
        script.cross()
        if not number or chance.random() < _SLOW:
            script.back("ACK")
        thought = script.wait(*_THINK)
        if not number and thought > _THINK[0] + manner.prompt * (_THINK[1] - _THINK[0]):
            # A server that is slow to answer was slow to take the connection.
            accepted = script.now - thought // 2
        for _ in range(manner.segments):
            script.back("ACK", "PSH")
            script.cross()
            script.forward("ACK")
        answers.append(script.now)
        if requests > 1:
            peers += [script.now] * manner.peers_again
    _close(script, client_first=requests > 1 or chance.random() < manner.client_first)
    return Exchange(tuple(script.packets), tuple(answers), tuple(peers), accepted)


def _close(script: _Script, *, client_first: bool) -> None:
    sends = (script.forward, script.back) if client_first else (script.back, script.forward)
    for send in sends:
        send("ACK", "FIN")
        script.cross()
    sends[0]("ACK", last=True)


def refuse(way: int, chance: random.Random) -> Exchange:
    """Return a connection to a port that nobody listens on."""
    script = _Script(way, chance)
    script.forward("SYN")
    script.cross()
    script.back("ACK", "RST")
    return Exchange(tuple(script.packets), ())


def give_up(manner: ClientBehaviour) -> Exchange:
    """Return a connection that nothing answers: a second SYN after a second, then the client gives up."""
    first = Packet(forward=True, flags=("SYN",), time=_STEP, opens=True)
    again = Packet(forward=True, flags=("SYN",), time=_STEP + _RETRANSMIT)
    return Exchange((first, again) if manner.patience > again.time else (first,), ())


def datagrams(requests: int, gap: int, way: int, chance: random.Random, *, answered: bool = True) -> Exchange:
    """Return datagrams or pings of one socket and their answers."""
    script = _Script(way, chance)
    answers: list[int] = []
    for number in range(requests):
        if number:
            script.now += gap
        script.forward()
        if answered:
            script.cross()
            script.back()
            script.cross()
            answers.append(script.now)
    return Exchange(tuple(script.packets), tuple(answers))

"""What a node reports of a connection's packets: reason by state, and at `medium` only what is new, once in 5 s."""

from dataclasses import dataclass, field

from meshobs.lab.sim.datapath.packets import Packet
from meshobs.lab.sim.datapath.points import ObservationPoint
from meshobs.pb.flow import flow_pb2

_INTERVAL = 5_000_000_000
_ENDS = {"FIN", "RST"}


@dataclass
class _ReportedState:
    """What a point of one direction has reported so far."""

    flags: set[str] = field(default_factory=set)
    reported: int = -1


class Tracker:
    """The connection's entries on all nodes."""

    def __init__(self, *, medium: dict[str, bool]) -> None:
        """Start without entries.

        Args:
            medium: by cluster, whether its nodes aggregate.
        """
        self._medium = medium
        self._entries: dict[int, _ReportedState] = {}

    def reports(self, hop: ObservationPoint, packet: Packet) -> bool:
        """Tell whether a point reports a packet."""
        if hop.once and not packet.opens:
            return False
        if hop.always or hop.anew or hop.once or not self._medium[hop.node.cluster]:
            return True
        if hop.quiet:
            return False
        entry = self._entries.setdefault(id(hop), _ReportedState())
        flags = set(packet.flags)
        # The last ACK of the client is reported after both FINs, the server's is not: so the recordings.
        due = (
            entry.reported < 0
            or not flags <= entry.flags
            or bool(flags & _ENDS)
            or (packet.last and packet.forward)
            or packet.time - entry.reported > _INTERVAL
        )
        entry.flags |= flags
        if due:
            entry.reported = packet.time
        return due


def reason(packet: Packet) -> flow_pb2.TraceReason:
    """Return the state of the connection as this packet meets it."""
    if not packet.forward:
        return flow_pb2.REPLY
    return flow_pb2.NEW if packet.opens else flow_pb2.ESTABLISHED

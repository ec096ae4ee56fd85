"""What a Relay says of itself and of its nodes."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class RelayNode:
    """What a Relay's GetNodes said of one node; numbers it left out are 0."""

    time: int | None
    node_name: str
    state: str
    version: str
    address: str
    uptime_ns: int
    num_flows: int
    max_flows: int
    seen_flows: int


@dataclass(frozen=True)
class RelayStatus:
    """What a Relay's ServerStatus says, sums over all nodes that it is connected to; rates are flows per second.

    Attributes:
        expires: end of the Relay's certificate; None without TLS.
    """

    version: str
    num_flows: int
    max_flows: int
    seen_flows: int
    uptime_ns: int
    connected: int
    unavailable: int
    flows_rate: float
    expires: datetime | None

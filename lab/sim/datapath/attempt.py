"""One attempt of one client, and what comes of it: the datapath's question and its answer."""

from dataclasses import dataclass

from meshobs.lab.mesh.model import Node
from meshobs.lab.sim.world.world import Pod
from meshobs.pb.flow import flow_pb2

NOT_PERMITTED = "Operation not permitted"
NO_ROUTE = "No route to host"
REFUSED = "Connection refused"
TIMED_OUT = "timed out"


@dataclass(frozen=True)
class Host:
    """A process on a node's host network."""

    node: Node


@dataclass(frozen=True)
class Outside:
    """A machine outside the mesh, on the nodes' network."""

    address: str


Client = Pod | Host | Outside


@dataclass(frozen=True)
class Call:
    """One attempt.

    Attributes:
        client: who calls.
        address: aimed at: a pod's, a ClusterIP, a node's (NodePort), any.
        port: 0 for ICMP.
        protocol: `TCP`, `UDP` or `ICMP`.
        source_port: 0 for ICMP.
        requests: on one connection; for ICMP the pings of one process.
        gap: nanoseconds between two requests.
    """

    client: Client
    address: str
    port: int
    protocol: str
    source_port: int
    requests: int = 1
    gap: int = 0

    @property
    def by_ipv6(self) -> bool:
        """Tell whether it aims at an address of IPv6."""
        return ":" in self.address


@dataclass(frozen=True)
class Event:
    """What one node emits.

    Attributes:
        offset: nanoseconds after the call began when the node's agent stamped it, never negative.
        node: full name of the observing node.
        flow: complete but for time and uuid; nobody else holds it.
    """

    offset: int
    node: str
    flow: flow_pb2.Flow


@dataclass(frozen=True)
class Outcome:
    """What came of a call.

    Attributes:
        events: by offset.
        answered: the pod that answered; None if nobody did, or a node or a machine outside.
        server_saw: `address:port` as the server's getpeername says, empty if nobody answered.
        error: empty or what the client got.
        answers: offset of each request's answer.
    """

    events: tuple[Event, ...]
    answered: Pod | None
    server_saw: str
    error: str
    answers: tuple[int, ...]

"""Traffic as every driver runs it, and what its clients saw: the truth that reports are held against."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from meshobs.errors import InputError

PROTOCOLS = ("TCP", "UDP", "ICMP")
CLIENT = "curl-pod"
# Kinds of target that are aimed at by IPv6.
_KINDS6 = ("svc6", "service6", "pod6", "pods6", "node6", "nodes6")
# A rate that two cores carry with collection beside it; an event of each packet is made, sent, read and stored.
_MOST_PER_SECOND = 2000.0


@dataclass(frozen=True)
class Traffic:
    """Requests of one client.

    Attributes:
        client: CLUSTER, CLUSTER/POD, CLUSTER/NAMESPACE/POD, `host/NODE` or `outside`.
        target: `svc/[NAMESPACE/]NAME[:PORT]` as the client's cluster resolves it, `pods/CLUSTER/APP` in turn,
            `pod/NAME`, `node/NODE:PORT` for a NodePort, `nodes/CLUSTER:PORT` in turn, `balancer:PORT`, or ADDRESS:PORT.
            By IPv6 where the mesh has it: `svc6/`, `pods6/`, `pod6/`, `node6/`, `nodes6/`.
        protocol: TCP, UDP or ICMP.
        count: of connections (pings of one process for ICMP: of processes).
        rate: connections a second.
        requests: on each connection.
        gap: seconds between two requests on a connection.
    """

    client: str
    target: str
    protocol: str = "TCP"
    count: int = 100
    rate: float = 50.0
    requests: int = 1
    gap: float = 0.1

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise InputError(f"{self.protocol!r} is no protocol of the lab: one of {', '.join(PROTOCOLS)}")
        if self.count < 1 or self.requests < 1 or self.gap < 0:
            raise InputError("traffic needs at least one connection and one request")
        if not 0 < self.rate <= _MOST_PER_SECOND:
            raise InputError(f"a rate of {self.rate:g} a second is not possible: up to {_MOST_PER_SECOND:g}")


@dataclass(frozen=True)
class Request:
    """One request as its client, and the server behind it, saw it.

    Attributes:
        time: when it began, nanoseconds.
        ended: when it was answered or given up.
        client: cluster/namespace/pod, or what else it was.
        client_cluster: empty outside the mesh.
        target: address and port that the client aimed at.
        answered_cluster: of the pod that answered; empty without an answer.
        server_saw: address and port that the server had as its peer.
        error: what the client got instead of an answer.
        reused: a further request on an open connection.
    """

    time: int
    ended: int
    client: str
    client_cluster: str
    client_address: str
    client_port: int
    target: str
    protocol: str
    answered_cluster: str = ""
    answered_pod: str = ""
    answered_address: str = ""
    answered_node: str = ""
    server_saw: str = ""
    error: str = ""
    reused: bool = False


@contextmanager
def run_timed(actions: Sequence[tuple[float, Callable[[], None]]]) -> Iterator[None]:
    """Do things after so many seconds while traffic runs; what is not due yet at its end is left out."""
    timers = [threading.Timer(after, action) for after, action in actions]
    for timer in timers:
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


def split_target(text: str) -> tuple[str, str, bool]:
    """Return a target's kind without its 6, what follows, and whether it is aimed at by IPv6."""
    kind, _, rest = text.partition("/")
    six = kind in _KINDS6
    return kind.removesuffix("6") if six else kind, rest, six


def address_of(addresses: Sequence[str], name: str, *, six: bool) -> str:
    """Return the address of a family among those of what has that name.

    Raises:
        InputError: there is none.
    """
    found = next((one for one in addresses if (":" in one) == six), "")
    if not found:
        raise InputError(f"{name}: it has no IPv{6 if six else 4} address; the variant dual-stack has both")
    return found


def service_name(text: str) -> tuple[str, str, int]:
    """Return namespace, name and port of a service as a target names it; port 0: its first.

    Raises:
        InputError: its port is none.
    """
    namespace, _, name = text.rpartition("/")
    if ":" not in name:
        return namespace or "default", name, 0
    return namespace or "default", *host_port(name)


def host_port(text: str) -> tuple[str, int]:
    """Return the two parts of a target that is neither a service nor a pod.

    Raises:
        InputError: the text is no target.
    """
    address, _, port = text.rpartition(":")
    if not address or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InputError(
            f"{text!r} is no target: write svc/NAME, pods/CLUSTER/APP, pod/NAME, node/NODE:PORT, HOST:PORT"
        )
    return address, int(port)

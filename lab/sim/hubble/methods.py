"""The methods that agents, peer services and Relays answer; from bytes to bytes, whoever carries them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from meshobs.lab.mesh.model import Cluster
from meshobs.lab.sim.hubble import getflows
from meshobs.lab.sim.hubble.agent import Agent, build
from meshobs.lab.sim.hubble.getflows import RequestRefusedError
from meshobs.lab.sim.hubble.relay import SimulatedRelay
from meshobs.lab.sim.hubble.wakeup import Wakeup
from meshobs.pb.observer.observer_pb2 import GetFlowsRequest, GetNamespacesResponse, Namespace
from meshobs.pb.peer.peer_pb2 import PEER_ADDED, ChangeNotification

Headers = tuple[tuple[str, str], ...]
# Request, and what ends the call -> answers. Raises RefusedError.
Answer = Callable[[bytes, Wakeup], Iterator[bytes]]

_OBSERVER = "observer.Observer"
# grpc.health.v1's answers {status: SERVING} and {status: NOT_SERVING}; its package is no dependency.
_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"


@dataclass(frozen=True)
class Method:
    """A method of a gRPC service.

    Attributes:
        streams: it has any number of answers, else one.
        headers: what stands before them.
    """

    service: str
    name: str
    answer: Answer
    streams: bool = False
    headers: Headers = ()


def of_agent(agent: Agent) -> list[Method]:
    """Return an agent's methods."""

    def flows(request: bytes, wakeup: Wakeup) -> Iterator[bytes]:
        return getflows.flows(agent.ring, GetFlowsRequest.FromString(request), agent.clock, wakeup)

    def namespaces() -> GetNamespacesResponse:
        cluster = agent.node.cluster
        return GetNamespacesResponse(
            namespaces=[Namespace(cluster=cluster, namespace=name) for name in agent.namespaces()]
        )

    headers = _headers("hubble-server-version", agent.cluster)
    return [
        Method(_OBSERVER, "GetFlows", flows, streams=True, headers=headers),
        Method(_OBSERVER, "ServerStatus", _once(agent.server_status), headers=headers),
        Method(_OBSERVER, "GetNodes", _refuse_method("GetNodes not implemented"), headers=headers),
        Method(_OBSERVER, "GetNamespaces", _once(namespaces), headers=headers),
        _health(lambda: True),
    ]


def of_relay(relay: SimulatedRelay) -> list[Method]:
    """Return a Relay's methods."""

    def flows(request: bytes, wakeup: Wakeup) -> Iterator[bytes]:
        return relay.flows(GetFlowsRequest.FromString(request), wakeup)

    headers = _headers("hubble-relay-version", relay.cluster)
    refused = [
        Method(_OBSERVER, name, _refuse_method(f"{name} not yet implemented"), streams=True, headers=headers)
        for name in ("GetAgentEvents", "GetDebugEvents")
    ]
    return [
        Method(_OBSERVER, "GetFlows", flows, streams=True, headers=headers),
        Method(_OBSERVER, "ServerStatus", _once(relay.server_status), headers=headers),
        Method(_OBSERVER, "GetNodes", _once(relay.nodes), headers=headers),
        Method(_OBSERVER, "GetNamespaces", _once(relay.namespaces), headers=headers),
        *refused,
        _health(lambda: any(agent.reachable for agent in relay.agents)),
    ]


def of_peers(agents: Callable[[], Mapping[str, str]]) -> list[Method]:
    """Return a peer service's method.

    Args:
        agents: full name of each node of the mesh -> address of its agent.
    """

    def notify(_request: bytes, wakeup: Wakeup) -> Iterator[bytes]:
        for name, address in agents().items():
            yield ChangeNotification(name=name, address=address, type=PEER_ADDED).SerializeToString()
        while not wakeup.over:
            wakeup.wait(None)

    return [Method("peer.Peer", "Notify", notify, streams=True)]


def _headers(name: str, cluster: Cluster) -> Headers:
    """Return the headers of an answer: before 1.19 no version stands there."""
    return ((name, build(cluster.cilium)),) if cluster.traits.names_emitter else ()


def _once(answer: Callable[[], Any]) -> Answer:
    return lambda _request, _wakeup: iter([answer().SerializeToString()])


def _refuse_method(text: str) -> Answer:
    def answer(_request: bytes, _wakeup: Wakeup) -> Iterator[bytes]:
        raise RequestRefusedError("UNIMPLEMENTED", text)

    return answer


def _health(serves: Callable[[], bool]) -> Method:
    def answer(_request: bytes, _wakeup: Wakeup) -> Iterator[bytes]:
        yield _SERVING if serves() else _NOT_SERVING

    return Method("grpc.health.v1.Health", "Check", answer)

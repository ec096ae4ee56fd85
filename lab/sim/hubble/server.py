"""The lab's only door to grpc: the Hubble of a mesh on ports of this machine, agents, peer services and Relays."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, cast

import grpc

from meshobs.lab.mesh.model import Mesh
from meshobs.lab.sim.hubble import methods
from meshobs.lab.sim.hubble.agent import Agent, AgentStatus
from meshobs.lab.sim.hubble.getflows import RequestRefusedError
from meshobs.lab.sim.hubble.methods import Method
from meshobs.lab.sim.hubble.relay import SimulatedRelay
from meshobs.lab.sim.hubble.wakeup import Wakeup
from meshobs.pb.flow.flow_pb2 import Flow, LostEventSource

# Threads are made as calls need them: a real Relay before 200 nodes holds a call open to each, twice with two readers.
_THREADS = 4096
_CLOSE_SECONDS = 10.0


class Hubble:
    """Everything of a mesh that speaks Hubble's API.

    Attributes:
        relays: cluster -> address of its Relay.
        peers: cluster -> address of the peer service that a hubble-relay of this cluster would ask.
        agents: full name of a node -> address of its agent.
    """

    def __init__(self, mesh: Mesh, *, clock: Callable[[], int] = time.time_ns, host: str = "127.0.0.1") -> None:
        self._host = host
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="hubble")
        self._agents = {node.full: Agent(node, mesh.cluster(node.cluster), clock) for node in mesh.nodes}
        agents = list(self._agents.values())
        self._agent_ports = {name: self._port(methods.of_agent(agent)) for name, agent in self._agents.items()}
        self._relay_ports = {
            one.name: self._port(methods.of_relay(SimulatedRelay(one, agents, clock))) for one in mesh.clusters
        }
        self._peer_ports = {one.name: self._port(methods.of_peers(lambda: self.agents)) for one in mesh.clusters}

    @property
    def relays(self) -> Mapping[str, str]:
        """Return where each cluster's Relay listens."""
        return _addresses(self._relay_ports)

    @property
    def peers(self) -> Mapping[str, str]:
        """Return where each cluster's peer service listens."""
        return _addresses(self._peer_ports)

    @property
    def agents(self) -> Mapping[str, str]:
        """Return where each node's agent listens."""
        return _addresses(self._agent_ports)

    def start(self) -> None:
        """Listen; ports stay the same from now on."""
        for ports in (self._agent_ports, self._relay_ports, self._peer_ports):
            for port in ports.values():
                port.open()

    def stop(self) -> None:
        """End every call and stop listening."""
        ports = [*self._relay_ports.values(), *self._peer_ports.values(), *self._agent_ports.values()]
        closing = [port.close() for port in ports]
        for closed in closing:
            closed.wait(_CLOSE_SECONDS)
        self._executor.shutdown()

    def write(self, node: str, at: int, flow: Flow) -> None:
        """Let a node's agent take in a flow; nobody's if it is stopped.

        Args:
            node: full name.
            at: the flow's time.
            flow: complete, with time, uuid and node_name.
        """
        self._agents[node].write(at, flow)

    def lose(self, node: str, at: int, count: int, source: str, cpu: int = 0) -> None:
        """Let events be lost before a node's ring, the same for every reader.

        Args:
            node: full name.
            at: when it was noticed.
            count: how many.
            source: PERF_EVENT_RING_BUFFER or OBSERVER_EVENTS_QUEUE.
            cpu: whose buffer it was.
        """
        self._agents[node].lose(at, count, cast("LostEventSource", LostEventSource.Value(source)), cpu)

    def stop_agent(self, node: str) -> None:
        """Stop an agent: calls break off, connections are refused, what happens on the node is seen by nobody."""
        self._agents[node].stop()
        self._agent_ports[node].close().wait(_CLOSE_SECONDS)

    def start_agent(self, node: str) -> None:
        """Start it again, with an empty ring."""
        self._agents[node].start()
        self._settle(node)

    def stop_relay(self, cluster: str) -> None:
        """Stop a Relay: calls break off, connections are refused."""
        self._relay_ports[cluster].close().wait(_CLOSE_SECONDS)

    def start_relay(self, cluster: str) -> None:
        """Start it again where it was."""
        self._relay_ports[cluster].open()

    def set_ring(self, node: str, capacity: int) -> None:
        """Give a node a smaller or larger ring; the newest flows stay."""
        self._agents[node].resize(capacity)

    def hide(self, node: str, hidden: bool) -> None:
        """Make a node unreachable for every Relay, or reachable again; its agent goes on, its ring fills."""
        self._agents[node].hide(hidden)
        self._settle(node)

    def status(self) -> dict[str, AgentStatus]:
        """Return what each node's agent is like now."""
        return {name: agent.status() for name, agent in self._agents.items()}

    def _settle(self, node: str) -> None:
        """Let an agent listen if it is to be reached, else not."""
        port = self._agent_ports[node]
        if self._agents[node].reachable:
            port.open()
        else:
            port.close().wait(_CLOSE_SECONDS)

    def _port(self, found: Sequence[Method]) -> "_GrpcPort":
        return _GrpcPort(self._host, self._executor, found)


class _GrpcPort:
    """A port where methods are called, open or closed. It keeps its number.

    Attributes:
        address: where it is.
    """

    def __init__(self, host: str, executor: ThreadPoolExecutor, found: Sequence[Method]) -> None:
        self.address = f"{host}:0"
        self._executor = executor
        self._methods = found
        self._server: grpc.Server | None = None

    def open(self) -> None:
        """Listen, unless it does already.

        Raises:
            OSError: the port is taken.
        """
        if self._server:
            return
        server = grpc.server(self._executor, options=[("grpc.so_reuseport", 0)])
        services: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
        for one in self._methods:
            services.setdefault(one.service, {})[one.name] = _handler(one)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(*one) for one in services.items()])
        try:
            port = server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise OSError(f"cannot listen at {self.address}") from error
        server.start()
        self.address = f"{self.address.rpartition(':')[0]}:{port}"
        self._server = server

    def close(self) -> threading.Event:
        """Break off every call and stop listening; return what is set when that is done."""
        server, self._server = self._server, None
        if server:
            stopped: threading.Event = server.stop(None)
            return stopped
        done = threading.Event()
        done.set()
        return done


def _addresses(ports: Mapping[str, _GrpcPort]) -> Mapping[str, str]:
    return MappingProxyType({name: port.address for name, port in ports.items()})


def _handler(method: Method) -> "grpc.RpcMethodHandler[Any, Any]":
    """Return how grpc calls a method; messages stay bytes."""

    def answers(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        wakeup = Wakeup()
        if not context.add_callback(wakeup.end):
            return
        context.send_initial_metadata(method.headers)
        try:
            yield from method.answer(request, wakeup)
        except RequestRefusedError as refusal:
            context.abort(grpc.StatusCode[refusal.code], refusal.text)

    if method.streams:
        return grpc.unary_stream_rpc_method_handler(answers, None, None)
    return grpc.unary_unary_rpc_method_handler(lambda request, context: next(answers(request, context)), None, None)

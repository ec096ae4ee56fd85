"""Hubble as tests need it: small node servers (Peer + Observer over gRPC) that play recordings, and a real Relay before them."""

import fnmatch
import gzip
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from meshobs.collector.collect import Collection, CollectOptions
from meshobs.collector.hubble.relay import Relay
from meshobs.collector.hubble.target import parse
from meshobs.collector.kube.cluster import ClusterInfo, KubeCluster
from meshobs.collector.write.ledger import Ledger
from meshobs.pb.observer.observer_pb2 import GetFlowsRequest, GetFlowsResponse, ServerStatusResponse
from meshobs.pb.peer import peer_pb2
from meshobs.store import Store

SECOND = 10**9


@dataclass(frozen=True)
class Event:
    """A message in a node's ring."""

    at: int
    raw: bytes
    ports: frozenset[int]


def recorded(path: Path, start: int = 0) -> dict[str, list[Event]]:
    """Return a recording's flows by node, oldest first, without what only a Relay says.

    Args:
        path: a raw capture.
        start: when the first flow happens, in nanoseconds; 0: when it did.
    """
    shift = 0
    found: dict[str, list[Event]] = {}
    data = gzip.decompress(path.read_bytes())
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        raw = data[at + 4 : at + 4 + length]
        at += 4 + length
        message = GetFlowsResponse.FromString(raw)
        if message.HasField("flow"):
            if start:
                shift = shift or start - _ns(message.time)
                message.time.FromNanoseconds(_ns(message.time) + shift)
                message.flow.time.CopyFrom(message.time)
                raw = message.SerializeToString()
            found.setdefault(message.node_name, []).append(event(message, raw))
    return {name: sorted(events, key=lambda one: one.at) for name, events in found.items()}


def event(message: GetFlowsResponse, raw: bytes | None = None) -> Event:
    """Return a message as a ring holds it."""
    l4 = message.flow.l4
    part: Any = l4.TCP if l4.HasField("TCP") else l4.UDP if l4.HasField("UDP") else None
    ports = frozenset({part.source_port, part.destination_port}) if part else frozenset()
    at = message.time.seconds * SECOND + message.time.nanos
    return Event(at, raw or message.SerializeToString(), ports)


class Node:
    """One node's agent: a ring of flows behind a gRPC server.

    Attributes:
        answers: False makes it accept calls and never answer.
        capacity: how many flows the ring holds; older ones are gone.
        pause: seconds between two messages of a call.
    """

    def __init__(self, name: str, events: list[Event] | None = None, credentials: Any = None) -> None:
        self.name = name
        self.port = free_port()
        self.answers = True
        self.capacity = 2**62
        self.pause = 0.0
        self.asked: list[GetFlowsRequest] = []
        self.started = time.time_ns()
        self._credentials = credentials
        self._events = list(events or [])
        self._more = threading.Condition()
        self._server: grpc.Server | None = None

    def start(self) -> "Node":
        """Listen."""
        handlers = {
            "GetFlows": grpc.unary_stream_rpc_method_handler(self._flows, GetFlowsRequest.FromString, None),
            "ServerStatus": grpc.unary_unary_rpc_method_handler(
                self._status, None, ServerStatusResponse.SerializeToString
            ),
        }
        self._server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("observer.Observer", handlers)])
        address = f"127.0.0.1:{self.port}"
        if self._credentials:
            self._server.add_secure_port(address, self._credentials)
        else:
            self._server.add_insecure_port(address)
        self._server.start()
        self.started = time.time_ns()
        return self

    def stop(self) -> None:
        """Break every call off and stop listening; the ring stays."""
        if self._server:
            self._server.stop(None).wait(5)
            self._server = None

    def restart(self) -> None:
        """Come back with an empty ring, as an agent does."""
        self.stop()
        with self._more:
            self._events.clear()
        self.start()

    def add(self, *events: Event) -> None:
        """Let events happen."""
        with self._more:
            self._events += events
            del self._events[: max(0, len(self._events) - self.capacity)]
            self._more.notify_all()

    def _status(self, _request: bytes, _context: grpc.ServicerContext) -> ServerStatusResponse:
        count = len(self._events)
        return ServerStatusResponse(
            num_flows=count,
            max_flows=min(self.capacity, 65_535),
            seen_flows=count,
            uptime_ns=time.time_ns() - self.started,
            version="1.17.6",
        )

    def _flows(self, request: GetFlowsRequest, context: grpc.ServicerContext) -> Iterator[bytes]:
        self.asked.append(request)
        if request.first and request.follow:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "first cannot be specified with follow")
        for one in (*request.whitelist, *request.blacklist):
            for address in one.source_ip:
                if address.startswith("not"):
                    context.abort(grpc.StatusCode.UNKNOWN, f'invalid IP address "{address}" in filter')
        while not self.answers and context.is_active():
            time.sleep(0.05)
        wanted = self._filter(request)
        since = _ns(request.since) if request.HasField("since") else None
        until = _ns(request.until) if request.HasField("until") else 2**63
        at = self._start(request, since, wanted)
        sent = 0
        while context.is_active():
            with self._more:
                events = self._events[at:]
            at += len(events)
            for one in events:
                if one.at > until:
                    return
                if (since is not None and one.at < since) or not wanted(one):
                    continue
                yield one.raw
                sent += 1
                if self.pause:
                    time.sleep(self.pause)
                if request.number and sent == request.number and not request.follow:
                    return
            if not request.follow:
                return
            with self._more:
                if len(self._events) == at:
                    self._more.wait(0.2)

    def _start(self, request: GetFlowsRequest, since: int | None, wanted: Callable[[Event], bool]) -> int:
        """Return the index of the first event of an answer, as hubble's ring reader finds it."""
        with self._more:
            if request.first or since is not None:
                return 0
            if request.follow and not request.number:
                return len(self._events)
            matching = [index for index, one in enumerate(self._events) if wanted(one)]
            return matching[-request.number] if request.number and len(matching) > request.number else 0

    def _filter(self, request: GetFlowsRequest) -> Callable[[Event], bool]:
        names = [list(one.node_name) for one in request.whitelist if one.node_name]
        if names and not any(self._named(patterns) for patterns in names):
            return lambda _event: False
        denied = {
            int(port)
            for one in request.blacklist
            if not one.source_ip and not one.destination_ip
            for port in (*one.source_port, *one.destination_port)
        }
        return lambda event: not event.ports & denied

    def _named(self, patterns: list[str]) -> bool:
        return any(
            fnmatch.fnmatch(self.name, pattern + "*" if pattern.endswith("/") else pattern) for pattern in patterns
        )


@dataclass
class Peers:
    """The peer service that tells a Relay of its nodes."""

    nodes: list[Node] = field(default_factory=list)
    port: int = 0
    tls_names: dict[str, str] = field(default_factory=dict)
    _server: grpc.Server | None = None

    def start(self) -> "Peers":
        """Listen."""
        self.port = self.port or free_port()
        handler = grpc.unary_stream_rpc_method_handler(
            self._notify, peer_pb2.NotifyRequest.FromString, peer_pb2.ChangeNotification.SerializeToString
        )
        self._server = grpc.server(ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("peer.Peer", {"Notify": handler})])
        self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()
        return self

    def stop(self) -> None:
        """Stop listening."""
        if self._server:
            self._server.stop(None).wait(5)

    def _notify(self, _request: Any, context: grpc.ServicerContext) -> Iterator[peer_pb2.ChangeNotification]:
        told: set[str] = set()
        while context.is_active():
            for node in self.nodes:
                if node.name not in told:
                    told.add(node.name)
                    change = peer_pb2.ChangeNotification(
                        name=node.name, address=f"127.0.0.1:{node.port}", type=peer_pb2.PEER_ADDED
                    )
                    if node.name in self.tls_names:
                        change.tls.server_name = self.tls_names[node.name]
                    yield change
            time.sleep(0.1)


class RelayProcess:
    """A real hubble-relay."""

    def __init__(self, binary: Path, peers: Peers, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        self._binary = binary
        self._peers = peers
        self._log = folder / f"relay-{self.port}.log"
        self._arguments = arguments or ("--disable-client-tls", "--disable-server-tls")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Return where it listens."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> "RelayProcess":
        """Run it until it listens."""
        command = [
            str(self._binary), "serve",
            f"--peer-service=127.0.0.1:{self._peers.port}", f"--listen-address={self.address}",
            f"--health-listen-address=127.0.0.1:{free_port()}", "--gops=false", "--retry-timeout=1s",
            *self._arguments,
        ]  # fmt: skip
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(lambda: listens(self.port), f"{command} does not listen: {self._log.read_text()[-2000:]}")
        return self

    def kill(self) -> None:
        """Kill it."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def relay(binary: Path, nodes: list[Node], folder: Path, *arguments: str) -> Iterator[RelayProcess]:
    """Run nodes, their peer service and a Relay that is connected to all of them."""
    peers = Peers([node.start() for node in nodes]).start()
    process = RelayProcess(binary, peers, folder, *arguments)
    try:
        process.start()
        yield process
    finally:
        process.kill()
        peers.stop()
        for node in nodes:
            node.stop()


def dial(process: RelayProcess, name: str = "west") -> Relay:
    """Return a Relay that is connected to its nodes."""
    made = Relay(parse(f"{name}={process.address}", None)).dial()
    wait_until(lambda: made.status().unavailable == 0 and made.status().connected > 0)
    return made


@contextmanager
def collecting(db: Path, process: RelayProcess, *flags: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `meshobs collect` as a process of its own, from the moment when it follows."""
    meshobs = [sys.executable, "-m", "meshobs", "--db", str(db)]
    command = [*meshobs, "collect", "--relay", f"west={process.address}", *flags]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield running
    finally:
        running.wait(60)
        if running.stderr:
            running.stderr.close()


def stored(db: Path) -> list[tuple[Any, ...]]:
    """Return the flows that came as they can be told apart."""
    with Store.open(db) as store:
        return store.rows("select cluster || '/' || node, epoch_ns(time), uuid_text(uuid) from flows_seen order by all")


def expected(flows: dict[str, list[Event]]) -> list[tuple[Any, ...]]:
    """Return what must be stored of the flows."""
    found = [
        (name, one.at, GetFlowsResponse.FromString(one.raw).flow.uuid[:18])
        for name, events in flows.items()
        for one in events
    ]
    return sorted(found)


class Run:
    """A collection in a thread of its own."""

    def __init__(
        self,
        db: Path,
        relays: dict[str, Relay],
        options: CollectOptions | None = None,
        clusters: Mapping[str, tuple[KubeCluster, ClusterInfo]] | None = None,
    ) -> None:
        self._clusters = clusters or {}
        self.said: list[str] = []
        self.collection: Collection | None = None
        self.store: Store | None = None
        self.ledger: Ledger | None = None
        self.error: BaseException | None = None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(db, relays, options or CollectOptions()))
        self._thread.start()
        assert self._begun.wait(30)

    def _run(self, db: Path, relays: dict[str, Relay], options: CollectOptions) -> None:
        try:
            with Store.open(db, write=True) as store:
                self.store = store
                self.collection = Collection(store, relays, options, self.said.append, clusters=self._clusters)
                self._begun.set()
                self.ledger = self.collection.run()
        except BaseException as error:  # noqa: BLE001 - told by `end`
            self.error = error
            self._begun.set()

    @property
    def received(self) -> int:
        """Return how many messages came so far."""
        return self.collection.progress.received if self.collection else 0

    def end(self) -> Ledger:
        """Stop it in order."""
        assert self.collection
        self.collection.stop.set()
        self._thread.join(60)
        if self.error:
            raise self.error
        assert self.ledger
        return self.ledger


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Tell whether somebody listens on a port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


def wait_until(condition: Callable[[], object], message: str = "", seconds: float = 30) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, message
        time.sleep(0.02)


def _ns(moment: Any) -> int:
    return int(moment.seconds) * SECOND + int(moment.nanos)

"""A local port whose connections end at a Pod, carried by the Kubernetes API as `kubectl port-forward` does.

One thread pumps a connection both ways and reads no further than the other side takes: a slow reader slows the sender
down and memory stays flat. `kubernetes.stream.portforward` buffers without bound and leaves its socket open when the
API goes away, so only its dialling is used.
"""

import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import websocket

from meshobs.collector.kube.document import Json, at, items, text
from meshobs.errors import MeshobsError

# Bytes read at once from the local side.
_CHUNK = 65_536
# A frame that has begun must be complete after so many seconds.
_FRAME_SECONDS = 30.0
# Data and error channel of the one port that is forwarded; each begins with a frame that names the port.
_DATA, _ERROR = 0, 1


@dataclass(frozen=True)
class RelayService:
    """Service hubble-relay.

    Attributes:
        port: of the service.
        target: number or name of the Pods' port.
        selector: labels of the Pods, as a query takes them.
    """

    namespace: str
    name: str
    port: int
    target: int | str
    selector: str

    @property
    def tls(self) -> bool:
        """Tell whether the Relay speaks TLS: Cilium's chart names port 443 then, and 80 without."""
        return self.port == 443  # noqa: PLR2004 - https


@dataclass(frozen=True)
class Tunnel:
    """An open WebSocket of the API's portforward subresource, protocol v4.channel.k8s.io.

    Attributes:
        to: what it leads to, for messages.
    """

    websocket: websocket.WebSocket
    to: str


class PortForward:
    """A port of 127.0.0.1 that leads to a Pod, from `listen` until `close`.

    Args:
        dial: opens a tunnel for a new connection, raises a MeshobsError that says why it cannot. Its argument grows by
            one whenever a tunnel failed: time to try another Pod.
        say: told of troubles, each once until a tunnel works again.

    Attributes:
        port: where it listens.
        problem: what went wrong last; empty while tunnels work.
    """

    def __init__(self, dial: Callable[[int], Tunnel], say: Callable[[str], None]) -> None:
        self.problem = ""
        self._dial = dial
        self._say = say
        self._turn = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False
        self._listener: socket.socket | None = None
        self.port = 0

    def listen(self) -> Self:
        """Take connections on a free port from now on."""
        self._listener = listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(listener,), name=f"forward {self.port}", daemon=True).start()
        return self

    def close(self) -> None:
        """Stop listening and break every connection off. A second call does nothing."""
        with self._lock:
            self._closed = True
            listener, sockets = self._listener, list(self._open)
        for one in [listener, *sockets] if listener else sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        if listener:
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                local, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(local,), name=f"forward {self.port}", daemon=True).start()

    def _serve(self, local: socket.socket) -> None:
        with self._lock:
            if self._closed:
                local.close()
                return
            self._open.add(local)
        try:
            tunnel = self._dial(self._turn)
            try:
                self._pump(local, tunnel)
            finally:
                tunnel.websocket.shutdown()  # type: ignore[no-untyped-call]
        except MeshobsError as error:
            self._fail(str(error))
        finally:
            with self._lock:
                self._open.discard(local)
                local.close()

    def _pump(self, local: socket.socket, tunnel: Tunnel) -> None:
        remote = tunnel.websocket
        remote.settimeout(_FRAME_SECONDS)
        started: set[int] = set()
        with selectors.DefaultSelector() as selector:
            selector.register(local, selectors.EVENT_READ)
            selector.register(remote, selectors.EVENT_READ)
            while True:
                # TLS may hold frames that the selector does not see.
                held = isinstance(remote.sock, ssl.SSLSocket) and remote.sock.pending() > 0
                ready = {key.fileobj for key, _ in selector.select(0 if held else None)}
                if local in ready and not _upward(local, tunnel):
                    return
                if (held or remote in ready) and not self._downward(local, tunnel, started):
                    return

    def _downward(self, local: socket.socket, tunnel: Tunnel, started: set[int]) -> bool:
        """Carry one frame from the Pod; False at the end."""
        try:
            opcode, frame = tunnel.websocket.recv_data_frame(control_frame=True)
        except (websocket.WebSocketException, OSError) as error:
            raise MeshobsError(f"{tunnel.to} broke off ({error})") from error
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return False
        if opcode != websocket.ABNF.OPCODE_BINARY or not frame.data:
            return True
        channel, data = frame.data[0], bytes(frame.data[1:])
        if channel not in started:
            started.add(channel)
        elif channel == _ERROR:
            raise MeshobsError(f"{tunnel.to} failed: {' '.join(data.decode(errors='replace').split())}")
        elif channel == _DATA:
            self.problem = ""
            with suppress(OSError):  # a reader that went away shows when its side is read
                local.sendall(data)
        return True

    def _fail(self, problem: str) -> None:
        with self._lock:
            self._turn += 1
            is_new = problem != self.problem and not self._closed
            self.problem = problem
        if is_new:
            self._say(problem)


def _upward(local: socket.socket, tunnel: Tunnel) -> bool:
    """Carry what the local side has for the Pod; False at its end."""
    try:
        data = local.recv(_CHUNK)
    except OSError:
        return False
    if not data:
        return False
    try:
        tunnel.websocket.send_binary(bytes((_DATA,)) + data)
    except (websocket.WebSocketException, OSError) as error:
        raise MeshobsError(f"{tunnel.to} broke off ({error})") from error
    return True


def relay_service(service: Json) -> RelayService | None:
    """Return what a Service object says; None if it has no port or no Pods."""
    selector, ports = at(service, "spec", "selector"), items(service, "spec", "ports")
    number, target = (at(ports[0], "port"), at(ports[0], "targetPort")) if ports else (None, None)
    if not isinstance(number, int) or not isinstance(selector, Mapping) or not selector:
        return None
    return RelayService(
        namespace=text(service, "metadata", "namespace"),
        name=text(service, "metadata", "name"),
        port=number,
        target=target if isinstance(target, int | str) and target else number,
        selector=",".join(f"{key}={value}" for key, value in selector.items()),
    )


def reachable(pods: Json) -> list[Json]:
    """Return the running ones of a list of Pods; only the ready ones if there are any."""
    running = [
        pod
        for pod in items(pods, "items")
        if text(pod, "status", "phase") == "Running" and not text(pod, "metadata", "deletionTimestamp")
    ]
    return [pod for pod in running if _ready(pod)] or running


def container_port(pod: Json, target: int | str) -> int | None:
    """Return the number of a Pod's port; None if none of its containers has one of that name."""
    if isinstance(target, int):
        return target
    ports = [port for container in items(pod, "spec", "containers") for port in items(container, "ports")]
    numbers = [at(port, "containerPort") for port in ports if text(port, "name") == target]
    return next((number for number in numbers if isinstance(number, int)), None)


def _ready(pod: Json) -> bool:
    conditions = items(pod, "status", "conditions")
    return any(text(one, "type") == "Ready" and text(one, "status") == "True" for one in conditions)

"""Port-forwarding as an API server does it over a WebSocket, protocol v4.channel.k8s.io."""

import base64
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO

PROTOCOL = "v4.channel.k8s.io"
# Fixed by RFC 6455, to show that a server understands WebSockets.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10
_DATA, _ERROR = b"\0", b"\1"
_CHUNK = 65_536
_LONGEST = 2**20
_CONNECT_SECONDS = 5.0
# Lengths of a frame beyond these are written in two and in eight bytes.
_SHORT, _LONG = 126, 2**16


@dataclass(frozen=True)
class ForwardRequest:
    """What a client asks for: a port of a Pod.

    Attributes:
        target: where it is really served, empty if nothing listens there.
        carried: told how many bytes came from the Pod at once; from any thread.
    """

    pod: str
    port: int
    target: str
    carried: Callable[[int], None] = lambda _size: None


def accepts(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that agree to a WebSocket; none where that is not what was asked for.

    Args:
        headers: of the request, by name in lower case.
    """
    key, offered = headers.get("sec-websocket-key", ""), headers.get("sec-websocket-protocol", "")
    protocols = [one.strip() for one in offered.split(",")]
    if headers.get("upgrade", "").lower() != "websocket" or not key or PROTOCOL not in protocols:
        return {}
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    return {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-accept": base64.b64encode(digest).decode(),
        "sec-websocket-protocol": PROTOCOL,
    }


def carry(forward: ForwardRequest, near: socket.socket, reader: BinaryIO) -> None:
    """Carry bytes both ways until one side ends.

    Args:
        forward: where to.
        near: the client's connection, upgraded.
        reader: what the client sends.

    Raises:
        OSError: the client went away.
    """
    port = forward.port.to_bytes(2, "little")
    near.sendall(_frame(_BINARY, _DATA + port) + _frame(_BINARY, _ERROR + port))
    try:
        host, _, number = forward.target.rpartition(":")
        far = socket.create_connection((host, int(number)), _CONNECT_SECONDS)
    except (OSError, ValueError):
        words = f"error forwarding port {forward.port} to pod {forward.pod}: connect: connection refused"
        near.sendall(_frame(_BINARY, _ERROR + words.encode()) + _frame(_CLOSE, b""))
        return
    far.settimeout(None)
    # Two threads write to the client: the one that carries down, and this one where it answers pings.
    sending = threading.Lock()
    with far, _downward(far, near, sending, forward.carried):
        for opcode, payload in _frames(reader):
            if opcode == _PING:
                with sending:
                    near.sendall(_frame(_PONG, payload))
            elif payload[:1] == _DATA:
                try:
                    far.sendall(payload[1:])
                except OSError:
                    return


@contextmanager
def _downward(
    far: socket.socket, near: socket.socket, sending: threading.Lock, carried: Callable[[int], None]
) -> Iterator[None]:
    """Carry to the client what the port sends, beside the block and until its end."""

    def run() -> None:
        with suppress(OSError):
            while data := far.recv(_CHUNK):
                with sending:
                    near.sendall(_frame(_BINARY, _DATA + data))
                carried(len(data))
        with suppress(OSError), sending:
            near.sendall(_frame(_CLOSE, b""))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with suppress(OSError):
            far.shutdown(socket.SHUT_RDWR)
        thread.join()


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < _SHORT:
        length = bytes((size,))
    else:
        length = b"\x7e" + size.to_bytes(2) if size < _LONG else b"\x7f" + size.to_bytes(8)
    return bytes((0x80 | opcode,)) + length + payload


def _frames(reader: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield opcode and payload of each frame of a client, until it closes or goes away."""
    while len(head := reader.read(2)) == len(b"--"):
        size = head[1] & 0x7F
        if size >= _SHORT:
            size = int.from_bytes(reader.read(2 if size == _SHORT else 8))
        if size > _LONGEST or not head[1] & 0x80:
            return
        mask, body = reader.read(4), reader.read(size)
        if len(body) < size or head[0] & 0x0F == _CLOSE:
            return
        # All at once as numbers: byte by byte would slow a stream of flows down.
        key = int.from_bytes((mask * (size // 4 + 1))[:size])
        yield head[0] & 0x0F, (int.from_bytes(body) ^ key).to_bytes(size)

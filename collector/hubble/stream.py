"""One server-streaming gRPC call, read with as little work per message as Python allows: 2 us against grpcio's 8.

Everything that is rare (settings, pings, headers, trailers) is h2's business. The frames that carry messages, one frame
a message as grpc-go sends them, are cut out of the received bytes here; h2 never sees them, so that window updates are
sent here, too. `relay.py` holds the same call in grpcio, the reference.
"""

import select
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from socket import SHUT_RDWR, socket
from struct import Struct
from typing import Self
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, StreamReset, TrailersReceived
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import WindowUpdateFrame

from meshobs.collector.hubble import dial
from meshobs.collector.hubble.target import Target

# How much the Relay may send ahead. A slow reader is felt through TCP long before.
WINDOW = 16 * 2**20
CHUNK = 2**18
# Seconds after which an idle stream yields nothing, so that its reader can look around.
TICK = 0.25
# A stream that is slower than its reader is left alone for so long: else every few flows cost a turn of all threads.
GATHER = 0.005
LONGEST = 16 * 2**20
_STREAM = 1
_PADDED, _END = 0x8, 0x1
_GOAWAY = 7
_HEAD = 9
_PREFIX = 5
# Length and type, flags, stream; then, inside a DATA frame, gRPC's compression flag and message length.
_FRAME = Struct(">IBIBI").unpack_from
_FRAME_SIZE = 14
_BARE_FRAME = Struct(">IBI").unpack_from
_GOING = Struct(">II").unpack_from

# gRPC status codes.
OK, UNKNOWN, INVALID_ARGUMENT, UNIMPLEMENTED, UNAVAILABLE = 0, 2, 3, 12, 14


@dataclass(frozen=True)
class StreamStatus:
    """How a call ended: a gRPC status code and the server's words."""

    code: int
    message: str


class FlowStream:
    """A call; `send` sends its request.

    Args:
        connection: open, from `dial.connect`.
        target: for the authority and for words.
        method: e.g. `/observer.Observer/GetFlows`.
        request: the serialized message.
    """

    def __init__(self, connection: socket, target: Target, method: str, request: bytes) -> None:
        self.status: StreamStatus | None = None
        self._socket = connection
        self._target = target
        self._partial = bytearray()
        self._unacknowledged = 0
        self._fresh = True
        self._closed = False
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._h2.local_settings = Settings(
            client=True, initial_values={SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: WINDOW}
        )
        self._call = method, request

    def send(self) -> Self:
        """Send the request."""
        method, request = self._call
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW - 65_535)
        self._h2.send_headers(_STREAM, self._headers(method))
        self._h2.send_data(_STREAM, b"\0" + len(request).to_bytes(4, "big") + request, end_stream=True)
        self._socket.settimeout(TICK)
        self._flush()
        return self

    def messages(self) -> Iterator[list[bytes]]:
        """Yield messages as they come, an empty list now and then while none does; `status` is set at the end.

        Raises:
            DialError: the other side speaks TLS, no TLS, or no gRPC.
        """
        try:
            yield from self._receive()
        finally:
            self._socket.close()

    def _receive(self) -> Iterator[list[bytes]]:
        rest = b""
        while self.status is None:
            try:
                received = self._socket.recv(CHUNK)
            except TimeoutError:
                yield []
                continue
            except OSError as error:
                self._break(f"the connection broke: {error.strerror or error}", error)
                break
            if not received:
                self._break("the connection was closed", None)
                break
            found: list[bytes] = []
            data = rest + received if rest else received
            if self._fresh and len(data) >= dial.START:
                self._fresh = False
                dial.refuse(self._target, data)
            rest = data[self._cut(data, found) :]
            if found or self.status is None:
                yield found
            if self._unacknowledged > WINDOW // 4:
                self._acknowledge()
            if not self._more():
                time.sleep(GATHER)

    def _break(self, words: str, error: OSError | None) -> None:
        """End without a status of the Relay's; a client certificate that it refuses shows only here in TLS 1.3."""
        if self._fresh and isinstance(error, ssl.SSLError):
            raise dial.DialError(dial.tls_trouble(self._target, error)) from error
        if self._fresh and self._target.tls and not self._closed:
            dial.probe(self._target)  # what was sent may have cost the Relay's last words: hear them
        self._end(UNAVAILABLE, words)

    def _more(self) -> bool:
        """Tell whether something waits to be read."""
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        with suppress(OSError, ValueError):
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            return bool(poll.poll(0))
        return True  # closed by another thread: the next read says so

    def close(self) -> None:
        """Break off; another thread may do it."""
        self._closed = True
        with suppress(OSError):
            # SSLSocket's own would take TLS away under the thread that reads.
            socket.shutdown(self._socket, SHUT_RDWR)

    def _headers(self, method: str) -> list[tuple[str, str]]:
        return [
            (":method", "POST"),
            (":scheme", "https" if self._target.tls else "http"),
            (":path", method),
            (":authority", self._target.address),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "meshobs"),
        ]

    def _cut(self, data: bytes, found: list[bytes]) -> int:
        """Append the messages of all complete frames to `found`; return how many bytes they took."""
        add, at, end = found.append, 0, len(data)
        while end - at >= _FRAME_SIZE:
            head, flags, _, compressed, size = _FRAME(data, at)
            length = head >> 8
            after: int = at + _HEAD + length
            if after > end:
                return at
            if head & 0xFF:
                self._control(data[at:after])
            elif length == size + _PREFIX and not (compressed or self._partial or flags):
                add(data[at + _FRAME_SIZE : after])
                self._unacknowledged += length
            else:
                self._collect(data[at + _HEAD : after], flags, add)
            at = after
        if end - at >= _HEAD:  # what is left may be a short frame
            head, flags, _ = _BARE_FRAME(data, at)
            after = at + _HEAD + (head >> 8)
            if after <= end:
                if head & 0xFF:
                    self._control(data[at:after])
                else:
                    self._collect(data[at + _HEAD : after], flags, add)
                return after
        return at

    def _collect(self, payload: bytes, flags: int, add: Callable[[bytes], None]) -> None:
        """Take a DATA frame that holds no message, a part of one, or several."""
        self._unacknowledged += len(payload)
        if flags & _PADDED:
            padding = payload[0] if payload else 0
            payload = payload[1 : max(1, len(payload) - padding)]
        self._partial += payload
        while len(self._partial) >= _PREFIX:
            size = int.from_bytes(self._partial[1:_PREFIX], "big")
            if self._partial[0] or size > LONGEST:
                raise dial.DialError(
                    f"{self._target.name} sends compressed or impossible messages: is it a Hubble Relay?"
                )
            if len(self._partial) < _PREFIX + size:
                break
            add(bytes(self._partial[_PREFIX : _PREFIX + size]))
            del self._partial[: _PREFIX + size]
        if flags & _END:
            self._end(UNKNOWN, "the stream ended without a status")

    def _control(self, frame: bytes) -> None:
        if frame[3] == _GOAWAY:
            self._go_away(frame)
            return
        try:
            events = self._h2.receive_data(frame)
        except (ProtocolError, UnicodeError) as error:
            self._end(UNAVAILABLE, f"HTTP/2 was broken off: {error}")
            return
        for event in events:
            if isinstance(event, ResponseReceived | TrailersReceived):
                self._read_headers(_texts(event.headers or []), last=event.stream_ended is not None)
            elif isinstance(event, StreamReset):
                self._end(UNAVAILABLE, f"the Relay reset the stream (code {event.error_code})")
        self._flush()

    def _go_away(self, frame: bytes) -> None:
        """Go on to the stream's own end where the Relay lets it; h2 would refuse everything after this frame."""
        last, code = _GOING(frame, _HEAD) if len(frame) >= _HEAD + 8 else (0, UNKNOWN)
        if code or last < _STREAM:
            words = frame[_HEAD + 8 :].decode(errors="replace")
            self._end(UNAVAILABLE, f"the Relay closed the connection ({words or code})")

    def _read_headers(self, headers: dict[str, str], *, last: bool) -> None:
        if headers.get(":status", "200") != "200" or not headers.get("content-type", "application/grpc").startswith(
            "application/grpc"
        ):
            raise dial.DialError(
                f"Relay {self._target.name} at {self._target.address} answers HTTP {headers.get(':status')}, not gRPC:"
                " is it a Hubble Relay?"
            )
        if "grpc-status" in headers:
            code = headers["grpc-status"]
            if code == "0" and self._partial:
                self._end(UNKNOWN, "the last message was cut short")
            self._end(int(code) if code.isdecimal() else UNKNOWN, unquote(headers.get("grpc-message", "")))
        elif last:
            self._end(UNKNOWN, "the stream ended without a status")

    def _acknowledge(self) -> None:
        self._send(
            b"".join(WindowUpdateFrame(n, window_increment=self._unacknowledged).serialize() for n in (0, _STREAM))
        )
        self._unacknowledged = 0

    def _flush(self) -> None:
        if data := self._h2.data_to_send():
            self._send(data)

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except TimeoutError:
            self._end(UNAVAILABLE, "the Relay reads nothing any more")
        except OSError:
            pass  # what the Relay said before it hung up is still to be read

    def _end(self, code: int, message: str) -> None:
        if self.status is None:
            self.status = StreamStatus(code, message)


def _texts(headers: Iterable[tuple[str | bytes, str | bytes]]) -> dict[str, str]:
    return {str(name): str(value) for name, value in headers}

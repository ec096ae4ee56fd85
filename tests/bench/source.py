"""A Relay that is faster than its readers: flows framed beforehand, HTTP/2 by hand, no protobuf per flow.

usage: source.py FRAMES [COUNT]

Serves the first COUNT flows of a file that `write` made. Prints a line of JSON with its port, then one with each
GetFlows call that it has answered in full: flows, when the first left and when the last did (monotonic clock), and its
own CPU seconds. `since`, `first`, `number` and `follow` are honoured, filters are not. grpcio's own server would be
several times slower than what it is to measure.
"""

import json
import mmap
import socket
import sys
import threading
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from struct import Struct

from hpack import Decoder, Encoder

from meshobs.pb.observer.observer_pb2 import (
    GetFlowsRequest,
    GetFlowsResponse,
    GetNodesResponse,
    ServerStatusResponse,
)
from meshobs.pb.relay.relay_pb2 import NodeState

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, PRIORITY = 0x4, 0x8, 0x20
INITIAL_WINDOW_SIZE = 4
# Each side may send so much before it is told otherwise (RFC 9113).
FIRST_WINDOW = 65_535
# Length and type, flags, stream.
HEAD = Struct(">IBI")
HEAD_SIZE = HEAD.size
# gRPC's before each message: compression flag and length.
PREFIX = Struct(">BI")
# The stream that flows are framed for: the first, and mostly the only one, of a connection.
FRAMED_FOR = 1
# Most bytes that are sent at once.
PIECE = 2**18
SECOND = 10**9
# So many flows name every node of the recording.
NODES_WITHIN = 1000


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return one HTTP/2 frame."""
    return HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def framed(message: bytes) -> bytes:
    """Return a message as grpc-go sends it: alone in a DATA frame, which is long enough for any flow (16 KiB)."""
    return frame(DATA, 0, FRAMED_FOR, PREFIX.pack(0, len(message)) + message)


def write(path: Path, messages: Iterable[bytes]) -> None:
    """Write the frames of messages to a file that a source can serve."""
    with path.open("wb") as stream:
        stream.writelines(map(framed, messages))


class Frames:
    """Frames one behind the other.

    Args:
        data: whole DATA frames, each with one message.
        count: how many of them, at most; None for all.
    """

    def __init__(self, data: "bytes | mmap.mmap", count: int | None = None) -> None:
        self._data = memoryview(data)
        self._starts = array("Q", [0])
        at, add, head = 0, self._starts.append, HEAD.unpack_from
        while at < len(data) and (count is None or len(self) < count):
            at += HEAD_SIZE + (head(data, at)[0] >> 8)
            add(at)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def message(self, number: int) -> bytes:
        """Return one message."""
        start = self._starts[number] + HEAD_SIZE + PREFIX.size
        return bytes(self._data[start : self._starts[number + 1]])

    def since(self, moment: int) -> int:
        """Return the number of the first flow that is not before a time in nanoseconds."""

        def time_of(number: int) -> int:
            at = GetFlowsResponse.FromString(self.message(number)).time
            nanoseconds: int = at.seconds * SECOND + at.nanos
            return nanoseconds

        return bisect_left(range(len(self)), moment, key=time_of)

    def fitting(self, number: int, end: int, room: int) -> int:
        """Return until which frame, `end` at most, all from `number` on fit into so many bytes."""
        return bisect_right(self._starts, self._starts[number] + room, number, end + 1) - 1

    def piece(self, number: int, end: int, stream: int) -> "memoryview | bytearray":
        """Return frames as they are sent on a stream."""
        first, last = self._starts[number], self._starts[end]
        if stream == FRAMED_FOR:
            return self._data[first:last]
        made = bytearray(self._data[first:last])
        patch = stream.to_bytes(4, "big")
        for start in self._starts[number:end]:
            made[start - first + 5 : start - first + HEAD_SIZE] = patch
        return made

    def size(self, number: int, end: int) -> int:
        """Return the bytes of frames that count for flow control: all but their heads."""
        return self._starts[end] - self._starts[number] - HEAD_SIZE * (end - number)


@dataclass
class Answer:
    """What is sent on a stream.

    Attributes:
        at: the next frame.
        end: the frame to stop before.
        stays: more may come: the stream is not ended.
        done: called when all is sent.
    """

    frames: Frames
    at: int
    end: int
    stays: bool = False
    done: Callable[[], None] = lambda: None


@dataclass
class Stream:
    """A call under way; `answer` is None until its request is complete."""

    window: int
    method: str = ""
    request: bytes = b""
    answer: Answer | None = None


class Relay:
    """What is answered.

    Args:
        frames: of all flows.
    """

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        first = (
            GetFlowsResponse.FromString(frames.message(number)) for number in range(min(len(frames), NODES_WITHIN))
        )
        self._nodes = sorted({message.node_name for message in first})

    def answer(self, method: str, request: bytes) -> Answer | None:
        """Return the answer to a call, None to an unknown one."""
        count = len(self._frames)
        if method == "/observer.Observer/GetFlows":
            return self._flows(GetFlowsRequest.FromString(request))
        if method == "/observer.Observer/ServerStatus":
            status = ServerStatusResponse(version="1.17.6", num_flows=count, max_flows=count, seen_flows=count)
            status.num_connected_nodes.value = len(self._nodes)
            return Answer(Frames(framed(status.SerializeToString())), 0, 1)
        if method == "/observer.Observer/GetNodes":
            nodes = GetNodesResponse()
            for name in self._nodes:
                nodes.nodes.add(name=name, version="1.17.6", state=NodeState.NODE_CONNECTED, num_flows=count)
            return Answer(Frames(framed(nodes.SerializeToString())), 0, 1)
        return None

    def _flows(self, asked: GetFlowsRequest) -> Answer:
        start, end = 0, len(self._frames)
        if asked.HasField("since"):
            start = self._frames.since(asked.since.seconds * SECOND + asked.since.nanos)
        frames = self._frames
        if asked.number:
            numbers = range(start, end) if asked.first else range(end - 1, start - 1, -1)
            frames = self._of_each_node(numbers, asked.number)
            start, end = 0, len(frames)
        return Answer(frames, start, end, asked.follow, partial(_report, time.monotonic(), _cpu(), end - start))

    def _of_each_node(self, numbers: Iterable[int], wanted: int) -> Frames:
        """Return the first so many flows of each node: a Relay passes a number on to all of them."""
        missing = dict.fromkeys(self._nodes, wanted)
        found: list[int] = []
        for number in numbers:
            name = GetFlowsResponse.FromString(self._frames.message(number)).node_name
            if missing.get(name):
                missing[name] -= 1
                found.append(number)
            if not any(missing.values()):
                break
        return Frames(b"".join(framed(self._frames.message(number)) for number in sorted(found)))


def _report(began: float, cpu_before: float, flows: int) -> None:
    spent = _cpu() - cpu_before
    print(json.dumps({"flows": flows, "began": began, "ended": time.monotonic(), "cpu_seconds": spent}), flush=True)


def _cpu() -> float:
    return time.process_time()


class Connection:
    """One connection; `serve` returns when the other side is gone."""

    def __init__(self, connection: socket.socket, relay: Relay) -> None:
        self._socket = connection
        self._relay = relay
        self._received = bytearray()
        self._streams: dict[int, Stream] = {}
        self._headers = bytearray()
        self._window = self._first_window = FIRST_WINDOW
        self._encoder = Encoder()
        self._decoder = Decoder()

    def serve(self) -> None:
        """Answer calls until the connection ends."""
        with self._socket, suppress(ConnectionError):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._send(SETTINGS, 0, 0)
            while len(self._received) < len(PREFACE):
                self._receive(wait=True)
            if not self._received.startswith(PREFACE):
                return
            del self._received[: len(PREFACE)]
            while True:
                self._take_frames()
                # Each stream has its turn; one that ends leaves the dict.
                sent = [self._send_some(number, stream) for number, stream in list(self._streams.items())]
                self._receive(wait=not any(sent))

    def _receive(self, *, wait: bool) -> None:
        try:
            received = self._socket.recv(65_536, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not received:
            raise ConnectionError
        self._received += received

    def _take_frames(self) -> None:
        while len(self._received) >= HEAD_SIZE:
            head, flags, number = HEAD.unpack_from(self._received)
            end = HEAD_SIZE + (head >> 8)
            if len(self._received) < end:
                return
            payload = bytes(self._received[HEAD_SIZE:end])
            del self._received[:end]
            self._take(head & 0xFF, flags, number, payload)

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind in (HEADERS, CONTINUATION):
            self._take_headers(kind, flags, number, payload)
        elif kind == DATA and number in self._streams:
            self._streams[number].request += _unpadded(flags, payload)
            if payload:
                self._send(WINDOW_UPDATE, 0, 0, len(payload).to_bytes(4, "big"))
            if flags & END_STREAM:
                self._begin(number)
        elif kind == RESET:
            self._streams.pop(number, None)
        elif kind == SETTINGS and not flags & ACK:
            self._take_settings(payload)
        elif kind == PING and not flags & ACK:
            self._send(PING, ACK, 0, payload)
        elif kind == WINDOW_UPDATE:
            self._widen(number, int.from_bytes(payload, "big"))

    def _take_headers(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == HEADERS:
            payload = _unpadded(flags, payload)
            self._headers = bytearray(payload[5:] if flags & PRIORITY else payload)
        else:
            self._headers += payload
        if flags & END_HEADERS:
            headers = dict(self._decoder.decode(bytes(self._headers), raw=True))
            self._streams[number] = Stream(self._first_window, headers[b":path"].decode())

    def _take_settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            name, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
            if name == INITIAL_WINDOW_SIZE:
                for stream in self._streams.values():
                    stream.window += value - self._first_window
                self._first_window = value
        self._send(SETTINGS, ACK, 0)

    def _widen(self, number: int, increment: int) -> None:
        if not number:
            self._window += increment
        elif number in self._streams:
            self._streams[number].window += increment

    def _begin(self, number: int) -> None:
        """Answer a request that is complete."""
        stream = self._streams[number]
        stream.answer = self._relay.answer(stream.method, stream.request[PREFIX.size :])
        content = [(":status", "200"), ("content-type", "application/grpc")]
        if stream.answer:
            self._send_headers(number, content)
        else:
            del self._streams[number]
            self._send_headers(number, [*content, ("grpc-status", "12")], last=True)

    def _send_some(self, number: int, stream: Stream) -> bool:
        """Send what the windows allow; tell whether that was anything."""
        answer = stream.answer
        if answer is None:
            return False
        if answer.at < answer.end:
            room = min(self._window, stream.window, PIECE)
            until = answer.frames.fitting(answer.at, answer.end, room)
            if until <= answer.at:  # less where a window was made smaller
                return False
            self._socket.sendall(answer.frames.piece(answer.at, until, number))
            size = answer.frames.size(answer.at, until)
            self._window -= size
            stream.window -= size
            answer.at = until
        if answer.at == answer.end and not answer.stays:
            del self._streams[number]
            self._send_headers(number, [("grpc-status", "0")], last=True)
            answer.done()
            return True
        return answer.at < answer.end

    def _send_headers(self, number: int, headers: list[tuple[str, str]], *, last: bool = False) -> None:
        self._send(HEADERS, END_HEADERS | (END_STREAM if last else 0), number, self._encoder.encode(headers))

    def _send(self, kind: int, flags: int, number: int, payload: bytes = b"") -> None:
        self._socket.sendall(frame(kind, flags, number, payload))


def _unpadded(flags: int, payload: bytes) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & PADDED else payload


def main(path: Path, count: int | None) -> None:
    """Serve until killed."""
    with path.open("rb") as stream:
        relay = Relay(Frames(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), count))
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(json.dumps({"port": server.getsockname()[1]}), flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=Connection(connection, relay).serve, daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)

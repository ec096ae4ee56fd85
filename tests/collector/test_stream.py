"""The lean stream against HTTP/2 in every shape, and against grpcio, the reference, on the same servers."""

import select
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import grpc
import pytest
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st
from support.certificates import Authority

from meshobs.collector.hubble import dial
from meshobs.collector.hubble.dial import DialError
from meshobs.collector.hubble.relay import Relay, RelayError, Stream
from meshobs.collector.hubble.stream import OK, UNAVAILABLE, UNIMPLEMENTED, UNKNOWN, WINDOW, FlowStream, StreamStatus
from meshobs.collector.hubble.target import Target, Tls
from meshobs.pb.observer.observer_pb2 import GetFlowsRequest

TARGET = Target("west", "127.0.0.1", 4245)
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, PADDED = 1, 4, 8
FIRST = [(":status", "200"), ("content-type", "application/grpc")]


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 1) -> bytes:
    """Return an HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def padded(payload: bytes, padding: int) -> bytes:
    """Return a DATA frame with padding."""
    return frame(DATA, bytes([padding]) + payload + bytes(padding), PADDED)


def message(content: bytes, flag: int = 0) -> bytes:
    """Return a message as gRPC frames it."""
    return bytes([flag]) + len(content).to_bytes(4, "big") + content


def block(encoder: Encoder, headers: Sequence[tuple[str, str]], flags: int = END_HEADERS) -> bytes:
    """Return a HEADERS frame."""
    return frame(HEADERS, encoder.encode(headers), flags)


def goaway(last: int, code: int, words: bytes = b"") -> bytes:
    """Return a GOAWAY frame."""
    return frame(GOAWAY, last.to_bytes(4, "big") + code.to_bytes(4, "big") + words, stream=0)


def answered(*frames: bytes, first: Sequence[tuple[str, str]] = FIRST) -> bytes:
    """Return what a server sends: settings, headers, then frames."""
    return frame(SETTINGS, stream=0) + block(Encoder(), first) + b"".join(frames)


def trailers(code: str, words: str = "") -> bytes:
    """Return the end of a call."""
    return block(Encoder(), [("grpc-status", code), ("grpc-message", words)], END_HEADERS | END_STREAM)


class Chunks:
    """A connection on which bytes come in given pieces; None is a moment without any. What is sent is kept."""

    def __init__(self, *pieces: bytes | OSError | None) -> None:
        self.pieces = list(pieces)
        self.sent = bytearray()
        self.closed = False

    def settimeout(self, _seconds: float) -> None:
        """Take what a socket takes."""

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def recv(self, _size: int) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, OSError):
            raise piece
        if piece is None:
            raise TimeoutError
        return piece

    def close(self) -> None:
        self.closed = True

    def fileno(self) -> int:
        return -1


def heard(*pieces: bytes | OSError | None) -> tuple[list[bytes], StreamStatus | None]:
    """Return what a call makes of bytes: messages and status."""
    connection = Chunks(*pieces)
    call = FlowStream(cast("socket.socket", connection), TARGET, "/observer.Observer/GetFlows", b"").send()
    found = [one for messages in call.messages() for one in messages]
    assert connection.closed
    return found, call.status


@dataclass(frozen=True)
class End:
    """A way for a call to end."""

    raw: bytes
    status: StreamStatus


WORDS = "no peers: 100% gone, größer\n"
ENDS = {
    "fine": End(trailers("0"), StreamStatus(OK, "")),
    "words": End(trailers("3", quote(WORDS)), StreamStatus(3, WORDS)),
    "no number": End(trailers("many"), StreamStatus(UNKNOWN, "")),
    "no status": End(
        block(Encoder(), [("x", "y")], END_HEADERS | END_STREAM),
        StreamStatus(UNKNOWN, "the stream ended without a status"),
    ),
    "data": End(frame(DATA, b"", END_STREAM), StreamStatus(UNKNOWN, "the stream ended without a status")),
    "reset": End(
        frame(RESET, (8).to_bytes(4, "big")), StreamStatus(UNAVAILABLE, "the Relay reset the stream (code 8)")
    ),
    "goaway": End(
        goaway(1, 11, b"too_many_pings"), StreamStatus(UNAVAILABLE, "the Relay closed the connection (too_many_pings)")
    ),
    "goaway without us": End(goaway(0, 0), StreamStatus(UNAVAILABLE, "the Relay closed the connection (0)")),
    "closed": End(b"", StreamStatus(UNAVAILABLE, "the connection was closed")),
    "split trailers": End(
        frame(HEADERS, b"", END_STREAM)
        + frame(CONTINUATION, Encoder().encode([("grpc-status", "14"), ("grpc-message", "a%20b")]), END_HEADERS),
        StreamStatus(UNAVAILABLE, "a b"),
    ),
}
BETWEEN = [
    frame(PING, bytes(8), stream=0),
    frame(PING, bytes(8), 1, stream=0),
    frame(SETTINGS, b"\0\4\0\1\0\0", stream=0),
    frame(SETTINGS, b"", 1, stream=0),
    frame(WINDOW_UPDATE, (1).to_bytes(4, "big"), stream=0),
    frame(WINDOW_UPDATE, (1).to_bytes(4, "big")),
    frame(DATA),
    padded(b"", 3),
    frame(32, b"of a kind that nobody knows", stream=0),
    goaway(2**31 - 1, 0),
]


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Return bytes in pieces."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(edges)]


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[bytes], list[bytes], StreamStatus]:
    """Return messages, pieces of the bytes that carry them, and the status."""
    contents = draw(st.lists(st.binary(max_size=40) | st.just(bytes(300)), max_size=8))
    data = b"".join(map(message, contents))
    edges = [sum(len(one) + 5 for one in contents[:number]) for number in range(1, len(contents))]
    places = st.lists(st.integers(0, max(len(data) - 1, 0)), max_size=6)
    kept = draw(st.just(edges) | st.lists(st.sampled_from(edges), max_size=8) if edges else st.just([]))
    frames = []
    for payload in cut(data, [*kept, *draw(st.just([]) | places)]):
        padding = draw(st.none() | st.none() | st.integers(0, 255))
        frames.append(frame(DATA, payload) if padding is None else padded(payload, padding))
        frames += draw(st.lists(st.sampled_from(BETWEEN), max_size=2))
    end = ENDS[draw(st.sampled_from(sorted(ENDS)))]
    raw = answered(*frames, end.raw)
    pieces = draw(
        st.just(cut(raw, range(len(raw)))) | st.lists(st.integers(0, 2**31), max_size=20).map(lambda p: cut(raw, p))
    )
    return contents, pieces, end.status


@settings(deadline=None)
@given(conversations())
def test_any_cut_of_the_bytes(conversation: tuple[list[bytes], list[bytes], StreamStatus]) -> None:
    """Messages and status are the same however bytes come and frames carry them."""
    contents, pieces, status = conversation

    assert heard(*pieces) == (contents, status)


@pytest.mark.parametrize("end", ENDS)
def test_ends(end: str) -> None:
    """Each way to end has its status; what came before is kept."""
    raw = answered(frame(DATA, message(b"flow")), ENDS[end].raw)

    assert heard(raw, None) == ([b"flow"], ENDS[end].status)


def test_a_graceful_end_lets_the_stream_run() -> None:
    """As grpc-go says it: two GOAWAY frames, then the rest of the stream and its status."""
    rest = frame(DATA, message(b"two")), frame(PING, bytes(8), stream=0), goaway(1, 0), trailers("0")
    raw = answered(frame(DATA, message(b"one")), goaway(2**31 - 1, 0), *rest)

    assert heard(raw) == ([b"one", b"two"], StreamStatus(OK, ""))


def test_an_idle_stream_yields_nothing_now_and_then() -> None:
    """So that its reader can look around; nothing is lost by it."""
    raw = answered(frame(DATA, message(b"flow")), trailers("0"))
    call = FlowStream(cast("socket.socket", Chunks(raw[:40], None, None, raw[40:])), TARGET, "/x", b"").send()

    assert [one for one in call.messages() if one or call.status is None].count([]) >= 2
    assert call.status == StreamStatus(OK, "")


def test_a_message_that_is_cut_short() -> None:
    """The Relay says that all is fine, but it is not."""
    raw = answered(frame(DATA, message(b"flow")), frame(DATA, message(b"half")[:-1]), trailers("0"))

    assert heard(raw) == ([b"flow"], StreamStatus(UNKNOWN, "the last message was cut short"))


def test_a_connection_that_breaks() -> None:
    """What came is kept, and the cause is the status."""
    raw = answered(frame(DATA, message(b"flow")))

    assert heard(raw, ConnectionResetError(104, "Connection reset by peer")) == (
        [b"flow"],
        StreamStatus(UNAVAILABLE, "the connection broke: Connection reset by peer"),
    )


def test_through_a_real_socket() -> None:
    """The same with a kernel between, byte by byte."""
    ours, theirs = socket.socketpair()
    raw = answered(frame(DATA, message(b"flow")), padded(message(b"two"), 9), trailers("0"))

    def send() -> None:
        with theirs:
            for byte in raw:
                theirs.sendall(bytes([byte]))
            theirs.recv(2**16)

    thread = threading.Thread(target=send)
    thread.start()
    call = FlowStream(ours, TARGET, "/x", b"").send()
    found = [one for messages in call.messages() for one in messages]
    thread.join()

    assert (found, call.status) == ([b"flow", b"two"], StreamStatus(OK, ""))


def test_windows_are_given_back() -> None:
    """All that was received in DATA frames, padding included, for connection and stream alike."""
    raw = [padded(message(bytes(16_000)), 100), *[frame(DATA, message(bytes(16_000)))] * 999]
    connection = Chunks(answered(), *raw, trailers("0"))
    call = FlowStream(cast("socket.socket", connection), TARGET, "/x", b"").send()
    start = len(connection.sent)

    assert sum(map(len, call.messages())) == 1000

    given_back = {0: 0, 1: 0}
    rest = bytes(connection.sent[start:])
    while rest:
        length, kind, stream = int.from_bytes(rest[:3], "big"), rest[3], int.from_bytes(rest[5:9], "big")
        if kind == WINDOW_UPDATE:
            given_back[stream] += int.from_bytes(rest[9 : 9 + length], "big")
        rest = rest[9 + length :]
    received = 1000 * 16_005 + 101
    assert given_back[0] == given_back[1]
    assert received - WINDOW // 4 - 2 * 16_105 <= given_back[0] <= received


BROKEN = [
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak HTTP/2: is it a Hubble Relay?"),
    (b"\x15\x03\x01\0\2\2\x46", "speaks TLS: add `tls`"),
    (b"220 mail.example ESMTP\r\n", "does not speak HTTP/2"),
    (bytes(64), "does not speak HTTP/2"),
    (answered(first=[(":status", "404"), ("content-type", "text/html")]), "answers HTTP 404, not gRPC"),
    (answered(first=[(":status", "200"), ("content-type", "text/html")]), "answers HTTP 200, not gRPC"),
    (answered(frame(DATA, message(b"abc", 1))), "compressed or impossible messages"),
    (answered(frame(DATA, message(b"abc", 1), END_STREAM)), "compressed or impossible messages"),
    (answered(frame(DATA, b"\0\xff\xff\xff\xff")), "compressed or impossible messages"),
]


@pytest.mark.parametrize(("raw", "words"), BROKEN)
@pytest.mark.parametrize("single", [False, True], ids=["at once", "byte by byte"])
def test_what_is_no_grpc_is_called_so(raw: bytes, words: str, single: bool) -> None:
    """A DialError with words for the user, however the bytes come."""
    pieces = cut(raw, range(len(raw))) if single else [raw]

    with pytest.raises(DialError, match=words):
        heard(*pieces)


@pytest.mark.parametrize(
    "raw",
    [
        answered(frame(HEADERS, b"\xff\xff\xff\xff\xff", END_HEADERS)),
        answered(frame(SETTINGS, b"odd", stream=0)),
        answered(frame(PING, b"", stream=0)),
        answered(frame(GOAWAY, b"", stream=0)),
        answered(frame(DATA, b"", PADDED), frame(DATA, b"\xff", PADDED)),
        answered(frame(HEADERS, b"\0\1a\2\xff\xfe", END_HEADERS | END_STREAM)),
        b"\0",
        b"",
    ],
)
def test_broken_http2_is_an_end(raw: bytes) -> None:
    """No traceback, whatever a server does."""
    found, status = heard(raw)

    assert found == []
    assert status
    assert status.code in {UNAVAILABLE, UNKNOWN}


@settings(deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(0, 300), max_size=4))
def test_garbage_is_an_end(garbage: bytes, places: list[int]) -> None:
    """After a good beginning, too."""
    with suppress(DialError):
        found, status = heard(*cut(answered(frame(DATA, message(b"flow"))) + garbage, places))

        assert found[:1] == [b"flow"]
        assert status


SIZES = (0, 1, 100, 16_379, 16_384, 10**6, 0, 7)


@dataclass
class Server:
    """A gRPC server that does as the request's number says."""

    port: int = 0
    more: threading.Event = field(default_factory=threading.Event)

    def flows(self, raw: bytes, context: Any) -> Iterator[bytes]:
        """Answer: 0 sizes, 1 an error after a message, 2 a flood, 3 waits after a message, 4 a refusal."""
        what = GetFlowsRequest.FromString(raw).number
        if what == 0:
            yield from (bytes([size % 251]) * size for size in SIZES)
        elif what == 2:
            yield from (bytes([number % 251]) * 2**16 for number in range(FLOOD))
        elif what == 4:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, WORDS)
        else:
            yield b"flow"
            if what == 1:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, WORDS)
            while context.is_active() and not self.more.wait(0.05):
                pass
            yield from [b"late"] * 1000


# 220 MB in messages of 64 KiB.
FLOOD = 3400


@contextmanager
def serving(made: Server, credentials: Any = None, **options: Any) -> Iterator[Server]:
    """Run a server."""
    server = grpc.server(ThreadPoolExecutor(8), **options)
    handler = grpc.unary_stream_rpc_method_handler(made.flows, None, None)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("observer.Observer", {"GetFlows": handler})])
    address = "127.0.0.1:0"
    made.port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield made
    finally:
        made.more.set()
        server.stop(None).wait(10)


@contextmanager
def dialled(port: int, tls: Tls | None = None) -> Iterator[Relay]:
    """Return a Relay and close it."""
    relay = Relay(Target("west", "127.0.0.1", port, tls)).dial()
    try:
        yield relay
    finally:
        relay.close()


def called(target: Target, method: str, request: GetFlowsRequest) -> tuple[Any, FlowStream]:
    """Return a lean call and its connection."""
    connection = dial.connect(target).socket
    return connection, FlowStream(
        connection, target, f"/observer.Observer/{method}", request.SerializeToString()
    ).send()


def whole(stream: Stream) -> tuple[list[bytes], StreamStatus | None]:
    """Return all of a stream."""
    return [one for messages in stream.messages() for one in messages], stream.status


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (0, ([bytes([size % 251]) * size for size in SIZES], StreamStatus(OK, ""))),
        (1, ([b"flow"], StreamStatus(8, WORDS))),
        (4, ([], StreamStatus(3, WORDS))),
    ],
    ids=["sizes", "error", "refusal"],
)
def test_both_readers_read_the_same(what: int, expected: tuple[list[bytes], StreamStatus]) -> None:
    """Messages of any size over any number of frames, and the status with its words."""
    with serving(Server()) as server, dialled(server.port) as relay:
        lean, stock = (whole(relay.flows(GetFlowsRequest(number=what), stock=stock)) for stock in (False, True))

    assert lean == expected
    assert stock == expected


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Relay is dialled as it was told, for short calls as for flows; a proxy for the web knows no way to it."""
    monkeypatch.delenv("no_proxy", raising=False)
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    with serving(Server()) as server, dialled(server.port) as relay:
        found = whole(relay.flows(GetFlowsRequest(number=4), stock=True))

    assert found == ([], StreamStatus(3, WORDS))


def test_a_method_that_is_not_there() -> None:
    """An agent knows no GetNodes, anything else no ServerStatus: neither is an accident."""
    with serving(Server()) as server, dialled(server.port) as relay:
        nodes = relay.nodes()
        with pytest.raises(RelayError, match="is no Hubble Relay: it does not know ServerStatus"):
            relay.status()
        missing = whole(called(relay.target, "GetNothing", GetFlowsRequest())[1])

    assert nodes is None
    assert missing[1]
    assert missing[1].code == UNIMPLEMENTED


def test_a_flood_does_not_stall() -> None:
    """Far more than any window comes through, each message whole."""
    with serving(Server()) as server, dialled(server.port) as relay:
        stream = relay.flows(GetFlowsRequest(number=2))
        number = 0
        for messages in stream.messages():
            for one in messages:
                assert (len(one), one[0], one[-1]) == (2**16, number % 251, number % 251)
                number += 1

    assert (number, stream.status) == (FLOOD, StreamStatus(OK, ""))


def test_a_server_that_compresses() -> None:
    """No Relay does. One that did would be told of, not misread; grpcio can read it."""
    with serving(Server(), compression=grpc.Compression.Gzip) as server, dialled(server.port) as relay:
        with pytest.raises(DialError, match="sends compressed or impossible messages"):
            whole(relay.flows(GetFlowsRequest()))
        found, status = whole(relay.flows(GetFlowsRequest(), stock=True))

    assert (list(map(len, found)), status) == (list(SIZES), StreamStatus(OK, ""))


@pytest.mark.parametrize("stock", [False, True], ids=["lean", "grpcio"])
def test_another_thread_may_close(stock: bool) -> None:
    """The reader that waits for a silent Relay ends at once."""
    with serving(Server()) as server, dialled(server.port) as relay:
        stream = relay.flows(GetFlowsRequest(number=3), stock=stock)
        first = threading.Event()

        def follow() -> None:
            for messages in stream.messages():
                if messages:
                    first.set()

        thread = threading.Thread(target=follow)
        thread.start()
        assert first.wait(20)
        stream.close()
        thread.join(20)

        assert not thread.is_alive()
        assert stream.status
        assert stream.status.code != OK


def test_a_close_under_tls_leaves_tls_to_the_reader(tmp_path: Path) -> None:
    """What lies undecrypted in the socket is never taken for HTTP/2, nor does the reader lose its footing."""
    authority = Authority(tmp_path, "ours")
    pair = authority.sign("relay", "127.0.0.1")
    credentials = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.cert.read_bytes())])
    with serving(Server(), credentials) as server:
        target = Target("west", "127.0.0.1", server.port, Tls((authority.file,)))
        connection, stream = called(target, "GetFlows", GetFlowsRequest(number=3))
        messages = stream.messages()
        while not next(messages):
            pass
        server.more.set()
        assert select.select([connection], [], [], 20)[0]
        stream.close()
        version = connection.version()
        late = [one for found in messages for one in found]

    assert version == "TLSv1.3"
    assert set(late) <= {b"late"}
    assert stream.status
    assert stream.status.code in {OK, UNAVAILABLE}


@contextmanager
def answering(answer: bytes, *, hangs_up: bool) -> Iterator[int]:
    """Return the port of a server that says the same to everyone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.settimeout(20)
                        if not hangs_up or answer:
                            connection.recv(2**16)
                        connection.sendall(answer)
                        if not hangs_up:
                            connection.recv(2**16)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("answer", "hangs_up", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", True, "does not speak HTTP/2: is it a Hubble Relay?"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", False, "does not speak HTTP/2: is it a Hubble Relay?"),
        (b"\x15\x03\x01\0\2\2\x46", True, "speaks TLS: add `tls`"),
        (b"", True, "closes the connection at once: is it a Hubble Relay?"),
        (b"", False, "takes connections but says nothing: is it a Hubble Relay?"),
        (b"\0\0", False, "takes connections but says nothing: is it a Hubble Relay?"),
    ],
)
def test_what_is_no_relay_is_refused_when_it_is_dialled(
    answer: bytes, hangs_up: bool, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any call: grpc would say of all of these that they are unavailable."""
    if "nothing" in words:
        monkeypatch.setattr(dial, "TIMEOUT", 0.5)

    with answering(answer, hangs_up=hangs_up) as port, pytest.raises(DialError) as caught:
        Relay(Target("west", "127.0.0.1", port)).dial()

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Target("west", "127.0.0.1", 1), "nothing listens there: is Hubble Relay running"),
        (Target("west", "relay.invalid"), "the name relay.invalid cannot be resolved"),
        (Target("west", "a" * 70 + ".example"), "is no name of a host"),
    ],
)
def test_what_cannot_be_reached(target: Target, words: str) -> None:
    """Each cause has its words."""
    with pytest.raises(DialError, match=words):
        Relay(target).dial()


def test_a_relay_that_is_gone_is_called_so_by_every_call() -> None:
    """After it was dialled, by grpcio, too, which says no more than `unavailable`."""
    calls: list[Callable[[Relay], object]] = [
        Relay.status,
        Relay.nodes,
        lambda relay: relay.flows(GetFlowsRequest()),
        lambda relay: whole(relay.flows(GetFlowsRequest(), stock=True)),
    ]
    with serving(Server()) as server:
        relay = Relay(Target("west", "127.0.0.1", server.port)).dial()

    for call in calls:
        with pytest.raises(DialError, match="nothing listens there"):
            call(relay)
    relay.close()

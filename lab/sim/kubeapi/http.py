"""HTTP/1.1 of a simulated API server: who may ask, bodies, chunks of a watch, the upgrade to a WebSocket."""

import json
import secrets
import socket
import socketserver
import sys
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import BinaryIO, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from meshobs.lab.sim.kubeapi import kinds, portforward
from meshobs.lab.sim.kubeapi.answers import Answers
from meshobs.lab.sim.kubeapi.objects.maker import Json
from meshobs.lab.sim.kubeapi.portforward import ForwardRequest
from meshobs.lab.sim.kubeapi.request import ApiRefusedError, bad
from meshobs.lab.sim.kubeapi.watch import ServedWatch

_MAX_BODY = 3 * 2**20  # as a real server's


class Listener(socketserver.ThreadingTCPServer):
    """Listens on a loopback port; a thread for each connection.

    Args:
        port: 0 for a free one.
        answers: what is asked.
        token: what clients have to show.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, answers: Answers, token: str) -> None:
        self.answers = answers
        self.token = token.encode()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)
        self.port: int = self.socket.getsockname()[1]

    def cut(self) -> None:
        """Break all connections off."""
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def track(self, connection: socket.socket, *, now: bool) -> None:
        """Note that a connection is open, or not any more."""
        with self._lock:
            if now:
                self._open.add(connection)
            else:
                self._open.discard(connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that went away."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(cast("socket.socket", request), client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    connection: socket.socket

    @property
    def _listener(self) -> Listener:
        return cast("Listener", self.server)

    def setup(self) -> None:
        super().setup()
        self._listener.track(self.connection, now=True)

    def finish(self) -> None:
        self._listener.track(self.connection, now=False)
        super().finish()

    def do_GET(self) -> None:
        self._answer("GET")

    def do_PATCH(self) -> None:
        self._answer("PATCH")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class calls it
        """Log nothing."""

    def _answer(self, method: str) -> None:
        try:
            body = self._body()
            url = urlsplit(self.path)
            path = self._authorize(unquote(url.path))
            query = dict(parse_qsl(url.query, keep_blank_values=True))
            document = kinds.discovery(path.rstrip("/"), self.headers.get("host", ""))
            if document and method == "GET":
                self._send(HTTPStatus.OK, document)
                return
            found = self._listener.answers.to(
                method, path, query, body, self.headers.get_content_type(), self.headers.get("accept", "")
            )
            if isinstance(found, ServedWatch):
                self._stream(found)
            elif isinstance(found, ForwardRequest):
                self._forward(found)
            else:
                self._send(HTTPStatus.OK, found)
        except ApiRefusedError as refused:
            self._send(HTTPStatus(refused.status["code"]), refused.status)

    def _body(self) -> bytes:
        length = self.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > _MAX_BODY:
            self.close_connection = True
            code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            raise ApiRefusedError(kinds.status(code, "RequestEntityTooLarge", "Request entity too large"))
        return self.rfile.read(int(length))

    def _authorize(self, path: str) -> str:
        """Return the path without the token, once the client has shown it there or as its bearer token.

        kubectl sends no bearer token without TLS, but keeps the path of the server's URL.
        """
        shown = self.headers.get("authorization", "").removeprefix("Bearer ")
        first, _, rest = path.removeprefix("/").partition("/")
        if secrets.compare_digest(first.encode(), self._listener.token):
            return f"/{rest}"
        if secrets.compare_digest(shown.encode(), self._listener.token):
            return path
        raise ApiRefusedError(kinds.status(HTTPStatus.UNAUTHORIZED, "Unauthorized", "Unauthorized"))

    def _send(self, code: HTTPStatus, document: Json) -> None:
        content = json.dumps(document, separators=(",", ":")).encode() + b"\n"
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _forward(self, forward: ForwardRequest) -> None:
        agreed = portforward.accepts({name.lower(): value for name, value in self.headers.items()})
        if not agreed:
            raise bad(f"unable to upgrade: port-forwarding needs a WebSocket of protocol {portforward.PROTOCOL}")
        self.close_connection = True
        self.send_response(HTTPStatus.SWITCHING_PROTOCOLS)
        for name, value in agreed.items():
            self.send_header(name, value)
        self.end_headers()
        portforward.carry(forward, self.connection, cast("BinaryIO", self.rfile))

    def _stream(self, watch: ServedWatch) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("content-type", "application/json")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in watch.events(lambda: _is_closed(self.connection)):
            line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
        self.wfile.write(b"0\r\n\r\n")


def _is_closed(connection: socket.socket) -> bool:
    """Tell whether the client is gone; one that watches sends nothing more."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True

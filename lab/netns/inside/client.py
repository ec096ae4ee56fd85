"""A client: `client.py '{"targets", "protocol", "count", "rate", "requests", "gap", "sources", "endless"}'`.

`sources` are addresses that it calls from, one of each family; none where its namespace has one of each only.
Calls the targets in turn at its rate, whatever a call takes, and prints a line of JSON for each request: when it began
and ended (nanoseconds), its own address and port, the target, what the server said, or the error.
"""

import asyncio
import json
import random
import secrets
import socket
import struct
import sys
import time
from dataclasses import dataclass
from typing import Any

# As kubelets' probes and the twin's clients do; a refused SYN is repeated once within it.
_CONNECT_SECONDS = 1.5
_ANSWER_SECONDS = 3.0
_ICMP_HEADER = 8
_MOST = 65_536


@dataclass(frozen=True)
class _Echo:
    """ICMP of a family.

    Attributes:
        before: bytes of an IP packet that come before it in what is read.
        sums: whether we write the checksum; the kernel does for IPv6.
    """

    protocol: int
    request: int
    reply: int
    before: int
    sums: bool


_ECHOES = {
    socket.AF_INET: _Echo(socket.IPPROTO_ICMP, 8, 0, 20, sums=True),
    socket.AF_INET6: _Echo(socket.IPPROTO_ICMPV6, 128, 129, 0, sums=False),
}


class TrafficClient:
    """Calls and prints."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given
        self._targets = [(str(host), int(port)) for host, port in given["targets"]]
        self._call = {"TCP": self._tcp, "UDP": self._udp, "ICMP": self._icmp}[given["protocol"]]

    async def run(self) -> None:
        """Begin all calls, each at its time, and wait until they are over."""
        open_calls: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        number = 0
        while self._given["endless"] or number < self._given["count"]:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(self._call(*self._targets[number % len(self._targets)]))
            open_calls.add(task)
            task.add_done_callback(open_calls.discard)
            number += 1
            # Clients do not tick: a tenth of the pause around it.
            due += random.uniform(0.9, 1.1) / self._given["rate"]  # noqa: S311 - no secret
        if open_calls:
            await asyncio.wait(open_calls)

    def _socket(self, host: str, kind: int, protocol: int = 0) -> socket.socket:
        made = socket.socket(_family(host), kind, protocol)
        made.setblocking(False)  # noqa: FBT003 - its only form
        for source in self._given["sources"]:
            if _family(source) == made.family:
                made.bind((source, 0))
        return made

    async def _tcp(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        began = time.time_ns()
        made = self._socket(host, socket.SOCK_STREAM)
        own: tuple[Any, ...] = ("", 0)
        reused = False
        try:
            await asyncio.wait_for(loop.sock_connect(made, (host, port)), _CONNECT_SECONDS)
            own = made.getsockname()
            for number in range(self._given["requests"]):
                reused = number > 0
                if reused:
                    await asyncio.sleep(self._given["gap"])
                    began = time.time_ns()
                last = number == self._given["requests"] - 1
                closing = "Connection: close\r\n" if last else ""
                await loop.sock_sendall(made, f"GET /{number} HTTP/1.1\r\nHost: {host}\r\n{closing}\r\n".encode())
                answer = await asyncio.wait_for(_http(made), _ANSWER_SECONDS)
                _tell(began, own, host, port, answer=answer, reused=reused)
        except (OSError, TimeoutError, ValueError) as error:
            _tell(began, own, host, port, error=_reason(error), reused=reused)
        finally:
            made.close()

    async def _udp(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        began = time.time_ns()
        made = self._socket(host, socket.SOCK_DGRAM)
        own: tuple[Any, ...] = ("", 0)
        reused = False
        try:
            await loop.sock_connect(made, (host, port))
            own = made.getsockname()
            for number in range(self._given["requests"]):
                reused = number > 0
                if reused:
                    await asyncio.sleep(self._given["gap"])
                    began = time.time_ns()
                await loop.sock_sendall(made, b"who\n")
                answer = await asyncio.wait_for(loop.sock_recv(made, _MOST), _ANSWER_SECONDS)
                _tell(began, own, host, port, answer=answer.decode(), reused=reused)
        except (OSError, TimeoutError) as error:
            _tell(began, own, host, port, error=_reason(error), reused=reused)
        finally:
            made.close()

    async def _icmp(self, host: str, _port: int) -> None:
        """Ping as a process of its own does: one id, one number after the other."""
        loop = asyncio.get_running_loop()
        echo = _ECHOES[_family(host)]
        made = self._socket(host, socket.SOCK_RAW, echo.protocol)
        own: tuple[Any, ...] = ("", 0)
        name = secrets.randbelow(_MOST)
        try:
            made.connect((host, 0))
            own = (made.getsockname()[0], 0)
            for number in range(self._given["requests"]):
                if number:
                    await asyncio.sleep(self._given["gap"])
                began, token = time.time_ns(), secrets.token_bytes(16)
                await loop.sock_sendall(made, _request(echo, name, number + 1, token))
                try:
                    await asyncio.wait_for(_pong(made, echo, name, token), _CONNECT_SECONDS)
                    _tell(began, own, host, 0, token=token.hex(), reused=number > 0)
                except TimeoutError as error:
                    _tell(began, own, host, 0, error=_reason(error), reused=number > 0)
        except OSError as error:
            _tell(time.time_ns(), own, host, 0, error=_reason(error))
        finally:
            made.close()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


async def _http(made: socket.socket) -> str:
    """Read one answer."""
    loop = asyncio.get_running_loop()
    text = b""
    while b"\r\n\r\n" not in text:
        text += await _some(loop, made)
    head, _, body = text.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += await _some(loop, made)
    return body.decode("latin-1")


async def _some(loop: asyncio.AbstractEventLoop, made: socket.socket) -> bytes:
    if not (part := await loop.sock_recv(made, _MOST)):
        raise ValueError("the server closed the connection")
    return part


async def _pong(made: socket.socket, echo: _Echo, name: int, token: bytes) -> None:
    loop = asyncio.get_running_loop()
    while True:
        packet = (await loop.sock_recv(made, _MOST))[echo.before :]
        if packet[:1] == bytes([echo.reply]) and packet[4:6] == struct.pack("!H", name) and token in packet:
            return


def _request(echo: _Echo, name: int, number: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHH", echo.request, 0, 0, name, number)
    if not echo.sums:
        return head + payload
    total = sum(struct.unpack(f"!{(len(head) + len(payload)) // 2}H", head + payload))
    total = (total >> 16) + (total & 0xFFFF)
    total += total >> 16
    return struct.pack("!BBHHH", echo.request, 0, ~total & 0xFFFF, name, number) + payload


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__


def _tell(began: int, own: tuple[Any, ...], host: str, port: int, **more: object) -> None:
    # An IPv6 socket's own name has two more parts.
    line = {"time": began, "ended": time.time_ns(), "own": own[:2], "target": [host, port], **more}
    sys.stdout.write(f"{json.dumps(line)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(TrafficClient(json.loads(sys.argv[1])).run())

"""A pod's server: `server.py '{"pod", "cluster", "node", "address", "port", "pings"}'`; answers as traefik/whoami does.

TCP and UDP on one port, and it notes who pings: whose address a server sees is what reports are held against.
Prints a line once it listens. The lines Cluster and Node are what whoami would not say.
"""

import asyncio
import json
import signal
import socket
import sys
from pathlib import Path
from typing import Any

# From the start of an IP packet.
_ICMP = 20
_ECHO_REQUEST = 8
_TOKEN = slice(_ICMP + 8, _ICMP + 24)
_BACKLOG = 512


class PodServer(asyncio.Protocol, asyncio.DatagramProtocol):
    """One connection of TCP, or the socket of UDP."""

    def __init__(self, about: dict[str, str]) -> None:
        self._lines = (
            f"Hostname: {about['pod']}\nCluster: {about['cluster']}\nIP: 127.0.0.1\nIP: {about['address']}\n"
            f"Node: {about['node']}\nRemoteAddr: "
        )
        self._buffer = b""
        self._peer = ""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection."""
        self._transport = transport
        if (peer := transport.get_extra_info("peername")) is not None:
            self._peer = f"{peer[0]}:{peer[1]}"

    def data_received(self, data: bytes) -> None:
        """Answer each request without a body; the connection stays unless the client wants it closed."""
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            body = f"{self._lines}{self._peer}\n{head.decode('latin-1')}\n".encode()
            closing = b"connection: close" in head.lower()
            more = "Connection: close\r\n" if closing else ""
            start = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{more}Content-Length: {len(body)}\r\n\r\n"
            self._transport.write(start.encode() + body)
            if closing:
                self._transport.close()
                return

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a datagram."""
        del data
        self._transport.sendto(f"{self._lines}{addr[0]}:{addr[1]}\n".encode(), addr)


class Pings:
    """Notes who pings, a line of JSON each: the first 16 bytes that a ping carries, and its source."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.setblocking(False)  # noqa: FBT003 - its only form
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _read(self) -> None:
        try:
            packet, (source, _) = self._socket.recvfrom(2048)
        except BlockingIOError:
            return
        if len(packet) >= _TOKEN.stop and packet[_ICMP] == _ECHO_REQUEST:
            self._file.write(f"{json.dumps({'token': packet[_TOKEN].hex(), 'source': source})}\n")


async def serve(about: dict[str, Any]) -> None:
    """Serve until told to end."""
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, end.set)
    address, port = about["address"], int(about["port"])
    await loop.create_server(lambda: PodServer(about), address, port, backlog=_BACKLOG)
    await loop.create_datagram_endpoint(lambda: PodServer(about), (address, port))
    pings = Pings(Path(about["pings"]))
    print("ready", flush=True)  # noqa: T201 - whoever started it waits for it
    await end.wait()
    del pings


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))

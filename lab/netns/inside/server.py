"""A pod's server: `server.py '{"pod", "cluster", "node", "addresses", "port", "pings"}'`; answers as whoami does.

TCP and UDP on one port of each address, and it notes who pings: whose address a server sees is what reports are held
against.
Prints a line once it listens. The lines Cluster and Node are what whoami would not say.
"""

import asyncio
import json
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any

# From the start of an ICMP packet.
_TOKEN = slice(8, 24)
# Family -> its protocol, what it calls an echo request, how much of an IP packet comes before it in what is read.
_PINGS = {
    socket.AF_INET: (socket.IPPROTO_ICMP, 8, 20),
    socket.AF_INET6: (socket.IPPROTO_ICMPV6, 128, 0),
}
_BACKLOG = 512


class PodServer(asyncio.Protocol, asyncio.DatagramProtocol):
    """One connection of TCP, or the socket of UDP."""

    def __init__(self, about: dict[str, str], address: str) -> None:
        self._lines = (
            f"Hostname: {about['pod']}\nCluster: {about['cluster']}\nIP: 127.0.0.1\nIP: {address}\n"
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

    def __init__(self, path: Path, family: socket.AddressFamily) -> None:
        protocol, self._request, self._start = _PINGS[family]
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._socket = socket.socket(family, socket.SOCK_RAW, protocol)
        self._socket.setblocking(False)  # noqa: FBT003 - its only form
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _read(self) -> None:
        try:
            packet, (source, *_) = self._socket.recvfrom(2048)
        except BlockingIOError:
            return
        packet = packet[self._start :]
        if len(packet) >= _TOKEN.stop and packet[0] == self._request:
            self._file.write(f"{json.dumps({'token': packet[_TOKEN].hex(), 'source': source})}\n")


async def serve(about: dict[str, Any]) -> None:
    """Serve until told to end."""
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, end.set)
    pings = []
    for address in about["addresses"]:
        make = partial(PodServer, about, address)
        await loop.create_server(make, address, int(about["port"]), backlog=_BACKLOG)
        await loop.create_datagram_endpoint(make, (address, int(about["port"])))
        pings.append(Pings(Path(about["pings"]), socket.AF_INET6 if ":" in address else socket.AF_INET))
    print("ready", flush=True)  # noqa: T201 - whoever started it waits for it
    await end.wait()
    del pings


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))

"""The way in from the machine: `forward.py '[{"namespace", "port"}, ...]'`.

For each target it listens on a free port of loopback in the namespace where it was started, and dials the port on the
target's own loopback: such a call crosses no device, so the mesh does not see it. Prints the ports, as JSON.
"""

import asyncio
import ctypes
import json
import os
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

_CLONE_NEWNET = 0x40000000
_CHUNK = 262_144
_libc = ctypes.CDLL(None, use_errno=True)


class NamespaceForward:
    """One listener and what is behind it."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._namespace = os.open(given["namespace"], os.O_RDONLY)
        self._port = int(given["port"])
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        try:
            theirs, ours = await asyncio.open_connection(sock=await self._dialled())
        except OSError:
            # Nobody listens inside: a reset says so, an orderly end would look like a server that does not speak TLS.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.close()
            return
        await asyncio.gather(_copy(reader, ours), _copy(theirs, writer))
        writer.close()

    async def _dialled(self) -> socket.socket:
        # A socket stays in the namespace it was made in; nothing may come between these two lines.
        if _libc.setns(self._namespace, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        made = socket.socket()
        made.setblocking(False)  # noqa: FBT003 - its only form
        try:
            await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", self._port))
        except OSError:
            made.close()
            raise
        return made


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while part := await reader.read(_CHUNK):
            writer.write(part)
            await writer.drain()
    with suppress(OSError):
        writer.close()


async def serve(given: Sequence[dict[str, Any]]) -> None:
    """Serve without end."""
    forwards = [NamespaceForward(one) for one in given]
    for forward in forwards:
        await asyncio.start_server(forward.accept, sock=forward.listener, limit=_CHUNK)
    print(json.dumps([forward.listener.getsockname()[1] for forward in forwards]), flush=True)  # noqa: T201 - its answer
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))

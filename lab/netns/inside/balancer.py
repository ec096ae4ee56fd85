"""The load balancer outside the mesh (S16): `balancer.py '{"address", "port", "nodes"}'`.

Prints a line once it listens. Each connection goes on to a port of the same number at the next node, from an address
of its own.
"""

import asyncio
import json
import signal
import sys
from contextlib import suppress
from typing import Any

_CHUNK = 65_536
_CONNECT_SECONDS = 3.0


class Balancer:
    """Round robin over nodes."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given
        self._turn = 0

    async def serve(self) -> None:
        """Serve until told to end."""
        end = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
        await asyncio.start_server(self._pass, self._given["address"], self._given["port"])
        print("ready", flush=True)  # noqa: T201 - whoever started it waits for it
        await end.wait()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nodes = self._given["nodes"]
        node, self._turn = nodes[self._turn % len(nodes)], self._turn + 1
        with suppress(OSError, TimeoutError):
            onward = asyncio.open_connection(node, self._given["port"], local_addr=(self._given["address"], 0))
            theirs, ours = await asyncio.wait_for(onward, _CONNECT_SECONDS)
            await asyncio.gather(copy(reader, ours), copy(theirs, writer))
        writer.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes until there are no more, then close."""
    with suppress(OSError):
        while part := await reader.read(_CHUNK):
            writer.write(part)
            await writer.drain()
    with suppress(OSError):
        writer.close()


if __name__ == "__main__":
    asyncio.run(Balancer(json.loads(sys.argv[1])).serve())

"""A real hubble-relay before the sim's nodes, instead of the sim's own."""

import socket
import time
from contextlib import suppress
from pathlib import Path

from meshobs.errors import MeshobsError
from meshobs.lab import shell

_START_SECONDS = 30.0


class RelayBinary:
    """One process of hubble-relay.

    Args:
        program: the binary.
        peers: address of the peer service that it asks for its nodes.
        log: where its output goes.

    Attributes:
        address: where it listens, also after it was stopped and started.
        number: of its process.
    """

    def __init__(self, program: Path, peers: str, log: Path) -> None:
        self.address = f"127.0.0.1:{_free_port()}"
        self._program = program
        self._peers = peers
        self._log = log
        self.number = 0

    def start(self) -> None:
        """Run it until it listens.

        Raises:
            MeshobsError: it does not come up.
        """
        command = [
            str(self._program), "serve", f"--peer-service={self._peers}", f"--listen-address={self.address}",
            f"--health-listen-address=127.0.0.1:{_free_port()}", "--gops=false", "--retry-timeout=1s",
            "--disable-client-tls", "--disable-server-tls",
        ]  # fmt: skip
        try:
            self.number = shell.detach(command, self._log)
        except OSError as error:
            raise MeshobsError(f"{self._program} cannot be run: {error.strerror}") from error
        deadline = time.monotonic() + _START_SECONDS
        while not _listens(self.address):
            if shell.has_ended(self.number) or time.monotonic() > deadline:
                raise MeshobsError(f"{self._program} does not listen; its log is {self._log}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it."""
        shell.end(self.number, str(self._program))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with suppress(OSError), socket.create_connection((host, int(port)), 0.2):
        return True
    return False

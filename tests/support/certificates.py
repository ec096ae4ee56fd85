"""Certificates as Cilium's Helm chart makes them: an authority, the Relay's, its clients' and the nodes'."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import trustme

RELAY_NAME = "*.hubble-relay.cilium.io"
NODE_NAME = "*.west.hubble-grpc.cilium.io"
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority that writes what it signs into a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._ca = trustme.CA(organization_name=name)

    @cached_property
    def file(self) -> Path:
        """Return its own certificate."""
        path = self._folder / f"{self._name}-ca.crt"
        self._ca.cert_pem.write_to_path(str(path))
        return path

    @property
    def pem(self) -> bytes:
        """Return its own certificate."""
        return self._ca.cert_pem.bytes()

    def sign(self, name: str, *hosts: str, start: datetime = NOW - DAY, end: datetime = NOW + DAY) -> Pair:
        """Return a certificate for some hosts.

        Args:
            name: of the files.
            hosts: names, with * too, and addresses.
            start: when it begins to be valid.
            end: when it ends to be valid.
        """
        leaf = self._ca.issue_cert(*hosts, not_before=start, not_after=end)
        pair = Pair(self._folder / f"{self._name}-{name}.crt", self._folder / f"{self._name}-{name}.key")
        pair.cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(pair.key))
        return pair

    def child(self, name: str) -> "Authority":
        """Return an authority below this one."""
        made = Authority(self._folder, name)
        made._ca = self._ca.create_child_ca()
        return made

"""What to dial: a Relay's name, address and TLS settings. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

from meshobs.errors import InputError

# The port of hubble-relay itself; its Kubernetes service listens on 80 or 443.
DEFAULT_PORT = 4245
_ZONE = re.compile(r"[\w.-]+")
_ADDRESS = re.compile(r"(\[(?P<bracketed>[^]]+)\]|(?P<host>[\w.-]+))(:(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True)
class Tls:
    """How to speak TLS; names as the hubble CLI's flags.

    Attributes:
        ca_files: certificates to trust; the system's if there are none.
        client_cert: the client's certificate chain, with `client_key` (mTLS).
        server_name: the name that the Relay's certificate must carry; the host dialled if empty.
        allow_insecure: believe any certificate.
    """

    ca_files: tuple[Path, ...] = ()
    client_cert: Path | None = None
    client_key: Path | None = None
    server_name: str = ""
    allow_insecure: bool = False


@dataclass(frozen=True)
class Target:
    """A Relay to read.

    Attributes:
        name: the cluster it is asked for, or what the user calls it.
        host: a name or an address.
    """

    name: str
    host: str
    port: int = DEFAULT_PORT
    tls: Tls | None = None

    @property
    def address(self) -> str:
        """Return host and port as one text."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def tls_of(values: Mapping[str, object]) -> Tls | None:
    """Return TLS settings from flags or a configuration's keys, None where they ask for none.

    Args:
        values: `tls`, `tls_ca_cert_files` and so on; what is absent or None counts as not given.
    """
    files, cert, key = (values.get(f"tls_{name}") for name in ("ca_cert_files", "client_cert_file", "client_key_file"))
    made = Tls(
        ca_files=tuple(Path(str(one)) for one in files) if isinstance(files, list | tuple) else (),
        client_cert=Path(str(cert)) if cert else None,
        client_key=Path(str(key)) if key else None,
        server_name=str(values.get("tls_server_name") or ""),
        allow_insecure=bool(values.get("tls_allow_insecure")),
    )
    return made if values.get("tls") or made != Tls() else None


def parse(text: str, tls: Tls | None) -> Target:
    """Read `NAME=ADDRESS` or `ADDRESS`; an address is HOST[:PORT], `tls://` before it asks for TLS.

    Args:
        text: as the user wrote it.
        tls: TLS settings for all Relays; None for plain text unless the address asks for TLS.

    Raises:
        InputError: it is neither.
    """
    name, separator, address = text.partition("=")
    if not separator:
        name, address = "", text
    wants_tls = address.startswith("tls://")
    address = address.removeprefix("tls://")
    host, port = _split(address)
    if not host or not 0 < port < 2**16 or (separator and not name):
        raise InputError(
            f"`relays` {text!r} is not NAME=HOST:PORT: write it as west=10.0.0.1:4245 or west=tls://relay:443"
        )
    return Target(name or host, host, port, (tls or Tls()) if wants_tls else tls)


def _split(address: str) -> tuple[str, int]:
    """Return host and port, an empty host or port 0 where they are none."""
    if _is_ipv6(address):  # without brackets, so that it has no port
        return address, DEFAULT_PORT
    parts = _ADDRESS.fullmatch(address)
    if not parts or (parts["bracketed"] and not _is_ipv6(parts["bracketed"])):
        return "", 0
    return parts["bracketed"] or parts["host"], int(parts["port"] or DEFAULT_PORT)


def _is_ipv6(host: str) -> bool:
    try:
        zone = IPv6Address(host).scope_id
    except ValueError:
        return False
    return zone is None or bool(_ZONE.fullmatch(zone))

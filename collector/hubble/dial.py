"""Opens connections to Relays and says in one line what is wrong with those that cannot be opened, and the cure.

grpc reports most of these as one and the same "unavailable"; TLS as Python has it knows what failed.
"""

import socket
import ssl
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from meshobs.collector.hubble.target import Target, Tls
from meshobs.errors import MeshobsError

# As the hubble CLI: five seconds to connect.
TIMEOUT = 5.0
# A Relay that refuses a client's certificate in TLS 1.3 says so at once after the handshake.
_REFUSAL_SECONDS = 1.0
_ALERT_OR_HANDSHAKE = (b"\x15\x03", b"\x16\x03")
# What a client begins HTTP/2 with: the preface and an empty SETTINGS frame.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
# Bytes that tell a SETTINGS frame, HTTP/2's first: the fourth is its type.
START = 4
_SETTINGS = 4

# What OpenSSL says of a handshake -> what to tell the user. The first that fits counts.
_CURES = (
    ("WRONG_VERSION_NUMBER|HTTP_REQUEST|record layer failure", "does not speak TLS: leave `tls` and tls:// out"),
    ("NO_APPLICATION_PROTOCOL|no application protocol", "does not speak HTTP/2: is it a Hubble Relay?"),
    (
        "ALERT_CERTIFICATE_EXPIRED|alert certificate expired",
        (
            "refuses this client's certificate, which has expired or is not valid yet: renew it"
            " (secret hubble-ui-client-certs)"
        ),
    ),
    (
        "certificate has expired",
        (
            "shows a certificate that has expired: renew it (secret hubble-relay-server-certs),"
            " or use `tls_allow_insecure` for now"
        ),
    ),
    ("not yet valid", "shows a certificate that is not valid yet: compare this machine's clock with the cluster's"),
    (
        "Hostname mismatch|IP address mismatch|doesn't match",
        (
            "shows a certificate that is not for {name}: name one that it carries with `tls_server_name`"
            " (Cilium's is ui.hubble-relay.cilium.io or any other name before .hubble-relay.cilium.io)"
        ),
    ),
    (
        "unable to get local issuer|self-signed|self signed|unable to verify the first",
        (
            "shows a certificate of an authority that is not trusted: give Cilium's with `tls_ca_cert_files`"
            " (key ca.crt of secret cilium-ca)"
        ),
    ),
    (
        "CERTIFICATE_REQUIRED|certificate required",
        (
            "wants a client certificate: give `tls_client_cert_file` and `tls_client_key_file`"
            " (secret hubble-ui-client-certs)"
        ),
    ),
    (
        "BAD_CERTIFICATE|bad certificate|certificate unknown|unsupported certificate|unknown ca|UNKNOWN_CA",
        (
            "refuses this client's certificate: give one of an authority that it trusts with `tls_client_cert_file` and"
            " `tls_client_key_file` (secret hubble-ui-client-certs)"
        ),
    ),
    ("timed out", "does not finish the TLS handshake: is it a Hubble Relay?"),
    ("EOF|reset|closed", "closed the connection in the TLS handshake: does it speak TLS?"),
)


class DialError(MeshobsError):
    """A Relay cannot be reached as it was told."""


@dataclass(frozen=True)
class Connection:
    """An open connection.

    Attributes:
        socket: plain or TLS; HTTP/2 may be spoken on it.
        expires: when the Relay's certificate ends; None without TLS or without a look at it.
    """

    socket: socket.socket
    expires: datetime | None = None


def connect(target: Target, timeout: float = TIMEOUT) -> Connection:
    """Open a connection.

    Raises:
        DialError: with the cause and the cure.
    """
    believed = _check_server_name(context(target.tls), target) if target.tls else None
    try:
        raw = socket.create_connection((target.host, target.port), timeout)
    except UnicodeError as error:
        raise DialError(f"{_describe(target)}: {target.host!r} is no name of a host: check the address") from error
    except OSError as error:
        raise DialError(_unreachable(target, error)) from error
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if believed is None:
        return Connection(raw)
    try:
        wrapped = believed.wrap_socket(raw, server_hostname=_server_name(target))
    except OSError as error:
        raw.close()
        raise DialError(tls_trouble(target, error)) from error
    return Connection(wrapped, _expiry(wrapped))


def probe(target: Target) -> datetime | None:
    """Open a connection, see that it speaks HTTP/2, and close it; return when the Relay's certificate ends.

    Raises:
        DialError: with the cause and the cure.
    """
    connection = connect(target)
    try:
        _greet(connection.socket, target)
    finally:
        connection.socket.close()
    return connection.expires


def refuse(target: Target, start: bytes) -> None:
    """Refuse what is certainly not HTTP/2.

    Args:
        target: for words.
        start: the first bytes that came, START of them where so many came at all.

    Raises:
        DialError: they are none of a SETTINGS frame.
    """
    if speaks_tls(start):
        raise DialError(plain_to_tls(target))
    if len(start) >= START and start[START - 1] != _SETTINGS:
        raise DialError(f"{_describe(target)} does not speak HTTP/2: is it a Hubble Relay?")


def context(tls: Tls) -> ssl.SSLContext:
    """Return what to believe and to show in a TLS handshake for HTTP/2.

    Raises:
        DialError: a certificate or key cannot be read.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.set_alpn_protocols(["h2"])
    # As Go and grpcio do: whatever is given is trusted, be it the root or not. Nor are they as strict as Python 3.13.
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if not tls.ca_files:
        made.load_default_certs()
    if tls.allow_insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    for path in tls.ca_files:
        try:
            made.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            raise DialError(f"`tls_ca_cert_files`: cannot read certificates from {path} ({_words(error)})") from error
    if tls.client_cert or tls.client_key:
        if not tls.client_cert or not tls.client_key:
            raise DialError("`tls_client_cert_file` and `tls_client_key_file` belong together: give both")
        _show(made, tls.client_cert, tls.client_key)
    return made


def speaks_tls(answer: bytes) -> bool:
    """Tell whether what came back on a plain connection is the start of TLS."""
    return answer.startswith(_ALERT_OR_HANDSHAKE)


def plain_to_tls(target: Target) -> str:
    """Return what to say where a plain connection met TLS."""
    return f"{_describe(target)} speaks TLS: add `tls` (and `tls_ca_cert_files`, `tls_server_name` as needed)"


def tls_trouble(target: Target, error: Exception) -> str:
    """Return what to say of a failed handshake."""
    text = _words(error)
    name = _server_name(target)
    for pattern, cure in _CURES:
        if any(part.lower() in text.lower() for part in pattern.split("|")):
            return f"{_describe(target)} {cure.format(name=name)}"
    return f"{_describe(target)}: the TLS handshake failed ({text})"


def _show(made: ssl.SSLContext, cert: Path, key: Path) -> None:
    for name, path in (("tls_client_cert_file", cert), ("tls_client_key_file", key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise DialError(f"`{name}`: cannot read {path} ({_words(error)})") from error
    try:
        # Without a password OpenSSL would ask the terminal for one.
        made.load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as error:
        raise DialError(
            f"cannot use the client certificate {cert} with the key {key} ({_words(error)}):"
            " both must be PEM, the key its own and without a password"
        ) from error


def _check_server_name(made: ssl.SSLContext, target: Target) -> ssl.SSLContext:
    """Refuse a server name that is none before any connection is made."""
    try:
        made.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=_server_name(target))
    except ValueError as error:
        raise DialError(f"`tls_server_name`: {_server_name(target)!r} is no name of a host") from error
    return made


def _greet(connection: socket.socket, target: Target) -> None:
    """See that the other side answers in HTTP/2."""
    try:
        start = (_refusal(connection) if target.tls else b"") or _answer(connection)
    except TimeoutError as error:
        raise DialError(f"{_describe(target)} takes connections but says nothing: is it a Hubble Relay?") from error
    except ssl.SSLError as error:
        raise DialError(tls_trouble(target, error)) from error
    except OSError:
        start = b""
    refuse(target, start)
    if start:
        return
    if target.tls is None and _takes_tls(target):
        raise DialError(plain_to_tls(target))
    raise DialError(f"{_describe(target)} closes the connection at once: is it a Hubble Relay?")


def _refusal(connection: socket.socket) -> bytes:
    """Listen before a word is said: what is sent to a server that hangs up may cost its last words, the TLS alert."""
    connection.settimeout(_REFUSAL_SECONDS)
    try:
        return connection.recv(START)
    except TimeoutError:
        return b""


def _answer(connection: socket.socket) -> bytes:
    connection.settimeout(TIMEOUT)
    connection.sendall(_PREFACE)
    answer = b""
    while len(answer) < START and (more := connection.recv(START - len(answer))):
        answer += more
    return answer


def _takes_tls(target: Target) -> bool:
    """Tell whether TLS may be spoken there: Go's TLS hangs up on anything else without an alert."""
    try:
        connect(replace(target, tls=Tls(allow_insecure=True))).socket.close()
    except DialError:
        return False
    return True


def _server_name(target: Target) -> str:
    return (target.tls and target.tls.server_name) or target.host


def _unreachable(target: Target, error: OSError) -> str:
    called = _describe(target)
    if isinstance(error, socket.gaierror):
        return f"{called}: the name {target.host} cannot be resolved: check the address"
    if isinstance(error, TimeoutError):
        return f"{called} does not answer within {TIMEOUT:.0f} s: check address, network policy and firewall"
    if isinstance(error, ConnectionRefusedError):
        return f"{called}: nothing listens there: is Hubble Relay running, is the port-forward open?"
    return f"{called} cannot be reached ({_words(error)})"


def _describe(target: Target) -> str:
    return f"Relay {target.name} at {target.address}"


def _expiry(wrapped: ssl.SSLSocket) -> datetime | None:
    found = wrapped.getpeercert()
    end = found.get("notAfter") if found else None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(end), tz=UTC) if isinstance(end, str) else None


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return str(error.strerror if isinstance(error, OSError) and error.strerror else error)

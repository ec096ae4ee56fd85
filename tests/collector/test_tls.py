"""TLS to real Relays and from them to nodes: what works, and what is said where it does not."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from support.certificates import DAY, NODE_NAME, NOW, RELAY_NAME, Authority, Pair
from support.command_line import Outcome
from support.recordings import RECORDINGS
from support.relay_nodes import SECOND, Event, Node, Peers, RelayProcess, recorded, wait_until

from meshobs.collector.hubble import dial
from meshobs.collector.hubble.dial import DialError
from meshobs.collector.hubble.relay import Relay
from meshobs.collector.hubble.target import Target, Tls
from meshobs.pb.observer.observer_pb2 import GetFlowsRequest, GetFlowsResponse
from meshobs.pb.peer import peer_pb2
from meshobs.store import Store

RECORDING = RECORDINGS / "global-none" / "west.bin.gz"
# A few flows of each node are enough to see that they come through.
FLOWS = 150


@dataclass(frozen=True)
class Certificates:
    """What the tests show to each other. `ours` is trusted, `other` is not."""

    ours: Authority
    other: Authority
    folder: Path

    @property
    def client(self) -> Pair:
        """Return a client's, as secret hubble-ui-client-certs holds it."""
        return self.ours.sign("client", "ui")

    def write(self) -> None:
        """Write the files that the cases of refusals name."""
        self.ours.sign("late", "ui", end=NOW - DAY / 2)
        self.other.sign("client", "ui")
        (self.folder / "rubbish").write_text("no certificate")
        key = load_pem_private_key(self.client.key.read_bytes(), None)
        secret = BestAvailableEncryption(b"secret")
        (self.folder / "locked.key").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, secret)
        )
        assert self.ours.file.exists()
        assert self.other.file.exists()


class LocalPeers(Peers):
    """The peer service on a unix socket, as an agent's: a Relay with TLS for its nodes speaks plain text only there."""

    def __init__(self, path: Path, nodes: list[Node], tls_names: dict[str, str]) -> None:
        super().__init__(nodes, tls_names=tls_names)
        self.path = path

    def start(self) -> "LocalPeers":
        """Listen."""
        handler = grpc.unary_stream_rpc_method_handler(
            self._notify, peer_pb2.NotifyRequest.FromString, peer_pb2.ChangeNotification.SerializeToString
        )
        self._server = server = grpc.server(ThreadPoolExecutor(8))
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("peer.Peer", {"Notify": handler})])
        server.add_insecure_port(f"unix://{self.path}")
        server.start()
        return self


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return authorities; everything that they sign is a file."""
    folder = tmp_path_factory.mktemp("certificates")
    made = Certificates(Authority(folder, "ours"), Authority(folder, "other"), folder)
    made.write()
    return made


def served(pair: Pair, *client_authorities: Path) -> list[str]:
    """Return a Relay's arguments to show a certificate and, with authorities, to want one of its clients."""
    return [
        f"--tls-relay-server-cert-file={pair.cert}",
        f"--tls-relay-server-key-file={pair.key}",
        *(f"--tls-relay-client-ca-files={path}" for path in client_authorities),
    ]


@pytest.fixture(scope="module")
def relays(
    program: Callable[[str], Path], certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], RelayProcess]]:
    """Return a function from a kind to a running Relay without nodes."""
    ours = certificates.ours
    here = (RELAY_NAME, "127.0.0.1")
    kinds: dict[str, Callable[[], list[str]]] = {
        "plain": lambda: ["--disable-server-tls"],
        "tls": lambda: served(ours.sign("relay", *here)),
        "mtls": lambda: served(ours.sign("relay", *here), ours.file),
        "named": lambda: served(ours.sign("named", RELAY_NAME)),
        "expired": lambda: served(ours.sign("expired", *here, end=NOW - DAY / 2)),
        "future": lambda: served(ours.sign("future", *here, start=NOW + DAY / 2)),
    }
    with ExitStack() as stack:
        peers = Peers().start()
        stack.callback(peers.stop)

        @cache
        def running(kind: str) -> RelayProcess:
            folder = tmp_path_factory.mktemp(kind)
            binary = program("hubble-relay-1.17")
            process = RelayProcess(binary, peers, folder, "--disable-client-tls", *kinds[kind]()).start()
            stack.callback(process.kill)
            return process

        yield running


@contextmanager
def secured(
    binary: Path, nodes: list[Node], certificates: Certificates, folder: Path, *, mutual: bool
) -> Iterator[RelayProcess]:
    """Run nodes that want the Relay's certificate, and a Relay that may want its clients'."""
    ours = certificates.ours
    names = {node.name: f"{node.name.replace('/', '-')}.west.hubble-grpc.cilium.io" for node in nodes}
    peers = LocalPeers(folder / "hubble.sock", [node.start() for node in nodes], names).start()
    client = ours.sign("relay-client", "*.hubble-relay.cilium.io")
    process = RelayProcess(
        binary, peers, folder,
        f"--peer-service=unix://{peers.path}",
        f"--tls-hubble-server-ca-files={ours.file}",
        f"--tls-hubble-client-cert-file={client.cert}",
        f"--tls-hubble-client-key-file={client.key}",
        *served(ours.sign("relay", RELAY_NAME, "127.0.0.1"), *([ours.file] if mutual else [])),
    )  # fmt: skip
    try:
        yield process.start()
    finally:
        process.kill()
        peers.stop()
        for node in nodes:
            node.stop()


def node_credentials(certificates: Certificates) -> Any:
    """Return what a node shows, and whom it believes."""
    pair = certificates.ours.sign("node", NODE_NAME)
    shown = [(pair.key.read_bytes(), pair.cert.read_bytes())]
    return grpc.ssl_server_credentials(shown, certificates.ours.file.read_bytes(), require_client_auth=True)


def trusting(certificates: Certificates, **more: Any) -> Tls:
    """Return settings that every Relay with our certificate accepts."""
    client = certificates.client
    return replace(Tls((certificates.ours.file,), client.cert, client.key), **more)


def flags(tls: Tls) -> list[object]:
    """Return TLS settings as flags of the command line."""
    found: list[object] = [part for path in tls.ca_files for part in ("--tls-ca-cert-files", path)]
    if tls.client_cert:
        found += ["--tls-client-cert-file", tls.client_cert, "--tls-client-key-file", tls.client_key]
    return [*found, "--tls-allow-insecure"] if tls.allow_insecure else found


def few() -> dict[str, list[Event]]:
    """Return a few flows of each node, as if they happened just now."""
    return {name: events[:FLOWS] for name, events in recorded(RECORDING, time.time_ns() - 60 * SECOND).items()}


def read(relay: Relay, *, stock: bool = False) -> object:
    """Return how a call ends that has nothing to tell."""
    stream = relay.flows(GetFlowsRequest(number=1), stock=stock)
    assert [one for messages in stream.messages() for one in messages] == []
    return stream.status


@contextmanager
def dialled(target: Target) -> Iterator[Relay]:
    """Return a Relay and close it."""
    relay = Relay(target).dial()
    try:
        yield relay
    finally:
        relay.close()


@pytest.mark.parametrize(
    ("version", "mutual"), [("hubble-relay-1.17", True), ("hubble-relay-1.19", True), ("hubble-relay-1.19", False)]
)
@pytest.mark.parametrize("reading", [(), ("--stock-grpc",)], ids=["lean", "grpcio"])
def test_what_nodes_hold_comes_through_tls(
    version: str,
    mutual: bool,
    reading: tuple[str, ...],
    program: Callable[[str], Path],
    certificates: Certificates,
    tmp_path: Path,
    meshobs: Callable[..., Outcome],
) -> None:
    """Nodes, Relay and (mTLS) collector show certificates: each flow is stored once, and the certificate's end, too."""
    flows = few()
    credentials = node_credentials(certificates)
    nodes = [Node(name, events, credentials) for name, events in flows.items()]
    trust = trusting(certificates) if mutual else Tls((certificates.ours.file,))
    believing = {"authority": trust, "anything": replace(trust, ca_files=(), allow_insecure=True)}
    told = {}
    with secured(program(version), nodes, certificates, tmp_path, mutual=mutual) as process:
        with dialled(Target("west", "127.0.0.1", process.port, trust)) as relay:
            wait_until(lambda: relay.status().connected == len(nodes), "the Relay does not reach its nodes")
        for name, tls in believing.items():
            to = ("--db", tmp_path / name, "collect", "--relay", f"west={process.address}")
            told[name] = meshobs(*to, "--since", "1h", "--no-follow", *flags(tls), *reading)

    expected = sorted(
        GetFlowsResponse.FromString(one.raw).flow.uuid[:18] for events in flows.values() for one in events
    )
    assert {name: result.code for name, result in told.items()} == {"authority": 0, "anything": 0}, told
    assert {name: stored(tmp_path / name) for name in told} == {"authority": expected, "anything": expected}
    assert ends(tmp_path / "authority") == [int((NOW + DAY).timestamp())]
    assert ends(tmp_path / "anything") == [None]


def stored(db: Path) -> list[str]:
    """Return what tells the stored flows apart."""
    with Store.open(db) as store:
        return sorted(str(row[0]) for row in store.rows("select uuid_text(uuid) from flows"))


def ends(db: Path) -> list[object]:
    """Return when the Relay's certificate ends, as it was told."""
    with Store.open(db) as store:
        return [row[0] for row in store.rows("select distinct epoch(certificate_expires)::bigint from relays")]


OURS = ("--tls-ca-cert-files", "@ours-ca.crt")
CERT = ("--tls-client-cert-file", "@ours-client.crt")
KEY = ("--tls-client-key-file", "@ours-client.key")
STRANGER = ("--tls-client-cert-file", "@other-client.crt", "--tls-client-key-file", "@other-client.key")
LATE = ("--tls-client-cert-file", "@ours-late.crt", "--tls-client-key-file", "@ours-late.key")
REFUSED = [
    ("plain", OURS, "does not speak TLS: leave --tls and tls:// out"),
    ("tls", (), "speaks TLS: add --tls"),
    ("mtls", (), "speaks TLS: add --tls"),
    ("expired", OURS, "has expired: renew it (secret hubble-relay-server-certs), or use --tls-allow-insecure"),
    ("future", OURS, "is not valid yet: compare this machine's clock"),
    ("named", OURS, "is not for 127.0.0.1: name one that it carries with --tls-server-name"),
    ("tls", (*OURS, "--tls-server-name", "a.example"), "is not for a.example: name one"),
    ("tls", (*OURS, "--tls-server-name", ".example"), "--tls-server-name: '.example' is no name of a host"),
    ("tls", ("--tls-ca-cert-files", "@other-ca.crt"), "not trusted: give Cilium's with --tls-ca-cert-files"),
    ("tls", ("--tls",), "not trusted: give Cilium's with --tls-ca-cert-files"),
    ("mtls", OURS, "wants a client certificate: give --tls-client-cert-file and --tls-client-key-file"),
    ("mtls", ("--tls-allow-insecure",), "wants a client certificate: give --tls-client-cert-file"),
    ("mtls", (*OURS, *STRANGER), "refuses this client's certificate: give one of an authority that it trusts"),
    ("mtls", (*OURS, *LATE), "refuses this client's certificate, which has expired or is not valid yet: renew it"),
    ("mtls", (*OURS, *CERT), "belong together: give both"),
    ("mtls", (*OURS, *KEY), "belong together: give both"),
    ("mtls", (*OURS, *CERT, *LATE[2:]), "both must be PEM, the key its own"),
    ("mtls", (*OURS, *CERT, KEY[0], "@locked.key"), "both must be PEM, the key its own and without a password"),
    ("mtls", (*OURS, *CERT, KEY[0], "@missing"), "--tls-client-key-file: cannot read"),
    ("mtls", (*OURS, CERT[0], "@missing", *KEY), "--tls-client-cert-file: cannot read"),
    ("tls", ("--tls-ca-cert-files", "@missing"), "--tls-ca-cert-files: cannot read certificates from"),
    ("tls", ("--tls-ca-cert-files", "@rubbish"), "--tls-ca-cert-files: cannot read certificates from"),
]


@pytest.mark.parametrize(("kind", "given", "words"), REFUSED)
def test_what_is_refused_is_said_in_one_line_with_its_cure(
    kind: str,
    given: tuple[str, ...],
    words: str,
    relays: Callable[[str], RelayProcess],
    certificates: Certificates,
    db: Path,
    meshobs: Callable[..., Outcome],
) -> None:
    """Exit code 2, one line, and nothing is stored."""
    arguments = [certificates.folder / part[1:] if part.startswith("@") else part for part in given]

    result = meshobs("--db", db, "collect", "--relay", f"west={relays(kind).address}", "--no-follow", *arguments)

    assert (result.code, words in result.err, result.err.count("\n")) == (2, True, 1), result.err
    assert not db.exists()


@pytest.mark.parametrize("kind", ["tls", "named", "expired", "future"])
def test_any_certificate_may_be_believed(
    kind: str, relays: Callable[[str], RelayProcess], certificates: Certificates
) -> None:
    """--tls-allow-insecure works against a Relay whose certificate is expired, unknown, or another's."""
    stranger = Tls((certificates.other.file,), allow_insecure=True)

    with dialled(Target("west", "127.0.0.1", relays(kind).port, stranger)) as relay:
        told = relay.status().version, relay.nodes()

    assert ("v1.17.6" in told[0], told[1]) == (True, [])


@pytest.mark.parametrize("insecure", [False, True])
def test_a_name_that_the_certificate_carries(
    insecure: bool, relays: Callable[[str], RelayProcess], certificates: Certificates
) -> None:
    """--tls-server-name is what the certificate is held against, by both readers alike."""
    tls = Tls((certificates.ours.file,), server_name="ui.hubble-relay.cilium.io", allow_insecure=insecure)

    with dialled(Target("west", "127.0.0.1", relays("named").port, tls)) as relay:
        version, lean, stock = relay.status().version, read(relay), read(relay, stock=True)

    assert "v1.17.6" in version
    assert lean == stock


def test_authorities_that_this_machine_trusts(
    relays: Callable[[str], RelayProcess], certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --tls-ca-cert-files the system's count, for short calls, too; with them nothing else does."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ours.file))
    target = Target("west", "127.0.0.1", relays("tls").port, Tls())

    with dialled(target) as relay:
        version = relay.status().version

    assert "v1.17.6" in version
    with pytest.raises(DialError, match="not trusted"):
        Relay(replace(target, tls=Tls((certificates.other.file,)))).dial()


def test_an_intermediate_authority_is_enough(
    program: Callable[[str], Path], certificates: Certificates, tmp_path: Path
) -> None:
    """As with the hubble CLI whatever is named is trusted, be it a root or not."""
    middle = certificates.ours.child("middle")
    peers = Peers().start()
    arguments = served(middle.sign("relay", "127.0.0.1"))
    process = RelayProcess(program("hubble-relay-1.17"), peers, tmp_path, "--disable-client-tls", *arguments).start()
    tls = Tls((certificates.other.file, middle.file))
    try:
        with dialled(Target("west", "127.0.0.1", process.port, tls)) as relay:
            version = relay.status().version
    finally:
        process.kill()
        peers.stop()

    assert "v1.17.6" in version


def test_a_certificate_that_is_refused_from_now_on(
    program: Callable[[str], Path], certificates: Certificates, tmp_path: Path
) -> None:
    """A Relay that comes back with another authority says so in every call: in TLS 1.3 only the first read shows it."""
    peers = Peers().start()
    pair = certificates.ours.sign("relay", "127.0.0.1")
    before, after = (
        RelayProcess(program("hubble-relay-1.17"), peers, tmp_path, "--disable-client-tls", *served(pair, one.file))
        for one in (certificates.ours, certificates.other)
    )
    after.port = before.port
    calls: dict[str, Callable[[Relay], object]] = {
        "status": Relay.status,
        "nodes": Relay.nodes,
        "lean": read,
        "grpcio": lambda relay: read(relay, stock=True),
    }
    target = Target("west", "127.0.0.1", before.port, trusting(certificates))
    insecure = replace(target, tls=trusting(certificates, allow_insecure=True))
    said = {}
    try:
        before.start()
        with dialled(target) as relay, dialled(insecure) as bare:
            relay.status()
            bare.status()
            before.kill()
            after.start()
            for name, call in calls.items():
                for one in (relay, bare):
                    with pytest.raises(DialError) as caught:
                        call(one)
                    said[name, one is bare] = str(caught.value)
    finally:
        before.kill()
        after.kill()
        peers.stop()

    cure = "refuses this client's certificate: give one of an authority"
    assert len(said) == 8
    assert {name: words for name, words in said.items() if cure not in words} == {}


def test_the_end_of_the_certificate_is_told(relays: Callable[[str], RelayProcess], certificates: Certificates) -> None:
    """It is known from the first connection on; without TLS there is none."""
    secure = Target("west", "127.0.0.1", relays("tls").port, trusting(certificates))

    with dialled(secure) as relay, dialled(Target("west", "127.0.0.1", relays("plain").port)) as plain:
        told = relay.expires, relay.status().expires, plain.expires, plain.status().expires

    assert told == (NOW + DAY, NOW + DAY, None, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[SSL: TLSV1_ALERT_NO_APPLICATION_PROTOCOL] tlsv1 alert no application protocol", "does not speak HTTP/2"),
        ("The handshake operation timed out", "does not finish the TLS handshake"),
        ("EOF occurred in violation of protocol", "closed the connection in the TLS handshake"),
        ("[SSL: SOMETHING_NEW] something new", "the TLS handshake failed ([SSL: SOMETHING_NEW] something new)"),
    ],
)
def test_what_relays_do_not_do(text: str, words: str) -> None:
    """Other servers' ways to fail a handshake are told apart as well."""
    assert words in dial.tls_trouble(Target("west", "::1", 4245, Tls()), OSError(text))

"""The client of drivers with real pods: its script runs in a real bash with a real curl against a real server."""

import http.server
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from meshobs.lab.clusters import curl, manifests
from meshobs.lab.clusters.curl import CurlAnswer
from meshobs.lab.kind import udp
from meshobs.lab.mesh.model import walkthrough
from meshobs.lab.traffic import Traffic


class Whoami(http.server.BaseHTTPRequestHandler):
    """Answers as traefik/whoami does."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        host, port = self.client_address[:2]
        text = f"Hostname: webpod-1\nIP: 127.0.0.1\nIP: 10.0.0.9\nRemoteAddr: {host}:{port}\nGET / HTTP/1.1\nHost: x\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


@pytest.fixture(scope="module")
def whoami() -> Iterator[int]:
    """Return the port of a server on loopback."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Whoami)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def ran(traffic: Traffic, *targets: tuple[str, int]) -> list[CurlAnswer]:
    done = subprocess.run(curl.command(traffic, targets), capture_output=True, text=True, check=True, timeout=60)
    return curl.answers(done.stdout.splitlines(), traffic)


def test_each_connection_is_told_once(whoami: int) -> None:
    """Of so many connections each is there with the client's port, and the server saw just that port."""
    told = ran(Traffic("west", "x", count=60, rate=100), ("127.0.0.1", whoami), ("localhost", whoami))

    assert len(told) == 60
    assert {one.error for one in told} == {""}
    assert {one.host_name for one in told} == {"webpod-1"}
    assert all(one.server_saw == f"127.0.0.1:{one.client_port}" for one in told)
    assert len({one.client_port for one in told}) == 60
    assert [one.target.partition(":")[0] for one in told].count("localhost") == 30, "in turn"
    assert all(one.began <= one.ended for one in told)


def test_requests_on_one_connection(whoami: int) -> None:
    """Further requests on an open connection carry its port, are marked, and keep their distance."""
    told = ran(Traffic("west", "x", count=2, rate=50, requests=4, gap=0.1), ("127.0.0.1", whoami))

    assert len(told) == 8
    assert [one.reused for one in told].count(False) == 2
    assert len({one.client_port for one in told}) == 2
    for port in {one.client_port for one in told}:
        times = [one.ended for one in told if one.client_port == port]
        assert all(later - earlier > 50_000_000 for earlier, later in pairwise(times))


def test_nobody_answers() -> None:
    """A refused connection is told as that, not left out."""
    told = ran(Traffic("west", "x", count=3, rate=50, requests=2), ("127.0.0.1", 1))

    assert [one.error for one in told] == ["connection refused"] * 3
    assert all(not one.host_name for one in told)


@pytest.mark.parametrize(
    ("line", "address", "error"),
    [
        ("64 bytes from 10.1.1.224: icmp_seq=1 ttl=62 time=0.353 ms", "10.1.1.224", ""),
        ("From 10.0.1.7 icmp_seq=1 Destination Host Unreachable", "", "no answer"),
    ],
)
def test_pings(line: str, address: str, error: str) -> None:
    """A ping that is answered is told with who answered; one that is not, too."""
    traffic = Traffic("west", "x", protocol="ICMP", count=1)
    lines = ["0 < 1000000 10.1.1.224", f"0 1000400 {line}", "0 > 1000500"]

    (told,) = curl.answers(lines, traffic)

    assert (list(told.addresses), told.error) == ([address] if address else [], error)
    assert told.ended == (1_000_400_000 if address else 1_000_500_000)


def test_lines_of_others_are_left_out() -> None:
    """What a shell or kubectl says between the lines, and lines that were cut, do not harm."""
    lines = [
        "Defaulted container curl",
        "",
        "7",
        "x < 1",
        "3 99 @ 200 junk",
        "0 < 1000 1.2.3.4:80",
        "0 2000 @ nonsense",
    ]

    (told,) = curl.answers(lines, Traffic("west", "x", count=1))

    assert told.error


class DatagramWhoami(socketserver.BaseRequestHandler):
    """Answers as whoami does, one datagram for one; what it is not asked properly it does not answer."""

    def handle(self) -> None:
        data, sender = self.request
        host, port = self.client_address
        if data == b"who\n":
            sender.sendto(f"Hostname: webpod-1\nIP: 10.0.0.9\nRemoteAddr: {host}:{port}\n".encode(), (host, port))


@pytest.fixture(scope="module")
def datagrams() -> Iterator[int]:
    """Return the port of a UDP server on loopback."""
    with socketserver.ThreadingUDPServer(("127.0.0.1", 0), DatagramWhoami) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_udp_is_told_as_tcp_is(datagrams: int) -> None:
    """Each client has a port of its own, which the server saw; further requests come from the same one."""
    told = ran(Traffic("west", "x", protocol="UDP", count=20, rate=50, requests=2, gap=0.05), ("127.0.0.1", datagrams))

    assert {one.error for one in told} == {""}
    assert len(told) == 40
    assert [one.reused for one in told].count(False) == 20
    assert len({one.client_port for one in told}) == 20
    assert all(one.server_saw == f"127.0.0.1:{one.client_port}" for one in told)
    assert {(one.host_name, tuple(one.addresses)) for one in told} == {("webpod-1", ("10.0.0.9",))}
    assert all(0 < one.ended - one.began < 5_000_000_000 for one in told)


def test_udp_that_nobody_answers() -> None:
    """A port where nobody listens, and a name that is none, are told as what they are; the client's port is known."""
    refused, unknown = (
        ran(Traffic("west", "x", protocol="UDP", count=1), target) for target in (("127.0.0.1", 1), ("no.invalid", 9))
    )

    assert [(one.error, one.client_port > 0) for one in refused] == [("connection refused", True)]
    assert [one.error for one in unknown] == ["no such host"]


def test_udp_that_is_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says nothing costs the client's patience, no more."""
    monkeypatch.setattr(curl, "SCRIPT", curl.SCRIPT.replace("timeout 5", "timeout 0.3"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))

        (told,) = ran(Traffic("west", "x", protocol="UDP", count=1), ("127.0.0.1", silent.getsockname()[1]))

    assert told.error == "timed out"


def test_the_server_beside_whoami_answers_udp() -> None:
    """The script of its container, run by a real bash with a real socat, answers what the client's script asks."""
    if not shutil.which("socat"):
        if os.environ.get("CI"):
            pytest.fail("socat is missing")
        pytest.skip("socat is missing: apt-get install socat")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pod, _ = udp.add_servers(manifests.of_cluster(walkthrough(), "west")[1:], walkthrough())
    container = pod["spec"]["template"]["spec"]["containers"][1]
    command = [*container["command"][:-1], str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as server:
        try:
            traffic = Traffic("west", "x", protocol="UDP", count=5, rate=20, requests=2)
            # socat needs a moment until it listens.
            deadline = time.monotonic() + 10
            while (told := ran(traffic, ("127.0.0.1", port))) and any(one.error for one in told):
                assert time.monotonic() < deadline, told
        finally:
            os.killpg(server.pid, signal.SIGKILL)

    assert container["ports"] == [{"containerPort": 80, "protocol": "UDP"}]
    assert len(told) == 10
    assert all(one.server_saw == f"127.0.0.1:{one.client_port}" for one in told)
    assert {one.host_name for one in told} == {socket.gethostname()}

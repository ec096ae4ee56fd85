"""The lab on real Cilium, in namespaces: its pure parts, and a real mesh of each version against what its clients saw.

The programs are built by `make tools` and `meshobs lab build --driver netns`; what is missing fails in CI and skips
elsewhere. Nothing of a mesh may be left on the machine, whatever ended it.
"""

import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.recordings import import_into
from support.size import WHOLE

from meshobs.analyzer import Question, run
from meshobs.errors import MeshobsError
from meshobs.lab.experiments.model import ExperimentPhase
from meshobs.lab.experiments.runner import PhaseRun
from meshobs.lab.experiments.truth import truth
from meshobs.lab.mesh.file import mesh_of
from meshobs.lab.mesh.model import walkthrough
from meshobs.lab.netns import requirements
from meshobs.lab.netns.cluster import objects, programs
from meshobs.lab.netns.cluster.kubelet import SCRIPTS
from meshobs.lab.netns.host import cgroup, kernel, pki
from meshobs.lab.netns.host.layout import Layout, control_plane
from meshobs.lab.netns.host.processes import Place
from meshobs.lab.programs import machine
from meshobs.lab.traffic import Request
from meshobs.store import Store
from meshobs.times import rfc3339
from meshobs.verdict import Verdict

# The oldest that is supported here, and the newest.
VERSIONS = ("1.17.6", "1.19.6")
PROGRAM = Path(sys.executable).parent / "meshobs"
MINUTES = 60
# The datapath sees a packet a little before and after its client does.
AROUND = 400_000_000
# Flows a second that a collection may add to an idle mesh.
ADDED = 5.0

HYBRID = """\
25 30 0:23 / /sys rw,nosuid - sysfs sysfs rw
29 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 29 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 29 0:29 /within /elsewhere rw - cgroup2 cgroup2 rw
33 29 0:29 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
"""


# ---- pure parts


def test_control_groups_are_found_beside_those_of_version_1() -> None:
    """The whole hierarchy counts, not a part of it that is mounted elsewhere."""
    assert kernel.cgroups(HYBRID) == Path("/sys/fs/cgroup/unified")
    with pytest.raises(MeshobsError, match="not mounted"):
        kernel.cgroups("25 30 0:23 / /sys rw - sysfs sysfs rw")


def test_every_folder_has_a_control_group_of_its_own() -> None:
    """`down` finds a lab by its folder alone, and never another one."""
    one, other = cgroup.cgroup_of(Path("/somewhere/one")), cgroup.cgroup_of(Path("/somewhere/other"))

    assert one != other
    assert one == cgroup.cgroup_of(Path("/somewhere/one"))
    assert one.name.startswith(cgroup.PREFIX)
    assert not cgroup.exists(Path("/somewhere/without a lab"))


def test_a_program_enters_its_group_before_its_namespaces() -> None:
    """Inside, the outer hierarchy cannot be seen any more."""
    group = Path("/sys/fs/cgroup/x")
    command = Place(group, holder=7).command(["agent", "--flag"])

    assert command[:2] == ["sh", "-c"]
    assert command[3] == "/sys/fs/cgroup/x"
    assert command[4:6] == ["nsenter", "--target=7"]
    assert command[-2:] == ["agent", "--flag"]
    assert Place(group, Path("/run/netns/p")).command(["x"])[-3:] == ["--net=/run/netns/p", "--", "x"]


def test_an_agent_spares_the_ranges_that_its_mesh_names() -> None:
    """What is described becomes the file that agents watch, the own pods first: an empty list means Cilium's own."""
    west = walkthrough().cluster("west")

    assert west.native_cidrs == ("10.0.0.0/16", "10.1.0.0/16")
    assert programs.masquerade(west.native_cidrs) == (
        "nonMasqueradeCIDRs:\n- 10.0.0.0/16\n- 10.1.0.0/16\nmasqLinkLocal: false\n"
    )


def test_an_agent_gets_its_cluster_s_settings(tmp_path: Path) -> None:
    """Version, ring, aggregation and the kind of load balancing are the description's."""
    mesh = mesh_of({"ring": 1023, "aggregation": "medium", "socket_lb": False})
    pair = pki.Authority(tmp_path).issue("hubble", "x")

    told = programs.agent(mesh.clusters[1], Layout(tmp_path, tmp_path), pair)

    assert (told["cluster-name"], told["cluster-id"]) == ("east", "2")
    assert told["hubble-event-buffer-capacity"] == "1023"
    assert told["monitor-aggregation"] == "medium"
    assert told["bpf-lb-sock-hostns-only"] == "true"
    assert told["hubble-disable-tls"] == "false"


def test_certificates_are_good_for_their_names_only(tmp_path: Path) -> None:
    """Python's own TLS, both sides: the name that is not in a certificate is refused, and so is another authority."""
    authority = pki.Authority(tmp_path / "one")
    server = authority.issue("server", "x", ["*.west.hubble-grpc.cilium.io", "127.0.0.1"])
    stranger = pki.Authority(tmp_path / "two").issue("client", "x")

    assert shake(server, server, "node.west.hubble-grpc.cilium.io") == ""
    assert shake(server, server, "127.0.0.1") == ""
    assert "mismatch" in shake(server, server, "node.east.hubble-grpc.cilium.io")
    assert shake(server, stranger, "127.0.0.1") != ""
    assert oct(server.key.stat().st_mode & 0o777) == "0o600"


def shake(server: pki.Pair, client: pki.Pair, name: str) -> str:
    """Shake hands in memory; return what goes wrong."""
    theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    theirs.load_cert_chain(server.cert, server.key)
    theirs.load_verify_locations(server.ca)
    theirs.verify_mode = ssl.CERT_REQUIRED
    ours.load_cert_chain(client.cert, client.key)
    ours.load_verify_locations(client.ca)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [ours.wrap_bio(back, there, server_hostname=name), theirs.wrap_bio(there, back, server_side=True)]
    for _ in range(6):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return str(error)
    return ""


def test_pods_are_spread() -> None:
    """Pods of an app go to different nodes, workers first; others to where the fewest are."""
    nodes = walkthrough().cluster("west").nodes
    pod = {"metadata": {"labels": {"app": "webpod"}}}
    placed: list[tuple[str, str]] = []
    for _ in range(3):
        placed.append(("webpod", objects.choose_node(pod, nodes, placed).name))

    assert [name for _, name in placed] == ["west-worker", "west-control-plane", "west-worker"]
    assert objects.choose_node({"metadata": {}}, nodes, placed).name == "west-control-plane"


def test_the_balancer_takes_clusters_in_turn() -> None:
    """A round names each cluster as often as any other, whatever their sizes."""
    mesh = mesh_of({
        "clusters": {
            "a": {"nodes": 1, "pod_cidr": "10.0.0.0/16", "service_cidr": "10.10.0.0/16"},
            "b": {"nodes": 2, "pod_cidr": "10.1.0.0/16", "service_cidr": "10.11.0.0/16"},
        }
    })  # fmt: skip
    (first,), (second, third) = ([node.address for node in cluster.nodes] for cluster in mesh.clusters)

    assert [one.address for one in mesh.in_turn] == [first, second, first, third]


def test_what_is_missing_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One line names all programs and packages that are not there."""
    monkeypatch.setenv("MESHOBS_CACHE", str(tmp_path))
    monkeypatch.setattr(machine, "find_tool", lambda _name: None)

    with pytest.raises(MeshobsError) as told:
        requirements.check(walkthrough())

    assert "meshobs lab build --driver netns --cilium 1.17.6" in str(told.value)
    assert "apt-get install" in str(told.value)
    assert "etcd-server" in str(told.value)


def test_the_truth_has_the_form_of_other_recordings() -> None:
    """Clients, answers, errors and changes are told as in recordings of real meshes."""
    phase = ExperimentPhase("one", "", (), "affinity", {"affinity": Verdict.OK}, set={"webpod": {"affinity": "local"}})
    answered = Request(2 * 10**9, 3 * 10**9, "west/default/curl-pod", "west", "10.0.1.2", 4000, "10.2.0.1:80", "TCP",
                       "east", "webpod-1", "10.1.0.7", "east-worker", "10.0.1.2:4000")  # fmt: skip
    refused = Request(2 * 10**9, 3 * 10**9, "outside", "", "172.18.255.251", 5, "172.18.0.2:30080", "TCP", error="no")
    status = {
        "pods": [{"cluster": "west", "name": "curl-pod", "node": "west-worker", "address": "10.0.1.2"}],
        "services": [{"cluster": "west", "namespace": "default", "name": "webpod", "address": "10.2.0.1", "port": 80,
                      "ports": [{"port": 80, "protocol": "TCP", "node_port": 0}]}],
    }  # fmt: skip

    told: Any = truth("name", walkthrough(), status, [PhaseRun("x", phase, 10**9, 4 * 10**9, (answered, refused))])

    assert told["verdicts"] == {"affinity": "ok"}
    assert told["lossy"] is False
    assert told["requests"][0]["answered_by"] == {
        "pod": "webpod-1", "ip": "10.1.0.7", "cluster": "east", "node": "east-worker",
    }  # fmt: skip
    assert told["requests"][1]["client"] == "external/172.18.255.251"
    assert told["summary"]["west/default/curl-pod -> 10.2.0.1:80"] == {"east/webpod-1": 1}
    assert told["events"][0]["event"] == "one begins: webpod affinity=local"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(("protocol", "requests"), [("TCP", 3), ("UDP", 2)])
def test_client_and_server_tell_of_each_other(tmp_path: Path, protocol: str, requests: int, address: str) -> None:
    """What the client says of its address is what the server saw, for each request on each connection."""
    port = 18_080
    about = {"pod": "webpod-x", "cluster": "west", "node": "n", "addresses": [address], "port": port,
             "pings": str(tmp_path / "pings")}  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-I", "-S", SCRIPTS / "server.py", json.dumps(about)], stdout=subprocess.PIPE, text=True
    ) as server:
        if os.geteuid():
            server.wait()
            pytest.skip("a server that notes pings needs root")
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        given = {"targets": [[address, port]], "protocol": protocol, "count": 5, "rate": 100, "requests": requests,
                 "gap": 0.01, "sources": [address], "endless": False}  # fmt: skip
        told = subprocess.run(
            [sys.executable, "-I", "-S", SCRIPTS / "client.py", json.dumps(given)], capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        server.terminate()

    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert len(lines) == 5 * requests
    assert sum(not line["reused"] for line in lines) == 5
    for line in lines:
        assert f"RemoteAddr: {line['own'][0]}:{line['own'][1]}\n" in line["answer"]
        assert "Hostname: webpod-x\n" in line["answer"]


# ---- real meshes


@dataclass
class Real:
    """A real mesh, driven as a user does."""

    folder: Path
    version: str
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = {**os.environ, "MESHOBS_LAB": str(self.folder / "lab"), "NO_COLOR": "1"}

    def __call__(self, *words: object, minutes: float = 2, fine: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        done = subprocess.run(
            [PROGRAM, *map(str, words)], env=self.environment, capture_output=True, text=True, check=False,
            timeout=minutes * MINUTES, cwd=self.folder,
        )  # fmt: skip
        assert not fine or done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done

    def begin(self, *words: object) -> "subprocess.Popen[str]":
        """Start a command."""
        return subprocess.Popen(
            [PROGRAM, *map(str, words)], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=self.folder,
        )  # fmt: skip

    @property
    def process(self) -> int:
        """Return the lab's process."""
        content = json.loads((self.folder / "lab" / "lab.json").read_text())
        return int(content["control"]["process"])

    def requests(self, *words: object) -> list[dict[str, Any]]:
        """Run traffic; return what its client saw."""
        found: list[dict[str, Any]] = json.loads(self("lab", "traffic", *words, "--format", "json").stdout)
        return found


def footprint() -> frozenset[str]:
    """Return all that there is where a mesh could leave something: another lab may go meanwhile, but nothing may come."""
    own = Path("/proc/self")
    tool = "/usr/sbin/bpftool"
    listed = {kind: json.loads(subprocess.check_output([tool, "-j", kind, "list"])) for kind in ("prog", "map", "link")}
    # A process that is killed while it loads a program can leave an empty array of tail calls, which nothing holds, to the
    # kernel for good (seen on 6.18: 712 bytes, no program, link, pin or process).
    used = {number for one in listed["prog"] for number in one.get("map_ids", ())}
    listed["map"] = [one for one in listed["map"] if one["type"] != "prog_array" or one["id"] in used]
    sysctls = ("kernel/unprivileged_bpf_disabled", "kernel/timer_migration", "net/ipv4/ip_forward", "kernel/hostname",
               "net/ipv4/conf/all/rp_filter", "net/core/bpf_jit_enable")  # fmt: skip
    return frozenset((
        *(f"{kind} {one['id']}" for kind, found in listed.items() for one in found),
        *(own / "mounts").read_text().splitlines(),
        *map(str, Path("/sys/class/net").iterdir()),
        *(str(path) for path in kernel.cgroups().iterdir() if path.name.startswith(cgroup.PREFIX)),
        *map(str, Path("/run/netns").glob("*")),
        *(f"{name} {path.read_text()}" for name in sysctls if (path := Path(f"/proc/sys/{name}")).exists()),
        *(name for name in ("/run/cilium", "/var/lib/cilium", "/sys/fs/bpf/tc") if Path(name).exists()),
    ))  # fmt: skip


def running(folder: Path) -> dict[int, str]:
    """Return the processes that have a folder in their command line: number -> command line."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in words:
            found[int(path.parent.name)] = words
    return found


def left_since(before: frozenset[str]) -> frozenset[str]:
    """Return what is left once the kernel has cleared away: it frees namespaces and programs a little later."""
    deadline = time.monotonic() + 20
    while (left := footprint() - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def needed(version: str, variant: str = "native") -> None:
    """Skip where a mesh of a version cannot be stood up; fail in CI."""
    try:
        requirements.check(mesh_of({"cilium": version, "variant": variant}))
    except MeshobsError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=VERSIONS if WHOLE else VERSIONS[:1])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """Return a mesh that is up; nothing is left of it afterwards."""
    needed(request.param)
    made = Real(tmp_path_factory.mktemp(f"netns-{request.param}"), request.param)
    before = footprint()
    made("lab", "up", "--driver", "netns", "--cilium", request.param, "--traffic", 0, minutes=8)
    yield made
    made("lab", "down")
    assert not left_since(before)
    assert not running(made.folder)
    assert not (made.folder / "lab").exists()


def test_up_does_what_the_plan_says(real: Real) -> None:
    """The same steps in the same order."""
    planned = [
        step["title"] for step in json.loads(real("lab", "plan", "--driver", "netns", "--format", "json").stdout)
    ]

    told = [json.loads(line) for line in (real.folder / "lab" / "progress.txt").read_text().splitlines()]

    titles = [line["said"].partition("] ")[2].rpartition(": ")[0] for line in told if "said" in line]
    assert titles == planned


def test_every_experiment_finds_what_clients_saw(real: Real) -> None:
    """All experiments on real Cilium: the reports say what clients and servers saw, exactly, and judge as they must."""
    lines, code = experiments(real, "all")

    wrong = [line for line in lines if not line["agrees"]]
    # On a machine that is busy for a moment kernels lose events, and reports rightly say so: those experiments once more.
    lost = sorted({line["experiment"] for line in wrong if line["verdict"] == "insufficient"})
    if wrong and all(line["experiment"] in lost for line in wrong):
        again, code = experiments(real, *lost)
        wrong = [line for line in again if not line["agrees"]]
    assert not wrong, json.dumps(wrong, indent=1)
    assert code == 0
    assert len({line["experiment"] for line in lines}) >= 9


def experiments(real: Real, *names: str) -> tuple[list[dict[str, Any]], int]:
    """Run experiments into a database of their own; return their lines and the exit code."""
    db = real.folder / f"{'-'.join(names)}.duckdb"
    done = real("--db", db, "experiment", *names, "--format", "json", minutes=10, fine=False)
    assert done.stdout, done.stderr
    return json.loads(done.stdout), done.returncode


def test_the_mesh_shows_itself_as_it_was_described(real: Real) -> None:
    """Status, routes before and after joining (S6), and the version that Relays tell over TLS."""
    told = json.loads(real("lab", "status", "--format", "json").stdout)
    before, now = (json.loads(real("lab", "routes", "--format", "json").stdout)[key] for key in ("before", "now"))

    assert {one["agent"] for one in told["nodes"]} == {"Ok"}
    assert len(told["pods"]) == 6
    assert all(one["ready"] for one in told["pods"])
    assert all(one["ca"] and one["server_name"] for one in told["clusters"])
    for node in walkthrough().nodes:
        added = {line.split()[0] for line in set(now[node.full]) - set(before[node.full])}
        assert added == {other.pod_cidr for other in walkthrough().nodes if other.cluster != node.cluster}


def test_relays_speak_to_nobody_without_a_certificate(real: Real) -> None:
    """In plain text, or with TLS but without a client's certificate, nothing is told."""
    told = json.loads(real("lab", "status", "--format", "json").stdout)["clusters"][0]
    db = real.folder / "none.duckdb"

    plain = real("--db", db, "collect", "--relay", f"west={told['relay']}", "--duration", "2s", fine=False)
    bare = real(
        "--db", db, "collect", "--relay", f"west=tls://{told['relay']}", "--tls-ca-cert-files", told["ca"],
        "--tls-server-name", told["server_name"], "--duration", "2s", fine=False,
    )  # fmt: skip

    assert plain.returncode
    assert bare.returncode


def test_what_killed_readers_and_relays_missed_is_made_up_for(real: Real) -> None:
    """In mid-traffic the collector is killed, then a Relay; a second run fetches all of it from the rings: exactly."""
    db = real.folder / "killed.duckdb"
    seen: list[dict[str, Any]] = []
    traffic = [
        threading.Thread(
            target=lambda c=client: seen.extend(
                real.requests("--from", c, "--to", "svc/webpod", "--count", 300, "--rate", 20)
            )
        )
        for client in ("west", "east")
    ]
    collector = real.begin("--db", db, "collect", "--duration", "5m")
    await_collection(collector, db, "")
    started = time.time_ns()
    for one in traffic:
        one.start()
    try:
        time.sleep(4)
        collector.kill()
        collector.communicate()
        stored, before = flows(db), door_of(db)
        again = real.begin("--db", db, "collect", "--duration", "5m")
        # A Relay that is away when a collection begins is refused: it must follow before.
        await_collection(again, db, before, stored)
        kill_relay(real)
    finally:
        for one in traffic:
            one.join()
    ended = time.time_ns()
    # Until the Relay has its nodes again and what was missed is fetched.
    time.sleep(20)
    again.send_signal(signal.SIGINT)
    _, told = again.communicate(timeout=MINUTES)

    with Store.open(db) as store:
        question = Question(since=rfc3339(started - AROUND), until=rfc3339(ended + AROUND))
        report = run(store, "affinity", question)

    truth_of = Counter((one["client_cluster"], one["client_cluster"] == one["answered_cluster"]) for one in seen)
    rows = report.rows.to_dicts()
    found = {
        row["client_cluster"]: (row["local"], row["remote"]) for row in rows if row["connections"] + row["dropped"]
    }
    assert len(seen) == 600
    assert not [one for one in seen if one["error"]]
    assert found == {name: (truth_of[name, True], truth_of[name, False]) for name in ("west", "east")}, told


def kill_relay(real: Real) -> None:
    """Kill west's Relay by its process, as a crash would; the fault's own switch starts it again."""
    os.kill(relay_of(real, "west"), signal.SIGKILL)
    time.sleep(2)
    real("lab", "fault", "relay-down", "on", "--scope", "west")
    real("lab", "fault", "relay-down", "off", "--scope", "west")


def relay_of(real: Real, cluster: str) -> int:
    """Return the process of a cluster's Relay."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        words = path.read_bytes().split(b"\0")
        ours = any(str(real.folder).encode() in word for word in words)
        if ours and words[0].endswith(b"hubble-relay") and f"--cluster-name={cluster}".encode() in words:
            return int(path.parent.name)
    raise AssertionError("no Relay runs")


def door_of(db: Path) -> str:
    """Return how a running collection lets readers in; of one that was killed it stays."""
    path = db.with_name(f"{db.name}.live.sql")
    return path.read_text() if path.exists() else ""


def await_collection(process: "subprocess.Popen[str]", db: Path, before: str, stored: int = 0) -> None:
    """Wait until a collection stores flows. Nobody may read the file itself meanwhile: that would keep a writer out."""
    await_that(lambda: door_of(db) != before or process.poll() is not None, "a collection runs")
    await_that(lambda: process.poll() is not None or flows(db) > stored, "flows are stored")
    assert process.poll() is None, process.communicate()


def flows(db: Path) -> int:
    """Return how many flows a collection has stored so far; 0 before there is anything to read."""
    done = subprocess.run(
        [PROGRAM, "--db", db, "status", "--format", "json"], capture_output=True, text=True, check=False
    )
    try:
        return int(json.loads(done.stdout)["flows"])
    except (ValueError, KeyError, TypeError):
        return 0


def await_that(done: Any, what: str, seconds: float = 60) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)


def test_a_collection_adds_next_to_nothing_to_an_idle_mesh(real: Real) -> None:
    """Two stretches of idle mesh, read from the rings in one go: that with a collection has no more flows than the other."""
    # Agents look after each other every 15 seconds.
    stretch = 16
    began = time.time_ns()
    await_that(lambda: time.time_ns() - began > stretch * 10**9, "a stretch that nobody watches")
    between = time.time_ns()
    real("--db", real.folder / "beside.duckdb", "collect", "--duration", f"{stretch}s")
    ended = time.time_ns()
    db = real.folder / "idle.duckdb"
    real("--db", db, "collect", "--since", rfc3339(began), "--until", rfc3339(ended))

    with Store.open(db) as store:
        counted = "select count(*) from flows where epoch_ns(time) >= $since and epoch_ns(time) < $until"
        before, beside = (
            int(str(store.rows(counted, {"since": since, "until": until})[0][0])) / (until - since) * 10**9
            for since, until in ((began, between), (between, ended))
        )
    assert before > 0, "an idle mesh is not silent: agents look after each other"
    assert beside - before < ADDED


def test_background_traffic_is_not_counted_and_goes_on(real: Real) -> None:
    """It is paused while experiments count calls."""
    real("lab", "background", 20)
    try:
        lines, code = experiments(real, "keepalive")
        told = json.loads(real("lab", "status", "--format", "json").stdout)
    finally:
        real("lab", "background", 0)

    assert code == 0, json.dumps(lines, indent=1)
    assert (told["background"], told["paused"]) == (2, 0)


def test_a_recording_is_read_as_every_other(real: Real) -> None:
    """`lab record` writes flows, objects, changes and truth; imported, the reports agree with that truth."""
    folder = real.folder / "case"
    real("lab", "record", folder, minutes=3)
    db = real.folder / "case.duckdb"
    import_into(db, folder)
    told = json.loads((folder / "truth.json").read_text())

    with Store.open(db) as store:
        rows = run(store, "affinity", Question()).rows.to_dicts()
        verdict = run(store, "nat", Question()).verdict.value

    expected = Counter(one["client"].split("/")[0] for one in told["requests"])
    assert {row["client_cluster"]: row["connections"] for row in rows if row["connections"]} == dict(expected)
    assert verdict == told["verdicts"]["nat"]
    assert {path.name for path in folder.iterdir()} >= {
        "west.bin.gz", "east.bin.gz", "k8s-west.json", "k8s-east.json", "relay-west.json", "truth.json",
        "watch-west-svc.jsonl", "watch-east-endpointslices.jsonl",
    }  # fmt: skip


def test_what_this_driver_cannot_do_is_one_line(real: Real) -> None:
    """All nodes have this machine's clock."""
    done = real("lab", "fault", "clock-skew", "on", fine=False)

    assert done.returncode
    assert "clock" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("moment", ["first steps", "agents"])
def test_an_interrupted_up_leaves_nothing(tmp_path: Path, moment: str) -> None:
    """Ctrl-C while the mesh comes up takes all of it down."""
    needed(VERSIONS[0])
    before = footprint()
    made = Real(tmp_path, VERSIONS[0])
    up = made.begin("lab", "up", "--driver", "netns", "--traffic", 0)
    log = tmp_path / "lab" / "logs"
    wanted = {"first steps": "west-etcd.log", "agents": "east-worker-agent.log"}[moment]
    await_that((log / wanted).exists, f"{wanted} is there")
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=MINUTES)

    assert up.returncode == 130
    assert not left_since(before)
    assert not running(tmp_path)


def test_down_finds_what_a_crash_has_left(tmp_path: Path) -> None:
    """The lab's process and the command are killed in mid-way, no state is written: `down` finds all by its mark."""
    needed(VERSIONS[0])
    before = footprint()
    made = Real(tmp_path, VERSIONS[0])
    up = made.begin("lab", "up", "--driver", "netns", "--traffic", 0)
    await_that((tmp_path / "lab" / "logs" / "west-worker-agent.log").exists, "an agent runs")
    up.kill()
    up.communicate()
    (process,) = [number for number, words in running(tmp_path).items() if f"netns.process {tmp_path}" in words]
    os.kill(process, signal.SIGKILL)
    assert running(tmp_path)

    made("lab", "down")

    assert not left_since(before)
    assert not running(tmp_path)


def test_three_clusters_of_two_versions(tmp_path: Path) -> None:
    """Any mesh that can be described: one node or more each, mixed versions, per-packet load balancing in one."""
    for version in VERSIONS:
        needed(version)
    description = tmp_path / "mesh.toml"
    description.write_text("""
[clusters.west]
pod_cidr = "10.0.0.0/16"
service_cidr = "10.10.0.0/16"
nodes = 1
[clusters.east]
pod_cidr = "10.1.0.0/16"
service_cidr = "10.11.0.0/16"
nodes = 2
cilium = "1.19.6"
[clusters.south]
id = 200
pod_cidr = "10.2.0.0/16"
service_cidr = "10.12.0.0/16"
nodes = 1
socket_lb = false
""")
    before = footprint()
    made = Real(tmp_path, "mixed")
    made("lab", "up", "--driver", "netns", "--config", description, "--traffic", 0, minutes=8)
    try:
        answered = {
            one: {each["answered_cluster"] for each in made.requests("--from", one, "--to", "svc/webpod")}
            for one in ("west", "east", "south")
        }
        direct = made.requests("--from", "south", "--to", "pods/west/webpod", "--count", 10)
    finally:
        made("lab", "down")

    assert set(map(frozenset, answered.values())) == {frozenset({"west", "east", "south"})}
    assert all(one["server_saw"].startswith(f"{one['client_address']}:") for one in direct)
    assert not left_since(before)


def test_a_tunnel_of_the_newest_version(tmp_path: Path) -> None:
    """VXLAN on 1.20: other nodes are reached through it only, and the reports say what clients and servers saw."""
    version = "1.20.2"
    needed(version, "vxlan")
    before = footprint()
    made = Real(tmp_path, version)
    made("lab", "up", "--driver", "netns", "--cilium", version, "--variant", "vxlan", "--traffic", 0, minutes=8)
    try:
        lines, code = experiments(made, "direct")
        if code:  # events lost on a busy machine
            lines, code = experiments(made, "direct")
        refused = made("lab", "fault", "masquerade", "on", fine=False)
    finally:
        made("lab", "down")

    assert code == 0, json.dumps(lines, indent=1)
    assert all(line["clients"].endswith(" kept, 0 changed") for line in lines)
    with Store.open(tmp_path / "direct.duckdb") as store:
        assert store.value("select count(*) > 1000 from flows where observation_point = 'TO_OVERLAY'")
    assert (refused.returncode, "into a tunnel" in refused.stderr) == (2, True)
    assert not left_since(before)


def test_control_planes_come_first() -> None:
    """The cluster's own parts run on its control plane."""
    assert [control_plane(one).name for one in walkthrough().clusters] == ["west-control-plane", "east-control-plane"]

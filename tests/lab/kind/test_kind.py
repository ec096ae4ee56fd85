"""Driver kind, played through with programs that say what the real ones said (tests/data/kind)."""

import json
import shlex
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import kind_machine
from support.api_server import ApiServer
from support.command_line import Call
from support.kind_machine import Machine
from support.recordings import TESTS

from meshobs.lab.clusters import manifests
from meshobs.lab.kind import hints, preflight, udp
from meshobs.lab.kind.commands import LOG, Tools
from meshobs.lab.kind.options import options_of
from meshobs.lab.kind.run_steps import plan_crossing
from meshobs.lab.kind.steps import actions
from meshobs.lab.mesh import file
from meshobs.lab.mesh.model import walkthrough
from meshobs.lab.sim.driver import SimDriver

PLAN = TESTS / "data" / "kind" / "plan.txt"
UP = ("lab", "up", "--driver", "kind", "--traffic", "0")
RECORDED = {
    one["step"]: one
    for name in ("walkthrough", "again", "failures")
    for one in map(json.loads, (TESTS / "data" / "kind" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = kind_machine.machine(tmp_path / "machine")
    try:
        yield made
    finally:
        kind_machine.stop(made)


@pytest.fixture
def scripted(machine: Machine, meshobs: Call, monkeypatch: pytest.MonkeyPatch) -> tuple[Machine, Call]:
    """Return the machine and the command line on it."""
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    return machine, meshobs


def test_the_plan_is_the_walkthrough(meshobs: Call) -> None:
    """`lab plan` prints every file and command, to the letter as it was reviewed against S1-S14; nothing runs."""
    outcome = meshobs("lab", "plan", "--driver", "kind")

    assert outcome.code == 0
    assert outcome.out == PLAN.read_text(encoding="utf-8"), "reviewed? then: meshobs lab plan --driver kind > plan.txt"


def test_the_plan_has_each_recorded_value() -> None:
    """What was typed on real clusters, value by value, is in the plan: S3, S4, S5, S7."""
    mesh = walkthrough()
    planned = [command for one in actions(mesh, options_of({}, mesh), Path()) for command in one.commands]

    for step in ("008-cilium-install-west", "009-cilium-install-east", "021-cm-enable-west", "022-cm-enable-east",
                 "025-cm-connect", "032-hubble-enable-west", "033-hubble-enable-east", "034-hubble-ui-nodeport-west",
                 "035-hubble-ui-nodeport-east", "036-restart-agents-west", "010-cilium-status-west"):  # fmt: skip
        wanted = shlex.split(RECORDED[step]["command"])
        wanted = [word for word in wanted if word not in ("6m", "5m")]
        assert any(_within(wanted, command) for command in planned), step


def _within(wanted: list[str], command: tuple[str, ...]) -> bool:
    return wanted[0] == command[0] and set(wanted) <= set(command)


def test_no_two_clusters_share_a_port() -> None:
    """Every cluster has its own mesh port (trap T1) and its own ports of the host, three clusters too."""
    content = {"clusters": {
        name: {"pod_cidr": f"10.{number}.0.0/16", "service_cidr": f"10.{number + 10}.0.0/16"}
        for number, name in enumerate(("a", "b", "c"))
    }}  # fmt: skip
    mesh = file.mesh_of(content)
    plan = actions(mesh, options_of(content, mesh), Path())
    words = [word for one in plan for command in one.commands for word in command]

    mesh_ports = [word for word in words if word.startswith("clustermesh.apiserver.service.nodePort=")]
    host_ports = [
        word for one in plan for _, text in one.files for word in text.split() if word.isdecimal() and len(word) == 5
    ]
    assert len(set(mesh_ports)) == 3
    assert len({port for port in host_ports if int(port) >= 30_000}) == 9
    assert [one.key for one in plan if one.how == "share-ca"] == ["share-ca b", "share-ca c"]
    assert [one.key for one in plan if one.key.startswith("connect")] == ["connect a b", "connect a c", "connect b c"]


def test_everything_once(scripted: tuple[Machine, Call], monkeypatch: pytest.MonkeyPatch) -> None:
    """up, status, routes, traffic, settings, collect, down: each does what it says, and the user's files stay alone."""
    machine, meshobs = scripted
    users = machine.folder / "users-kubeconfig"
    users.write_text("mine")
    home = machine.folder / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))

    up = meshobs(*UP)
    assert up.code == 0, up.err
    steps = [line for line in up.err.splitlines() if line.startswith("meshobs: [")]
    assert len(steps) == 29
    assert all(line.endswith(" s") for line in steps)
    values = json.loads((machine.folder / "state" / "values-east.json").read_text())
    assert "clustermesh.apiserver.service.nodePort=32380" in values
    ca = json.loads((machine.folder / "state" / "state.json").read_text())["ca"]
    assert ca == {"west": "of west", "east": "of west"}

    env = meshobs("lab", "env")
    assert env.out.splitlines()[0] == f"export KUBECONFIG={machine.folder / 'lab' / 'kubeconfig'}"
    status = json.loads(meshobs("lab", "status", "--format", "json").out)
    assert {one["node"]: one["address"] for one in status["nodes"]}["west/west-control-plane"] == "172.18.0.3"
    routes = json.loads(meshobs("lab", "routes", "--format", "json").out)
    joined = set(routes["now"]["west/west-worker"]) - set(routes["before"]["west/west-worker"])
    assert len([line for line in joined if line.startswith("10.1.")]) == 2
    told = json.loads(
        meshobs("lab", "traffic", "--from", "west", "--to", "svc/webpod", "--count", 8, "--format", "json").out
    )
    assert len(told) == 8
    assert all(one["answered_pod"].startswith("webpod-") and one["server_saw"] for one in told)
    assert meshobs("lab", "annotate", "webpod", "affinity=local").code == 0
    assert meshobs("lab", "scale", "webpod", 2, "--cluster", "east").code == 0

    SimDriver().attach(machine.sim).background(30)
    collected = meshobs("collect", "--duration", "3s")
    assert collected.code == 0, collected.err
    assert "the lab that is up (driver kind): west, east" in collected.err
    report = json.loads(meshobs("report", "affinity", "--format", "json").out)
    assert {row["client_cluster"] for row in report["rows"]} == {"west", "east"}

    down = meshobs("lab", "down")
    assert (down.code, machine.clusters) == (0, []), down.err
    assert not (machine.folder / "lab").exists()
    assert users.read_text() == "mine"
    assert list(home.iterdir()) == []


def test_background_traffic_and_a_machine_outside(scripted: tuple[Machine, Call]) -> None:
    """Background traffic runs inside the pods and is ended there; the balancer is made when it is first needed."""
    machine, meshobs = scripted
    assert meshobs(*UP).code == 0
    so_far = len(machine.calls())

    assert meshobs("lab", "background", 5).code == 0
    assert json.loads(meshobs("lab", "status", "--format", "json").out)["background"] == 2
    assert meshobs("lab", "background", 0).code == 0
    assert json.loads(meshobs("lab", "status", "--format", "json").out)["background"] == 0
    assert any("pkill -f meshobs-client" in call for call in machine.calls(so_far))
    assert not [call for call in machine.calls() if call.startswith("docker run")]

    outcome = meshobs("lab", "traffic", "--from", "west", "--to", "balancer:30080", "--count", 2)
    assert outcome.code == 0, outcome.err
    rules = [call for call in machine.calls(so_far) if "iptables" in call]
    assert [call.rpartition(" ")[2] for call in rules if "DNAT" in call] == [
        f"172.18.0.{last}:30080" for last in (3, 5, 2, 4)
    ]
    assert meshobs("lab", "down").code == 0
    assert any(call.startswith("docker rm --force meshobs-outside") for call in machine.calls())


def test_background_traffic_is_paused_for_experiments(machine: Machine, tmp_path: Path) -> None:
    """It ends in the pods before the first phase and goes on after the last, also where one fails; the status knows."""
    path = tmp_path / "mine.toml"
    path.write_text("""
question = "?"
[[phases]]
name = "good"
promise = ""
traffic = [{ from = "west", to = "svc/webpod", count = 4 }]
[[phases]]
name = "bad"
promise = ""
traffic = [{ from = "west", to = "svc/gone" }]
""")
    assert machine.run(*UP)[0] == 0
    assert machine.run("lab", "background", "5")[0] == 0
    # Reports need some flow.
    SimDriver().attach(machine.sim).background(30)
    since = len(machine.calls())

    code, out, err = machine.run("--db", str(tmp_path / "x.duckdb"), "experiment", str(path))

    assert code == 2
    assert "good" in out, err
    assert "background traffic of 2 clients is paused" in err
    calls = [call for call in machine.calls(since) if "pkill" in call or "background" in call]
    assert ["pkill" in call for call in calls] == [True, True, False, False]
    assert paused(machine) == (2, 0)

    machine.fault(match="kubectl exec curl-pod bash", hang=True)
    machine.kill(machine.start("--db", str(tmp_path / "x.duckdb"), "experiment", str(path)))
    machine.fault()
    assert paused(machine) == (0, 2)
    assert machine.run("lab", "background", "5")[0] == 0
    assert paused(machine) == (2, 0)


def paused(machine: Machine) -> tuple[int, int]:
    """Return how many clients run in the background, and how many are paused."""
    told = json.loads(machine.run("lab", "status", "--format", "json")[1])
    return told["background"], told["paused"]


def test_the_proof_calls_from_and_to_what_there_is() -> None:
    """Each cluster with a client calls a server of each other cluster, in whatever namespace they are."""
    content = {
        "clusters": {
            name: {"pod_cidr": f"10.{number}.0.0/16", "service_cidr": f"10.{number + 10}.0.0/16"}
            for number, name in enumerate(("a", "b", "c"))
        },
        "workloads": {
            "tool": {"namespace": "ops", "clusters": ["a", "b"]},
            "shop": {"port": 8080, "namespace": "shop", "clusters": ["b", "c"]},
        },
        "services": {},
    }

    told = [(other, traffic.client, traffic.target) for other, traffic in plan_crossing(file.mesh_of(content))]

    assert told == [
        ("b", "a/ops/tool", "pods/b/shop"),
        ("c", "a/ops/tool", "pods/c/shop"),
        ("c", "b/ops/tool", "pods/c/shop"),
    ]


FAILURES = [
    ("kind create kind-west", "try1/005-kind-create-port-taken", "create kind cluster west", "the port is taken"),
    (
        "kind create kind-west",
        "try1/007-kind-create-port-of-other-cluster",
        "create kind cluster west",
        "the port is taken",
    ),
    (
        "kind create kind-west",
        "try1/021-kind-create-port-of-other-cluster",
        "create kind cluster west",
        "the port is taken",
    ),
    ("kind create kind-west", "try1/015-kind-no-image", "create kind cluster west", "--node-image"),
    ("kind create kind-west", "try1/017-kind-bad-config", "create kind cluster west", "kind 0.20 or newer"),
    ("kind create kind-west", "try1/009-kind-no-docker", "create kind cluster west", "start the container engine"),
    ("kind create kind-east", "try1/002-kind-create-existing", "create kind cluster east", "kind delete cluster"),
    ("'cilium install' kind-west", "fail/003-cilium-install-bad-version", "install Cilium", "--chart-directory"),
    ("'cilium install' kind-west", "fail/004-cilium-install-no-kubeconfig", "install Cilium", "does not answer"),
    ("'cilium install' kind-west", "fail/001-cilium-install-missing-context", "install Cilium", "gone from the lab's"),
    ("'cilium install' kind-east", "fail/002-cilium-install-already", "install Cilium", "meshobs lab down"),
    ("cilium status kind-east", "fail/005-cilium-status-missing-context", "wait for Cilium", "gone from the lab's"),
    ("cilium clustermesh status kind-east", "fail/006-cm-status-missing-context", "wait for the mesh", "gone from"),
    ("cilium clustermesh connect", "fail/008-cm-connect-missing-destination", "connect west and east", "gone from"),
    ("cilium clustermesh connect", "fail/010-cm-connect-self", "connect west and east", ""),
    ("cilium clustermesh connect", "fail3/006-cm-connect-one-not-enabled", "connect west and east", ""),
    ("kubectl kind-west restart", "try1/013-kubectl-no-context", "restart the agents", "gone from the lab's"),
    ("kubectl kind-west apply", "try1/014-kubectl-no-kubeconfig", "deploy the workloads", "does not answer"),
    ("kubectl kind-west wait", "fail/012-kubectl-wait-timeout", "deploy the workloads", ""),
    ("kubectl kind-west exec", "fail/011-kubectl-exec-missing-pod", "let each cluster's client", ""),
]


def test_every_recorded_failure_at_its_step(scripted: tuple[Machine, Call]) -> None:
    """A failure names step and command, the program's last words and what to try; `up` goes on from that step."""
    machine, meshobs = scripted
    for match, step, title, advice in FAILURES:
        machine.fault(match=match, step=step)
        outcome = meshobs(*UP)

        failed = outcome.err.splitlines()[-1]
        assert outcome.code == 2, (step, outcome.err)
        assert title in failed, (step, outcome.err)
        assert advice in failed, (step, outcome.err)
        assert "meshobs lab up goes on from there" in failed
        assert meshobs("lab", "traffic", "--from", "west", "--to", "svc/webpod").code == 2
    machine.fault()

    since = len(machine.calls())
    assert meshobs("lab", "up", "--traffic", 0).code == 0, "goes on, of itself with the same settings"
    assert not [call for call in machine.calls(since) if "cilium install" in call or "clustermesh" in call]
    assert meshobs("lab", "down").code == 0
    assert machine.clusters == []


def test_a_wait_that_gives_up_early_goes_on(scripted: tuple[Machine, Call], monkeypatch: pytest.MonkeyPatch) -> None:
    """`cilium status --wait` ends at once when an agent begins anew (trap T4): it is asked again, to the deadline."""
    monkeypatch.setattr("meshobs.lab.kind.run_steps._PAUSE", 0.1)
    machine, meshobs = scripted
    machine.fault(match="cilium status kind-west", step="011-cilium-status-west", times=3)

    assert meshobs(*UP).code == 0
    asked = [call for call in machine.calls() if call.startswith("cilium status") and "kind-west" in call]
    assert len(asked) == 5, "3 that failed, 2 that did not"


def test_interrupted_at_each_step(machine: Machine) -> None:
    """Ctrl-C ends at once with 130 and leaves what `up` goes on with, at every step; at the end `down` takes all of it."""
    mesh = walkthrough()
    for one in actions(mesh, options_of({}, mesh), Path()):
        if not one.commands:
            continue
        machine.fault(match=shlex.join(_telling(one.commands[-1])), hang=True)
        code, err = machine.interrupt(machine.start(*UP))

        assert code == 130, (one.key, err)
        assert f"{one.title}; meshobs lab up goes on from there" in err, (one.key, err)
        assert err.splitlines()[-1] == "meshobs: stopped"
        begun = json.loads((machine.folder / "lab" / "build.json").read_text())["begun"]
        assert begun == one.key
    machine.fault()

    code, _, err = machine.run(*UP)
    assert code == 0, err
    since = len(machine.calls())
    assert machine.run("lab", "down")[0] == 0
    assert machine.clusters == []
    assert sorted(machine.calls(since)[:2]) == ["kind delete cluster --name east", "kind delete cluster --name west"]


def _telling(command: tuple[str, ...]) -> list[str]:
    """Return the words that tell a command from those before it."""
    return list(command[:7])


@pytest.mark.parametrize("match", ["create kind-east", "install kind-east", "clustermesh connect"])
def test_interrupted_then_down(machine: Machine, match: str) -> None:
    """What was half built is removed, and only that: a cluster of the user's stays."""
    state = machine.folder / "state" / "state.json"
    state.write_text(json.dumps({"clusters": ["mine"], "installed": [], "ca": {}, "annotations": {}}))
    machine.fault(match=match, hang=True)
    code, err = machine.interrupt(machine.start(*UP, "--force"))
    assert code == 130, err

    assert machine.run("lab", "down")[0] == 0
    assert machine.clusters == ["mine"]
    assert machine.run("lab", "status")[0] == 2


def test_cleanup_leaves_nothing(scripted: tuple[Machine, Call]) -> None:
    """With --cleanup a failure leaves no cluster and no state."""
    machine, meshobs = scripted
    machine.fault(match="cilium clustermesh connect", step="fail/010-cm-connect-self")

    outcome = meshobs(*UP, "--cleanup")

    assert outcome.code == 2
    assert "goes on from there" not in outcome.err
    assert machine.clusters == []
    assert meshobs("lab", "status").err.endswith("no lab is up: meshobs lab up\n")


def test_another_cluster_of_that_name_is_not_ours(scripted: tuple[Machine, Call]) -> None:
    """A cluster `west` of somebody else stops it before anything is made, even with --force, and is never deleted."""
    machine, meshobs = scripted
    state = machine.folder / "state" / "state.json"
    state.write_text(json.dumps({"clusters": ["west"], "installed": [], "ca": {}, "annotations": {}}))

    assert "this lab did not make" in meshobs(*UP).err
    assert meshobs(*UP, "--force").code == 2
    assert meshobs("lab", "down").code == 0
    assert machine.clusters == ["west"]


def test_a_cluster_that_vanished_begins_anew(scripted: tuple[Machine, Call]) -> None:
    """Where a finished cluster is gone, nothing that was done counts."""
    machine, meshobs = scripted
    machine.fault(match="cilium clustermesh connect", step="fail/010-cm-connect-self")
    assert meshobs(*UP).code == 2
    content = json.loads((machine.folder / "state" / "state.json").read_text())
    (machine.folder / "state" / "state.json").write_text(
        json.dumps(content | {"clusters": ["east"], "installed": ["east"]})
    )
    machine.fault()

    outcome = meshobs(*UP)

    assert outcome.code == 0, outcome.err
    assert "kind cluster west is gone: beginning anew" in outcome.err


def test_other_settings_do_not_go_on(scripted: tuple[Machine, Call]) -> None:
    """A half-built lab of another version is not mixed with this one."""
    machine, meshobs = scripted
    machine.fault(match="cilium clustermesh connect", step="fail/010-cm-connect-self")
    assert meshobs(*UP).code == 2

    outcome = meshobs(*UP, "--cilium", "1.19.6")

    assert (outcome.code, "with other settings" in outcome.err) == (2, True)
    assert meshobs("lab", "up", "--driver", "sim").code == 2


def test_the_ca_that_does_not_stay(scripted: tuple[Machine, Call], monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting clusters with different CAs succeeds (trap T7): the Secrets are compared, not trusted to be copied."""
    machine, meshobs = scripted
    original = Tools.must

    def must(
        self: Tools, command: tuple[str, ...], seconds: float, given: str | None = None, *, secret: bool = False
    ) -> str:
        out = original(self, command, seconds, given, secret=secret)
        return out.replace("of west", "of somebody") if "kind-east" in command and secret else out

    monkeypatch.setattr(Tools, "must", must)

    outcome = meshobs(*UP)

    assert outcome.code == 2
    assert "Secret cilium-ca of east is not that of west" in outcome.err
    assert sorted(machine.clusters) == ["east", "west"]


def test_everything_in_the_way_at_once(scripted: tuple[Machine, Call], tmp_path: Path) -> None:
    """Every finding is told with its cure before anything is made: ports, neighbours, memory, inotify, missing chart."""
    machine, meshobs = scripted
    state = machine.folder / "state" / "state.json"
    state.write_text(json.dumps({"clusters": ["other"], "installed": [], "ca": {}, "annotations": {}}))
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 31001))  # noqa: S104 - as the engine would
        taken.listen()
        outcome = meshobs(*UP, "--chart-directory", tmp_path / "nothing")

    assert outcome.code == 2
    assert "another kind cluster runs: other" in outcome.err
    assert "ports for east are taken: 31001" in outcome.err
    assert "there is no chart in" in outcome.err
    assert "3 things are in the way (above): mend, or go on with --force" in outcome.err
    assert machine.clusters == ["other"]
    assert not (machine.folder / "lab").exists(), "a first look that fails leaves nothing"

    proc = tmp_path / "proc"
    (proc / "sys/fs/inotify").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 4000000 kB\nMemAvailable: 2097152 kB\n")
    (proc / "sys/fs/inotify/max_user_instances").write_text("64\n")
    (proc / "sys/fs/inotify/max_user_watches").write_text("8192\n")
    mesh = walkthrough()
    options = options_of({}, mesh)
    found = preflight.find_obstacles(mesh, options, Tools(tmp_path, options), proc)
    told = "\n".join(f"{one.problem} -> {one.cure}" for one in found)
    assert "2.0 GiB of memory are free, 4 nodes need 5.7" in told
    assert "max_user_instances is 64, 4 nodes need 128 -> sysctl -w fs.inotify.max_user_instances=512" in told
    assert "max_user_watches is 8192" in told


@pytest.mark.parametrize(
    ("step", "said"),
    [("try1/011-docker-info-no-docker", "the container engine does not answer: Cannot connect to the Docker daemon")],
)
def test_no_engine(scripted: tuple[Machine, Call], step: str, said: str) -> None:
    """Without an engine the first look says so; asked for by name there is no way around it."""
    machine, meshobs = scripted
    machine.fault(match="docker info", step=step, times=9)

    outcome = meshobs(*UP)

    assert outcome.code == 2
    assert said in outcome.err
    assert machine.clusters == []


def test_programs_that_are_not_there(scripted: tuple[Machine, Call]) -> None:
    """What is not installed is named, all of it, with where to get it."""
    machine, meshobs = scripted
    for name in ("kind", "cilium"):
        (machine.folder / "bin" / name).unlink()

    outcome = meshobs(*UP)

    assert outcome.code == 2
    if not shutil.which("kind"):
        assert "kind is not installed" in outcome.err
    assert "cilium is not installed" in outcome.err
    assert "2 things are in the way" in outcome.err


def test_chosen_by_itself(scripted: tuple[Machine, Call]) -> None:
    """Where engine and programs are there, kind is the driver; else the embedded twin, and it is said why."""
    machine, meshobs = scripted
    assert "driver kind: docker, kind, cilium and kubectl are here" in meshobs("lab", "plan").err
    (machine.folder / "bin" / "cilium").unlink()
    assert "driver sim: docker is here, but not cilium" in meshobs("lab", "plan").err


def test_no_secret_in_the_log(scripted: tuple[Machine, Call]) -> None:
    """The CA's key is in no file that the lab leaves, and only the owner may read the log."""
    machine, meshobs = scripted
    assert meshobs(*UP).code == 0

    log = machine.folder / "lab" / LOG
    assert log.stat().st_mode & 0o077 == 0
    assert '"rc": 0' in log.read_text()
    for path in (path for path in (machine.folder / "lab").rglob("*") if path.is_file()):
        assert "of west" not in path.read_text(), path


def test_what_is_hidden() -> None:
    """Private keys and PEM blocks do not pass, however they are written; the rest does."""
    mesh = RECORDED["033-cm-status-json-west"]["stdout"].replace("REDACTED", "LS0tLS1CRUdJTiBSU0EgUFJJVkFURQ==")
    text = f"{mesh}\n-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\n\x1b[31mred\x1b[0m  ca.key: c2VjcmV0"

    shown = hints.plain(text)

    assert "PRIVATE KEY" not in shown
    assert "LS0t" not in shown
    assert "abc" not in shown
    assert "c2VjcmV0" not in shown
    assert '"cluster_name": "west"' in shown
    assert "red" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("step", [name for name, one in RECORDED.items() if one["rc"] not in (0, None)])
def test_every_failure_has_last_words(step: str) -> None:
    """Of every recorded failure the lines shown contain what the program called its error, without colours."""
    one = RECORDED[step]
    lines = hints.last_lines(f"{one['stdout']}\n{one['stderr']}")

    assert lines
    assert all(line.isprintable() for line in lines)
    errors = [
        line
        for line in hints.plain(one["stderr"]).splitlines()
        if "rror" in line and "memcache" not in line and "Driver" not in line
    ]
    assert not errors or errors[-1].strip()[-60:] in hints.headline(lines)


def test_options_are_checked(scripted: tuple[Machine, Call], tmp_path: Path) -> None:
    """Every mistake of table `kind` is named at once."""
    _, meshobs = scripted
    path = tmp_path / "mesh.toml"
    path.write_text(
        '[kind]\nengine = "lxc"\nimage = "x"\nset = ["novalue"]\n[kind.ports]\nwest = [1, 2]\nnorth = [30000, 30001, 30002]\n'
    )

    outcome = meshobs("lab", "plan", "--driver", "kind", "--config", path)

    assert outcome.code == 2
    for said in ("unknown key image", "engine must be one of docker, podman", "'novalue' in set is no KEY=VALUE",
                 "ports of north, which is no cluster", "ports of west must be three numbers"):  # fmt: skip
        assert said in outcome.err
    flags = ("--node-image", "my/node:1", "--set", "debug.verbose=flow", "--engine", "podman", "--cilium", "1.19.6")
    plan = meshobs("lab", "plan", "--driver", "kind", *flags).out
    assert "image: my/node:1" in plan
    assert "--set debug.verbose=flow" in plan
    assert "podman exec west-worker ip route" in plan
    assert "--version 1.19.6" in plan


def test_faults_are_made_and_undone(scripted: tuple[Machine, Call]) -> None:
    """Faults change what they say on the nodes, stand in the status, and are taken back by the reverse commands."""
    machine, meshobs = scripted
    assert meshobs(*UP).code == 0
    for name, made, undone in (
        ("policy", "kubectl --context kind-east apply -f -", "kubectl --context kind-east delete -f -"),
        ("masquerade", "patch -n kube-system configmap ip-masq-agent", "patch -n kube-system configmap ip-masq-agent"),
        ("stale-backends", "iptables -w -I OUTPUT -p tcp --sport 41234", "iptables -w -D OUTPUT -p tcp --sport 41234"),
        ("event-loss", '"hubble-event-queue-size": "1"', '"hubble-event-queue-size": null'),
        ("ring-loss", '"hubble-event-buffer-capacity": "15"', '"hubble-event-buffer-capacity": "16383"'),
        ("blind", "docker exec east-worker iptables -w -I INPUT", "docker exec east-worker iptables -w -D INPUT"),
        ("kube-down", "docker exec west-control-plane iptables -w -I", "docker exec west-control-plane iptables -w -D"),
        ("relay-down", "--replicas=0", "--replicas=1"),
        ("agent-down", '"NotIn", "values": ["east-worker"]', '{"nodeAffinity": null, "podAntiAffinity"'),
    ):
        since = len(machine.calls())
        on = meshobs("lab", "fault", name, "on")
        assert on.code == 0, on.err
        assert any(made in call for call in machine.calls(since)), machine.calls(since)
        assert json.loads(meshobs("lab", "status", "--format", "json").out)["faults"] == [name]
        since = len(machine.calls())
        assert meshobs("lab", "fault", name, "off").code == 0
        assert any(undone in call for call in machine.calls(since)), machine.calls(since)
        assert json.loads(meshobs("lab", "status", "--format", "json").out)["faults"] == []
    off = meshobs("lab", "fault", "relay-down", "off")
    assert off.err == "meshobs: relay-down is off\n"
    skew = meshobs("lab", "fault", "clock-skew", "on")
    assert (skew.code, "share this machine's clock" in skew.err) == (2, True)


def test_the_status_of_a_cluster_whose_api_is_kept_away(scripted: tuple[Machine, Call]) -> None:
    """It is not asked, so the answer comes at once: which fault is on, and that nothing is known of the cluster."""
    machine, meshobs = scripted
    assert meshobs(*UP).code == 0
    assert meshobs("lab", "fault", "kube-down", "on", "--scope", "west").code == 0
    machine.fault(match="kubectl kind-west", step="try1/014-kubectl-no-kubeconfig", times=99)

    told = meshobs("lab", "status", "--format", "json")
    shown = meshobs("lab", "status")

    assert (told.code, shown.code) == (0, 0), told.err + shown.err
    status = json.loads(told.out)
    assert (status["faults"], status["unknown"]) == (["kube-down west"], ["west"])
    assert {one["cluster"] for one in status["pods"]} == {"east"}
    assert {one["address"] for one in status["nodes"] if one["node"].startswith("west/")} == {"unknown"}
    assert "faults that are on: kube-down west" in shown.err
    assert "the API of west is kept away: its services and pods are not known" in shown.err
    assert meshobs("lab", "fault", "kube-down", "off", "--scope", "west").code == 0


def system_of(machine: Machine) -> object:
    """Return the objects of kube-system that faults change."""
    return json.loads((machine.folder / "state" / "state.json").read_text()).get("system")


def faults_of(call: Call) -> list[str]:
    """Return the faults that the lab says are on."""
    found: list[str] = json.loads(call("lab", "status", "--format", "json").out)["faults"]
    return found


def test_after_faults_all_is_as_before(scripted: tuple[Machine, Call]) -> None:
    """Settings, masquerade and DaemonSet come back to what they were; a cluster's two agents may be down at once."""
    machine, meshobs = scripted
    assert meshobs(*UP).code == 0
    for name in ("masquerade", "ring-loss"):
        assert meshobs("lab", "fault", name, "on").code == 0
        assert meshobs("lab", "fault", name, "off").code == 0
    before = system_of(machine)
    for node in ("east-worker", "east-control-plane"):
        assert meshobs("lab", "fault", "agent-down", "on", "--scope", node).code == 0
    assert '"values": ["east-worker", "east-control-plane"]' in machine.calls()[-2]
    assert not any("systemctl" in call for call in machine.calls()), "the kubelet stays"

    for node in ("east-worker", "east-control-plane"):
        assert meshobs("lab", "fault", "agent-down", "off", "--scope", node).code == 0

    after = system_of(machine)
    assert isinstance(after, dict)
    assert isinstance(before, dict)
    assert after["west"] == before["west"]
    assert after["east"]["cilium-config"] == {"data": {"hubble-event-buffer-capacity": "16383"}}
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 2}}
    assert after["east"]["cilium"]["spec"]["updateStrategy"] == strategy
    assert list(after["east"]["cilium"]["spec"]["template"]["spec"]["affinity"]) == ["podAntiAffinity"]


def test_a_fault_that_fails_half_way_is_undone(scripted: tuple[Machine, Call]) -> None:
    """It is not on, nothing is left of it, and it can be made again."""
    machine, meshobs = scripted
    assert meshobs(*UP).code == 0
    machine.fault(match="kubectl kind-east delete pod", step="fail/012-kubectl-wait-timeout")

    failed = meshobs("lab", "fault", "ring-loss", "on")

    assert failed.code == 2
    assert "kubectl" in failed.err
    assert faults_of(meshobs) == []
    assert '"hubble-event-buffer-capacity": "16383"' in str(json.dumps(system_of(machine)))
    machine.fault()
    assert meshobs("lab", "fault", "ring-loss", "on").code == 0
    assert faults_of(meshobs) == ["ring-loss"]


def test_a_fault_that_was_killed_half_way_can_be_undone(machine: Machine) -> None:
    """What undoes it was written down before: the status tells of it, and `off` takes it back."""
    assert machine.run(*UP)[0] == 0
    machine.fault(match="kubectl kind-east delete pod", hang=True)
    process = machine.start("lab", "fault", "ring-loss", "on")
    machine.kill(process)
    machine.fault()

    assert json.loads(machine.run("lab", "status", "--format", "json")[1])["faults"] == ["ring-loss (half made)"]
    assert machine.run("lab", "fault", "ring-loss", "off")[0] == 0
    assert json.loads(machine.run("lab", "status", "--format", "json")[1])["faults"] == []
    assert '"hubble-event-buffer-capacity": "16383"' in json.dumps(system_of(machine))


def test_workloads_are_taken_by_a_real_server(server: ApiServer) -> None:
    """Manifests of workloads and Services, those of experiments with NodePorts too, are what Kubernetes takes."""
    content = {
        "workloads": {"api": {"port": 8080, "replicas": 2, "namespace": "shop"}, "tool": {"bare": True, "replicas": 2},
                      "edge": {"port": 80, "host_network": True}},
        "services": {"api": {"app": "api", "namespace": "shop", "node_port": 30080, "target_port": 8080, "global": True}},
    }  # fmt: skip
    described = (walkthrough(), file.mesh_of(content))
    for mesh in described:
        for one in udp.add_servers(manifests.of_cluster(mesh, "west"), mesh):
            made = server.create(one)
            assert made["metadata"]["name"] == one["metadata"]["name"]

"""The lab as its user meets it: up, traffic, settings, faults, down, on the driver that runs everywhere."""

import json
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from support.command_line import Call
from support.recordings import TESTS
from support.relay_nodes import wait_until

from meshobs.lab import state
from meshobs.lab.mesh import file
from meshobs.lab.mesh.model import walkthrough
from meshobs.lab.sim.datapath import node_routes


@pytest.fixture
def lab(alone: Call) -> Call:
    """Return the command line with a lab that is up, without traffic."""
    assert alone("lab", "up", "--driver", "sim", "--traffic", 0).code == 0
    return alone


def asked(meshobs: Call, *arguments: object) -> Any:
    """Return what a command says in JSON."""
    outcome = meshobs(*arguments, "--format", "json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def answers(meshobs: Call, client: str, target: str, *flags: object) -> dict[str, int]:
    """Return how many requests each cluster answered."""
    found: dict[str, int] = {}
    for one in asked(meshobs, "lab", "traffic", "--from", client, "--to", target, "--rate", 200, *flags):
        key = one["answered_cluster"] or one["error"] or "outside"
        found[key] = found.get(key, 0) + 1
    return found


def test_nothing_typed_but_three_commands(alone: Call) -> None:
    """`lab up`, `collect` and `report affinity` give a full answer with nothing else typed."""
    up = alone("lab", "up", "--driver", "sim", "--traffic", 30)

    collected = alone("collect", "--duration", "4s")
    report = asked(alone, "report", "affinity")
    down = alone("lab", "down")

    assert (up.code, collected.code, down.code) == (0, 0, 0), up.err + collected.err + down.err
    assert "the lab that is up (driver sim): west, east" in collected.err
    assert report["verdict"] == "ok", report
    assert {(row["client_cluster"], row["setting"]) for row in report["rows"]} == {("west", "none"), ("east", "none")}
    assert all(row["connections"] > 80 for row in report["rows"])
    assert report["coverage"]["nodes_watched"] == report["coverage"]["nodes_expected"] == 4


def test_down_leaves_nothing_behind(lab: Call) -> None:
    """No process, no file, no open port is left; what meshobs did not make stays; a second `down` is no mistake."""
    found = state.require_running()
    folder = state.folder()
    beside = folder.parent / "of the user"
    beside.write_text("stays")
    number = int(found.control["process"])

    outcome = lab("lab", "down")

    assert outcome.code == 0
    assert not folder.exists()
    assert beside.read_text() == "stays"
    assert not Path(f"/proc/{number}").exists() or "Z" in Path(f"/proc/{number}/stat").read_text()
    for cluster in found.clusters:
        host, _, port = cluster.relay.partition(":")
        with pytest.raises(OSError, match="refused"), socket.create_connection((host, int(port)), 1):
            pass
    assert "no lab is up" in lab("lab", "down").err


def test_one_lab_at_a_time(lab: Call) -> None:
    """A second `up` says what to do; once the process was killed, `up` clears away and starts anew."""
    before = state.require_running().control["process"]

    refused = lab("lab", "up")
    os.kill(int(before), signal.SIGKILL)
    wait_until(lambda: "does not answer" in lab("lab", "status").err)
    again = lab("lab", "up", "--driver", "sim")

    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "a lab is up already: meshobs lab status, or meshobs lab down" in refused.err
    assert again.code == 0
    assert "clearing away" in again.err
    assert state.require_running().control["process"] != before


def test_commands_without_a_lab_say_so(meshobs: Call) -> None:
    """Every command that needs a lab says in one line how to get one."""
    commands = (
        ["status"], ["routes"], ["background", "1"], ["annotate", "webpod", "affinity=local"], ["scale", "webpod", "1"],
        ["fault", "policy", "on"], ["traffic", "--from", "west", "--to", "svc/webpod"],
    )  # fmt: skip
    for command in commands:
        outcome = meshobs("lab", *command)

        assert (outcome.code, outcome.err) == (2, "meshobs: no lab is up: meshobs lab up\n"), command


def test_mistakes_are_one_clear_line(lab: Call) -> None:
    """What cannot be done is refused in one line that names what there is; the lab goes on."""
    traffic = ["lab", "traffic", "--count", "1", "--from"]
    cases = (
        ([*traffic, "north", "--to", "svc/webpod"], "there is no client north/default/curl-pod"),
        ([*traffic, "west", "--to", "svc/web"], "cluster west has no service default/web"),
        ([*traffic, "west", "--to", "pods/east/web"], "cluster east has no pod of app web"),
        ([*traffic, "west", "--to", "node/nope:1"], "there is no node nope"),
        ([*traffic, "west", "--to", "nonsense"], "'nonsense' is no target"),
        ([*traffic, "outside", "--to", "svc/webpod"], "a client outside the mesh reaches no ClusterIP"),
        ([*traffic, "west", "--to", "svc/webpod", "--rate", "0"], "a rate of 0 a second is not possible"),
        (["lab", "annotate", "webpod", "colour=red"], "'colour=red' is no setting"),
        (["lab", "annotate", "web", "affinity=local"], "cluster west has no service default/web"),
        (
            ["lab", "annotate", "webpod", "affinity=local", "--cluster", "north"],
            "there is no cluster north: west, east",
        ),
        (["lab", "scale", "web", "1"], "cluster west has no workload default/web"),
        (["lab", "scale", "webpod", "5000"], "5000 replicas are not possible"),
        (["lab", "fault", "nope", "on"], "there is no fault 'nope'"),
        (["lab", "fault", "agent-down", "on", "--scope", "nope"], "there is no node nope"),
        (["lab", "fault", "masquerade"], "say on or off"),
        (["experiment", "nope"], "there is no experiment 'nope'"),
    )
    for command, expected in cases:
        outcome = lab(*command)

        assert (outcome.code, outcome.err.count("\n")) == (2, 1), (command, outcome.err)
        assert expected in outcome.err, command
    assert answers(lab, "west", "pods/east/webpod", "--count", 4) == {"east": 4}


def test_clients_reach_what_they_name(lab: Call) -> None:
    """Every kind of client and target is answered by whom it names."""
    pod = asked(lab, "lab", "status")["pods"][-1]

    assert sum(answers(lab, "west", "svc/webpod").values()) == 100
    assert answers(lab, "west", "pods/east/webpod", "--count", 10) == {"east": 10}
    assert answers(lab, "east/default/curl-pod", f"pod/{pod['name']}", "--count", 5) == {"east": 5}
    assert answers(lab, "west", f"{pod['address']}:80", "--count", 5, "--protocol", "udp") == {"east": 5}
    assert answers(lab, "west", "pods/east/webpod", "--count", 3, "--protocol", "ICMP") == {"east": 3}
    assert answers(lab, "host/west-worker", "pods/east/webpod", "--count", 4) == {"east": 4}
    assert answers(lab, "west", "pods/east/webpod", "--count", 2, "--keep-alive", 5) == {"east": 10}


def test_traffic_goes_on_in_the_background(lab: Call) -> None:
    """`lab traffic --background` of any kind runs until it is ended, and a collection sees it."""
    started = lab("lab", "traffic", "--from", "east", "--to", "pods/west/webpod", "--rate", 30, "--background")

    lab("collect", "--duration", "3s")
    report = asked(lab, "report", "nat")
    ended = lab("lab", "background", 0)

    assert (started.code, ended.code) == (0, 0), started.err
    assert [(row["source_cluster"], row["destination_cluster"]) for row in report["rows"]] == [("east", "west")]
    assert report["rows"][0]["connections"] > 40
    assert asked(lab, "lab", "status")["background"] == 0


def test_settings_act_as_they_say(lab: Call) -> None:
    """Affinity, sharing and scale change who answers, and what the Kubernetes API shows."""
    lab("lab", "annotate", "webpod", "affinity=local")
    wait_until(lambda: answers(lab, "west", "svc/webpod", "--count", 20) == {"west": 20})
    assert lab("lab", "scale", "webpod", 0, "--cluster", "west").code == 0
    wait_until(lambda: answers(lab, "west", "svc/webpod", "--count", 20) == {"east": 20})
    lab("lab", "scale", "webpod", 2, "--cluster", "west")
    lab("lab", "annotate", "webpod", "affinity-", "shared=false", "--cluster", "west")
    lab("lab", "annotate", "webpod", "affinity=remote", "--cluster", "east")
    wait_until(lambda: answers(lab, "east", "svc/webpod", "--count", 20) == {"east": 20})

    services = {one["cluster"]: one["annotations"] for one in asked(lab, "lab", "status")["services"]}

    prefix = "service.cilium.io"
    assert services["west"] == {f"{prefix}/global": "true", f"{prefix}/shared": "false"}
    assert services["east"] == {f"{prefix}/global": "true", f"{prefix}/affinity": "remote"}


def test_kubectl_can_annotate(lab: Call) -> None:
    """The lab's kubeconfig is a real one: the official client's patch of a Service reaches the datapath."""
    from kubernetes import client, config

    found = state.require_running()
    with config.new_client_from_config(  # type: ignore[no-untyped-call]
        found.kubeconfig, found.clusters[1].context
    ) as api:
        body = {"metadata": {"annotations": {"service.cilium.io/affinity": "remote"}}}
        client.CoreV1Api(api).patch_namespaced_service("webpod", "default", body)

    wait_until(lambda: answers(lab, "east", "svc/webpod", "--count", 20) == {"west": 20})


def test_routes_are_those_of_a_real_mesh() -> None:
    """Before and after joining, each node has the routes that a real node of the same mesh had (S6)."""
    recorded = json.loads((TESTS / "data" / "routes.json").read_text())
    mesh = walkthrough()

    def plain(lines: list[str]) -> list[str]:
        """Leave out the addresses that a cluster gives out as it likes: cilium_host's and the nodes'."""
        return sorted(
            re.sub(r"(10\.\d+\.\d+\.(?!0/)\d+|172\.18\.0\.(?!0/)\d+)", "ADDRESS", line).strip() for line in lines
        )

    for joined, name in ((False, "before"), (True, "after")):
        made = {
            node.partition("/")[2]: plain(list(lines))
            for node, lines in node_routes.routes(mesh, joined=joined).items()
        }
        assert made == {node: plain(lines) for node, lines in recorded[name].items()}


def test_routes_shows_what_joining_added(lab: Call) -> None:
    """`lab routes` marks the routes to the other cluster's nodes."""
    shown = lab("lab", "routes").out

    west = shown.split("west/west-worker\n")[1].split("east/")[0]
    assert sorted(re.findall(r"\+ (\S+) via", west)) == ["10.1.0.0/24", "10.1.1.0/24"]


def test_the_default_mesh_is_the_walkthroughs() -> None:
    """A description that says nothing gives west and east with exactly the walkthrough's values."""
    mesh = file.mesh_of({})

    west, east = mesh.clusters
    assert mesh == walkthrough()
    assert (west.name, west.id, west.pod_cidr, west.service_cidr) == ("west", 1, "10.0.0.0/16", "10.2.0.0/16")
    assert (east.name, east.id, east.pod_cidr, east.service_cidr) == ("east", 2, "10.1.0.0/16", "10.3.0.0/16")
    assert (west.native_routing_cidr, west.non_masquerade_cidrs) == ("10.0.0.0/16", ("10.1.0.0/16",))
    assert (east.native_routing_cidr, east.non_masquerade_cidrs) == ("10.1.0.0/16", ("10.0.0.0/16",))
    assert [node.name for node in west.nodes] == ["west-control-plane", "west-worker"]
    assert {(one.name, one.replicas, one.image) for one in mesh.workloads} == {
        ("curl-pod", 1, "nicolaka/netshoot"), ("webpod", 2, "traefik/whoami"),
    }  # fmt: skip
    assert (west.cilium, west.aggregation) == ("1.17.6", "none")


def test_a_mesh_file_makes_another_mesh(alone: Call, tmp_path: Path) -> None:
    """Three clusters of other sizes and versions come up from a file, and answer each other."""
    path = tmp_path / "mesh.toml"
    path.write_text("""
cilium = "1.19.6"
[clusters.north]
id = 7
nodes = 3
pod_cidr = "10.10.0.0/16"
service_cidr = "10.20.0.0/16"
[clusters.south]
id = 200
nodes = 1
pod_cidr = "10.11.0.0/16"
service_cidr = "10.21.0.0/16"
cilium = "1.17.6"
[clusters.middle]
id = 31
pod_cidr = "10.12.0.0/16"
service_cidr = "10.22.0.0/16"
[workloads.client]
[workloads.shop]
replicas = 3
port = 8080
[services.shop]
port = 80
target_port = 8080
global = true
affinity = "remote"
""")

    up = alone("lab", "up", "--driver", "sim", "--config", path, "--traffic", 0)
    found = answers(alone, "north/client", "svc/shop")
    down = alone("lab", "down")

    assert (up.code, down.code) == (0, 0), up.err
    assert set(found) == {"south", "middle"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = ", "not valid TOML"),
        ("colour = 1", "unknown key colour"),
        ("ring = 4096", "ring must be 2^n - 1"),
        ('cilium = "new"', "'new' is no version"),
        ('aggregation = "max"', "aggregation must be one of none, medium"),
        ("[clusters.A]\nid = 1", "a cluster is called by up to 32"),
        ('[clusters.a]\npod_cidr = "10.0.0.0/16"\nservice_cidr = "10.0.0.0/20"', "overlap"),
        ('[clusters.a]\nid = 300\npod_cidr = "10.0.0.0/16"\nservice_cidr = "10.2.0.0/20"', "an id of its own"),
        ('[clusters.a]\nnodes = 9\npod_cidr = "10.0.0.0/23"\nservice_cidr = "10.2.0.0/20"', "9 nodes do not fit"),
        ('[workloads.a]\nreplicas = "two"', "replicas must be of type int"),
        ("[workloads.a]\nreplicas = 9999", "pods do not fit"),
        ('[services.a]\napp = "b"', "no workload has app b"),
    ],
)
def test_mistakes_in_a_mesh_file_are_named(text: str, expected: str, meshobs: Call, tmp_path: Path) -> None:
    """A mesh that cannot be is refused in one line, before anything starts."""
    path = tmp_path / "mesh.toml"
    path.write_text(text)

    outcome = meshobs("lab", "up", "--config", path)

    assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome.err
    assert expected in outcome.err
    assert state.read() is None


def test_the_same_seed_gives_the_same_answers(alone: Call) -> None:
    """Who answers follows from the seed alone."""
    seen = []
    for seed in (1, 1, 2):
        alone("lab", "up", "--driver", "sim", "--traffic", 0, "--seed", seed)
        traffic = asked(alone, "lab", "traffic", "--from", "west", "--to", "svc/webpod", "--rate", 200)
        seen.append([one["answered_address"] for one in traffic])
        alone("lab", "down")

    assert seen[0] == seen[1]
    assert seen[0] != seen[2]


def test_a_lab_that_cannot_come_up_says_why(meshobs: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Relay that is no program and a folder that cannot be made are one line; `down` clears away what is left."""
    program = tmp_path / "relay"
    program.write_text("no program")
    program.chmod(0o755)
    broken = meshobs("lab", "up", "--driver", "sim", "--relay-binary", program)
    down = meshobs("lab", "down")
    left = state.folder().exists()
    monkeypatch.setenv("MESHOBS_LAB", "/proc/nowhere")
    nowhere = meshobs("lab", "up", "--driver", "sim")

    assert (broken.code, down.code, nowhere.code) == (2, 0, 2)
    assert f"{program} cannot be run: Exec format error" in broken.err.splitlines()[-1]
    assert not left
    assert "the lab's folder /proc/nowhere cannot be made" in nowhere.err.splitlines()[-1]


def test_a_damaged_state_file_is_no_riddle(meshobs: Call) -> None:
    """What to do about it is said in one line."""
    state.folder().mkdir()
    (state.folder() / "lab.json").write_text("{")

    outcome = meshobs("lab", "status")

    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "is damaged" in outcome.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--driver", "sim", "--set", "a=b", "--engine", "podman"), "--set, --engine: only the driver kind"),
        (("--driver", "sim", "--force"), "--force: only the driver kind"),
        (("--driver", "kind", "--relay-binary", "/bin/true"), "--relay-binary: only the driver sim"),
    ],
)
def test_flags_of_another_driver_are_refused(alone: Call, words: tuple[str, ...], said: str) -> None:
    """What a driver does not know is not left out in silence."""
    outcome = alone("lab", "up", *words)

    assert (outcome.code, said in outcome.err) == (2, True), outcome.err


OWN_SERVICE = """
question = "Who answers a service of the experiment's own?"

[workloads.shop]
port = 80

[services.shop]
port = 80

[[phases]]
name = "calls"
promise = ""
traffic = [{ from = "west", to = "svc/shop", count = 5 }]
"""


def test_a_recording_knows_the_experiments_own_services(lab: Call, tmp_path: Path) -> None:
    """The ground truth is told while they are there: they are removed with the experiment's last phase."""
    path = tmp_path / "own.toml"
    path.write_text(OWN_SERVICE)

    outcome = lab("lab", "record", tmp_path / "case", "--experiment", path)

    assert outcome.code == 0, outcome.err
    content = json.loads((tmp_path / "case" / "truth.json").read_text())
    assert {"west", "east"} == {one["cluster"] for one in content["services"] if one["name"] == "shop"}

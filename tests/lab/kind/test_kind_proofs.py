"""What driver kind hands out is what it means: read by kind's own parser, rendered by Helm from Cilium's own chart."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.real_programs import CILIUM, CILIUM_NEXT

from meshobs.lab.clusters import manifests
from meshobs.lab.kind import configs
from meshobs.lab.kind.options import options_of
from meshobs.lab.mesh.model import Cluster, Mesh, walkthrough

Object = dict[str, Any]
Programs = Callable[[str], Path]

MODULES = {module.version: module for module in (CILIUM, CILIUM_NEXT)}
VERSIONS = list(MODULES)
# What `cilium clustermesh enable --service-type NodePort --enable-kvstoremesh=false` sets (S5)...
ENABLE = (
    "clustermesh.useAPIServer=true",
    "clustermesh.apiserver.service.type=NodePort",
    "clustermesh.apiserver.kvstoremesh.enabled=false",
    "clustermesh.apiserver.tls.auto.enabled=true",
    "clustermesh.apiserver.tls.auto.method=cronJob",
)
# ... and `cilium hubble enable --ui` (S7).
HUBBLE = (
    "hubble.enabled=true",
    "hubble.relay.enabled=true",
    "hubble.ui.enabled=true",
    "hubble.tls.auto.enabled=true",
    "hubble.tls.auto.method=cronJob",
)
# S1, S3 and S7, by hand: own pods, own services, the other's pods, cluster id, ports of this host, port of the mesh.
WALKTHROUGH = {
    "west": ("10.0.0.0/16", "10.2.0.0/16", "10.1.0.0/16", 1, (30000, 30001, 30002), 32379),
    "east": ("10.1.0.0/16", "10.3.0.0/16", "10.0.0.0/16", 2, (31000, 31001, 31002), 32380),
}


class RefusedError(Exception):
    """The real program does not take what it was given."""


@pytest.fixture(scope="session")
def parsed_by_kind(program: Programs) -> Callable[[str], Object]:
    """Return a function from the text of a cluster file to what kind makes of it, by the names of its Go fields."""
    path = program("kindconfig")

    def parsed(text: str) -> Object:
        found: Object = json.loads(_told([path], text))
        return found

    return parsed


@pytest.fixture(scope="session")
def chart() -> Callable[[str], Path]:
    """Return a function from a version of Cilium to the folder of its chart."""

    def found(version: str) -> Path:
        folder = MODULES[version].folder / "chart"
        if not folder.is_dir():
            message = f"{folder} is missing: `make tools` makes it"
            pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
        return folder

    return found


@pytest.fixture(scope="session")
def rendered(program: Programs, chart: Callable[[str], Path]) -> Callable[[str, Sequence[str]], list[Object]]:
    """Return a function from a version of Cilium and `--set` values, in their order, to all objects of its chart."""
    path = program("chart")

    def objects(version: str, sets: Sequence[str]) -> list[Object]:
        flags = [word for value in sets for word in ("--set", value)]
        found: list[Object] = json.loads(_told([path, *flags, chart(version)]))
        return found

    return objects


def _told(command: Sequence[str | Path], text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RefusedError(done.stderr)
    return done.stdout


def named(objects: Sequence[Object], kind: str, name: str) -> Object:
    """Return the one object of a kind and name."""
    (found,) = (one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name)
    return found


def cilium_config(objects: Sequence[Object]) -> Mapping[str, str]:
    """Return what agents read as their configuration."""
    data: Mapping[str, str] = named(objects, "ConfigMap", "cilium-config")["data"]
    return data


def mesh_and_cluster(name: str) -> tuple[Mesh, Cluster]:
    mesh = walkthrough()
    return mesh, next(one for one in mesh.clusters if one.name == name)


def cluster_text(name: str, content: Mapping[str, object] | None = None) -> str:
    """Return the text of our cluster file."""
    mesh, cluster = mesh_and_cluster(name)
    return manifests.text([configs.cluster_file(cluster, options_of(content or {}, mesh))])


def all_values(name: str, content: Mapping[str, object] | None = None) -> list[str]:
    """Return the values of a cluster after all steps: ours of S3, the CLI's of S5 and S7, ours of S7."""
    mesh, cluster = mesh_and_cluster(name)
    options = options_of(content or {}, mesh)
    return [
        *configs.install_values(mesh, cluster, options),
        *ENABLE,
        *HUBBLE,
        *configs.hubble_values(cluster, options),
    ]


@pytest.mark.parametrize("name", WALKTHROUGH)
def test_cluster_files(parsed_by_kind: Callable[[str], Object], name: str) -> None:
    """Kind reads from our files what S1 says: nodes, image, ports, address ranges, no CNI and no kube-proxy."""
    pods, services, _, _, ports, _ = WALKTHROUGH[name]

    found = parsed_by_kind(cluster_text(name))

    assert found["Name"] == name
    networking = found["Networking"]
    assert (networking["PodSubnet"], networking["ServiceSubnet"]) == (pods, services)
    assert (networking["DisableDefaultCNI"], networking["KubeProxyMode"]) == (True, "none")
    assert [node["Role"] for node in found["Nodes"]] == ["control-plane", "worker"]
    assert {node["Image"] for node in found["Nodes"]} == {"kindest/node:v1.33.2"}
    mapped = [[(one["ContainerPort"], one["HostPort"]) for one in node["ExtraPortMappings"]] for node in found["Nodes"]]
    assert mapped == [[(ports[0], ports[0]), (ports[1], ports[1])], [(ports[2], ports[2])]]


def test_kind_refuses_what_is_wrong(parsed_by_kind: Callable[[str], Object]) -> None:
    """An unknown key and a bad range are refused, the key in the words that real kind was recorded with."""
    text = cluster_text("west")

    with pytest.raises(
        RefusedError, match=r"(?s)unable to decode config: yaml: .*field nodez not found in type v1alpha4"
    ):
        parsed_by_kind(text.replace("nodes:", "nodez:"))
    with pytest.raises(RefusedError, match="invalid pod subnet"):
        parsed_by_kind(text.replace("10.0.0.0/16", "10.0.0.0/160"))


# Stands for an engine until kind has started both nodes, side by side: that ends the run. Each call's words are kept.
_DOCKER = """#!/bin/sh
printf '%s\n' "$@" > "$CALLS/.$$"
mv "$CALLS/.$$" "$CALLS/$1.$$"
case "$1" in
info) echo '{"CgroupVersion":"2","MemoryLimit":true,"PidsLimit":true,"CPUShares":true,"CgroupDriver":"systemd"}';;
run) while [ "$(ls "$CALLS" | grep -c ^run)" -lt 2 ]; do sleep 0.02; done; echo 'no node here' >&2; exit 125;;
esac
"""


@pytest.mark.parametrize("name", WALKTHROUGH)
def test_kind_publishes_our_ports(program: Programs, tmp_path: Path, name: str) -> None:
    """The real kind, given our file, starts each node with the image and the ports of S1."""
    *_, ports, _ = WALKTHROUGH[name]
    docker, calls, config = tmp_path / "docker", tmp_path / "calls", tmp_path / "cluster.yaml"
    calls.mkdir()
    docker.write_text(_DOCKER)
    docker.chmod(0o755)
    config.write_text(cluster_text(name))
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path), "CALLS": str(calls)}
    command: list[str | Path] = [program("kind"), "create", "cluster", "--config", config]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert "no node here" in done.stderr
    published = {}
    for words in (path.read_text().splitlines() for path in calls.glob("run.*")):
        flags = [word.removeprefix("--publish=") for word in words if word.startswith("--publish=")]
        # Kind gives the API server a port of its own choice.
        published[words[words.index("--name") + 1]] = [one for one in flags if not one.endswith(":6443/TCP")]
        assert words[-1] == "kindest/node:v1.33.2"
    assert published == {
        f"{name}-control-plane": [f"0.0.0.0:{port}:{port}/TCP" for port in ports[:2]],
        f"{name}-worker": [f"0.0.0.0:{ports[2]}:{ports[2]}/TCP"],
    }


@pytest.mark.parametrize("name", WALKTHROUGH)
@pytest.mark.parametrize("version", VERSIONS)
def test_agents_are_told(rendered: Callable[..., list[Object]], version: str, name: str) -> None:
    """`cilium-config` has every setting of S3, S5 and S7, and the lab's own: no aggregation, rings that hold a test."""
    pods, _, others, number, _, _ = WALKTHROUGH[name]
    _, cluster = mesh_and_cluster(name)
    expected = {
        "ipam": "kubernetes",
        "kube-proxy-replacement": "true",
        "enable-bpf-masquerade": "true",
        "enable-endpoint-health-checking": "false",
        "enable-health-checking": "false",
        "debug": "true",
        "routing-mode": "native",
        "auto-direct-node-routes": "true",
        "ipv4-native-routing-cidr": pods,
        "enable-ip-masq-agent": "true",
        "enable-ipv4-masquerade": "true",
        "cluster-name": name,
        "cluster-id": str(number),
        "monitor-aggregation": "none",
        "enable-hubble": "true",
        "hubble-listen-address": ":4244",
        "hubble-disable-tls": "false",
        "hubble-event-buffer-capacity": str(cluster.ring),
    }

    objects = rendered(version, all_values(name))

    config = cilium_config(objects)
    assert {key: config.get(key) for key in expected} == expected
    masquerade = named(objects, "ConfigMap", "ip-masq-agent")["data"]["config"]
    assert json.loads(masquerade) == {"nonMasqueradeCIDRs": [others]}
    assert named(objects, "Deployment", "cilium-operator")["spec"]["replicas"] == 1


@pytest.mark.parametrize("name", WALKTHROUGH)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_mesh_has_its_doors(rendered: Callable[..., list[Object]], version: str, name: str) -> None:
    """Each cluster's mesh etcd listens on a NodePort of its own (T1), without kvstoremesh (S5)."""
    *_, port = WALKTHROUGH[name]

    objects = rendered(version, all_values(name))

    service = named(objects, "Service", "clustermesh-apiserver")["spec"]
    assert (service["type"], [one["nodePort"] for one in service["ports"]]) == ("NodePort", [port])
    pod = named(objects, "Deployment", "clustermesh-apiserver")["spec"]["template"]["spec"]
    assert [one["name"] for one in pod["containers"]] == ["etcd", "apiserver"]


@pytest.mark.parametrize("name", WALKTHROUGH)
@pytest.mark.parametrize("version", VERSIONS)
def test_hubble_is_there(rendered: Callable[..., list[Object]], version: str, name: str) -> None:
    """Relay serves on the Service that `collect` forwards to, over TLS to its nodes; the UI has the port of S1 (S7)."""
    *_, ports, _ = WALKTHROUGH[name]

    objects = rendered(version, all_values(name))

    relay = named(objects, "Service", "hubble-relay")["spec"]
    assert [(one["port"], one["targetPort"]) for one in relay["ports"]] == [(80, "grpc")]
    told = named(objects, "ConfigMap", "hubble-relay-config")["data"]["config.yaml"]
    assert f"cluster-name: {name}" in told
    assert "tls-hubble-client-cert-file" in told
    assert "disable-server-tls: true" in told
    interface = named(objects, "Service", "hubble-ui")["spec"]
    assert (interface["type"], [one["nodePort"] for one in interface["ports"]]) == ("NodePort", [ports[1]])


@pytest.mark.parametrize("version", VERSIONS)
def test_before_the_later_steps(rendered: Callable[..., list[Object]], version: str) -> None:
    """After `install` alone there is no mesh, Relay or UI: S5 and S7 bring them, and nothing of S3 depends on them."""
    mesh, cluster = mesh_and_cluster("west")

    objects = rendered(version, configs.install_values(mesh, cluster, options_of({}, mesh)))

    names = {one["metadata"]["name"] for one in objects if one["kind"] in {"Deployment", "DaemonSet"}}
    assert names == {"cilium", "cilium-envoy", "cilium-operator"}
    assert cilium_config(objects)["cluster-name"] == "west"


@pytest.mark.parametrize("version", VERSIONS)
def test_values_that_the_chart_knows(chart: Callable[[str], Path], version: str) -> None:
    """Every key that is set is read by a template: Helm takes a misspelt one and does nothing."""
    templates = (chart(version) / "templates").rglob("*")
    read = "".join(path.read_text() for path in templates if path.is_file())
    keys = {value.partition("=")[0] for value in all_values("west")}
    # What lies below this one is handed on as it is; test_agents_are_told looks at it.
    keys.remove("ipMasqAgent.config.nonMasqueradeCIDRs")

    unknown = [key for key in keys if not re.search(rf"\.Values\.{re.escape(key)}\b", read)]

    assert unknown == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_users_own_values(rendered: Callable[..., list[Object]], version: str) -> None:
    """Further `--set` values of a mesh description win over ours."""
    content = {"kind": {"set": ["bpf.monitorAggregation=medium", "hubble.eventBufferCapacity=4095"]}}

    config = cilium_config(rendered(version, all_values("west", content)))

    assert (config["monitor-aggregation"], config["hubble-event-buffer-capacity"]) == ("medium", "4095")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("cluster.name=West_1", "cluster name"),
        ("cluster.id=many", "cluster.id"),
        ("kubeProxyReplacement=maybe", "kubeProxyReplacement"),
        ("ipMasqAgent.config.nonMasqueradeCIDRs={1", "list must terminate"),
        ("operator.replicas=many", "replicas"),
        ("bpf.masquerade=perhaps", "masquerade"),
    ],
)
def test_the_chart_refuses(rendered: Callable[..., list[Object]], version: str, value: str, told: str) -> None:
    """The chart's own checks run here: what a real `cilium install` would refuse is refused."""
    with pytest.raises(RefusedError, match=told):
        rendered(version, [*all_values("west"), value])

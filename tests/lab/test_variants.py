"""Variants of Cilium: named ones, files, keys of a mesh description; every mistake is one line, and IPv6 follows IPv4."""

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.command_line import Call

from meshobs.errors import InputError
from meshobs.jobs.labs import LabOptions
from meshobs.lab import plan
from meshobs.lab.clusters import manifests
from meshobs.lab.clusters.targets import HostClient, LiveObjects, nodes_of, pods_of, services_of, targets_of
from meshobs.lab.mesh import ipv6, variants
from meshobs.lab.mesh.file import mesh_of
from meshobs.lab.mesh.model import Cluster, Mesh, walkthrough
from meshobs.lab.mesh.variants import NAMED, NATIVE
from meshobs.lab.netns import requirements
from meshobs.lab.netns.cluster import objects, programs
from meshobs.lab.netns.host import pki
from meshobs.lab.netns.host.layout import Layout
from meshobs.lab.programs import modules

PAIR = pki.Pair(Path("ca"), Path("cert"), Path("key"))


def agent(cluster: Cluster) -> dict[str, str]:
    """Return an agent's settings."""
    return programs.agent(cluster, Layout(Path("/lab"), Path("/cgroup")), PAIR)


def west(variant: object, **more: object) -> Cluster:
    """Return a cluster of a variant."""
    return mesh_of({"variant": variant, **more}).cluster("west")


def test_the_default_is_the_walkthrough() -> None:
    """Whoever names no variant, or native, gets the same agents as ever."""
    assert mesh_of({}) == mesh_of({"variant": "native"})
    assert agent(mesh_of({}).cluster("west")) == agent(walkthrough().cluster("west"))


_CHANGES: Mapping[str, Mapping[str, str | None]] = {
    "native": {},
    "vxlan": {
        "routing-mode": "tunnel", "tunnel-protocol": "vxlan", "auto-direct-node-routes": None,
        "ipv4-native-routing-cidr": None, "enable-ip-masq-agent": "false", "ip-masq-agent-config-path": None,
    },
    "chart-defaults": {
        "routing-mode": "tunnel", "tunnel-protocol": "vxlan", "auto-direct-node-routes": None,
        "ipv4-native-routing-cidr": None, "enable-ip-masq-agent": "false", "ip-masq-agent-config-path": None,
        "enable-bpf-masquerade": "false", "kube-proxy-replacement": "false", "bpf-lb-sock": "false",
        "direct-routing-device": None,
    },
    "iptables": {
        "enable-bpf-masquerade": "false", "enable-ip-masq-agent": "false", "ip-masq-agent-config-path": None,
        "enable-endpoint-routes": "true", "ipv4-native-routing-cidr": "10.0.0.0/15",
    },
    "dsr": {"bpf-lb-mode": "dsr", "bpf-lb-algorithm": "maglev"},
    "dual-stack": {
        "enable-ipv6": "true", "enable-ipv6-masquerade": "true", "k8s-require-ipv6-pod-cidr": "true",
        "ipv6-native-routing-cidr": "fd00:a::/48",
    },
    "topology": {"enable-service-topology": "true"},
    "kvstoremesh": {},
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_what_a_named_variant_changes(name: str) -> None:
    """Exactly these settings differ from the walkthrough's; None stands for one that is left out."""
    usual, changed = agent(west("native")), agent(west(name))

    differing = {key for key in {*usual, *changed} if usual.get(key) != changed.get(key)}
    assert {key: changed.get(key) for key in differing} == _CHANGES[name]


def test_a_table_goes_on_from_a_named_one() -> None:
    """Its settings win, what it leaves out is left out, and values are written as Cilium writes them."""
    told = agent(
        west({
            "base": "vxlan",
            "dual_stack": True,
            "settings": {"tunnel-protocol": "geneve", "tunnel-port": 6081, "auto-direct-node-routes": False},
            "without": ["bpf-lb-map-max"],
        })
    )  # fmt: skip

    assert (told["routing-mode"], told["tunnel-protocol"], told["tunnel-port"]) == ("tunnel", "geneve", "6081")
    assert told["auto-direct-node-routes"] == "false"
    assert told["enable-ipv6"] == "true"
    assert "bpf-lb-map-max" not in told
    assert "ipv6-native-routing-cidr" not in told


def test_a_cluster_may_be_of_its_own_kind() -> None:
    """A cluster's key goes before the mesh's; the others keep that one."""
    tables = {
        "west": {"pod_cidr": "10.0.0.0/16", "service_cidr": "10.2.0.0/16", "variant": "dsr"},
        "east": {"pod_cidr": "10.1.0.0/16", "service_cidr": "10.3.0.0/16"},
    }

    mesh = mesh_of({"variant": {"name": "mine", "settings": {"debug": True}}, "clusters": tables})

    assert [str(one.variant) for one in mesh.clusters] == ["dsr", "mine"]
    assert mesh.has("variant", "dsr") is False
    assert mesh_of({"variant": "dsr"}).has("variant", "dsr")


def test_kube_proxy_comes_where_agents_leave_it_something() -> None:
    """It takes both families' pods for the cluster's own, and changes nothing of the machine's connection tracking."""
    layout = Layout(Path("/lab"), Path("/cgroup"))
    one = west({"base": "chart-defaults", "dual_stack": True})
    command = programs.kube_proxy(layout, one, one.nodes[1])

    assert [name for name, each in NAMED.items() if not each.replaces_kube_proxy] == ["chart-defaults"]
    assert "--cluster-cidr=10.0.0.0/16,fd00:a::/48" in command
    assert "--hostname-override=west-worker" in command
    assert {"--conntrack-max-per-core=0", "--conntrack-min=0"} < set(command)


def test_kvstoremesh_reads_the_others_and_writes_its_own() -> None:
    """Its folder names the other clusters' stores, its client the own one, and no port is the other server's."""
    layout = Layout(Path("/lab"), Path("/cgroup"))
    one = west("kvstoremesh")
    copying, serving = programs.kvstoremesh(layout, one), programs.mesh_api_server(layout, one)

    assert "--clustermesh-config=/lab/west.remotes" in copying
    assert "etcd.config=/lab/west.etcd" in copying
    assert not {word for word in copying if "health-port" in word} & set(serving)


def test_flags_of_the_store_s_server() -> None:
    """They come after the lab's own."""
    one = west({"clustermesh_apiserver": {"clustermesh-default-global-namespace": False}})

    assert programs.mesh_api_server(Layout(Path("/lab"), Path("/cgroup")), one)[-1] == (
        "--clustermesh-default-global-namespace=false"
    )


_BAD: Mapping[str, tuple[object, str]] = {
    "name": (
        "vxlam",
        "there is no variant 'vxlam': one of native, vxlan, chart-defaults, iptables, dsr, dual-stack, topology, kvstoremesh",
    ),
    "number": (7, "a variant is a name or a table, not 7"),
    "key": ({"setings": {}}, "unknown key setings (known: name, base, dual_stack, kvstoremesh, "),
    "base": ({"base": "tunnel"}, "there is no variant 'tunnel': one of native"),
    "base of a table": ({"base": {}}, "base must be the name of a variant, not {}"),
    "settings": ({"settings": ["a"]}, "settings must be a table, not ['a']"),
    "value": ({"settings": {"debug": [1]}}, "settings: debug must be a text, a number, true or false, not [1]"),
    "lines": ({"settings": {"debug": "a\nb"}}, "settings: debug must be one line"),
    "helm": ({"settings": {"routingMode": "x"}}, "settings: 'routingMode' is no flag: write it as Cilium does"),
    "path": ({"settings": {"../x": "x"}}, "settings: '../x' is no flag"),
    "own": ({"settings": {"cluster-id": 3}}, "settings: cluster-id is the lab's own"),
    "own, by a key": ({"settings": {"monitor-aggregation": "low"}}, "is the lab's own: the key aggregation says it"),
    "without": ({"without": "debug"}, "without must be a list of settings, not 'debug'"),
    "without a flag": ({"without": ["--debug"]}, "without: '--debug' is no setting"),
    "both": ({"settings": {"debug": True}, "without": ["debug"]}, "debug is in settings and in without"),
    "dual": ({"dual_stack": "yes"}, "dual_stack must be true or false, not 'yes'"),
    "title": ({"name": ""}, "name must be a text, not ''"),
    "store": ({"clustermesh_apiserver": {"cluster-id": 1}}, "clustermesh_apiserver: cluster-id is the lab's own"),
}


@pytest.mark.parametrize("case", _BAD)
def test_mistakes_in_one_line(case: str) -> None:
    """What is wrong with a variant is named once, with what would be right."""
    given, message = _BAD[case]

    with pytest.raises(InputError) as told:
        mesh_of({"variant": given})

    assert message in str(told.value)
    assert "\n" not in str(told.value)
    assert str(told.value).count(message) == 1


def test_all_mistakes_at_once() -> None:
    """A file with three mistakes needs one look."""
    with pytest.raises(
        InputError, match=r"variant: unknown key x .*; variant: debug is in .*; variant: settings: ipam"
    ):
        mesh_of({"variant": {"x": 1, "settings": {"debug": True, "ipam": "x"}, "without": ["debug"]}})


def test_clusters_that_could_not_reach_each_other() -> None:
    """A tunnel leads to nobody who routes natively."""
    tables = {
        "west": {"pod_cidr": "10.0.0.0/16", "service_cidr": "10.2.0.0/16", "variant": "vxlan"},
        "east": {"pod_cidr": "10.1.0.0/16", "service_cidr": "10.3.0.0/16"},
    }

    with pytest.raises(InputError, match="must route alike to reach each other, not west in a tunnel, east natively"):
        mesh_of({"clusters": tables})


def test_ranges_that_are_spared_are_ranges() -> None:
    """What settings are derived from is checked where it is read."""
    tables = {
        "west": {"pod_cidr": "10.0.0.0/16", "service_cidr": "10.2.0.0/16", "native_routing_cidr": "10.0.0.0/8x",
                 "non_masquerade_cidrs": ["10.1.0.1/16"]},
    }  # fmt: skip

    with pytest.raises(InputError, match=r"native_routing_cidr: .*8x.*non_masquerade_cidrs: .*host bits"):
        mesh_of({"clusters": tables, "variant": "dual-stack"})


def test_a_file_is_called_by_its_name(tmp_path: Path) -> None:
    """What a command line names becomes part of the description: the file may go."""
    path = tmp_path / "geneve.toml"
    path.write_text('base = "vxlan"\n[settings]\ntunnel-protocol = "geneve"\n')

    content = variants.load(str(path))

    assert variants.load("dsr") == "dsr"
    assert str(west(content).variant) == "geneve"
    assert west(content).variant.says("tunnel-protocol") == "geneve"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the variant {path}: "),
        ("settings = ", "cannot read the variant {path}: "),
        ("\udcff", "cannot read the variant {path}: "),
        ("set = 1\n", "{path}: unknown key set (known: "),
    ],
)
def test_files_that_describe_nothing(tmp_path: Path, content: str | None, message: str) -> None:
    """One that is missing, is no TOML, no text, or has another file's keys."""
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))

    with pytest.raises(InputError) as told:
        variants.load(str(path))

    assert message.format(path=path) in str(told.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("x" * 5000, "there is no variant "), (f"{'x' * 5000}.toml", "cannot read the variant "), (".", "cannot read the variant"),
     ("..", "there is no"), ("./", "cannot read the variant"), ("/", "cannot read the variant /"), ("", "there is no variant ''")],
)  # fmt: skip
def test_names_that_no_file_has(text: str, message: str) -> None:
    """Whatever is written there, it is one line."""
    with pytest.raises(InputError, match=message):
        variants.load(text)


@pytest.mark.parametrize("command", ["up", "plan"])
def test_other_drivers_refuse(meshobs: Call, command: str) -> None:
    """Only real agents can be of any kind: the twin, which imitates some, and kind say so, and nothing begins."""
    for driver, variant in (("sim", "dsr"), ("kind", "vxlan")):
        outcome = meshobs("lab", command, "--driver", driver, "--variant", variant)

        assert outcome.code == 2
        assert outcome.err.splitlines()[-1] == (
            f"meshobs: --variant {variant}: only the driver netns knows that, and this is {driver}"
        )


def test_native_is_every_driver_s(meshobs: Call) -> None:
    """It is what they are."""
    assert meshobs("lab", "plan", "--driver", "sim", "--variant", "native").code == 0


def test_a_name_that_nobody_knows(meshobs: Call) -> None:
    """The known ones are listed."""
    outcome = meshobs("lab", "up", "--driver", "netns", "--variant", "geneve")

    assert outcome.code == 2
    assert outcome.err == (
        "meshobs: there is no variant 'geneve': one of native, vxlan, chart-defaults, iptables, dsr, dual-stack, topology,"
        " kvstoremesh, or a file *.toml\n"
    )


def test_the_plan_says_what_differs() -> None:
    """Settings, what is left out, IPv6, and flags of the store's server."""
    mesh = mesh_of({"variant": {"name": "mine", "base": "dsr", "dual_stack": True, "without": ["enable-tcx"]}})

    (line, _) = plan.describe_cilium(mesh)

    assert "variant mine (bpf-lb-mode=dsr, bpf-lb-algorithm=maglev, no enable-tcx, IPv6 beside IPv4), the rest" in line


@pytest.mark.parametrize("version", ["1.17.6", "1.20.2"])
def test_settings_that_agents_do_not_take(version: str) -> None:
    """The programs themselves are asked, each named variant passes, and what they refuse is named with the version."""
    if not modules.cilium(version)["cilium-agent"].built:
        pytest.skip(f"Cilium {version} is not built")
    wrong = {"routing-mod": "tunnel", "debug": "maybe", "policy-audit-mode": True}

    for name in NAMED:
        assert list(requirements.find_refused(mesh_of({"variant": name, "cilium": version}))) == []
    told = list(requirements.find_refused(mesh_of({"variant": {"settings": wrong}, "cilium": version})))

    assert len(told) == 2
    assert told[0] == (f"variant own: Cilium {version} does not take routing-mod 'tunnel': unknown flag: --routing-mod")
    assert 'invalid argument "maybe" for "-D, --debug" flag' in told[1]


# ---- two families


RANGES = st.builds(
    lambda number, bits: IPv4Network((number >> (32 - bits) << (32 - bits), bits)),
    st.integers(0, 2**32 - 1),
    st.integers(1, 32),
)


@given(RANGES, RANGES)
def test_ranges_of_ipv6_lie_as_those_of_ipv4(one: IPv4Network, other: IPv4Network) -> None:
    """What is apart stays apart, what holds another still does."""
    first, second = IPv6Network(ipv6.range_of(str(one))), IPv6Network(ipv6.range_of(str(other)))

    assert first.overlaps(second) == one.overlaps(other)
    assert second.subnet_of(first) == other.subnet_of(one)
    assert first.is_private
    if one.prefixlen <= 24:
        assert IPv6Network(ipv6.pool_of(str(one))).subnet_of(first)


def test_addresses_of_ipv6_can_be_read() -> None:
    """An octet is a group."""
    assert ipv6.range_of("10.1.0.0/16") == "fd00:a:1::/48"
    assert ipv6.range_of("10.1.16.0/20") == "fd00:a:1:10::/60"
    assert ipv6.pool_of("10.1.2.0/24") == "fd00:a:1:2::/112"
    assert ipv6.on_link("172.18.0.3", "172.18.0.0/16") == "fd00:ac:12::3/64"


def dual() -> Mesh:
    """Return a mesh of both families."""
    return mesh_of({"variant": "dual-stack"})


def test_everything_of_a_dual_stack_cluster_has_two() -> None:
    """Nodes, pod ranges, Services, what is spared; IPv4 comes first, as Kubernetes wants it for its own."""
    mesh = dual()
    one = mesh.cluster("west")
    node = one.nodes[1]
    registered, status = objects.node(node), objects.node_status(node)["status"]
    command = programs.api_server(one, PAIR, ("key", "pub"))

    assert registered["spec"]["podCIDRs"] == ["10.0.1.0/24", "fd00:a:0:1::/112"]
    assert [each["address"] for each in status["addresses"]] == ["172.18.0.3", "fd00:ac:12::3", "west-worker"]
    assert "--service-cluster-ip-range=10.2.0.0/16,fd00:a:2::/112" in command
    assert one.native_cidrs == ("10.0.0.0/16", "10.1.0.0/16", "fd00:a::/48", "fd00:a:1::/48")
    assert [each["spec"].get("ipFamilyPolicy") for each in manifests.of((), mesh.services, one)] == ["RequireDualStack"]
    told = objects.pod_status(_POD, node, ["10.0.1.7", "fd00:a:0:1::7"], "x")["status"]
    assert told["podIPs"] == [{"ip": "10.0.1.7"}, {"ip": "fd00:a:0:1::7"}]
    assert told["hostIPs"] == [{"ip": "172.18.0.3"}, {"ip": "fd00:ac:12::3"}]


def test_a_cluster_of_one_family_is_as_ever() -> None:
    """No empty second address anywhere."""
    one = walkthrough().cluster("west")

    assert objects.node(one.nodes[0])["spec"]["podCIDRs"] == ["10.0.0.0/24"]
    assert len(objects.node_status(one.nodes[0])["status"]["addresses"]) == 2
    assert "ipFamilyPolicy" not in manifests.service(walkthrough().services[0])["spec"]


_POD: Mapping[str, Any] = {
    "metadata": {"name": "webpod-1", "namespace": "default", "labels": {"app": "webpod"}},
    "spec": {"nodeName": "west-worker", "containers": [{"name": "webpod", "image": "x",
                                                        "ports": [{"containerPort": 80}]}]},
}  # fmt: skip
_SERVICE: Mapping[str, Any] = {
    "metadata": {"name": "webpod", "namespace": "default"},
    "spec": {"clusterIP": "10.2.0.9", "clusterIPs": ["10.2.0.9", "fd00:a:2::9"], "ports": [{"port": 80}]},
}


def live(mesh: Mesh) -> LiveObjects:
    """Return what west's API says of one pod, one Service and its nodes."""
    one = mesh.cluster("west")
    addresses = ["10.0.1.7", "fd00:a:0:1::7"] if mesh.dual_stack else ["10.0.1.7"]
    pod = {**_POD, **objects.pod_status(_POD, one.nodes[1], addresses, "x")}
    service = _SERVICE if mesh.dual_stack else {**_SERVICE, "spec": {**_SERVICE["spec"], "clusterIPs": ["10.2.0.9"]}}
    nodes = [objects.node(each) | objects.node_status(each) for each in one.nodes]
    return LiveObjects(pods_of("west", [pod]), services_of("west", [service]), nodes_of(mesh, "west", nodes))


@pytest.mark.parametrize(
    ("target", "four", "six"),
    [
        ("svc/webpod", [("10.2.0.9", 80)], [("fd00:a:2::9", 80)]),
        ("pods/west/webpod", [("10.0.1.7", 80)], [("fd00:a:0:1::7", 80)]),
        ("pod/webpod-1", [("10.0.1.7", 80)], [("fd00:a:0:1::7", 80)]),
        ("node/west-worker:30080", [("172.18.0.3", 30080)], [("fd00:ac:12::3", 30080)]),
        (
            "nodes/west:30080",
            [("172.18.0.2", 30080), ("172.18.0.3", 30080)],
            [("fd00:ac:12::2", 30080), ("fd00:ac:12::3", 30080)],
        ),
    ],
)
def test_targets_by_family(target: str, four: list[tuple[str, int]], six: list[tuple[str, int]]) -> None:
    """The same names by IPv4 and, with a 6, by IPv6; a mesh without it says so."""
    mesh = dual()
    client = HostClient(mesh.cluster("west").nodes[1])
    kind, _, rest = target.partition("/")

    assert targets_of(live(mesh), client, target) == four
    assert targets_of(live(mesh), client, f"{kind}6/{rest}") == six
    plain = mesh_of({})
    assert targets_of(live(plain), client, target) == four
    with pytest.raises(InputError, match="it has no IPv6 address; the variant dual-stack has both"):
        targets_of(live(plain), client, f"{kind}6/{rest}")


def test_ports_of_a_service() -> None:
    """The first unless a target names another one; a headless Service has no address to call."""
    mesh = mesh_of({})
    client = HostClient(mesh.cluster("west").nodes[1])
    spec = {"clusterIP": "10.2.0.9", "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]}
    services = services_of("west", [{**_SERVICE, "spec": spec}])
    found = LiveObjects([], services, [])

    assert targets_of(found, client, "svc/webpod") == [("10.2.0.9", 80)]
    assert targets_of(found, client, "svc/default/webpod:53") == [("10.2.0.9", 53)]
    assert services[0].ports == [
        {"port": 80, "protocol": "TCP", "node_port": 30080}, {"port": 53, "protocol": "UDP", "node_port": 0},
    ]  # fmt: skip
    headless = LiveObjects([], services_of("west", [{**_SERVICE, "spec": {**spec, "clusterIP": "None"}}]), [])
    with pytest.raises(InputError, match="headless: aim at its pods"):
        targets_of(headless, client, "svc/webpod")


def test_specs_and_hooks_reach_the_api() -> None:
    """As Kubernetes calls them; what only real API servers know is refused on the twin."""
    mesh = mesh_of({
        "workloads": {"web": {"port": 80, "drain": 8}},
        "services": {"web": {"spec": {"externalTrafficPolicy": "Local", "ports": [{"port": 81, "targetPort": 80}]}}},
    })  # fmt: skip
    deployment, service = manifests.of(mesh.workloads, mesh.services, mesh.clusters[0])

    pod = deployment["spec"]["template"]["spec"]
    assert (pod["terminationGracePeriodSeconds"], pod["containers"][0]["lifecycle"]) == (
        9, {"preStop": {"sleep": {"seconds": 8}}},
    )  # fmt: skip
    assert service["spec"]["ports"] == [{"port": 81, "targetPort": 80}]
    assert service["spec"]["externalTrafficPolicy"] == "Local"
    with pytest.raises(
        InputError, match=r"services.web: spec, workloads.web: drain: the drivers netns and kind know that"
    ):
        LabOptions().check("sim", mesh)
    LabOptions().check("netns", mesh)


def test_iptables_spares_the_whole_mesh() -> None:
    """Without ip-masq-agent one range can be spared: the smallest that holds all pods, unless one is named."""
    pods = ("10.0.0.0/16", "10.1.0.0/16", "10.9.0.0/16")
    tables = {
        f"c{number}": {"pod_cidr": cidr, "service_cidr": f"10.{number + 20}.0.0/16"} for number, cidr in enumerate(pods)
    }
    tables["c2"]["native_routing_cidr"] = "10.0.0.0/8"

    mesh = mesh_of({"variant": "iptables", "clusters": tables})

    assert [one.native_routing_cidr for one in mesh.clusters] == ["10.0.0.0/12", "10.0.0.0/12", "10.0.0.0/8"]
    assert all(IPv4Network(cidr).subnet_of(IPv4Network("10.0.0.0/12")) for cidr in pods)
    assert NATIVE.has_masquerade_agent

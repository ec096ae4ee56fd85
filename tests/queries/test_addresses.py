"""Whose address it is, and which nodes are expected: pod ranges by IPAM mode, overlaps, translators, nodes without agent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.handmade_mesh import GLOBAL, LOCAL, OUTSIDE, START, Mesh, shop
from support.recordings import import_into

from meshobs.analyzer import Question, Report, run
from meshobs.store import Store

GATEWAY = "198.51.100.9"


@pytest.fixture
def answer(tmp_path: Path) -> Callable[..., Report]:
    """Return a function that imports a mesh and answers one report."""

    def answered(mesh: Mesh, report: str, **more: Any) -> Report:
        db = tmp_path / f"{len(list(tmp_path.iterdir()))}.duckdb"
        import_into(db, mesh.write(tmp_path / f"{db.stem}-recording"))
        with Store.open(db) as store:
            return run(store, report, Question(**more))

    return answered


def row(report: Report, source: str = "west", destination: str = "east") -> dict[str, Any]:
    """Return a report's only row of a pair of clusters."""
    (found,) = (
        one
        for one in report.rows.rows(named=True)
        if (one["source_cluster"], one["destination_cluster"]) == (source, destination)
    )
    return dict(found)


def crossing(mesh: Mesh, count: int = 20, **more: Any) -> None:
    """Call a pod of east from west."""
    client, _, backends = shop(mesh)
    for _ in range(count):
        mesh.call(client, backends["east"][0], **more)


def kubeadm_ranges(mesh: Mesh, ipam: str = "", **of_cilium: Any) -> None:
    """Let the Nodes of all clusters have the same ranges, as kind and kubeadm give them.

    Args:
        mesh: whose Nodes to change.
        ipam: what cilium-config says, nothing where it is empty.
        of_cilium: makes the `ipam` of each CiliumNode of its range; without it there are no CiliumNodes.
    """
    for cluster, objects in mesh.objects.items():
        for node in [one for one in objects if one["kind"] == "Node"]:
            (taken,) = node["spec"]["podCIDRs"]
            node["spec"]["podCIDRs"] = [f"10.244.{node['metadata']['name'][-1]}.0/24"]
            if of_cilium:
                addresses = [{"type": "InternalIP", "ip": node["status"]["addresses"][0]["address"]}]
                spec = {
                    "addresses": addresses,
                    "ipam": of_cilium["make"](taken, [a for a in mesh.pods if a.startswith(taken[:7])]),
                }
                objects.append({"kind": "CiliumNode", "metadata": dict(node["metadata"]), "spec": spec})
        if ipam:
            objects.append(config_map(cluster, ipam))


def config_map(cluster: str, ipam: str) -> dict[str, Any]:
    """Return a cluster's cilium-config."""
    data = {"cluster-name": cluster, "ipam": ipam}
    return {"kind": "ConfigMap", "metadata": {"name": "cilium-config", "namespace": "kube-system"}, "data": data}


def cluster_pool(taken: str, _pods: list[str]) -> dict[str, Any]:
    """Return a CiliumNode's IPAM in mode cluster-pool."""
    return {"podCIDRs": [taken]}


def multi_pool(taken: str, _pods: list[str]) -> dict[str, Any]:
    """Return a CiliumNode's IPAM in mode multi-pool."""
    return {"pools": {"allocated": [{"pool": "default", "cidrs": [taken]}], "requested": []}}


def eni(_taken: str, pods: list[str]) -> dict[str, Any]:
    """Return a CiliumNode's IPAM in mode eni; older agents put a range there that nobody uses."""
    return {"podCIDRs": ["10.12.0.0/16"], "pool": {pod: {"resource": "eni-1"} for pod in pods}}


@pytest.mark.parametrize(
    ("ipam", "make"),
    [
        ("", None),
        ("", cluster_pool),
        ("cluster-pool", cluster_pool),
        ("", multi_pool),
        ("multi-pool", multi_pool),
        ("", eni),
        ("eni", eni),
        ("delegated-plugin", lambda _taken, _pods: {}),
        ("azure", None),
    ],
)
@pytest.mark.parametrize("masquerade", [False, True])
def test_ranges_that_nobody_uses_hide_nothing(
    answer: Callable[..., Report], ipam: str, make: Callable[..., Any] | None, masquerade: bool
) -> None:
    """Node.spec.podCIDRs are the same in all clusters and Cilium takes others: cilium/cilium#14152."""
    mesh = Mesh()
    crossing(mesh, masquerade=masquerade)
    kubeadm_ranges(mesh, ipam, **({"make": make} if make else {}))

    found = row(answer(mesh, "nat"))

    assert (found["verdict"], found["cause"]) == (("violation", "masquerade") if masquerade else ("ok", ""))
    assert "10.244" not in found["reason"]
    assert "10.12." not in found["reason"]


def test_ranges_of_kubernetes_mode_are_those_of_nodes(answer: Callable[..., Report]) -> None:
    """An address without an identity belongs to the cluster whose range it is in."""
    mesh = Mesh()
    crossing(mesh)
    for objects, cluster in ((mesh.objects[name], name) for name in mesh.clusters):
        objects.append(config_map(cluster, "kubernetes"))
    strip_identities(mesh)

    assert row(answer(mesh, "nat"))["untranslated"] == 20


def strip_identities(mesh: Mesh) -> None:
    """Let nodes not know the identities of what comes from elsewhere, nor of what they call there."""
    for message in mesh.messages:
        for end in (message.flow.source, message.flow.destination):
            if not end.ID:
                end.identity, end.cluster_name, end.namespace, end.pod_name = 2, "", "", ""


def test_slices_tell_whose_an_address_is(answer: Callable[..., Report]) -> None:
    """Without ranges and identities the addresses of backends still name their cluster."""
    mesh = Mesh()
    client, _, backends = shop(mesh)
    mesh.service("west", "front", [client])
    for _ in range(20):
        port = mesh.call(client, backends["east"][0], lost_arrival=True)
        mesh.arrive(client, backends["east"][0], (port, 8080))
    kubeadm_ranges(mesh, "delegated-plugin")
    strip_identities(mesh)

    assert row(answer(mesh, "nat"))["untranslated"] == 20


def overlap(mesh: Mesh, cluster: str, cidr: str) -> None:
    """Give the nodes of a cluster one more range."""
    for one in mesh.objects[cluster]:
        if one["kind"] == "Node":
            one["spec"]["podCIDRs"].append(cidr)


def test_an_overlap_of_other_clusters_silences_nobody(answer: Callable[..., Report]) -> None:
    """Only a pair whose own addresses are in ranges of both is not judged."""
    mesh = Mesh(clusters={"west": 1, "east": 2, "slate": 3, "umber": 4})
    client, _, backends = shop(mesh)
    for _ in range(20):
        mesh.call(client, backends["east"][0], masquerade=True)
        mesh.call(backends["slate"][0], backends["umber"][0])
    overlap(mesh, "umber", "10.2.0.0/16")

    nat = answer(mesh, "nat")

    assert (row(nat)["verdict"], row(nat)["cause"]) == ("violation", "masquerade")
    told = row(nat, "slate", "umber")
    assert (told["verdict"], told["cause"]) == ("insufficient", "overlapping-pod-cidrs")
    assert "slate and umber overlap: 10.2.1." in told["reason"]


@pytest.mark.parametrize(
    ("cidr", "verdict"), [("fd00:10:0::/48", "insufficient"), ("fd00:10:7::/48", "ok"), ("fd00:10::/120", "ok")]
)
def test_ipv6_ranges_overlap_as_well(answer: Callable[..., Report], cidr: str, verdict: str) -> None:
    """Ranges are compared in both families, and only where addresses in use are."""
    mesh = Mesh()
    mesh.pods["fd00:10:0:1::5"] = ("west", "west-1", "front")
    mesh.pods["fd00:10:1:1::7"] = ("east", "east-1", "back")
    mesh.service("east", "back", ["fd00:10:1:1::7"], annotations=GLOBAL)
    for _ in range(20):
        mesh.call("fd00:10:0:1::5", "fd00:10:1:1::7")
    overlap(mesh, "west", "fd00:10:0::/48")
    overlap(mesh, "east", "fd00:10:1::/48")
    overlap(mesh, "east", cidr)

    assert row(answer(mesh, "nat"))["verdict"] == verdict


def test_who_may_be_of_two_clusters_is_not_from_outside(answer: Callable[..., Report]) -> None:
    """Without an identity an address in ranges of two clusters is not known to be of the world."""
    mesh = Mesh(clusters={"west": 1, "east": 2, "slate": 3})
    client, _, backends = shop(mesh)
    for n in range(20):
        mesh.arrive(client, backends["east"][0], (40_000 + n, 8080))
    overlap(mesh, "slate", "10.0.0.0/16")
    strip_identities(mesh)

    told = row(answer(mesh, "nat"), "")

    assert (told["verdict"], told["cause"]) == ("insufficient", "overlapping-pod-cidrs")
    assert "slate and west overlap" in told["reason"]


def through_a_gateway(
    mesh: Mesh, count: int, seen: str = GATEWAY, shift: int = 0, first: int = 41_001, **more: Any
) -> None:
    """Call a pod of east from west through something that gives the calls another address, and moves ports by `shift`."""
    client, _, backends = shop(mesh)
    for n in range(count):
        mesh.leave(client, backends["east"][0], (first + n * (first > 1024), 8080), **more)
        mesh.arrive(seen, backends["east"][0], (first + n * (first > 1024) + shift, 8080), later=0.001, **more)
        mesh.now += 5 * 10**8
    mesh.now += 2 * 10**9
    mesh.call(backends["west"][0], backends["west"][1])


def test_a_translator_between_clusters_is_found(answer: Callable[..., Report]) -> None:
    """40 of 40 left and arrived with the same ports under an address that is no node's (cilium/cilium#33822)."""
    mesh = Mesh()
    through_a_gateway(mesh, 40)

    nat = answer(mesh, "nat")

    found = row(nat)
    assert (found["verdict"], found["cause"]) == ("violation", "translated-between")
    assert (found["connections"], found["translated"], found["one_sided"], found["seen_as"]) == (40, 40, 0, [GATEWAY])
    assert "something between west and east translates" in found["reason"]
    assert [one["source_cluster"] for one in nat.rows.rows(named=True)] == ["west"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"count": 2}, id="two may be chance"),
        pytest.param({"count": 40, "shift": 20_007}, id="the ports are changed as well"),
        pytest.param({"count": 40, "shift": 7}, id="ports in turn that are those of other calls"),
        pytest.param({"count": 40, "shift": 1}, id="ports in turn that are those of the next call"),
        pytest.param({"count": 40, "first": 500}, id="a port that is chosen, not drawn"),
        pytest.param({"count": 40, "protocol": "ICMP"}, id="nothing but time"),
    ],
)
def test_nearness_is_no_translation(answer: Callable[..., Report], change: dict[str, Any]) -> None:
    """Where ports do not tie both ends, what left is one-sided and what came is from outside."""
    mesh = Mesh()
    through_a_gateway(mesh, **change)

    nat = answer(mesh, "nat")

    found = row(nat)
    assert (found["verdict"], found["cause"], found["translated"]) == ("insufficient", "lost-between", 0)
    assert row(nat, "")["connections"] == change["count"]


def test_many_callers_from_outside_make_no_translator(answer: Callable[..., Report]) -> None:
    """A busy server meets the ports of calls that got lost by chance: no more often than that."""
    mesh = Mesh()
    client, _, backends = shop(mesh)
    for n in range(600):
        mesh.leave(client, backends["east"][0], (33_000 + n * 31 % 20_000, 8080))
        # 4 of 600 by chance, where 600 * 600 / 28232 = 12 would be no wonder.
        port = 33_000 + n * 31 % 20_000 if n % 150 == 0 else 33_001 + n * 62 % 20_000
        mesh.arrive(OUTSIDE, backends["east"][0], (port, 8080))
        mesh.now += 10**6
    mesh.now += 2 * 10**9
    mesh.call(backends["west"][0], backends["west"][1])

    found = row(answer(mesh, "nat"))

    assert (found["cause"], found["translated"]) == ("lost-between", 0)


def test_a_translator_is_found_under_load(answer: Callable[..., Report]) -> None:
    """Where the nearest in time is seldom the other end, that many clients and backends have the same ports tells."""
    mesh = Mesh(aggregation="medium")
    clients = [mesh.pod("west", f"front-{n}", 1 + n % 2) for n in range(6)]
    backends = [mesh.pod("east", f"back-{n}", 1 + n % 2) for n in range(3)]
    for n in range(300):
        client, backend, port = clients[n % 6], backends[n // 6 % 3], 33_000 + n * 7919 % 27_000
        mesh.leave(client, backend, (port, 8080))
        mesh.arrive(f"198.51.100.{n % 8}", backend, (port, 8080), later=(n * 37 % 200 - 100) / 1000)
        mesh.now += 10**7
    mesh.now += 2 * 10**9
    mesh.call(backends[0], backends[1])

    found = row(answer(mesh, "nat"))

    assert (found["cause"], found["translated"]) == ("translated-between", 300)


def test_an_egress_gateway_is_named(answer: Callable[..., Report]) -> None:
    """Under the address of another node of the client's cluster: the port tells, and the reason names the node."""
    mesh = Mesh()
    through_a_gateway(mesh, 20, seen=mesh.node("west", 2))

    found = row(answer(mesh, "nat"))

    assert (found["verdict"], found["cause"], found["translated"]) == ("violation", "translated-between", 20)
    assert "it is that of west/west-2, which is not where these pods run" in found["reason"]


@pytest.mark.parametrize(
    ("labels", "cause"),
    [
        (["cidr:198.51.100.9/32", "reserved:world"], "translated-between"),
        (["cidr:198.51.100.9/32", "reserved:remote-node"], "masquerade"),
        (["reserved:kube-apiserver", "reserved:remote-node"], "masquerade"),
    ],
)
def test_an_identity_of_a_range_is_no_node(answer: Callable[..., Report], labels: list[str], cause: str) -> None:
    """Identities that are local to a node stand for nodes or for ranges that policies name: their labels tell."""
    mesh = Mesh()
    through_a_gateway(mesh, 40)
    for message in mesh.messages:
        if message.flow.IP.source == GATEWAY:
            message.flow.source.identity = (2 << 24) + 7
            message.flow.source.labels.extend(labels)

    assert row(answer(mesh, "nat"))["cause"] == cause


@pytest.mark.parametrize("report", ["nat", "hops"])
def test_one_sided_names_why_they_were_not_seen(answer: Callable[..., Report], report: str) -> None:
    """Unwatched nodes, lost events and nothing at all are different reasons."""
    watched, blind, lossy = Mesh(), Mesh(), Mesh()
    blind.unavailable("east/east-1")
    for mesh in (watched, blind, lossy):
        crossing(mesh, 20, lost_arrival=True)
        if mesh is lossy:
            mesh.lose("east/east-1", 500)
        mesh.now += 2 * 10**9
        for cluster in mesh.clusters:
            mesh.call(*[pod for pod, home in mesh.pods.items() if home[0] == cluster][-2:])

    found = [row(answer(mesh, report)) for mesh in (watched, blind, lossy)]

    assert [one["verdict"] for one in found] == ["insufficient"] * 3
    # To a node that is not watched what left is a call, as far as hops goes.
    unwatched = "unwatched-nodes" if report == "hops" else "one-sided"
    assert [one["cause"] for one in found] == ["lost-between", unwatched, "one-sided"]
    assert "nothing explains it in east" in found[0]["reason"]
    assert "not watched: east/east-1" in found[1]["reason"]
    assert "500 events of east/east-1 were lost" in found[2]["reason"]


def node_without_agent(mesh: Mesh, name: str = "win-1", **metadata: Any) -> dict[str, Any]:
    """Add a Node to west on which Cilium does not run, and CiliumNodes to the others."""
    for objects in mesh.objects.values():
        objects += [
            {
                "kind": "CiliumNode",
                "metadata": {"name": one["metadata"]["name"]},
                "spec": {"ipam": {"podCIDRs": one["spec"]["podCIDRs"]}},
            }
            for one in objects
            if one["kind"] == "Node"
        ]
    node = {
        "kind": "Node",
        "metadata": {"name": name, **metadata},
        "spec": {},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.255.99"}]},
    }
    mesh.objects["west"].append(node)
    return node


def at_home(mesh: Mesh) -> dict[str, list[str]]:
    """Call a service with affinity local, and pods of east."""
    client, address, backends = shop(mesh, LOCAL)
    for n in range(60):
        mesh.call(client, backends["west"][n % 2], aim=(address, 80))
        mesh.call(client, backends["east"][n % 2])
    return backends


NO_AGENT: dict[str, tuple[dict[str, Any], bool]] = {
    "no CiliumNode": ({}, True),
    "Windows": ({"labels": {"kubernetes.io/os": "windows"}}, False),
    "virtual kubelet": ({"labels": {"type": "virtual-kubelet"}}, False),
    "Fargate": ({"labels": {"eks.amazonaws.com/compute-type": "fargate"}}, False),
}


@pytest.mark.parametrize("why", NO_AGENT)
def test_nodes_without_an_agent_silence_nobody(answer: Callable[..., Report], why: str) -> None:
    """Nobody can watch them: reports say so, and go on (cilium/cilium#31873)."""
    metadata, cilium_nodes = NO_AGENT[why]
    mesh = Mesh()
    at_home(mesh)
    node_without_agent(mesh, **metadata)
    if not cilium_nodes:
        for objects in mesh.objects.values():
            objects[:] = [one for one in objects if one["kind"] != "CiliumNode"]

    reports = {name: answer(mesh, name) for name in ("affinity", "nat", "hops", "coverage")}

    assert {name: report.verdict.value for name, report in reports.items()} == dict.fromkeys(reports, "ok")
    assert all("1 node runs no Cilium agent: west/win-1" in report.limits[0] for report in reports.values())
    (told,) = (one for one in reports["coverage"].rows.rows(named=True) if one["node"] == "win-1")
    assert (told["cause"], f"runs no Cilium agent ({why})" in told["reason"]) == ("no-agent", True)


def test_an_agent_that_is_away_is_expected(answer: Callable[..., Report]) -> None:
    """A CiliumNode, a Relay or an identity of its pods tell of an agent; without CiliumNodes every Node may have one."""
    unknown, known, named, managed = Mesh(), Mesh(), Mesh(), Mesh()
    for mesh in (unknown, known, named, managed):
        backends = at_home(mesh)
        node_without_agent(mesh)
    for objects in unknown.objects.values():
        objects[:] = [one for one in objects if one["kind"] != "CiliumNode"]
    known.objects["west"].append({"kind": "CiliumNode", "metadata": {"name": "win-1"}, "spec": {}})
    named.status("NODE_UNAVAILABLE", "west/win-1", at=START)
    # Its backend has an identity, and nothing of its node is there.
    managed.pods["10.0.9.9"] = ("west", "win-1", "back-9")
    managed.service("west", "far", ["10.0.9.9"])
    managed.silent.add("west/win-1")
    for _ in range(20):
        managed.call(backends["east"][0], "10.0.9.9")

    for mesh in (unknown, known, named, managed):
        (told,) = (one for one in answer(mesh, "coverage").rows.rows(named=True) if one["node"] == "win-1")
        assert (told["verdict"], told["cause"]) == ("insufficient", "gaps" if mesh is named else "unwatched-node")


@pytest.mark.parametrize("who", ["backend", "client"])
def test_a_service_with_somebody_there_is_not_judged(answer: Callable[..., Report], who: str) -> None:
    """What a client without agent chooses shows nowhere; what is sent to a backend without agent shows where it left."""
    mesh = Mesh()
    backends = at_home(mesh)
    node = node_without_agent(mesh, labels={"kubernetes.io/os": "windows"})
    if who == "backend":
        (slices,) = (
            one
            for one in mesh.objects["west"]
            if one["kind"] == "EndpointSlice" and one["metadata"]["name"] == "back-x"
        )
        slices["endpoints"].append({"addresses": ["10.0.9.9"], "nodeName": "win-1", "conditions": {"ready": True}})
    else:
        mesh.arrive(node["status"]["addresses"][0]["address"], backends["west"][0], (40_001, 8080))

    (told,) = answer(mesh, "affinity").rows.rows(named=True)

    if who == "client":
        assert (told["verdict"], told["cause"]) == ("insufficient", "unwatched-nodes")
        assert "west/win-1 (runs no Cilium agent)" in told["reason"]
    else:
        assert told["verdict"] == "ok"
    if who == "backend":
        of_service = answer(mesh, "coverage", namespace="shop", service="back")
        causes = {one["node"]: one["cause"] for one in of_service.rows.rows(named=True)}
        assert causes["win-1"] == "backends-without-agent"


def test_calls_of_backends_without_agent_are_one_sided_for_that_reason(answer: Callable[..., Report]) -> None:
    """Their arrivals show nowhere; the reason names the node."""
    mesh = Mesh()
    client, _, _ = shop(mesh)
    node_without_agent(mesh)
    mesh.objects["east"].append({**mesh.objects["west"].pop(), "metadata": {"name": "fargate-1"}})
    mesh.pods["10.1.9.9"] = ("east", "fargate-1", "back-9")
    mesh.service("east", "far", ["10.1.9.9"])
    del mesh.pods["10.1.9.9"]
    for n in range(20):
        mesh.leave(client, "10.1.9.9", (40_001 + n, 8080))
        mesh.now += 10**8
    mesh.now += 2 * 10**9
    mesh.call(client, next(pod for pod, home in mesh.pods.items() if home[0] == "west" and pod != client))

    found = row(answer(mesh, "nat"))

    assert (found["verdict"], found["cause"]) == ("insufficient", "one-sided")
    assert "backends are on nodes that run no Cilium agent: east/fargate-1" in found["reason"]


def test_hops_that_nothing_proves_against_the_setting_say_why(answer: Callable[..., Report]) -> None:
    """With affinity local set, its reason does not propose to set it."""
    mesh = Mesh(aggregation="medium")
    client, _, backends = shop(mesh, LOCAL)
    for cluster in ("west", "east", "west"):
        mesh.call(client, backends[cluster][0], pause=3)

    found = row(answer(mesh, "hops"))

    assert (found["cause"], found["verdict"]) == ("unknown-door", "insufficient")
    assert "affinity local is set: this breaks the setting, unless they went straight to the pods" in found["reason"]


def test_callers_without_agent_are_named_where_nothing_tells_for_whom_they_call(answer: Callable[..., Report]) -> None:
    """A node without agent calls the other cluster under its own address: ambiguous, and the reason names it."""
    mesh = Mesh()
    backends = at_home(mesh)
    node = node_without_agent(mesh)
    for n in range(20):
        mesh.arrive(node["status"]["addresses"][0]["address"], backends["east"][0], (41_000 + n, 8080))
    mesh.call(backends["west"][0], backends["west"][1])

    found = row(answer(mesh, "nat"), "unknown")

    assert (found["verdict"], found["cause"]) == ("insufficient", "ambiguous")
    assert "no Cilium agent runs on west/win-1" in found["reason"]


def test_backends_without_agent_refute_no_range(answer: Callable[..., Report]) -> None:
    """Cilium gave them no address, so that they say nothing of its ranges."""
    mesh = Mesh()
    crossing(mesh)
    node_without_agent(mesh)
    mesh.pods["172.30.0.9"] = ("west", "win-1", "back-9")
    mesh.service("west", "far", ["172.30.0.9"])
    strip_identities(mesh)
    # Nothing shows that it left: its range alone tells whose the client is.
    mesh.messages = [one for one in mesh.messages if not one.node_name.startswith("west/")]

    assert row(answer(mesh, "nat"))["connections"] == 20


def test_hops_of_a_setting_that_came_later_are_not_excused_by_the_one_before(answer: Callable[..., Report]) -> None:
    """Calls may cross while there is no affinity; those by an unknown door after affinity local was set are undecided."""
    mesh = Mesh(aggregation="medium")
    client, _, backends = shop(mesh)
    mesh.call(client, backends["east"][0], pause=5)
    mesh.change("west", "back", LOCAL, mesh.now)
    mesh.now += 5 * 10**9
    mesh.call(client, backends["east"][0], pause=3)

    found = row(answer(mesh, "hops"))

    assert (found["cause"], found["verdict"]) == ("unknown-door", "insufficient")
    assert "1 of 2 crossed although west had active backends and affinity local is set" in found["reason"]

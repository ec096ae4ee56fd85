"""Every cause that a report can give is in the view `causes`, and a small mesh reaches it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from support.handmade_mesh import GLOBAL, LOCAL, OUTSIDE, START, Mesh, shop
from support.recordings import import_into

from meshobs import catalog, sqlfiles
from meshobs.analyzer import Question, run
from meshobs.store import Store
from meshobs.verdict import Verdict

REMOTE = {**GLOBAL, "service.cilium.io/affinity": "remote"}
LITERAL_NONE = {**GLOBAL, "service.cilium.io/affinity": "none"}
# In which east is no longer watched from a moment on, as a live collection notes it.
WATCH_ENDED = "watch ended"
# In which reports are asked for the shop's service alone.
OF_ONE_SERVICE = "backends without agent"
SETTINGS = ("none", "literal-none", "local", "remote", "not-global")
# Whose cause is made of a setting: `'cause': 'affinity-' || setting`.
_CAUSE = re.compile(r"'cause': '([^']*)'( \|\| setting)?")
# Causes that no case below reaches, each with its reason.
UNREACHED: dict[tuple[str, str], str] = {}


def both_sides(mesh: Mesh, annotations: dict[str, str] = GLOBAL, count: int = 40, **more: Any) -> None:
    """Call the shop's service from west, local and remote backends in turn."""
    client, address, backends = shop(mesh, annotations)
    for n in range(count):
        mesh.call(client, backends["west" if n % 2 else "east"][0], aim=(address, 80), **more)


def one_side(mesh: Mesh, annotations: dict[str, str] = GLOBAL, cluster: str = "west", count: int = 60) -> None:
    """Call the shop's service from west, backends of one cluster only."""
    client, address, backends = shop(mesh, annotations)
    for _ in range(count):
        mesh.call(client, backends[cluster][0], aim=(address, 80))


def wrong_side(mesh: Mesh) -> None:
    """A proved call that affinity local rules out."""
    client, address, backends = shop(mesh, LOCAL)
    for cluster in ("west", "east", "west"):
        mesh.call(client, backends[cluster][0], aim=(address, 80), pause=3)


def by_an_unknown_door(mesh: Mesh, annotations: dict[str, str]) -> None:
    """The same without any sign of which door."""
    mesh.aggregation = "medium"
    client, _, backends = shop(mesh, annotations)
    for cluster in ("west", "east", "west"):
        mesh.call(client, backends[cluster][0], pause=3)


def rivals(mesh: Mesh) -> None:
    """Two services on the same pods, and no sign of which was called."""
    mesh.aggregation = "medium"
    client, _, backends = shop(mesh)
    mesh.service("west", "other", backends["west"])
    mesh.call(client, backends["west"][0])


def with_spec(mesh: Mesh, **spec: str) -> None:
    """A service with a setting of Kubernetes that narrows the choice."""
    client = mesh.pod("west", "front-1")
    backends = [mesh.pod(cluster, "back", 1) for cluster in mesh.clusters]
    addresses = [
        mesh.service(c, "back", [b], annotations=GLOBAL, spec=spec)
        for c, b in zip(mesh.clusters, backends, strict=True)
    ]
    for _ in range(40):
        mesh.call(client, backends[0], aim=(addresses[0], 80))


def objects_of(mesh: Mesh, cluster: str, kind: str) -> list[dict[str, Any]]:
    """Return a cluster's objects of a kind."""
    return [one for one in mesh.objects[cluster] if one["kind"] == kind]


def slices_of_one_cluster(mesh: Mesh) -> None:
    """Services of both clusters, EndpointSlices of one."""
    one_side(mesh, LOCAL)
    for one in objects_of(mesh, "east", "EndpointSlice"):
        mesh.objects["east"].remove(one)


def closed_namespace(mesh: Mesh, annotation: str) -> None:
    """All calls stay, for the other cluster's namespace is annotated."""
    one_side(mesh, GLOBAL)
    (namespace,) = objects_of(mesh, "east", "Namespace")
    namespace["metadata"]["annotations"] = {"clustermesh.cilium.io/global": annotation}


def unseen_namespace(mesh: Mesh) -> None:
    """All calls stay, and no Namespace of the other cluster was seen."""
    one_side(mesh, GLOBAL)
    for one in objects_of(mesh, "east", "Namespace"):
        mesh.objects["east"].remove(one)


def names_of_ports(mesh: Mesh) -> None:
    """All calls stay, for the clusters call the port otherwise."""
    one_side(mesh, GLOBAL)
    for cluster, name in (("west", "http"), ("east", "web")):
        for one in objects_of(mesh, cluster, "EndpointSlice"):
            one["ports"][0]["name"] = name
        for one in objects_of(mesh, cluster, "Service"):
            one["spec"]["ports"][0]["name"] = name


def own_zone(mesh: Mesh) -> None:
    """All calls stay, as the hints of slices and a setting of the Service have it."""
    with_spec(mesh, trafficDistribution="PreferSameZone")
    for cluster in mesh.clusters:
        for one in objects_of(mesh, cluster, "EndpointSlice"):
            one["endpoints"][0]["hints"] = {"forZones": [{"name": f"{cluster}-a"}]}


def fallback(mesh: Mesh) -> None:
    """Affinity local without a local backend that is ready."""
    client = mesh.pod("west", "front-1")
    backends = {cluster: mesh.pod(cluster, "back", 1) for cluster in mesh.clusters}
    address = mesh.service("west", "back", [backends["west"]], annotations=LOCAL, ready=False)
    mesh.service("east", "back", [backends["east"]], annotations=LOCAL)
    for _ in range(20):
        mesh.call(client, backends["east"], aim=(address, 80))


def dropped(mesh: Mesh, arrived: int) -> None:
    """Some attempts that are refused."""
    client, address, backends = shop(mesh, LOCAL)
    for n in range(arrived + 3):
        mesh.call(client, backends["west"][0], aim=(address, 80), dropped=n >= arrived, pause=0.5)


def around_a_change(mesh: Mesh) -> None:
    """Nothing but calls within 2 s of a change."""
    client, address, backends = shop(mesh)
    mesh.change("west", "back", LOCAL, mesh.now + 2 * 10**8)
    for n in range(5):
        mesh.call(client, backends["west"][n % 2], aim=(address, 80))


def crossed_around_a_change(mesh: Mesh, annotations: dict[str, str]) -> None:
    """Calls that crossed within 2 s of a change that is to keep them at home."""
    client, address, backends = shop(mesh)
    mesh.change("west", "back", annotations, mesh.now + 2 * 10**8)
    for n in range(5):
        mesh.call(client, backends["east"][n % 2], aim=(address, 80))


def lost(mesh: Mesh) -> None:
    """Many events lost."""
    both_sides(mesh)
    mesh.lose("east/east-1", 500)
    mesh.call("10.0.1.10", "10.0.1.11")


def gap(mesh: Mesh, *nodes: str) -> None:
    """Nodes that fail for a while."""
    client, address, backends = shop(mesh, LOCAL)
    for n in range(40):
        if n == 20:
            mesh.status("NODE_ERROR", *nodes, text="transport is closing")
            mesh.now += 5 * 10**9
        mesh.call(client, backends["west"][n % 2], aim=(address, 80))
        mesh.call(client, backends["east"][n % 2])


def blind(mesh: Mesh, *nodes: str) -> None:
    """Nodes out of sight that nothing shows to be missed."""
    both_sides(mesh)
    mesh.unavailable(*nodes)


def blind_far_side(mesh: Mesh) -> None:
    """What crosses is never seen to arrive."""
    mesh.aggregation = "medium"
    client, address, backends = shop(mesh, LOCAL)
    mesh.unavailable("east/east-1", "east/east-2")
    for cluster in ["west", "east"] * 10 + ["west", "west"]:
        mesh.call(client, backends[cluster][0], aim=(address, 80), pause=0.5)


def blind_near_side(mesh: Mesh) -> None:
    """Calls under a node's address, and nothing of that node."""
    mesh.aggregation = "medium"
    client, _, backends = shop(mesh)
    mesh.unavailable("west/west-1", "west/west-2")
    for _ in range(10):
        mesh.call(client, backends["east"][0], masquerade=True)


def node_port(mesh: Mesh) -> None:
    """A NodePort of the other cluster, which answers under its own address."""
    mesh.aggregation = "medium"
    client, _, backends = shop(mesh)
    mesh.service("east", "door", backends["east"], node_port=30080)
    for n in range(10):
        mesh.leave(client, mesh.node("east"), (45_000 + n, 30080))
        mesh.arrive(mesh.node("east"), backends["east"][1], (61_000 + n, 8080), later=0.03)
        mesh.now += 25 * 10**8


def node_port_answered_at_home(mesh: Mesh, annotations: dict[str, str]) -> None:
    """The other cluster's NodePort is called, the own cluster answers (cilium/cilium#24692)."""
    client = mesh.pod("west", "front-1")
    backends = {cluster: mesh.pod(cluster, "back", 2) for cluster in mesh.clusters}
    for cluster in mesh.clusters:
        mesh.service(cluster, "door", [backends[cluster]], node_port=30080, annotations=annotations)
    for _ in range(10):
        mesh.call(client, backends["west"], aim=(mesh.node("east"), 30080))


def trombone(mesh: Mesh) -> None:
    """Out through the other cluster's node and back."""
    client, _, backends = shop(mesh)
    far = mesh.node("east")
    for cluster in mesh.clusters:
        mesh.service(cluster, "door", backends[cluster], node_port=30080, annotations=GLOBAL)
    for n in range(5):
        mesh.leave(client, far, (45_000 + n, 30080))
        mesh.passes(far, client, backends["west"][1], (45_000 + n, 8080), node_port=30080)
        mesh.arrive(far, backends["west"][1], (45_000 + n, 8080), later=0.03)
        mesh.now += 3 * 10**8


def hairpin(mesh: Mesh) -> None:
    """Out to a balancer and back in."""
    client, _, backends = shop(mesh)
    mesh.service("west", "door", backends["west"], node_port=30080)
    for n in range(5):
        node = mesh.node("west")
        mesh.leave(client, OUTSIDE, (45_000 + n, 80))
        mesh.passes(node, OUTSIDE, backends["west"][1], (50_000 + n, 8080), node_port=30080)
        mesh.arrive(node, backends["west"][1], (50_000 + n, 8080), later=0.025)
        mesh.now += 3 * 10**8


def never_arrived(mesh: Mesh) -> None:
    """Half of what crosses never shows at the other end, where a node is not watched."""
    client, address, backends = shop(mesh)
    mesh.unavailable("east/east-2")
    for n in range(40):
        mesh.call(client, backends[("west", "east")[n % 2]][0], aim=(address, 80), lost_arrival=n % 4 == 1)


def backends_on_hosts(mesh: Mesh) -> None:
    """Backends that give no arrival, and clients of which nothing but arrivals shows."""
    mesh.aggregation = "medium"
    client, near = mesh.pod("west", "front-1"), mesh.pod("west", "back", 1)
    mesh.service("west", "back", [near], annotations=LOCAL)
    mesh.service("east", "back", [mesh.node("east")], annotations=LOCAL)
    for _ in range(20):
        mesh.call(client, near)


def calls_to_itself(mesh: Mesh) -> None:
    """A client that is a backend, and no sign of what it was led to itself."""
    mesh.aggregation = "medium"
    _, _, backends = shop(mesh)
    for n in range(20):
        mesh.call(backends["west"][0], backends[("west", "east")[n % 2]][1])


def through_envoy(mesh: Mesh) -> None:
    """An Ingress whose Envoy sends calls across."""
    _, _, backends = shop(mesh)
    envoy = mesh.envoy("west")
    for n in range(10):
        ports = (51_000 + n, 8080)
        mesh.event("west/west-1", "TO_NETWORK", envoy, backends["east"][0], ports, reason="NEW", reply=False)
        mesh.arrive(envoy, backends["east"][0], ports)
        mesh.now += 3 * 10**8


def hidden_callers(mesh: Mesh) -> None:
    """Calls that kube-proxy lets in under its node's address, each just after a pod's call by that service's port outside."""
    mesh.aggregation = "medium"
    client, _, backends = shop(mesh)
    mesh.service("west", "door", [backends["west"][1]], node_port=30080)
    for n in range(20):
        mesh.leave(client, OUTSIDE, (45_000 + n, 80))
        mesh.arrive(mesh.node("west"), backends["west"][1], (61_000 + n, 8080), later=0.03)
        mesh.now += 3 * 10**8


def called_back(mesh: Mesh) -> None:
    """A host outside that is called and at once calls a pod."""
    client, _, backends = shop(mesh)
    for n in range(20):
        mesh.leave(client, OUTSIDE, (45_000 + n, 443))
        mesh.arrive(OUTSIDE, backends["west"][1], (50_000 + n, 8080))
        mesh.now += 3 * 10**8


def overlapping_ranges(mesh: Mesh) -> None:
    """Pod ranges that do not tell clusters apart."""
    both_sides(mesh)
    for one in mesh.objects["east"]:
        if one["kind"] == "Node":
            one["spec"]["podCIDRs"].append("10.0.0.0/16")


def without_arrivals(mesh: Mesh, seen: str = "") -> None:
    """What crosses is not seen to arrive though all is watched; or arrives under another address, by the same ports."""
    client, address, backends = shop(mesh)
    for _ in range(20):
        port = mesh.call(client, backends["east"][0], aim=(address, 80), lost_arrival=True)
        if seen:
            mesh.arrive(seen, backends["east"][0], (port, 8080), later=-0.19)
    mesh.call(client, backends["west"][1], pause=3)
    mesh.call(backends["east"][1], backends["east"][0])


def without_agent(mesh: Mesh) -> None:
    """A node on which Cilium does not run."""
    both_sides(mesh)
    status = {"addresses": [{"type": "InternalIP", "address": "10.0.255.9"}]}
    metadata = {"name": "win-1", "labels": {"kubernetes.io/os": "windows"}}
    mesh.objects["west"].append({"kind": "Node", "metadata": metadata, "spec": {}, "status": status})


def backends_without_agent(mesh: Mesh) -> None:
    """The same with a backend of the shop there."""
    without_agent(mesh)
    (slices,) = (one for one in mesh.objects["west"] if one["kind"] == "EndpointSlice")
    slices["endpoints"].append({"addresses": ["10.0.9.9"], "nodeName": "win-1", "conditions": {"ready": True}})


def slow_clock(mesh: Mesh) -> None:
    """All of west is four minutes behind."""
    both_sides(mesh)
    for message in mesh.messages:
        if message.node_name.startswith("west/"):
            message.time.seconds -= 240
            message.flow.time.seconds -= 240


def without(mesh: Mesh, cluster: str, *kinds: str) -> None:
    """Objects of some kinds are not known of a cluster."""
    both_sides(mesh)
    mesh.objects[cluster] = [one for one in mesh.objects[cluster] if one["kind"] not in kinds]


def only_in_west(mesh: Mesh) -> None:
    """A global service that the other cluster does not have."""
    client, back = mesh.pod("west", "front"), mesh.pod("west", "back")
    mesh.service("east", "other", [])
    mesh.call(client, back, aim=(mesh.service("west", "back", [back], annotations=GLOBAL), 80))


def masked(mesh: Mesh) -> None:
    """Flows of a log whose mask leaves out the flags of TCP."""
    both_sides(mesh)
    for message in mesh.messages:
        if message.HasField("flow"):
            message.flow.l4.TCP.ClearField("flags")


def without_objects(mesh: Mesh) -> None:
    """Nothing is known of any cluster's objects; Hubble names the service that sockets aimed at."""
    both_sides(mesh)
    mesh.objects = {}
    for message in mesh.messages:
        if (message.flow.event_type.type, message.flow.event_type.sub_type) == (7, 1):
            message.flow.destination_service.namespace, message.flow.destination_service.name = "shop", "back"


def on_cilium(version: str, mesh: Mesh) -> None:
    """The literal affinity none where Cilium takes it for local."""
    mesh.version = version
    one_side(mesh, LITERAL_NONE)


CASES: dict[str, tuple[Callable[[Mesh], None], dict[str, set[str]]]] = {
    "both sides": (both_sides, {"affinity": {""}, "nat": {""}, "hops": {"", "affinity-none"}, "coverage": {""}, "services": {""}}),
    "one side": (one_side, {"affinity": {"unbalanced"}}),
    "a few calls": (lambda mesh: both_sides(mesh, count=6), {"affinity": {"small-sample"}}),
    "wrong side": (wrong_side, {"affinity": {"against-setting"}, "hops": {"", "against-setting"}}),
    "unknown door": (
        lambda mesh: by_an_unknown_door(mesh, LOCAL),
        {"affinity": {"unknown-door"}, "hops": {"", "unknown-door"}},
    ),
    "not global": (lambda mesh: by_an_unknown_door(mesh, {}), {"hops": {"", "unknown-door"}}),
    "remote": (lambda mesh: one_side(mesh, REMOTE, "east", 5), {"hops": {"affinity-remote"}}),
    "literal none": (lambda mesh: both_sides(mesh, LITERAL_NONE), {"hops": {"", "affinity-literal-none"}}),
    "literal none in 1.19.4": (lambda mesh: on_cilium("1.19.4", mesh), {"affinity": {"known-bug:46623"}}),
    "rivals": (rivals, {"affinity": {"rival-services"}}),
    "sticky clients": (lambda mesh: with_spec(mesh, sessionAffinity="ClientIP"), {"affinity": {"session-affinity"}}),
    "slices of one cluster": (slices_of_one_cluster, {"affinity": {"unknown-backends"}}),
    "closed namespace": (lambda mesh: closed_namespace(mesh, "false"), {"affinity": {"namespace-not-global"}}),
    "unseen namespace": (unseen_namespace, {"affinity": {"unknown-namespace"}}),
    "names of ports": (names_of_ports, {"affinity": {"port-names-differ"}}),
    "own zone": (own_zone, {"affinity": {"traffic-distribution"}}),
    "fallback": (fallback, {"affinity": {"legal-fallback"}}),
    "some dropped": (lambda mesh: dropped(mesh, 20), {"affinity": {"policy-drops"}, "hops": {"policy-drops"}}),
    "all dropped": (lambda mesh: dropped(mesh, 0), {"affinity": {"no-connections"}}),
    "around a change": (around_a_change, {"affinity": {"unsettled"}}),
    "just made local": (lambda mesh: crossed_around_a_change(mesh, LOCAL), {"hops": {"affinity-local"}}),
    "just closed": (lambda mesh: crossed_around_a_change(mesh, {}), {"hops": {"affinity-not-global"}}),
    "lost": (lost, {report: {"lost-events"} for report in ("affinity", "nat", "hops")} | {"coverage": {"", "lost-events"}}),
    "gap": (
        lambda mesh: gap(mesh, "west/west-2", "east/east-2"),
        {"affinity": {"gaps"}, "nat": {"gaps"}, "hops": {"gaps"}, "coverage": {"", "gaps"}},
    ),
    "blind": (
        lambda mesh: blind(mesh, "west/west-2", "east/east-2"),
        {report: {"unwatched-nodes"} for report in ("affinity", "nat", "hops")} | {"coverage": {"", "unwatched-node"}},
    ),
    "blind far side": (
        blind_far_side,
        {"affinity": {"against-setting"}, "nat": {"one-sided"}, "hops": {"", "against-setting"}},
    ),
    "never arrived": (never_arrived, {"affinity": {"one-sided"}, "hops": {"", "one-sided"}}),
    "backends on hosts": (backends_on_hosts, {"affinity": {"unseen-backends"}}),
    "calls to itself": (calls_to_itself, {"affinity": {"calls-to-itself"}}),
    "Envoy": (through_envoy, {"hops": {"ingress"}}),
    "hidden callers": (hidden_callers, {"hops": {"hidden-callers"}}),
    "called back": (called_back, {"hops": {"possible-hairpin"}}),
    "blind near side": (blind_near_side, {"nat": {"ambiguous"}}),
    "masquerade": (lambda mesh: both_sides(mesh, masquerade=True), {"nat": {"masquerade"}}),
    "overlapping ranges": (overlapping_ranges, {"nat": {"overlapping-pod-cidrs"}}),
    "not seen to arrive": (without_arrivals, {"nat": {"lost-between"}, "hops": {"", "lost-between"}}),
    "translated between": (lambda mesh: without_arrivals(mesh, OUTSIDE), {"nat": {"translated-between"}}),
    "no agent": (without_agent, {"affinity": {""}, "coverage": {"", "no-agent"}}),
    OF_ONE_SERVICE: (backends_without_agent, {"coverage": {"", "backends-without-agent"}}),
    "NodePort": (node_port, {"nat": {"nodeport"}}),
    "NodePort answered at home": (
        lambda mesh: node_port_answered_at_home(mesh, {}), {"hops": {"known-bug:24692"}}
    ),
    "global NodePort answered at home": (
        lambda mesh: node_port_answered_at_home(mesh, GLOBAL), {"hops": {"known-bug:24692"}}
    ),
    "trombone": (trombone, {"hops": {"trombone"}}),
    "hairpin": (hairpin, {"hops": {"hairpin"}}),
    "masked": (masked, {report: {"missing-fields"} for report in ("affinity", "nat", "hops")} | {"coverage": {"", "missing-fields"}}),
    "slow clock": (slow_clock, {"coverage": {"", "clock-skew"}}),
    "no objects of east": (lambda mesh: without(mesh, "east", "Service", "EndpointSlice"), {"affinity": {"unknown-objects"}, "services": {"", "unknown-objects"}}),
    "no backends of east": (lambda mesh: without(mesh, "east", "EndpointSlice"), {"services": {"", "unknown-backends"}}),
    "only in west": (only_in_west, {"services": {"", "absent"}}),
    WATCH_ENDED: (both_sides, {"services": {"", "watch-ended"}}),
    "no objects": (without_objects, {"affinity": {"unknown-setting"}}),
}  # fmt: skip
# Known from a look taken afterwards only.
LOOKED_AFTERWARDS: dict[str, tuple[Callable[[Mesh], None], dict[str, set[str]]]] = {
    "assumed": (
        lambda mesh: one_side(mesh, LOCAL, "east", 20),
        {"affinity": {"assumed-setting"}, "hops": {"assumed-setting"}, "services": {"assumed-state"}},
    ),
}


@pytest.fixture(scope="module")
def causes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], list[dict[str, str]]]:
    """Return the rows of the view, by report and cause, as a DuckDB that never heard of meshobs reads them."""
    db = tmp_path_factory.mktemp("causes") / "meshobs.duckdb"
    Store.open(db, write=True).close()
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    with duckdb.connect(str(db), read_only=True) as connection:
        names = ("report", "cause", "verdict", "meaning", "cure")
        for values in connection.execute(f"select {', '.join(names)} from causes").fetchall():
            row: dict[str, str] = dict(zip(names, values, strict=True))
            found.setdefault((row["report"], row["cause"]), []).append(row)
    return found


def test_the_view_holds_what_the_reports_can_say(causes: dict[tuple[str, str], list[dict[str, str]]]) -> None:
    """No report gives a cause that the view does not explain, and the view explains none that is never given."""
    given = {
        (report, cause + setting)
        for report in catalog.names()
        for cause, of_setting in _CAUSE.findall(sqlfiles.read(f"queries/reports/{report}.sql"))
        for setting in (SETTINGS if of_setting else ("",))
    }

    assert len(given) > 40
    assert set(causes) == given


def test_every_cause_has_one_verdict_a_meaning_and_what_to_do(
    causes: dict[tuple[str, str], list[dict[str, str]]],
) -> None:
    """Only one known bug may be both; where nothing is wrong there may be nothing to do."""
    doubled = {key for key, rows in causes.items() if len(rows) > 1}
    rows = [row for found in causes.values() for row in found]

    assert doubled == {("hops", "known-bug:24692")}
    assert all(row["meaning"] for row in rows)
    assert all(row["cure"] for row in rows if row["verdict"] != Verdict.OK.value)
    assert {row["verdict"] for row in rows} == {verdict.value for verdict in Verdict}
    assert all(key[1] or found[0]["verdict"] == Verdict.OK.value for key, found in causes.items())


@pytest.mark.parametrize("name", [*CASES, *LOOKED_AFTERWARDS])
def test_a_mesh_reaches_the_cause(
    name: str, tmp_path: Path, causes: dict[tuple[str, str], list[dict[str, str]]]
) -> None:
    """Each report gives the causes that the mesh was made for, with the verdict of the view."""
    build, expected = {**CASES, **LOOKED_AFTERWARDS}[name]
    mesh = Mesh()
    build(mesh)
    db = tmp_path / "meshobs.duckdb"
    import_into(db, mesh.write(tmp_path / "recording", watched=name in CASES))

    found: dict[str, set[str]] = {}
    with Store.open(db, write=True) as store:
        if name == WATCH_ENDED:
            store.run("update collections set kind = 'collect'")
            for cluster, seconds in (("west", 60), ("east", 3)):
                store.run("insert into watches values (?, make_timestamp_ns(?))", [cluster, START + seconds * 10**9])
        for report in expected:
            asked = Question(namespace="shop", service="back") if name == OF_ONE_SERVICE else Question()
            for row in run(store, report, asked).rows.rows(named=True):
                found.setdefault(report, set()).add(row["cause"])
                assert row["verdict"] in {one["verdict"] for one in causes[report, row["cause"]]}, row

    assert found == expected


def test_a_cause_that_no_mesh_reaches_is_named(causes: dict[tuple[str, str], list[dict[str, str]]]) -> None:
    """What no case reaches stands in a list of its own."""
    reached = {
        (report, cause)
        for _, expected in {**CASES, **LOOKED_AFTERWARDS}.values()
        for report, found in expected.items()
        for cause in found
    }

    assert set(causes) - reached == set(UNREACHED)

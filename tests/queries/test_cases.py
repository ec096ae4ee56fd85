"""Cases that no recording has, answers known by hand: doors, rivals, outside balancers, blind sides, unknown settings."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.handmade_mesh import GLOBAL, LOCAL, OUTSIDE, SECOND, START, Mesh, shop
from support.recordings import import_into

from meshobs.analyzer import Question, Report, crossings, render, run
from meshobs.store import Store
from meshobs.times import rfc3339


@pytest.fixture
def answer(tmp_path: Path) -> Callable[..., Report]:
    """Return a function that imports a mesh and answers one report."""

    def answered(mesh: Mesh, report: str, *, watched: bool = True, **more: Any) -> Report:
        db = tmp_path / f"{len(list(tmp_path.iterdir()))}.duckdb"
        import_into(db, mesh.write(tmp_path / f"{db.stem}-recording", watched=watched))
        with Store.open(db) as store:
            return run(store, report, Question(**more))

    return answered


def only(report: Report) -> dict[str, Any]:
    """Return a report's only row."""
    (row,) = report.rows.rows(named=True)
    return dict(row)


def test_one_proved_call_to_the_wrong_side_breaks_affinity_local(answer: Callable[..., Report]) -> None:
    """A setting that picks a side needs no statistics to be broken."""
    mesh = Mesh()
    client, address, backends = shop(mesh, LOCAL)
    for n in range(20):
        mesh.call(client, backends["west"][n % 2], aim=(address, 80))
    mesh.call(client, backends["east"][0], aim=(address, 80))
    mesh.call(client, backends["west"][0], aim=(address, 80), pause=3)
    mesh.call(client, backends["west"][0], aim=(address, 80))

    row = only(answer(mesh, "affinity"))

    assert (row["verdict"], row["cause"], row["violations"], row["remote"]) == ("violation", "against-setting", 1, 1)


def test_unknown_doors_may_support_ok_but_no_violation(answer: Callable[..., Report]) -> None:
    """At aggregation medium of 1.19 nothing tells a service's call from a direct one."""
    mesh = Mesh(aggregation="medium")
    client, _, backends = shop(mesh, LOCAL)
    for n in range(20):
        mesh.call(client, backends["west"][n % 2])
    calm = only(answer(mesh, "affinity"))
    mesh.call(client, backends["east"][0], pause=3)
    mesh.call(client, backends["west"][0])

    broken = only(answer(mesh, "affinity"))

    assert (calm["verdict"], calm["door_unknown"], calm["connections"]) == ("ok", 20, 20)
    assert "by an unknown door" in calm["reason"]
    assert (broken["verdict"], broken["cause"], broken["violations"]) == ("insufficient", "unknown-door", 1)


def test_unknown_doors_support_nothing_where_calls_go_straight_to_pods(answer: Callable[..., Report]) -> None:
    """Where another service's calls must be direct, or it is broken, an even share of unknown doors is no proof."""
    mesh = Mesh(aggregation="medium")
    client, _, backends = shop(mesh)
    others = {c: [mesh.pod(c, f"other-{n}", n) for n in (1, 2)] for c in mesh.clusters}
    for cluster in mesh.clusters:
        mesh.service(cluster, "other", others[cluster])
    for n in range(60):
        mesh.call(client, others["west" if n % 2 else "east"][n // 2 % 2])
    mesh.call(client, backends["west"][0], pause=3)
    mesh.call(client, backends["west"][0])
    calm = {row["service"]: row["verdict"] for row in answer(mesh, "affinity").rows.rows(named=True)}
    for n in range(40):
        mesh.call(client, backends["east"][n % 2])

    rows = {row["service"]: row for row in answer(mesh, "affinity").rows.rows(named=True)}

    assert calm["other"] == "ok"
    assert {name: (row["verdict"], row["cause"]) for name, row in rows.items()} == dict.fromkeys(
        ("back", "other"), ("insufficient", "unknown-door")
    )


def test_two_services_on_the_same_pods_without_evidence(answer: Callable[..., Report]) -> None:
    """Connections that either may have been called for belong to no row; both services are insufficient."""
    mesh = Mesh(aggregation="medium")
    client, _, backends = shop(mesh)
    mesh.service("west", "other", backends["west"])
    for n in range(30):
        mesh.call(client, backends["west" if n % 2 else "east"][n % 2])

    rows = {row["service"]: row for row in answer(mesh, "affinity").rows.rows(named=True)}

    assert {name: row["verdict"] for name, row in rows.items()} == {"back": "insufficient", "other": "insufficient"}
    assert rows["back"]["cause"] == "rival-services"
    assert rows["back"]["connections"] == 15  # those to east, where `other` does not lead
    assert rows["other"]["connections"] == 0


def test_two_services_on_the_same_pods_with_socket_events(answer: Callable[..., Report]) -> None:
    """What the socket aimed at tells which of them was called."""
    mesh = Mesh()
    client, address, backends = shop(mesh)
    other = mesh.service("west", "other", backends["west"])
    for n in range(40):
        mesh.call(client, backends["west" if n % 2 else "east"][n % 2], aim=(address, 80))
        mesh.call(client, backends["west"][n % 2], aim=(other, 80))

    rows = {row["service"]: row for row in answer(mesh, "affinity").rows.rows(named=True)}

    assert (rows["back"]["local"], rows["back"]["remote"], rows["back"]["verdict"]) == (20, 20, "ok")
    assert (rows["other"]["local"], rows["other"]["remote"], rows["other"]["setting"]) == (40, 0, "not-global")


def test_direct_calls_among_service_calls_in_one_burst(answer: Callable[..., Report]) -> None:
    """Socket events are given out one by one, also when many calls of one pod overlap."""
    mesh = Mesh()
    client, address, backends = shop(mesh)
    for _ in range(25):
        for n in range(8):
            mesh.call(client, backends["east"][0], aim=(address, 80) if n % 2 else None, pause=0.0005)
        mesh.now += 10**8

    hops = {row["door"]: row["connections"] for row in answer(mesh, "hops").rows.rows(named=True)}

    assert hops == {"pod": 100, "service": 100}


def test_packet_load_balancer_tells_by_the_answers(answer: Callable[..., Report]) -> None:
    """Without socket events the ClusterIP in the answers names the service; its absence names a direct call."""
    mesh = Mesh(aggregation="medium")
    client, address, backends = shop(mesh)
    for n in range(30):
        mesh.call(client, backends["west" if n % 2 else "east"][0], aim=(address, 80), packet_lb=True)
        mesh.call(client, backends["east"][1])

    hops: Counter[str] = Counter()
    for each in answer(mesh, "hops").rows.rows(named=True):
        hops[each["door"]] += each["connections"]
    row = only(answer(mesh, "affinity"))

    assert hops == {"service": 30, "pod": 30}
    assert (row["local"], row["remote"], row["door_unknown"], row["verdict"]) == (15, 15, 0, "ok")


@pytest.mark.parametrize("aggregation", ["none", "medium"])
def test_outside_balancer_is_a_hairpin(aggregation: str, answer: Callable[..., Report]) -> None:
    """A pod's call that leaves to an outside balancer and comes back in is one hairpin; it is no violation of nat."""
    mesh = Mesh(aggregation=aggregation)
    client, _, backends = shop(mesh)
    for cluster in mesh.clusters:
        mesh.service(cluster, "door", backends[cluster], node_port=30080)
    for n in range(20):
        cluster = ("west", "east")[n % 2]
        mesh.leave(client, OUTSIDE, (45_000 + n, 80))
        node = mesh.node(cluster, 1)
        mesh.passes(node, OUTSIDE, backends[cluster][1], (50_000 + n, 8080), node_port=30080)
        mesh.arrive(node, backends[cluster][1], (50_000 + n, 8080), later=0.025)
        mesh.now += 3 * 10**8

    hops = answer(mesh, "hops")
    nat = answer(mesh, "nat")

    found = {
        (r["source_cluster"], r["destination_cluster"], r["door"]): r["hairpins"] for r in hops.rows.rows(named=True)
    }
    assert found == {("west", "west", "loadbalancer"): 10, ("west", "east", "loadbalancer"): 10}
    assert hops.verdict.value == "violation"
    assert {row["source_cluster"] for row in nat.rows.rows(named=True)} == {""}
    assert nat.verdict.value == "insufficient"  # nothing of the mesh's own crossed


def come_back(mesh: Mesh, backend: str, n: int) -> None:
    """Let an outside balancer's call come in through the NodePort of a backend's cluster."""
    node = mesh.node(mesh.pods[backend][0], 1)
    mesh.passes(node, OUTSIDE, backend, (50_000 + n, 8080), node_port=30080)
    mesh.arrive(node, backend, (50_000 + n, 8080), later=0.025)


@pytest.mark.parametrize("at_once", [2, 3, 7])
def test_hairpins_of_calls_that_interleave(at_once: int, answer: Callable[..., Report]) -> None:
    """Calls that are out at the same time are each a hairpin, whatever the order in which they come back."""
    mesh = Mesh()
    client, _, backends = shop(mesh)
    for cluster in mesh.clusters:
        mesh.service(cluster, "door", backends[cluster], node_port=30080)
    calls = range(at_once * 6)
    for burst in range(6):
        for n in calls[burst * at_once : (burst + 1) * at_once]:
            mesh.leave(client, OUTSIDE, (45_000 + n, 80))
            mesh.now += 10**6
        mesh.now += 5 * 10**6
        for n in calls[burst * at_once : (burst + 1) * at_once]:
            come_back(mesh, backends[("west", "east")[n % 2]][1], n)
            mesh.now += 2 * 10**6
        mesh.now += 4 * 10**8

    rows = answer(mesh, "hops").rows.rows(named=True)

    assert {(row["source_cluster"], row["door"]) for row in rows} == {("west", "loadbalancer")}
    assert sum(row["hairpins"] for row in rows) == len(calls)


def test_a_call_that_never_came_back_is_no_hairpin_of_someone_else(answer: Callable[..., Report]) -> None:
    """What is left over is put together only as near in time as a balancer passes calls on."""
    mesh = Mesh()
    client, _, backends = shop(mesh)
    for cluster in mesh.clusters:
        mesh.service(cluster, "door", backends[cluster], node_port=30080)
    for n in range(10):
        mesh.leave(client, OUTSIDE, (45_000 + n, 80))  # never comes back
        mesh.now += 5 * 10**8
        mesh.leave(client, OUTSIDE, (46_000 + n, 80))
        come_back(mesh, backends["west"][1], n)
        mesh.now += 5 * 10**8
        come_back(mesh, backends["east"][1], 100 + n)  # someone else's, by the same balancer
        mesh.now += 3 * 10**9

    rows = answer(mesh, "hops").rows.rows(named=True)

    assert {(row["source_cluster"], row["destination_cluster"]): row["hairpins"] for row in rows} == {
        ("west", "west"): 10,
        ("", "east"): 0,
    }


def test_trombone(answer: Callable[..., Report]) -> None:
    """Out through another cluster's node and back: source and destination cluster are equal, the border is passed twice."""
    mesh = Mesh()
    client, _, backends = shop(mesh)
    for cluster in mesh.clusters:
        mesh.service(cluster, "door", backends[cluster], node_port=30080, annotations=GLOBAL)
    far = mesh.node("east", 1)
    for n in range(12):
        mesh.leave(client, far, (45_000 + n, 30080))
        mesh.passes(far, client, backends["west"][1], (45_000 + n, 8080), node_port=30080)
        mesh.arrive(far, backends["west"][1], (45_000 + n, 8080), later=0.03)
        mesh.now += 3 * 10**8

    row = only(answer(mesh, "hops"))

    assert (row["source_cluster"], row["destination_cluster"], row["door"]) == ("west", "west", "nodeport")
    assert (row["connections"], row["trombones"], row["crossings"], row["verdict"]) == (12, 12, 24, "violation")


def test_nodeport_that_changed_the_source_port(answer: Callable[..., Report]) -> None:
    """An ingress node may give another port; where nothing else could be meant, service and time tie the ends."""
    mesh = Mesh(aggregation="medium")
    client, _, backends = shop(mesh)
    mesh.service("east", "door", backends["east"], node_port=30080)
    far = mesh.node("east", 1)
    for n in range(10):
        mesh.leave(client, far, (45_000 + n, 30080))
        mesh.arrive(far, backends["east"][1], (61_000 + n, 8080), later=0.03)
        mesh.now += 25 * 10**8

    row = only(answer(mesh, "nat"))

    assert (row["translated"], row["ambiguous"], row["one_sided"], row["verdict"]) == (10, 0, 0, "ok")
    assert row["cause"] == "nodeport"


def test_node_address_without_a_departure_is_ambiguous(answer: Callable[..., Report]) -> None:
    """A node's address may hide a pod, a process or an outside client; without a trace nothing is said."""
    mesh = Mesh(aggregation="medium")
    client, _, backends = shop(mesh)
    mesh.unavailable("west/west-1", "west/west-2")
    for _ in range(10):
        mesh.call(client, backends["east"][0], masquerade=True)

    row = only(answer(mesh, "nat"))

    assert (row["source_cluster"], row["ambiguous"], row["verdict"]) == ("west", 10, "insufficient")


def test_masquerade_is_proved_by_the_sender_alone(answer: Callable[..., Report]) -> None:
    """At aggregation none the sender's node shows the new source; the blind far side is not needed."""
    mesh = Mesh()
    client, _, backends = shop(mesh)
    mesh.unavailable("east/east-1", "east/east-2")
    for _ in range(10):
        mesh.call(client, backends["east"][0], masquerade=True)
    mesh.call(client, backends["west"][0], pause=3)
    mesh.call(client, backends["west"][0])

    row = only(answer(mesh, "nat"))

    assert (row["translated"], row["one_sided"], row["verdict"]) == (10, 0, "violation")


def test_blind_far_side_is_insufficient_for_nat(answer: Callable[..., Report]) -> None:
    """What left and was never seen to arrive proves nothing for nat; where the sockets were led to breaks the setting."""
    mesh = Mesh(aggregation="medium")
    client, address, backends = shop(mesh, LOCAL)
    mesh.unavailable("east/east-1", "east/east-2")
    for n in range(20):
        mesh.call(client, backends["west" if n % 2 else "east"][0], aim=(address, 80))
    mesh.call(client, backends["west"][0], pause=3)
    mesh.call(client, backends["west"][0])

    nat, affinity = only(answer(mesh, "nat")), only(answer(mesh, "affinity"))

    assert (nat["one_sided"], nat["verdict"], nat["cause"]) == (10, "insufficient", "one-sided")
    assert (affinity["verdict"], affinity["cause"]) == ("violation", "against-setting")
    assert affinity["violations"] == 10


def test_blind_near_side_is_insufficient_for_affinity(answer: Callable[..., Report]) -> None:
    """Without the client's nodes its local calls are not seen: remote ones alone must not look like a violation."""
    mesh = Mesh()
    client, address, backends = shop(mesh, LOCAL)
    mesh.unavailable("west/west-1", "west/west-2")
    for n in range(20):
        mesh.call(client, backends["west" if n % 2 else "east"][0], aim=(address, 80))

    affinity, nat = answer(mesh, "affinity"), only(answer(mesh, "nat"))

    assert affinity.verdict.value == "insufficient"
    assert (nat["untranslated"], nat["verdict"]) == (10, "ok")  # what the far side saw is what the server saw


def test_setting_known_only_from_a_later_look(answer: Callable[..., Report]) -> None:
    """A snapshot says what held at the end; it supports ok, but breaks no one."""
    mesh = Mesh()
    client, address, backends = shop(mesh, LOCAL)
    for n in range(20):
        mesh.call(client, backends["west"][n % 2], aim=(address, 80))
    calm = only(answer(mesh, "affinity", watched=False))
    for _ in range(20):
        mesh.call(client, backends["east"][0], aim=(address, 80))

    broken = only(answer(mesh, "affinity", watched=False))

    assert calm["verdict"] == "ok"
    assert (broken["verdict"], broken["cause"]) == ("insufficient", "assumed-setting")


def test_objects_of_one_cluster_are_missing(answer: Callable[..., Report]) -> None:
    """Without the other cluster's services its backends would look like none: nothing is said."""
    mesh = Mesh()
    client, address, backends = shop(mesh)
    mesh.objects["east"] = [one for one in mesh.objects["east"] if one["kind"] == "Node"]
    for n in range(40):
        mesh.call(client, backends["west" if n % 2 else "east"][0], aim=(address, 80))

    row = only(answer(mesh, "affinity"))

    assert (row["verdict"], row["cause"]) == ("insufficient", "unknown-objects")


def test_reports_without_any_objects(answer: Callable[..., Report]) -> None:
    """Without Kubernetes, pods still name themselves: nat works, affinity says what it does not know."""
    mesh = Mesh()
    client, address, backends = shop(mesh)
    mesh.objects = {}
    for n in range(40):
        mesh.call(client, backends["west" if n % 2 else "east"][0], aim=(address, 80))

    nat, affinity = only(answer(mesh, "nat")), answer(mesh, "affinity")

    assert (nat["untranslated"], nat["verdict"]) == (20, "ok")
    assert affinity.verdict.value == "insufficient"


def test_small_sample_is_insufficient(answer: Callable[..., Report]) -> None:
    """Where even all-on-one-side would be no proof, nothing is said; a few more and it is."""
    verdicts = {}
    for count in (12, 40):
        mesh = Mesh()
        client, address, backends = shop(mesh)
        for n in range(count):
            mesh.call(client, backends["west" if n % 2 else "east"][0], aim=(address, 80))
        verdicts[count] = only(answer(mesh, "affinity"))["verdict"]

    assert verdicts == {12: "insufficient", 40: "ok"}


def test_session_affinity_is_no_free_choice(answer: Callable[..., Report]) -> None:
    """Clients that stick to a backend are no violation of balance."""
    mesh = Mesh()
    client = mesh.pod("west", "front-1")
    backends = [mesh.pod(cluster, "back", 1) for cluster in mesh.clusters]
    spec = {"sessionAffinity": "ClientIP"}
    addresses = [
        mesh.service(c, "back", [b], annotations=GLOBAL, spec=spec)
        for c, b in zip(mesh.clusters, backends, strict=True)
    ]
    for _ in range(60):
        mesh.call(client, backends[0], aim=(addresses[0], 80))

    row = only(answer(mesh, "affinity"))

    assert (row["verdict"], row["cause"]) == ("insufficient", "session-affinity")


def test_lost_events_silence_balance_but_not_facts(answer: Callable[..., Report]) -> None:
    """Loss makes absence worthless; a masquerade that was seen stays seen."""
    mesh = Mesh()
    client, address, backends = shop(mesh)
    for n in range(40):
        mesh.call(client, backends["west" if n % 2 else "east"][0], aim=(address, 80), masquerade=n % 2 == 0)
    mesh.lose("east/east-1", 500)
    mesh.call(client, backends["west"][0], aim=(address, 80))

    nat, affinity = answer(mesh, "nat"), answer(mesh, "affinity")

    assert (nat.verdict.value, affinity.verdict.value) == ("violation", "insufficient")
    assert nat.coverage["lost_events"] == 500


def test_three_clusters_with_other_names_ids_and_ports(answer: Callable[..., Report]) -> None:
    """Nothing rests on two clusters, on their names, or on port 80."""
    mesh = Mesh(clusters={"alpha": 7, "b-2": 200, "zürich": 31})
    client = mesh.pod("b-2", "front", 2)
    backends = {c: [mesh.pod(c, f"back-{n}", n) for n in (1, 2)] for c in mesh.clusters}
    addresses = {
        c: mesh.service(c, "udp-back", backends[c], ports=(5353, 15353), protocol="UDP", annotations=GLOBAL)
        for c in mesh.clusters
    }
    for n in range(90):
        cluster = list(mesh.clusters)[n % 3]
        mesh.call(client, backends[cluster][n % 2], aim=(addresses["b-2"], 5353), protocol="UDP", port=15353)

    nat, row = answer(mesh, "nat"), only(answer(mesh, "affinity"))

    pairs = {
        (r["source_cluster"], r["destination_cluster"], r["protocol"]): r["untranslated"]
        for r in nat.rows.rows(named=True)
    }
    assert pairs == {("b-2", "alpha", "UDP"): 30, ("b-2", "zürich", "UDP"): 30}
    assert (row["local"], row["remote"], row["backends_local"], row["backends_remote"]) == (30, 60, 2, 4)
    assert row["verdict"] == "ok"


def test_overlapping_pod_ranges_are_refused(answer: Callable[..., Report]) -> None:
    """Where an address may belong to two clusters, no verdict rests on addresses."""
    mesh = Mesh()
    client, _, backends = shop(mesh)
    for one in mesh.objects["east"]:
        if one["kind"] == "Node":
            one["spec"]["podCIDRs"].append("10.0.0.0/16")
    for _ in range(20):
        mesh.call(client, backends["east"][0])

    row = only(answer(mesh, "nat"))

    assert (row["verdict"], row["cause"]) == ("insufficient", "overlapping-pod-cidrs")


def test_window_and_filters(answer: Callable[..., Report]) -> None:
    """A window counts what arrived in it; namespace and service choose rows."""
    mesh = Mesh()
    client, address, backends = shop(mesh)
    for n in range(100):
        mesh.call(client, backends["west" if n % 2 else "east"][0], aim=(address, 80))
    middle = (START + 10 * 10**9) // 10**9
    since = f"{__import__('datetime').datetime.fromtimestamp(middle, tz=__import__('datetime').UTC):%Y-%m-%dT%H:%M:%SZ}"

    later = answer(mesh, "affinity", since=since)
    named = answer(mesh, "affinity", service="back", namespace="shop")

    assert only(later)["connections"] == 50
    assert later.since.startswith(since[:-1])
    assert only(named)["connections"] == 100


def test_health_checks_do_not_count(answer: Callable[..., Report]) -> None:
    """Cilium's own health endpoints (identity 4) are nobody's traffic."""
    mesh = Mesh()
    client, address, backends = shop(mesh)
    mesh.call(client, backends["east"][0], aim=(address, 80))
    before = len(mesh.messages)
    mesh.call(client, backends["east"][1])
    for message in mesh.messages[before:]:
        for end in (message.flow.source, message.flow.destination):
            end.identity = 4 if end.pod_name == "back-2" else end.identity

    assert only(answer(mesh, "nat"))["connections"] == 1


@pytest.mark.parametrize("replayed", [True, False])
def test_a_replay_after_a_lost_connection_leaves_no_gap(replayed: bool, answer: Callable[..., Report]) -> None:
    """A node that sends again what came before had its ring whole; one that starts with new events lost what was between."""
    mesh = Mesh()
    client, address, backends = shop(mesh, LOCAL)
    for n in range(20):
        mesh.call(client, backends["west"][n % 2], aim=(address, 80))
    before = [message for message in mesh.messages if message.node_name == "west/west-2"]
    mesh.status("NODE_ERROR", "west/west-2", text="transport is closing")
    mesh.now += 5 * 10**9
    if replayed:
        mesh.messages += before
    for n in range(20):
        mesh.call(client, backends["west"][n % 2], aim=(address, 80))

    affinity = answer(mesh, "affinity")

    assert (affinity.coverage["gaps"], affinity.verdict.value) == ((0, "ok") if replayed else (1, "insufficient"))
    assert only(affinity)["connections"] == 40


@pytest.mark.parametrize("later", [None, SECOND // 2], ids=["whole", "a window after the loss"])
@pytest.mark.parametrize("replayed", [True, False])
def test_a_lost_node_that_is_dialled_in_vain_is_one_gap_or_none(
    replayed: bool, later: int | None, answer: Callable[..., Report]
) -> None:
    """A Relay tells late of the loss and of the dialling; what the node then sends of the time between closes both."""
    mesh = Mesh()
    client, address, backends = shop(mesh, LOCAL)

    def call(times: int) -> None:
        for n in range(times):
            mesh.call(client, backends["west"][n % 2], aim=(address, 80))

    call(20)
    lost = mesh.now
    before = mesh.messages[:]
    mesh.now += SECOND
    call(20)
    dialled = mesh.now
    mesh.now += 5 * SECOND
    between = [message for message in mesh.messages[len(before) :] if message.node_name != "west/west-2"]
    if replayed:
        between = [message for message in mesh.messages if message.node_name == "west/west-2"] + between
    mesh.messages = before + between
    call(20)
    mesh.status("NODE_ERROR", "west/west-2", text="error reading from server: EOF", at=lost)
    mesh.status("NODE_ERROR", "west/west-2", text='desc = "transport: Error while dialing: refused"', at=dialled)

    coverage = answer(mesh, "affinity", since=rfc3339(lost + later) if later else None).coverage

    assert coverage["gaps"] == (0 if replayed else 1)


@pytest.mark.parametrize(("after", "watched", "verdict"), [(0, 4, "ok"), (10, 3, "insufficient")])
def test_a_connected_node_that_says_nothing_of_its_own_traffic_is_not_watched(
    after: int, watched: int, verdict: str, answer: Callable[..., Report]
) -> None:
    """What other nodes show of its pods proves that its events are missing; in the last second they may yet come."""
    mesh = Mesh()
    client, address, backends = shop(mesh)
    mesh.silent = {"east/east-1"}
    for n in range(40):
        mesh.call(client, backends["west" if n % 2 else "east"][1], aim=(address, 80))
    quiet = answer(mesh, "coverage")
    for _ in range(3):
        mesh.call(client, backends["east"][0])
    for n in range(after):
        mesh.call(client, backends["west" if n % 2 else "east"][1], aim=(address, 80))

    blind = answer(mesh, "coverage")

    assert (quiet.coverage["nodes_watched"], quiet.verdict.value) == (4, "ok")
    assert (blind.coverage["nodes_watched"], blind.verdict.value) == (watched, verdict)
    assert set(blind.rows.filter(verdict="insufficient")["cause"]) == ({"unwatched-node"} if after else set())


@pytest.mark.parametrize(("after", "verdict"), [(0, "ok"), (10, "insufficient")])
def test_what_arrives_last_may_have_left_in_events_yet_to_come(
    after: int, verdict: str, answer: Callable[..., Report]
) -> None:
    """One Relay may be a moment behind the other when a collection ends; what it lacks before that is missing."""
    mesh = Mesh()
    client, address, backends = shop(mesh)
    for n in range(80):
        mesh.call(client, backends["west" if n % 4 < 2 else "east"][n % 2], aim=(address, 80))
    behind = mesh.messages[:]
    for _ in range(3):
        mesh.call(client, backends["east"][0], aim=(address, 80))
    mesh.messages = behind + [one for one in mesh.messages[len(behind) :] if one.node_name.startswith("east/")]
    for n in range(after):
        mesh.call(client, backends["west" if n % 2 else "east"][1], aim=(address, 80))

    affinity = answer(mesh, "affinity")

    assert [(row["verdict"], row["cause"]) for row in affinity.rows.rows(named=True)] == [
        (verdict, "one-sided" if after else "")
    ]


def test_clocks_that_are_apart_are_told_and_widen_what_counts_as_a_change(answer: Callable[..., Report]) -> None:
    """A node four minutes behind stamps calls after a change as if before it: they break no setting."""
    mesh = Mesh()
    client, address, backends = shop(mesh)
    for cluster in ("west", "east", "west", "west"):
        for n in range(40):
            mesh.call(client, backends[cluster][n % 2], aim=(address, 80))
    mesh.change("west", "back", LOCAL, mesh.now - 80 * 2 * 10**8)
    for message in mesh.messages:
        if message.node_name.startswith("west/"):
            message.time.seconds -= 240
            message.flow.time.seconds -= 240

    coverage, affinity = answer(mesh, "coverage"), answer(mesh, "affinity")

    apart = {row["cluster"]: row["clock_offset"] for row in coverage.rows.rows(named=True) if row["clock_offset"]}
    assert {cluster: round(seconds) for cluster, seconds in apart.items()} == {"west": -240, "east": 240}
    assert set(coverage.rows["cause"]) <= {"clock-skew", ""}
    assert affinity.verdict.value == "insufficient"


def test_hops_judge_no_call_around_a_change(answer: Callable[..., Report]) -> None:
    """A crossing just after affinity local was set may follow the old state; a later one is against the setting."""
    found = {}
    for seconds in (1, 4):
        mesh = Mesh()
        client, address, backends = shop(mesh)
        for n in range(10):
            mesh.call(client, backends["west" if n % 2 else "east"][0], aim=(address, 80))
        mesh.change("west", "back", LOCAL, mesh.now)
        mesh.now += seconds * 10**9
        mesh.call(client, backends["east"][0], aim=(address, 80))
        mesh.now += 5 * 10**9
        mesh.call(client, backends["west"][0], aim=(address, 80))
        found[seconds] = answer(mesh, "hops").verdict.value

    assert found == {1: "ok", 4: "violation"}


def crossing_calls(mesh: Mesh, *, backends_at_home: int = 2) -> None:
    """Let a client call a global service: three answers of the other cluster, three of its own where it has backends."""
    client, address, backends = shop(mesh, GLOBAL) if backends_at_home else abroad(mesh)
    for n in range(3):
        mesh.call(client, backends["east"][n % 2], aim=(address, 80))
        if backends_at_home:
            mesh.call(client, backends["west"][n % 2], aim=(address, 80))


def abroad(mesh: Mesh) -> tuple[str, str, dict[str, list[str]]]:
    """Put the backends of service shop/back into the other cluster only."""
    client = mesh.pod("west", "front-1")
    backends = {"west": [], "east": [mesh.pod("east", f"back-{n}", n) for n in (1, 2)]}
    addresses = {c: mesh.service(c, "back", backends[c], annotations=GLOBAL) for c in mesh.clusters}
    return client, addresses["west"], backends


def without_objects(mesh: Mesh) -> None:
    """Forget all but the nodes."""
    mesh.objects = {name: [one for one in objects if one["kind"] == "Node"] for name, objects in mesh.objects.items()}


@pytest.mark.parametrize("aggregation", ["none", "medium"])
def test_what_crossings_cost_is_said(aggregation: str, answer: Callable[..., Report]) -> None:
    """The verdict is ok, for no setting is broken; the first line says how much of it needed not be. Unknown is not none."""
    avoidable, needed, unknown, either = (Mesh(aggregation=aggregation) for _ in range(4))
    crossing_calls(avoidable)
    crossing_calls(needed, backends_at_home=0)
    crossing_calls(unknown)
    without_objects(unknown)
    # A call of the service or of the pod: no socket event tells.
    client, _, backends = shop(either)
    either.call(client, backends["east"][0])

    said = [render.headline(answer(mesh, "hops"))[0] for mesh in (avoidable, needed, unknown, either)]

    assert said == [
        "hops: ok, 3 of 6 calls crossed, all avoidable with affinity local",
        "hops: ok, 3 of 3 calls crossed, none avoidable with affinity local",
        "hops: ok, 3 of 6 calls crossed, whether they needed to is not known",
        "hops: ok, 1 of 1 calls crossed, whether they needed to is not known",
    ]


@pytest.mark.parametrize(
    ("counts", "cause", "sentence"),
    [
        ([], "", ""),
        ([(0, 0, 0, 0)], "policy-drops", ""),
        ([(5, 0, 0, 0)], "", "none of 5 calls crossed"),
        ([(5, 4, 3, 0), (5, 0, 0, 0)], "", "4 of 10 calls crossed, 3 avoidable with affinity local"),
        ([(5, 4, 0, 0)], "", "4 of 5 calls crossed, none avoidable with affinity local"),
        ([(5, 4, 3, 0)], "against-setting", "4 of 5 calls crossed, 3 avoidable"),
        ([(5, 4, 3, 1)], "", "4 of 5 calls crossed, 3 known to be avoidable with affinity local, 1 not known"),
        ([(5, 4, 4, 4)], "", "4 of 5 calls crossed, whether they needed to is not known"),
        (
            [(5, 4, 4, 0), (7, 0, 0, 7)],
            "",
            "4 of 12 calls crossed, all avoidable with affinity local; of 7 it is not known whether they did",
        ),
        ([(5, 0, 0, 5)], "", "none of 5 calls is known to have crossed; of 5 it is not known whether they did"),
        ([(5, 4, 0, 1)], "", "4 of 5 calls crossed, none known to be avoidable with affinity local, 1 not known"),
    ],
)
def test_the_sentence_on_crossings(counts: list[tuple[int, ...]], cause: str, sentence: str) -> None:
    """It adds the rows up, and says of what is known and what is not."""
    names = ("connections", "crossed", "avoidable", "undecided")
    rows = [{**dict(zip(names, row, strict=True)), "cause": cause} for row in counts]

    assert crossings.summary(rows) == sentence


def test_a_crossing_of_which_nothing_is_known_is_not_excused(answer: Callable[..., Report]) -> None:
    """Where no object tells of the service's backends, the reason does not say that there were none."""
    mesh = Mesh()
    client, address, backends = shop(mesh, GLOBAL)
    for n in range(3):
        mesh.call(client, backends["east"][n % 2], aim=(address, 80))
    mesh.objects = {}
    # Hubble names the service that sockets aimed at.
    for message in mesh.messages:
        if (message.flow.event_type.type, message.flow.event_type.sub_type) == (7, 1):
            message.flow.destination_service.namespace, message.flow.destination_service.name = "shop", "back"

    row = only(answer(mesh, "hops"))

    assert (row["service"], row["undecided"]) == ("back", 3)
    assert row["reason"] == "3 crossed; of 3 it is not known whether they needed to"


def test_calls_while_no_backend_is_active_say_so(answer: Callable[..., Report]) -> None:
    """Nothing tells where such calls should go; it need not be a change that hides it."""
    mesh = Mesh()
    client = mesh.pod("west", "front-1")
    backends = {cluster: mesh.pod(cluster, "back", 1) for cluster in mesh.clusters}
    address, _ = (mesh.service(c, "back", [backends[c]], annotations=GLOBAL, ready=False) for c in mesh.clusters)
    for _ in range(5):
        mesh.call(client, backends["east"], aim=(address, 80))

    row = only(answer(mesh, "affinity"))

    assert (row["verdict"], row["cause"], row["unsettled"]) == ("insufficient", "unsettled", 0)
    assert row["reason"].endswith("or while no backend was active")


def test_services_tell_settings_backends_and_since_when(answer: Callable[..., Report]) -> None:
    """Each cluster's row says what holds there, as it is written and as Cilium takes it."""
    mesh = Mesh()
    client = mesh.pod("west", "front")
    backends = {cluster: [mesh.pod(cluster, f"back-{n}", n) for n in (1, 2)] for cluster in mesh.clusters}
    hidden = {**GLOBAL, "io.cilium/shared-service": "false"}
    address = mesh.service("west", "back", backends["west"], annotations=LOCAL, node_port=30080)
    mesh.service("east", "back", backends["east"], annotations=hidden, ready=False)
    mesh.service("east", "own", backends["east"])
    for n in range(10):
        mesh.call(client, backends["west"][n % 2], aim=(address, 80))

    report = answer(mesh, "services")

    east, west = report.rows.rows(named=True)
    assert (report.verdict.value, east["cluster"], west["cluster"]) == ("ok", "east", "west")
    assert (west["global"], west["shared"], west["affinity"]) == (True, True, "local")
    assert (east["global"], east["shared"], east["affinity"]) == (True, False, "none")
    assert west["annotations"] == ["service.cilium.io/affinity: local", "service.cilium.io/global: true"]
    assert east["annotations"] == ["io.cilium/shared-service: false", "service.cilium.io/global: true"]
    assert (west["ports"], east["ports"]) == (["80:30080/TCP"], ["80/TCP"])
    assert (west["backends_active"], west["backends_known"]) == (2, 2)
    assert (east["backends_active"], east["backends_known"]) == (0, 2)
    assert f"{west['since']:%F}" == f"{west['known_from']:%F}" == "2026-11-22"
    assert west["until"] is None


def test_services_unknown_is_not_none(answer: Callable[..., Report]) -> None:
    """Backends that were not seen are null, where there are none they are 0; the same for the Service itself."""
    found = {}
    for missing in ("EndpointSlice", "Service", ""):
        mesh = Mesh()
        client, address, backends = shop(mesh)
        mesh.service("east", "empty", [], annotations=GLOBAL)
        mesh.objects["east"] = [one for one in mesh.objects["east"] if one["kind"] != missing]
        mesh.call(client, backends["east"][0], aim=(address, 80))
        report = answer(mesh, "services")
        found[missing] = [
            (row["service"], row["cluster"], row["global"], row["backends_known"], row["cause"])
            for row in report.rows.rows(named=True)
        ]

    west = ("back", "west", True, 2, "")
    assert found["EndpointSlice"] == [
        ("back", "east", True, None, "unknown-backends"),
        west,
        ("empty", "east", True, None, "unknown-backends"),
        ("empty", "west", None, 0, "absent"),
    ]
    assert found["Service"] == [("back", "east", None, 2, "unknown-objects"), west]
    assert found[""] == [
        ("back", "east", True, 2, ""),
        west,
        ("empty", "east", True, 0, ""),
        ("empty", "west", None, 0, "absent"),
    ]


def test_services_a_change_makes_two_rows(answer: Callable[..., Report]) -> None:
    """Each state has its own row, from when on it held; one that ended before the window has none."""
    mesh = Mesh()
    client, address, backends = shop(mesh)
    for n in range(40):
        mesh.call(client, backends["west"][n % 2], aim=(address, 80))
    changed = START + 4 * 10**9
    mesh.change("west", "back", LOCAL, changed)

    whole = answer(mesh, "services").rows.filter(cluster="west")
    later = answer(mesh, "services", since=rfc3339(changed + 1)).rows.filter(cluster="west")

    assert whole["affinity"].to_list() == ["none", "local"]
    assert whole["until"][0] == whole["since"][1] == later["since"][0]
    assert whole["since"].dt.epoch("ns")[1] == changed
    assert later["affinity"].to_list() == ["local"]


def test_services_that_are_called_across_clusters_are_there(answer: Callable[..., Report]) -> None:
    """A NodePort of the other cluster leads to a service that is global nowhere; others of that kind are left out."""
    mesh = Mesh()
    client = mesh.pod("west", "front")
    back = mesh.pod("east", "back", 2)
    mesh.service("east", "door", [back], node_port=30080)
    mesh.service("east", "other", [mesh.pod("east", "own")])
    mesh.service("west", "other", [])
    for _ in range(5):
        mesh.call(client, back, aim=(mesh.node("east"), 30080))

    report = answer(mesh, "services")

    found = [(row["service"], row["cluster"], row["global"], row["cause"]) for row in report.rows.rows(named=True)]
    assert found == [("door", "east", False, ""), ("door", "west", None, "absent")]
    assert "no such service in west" in report.rows["reason"].to_list()

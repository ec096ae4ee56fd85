"""Calls that give no arrival, leave no packet, come from Envoy or from a host that is called as well."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.handmade_mesh import GLOBAL, LOCAL, OUTSIDE, SECOND, Mesh, shop
from support.recordings import import_into

from meshobs.analyzer import Question, Report, run
from meshobs.pb.flow import flow_pb2 as flow
from meshobs.store import Store

# Of the first 300 choices in case 11, and where they led.
TO_ITSELF, TO_THE_OTHER, REMOTE = 74, 78, 148
MACHINES = ["198.51.100.31", "198.51.100.32"]


@pytest.fixture
def answer(tmp_path: Path) -> Callable[..., Report]:
    """Return a function that imports a mesh and answers one report."""

    def answered(mesh: Mesh, report: str, **more: Any) -> Report:
        db = tmp_path / f"{len(list(tmp_path.iterdir()))}.duckdb"
        import_into(db, mesh.write(tmp_path / f"{db.stem}-recording"))
        with Store.open(db) as store:
            return run(store, report, Question(**more))

    return answered


def only(report: Report) -> dict[str, Any]:
    """Return a report's only row."""
    (row,) = report.rows.rows(named=True)
    return dict(row)


def edge(mesh: Mesh, far: list[str], annotations: dict[str, str] = LOCAL) -> tuple[str, str, str]:
    """Put a pod behind the service in west and other backends in east; return a client, the ClusterIP and the pod."""
    client, near = mesh.pod("west", "front-1"), mesh.pod("west", "back", 2)
    address = mesh.service("west", "back", [near], annotations=annotations)
    mesh.service("east", "back", far, annotations=annotations)
    return client, address, near


@pytest.mark.parametrize("received", [True, False])
@pytest.mark.parametrize("machines", [False, True])
def test_leaks_to_backends_that_give_no_arrival(machines: bool, received: bool, answer: Callable[..., Report]) -> None:
    """What left for a host or a machine that is a known backend is a call: 24 of 120 went astray."""
    mesh = Mesh()
    far = MACHINES if machines else [mesh.node("east", n) for n in (1, 2)]
    client, address, near = edge(mesh, far)
    for n in range(120):
        if n % 5:
            mesh.call(client, near, aim=(address, 80))
        else:
            mesh.call_unseen(client, far[n % 2], (address, 80), received=received and not machines)

    affinity, hops = only(answer(mesh, "affinity")), answer(mesh, "hops")

    assert (affinity["local"], affinity["remote"], affinity["violations"]) == (96, 24, 24)
    assert (affinity["verdict"], affinity["cause"]) == ("violation", "against-setting")
    assert ("no pod" if machines else "host network") in affinity["reason"]
    assert hops.verdict.value == "violation"
    assert sum(row["crossings"] for row in hops.rows.rows(named=True)) == 24


def test_a_free_choice_of_backends_that_give_no_arrival(answer: Callable[..., Report]) -> None:
    """106 : 94 is what no affinity means, whether the far side can be seen to receive or not."""
    mesh = Mesh()
    far = [mesh.node("east")]
    client, address, near = edge(mesh, far, GLOBAL)
    for n in range(200):
        if n < 106:
            mesh.call(client, near, aim=(address, 80))
        else:
            mesh.call_unseen(client, far[0], (address, 80))

    row = only(answer(mesh, "affinity"))

    assert (row["local"], row["remote"], row["verdict"]) == (106, 94, "ok")
    assert "94 are known from the client's side alone" in row["reason"]


def test_drops_on_the_way_to_hosts(answer: Callable[..., Report]) -> None:
    """A call that a policy of the client forbids was a choice, too, and is told as dropped."""
    mesh = Mesh()
    far = mesh.node("east")
    client, address, near = edge(mesh, [far], GLOBAL)
    for n in range(100):
        if n % 2:
            mesh.call(client, near, aim=(address, 80))
            continue
        mesh.socket("west/west-1", client, (address, 80), (far, 8080), "TCP")
        drop = mesh.event("west/west-1", "UNKNOWN_POINT", client, far, (42_000 + n, 8080), kind=1, sub_type=133)
        drop.flow.verdict, drop.flow.drop_reason_desc = flow.Verdict.DROPPED, flow.DropReason.POLICY_DENIED
        mesh.now += SECOND // 5

    row = only(answer(mesh, "affinity"))

    assert (row["local"], row["remote"], row["dropped"], row["verdict"]) == (50, 0, 50, "ok")


def test_calls_of_the_own_host(answer: Callable[..., Report]) -> None:
    """An agent that leads a packet to its own host says TO_HOST: nothing leaves the node."""
    mesh = Mesh()
    host = mesh.node("west", 1)
    client = mesh.pod("west", "front-1")
    far = mesh.pod("east", "back")
    address = mesh.service("west", "back", [host], annotations=LOCAL)
    mesh.service("east", "back", [far], annotations=LOCAL)
    for n in range(60):
        mesh.socket("west/west-1", client, (address, 80), (host, 8080), "TCP")
        mesh.event("west/west-1", "TO_HOST", client, host, (41_000 + n, 8080), reason="NEW", reply=False)
        mesh.now += SECOND // 5

    row = only(answer(mesh, "affinity"))

    assert (row["local"], row["remote"], row["verdict"]) == (60, 0, "ok")


def test_other_calls_of_nodes_are_no_calls_of_the_service(answer: Callable[..., Report]) -> None:
    """A node's address is a backend at the backend's port only."""
    mesh = Mesh()
    far = [mesh.node("east")]
    client, address, near = edge(mesh, far)
    for _ in range(60):
        mesh.call(client, near, aim=(address, 80))
        mesh.call_unseen(client, far[0], None, port=10250)

    row = only(answer(mesh, "affinity"))

    assert (row["local"], row["remote"], row["verdict"]) == (60, 0, "ok")


def test_backends_on_nodes_without_hubble(answer: Callable[..., Report]) -> None:
    """Where every client's node tells what leaves, a backend's node need not tell what comes."""
    mesh = Mesh()
    client, address, backends = shop(mesh)
    mesh.without_hubble("east/east-1", "east/east-2")
    for n in range(80):
        mesh.call(client, backends[("west", "east")[n % 2]][n // 2 % 2], aim=(address, 80))

    row, nat = only(answer(mesh, "affinity")), only(answer(mesh, "nat"))

    assert (row["local"], row["remote"], row["verdict"]) == (40, 40, "ok")
    assert "node out of sight" in row["reason"]
    assert (nat["verdict"], nat["cause"]) == ("insufficient", "one-sided")  # what the server saw is not known


def test_clients_that_do_not_tell_what_leaves(answer: Callable[..., Report]) -> None:
    """With arrivals alone a leak to backends that give none would not show: no ok."""
    mesh = Mesh(aggregation="medium")
    client, near = mesh.pod("west", "front-1"), mesh.pod("west", "back", 1)
    mesh.service("west", "back", [near], annotations=LOCAL)
    mesh.service("east", "back", [mesh.node("east")], annotations=LOCAL)
    for _ in range(60):
        mesh.call(client, near)

    row = only(answer(mesh, "affinity"))

    assert (row["verdict"], row["cause"]) == ("insufficient", "unseen-backends")


def test_an_address_that_is_a_backend_in_both_clusters(answer: Callable[..., Report]) -> None:
    """Which cluster a machine was called for that both name is not known."""
    mesh = Mesh()
    client, near = mesh.pod("west", "front-1"), mesh.pod("west", "back", 2)
    address = mesh.service("west", "back", [near, *MACHINES], annotations=GLOBAL)
    mesh.service("east", "back", MACHINES, annotations=GLOBAL)
    for n in range(60):
        if n % 2:
            mesh.call(client, near, aim=(address, 80))
        else:
            mesh.call_unseen(client, MACHINES[n // 2 % 2], (address, 80))

    row = only(answer(mesh, "affinity"))

    assert (row["verdict"], row["cause"]) == ("insufficient", "unseen-backends")
    assert "30 calls" in row["reason"]


def test_services_says_who_gives_no_arrival(answer: Callable[..., Report]) -> None:
    """A service's row names how many backends cannot be seen to receive, and why; a pod's is not among them."""
    mesh = Mesh()
    client, address, near = edge(mesh, [mesh.node("east"), MACHINES[0]])
    mesh.call(client, near, aim=(address, 80))

    rows = {row["cluster"]: row for row in answer(mesh, "services").rows.rows(named=True)}

    assert "no arrival" not in rows["west"]["reason"]
    assert "2 give no arrival: 10.1.255.1 (host network), 198.51.100.31 (no pod)" in rows["east"]["reason"]
    assert rows["east"]["verdict"] == "ok"


def ring(mesh: Mesh) -> tuple[str, str, dict[str, list[str]]]:
    """Make the first backend of west the client; return it, the ClusterIP and the backends."""
    _, address, backends = shop(mesh)
    return backends["west"][0], address, backends


def test_pods_that_call_themselves(answer: Callable[..., Report]) -> None:
    """A call that is led back to the caller shows at its socket only, and counts as local: case 11's numbers."""
    mesh = Mesh()
    pod, address, backends = ring(mesh)
    for n in range(300):
        if n < TO_ITSELF:
            mesh.call_itself(pod, (address, 80))
        else:
            far = backends["west"][1] if n < TO_ITSELF + TO_THE_OTHER else backends["east"][n % 2]
            mesh.call(pod, far, aim=(address, 80))

    row, hops = only(answer(mesh, "affinity")), answer(mesh, "hops")

    assert (row["local"], row["remote"], row["verdict"]) == (TO_ITSELF + TO_THE_OTHER, REMOTE, "ok")
    assert row["door_unknown"] == 0
    assert sum(each["connections"] for each in hops.rows.rows(named=True)) == 300


def test_a_pod_that_is_alone_at_home(answer: Callable[..., Report]) -> None:
    """Of 150 calls 70 came back to the caller, the only backend of its cluster."""
    mesh = Mesh()
    pod, far = mesh.pod("west", "ring"), mesh.pod("east", "ring")
    address = mesh.service("west", "ring", [pod], annotations=GLOBAL)
    mesh.service("east", "ring", [far], annotations=GLOBAL)
    for n in range(150):
        if n < 70:
            mesh.call_itself(pod, (address, 80))
        else:
            mesh.call(pod, far, aim=(address, 80))

    row = only(answer(mesh, "affinity"))

    assert (row["local"], row["remote"], row["verdict"]) == (70, 80, "ok")


@pytest.mark.parametrize("aggregation", ["none", "medium"])
@pytest.mark.parametrize("source", ["169.254.42.1", "fe80::1", "itself"])
def test_a_call_to_itself_that_does_arrive_counts_once(
    source: str, aggregation: str, answer: Callable[..., Report]
) -> None:
    """The packet load balancer sends the packet out and back under an address of its own."""
    mesh = Mesh(aggregation=aggregation)
    pod, address, backends = ring(mesh)
    for n in range(120):
        if n % 4 == 0:
            if source == "itself":
                mesh.call_itself(pod, (address, 80))
            elif aggregation == "none":
                mesh.event("west/west-1", "FROM_ENDPOINT", pod, address, (41_000 + n, 80))
            seen = pod if source == "itself" else source
            arrival = mesh.event(
                "west/west-1", "TO_ENDPOINT", seen, pod, (41_000 + n, 8080), reason="NEW", reply=False, later=-0.19
            )
            arrival.flow.source.identity = arrival.flow.destination.identity
            mesh.now += SECOND // 5
        else:
            where = backends["west"][1] if n % 4 == 1 else backends["east"][n % 2]
            mesh.call(pod, where, aim=(address, 80), packet_lb=source != "itself")

    row = only(answer(mesh, "affinity"))

    assert (row["local"], row["remote"], row["verdict"]) == (60, 60, "ok")


def test_sockets_without_a_packet_are_no_calls(answer: Callable[..., Report]) -> None:
    """A UDP socket that connects need not send: toward others it counts as nothing, toward itself nothing is said."""
    mesh = Mesh()
    pod, address, backends = ring(mesh)
    for n in range(80):
        mesh.call(pod, backends[("west", "east")[n % 2]][1], aim=(address, 80))
        mesh.socket("west/west-1", pod, (address, 80), (backends["east"][0], 8080), "TCP")
        mesh.now += SECOND // 5
    calm = only(answer(mesh, "affinity"))
    for _ in range(20):
        mesh.call_itself(pod, (address, 80), protocol="UDP")
    for cluster in mesh.clusters:
        next(o for o in mesh.objects[cluster] if o["kind"] == "EndpointSlice")["ports"].append(
            {"name": "u", "port": 8080, "protocol": "UDP"}
        )
        next(o for o in mesh.objects[cluster] if o["kind"] == "Service")["spec"]["ports"].append(
            {"name": "u", "port": 80, "protocol": "UDP", "targetPort": 8080}
        )

    doubtful = answer(mesh, "affinity")

    assert (calm["local"], calm["remote"], calm["verdict"]) == (40, 40, "ok")
    assert doubtful.verdict.value == "insufficient"


def test_clients_that_are_backends_where_sockets_do_not_tell(answer: Callable[..., Report]) -> None:
    """At aggregation medium of 1.19 no call to itself shows: the share seen is not the share chosen."""
    mesh = Mesh(aggregation="medium")
    pod, _, backends = ring(mesh)
    for n in range(90):
        mesh.call(pod, backends["west"][1] if n % 3 == 0 else backends["east"][n % 2])

    row = only(answer(mesh, "affinity"))

    assert (row["verdict"], row["cause"]) == ("insufficient", "calls-to-itself")


def through_envoy(mesh: Mesh, envoy: str, backend: str, n: int, *, known: bool) -> None:
    """Leave the events of a call of Envoy: an endpoint with a number of its own or not."""
    node = mesh.home(envoy)
    ports = (51_000 + n, 8080)
    if mesh.home(backend) != node:
        left = mesh.event(node, "TO_NETWORK", envoy, backend, ports, reason="NEW", reply=False)
        left.flow.source.ID = 9 if known else 0
    came = mesh.event(mesh.home(backend), "TO_ENDPOINT", envoy, backend, ports, reason="NEW", reply=False, later=0.02)
    came.flow.source.ID = 9 if known and mesh.home(backend) == node else 0
    mesh.now += SECOND // 5


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_envoy_is_no_pod(alone: bool, known: bool, answer: Callable[..., Report]) -> None:
    """Of 240 calls 120 are a pod's, and local; Envoy's 120 are its own, and count in no share."""
    mesh = Mesh()
    client, address, backends = shop(mesh, LOCAL)
    envoy = mesh.envoy("west")
    for n in range(120):
        if not alone:
            mesh.call(client, backends["west"][n % 2], aim=(address, 80))
        through_envoy(mesh, envoy, backends[("west", "east")[n < 58]][n % 2], n, known=known)

    affinity, nat = answer(mesh, "affinity"), only(answer(mesh, "nat"))
    hops = {(row["destination_cluster"], row["door"]): row for row in answer(mesh, "hops").rows.rows(named=True)}

    if alone:
        assert affinity.rows.height == 0
    else:
        row = only(affinity)
        assert (row["local"], row["remote"], row["verdict"]) == (120, 0, "ok")
    assert (nat["connections"], nat["untranslated"], nat["verdict"]) == (58, 58, "ok")
    assert "58 under that of Envoy (10.0.1.250)" in nat["reason"]
    assert hops["east", "ingress"]["connections"] == 58
    assert (hops["east", "ingress"]["verdict"], hops["east", "ingress"]["cause"]) == ("ok", "ingress")


def test_what_reaches_envoy_is_the_first_leg_of_one_call(answer: Callable[..., Report]) -> None:
    """A pod's packet that goes to Envoy is no connection of its own where Envoy's is seen."""
    mesh = Mesh()
    client, _, backends = shop(mesh)
    envoy = mesh.envoy("west")
    for n in range(20):
        first = mesh.event("west/west-1", "TO_PROXY", client, envoy, (46_000 + n, 80), reason="NEW", reply=False)
        first.flow.destination.ID = 9
        through_envoy(mesh, envoy, backends["west"][0], n, known=True)

    row = only(answer(mesh, "hops"))

    assert (row["door"], row["connections"]) == ("ingress", 20)


def webhooks(mesh: Mesh, client: str, backend: str, n: int, *, node_port: int | None, lag: float) -> None:
    """Call a host outside, which calls back after a while: straight to the pod, or a NodePort."""
    mesh.leave(client, OUTSIDE, (45_000 + n, 443))
    mesh.now += int(lag * SECOND)
    if node_port:
        node = mesh.node("west")
        mesh.passes(node, OUTSIDE, backend, (50_000 + n, 8080), node_port=node_port)
        mesh.arrive(node, backend, (50_000 + n, 8080), later=0.025)
    else:
        mesh.arrive(OUTSIDE, backend, (50_000 + n, 8080))


@pytest.mark.parametrize("node_port", [None, 30080])
@pytest.mark.parametrize("lag", [0.004, 0.2, 1.1])
@pytest.mark.parametrize("named", [False, True])
def test_a_host_that_is_called_and_calls_back(
    named: bool, lag: float, node_port: int | None, answer: Callable[..., Report]
) -> None:
    """Without a balancer there is no hairpin, however soon and regularly the calls follow each other."""
    mesh = Mesh()
    client, _, backends = shop(mesh)
    # A balancer elsewhere does not make one of the host.
    balancer = ["192.0.2.99"] if named else []
    mesh.service("west", "door", backends["west"], node_port=node_port or 30900, balancer=balancer)
    pauses = random.Random(7)
    for n in range(20):
        webhooks(mesh, client, backends["west"][1], n, node_port=node_port, lag=lag)
        mesh.now += int(pauses.uniform(2, 6) * SECOND)

    hops = answer(mesh, "hops")

    assert hops.verdict.value == "ok"
    assert sum(row["hairpins"] for row in hops.rows.rows(named=True)) == 0
    assert ("possible-hairpin" in {row["cause"] for row in hops.rows.rows(named=True)}) == (lag < 0.1)


@pytest.mark.parametrize("phase", [0.03, 2.0])
def test_scrapes_and_pushes_by_the_clock(phase: float, answer: Callable[..., Report]) -> None:
    """What is done every 15 s keeps step with what else is done every 15 s."""
    mesh = Mesh()
    client, _, backends = shop(mesh)
    mesh.service("west", "door", backends["west"], ports=(443, 8080), node_port=30080)
    for n in range(20):
        webhooks(mesh, client, backends["west"][1], n, node_port=30080, lag=phase)
        mesh.now += int((15 - phase) * SECOND)

    hops = answer(mesh, "hops")

    assert hops.verdict.value == "ok"
    assert sum(row["hairpins"] for row in hops.rows.rows(named=True)) == 0


@pytest.mark.parametrize("at_once", [1, 5])
def test_a_known_balancer_makes_hairpins(at_once: int, answer: Callable[..., Report]) -> None:
    """Where a Service names the address and port, each pair is a hairpin, few or many, whatever their pace."""
    mesh = Mesh()
    client, _, backends = shop(mesh)
    mesh.service("west", "door", backends["west"], ports=(443, 8080), node_port=30080, balancer=[OUTSIDE])
    for n in range(3):
        for one in range(at_once):
            mesh.leave(client, OUTSIDE, (45_000 + 10 * n + one, 443))
        for one in range(at_once):
            mesh.now += SECOND // 10
            mesh.arrive(OUTSIDE, backends["west"][1], (50_000 + 10 * n + one, 8080))
        mesh.now += 15 * SECOND

    hops = answer(mesh, "hops")

    assert hops.verdict.value == "violation"
    assert sum(row["hairpins"] for row in hops.rows.rows(named=True)) == 3 * at_once
    assert sum(row["connections"] for row in hops.rows.rows(named=True)) == 3 * at_once


@pytest.mark.parametrize("again", [False, True])
def test_a_client_calls_again_from_the_same_port(again: bool, answer: Callable[..., Report]) -> None:
    """A node of the other cluster led the first call; the next one from that port, a pod's on the same node, is no such."""
    mesh = Mesh()
    client, _, backends = shop(mesh)
    for cluster in mesh.clusters:
        mesh.service(cluster, "door", backends[cluster], node_port=30080)
    near, node = backends["west"][0], mesh.node("east")
    for n in range(3):
        mesh.leave(client, node, (45_000 + n, 30080))
        mesh.passes(node, client, near, (45_000 + n, 8080), node_port=30080)
        mesh.arrive(node, near, (45_000 + n, 8080), later=0.025)
        mesh.now += int(1.9 * SECOND)
        if again:
            mesh.leave(client, near, (45_000 + n, 8080))
            mesh.arrive(client, near, (45_000 + n, 8080))
        mesh.now += 10 * SECOND

    hops = answer(mesh, "hops")

    rows = hops.rows.rows(named=True)
    assert sum(row["trombones"] for row in rows) == 3
    assert sum(row["connections"] for row in rows) == 3 + 3 * again


@pytest.mark.parametrize(("annotations", "fitting"), [(GLOBAL, True), (LOCAL, True), (LOCAL, False)])
def test_two_ports_that_lead_to_one(annotations: dict[str, str], fitting: bool, answer: Callable[..., Report]) -> None:
    """Where nothing tells which was called, both are one choice as long as they have the same backends."""
    mesh = Mesh()
    client = mesh.pod("west", "front-1")
    ports = [
        {"name": name, "port": port, "protocol": "TCP", "targetPort": 8080} for name, port in (("a", 80), ("b", 81))
    ]
    backends = {cluster: [mesh.pod(cluster, f"back-{n}", n) for n in (1, 2)] for cluster in mesh.clusters}
    for cluster in mesh.clusters:
        mesh.service(cluster, "back", backends[cluster], annotations=annotations, spec={"ports": ports})
        # Of the other cluster port b has no backend where it does not fit.
        mesh.objects[cluster][-1]["ports"] = [
            {"name": one["name"], "port": 8080, "protocol": "TCP"}
            for one in ports
            if fitting or cluster == "west" or one["name"] == "a"
        ]
    for n in range(60):
        mesh.call(client, backends["east" if annotations is GLOBAL and n % 2 else "west"][n // 2 % 2])

    rows = answer(mesh, "affinity").rows.rows(named=True)

    if fitting:
        (row,) = rows
        assert (row["port"], row["connections"], row["verdict"]) == ("a, b", 60, "ok")
    else:
        assert {row["cause"] for row in rows} == {"rival-services"}

"""The simulated datapath against real ones: judged by recordings and by the laws they gave, never by its own labels.

Left out of the comparison, because no connection of the twin has it: noise (ARP, ICMPv6 router solicitations, ICMP
errors), recordings that miss flows on purpose, and calls to addresses outside the mesh (the recorded nodes have no
default route, so such packets end inside the node). Of the recordings at aggregation `medium`, connections that some
node still reported at `none` are left out. Hardware addresses, endpoint numbers and numbers of node labels are not
compared.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from itertools import permutations, product

from support.twin import Connection, Roles, Signature, Way, signature, simulated
from support.twin_recordings import NAMES, connections, evidence, truth

from meshobs.lab.mesh.model import GLOBAL, Service, walkthrough
from meshobs.lab.sim.datapath.call import Call, Client, Host, Outcome, Outside, Sockets, carry_call
from meshobs.lab.sim.world import programmed
from meshobs.lab.sim.world.world import Frontend, Pod, Policy, World, build
from meshobs.pb.flow import flow_pb2

SECOND = 10**9
VERSIONS = ("1.17.6", "1.19.6")
NODE_PORT = 30080
CALLS = 40
_SOCKET = 7


def test_every_recorded_path_looks_like_its_recording() -> None:
    """On every path the twin emits nothing that was not recorded, and all that was, about as often.

    A signature that 95 % of the connections have, the twin has in 90 % of its own; its mean count is within 35 % of the
    recorded one or 1 (2 where fewer than 5 connections were recorded).
    """
    recorded, early = _recorded()
    wrong = [line for way, examples in recorded.items() for line in _differences(way, examples)]
    assert not wrong, "\n".join(wrong[:40])
    compared = sum(map(len, recorded.values()))
    print(f"{len(recorded)} paths, {compared} connections compared; {early} left out: aggregation not yet in force")
    assert len(recorded) >= 250
    assert compared >= 7000
    assert early < 20


def test_paths_cover_what_the_recordings_hold() -> None:
    """The comparison loses no kind of path by a mistake of its own: each setting is there, with 20 connections."""
    ways = Counter[tuple[str, str]]()
    for way, examples in _recorded()[0].items():
        for name, value in way._asdict().items():
            ways[name, str(value)] += len(examples)
    wanted = {
        "version": ("1.17.6", "1.19.6", "1.19.4", "1.20.2"),
        "aggregation": ("none", "medium"),
        "balancing": ("socket", "packet"),
        "programs": ("curl", "python", "lab"),
        "variant": ("native", "vxlan", "dual-stack"),
        "family": ("IPv4", "IPv6"),
        "client": ("pod worker", "host worker", "outside "),
        "aimed": ("pod", "service", "nodeport", "nodeport known"),
        "server": ("same worker", "next control plane", "abroad worker", "abroad control plane"),
        "translated": ("True", "False"),
        "policed": ("True", "False"),
        "outcome": ("answered", "TimeoutError"),
    }
    few = [(name, value) for name, values in wanted.items() for value in values if ways[name, value] < 20]
    assert not few
    assert ways["protocol", "ICMP"] >= 20
    assert ways["outcome", "ConnectionRefusedError"] >= 5
    assert ways["requests", "50"] >= 2


def test_events_come_in_the_recorded_order() -> None:
    """What each node reports first and what later is as recorded, for each two signatures that nearly all connections have.

    Of a path with 20 recorded connections, each two signatures of one node's role (client's, server's, both, other)
    that 95 % of them show: where the first A came before the first B in 99 % of the connections, it does in 95 % of the
    twin's calls, and the other way round. In between, an order that 25 % of the connections show occurs in the twin;
    rarer ones may be missing. The same time counts as either order.

    Known difference: on some paths up to half of the recorded connections show what the two programs do in another
    order than here: the client's FIN before the server's first data or FIN (curl's: 11 of 296), the server's taking the
    call before packets that came first, an answer before what it answers. Whether clients half-close or agents stamp
    late what another processor's ring held is not known; in the twin each waits for the other.
    """
    compared, wrong = Counter[str](), list[str]()
    for way, examples in _recorded()[0].items():
        if len(examples) < 20:
            continue
        compared["paths"] += 1
        for first, second, recorded, made in _orders(way, examples):
            fixed = recorded >= 0.99
            compared["fixed" if fixed else "in between"] += 1
            if made >= 0.95 if fixed else made or recorded < 0.25:
                continue
            if not fixed and recorded <= 0.5 and _is_race(first, second):
                compared["known"] += 1
            else:
                wrong.append(f"{way}\n  {recorded:.2f} recorded, {made:.2f} made:\n  {first}\n  {second}")
    assert not wrong, "\n".join(wrong[:40])
    print(
        f"{compared['paths']} paths, {compared['fixed']} fixed and {compared['in between']} open orders compared; {compared['known']} known"
    )
    assert compared["paths"] >= 90
    assert compared["fixed"] >= 18000
    assert compared["in between"] >= 15000
    assert compared["known"] < 90


def test_evidence_at_medium_of_1_19() -> None:
    """At `medium` 1.19 reports of a connection what was recorded; of a second node too where it aggregated already."""
    for name, nodes in (
        ("v19-snat-medium", {"client", "server"}), ("v19-clusterip-remote-medium", {"client"}),
    ):  # fmt: skip
        one = evidence(name, "v19-host-client", "medium")
        seen = {key for key in one.counts() if key.node in nodes}
        assert len(seen) >= 7
        chance, sockets = random.Random(1), Sockets()
        sets = []
        for _ in range(CALLS):
            made, _ = simulated(one, chance, sockets)
            assert made.way == one.way
            # The evidence holds what carries the client's port, which a PRE_FWD does not; its flows lost their emitter.
            sets.append({
                key._replace(emitter=False)
                for key in made.counts()
                if key.node in nodes and key.kind[0] != 7
            })  # fmt: skip
        always = set[Signature].intersection(*sets)
        assert always <= seen
        assert seen <= set[Signature].union(*sets)
        assert len(always) >= 6


def test_no_flow_for_a_service_without_backends() -> None:
    """Connecting to a Service without backends fails at once with no event at all, as recorded; the text is its version's.

    Recorded: 43 attempts, and not one flow of a socket.
    """
    recorded = truth("no-backend")["requests"]
    assert len(recorded) == 43
    assert sum("PermissionError" in one["error"] for one in recorded) == 40
    assert not [one for one in connections("no-backend") if "Permission" in one.way.outcome]
    for version, error in (("1.17.6", "Operation not permitted"), ("1.19.6", "No route to host")):
        world = _world(version, "none")
        empty = {name: tuple(replace(one, backends=()) for one in all_) for name, all_ in world.programmed.items()}
        world = replace(world, programmed=empty)
        for address, port in ((_service(world, "webpod"), 80), (world.mesh.nodes[0].address, NODE_PORT)):
            outcome = _call(world, _client(world), address, port)
            assert outcome == Outcome((), None, "", error, ())


def test_one_arrival_per_connection_with_the_source_that_the_server_saw() -> None:
    """Laws 1 to 3: one TO_ENDPOINT NEW with destination.ID per answered connection or ping process.

    Its source is what the server saw, and the client's port is kept. In every world, by every door.
    """
    count = 0
    for world, client, address, port, protocol in _calls():
        outcome = _call(world, client, address, port, protocol)
        assert not outcome.error, (client, address, port, protocol)
        arrivals = [event for event in outcome.events if _arrived(event.flow)]
        assert len(arrivals) == 1
        flow, saw = arrivals[0].flow, outcome.server_saw
        layer = getattr(flow.l4, protocol) if protocol != "ICMP" else None
        source_port = 0 if layer is None else layer.source_port
        assert f"{flow.IP.source}:{source_port}" == saw
        assert source_port == (0 if layer is None else 40000)
        assert outcome.answered is not None
        assert flow.destination.pod_name == outcome.answered.name
        assert flow.node_name == arrivals[0].node == outcome.answered.node
        count += 1
    assert count >= 300


def test_a_call_is_repeatable_and_each_node_keeps_its_order() -> None:
    """The same inputs give the same outcome; events come by offset, none before the call, and no two share a message."""
    for world, client, address, port, protocol in _calls():
        first, again = (_call(world, client, address, port, protocol, seed=7) for _ in range(2))
        assert first == again
        offsets = [event.offset for event in first.events]
        assert offsets == sorted(offsets)
        assert offsets[0] >= 0
        assert len({id(event.flow) for event in first.events}) == len(first.events)
        for node in {event.node for event in first.events}:
            own = [event.offset for event in first.events if event.node == node]
            assert len(set(own)) == len(own)
        for event in first.events:
            assert not event.flow.HasField("time")
            assert not event.flow.uuid


def test_requests_come_before_answers_at_each_node() -> None:
    """A node stamps what happens there in order: SYN before SYN-ACK before the first data, whatever its lag."""
    world = _world("1.17.6", "none")
    for seed in range(50):
        outcome = _call(world, _client(world), _pod(world, "east").address, 80, seed=seed)
        for node in {event.node for event in outcome.events}:
            flags = [
                "".join(descriptor.name[0] for descriptor, _ in event.flow.l4.TCP.flags.ListFields())
                for event in outcome.events
                if event.node == node and event.flow.event_type.type == 4
            ]
            firsts = [flags.index(one) for one in ("S", "SA", "A", "PA", "FA")]
            assert firsts == sorted(firsts)


def test_the_far_end_is_stamped_earlier_in_about_half_of_all_connections() -> None:
    """Law 4: with one clock for all nodes neither end comes first."""
    world = _world("1.17.6", "medium")
    chance, earlier, sockets = random.Random(3), 0, Sockets()
    for number in range(400):
        request = Call(_client(world), _pod(world, "east").address, 80, "TCP", 40000 + number)
        events = carry_call(world, request, 0, chance, sockets).events
        left = next(one.offset for one in events if one.flow.trace_reason == flow_pb2.NEW and one.flow.source.ID)
        earlier += next(one.offset for one in events if _arrived(one.flow)) < left
    assert 140 < earlier < 260


def test_another_cluster_is_hardly_slower() -> None:
    """An answer from another cluster takes less than twice as long as one from the same node."""
    world = _world("1.17.6", "none")
    near, far = (
        sum(_call(world, _client(world), _pod(world, name).address, 80, seed=seed).answers[0] for seed in range(200))
        for name in ("west", "east")
    )
    assert near < far < 2 * near


def test_sockets_are_limited_at_medium_from_1_19() -> None:
    """1.17 tells of each connect() at both levels; 1.19 at `medium` of one per node and 5 s, and nothing else."""
    for version, aggregation in product(VERSIONS, ("none", "medium")):
        world, sockets, chance = _world(version, aggregation), Sockets(), random.Random(1)
        found: list[list[int]] = []
        for at in (0, SECOND, 4 * SECOND, 6 * SECOND, 7 * SECOND):
            request = Call(_client(world), _service(world, "webpod"), 80, "TCP", 40000)
            events = carry_call(world, request, 1000 * SECOND + at, chance, sockets).events
            found.append([one.flow.event_type.sub_type for one in events if one.flow.event_type.type == 7])
        if version == "1.19.6" and aggregation == "medium":
            assert found == [[1], [], [], [1], []]
        else:
            assert all(sorted(one) == [1, 2, 3, 3, 3, 4, 4] for one in found)


def test_pre_and_post_share_a_cookie_and_no_two_sockets_do() -> None:
    """The events of one socket are joined by node and cookie; another socket of the node has another."""
    world, sockets, chance = _world("1.17.6", "none"), Sockets(), random.Random(1)
    cookies: list[int] = []
    for port in range(40000, 40020):
        request = Call(_client(world), _service(world, "webpod"), 80, "TCP", port)
        events = carry_call(world, request, 0, chance, sockets).events
        own = {
            one.flow.socket_cookie for one in events if one.flow.event_type.sub_type in {1, 2} and one.flow.cgroup_id
        }
        assert len(own) == 1
        cookies += own
    assert len(set(cookies)) == 20


def test_datagrams() -> None:
    """UDP: one NEW per socket at both ends, one REPLY; four flows per cross-node exchange at `medium`.

    Masqueraded datagrams keep their port, too.
    """
    for version, masquerades in product(VERSIONS, (False, True)):
        world = _world(version, "medium", masquerades=masquerades)
        outcome = _call(world, _client(world), _pod(world, "east").address, 80, "UDP")
        flows = [one.flow for one in outcome.events if one.flow.event_type.type == 4]
        assert [(one.trace_reason, one.is_reply.value) for one in flows].count((flow_pb2.NEW, False)) == 2
        assert [(one.trace_reason, one.is_reply.value) for one in flows].count((flow_pb2.REPLY, True)) == 2
        assert len(flows) == 4
        assert all(one.Summary == "UDP" for one in flows)
        assert outcome.server_saw.startswith("172.18.0.3:" if masquerades else "10.0.1.")
        assert outcome.server_saw.endswith(":40000")


def test_aggregation_reports_a_long_connection_every_five_seconds() -> None:
    """At `medium` 50 requests within 5 s give one NEW and about 4 ESTABLISHED at the server, one more per 5 s after."""
    world = _world("1.17.6", "medium")
    for gap, wanted in ((SECOND // 10, range(3, 6)), (SECOND, range(11, 16))):
        request = Call(_client(world), _pod(world, "east").address, 80, "TCP", 40000, requests=50, gap=gap)
        outcome = carry_call(world, request, 0, random.Random(1), Sockets())
        arrived = [one.flow for one in outcome.events if one.flow.event_type.type == 4 and one.flow.destination.ID]
        states = Counter(one.trace_reason for one in arrived if one.node_name.startswith("east"))
        assert states[flow_pb2.NEW] == 1
        assert states[flow_pb2.ESTABLISHED] in wanted
        assert len(outcome.answers) == 50
        assert outcome.answers[-1] > 49 * gap


def test_aggregation_shows_no_masquerading_and_nothing_that_comes_in() -> None:
    """At `medium` no flow carries a translated source, and no FROM_* event is reported."""
    for version in VERSIONS:
        world = _world(version, "medium", masquerades=True)
        flows = [one.flow for one in _call(world, _client(world), _pod(world, "east").address, 80).events]
        assert not any(one.IP.source_xlated for one in flows)
        assert {one.event_type.sub_type for one in flows if one.event_type.type == 4} == {0, 11}
        assert 10 < len(flows) < 20


def test_node_ports_of_another_cluster() -> None:
    """1.17 answers another cluster's NodePort itself if it has the same one; 1.19 asks the cluster that was called.

    What the called node forwards to another one arrives with that node's address; what it answers itself does not.
    """
    for version in VERSIONS:
        world = _world(version, "none")
        called = next(node for node in world.mesh.nodes if node.full == "east/east-control-plane")
        for cluster, pods in (("west", ("west",)), ("east", ("east", "west"))):
            for name in pods:
                backend = _pod(world, name, node=called.full if name == "east" else "")
                found = _call(_only(world, cluster, backend), _client(world), called.address, NODE_PORT)
                by_caller = version == "1.17.6"
                assert not found.error
                if (cluster == "west") != by_caller:
                    continue
                assert found.answered == backend
                crossed = any(_from_network(one.flow) and one.node == called.full for one in found.events)
                assert crossed is not by_caller
                saw_node = found.server_saw.startswith(called.address)
                assert saw_node is (not by_caller and backend.node != called.full)


def test_an_explicit_refusal_and_one_by_default() -> None:
    """A refused SYN shows as drop and verdict, twice in 1.5 s; a policy that lets others in refuses by default."""
    for explicit, reason in ((True, flow_pb2.POLICY_DENY), (False, flow_pb2.POLICY_DENIED)):
        rule = Policy("east", "default", "rule", "webpod", "west", explicit)
        for aggregation in ("none", "medium"):
            world = replace(_world("1.17.6", aggregation), policies=(rule,))
            outcome = _call(world, _client(world), _pod(world, "east").address, 80)
            assert (outcome.error, outcome.answered, outcome.server_saw, outcome.answers) == ("timed out", None, "", ())
            drops = [one.flow for one in outcome.events if one.flow.verdict == flow_pb2.DROPPED]
            assert [one.event_type.type for one in drops] == [5, 1, 5, 1]
            assert {one.drop_reason_desc for one in drops} == {reason}
            assert {bool(one.ingress_denied_by) for one in drops if one.event_type.type == 5} == {explicit}
            allowed = _call(world, _client(world, "east"), _pod(world, "east").address, 80)
            verdicts = [one.flow for one in allowed.events if one.flow.event_type.type == 5]
            assert [(one.verdict, one.is_reply.value) for one in verdicts] == [(flow_pb2.FORWARDED, False)]


def test_host_networks_have_no_names_and_no_sockets() -> None:
    """A client on the host network arrives as its node, identity 6, unnamed; it has no socket event of its own."""
    for version in VERSIONS:
        world = _world(version, "none")
        pod = replace(_client(world), host_network=True, address=world.nodes[_client(world).node].address)
        for client in (pod, Host(world.nodes[pod.node])):
            outcome = _call(_only(world, "west", _pod(world, "east")), client, _service(world, "webpod"), 80)
            arrival = next(one.flow for one in outcome.events if _arrived(one.flow))
            assert (arrival.source.identity, arrival.source.pod_name, arrival.source.cluster_name) == (6, "", "")
            assert outcome.server_saw == "172.18.0.3:40000"
            assert {one.node for one in outcome.events if one.flow.event_type.type == 7} == {_pod(world, "east").node}


def test_whoever_is_not_there() -> None:
    """A port that nobody listens on refuses; an address that is gone or outside times out after a second SYN."""
    world = _world("1.17.6", "none")
    refused = _call(world, _client(world), _pod(world, "east").address, 81)
    assert refused.error == "Connection refused"
    assert "RST" in {descriptor.name for one in refused.events for descriptor, _ in one.flow.l4.TCP.flags.ListFields()}
    for address, nodes in (
        ("10.1.1.77", {"west/west-worker", "east/east-worker"}),
        ("192.0.2.1", {"west/west-worker"}),
    ):
        lost = _call(world, _client(world), address, 80)
        assert (lost.error, lost.answered, {one.node for one in lost.events}) == ("timed out", None, nodes)
        left = [one.flow for one in lost.events if one.flow.trace_reason and one.flow.source.ID]
        assert [one.trace_reason for one in left] == [flow_pb2.NEW, flow_pb2.ESTABLISHED]
    outside = _call(world, _client(world), world.mesh.balancer, 80)
    assert (outside.error, outside.answered, outside.server_saw) == ("", None, "172.18.0.3:40000")
    masked = [one.flow for one in outside.events if one.flow.IP.source_xlated]
    assert {(one.IP.source_xlated, one.destination.identity) for one in masked} == {("172.18.0.3", 2)}


@cache
def _recorded() -> tuple[dict[Way, list[Connection]], int]:
    """Return the recorded connections by path and how many are left out because aggregation was not in force yet."""
    found: dict[Way, list[Connection]] = defaultdict(list)
    early = 0
    for name in NAMES:
        if truth(name)["lossy"]:
            continue
        for one in connections(name):
            if one.way.aggregation == "medium" and not one.aggregated:
                early += 1
            elif one.way.server:
                found[one.way].append(one)
    return dict(found), early


def _differences(way: Way, examples: list[Connection]) -> Iterator[str]:
    recorded, made = [one.counts() for one in examples], list[Counter[Signature]]()
    chance = random.Random(str(way))
    for number in range(CALLS):
        twin, _ = simulated(examples[number % len(examples)], chance)
        if twin.way != way:
            yield f"{way} became {twin.way}"
            return
        made.append(twin.counts())
    known = Counter[Signature](key for one in recorded for key in one)
    emitted = Counter[Signature](key for one in made for key in one)
    for key in emitted.keys() - known.keys():
        yield f"{way}\n  emits what was never recorded: {key}"
    for key in known:
        if known[key] < 0.95 * len(recorded):
            continue
        if emitted[key] < 0.9 * CALLS:
            yield f"{way}\n  lacks, in {emitted[key]} of {CALLS}: {key}"
            continue
        wanted, got = (sum(one[key] for one in all_) / len(all_) for all_ in (recorded, made))
        if abs(wanted - got) > max(0.35 * wanted, 1 if len(recorded) >= 5 else 2):
            yield f"{way}\n  has {got:.2f} instead of {wanted:.2f} of {key}"


def _orders(way: Way, examples: list[Connection]) -> Iterator[tuple[Signature, Signature, float, float]]:
    """Yield two signatures and how often the first comes before the second: recorded, and made by the twin.

    Two that have one fixed order come once, in that order; all others come both ways.
    """
    recorded = [_firsts(((flow.time.ToNanoseconds(), flow) for flow in one.flows), one.roles) for one in examples]
    chance, made = random.Random(str(way)), list[dict[Signature, int]]()
    for number in range(CALLS):
        twin, outcome = simulated(examples[number % len(examples)], chance)
        made.append(_firsts(((event.offset, event.flow) for event in outcome.events), twin.roles))
    shown = Counter(key for one in recorded for key in one)
    common = [key for key in shown if shown[key] >= 0.95 * len(recorded)]
    wanted, got = ([[one.get(key) for one in all_] for key in common] for all_ in (recorded, made))
    for first, second in permutations(range(len(common)), 2):
        if common[first].node != common[second].node:
            continue
        before = _share(wanted[first], wanted[second])
        if before >= 0.99 or _share(wanted[second], wanted[first]) < 0.99:
            yield common[first], common[second], before, _share(got[first], got[second])


def _firsts(events: Iterable[tuple[int, flow_pb2.Flow]], roles: Roles) -> dict[Signature, int]:
    """Return when each node first reported each signature, without identities: a path may lead from either cluster."""
    found, nodes = dict[Signature, int](), defaultdict[str, set[str]](set)
    for time, flow in events:
        full = signature(flow, roles)
        ends = (full.source._replace(identity=""), full.destination._replace(identity=""))
        key = full._replace(source=ends[0], destination=ends[1])
        found[key] = min(time, found.get(key, time))
        nodes[key.node].add(flow.node_name)
    assert all(len(names) == 1 for names in nodes.values())
    return found


def _is_race(first: Signature, second: Signature) -> bool:
    """Tell whether one is the server's taking the call, or both are data or FINs of the two programs."""
    accepted = (_SOCKET, flow_pb2.SOCK_XLATE_POINT_PRE_DIRECTION_REV)
    written = all("PSH" in one.text or "FIN" in one.text for one in (first, second))
    opposite = (first.source.port == "own") != (second.source.port == "own")
    return accepted in (first.kind[:2], second.kind[:2]) or (written and opposite)


def _share(first: list[int | None], second: list[int | None]) -> float:
    """Return in which part of the connections that have both the first does not come after the second."""
    both = [left <= right for left, right in zip(first, second, strict=True) if left is not None and right is not None]
    return sum(both) / len(both) if both else 0


def _world(version: str, aggregation: str, *, socket_lb: bool = True, masquerades: bool = False) -> World:
    """Return the walkthrough's mesh with a NodePort and a UDP Service, programmed."""
    mesh = walkthrough(cilium=version, aggregation=aggregation)
    clusters = tuple(
        replace(one, socket_lb=socket_lb, non_masquerade_cidrs=() if masquerades else one.non_masquerade_cidrs)
        for one in mesh.clusters
    )
    names, shared = ("west", "east"), {GLOBAL: "true"}
    more = (
        Service("webpod-np", "webpod", names, node_port=NODE_PORT, annotations=shared),
        Service("names", "webpod", names, port=53, protocol="UDP", annotations=shared),
    )
    world = build(replace(mesh, clusters=clusters, services=(*mesh.services, *more)))
    return replace(world, programmed={one.name: programmed.program(world, one.name) for one in clusters})


def _only(world: World, cluster: str, backend: Pod) -> World:
    """Return the world in which one cluster's agents lead every Service to one pod."""
    frontends = tuple(Frontend(one.service, (backend,)) for one in world.programmed[cluster])
    return replace(world, programmed={**world.programmed, cluster: frontends})


def _calls() -> Iterator[tuple[World, Client, str, int, str]]:
    """Yield answered calls of every kind in every kind of world."""
    settings = product(VERSIONS, ("none", "medium"), (True, False), (True, False))
    for version, aggregation, socket_lb, masquerades in settings:
        world = _world(version, aggregation, socket_lb=socket_lb, masquerades=masquerades)
        worker = next(node for node in world.mesh.nodes if node.full == "west/west-worker")
        for client in (_client(world), Host(worker), Outside(world.mesh.outside)):
            for node in world.mesh.nodes:
                yield world, client, node.address, NODE_PORT, "TCP"
            for pod in (one for one in world.pods if one.app == "webpod"):
                for protocol in ("TCP", "UDP", "ICMP"):
                    yield world, client, pod.address, 80 if protocol != "ICMP" else 0, protocol
            if not isinstance(client, Outside):
                yield world, client, _service(world, "webpod"), 80, "TCP"
                yield world, client, _service(world, "names"), 53, "UDP"


def _call(world: World, client: Client, address: str, port: int, protocol: str = "TCP", *, seed: int = 1) -> Outcome:
    source_port = 0 if protocol == "ICMP" else 40000
    return carry_call(world, Call(client, address, port, protocol, source_port), 0, random.Random(seed), Sockets())


def _client(world: World, cluster: str = "west") -> Pod:
    return next(one for one in world.pods if one.name == "curl-pod" and one.cluster == cluster)


def _pod(world: World, cluster: str, node: str = "") -> Pod:
    return next(
        one for one in world.pods if one.app == "webpod" and one.cluster == cluster and (not node or one.node == node)
    )


def _service(world: World, name: str) -> str:
    found = world.service("west", "default", name)
    assert found is not None
    return found.address


def _arrived(flow: flow_pb2.Flow) -> bool:
    to_endpoint = flow.event_type.type == 4 and flow.trace_observation_point == flow_pb2.TO_ENDPOINT
    return to_endpoint and flow.trace_reason == flow_pb2.NEW and flow.destination.ID != 0


def _from_network(flow: flow_pb2.Flow) -> bool:
    return flow.event_type.type == 4 and flow.trace_observation_point == flow_pb2.FROM_NETWORK

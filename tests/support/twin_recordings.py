"""Recordings of real meshes -> their connections, one by one, each with all its flows and what its client saw."""

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from google.protobuf import json_format

from meshobs.lab.mesh import ipv6
from meshobs.lab.mesh.model import Mesh, Node
from meshobs.lab.sim.world.world import Pod, Service
from meshobs.pb.flow import flow_pb2
from meshobs.pb.observer import observer_pb2
from support.twin import SECOND, Attempt, Connection, Facts, described

RECORDINGS = Path(__file__).parent.parent / "recordings"
# Of kinds of mesh that the twin does not imitate: DSR, iptables, kube-proxy, namespaces that are not global, fields of a
# Service's spec; of 1.20 NodePorts at medium, or in tunnels, and its limited socket events; of two families those whose
# ranges are not the lab's.
OTHER_MESHES = (
    "dsr",
    "dual17-dual",
    "dual17-mix6",
    "dual20m",
    "ipt",
    "vxd",
    "v20-kinds2",
    "v20ns",
    "v17m",
    "v20m",
    "vx20-nodeport",
)
# Whose clients are those of `meshobs lab record`.
BY_LAB = ("dsr", "dual", "ipt", "v20", "vx")
NAMES = sorted(one.name for one in RECORDINGS.iterdir() if not one.name.startswith(OTHER_MESHES))
EVIDENCE = Path(__file__).parent.parent / "data" / "evidence"


def nanoseconds(text: str) -> int:
    """Return a time as written in truth.json."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * SECOND + int((fraction + "0" * 9)[:9])


@cache
def truth(name: str) -> dict[str, Any]:
    """Return what a recording's clients saw."""
    loaded: dict[str, Any] = json.loads((RECORDINGS / name / "truth.json").read_text())
    return loaded


@cache
def facts_of(name: str, aggregation: str = "") -> Facts:
    """Return what is true for a whole recording, or for evidence of the same mesh at another aggregation."""
    loaded = truth(name)
    dual_stack = name.startswith("dual")
    nodes = [
        Node(
            one["cluster"], key, one["ip"], one["cidr"], control_plane="control-plane" in key,
            address6=ipv6.on_link(one["ip"], Mesh.network) if dual_stack else "",
        )
        for key, one in loaded["nodes"].items()
    ]  # fmt: skip
    full = {node.name: node.full for node in nodes}
    ids = {"west": 1, "east": 2}
    pods = [
        Pod(
            one["cluster"], full[one["node"]], "default", one["name"], app, addresses[0],
            (ids[one["cluster"]] << 16) + 300 + (app == "webpod"), 500 + number,
            "" if app == "curl" else app, f"lxc{number:012x}", 6 + 2 * number, 80,
            address6="".join(addresses[1:]),
        )
        for number, (one, addresses) in enumerate(_by_families(loaded["pods"], "cluster", "name"))
        # A Deployment's pod is called after it.
        for app in [one.get("app") or one["name"].partition("-")[0]]
    ]  # fmt: skip
    services = tuple(
        Service(
            one["cluster"], one["namespace"], one["name"], "webpod", one["ip"], one["port"], 80, "TCP",
            one["node_port"] or 0, MappingProxyType({}), "".join(addresses[1:]),
        )
        for one, addresses in _by_families(_services(name), "cluster", "namespace", "name")
    )  # fmt: skip
    scenario = name.removeprefix("v19-")
    return Facts(
        loaded["cilium_version"],
        aggregation or loaded["monitor_aggregation"],
        "perpacket" not in scenario,
        "snat" in scenario,
        scenario == "policy",
        "curl" if name.startswith("kind") else "lab" if name.startswith(BY_LAB) else "python",
        "vxlan" if name.startswith("vx") else "dual-stack" if dual_stack else "native",
        {address: node for node in nodes for address in node.addresses},
        {address: pod for pod in pods for address in pod.addresses},
        services,
    )


def _by_families(told: Iterable[Mapping[str, Any]], *key: str) -> Iterable[tuple[Mapping[str, Any], Sequence[str]]]:
    """Yield what the ground truth tells once for each address, with its addresses, that of IPv4 first."""
    found: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for one in told:
        if one["ip"]:
            found.setdefault(tuple(one[part] for part in key), []).append(one)
    for several in found.values():
        several.sort(key=lambda one: ":" in one["ip"])
        yield several[0], [one["ip"] for one in several]


def _services(name: str) -> Iterable[Mapping[str, Any]]:
    """Return the Services of a recording; some of them tell in the ground truth only those that were there at its end."""
    found = {(one["cluster"], one["namespace"], one["name"], one["ip"]): one for one in truth(name)["services"]}
    for path in (RECORDINGS / name).glob("watch-*-svc.jsonl") if name.startswith(BY_LAB) else ():
        for line in path.read_text().splitlines():
            one, cluster = json.loads(line)["object"], path.name.split("-")[1]
            meta, spec = one["metadata"], one["spec"]
            if "nodePort" in spec["ports"][0]:
                found.setdefault(
                    (cluster, meta["namespace"], meta["name"], spec["clusterIP"]),
                    {"cluster": cluster, "namespace": meta["namespace"], "name": meta["name"], "ip": spec["clusterIP"],
                     "port": spec["ports"][0]["port"], "node_port": spec["ports"][0]["nodePort"]},
                )  # fmt: skip
    return found.values()


@cache
def flows_of(name: str) -> tuple[flow_pb2.Flow, ...]:
    """Return a recording's flows in order of time, each once."""
    data = gzip.decompress((RECORDINGS / name / "west.bin.gz").read_bytes())
    found: dict[tuple[str, str], flow_pb2.Flow] = {}
    place = 0
    while place < len(data):
        end = place + 4 + int.from_bytes(data[place : place + 4], "big")
        answer = observer_pb2.GetFlowsResponse.FromString(data[place + 4 : end])
        if answer.WhichOneof("response_types") == "flow":
            found[answer.flow.node_name, answer.flow.uuid] = answer.flow
        place = end
    return tuple(sorted(found.values(), key=lambda flow: flow.time.ToNanoseconds()))


def connections(name: str) -> list[Connection]:
    """Return a recording's connections with their flows.

    Left out are attempts whose port came back within 2 s (their flows cannot be told apart), connect() calls that
    failed without a packet, and connections whose end was not recorded.
    """
    facts, flows = facts_of(name), flows_of(name)
    by_port = _by_port(flows)
    sockets = _Sockets(flows)
    made: list[Connection] = []
    attempts = list(_attempts(name, by_port))
    ports = Counter(one.port for one in attempts)
    for attempt in attempts:
        own_sockets = sockets.take(attempt)
        if ports[attempt.port] > 1 and any(_near(attempt, other) for other in attempts):
            continue
        window = range(attempt.start - SECOND // 5, attempt.end + SECOND // 3)
        mine = [flow for flow in by_port.get(attempt.port, ()) if flow.time.ToNanoseconds() in window]
        if attempt.outcome != "answered" or any(flow.l4.TCP.flags.FIN for flow in mine):
            made.append(Connection(*described(facts, attempt), attempt, facts, mine + own_sockets))
    last = flows[-1].time.ToNanoseconds()
    return made + [one for one in _pings(name) if one.attempt.end < last]


def _near(attempt: Attempt, other: Attempt) -> bool:
    return other is not attempt and other.port == attempt.port and abs(other.start - attempt.start) < 2 * SECOND


def _attempts(name: str, by_port: Mapping[int, Sequence[flow_pb2.Flow]]) -> Iterable[Attempt]:
    requests = truth(name)["requests"]
    known = {one["client_port"] for one in requests if "client_port" in one}
    again: dict[tuple[str, int], list[int]] = {}
    for one in requests:
        if one.get("reused"):
            again.setdefault((one["client"], one["client_port"]), []).append(nanoseconds(one["t_end"]))
    for one in requests:
        if one.get("reused"):
            continue
        if "client_port" in one:
            yield _answered(one, again.get((one["client"], one["client_port"]), []))
        else:
            found = _unanswered(one, name, by_port, known)
            if found is not None:
                known.add(found.port)
                yield found


def _answered(one: Mapping[str, Any], again: Sequence[int]) -> Attempt:
    target, _, port = one["target"].rpartition(":")
    return Attempt(
        one["client_ip"], one["client"], one["client_port"], target, int(port), one["answered_by"]["ip"],
        one["server_saw"].rpartition(":")[0], nanoseconds(one["t"]), max([nanoseconds(one["t_end"]), *again]),
        requests=1 + len(again),
    )  # fmt: skip


def _unanswered(
    one: Mapping[str, Any], name: str, by_port: Mapping[int, Sequence[flow_pb2.Flow]], known: set[int]
) -> Attempt | None:
    """Return an attempt that failed, with the port and the destination of its SYN; None if it sent none."""
    cluster, _, pod = one["client"].split("/")
    source = next(p.address for p in facts_of(name).pods.values() if (p.cluster, p.name) == (cluster, pod))
    target, _, aimed = one["target"].rpartition(":")
    start, end = nanoseconds(one["t"]), nanoseconds(one["t_end"])
    outcome = one["error"].split(":")[0]
    for port in by_port.keys() - known:
        for flow in by_port[port]:
            left = flow.event_type.sub_type == 5 and flow.IP.source == source and flow.l4.TCP.source_port == port
            if left and start - SECOND // 50 < flow.time.ToNanoseconds() < end:
                return Attempt(
                    source, one["client"], port, target, int(aimed), flow.IP.destination, source, start, end, outcome
                )
    return None


def _by_port(flows: Sequence[flow_pb2.Flow]) -> dict[int, list[flow_pb2.Flow]]:
    found: dict[int, list[flow_pb2.Flow]] = {}
    for flow in flows:
        if flow.l4.HasField("TCP"):
            for port in {flow.l4.TCP.source_port, flow.l4.TCP.destination_port} - {0}:
                found.setdefault(port, []).append(flow)
    return found


def _pings(name: str) -> Iterable[Connection]:
    """Yield one connection per ping process: what both ends said of each other while it ran."""
    facts = facts_of(name)
    for one in truth(name).get("pings", _pings_among_requests(name)):
        source, target = one["client_ip"], one["target"]
        here, there = (
            next(n for n in facts.nodes.values() if n.full == facts.pods[at].node) for at in (source, target)
        )
        saw = here.address if facts.masquerades and here.cluster != there.cluster else source
        start, end = nanoseconds(one["t"]), nanoseconds(one["t_end"])
        attempt = Attempt(
            source, one["client"], 0, target, 0, target, saw, start, end,
            "answered" if one["received"] else "TimeoutError", "ICMP", one["sent"],
        )  # fmt: skip
        pairs = {(True, source, target), (False, target, source), (True, saw, target), (False, target, saw)}
        flows = [
            flow for flow in flows_of(name)
            if (_echo(flow), flow.IP.source, flow.IP.destination) in pairs
            and start - SECOND // 10 < flow.time.ToNanoseconds() < end + SECOND // 5
        ]  # fmt: skip
        yield Connection(*described(facts, attempt), attempt, facts, flows)


def _pings_among_requests(name: str) -> Iterable[Mapping[str, Any]]:
    """Yield ping processes: of those that `lab record` ran, each ping is a request."""
    processes: list[list[Mapping[str, Any]]] = []
    for one in truth(name)["requests"]:
        if one.get("protocol") == "ICMP" and name.startswith("dual"):
            if one.get("reused"):
                processes[-1].append(one)
            else:
                processes.append([one])
    for pings in processes:
        yield {
            "client": pings[0]["client"], "client_ip": pings[0]["client_ip"], "sent": len(pings),
            "target": pings[0]["target"].rpartition(":")[0], "received": len(pings),
            "t": pings[0]["t"], "t_end": pings[-1]["t_end"],
        }  # fmt: skip


def _echo(flow: flow_pb2.Flow) -> bool | None:
    """Tell whether a flow is a ping, or its answer; None: neither."""
    kind = flow.l4.WhichOneof("protocol")
    known = {"ICMPv4": {8: True, 0: False}, "ICMPv6": {128: True, 129: False}}
    return known[kind].get(getattr(flow.l4, kind).type) if kind in known else None


class _Sockets:
    """The client's own socket events carry no source port: each attempt of a pod takes the next cookie of that pod."""

    def __init__(self, flows: Sequence[flow_pb2.Flow]) -> None:
        groups: dict[tuple[str, str, int], list[flow_pb2.Flow]] = {}
        for flow in flows:
            if flow.event_type.type == 7:
                forth = flow.event_type.sub_type <= 2
                own = flow.IP.source if forth else flow.IP.destination
                if forth or flow.l4.TCP.source_port in {80, 30080}:
                    groups.setdefault((flow.node_name, own, flow.socket_cookie), []).append(flow)
        self._waiting: dict[str, list[list[flow_pb2.Flow]]] = {}
        for (_, own, _), events in groups.items():
            self._waiting.setdefault(own, []).append(events)

    def take(self, attempt: Attempt) -> list[flow_pb2.Flow]:
        """Return the socket events of an attempt, none if none fits."""
        waiting = self._waiting.get(attempt.source, [])
        window = range(attempt.start - SECOND // 50, attempt.end + SECOND // 5)
        for number, events in enumerate(waiting):
            peers = {one.IP.destination if one.event_type.sub_type <= 2 else one.IP.source for one in events}
            if peers <= {attempt.target, attempt.server, "::"} and events[0].time.ToNanoseconds() in window:
                return waiting.pop(number)
        return []


@cache
def evidence(name: str, recording: str, aggregation: str) -> Connection:
    """Return one connection of the evidence; the recording named is of the same mesh."""
    attempt = _answered(json.loads((EVIDENCE / f"{name}.truth.json").read_text()), [])
    facts = replace(facts_of(recording, aggregation), masquerades="snat" in name)
    lines = (EVIDENCE / f"{name}.jsonpb").read_text().splitlines()
    flows = [
        json_format.Parse(line, observer_pb2.GetFlowsResponse(), ignore_unknown_fields=True).flow for line in lines
    ]
    mine = [flow for flow in flows if attempt.port in {flow.l4.TCP.source_port, flow.l4.TCP.destination_port}]
    return Connection(*described(facts, attempt), attempt, facts, mine)

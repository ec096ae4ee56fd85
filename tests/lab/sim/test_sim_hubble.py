"""The simulated Hubble: its ring, filters and agents by rule; its Relay against a real one before the same agents."""

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import grpc
import pytest
from google.protobuf import json_format
from support.command_line import Outcome
from support.recordings import RECORDINGS
from support.relay_nodes import SECOND, Event, Peers, RelayProcess, Run, expected, recorded, stored, wait_until

from meshobs.cli.collect import Rate
from meshobs.collector import importer
from meshobs.collector.collect import Collection
from meshobs.collector.hubble.relay import Relay
from meshobs.collector.hubble.target import parse
from meshobs.collector.options import CollectOptions
from meshobs.collector.progress import Phase, Progress
from meshobs.collector.recorder import Recorder
from meshobs.lab.mesh.model import Mesh, walkthrough
from meshobs.lab.sim.hubble import getflows
from meshobs.lab.sim.hubble.agent import Agent
from meshobs.lab.sim.hubble.filters import fieldmask, filters, selectors
from meshobs.lab.sim.hubble.getflows import FlowReading, Message, RequestRefusedError
from meshobs.lab.sim.hubble.ring import Ring
from meshobs.lab.sim.hubble.server import Hubble
from meshobs.lab.sim.hubble.sorting import Errors, Sorter
from meshobs.lab.sim.hubble.wakeup import Wakeup
from meshobs.pb.flow.flow_pb2 import HUBBLE_RING_BUFFER, OBSERVER_EVENTS_QUEUE, PERF_EVENT_RING_BUFFER, Flow, FlowFilter
from meshobs.pb.observer.observer_pb2 import (
    GetFlowsRequest,
    GetFlowsResponse,
    GetNamespacesResponse,
    GetNodesResponse,
    ServerStatusResponse,
)
from meshobs.pb.relay.relay_pb2 import NodeState
from meshobs.store import Store

RECORDING = RECORDINGS / "global-none" / "west.bin.gz"
RELAY = "hubble-relay-1.17"
NODE = "east/east-worker"
START = 1_767_225_600 * SECOND  # 2026 begins

Flows = dict[str, list[Event]]


def request(text: str = "{}") -> GetFlowsRequest:
    """Return a request written in JSON."""
    made: GetFlowsRequest = json_format.Parse(text, GetFlowsRequest())
    return made


def message(number: int, node: str = NODE, at: int | None = None) -> GetFlowsResponse:
    """Return a small flow with its number as its uuid."""
    made = GetFlowsResponse(flow=Flow(uuid=str(number), node_name=node), node_name=node)
    made.time.FromNanoseconds(START + number * SECOND if at is None else at)
    made.flow.time.CopyFrom(made.time)
    return made


def filled(ring: Ring, numbers: range) -> Ring:
    """Write flows, a second after each other."""
    for number in numbers:
        ring.write(START + number * SECOND, message(number).SerializeToString())
    return ring


def said(raw: bytes) -> str:
    """Return a flow's uuid, or what is said of a loss."""
    made = GetFlowsResponse.FromString(raw)
    lost = made.lost_events
    return made.flow.uuid if made.HasField("flow") else f"{lost.num_events_lost} lost"


def read(reading: FlowReading) -> list[str]:
    """Return what a request brings until there is no more."""
    found: list[str] = []
    more = True
    while more:
        messages, more = reading.take()
        found += [said(one.raw) for one in messages]
    return found


# --- one ring ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "numbers", "lost"),
    [
        ("{}", range(5, 12), 1),
        ('{"number": 3}', range(9, 12), 0),
        ('{"number": 3, "first": true}', range(5, 8), 0),
        ('{"number": 18446744073709551615}', range(5, 12), 1),
        ('{"follow": true}', range(0), 0),
        ('{"number": 2, "follow": true}', range(10, 12), 0),
        ('{"since": "2026-01-01T00:00:07Z"}', range(7, 12), 0),
        ('{"since": "2026-01-01T00:00:07Z", "number": 2}', range(7, 9), 0),
        ('{"since": "2026-01-01T00:00:07Z", "number": 2, "first": true}', range(7, 9), 0),
        ('{"since": "2026-01-01T00:00:07Z", "number": 2, "follow": true}', range(7, 12), 0),
        ('{"until": "2026-01-01T00:00:07Z"}', range(5, 8), 1),
        ('{"until": "2026-01-01T00:00:07Z", "number": 6}', range(6, 8), 0),
        ('{"since": "2026-01-01T00:00:06Z", "until": "2026-01-01T00:00:07Z", "follow": true}', range(6, 8), 0),
        ('{"since": "2020-01-01T00:00:00Z"}', range(5, 12), 1),
        ('{"since": "2026-01-01T00:00:07Z", "whitelist": [{"node_name": ["other"]}]}', range(0), 1),
        ('{"since": "2026-01-01T00:00:07Z", "whitelist": [{"uuid": ["7", "9"]}]}', range(7, 11, 2), 1),
        ('{"since": "2026-01-01T00:00:07Z", "whitelist": [{"uuid": ["6", "9"]}]}', range(9, 10), 0),
    ],
)
def test_what_a_request_takes_from_a_ring(asked: str, numbers: range, lost: int) -> None:
    """The newest N or the oldest; `since` rules the start, `until` the end; more than there is, is what there is.

    A walk through all of a ring that has turned over ends one too far, which is told as a loss.
    """
    ring = filled(Ring(NODE, 7, merges_losses=False), range(12))

    assert read(FlowReading(ring, request(asked), lambda: START)) == ["1 lost"] * lost + list(map(str, numbers))


def test_number_counts_what_passes_the_filters() -> None:
    """The newest N are the newest N that match, however far back; losses are neither counted nor filtered."""
    ring = filled(Ring(NODE, 7, merges_losses=False), range(4))
    ring.lose(START, 9, PERF_EVENT_RING_BUFFER, cpu=3)
    filled(ring, range(4, 6))
    asked = request('{"number": 2, "whitelist": [{"uuid": ["1", "2", "5"]}]}')

    assert read(FlowReading(ring, asked, lambda: START)) == ["2", "9 lost", "5"]


def test_an_overtaken_reader_is_told_of_each_position() -> None:
    """Before 1.19 each overwritten position is one event of HUBBLE_RING_BUFFER, without a CPU."""
    ring = filled(Ring(NODE, 7, merges_losses=False), range(7))
    reading = FlowReading(ring, request('{"since": "2020-01-01T00:00:00Z", "follow": true}'), lambda: START)
    filled(ring, range(7, 10))

    messages, _ = reading.take()
    lost = GetFlowsResponse.FromString(messages[0].raw)

    assert [said(one.raw) for one in messages] == ["1 lost"] * 3
    assert (lost.node_name, lost.lost_events.source, lost.lost_events.HasField("cpu")) == (
        NODE,
        HUBBLE_RING_BUFFER,
        False,
    )
    assert read(reading) == list(map(str, range(3, 10)))


def test_from_1_19_losses_are_put_together() -> None:
    """One event says how many, from when to when; a second after the first at the earliest, with the next flow."""
    now = START
    ring = filled(Ring(NODE, 7, merges_losses=True), range(7))
    reading = FlowReading(ring, request('{"since": "2020-01-01T00:00:00Z", "follow": true}'), lambda: now)
    filled(ring, range(7, 10))
    before = read(reading)
    now += SECOND
    silent = read(reading)
    filled(ring, range(10, 11))
    messages, _ = reading.take()
    lost = GetFlowsResponse.FromString(messages[0].raw).lost_events

    assert (before, silent) == (list(map(str, range(3, 10))), [])
    assert [said(one.raw) for one in messages] == ["3 lost", "10"]
    assert lost.first.ToNanoseconds() == lost.last.ToNanoseconds() == START


def test_losses_before_the_ring_are_the_same_for_all() -> None:
    """They stand in the ring, with a CPU, and ignore filters and time."""
    ring = Ring(NODE, 7, merges_losses=True)
    ring.lose(START, 5, OBSERVER_EVENTS_QUEUE, cpu=0)
    asked = request('{"since": "2030-01-01T00:00:00Z", "whitelist": [{"node_name": ["other"]}]}')
    reading = FlowReading(ring, asked, lambda: START)
    raw = reading.take()[0][0].raw

    assert GetFlowsResponse.FromString(raw).lost_events.HasField("cpu")
    assert said(raw) == "5 lost"


@pytest.mark.parametrize("capacity", [1, 3, 7, 15])
def test_a_ring_that_is_resized_keeps_the_newest(capacity: int) -> None:
    """As many as it can hold; what is written later follows them."""
    ring = filled(Ring(NODE, 7, merges_losses=False), range(10))
    ring.resize(capacity)
    kept = read(FlowReading(ring, request('{"first": true}'), lambda: START))
    filled(ring, range(10, 30))

    assert kept == [str(number) for number in range(3, 10)][-capacity:]
    again = read(FlowReading(ring, request('{"first": true}'), lambda: START))

    assert again == [str(number) for number in range(3, 30)][-capacity:]


@pytest.mark.parametrize("capacity", [0, 4, 100, 4096])
def test_a_ring_holds_a_power_of_two_less_one(capacity: int) -> None:
    """Anything else is refused, as an agent does."""
    with pytest.raises(ValueError, match="2\\^n - 1"):
        Ring(NODE, capacity, merges_losses=False)


def test_readers_and_a_writer_at_once() -> None:
    """Each of several readers finds every flow in order, or is told how many it missed."""
    ring = Ring(NODE, 255, merges_losses=False)
    asked = [FlowReading(ring, request('{"follow": true}'), lambda: START) for _ in range(3)]
    found: list[list[str]] = [[] for _ in asked]

    def follow(number: int) -> None:
        while found[number][-1:] != ["19999"]:
            found[number] += [said(one.raw) for one in asked[number].take()[0]]

    readers = [threading.Thread(target=follow, args=(number,)) for number in range(3)]
    for reader in readers:
        reader.start()
    filled(ring, range(20_000))
    for reader in readers:
        reader.join(60)

    for one in found:
        flows = [int(text) for text in one if "lost" not in text]
        assert flows == sorted(flows)
        assert len(one) == 20_000


# --- filters ----------------------------------------------------------------------------------------------------------

FLOW = json_format.Parse(
    """{"uuid": "u", "node_name": "east/east-worker", "verdict": "DROPPED", "drop_reason_desc": "POLICY_DENIED",
    "IP": {"source": "10.0.1.68", "destination": "fd00::1", "ipVersion": "IPv6", "source_xlated": "172.18.0.3"},
    "l4": {"TCP": {"source_port": 4000, "destination_port": 80, "flags": {"SYN": true, "ECE": true}}},
    "source": {"identity": 65889, "cluster_name": "west", "namespace": "default", "pod_name": "curl-pod",
               "labels": ["k8s:app=curl", "k8s:io.kubernetes.pod.namespace=default", "reserved:init"],
               "workloads": [{"name": "curl", "kind": "Deployment"}]},
    "destination": {"identity": 2, "labels": ["reserved:world"]},
    "event_type": {"type": 1, "sub_type": 133}, "traffic_direction": "INGRESS",
    "destination_service": {"name": "webpod", "namespace": "default"}, "destination_names": ["web.example.com"],
    "interface": {"index": 7, "name": "eth0"}}""",
    Flow(),
)


@pytest.mark.parametrize(
    ("fits", "differs"),
    [
        ('{"uuid": ["u"]}', '{"uuid": ["v"]}'),
        ('{"source_ip": ["1.1.1.1", "10.0.1.68"]}', '{"source_ip": ["10.0.1.6"]}'),
        ('{"source_ip": ["10.0.0.0/16"]}', '{"source_ip": ["10.1.0.0/16", "fd00::/8"]}'),
        ('{"destination_ip": ["fd00::/8"]}', '{"destination_ip": ["10.0.0.0/8"]}'),
        ('{"source_ip_xlated": ["172.18.0.3"]}', '{"source_ip_xlated": ["10.0.1.68"]}'),
        ('{"source_pod": ["curl"]}', '{"source_pod": ["other/curl"]}'),
        ('{"source_pod": ["/curl-p"]}', '{"source_pod": ["pod"]}'),
        ('{"source_pod": ["default/"]}', '{"destination_pod": ["default/"]}'),
        ('{"destination_service": ["default/webpod"]}', '{"source_service": ["default/webpod"]}'),
        ('{"destination_port": ["80"]}', '{"source_port": ["80"]}'),
        ('{"source_cluster_name": ["west"]}', '{"destination_cluster_name": ["west"]}'),
        ('{"verdict": ["DROPPED"]}', '{"verdict": ["FORWARDED"]}'),
        ('{"drop_reason_desc": ["POLICY_DENIED"]}', '{"drop_reason_desc": ["POLICY_DENY"]}'),
        ('{"protocol": ["udp", "TCP"]}', '{"protocol": ["icmp", "http"]}'),
        ('{"event_type": [{"type": 1}]}', '{"event_type": [{"type": 4}]}'),
        (
            '{"event_type": [{"type": 1, "match_sub_type": true, "sub_type": 133}]}',
            '{"event_type": [{"type": 1, "match_sub_type": true}]}',
        ),
        ('{"reply": [false]}', '{"reply": [true]}'),
        ('{"source_identity": [65889]}', '{"destination_identity": [65889]}'),
        ('{"tcp_flags": [{"SYN": true}]}', '{"tcp_flags": [{"SYN": true, "ACK": true}]}'),
        ('{"ip_version": ["IPv6"]}', '{"ip_version": ["IPv4"]}'),
        ('{"traffic_direction": ["INGRESS"]}', '{"traffic_direction": ["EGRESS"]}'),
        ('{"interface": [{"name": "eth0"}]}', '{"interface": [{"name": "eth0", "index": 8}]}'),
        ('{"source_workload": [{"kind": "Deployment"}]}', '{"source_workload": [{"kind": "DaemonSet"}]}'),
        ('{"destination_fqdn": ["*.example.com"]}', '{"destination_fqdn": ["example.com"]}'),
        ('{"source_label": ["app=curl"]}', '{"source_label": ["app=web"]}'),
        ('{"source_label": ["k8s:app"]}', '{"source_label": ["!app"]}'),
        ('{"source_label": ["app in (web, curl), any:app!=web"]}', '{"source_label": ["app notin (web, curl)"]}'),
        ('{"source_label": ["reserved:init"]}', '{"source_label": ["reserved:app"]}'),
        ('{"node_name": ["east-worker"]}', '{"node_name": ["west-worker"]}'),
        ('{"node_name": ["east/"]}', '{"node_name": ["west/"]}'),
        ('{"node_name": ["EAST/*-worker"]}', '{"node_name": ["east/*-control-plane"]}'),
        ('{"verdict": ["DROPPED"], "source_pod": ["curl"]}', '{"verdict": ["DROPPED"], "source_pod": ["web"]}'),
        ("{}", '{"trace_id": ["1"]}'),
    ],
)
def test_filters(fits: str, differs: str) -> None:
    """Each field for itself, then fields together; a denylist excludes exactly what an allowlist would let pass."""

    def passes(allowed: list[str], denied: list[str]) -> bool:
        white, black = ([json_format.Parse(one, FlowFilter()) for one in texts] for texts in (allowed, denied))
        test = filters.compile_filters(white, black, FLOW.node_name)
        return test is None or test(FLOW)

    assert [passes([fits], []), passes([differs], [])] == [True, False]
    assert [passes([], [fits]), passes([], [differs])] == [False, True]
    assert [passes([differs, fits], []), passes([fits], [differs, fits])] == [True, False]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            '{"source_ip": ["not-an-ip"]}',
            'invalid IP address "not-an-ip" in filter: ParseAddr("not-an-ip"): unable to parse IP',
        ),
        ('{"source_port": ["x"]}', 'invalid source port filter: invalid port "x": strconv.ParseUint: parsing "x"'),
        ('{"destination_port": ["65536"]}', "value out of range"),
        ('{"protocol": ["tpc"]}', 'invalid protocol filter: unknown protocol: "tpc"'),
        ('{"source_cluster_name": [""]}', "name must not be empty"),
        ('{"destination_pod": [""]}', "name must not be empty"),
        ('{"node_name": ["a/b/c"]}', "too many slashes in pattern"),
        ('{"node_name": ["a b"]}', "invalid rune in pattern"),
        ('{"source_label": ["app > 3"]}', "invalid source label filter: unable to parse requirement"),
        ('{"http_method": ["GET"]}', "this lab does not know http_method"),
        ('{"experimental": {"cel_expression": ["true"]}}', "this lab does not know experimental"),
    ],
)
def test_filters_that_are_none(text: str, error: str) -> None:
    """A filter that cannot be applied is an error of the whole request, never ignored."""
    with pytest.raises(RequestRefusedError) as caught:
        FlowReading(Ring(NODE, 7, merges_losses=False), request(f'{{"blacklist": [{text}]}}'), lambda: START)

    assert error in caught.value.text
    assert caught.value.code == "UNKNOWN"


def test_selectors_see_sources() -> None:
    """A key without a source is of any source."""
    found = selectors.labels(["k8s:a=1", "container:b=2"])

    assert [selectors.compile_selector(text)(found) for text in ("a=1", "k8s:b=2", "container:b==2", "c")] == [
        True, False, True, False,
    ]  # fmt: skip


def test_masks() -> None:
    """A mask keeps the named fields; a message on the way to one is there even if the flow has none."""
    mask = fieldmask.compile_mask(
        ["l4", "destination.pod_name", "source.labels", "source", "Type", "is_reply"], modern=False
    )
    assert mask
    made = mask(FLOW)

    assert (made.l4, made.source, made.uuid) == (FLOW.l4, FLOW.source, "")
    assert (made.HasField("destination"), made.HasField("is_reply")) == (True, False)
    with pytest.raises(ValueError, match="invalid fieldmask"):
        fieldmask.compile_mask(["source.labels.x"], modern=True)
    with pytest.raises(ValueError, match="invalid fieldmask"):
        fieldmask.compile_mask(["emitter"], modern=False)


# --- a Relay's window -------------------------------------------------------------------------------------------------


def test_a_window_holds_the_newest_back() -> None:
    """A full window lets its oldest go; one that is not full lets go what is older than a second, after a second."""
    sorter = Sorter(0)
    early = [raw for number in range(1, 151) for raw in sorter.push(_timed(number))]
    quiet = sorter.next_drain
    none = list(sorter.drain(quiet - 0.1, lambda: 200 * SECOND))
    drained = list(sorter.drain(quiet + 0.1, lambda: 101 * SECOND))

    assert none == []
    assert [list(map(int, some)) for some in (early, drained, sorter.rest())] == [
        list(range(1, 51)),
        list(range(51, 101)),
        list(range(101, 151)),
    ]


def _timed(number: int) -> Message:
    return Message(number * SECOND, str(number).encode())


def test_equal_errors_are_one() -> None:
    """An error waits ten seconds for equal ones of other nodes, another one pushes it out; the time is the first one's."""
    told: list[tuple[list[str], str, int]] = []

    def event(_state: NodeState, names: Any, text: str, at: int) -> Message:
        told.append((list(names), text, at))
        return _timed(0)

    errors = Errors(event, iter(range(1, 9)).__next__)
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        errors.add(name, text)
    errors.due(errors.next_flush - 0.1)
    before = list(told)
    errors.due(errors.next_flush)

    assert before == [(["a", "b"], "x", 1)]
    assert told[1:] == [(["c"], "y", 2)]


# --- agents -----------------------------------------------------------------------------------------------------------


def test_an_agent_that_starts_anew_knows_nothing() -> None:
    """Its ring is empty, its counters and uptime begin at zero; what happened while it was stopped is missed."""
    now = START
    mesh = walkthrough()
    agent = Agent(mesh.nodes[3], mesh.clusters[1], lambda: now)
    now += 60 * SECOND
    for number in range(30):
        agent.write(START, message(number, at=now - number * SECOND).flow)
    before = agent.server_status()
    agent.stop()
    agent.write(START, FLOW)
    agent.start()
    after = agent.server_status()

    assert (before.num_flows, before.seen_flows, before.uptime_ns, before.flows_rate) == (30, 30, 60 * SECOND, 0.5)
    assert (after.num_flows, after.seen_flows, after.uptime_ns, after.max_flows) == (0, 0, 0, before.max_flows)
    assert before.version.startswith("cilium v1.17.6+g")
    assert agent.status().missed == 1


# --- our Relay against a real one -------------------------------------------------------------------------------------


@dataclass
class Client:
    """A reader of GetFlows."""

    address: str
    got: list[GetFlowsResponse] = field(default_factory=list)
    code: Any = None
    _call: Any = None
    _thread: threading.Thread | None = None

    def start(self, asked: GetFlowsRequest) -> "Client":
        """Ask, and read in the background."""
        channel = grpc.insecure_channel(self.address)
        call = channel.unary_stream(
            "/observer.Observer/GetFlows", GetFlowsRequest.SerializeToString, GetFlowsResponse.FromString
        )
        self._call = call(asked, timeout=60)

        def run() -> None:
            try:
                self.got.extend(self._call)
                self.code = grpc.StatusCode.OK
            except grpc.RpcError as error:
                self.code = error.code()
            channel.close()

        self._thread = threading.Thread(target=run)
        self._thread.start()
        return self

    def end(self) -> "Client":
        """Wait for the end."""
        assert self._thread
        self._thread.join(60)
        return self

    def cancel(self) -> None:
        """Break off."""
        self._call.cancel()
        self.end()

    @property
    def flows(self) -> dict[str, list[bytes]]:
        """Return the flows of each node, sorted by time as a window does; equal times in any order."""
        found: dict[str, list[GetFlowsResponse]] = {}
        for one in self.got:
            if one.HasField("flow"):
                found.setdefault(one.node_name, []).append(one)
        return {
            name: [one.SerializeToString(deterministic=True) for one in sorted(some, key=_order)]
            for name, some in found.items()
        }

    @property
    def states(self) -> list[tuple[str, frozenset[str]]]:
        """Return what was said of nodes."""
        events = [one.node_status for one in self.got if one.HasField("node_status")]
        return [(NodeState.Name(one.state_change), frozenset(one.node_names)) for one in events]

    @property
    def errors(self) -> set[str]:
        """Return the texts of what went wrong."""
        return {one.node_status.message for one in self.got if one.node_status.message}

    @property
    def lost(self) -> int:
        """Return how many events were lost."""
        return sum(one.lost_events.num_events_lost for one in self.got)

    def count(self, node: str = "") -> int:
        """Return how many flows came."""
        return sum(one.HasField("flow") and one.node_name.startswith(node) for one in self.got)


def _order(one: GetFlowsResponse) -> tuple[int, int, str]:
    return one.time.seconds, one.time.nanos, one.flow.uuid


@pytest.fixture(scope="module")
def history() -> Flows:
    """Return the flows of a recording."""
    return recorded(RECORDING, time.time_ns() - 20 * SECOND)


def write(hubble: Hubble, name: str, *events: Event) -> None:
    """Let events happen at a node."""
    for one in events:
        hubble.write(name, one.at, GetFlowsResponse.FromString(one.raw).flow)


@contextmanager
def lab(mesh: Mesh | None = None, flows: Flows | None = None) -> Iterator[Hubble]:
    """Run a mesh's Hubble."""
    hubble = Hubble(mesh or walkthrough())
    for name, events in (flows or {}).items():
        write(hubble, name, *events)
    hubble.start()
    try:
        yield hubble
    finally:
        hubble.stop()


@contextmanager
def real(hubble: Hubble, binary: Path, folder: Path) -> Iterator[str]:
    """Run a real Relay before a lab's agents; it is connected to all of them."""
    process = RelayProcess(binary, Peers(port=int(hubble.peers["west"].rpartition(":")[2])), folder)
    process.start()
    try:
        wait_until(lambda: connected(process.address) == len(hubble.agents))
        yield process.address
    finally:
        process.kill()


def unary(address: str, method: str, kind: Any) -> Any:
    """Make a short call."""
    with grpc.insecure_channel(address) as channel:
        return channel.unary_unary(f"/observer.Observer/{method}", None, kind.FromString)(b"", timeout=12)


def status(address: str) -> ServerStatusResponse:
    """Return what a Relay says of itself."""
    answer: ServerStatusResponse = unary(address, "ServerStatus", ServerStatusResponse)
    return answer


def connected(address: str) -> int:
    """Return how many nodes a Relay is connected to."""
    return int(status(address).num_connected_nodes.value)


def readers(hubble: Hubble, node: str = NODE) -> int:
    """Return how many readers a node has."""
    return hubble.status()[node].readers


@pytest.fixture(scope="module")
def both(
    program: Callable[[str], Path], history: Flows, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """Return our Relay and a real one before the same agents, which hold a recording."""
    with lab(flows=history) as hubble, real(hubble, program(RELAY), tmp_path_factory.mktemp("relay")) as address:
        yield hubble.relays["west"], address


MOMENTS = {"%s": 0.3, "%u": 0.7}

REQUESTS = [
    "{}",
    '{"number": 10}',
    '{"number": 10, "first": true}',
    '{"first": true}',
    '{"number": 18446744073709551615}',
    '{"since": "%s"}',
    '{"until": "%u"}',
    '{"since": "%s", "until": "%u"}',
    '{"since": "%s", "until": "%u", "follow": true}',
    '{"since": "%s", "number": 7}',
    '{"until": "%u", "number": 4000}',
    '{"first": true, "follow": true}',
    '{"number": 50, "whitelist": [{"source_ip": ["10.0.0.0/16"]}]}',
    '{"whitelist": [{"source_pod": ["default/curl"]}, {"destination_port": ["80"]}]}',
    '{"whitelist": [{"event_type": [{"type": 4}], "protocol": ["tcp"], "reply": [true]}]}',
    '{"whitelist": [{"node_name": ["west/"]}]}',
    '{"number": 5, "whitelist": [{"node_name": ["east-worker"]}]}',
    '{"blacklist": [{"source_port": ["80"]}, {"destination_port": ["80"]}]}',
    '{"whitelist": [{"source_label": ["app=curl"]}], "blacklist": [{"traffic_direction": ["EGRESS"]}]}',
    '{"whitelist": [{"verdict": ["ERROR"]}]}',
    '{"number": 3, "field_mask": "time,nodeName,uuid,source.podName,IP"}',
    '{"number": 3, "field_mask": "source.podName,IP,l4"}',
    '{"number": 3, "field_mask": "noSuchField"}',
    '{"whitelist": [{"source_ip": ["not-an-ip"]}]}',
    '{"blacklist": [{"destination_port": ["http"]}]}',
    '{"whitelist": [{"http_method": ["GET"]}]}',
]


@pytest.mark.parametrize("text", REQUESTS)
def test_our_relay_answers_as_a_real_one(text: str, both: tuple[str, str], history: Flows) -> None:
    """The same flows of each node, the same told of nodes, in the same words; and the call ends alike."""
    times = sorted(one.at for events in history.values() for one in events)
    for name, part in MOMENTS.items():
        moment = GetFlowsResponse()
        moment.time.FromNanoseconds(times[int(len(times) * part)])
        text = text.replace(name, moment.time.ToJsonString())
    ours, theirs = (Client(address).start(request(text)).end() for address in both)

    assert ours.flows == theirs.flows
    assert ours.states == theirs.states
    assert ours.errors == theirs.errors
    assert (ours.code, ours.lost) == (theirs.code, theirs.lost) == (grpc.StatusCode.OK, 0)


@pytest.mark.parametrize("method", ["GetAgentEvents", "GetDebugEvents", "NoSuchMethod"])
def test_what_a_relay_does_not_know(method: str, both: tuple[str, str]) -> None:
    """Agents' own events are refused with the same words."""

    def told(address: str) -> tuple[Any, str]:
        with grpc.insecure_channel(address) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                list(channel.unary_stream(f"/observer.Observer/{method}", None, None)(b"", timeout=12))
        error: Any = caught.value
        return error.code(), error.details() if method != "NoSuchMethod" else ""

    assert told(both[0]) == told(both[1])


def test_status_and_nodes_as_a_real_relay(both: tuple[str, str]) -> None:
    """Sums, and each node with what it holds; addresses differ, as our Relay tells those that the mesh would have."""

    def told(address: str) -> tuple[Any, ...]:
        nodes = unary(address, "GetNodes", GetNodesResponse)
        namespaces = unary(address, "GetNamespaces", GetNamespacesResponse)
        one = status(address)
        sums = (one.num_flows, one.max_flows, one.seen_flows, one.num_connected_nodes, one.num_unavailable_nodes)
        known = {
            (node.name, node.version, node.state, node.num_flows, node.max_flows, node.seen_flows, node.tls.enabled)
            for node in nodes.nodes
        }
        return sums, one.unavailable_nodes, known, list(namespaces.namespaces)

    assert told(both[0]) == told(both[1])


def test_following_as_a_real_relay(program: Callable[[str], Path], history: Flows, tmp_path: Path) -> None:
    """What happens is read by both, each node's flows in order; the end of it waits until a quiet second."""
    with lab() as hubble, real(hubble, program(RELAY), tmp_path) as address:
        clients = [Client(one).start(request('{"follow": true}')) for one in (hubble.relays["west"], address)]
        wait_until(lambda: all(readers(hubble, name) == 2 for name in hubble.agents))
        events = {name: [_now(one) for one in some[:500]] for name, some in history.items()}
        for name, some in events.items():
            write(hubble, name, *some)
        hubble.lose(NODE, time.time_ns(), 5, "OBSERVER_EVENTS_QUEUE")
        count = sum(map(len, events.values()))
        wait_until(lambda: all(one.count() == count and one.lost for one in clients))
        for one in clients:
            one.cancel()
        wait_until(lambda: all(readers(hubble, name) == 0 for name in hubble.agents))

    ours, theirs = clients
    assert ours.flows == theirs.flows
    assert [one.lost for one in clients] == [5, 5]
    assert ours.states == [(state, names) for state, names in theirs.states]


def _now(one: Event) -> Event:
    """Return an event that happens now."""
    made = GetFlowsResponse.FromString(one.raw)
    at = time.time_ns()
    made.time.FromNanoseconds(at)
    made.flow.time.CopyFrom(made.time)
    return replace(one, at=at, raw=made.SerializeToString())


def test_a_stopped_agent_as_a_real_relay_tells_it(
    program: Callable[[str], Path], history: Flows, tmp_path: Path
) -> None:
    """Its stream breaks off with two errors; new calls name it; when it is back it is read, and nothing says so."""
    first = {name: events[:300] for name, events in history.items()}
    with lab(flows=first) as hubble, real(hubble, program(RELAY), tmp_path) as address:
        relays = (hubble.relays["west"], address)
        since = request('{"since": "2020-01-01T00:00:00Z", "follow": true}')
        clients = [Client(one).start(since) for one in relays]
        wait_until(lambda: all(one.count() == 1200 for one in clients))
        hubble.stop_agent(NODE)
        wait_until(lambda: all(len(one.errors) >= 1 for one in clients))
        wait_until(lambda: all(connected(one) == 3 for one in relays))
        fresh = [Client(one).start(request('{"number": 1}')).end() for one in relays]
        hubble.start_agent(NODE)
        wait_until(lambda: all(connected(one) == 4 for one in relays))
        wait_until(lambda: readers(hubble) == 2)
        write(hubble, NODE, *(_now(one) for one in history[NODE][300:500]))
        wait_until(lambda: all(one.count(NODE) == 500 for one in clients))
        wait_until(lambda: all(len(one.states) == 3 for one in clients))
        for one in clients:
            one.cancel()

    assert clients[0].flows == clients[1].flows
    assert clients[0].states == clients[1].states
    # A real Relay reads our agents by grpcio, which breaks calls off with a text of its own.
    assert "rpc error: code = Unavailable desc = error reading from server: EOF" in clients[0].errors
    assert all(any("connection refused" in text for text in one.errors) for one in clients)
    assert fresh[0].flows == fresh[1].flows
    assert fresh[0].states == fresh[1].states
    assert ("NODE_UNAVAILABLE", frozenset({NODE})) in fresh[0].states


def test_a_node_out_of_reach_is_asked_the_same_again(
    program: Callable[[str], Path], history: Flows, tmp_path: Path
) -> None:
    """Its ring lives on: when it is back, the request as it was first brings the same flows once more."""
    first = {name: events[:300] for name, events in history.items()}
    with lab(flows=first) as hubble, real(hubble, program(RELAY), tmp_path) as address:
        relays = (hubble.relays["west"], address)
        since = request('{"since": "2020-01-01T00:00:00Z", "follow": true}')
        clients = [Client(one).start(since) for one in relays]
        wait_until(lambda: all(one.count() == 1200 for one in clients))
        hubble.hide(NODE, hidden=True)
        wait_until(lambda: all(connected(one) == 3 for one in relays))
        write(hubble, NODE, *history[NODE][300:400])
        hubble.hide(NODE, hidden=False)
        wait_until(lambda: all(one.count(NODE) == 700 for one in clients))
        for one in clients:
            one.cancel()

    assert clients[0].flows == clients[1].flows
    assert {Counter(Counter(one.flows[NODE]).values())[2] for one in clients} == {300}


# --- read by others ---------------------------------------------------------------------------------------------------


def query(db: Path, sql: str) -> list[tuple[Any, ...]]:
    """Query a database."""
    with Store.open(db) as store:
        return store.rows(sql)


def played(hubble: Hubble, flows: Flows) -> Flows:
    """Let flows happen, all nodes' mixed, and return them with their times."""
    made: Flows = {name: [] for name in flows}
    for number in range(max(map(len, flows.values()))):
        for name, events in flows.items():
            for one in events[number : number + 1]:
                made[name].append(_now(one))
                write(hubble, name, made[name][-1])
    return made


def test_the_collector_stores_all_once(history: Flows, db: Path) -> None:
    """Two simulated Relays, each asked for its own cluster's nodes: every flow is stored, none twice, none missed."""
    with lab() as hubble:
        run = Run(db, {name: Relay(parse(f"{name}={one}", None)).dial() for name, one in hubble.relays.items()})
        wait_until(lambda: all(readers(hubble, name) >= 2 for name in hubble.agents))
        happened = played(hubble, {name: events[:1000] for name, events in history.items()})
        wait_until(lambda: run.received >= 4000 - 200)
        run.end()

    assert stored(db) == expected(happened)
    assert query(db, "select count(*) from gaps") == [(0,)]
    assert query(db, "select count(*) from lost_events") == [(0,)]


def test_a_ring_that_another_relay_reads_has_lost_nothing(history: Flows, db: Path) -> None:
    """Rings that have turned over, each Relay asked for its own cluster's nodes, from a moment on: no event is lost."""
    mesh = replace(walkthrough(), clusters=tuple(replace(one, ring=63) for one in walkthrough().clusters))
    with lab(mesh, {name: events[:200] for name, events in history.items()}) as hubble:
        relays = {name: Relay(parse(f"{name}={one}", None)).dial() for name, one in hubble.relays.items()}
        since = max(events[190].at for events in history.values())
        with Store.open(db, write=True) as store:
            ledger = Collection(store, relays, CollectOptions(since=since, follow=False)).run()

    assert stored(db)
    assert query(db, "select * from lost_events") == []
    assert ledger.total.filtered == 4


def test_the_collector_sees_a_restart_and_a_loss(history: Flows, db: Path) -> None:
    """An agent that was stopped leaves a gap; a ring that runs over leaves losses."""
    with lab(flows={name: events[:9] for name, events in history.items()}) as hubble:
        run = Run(db, {"west": Relay(parse(f"west={hubble.relays['west']}", None)).dial()})
        wait_until(lambda: readers(hubble))
        played(hubble, {name: events[9:300] for name, events in history.items()})
        wait_until(lambda: run.received >= 4 * 291 - 100)
        hubble.stop_agent(NODE)
        write(hubble, NODE, _now(history[NODE][300]))
        hubble.start_agent(NODE)
        wait_until(lambda: readers(hubble))
        played(hubble, {NODE: history[NODE][301:400]})
        wait_until(lambda: live(run, "select 1 from gaps"), "no gap")
        hubble.set_ring("west/west-worker", 63)
        played(hubble, {"west/west-worker": history["west/west-worker"] * 4})
        wait_until(lambda: live(run, "select 1 from lost_events"), "no loss")
        run.end()

    assert query(db, "select distinct cluster || '/' || node from gaps") == [(NODE,)]
    assert query(db, "select distinct cluster || '/' || node, source from lost_events") == [
        ("west/west-worker", "HUBBLE_RING_BUFFER")
    ]


def live(run: Run, sql: str) -> list[tuple[Any, ...]]:
    """Query the store of a run under way."""
    assert run.store
    return run.store.beside().rows(sql)


@pytest.mark.parametrize("cilium", ["1.17.6", "1.19.6"])
def test_the_hubble_cli_reads_it(cilium: str, program: Callable[[str], Path], history: Flows) -> None:
    """`hubble observe`, `list nodes` and `status` work; from 1.19 a header tells the Relay's version."""

    def hubble_cli(address: str, *arguments: str) -> str:
        command = [str(program("hubble")), *arguments, "--server", address]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    mesh = walkthrough(cilium=cilium)
    with lab(mesh, {name: events[-50:] for name, events in history.items()}) as hubble:
        address = hubble.relays["west"]
        lines = hubble_cli(address, "observe", "--last", "20", "-o", "jsonpb", "--node-name", "east/").splitlines()
        nodes = json.loads(hubble_cli(address, "list", "nodes", "-o", "json"))
        told = hubble_cli(address, "status")
        with grpc.insecure_channel(address) as channel:
            method: Any = channel.unary_unary("/observer.Observer/ServerStatus", None, None)
            headers: dict[str, str] = dict(method.with_call(b"")[1].initial_metadata())

    assert Counter(json.loads(one)["node_name"] for one in lines) == {"east/east-control-plane": 20, NODE: 20}
    assert {node["name"] for node in nodes} == set(hubble.agents)
    assert "Healthcheck (via" in told and "Ok" in told  # noqa: PT018
    assert "Connected Nodes: 4/4" in told
    assert ("hubble-relay-version", "1.19.6+g") in {
        (key, value[:8]) for key, value in headers.items()
    } or cilium == "1.17.6"


def test_ports_stay(history: Flows) -> None:
    """A Relay and an agent that are stopped refuse connections; started again they listen where they did."""
    with lab(flows={NODE: history[NODE][:5]}) as hubble:
        before = (dict(hubble.relays), dict(hubble.agents))
        hubble.stop_relay("west")
        refused = Client(before[0]["west"]).start(request()).end().code
        beside = Client(before[0]["east"]).start(request()).end().count()
        hubble.start_relay("west")
        hubble.stop_agent(NODE)
        stopped = hubble.status()[NODE]
        hubble.start_agent(NODE)
        again = Client(hubble.relays["west"]).start(request()).end()

    assert refused == grpc.StatusCode.UNAVAILABLE
    assert (beside, again.count()) == (5, 0)
    assert stopped.state == "stopped"
    assert (dict(hubble.relays), dict(hubble.agents)) == before


def test_a_slow_reader_is_overtaken_alone(history: Flows) -> None:
    """Losses of a ring are the reader's own: whoever keeps up loses nothing. A bell that ends stops the reader."""
    mesh = walkthrough()
    agent = Agent(mesh.nodes[3], mesh.clusters[1], time.time_ns)
    agent.resize(255)
    bell = Wakeup()
    slow = getflows.flows(agent.ring, request('{"follow": true, "number": 1}'), time.time_ns, bell)
    quick = FlowReading(agent.ring, request('{"follow": true}'), time.time_ns)
    found: list[str] = []
    for number, one in enumerate(history[NODE][:1000]):
        agent.write(one.at, GetFlowsResponse.FromString(one.raw).flow)
        if number == 0:
            next(slow)
        if number % 50 == 0:
            found += read(quick)
    found += read(quick)
    lost = sum("lost" in said(next(slow)) for _ in range(999))
    bell.end()

    assert len(found) == 1000
    assert lost == 999 - 255
    assert list(slow) == []
    assert all(first <= second for first, second in pairwise(sorted(found)))


def away_for_a_while(hubble: Hubble, history: Flows, done: Callable[[], object], seconds: float) -> Flows:
    """Let flows happen while every node is followed, while one is out of reach, and after it is back."""
    happened = played(hubble, {name: events[9:300] for name, events in history.items()})
    wait_until(done)
    hubble.hide(NODE, hidden=True)
    happened[NODE] += played(hubble, {NODE: history[NODE][300:320]})[NODE]
    away = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > away)
    hubble.hide(NODE, hidden=False)
    wait_until(lambda: readers(hubble))
    happened[NODE] += played(hubble, {NODE: history[NODE][320:400]})[NODE]
    return happened


@pytest.mark.parametrize("seconds", [0.5, 6.0], ids=["told when it is back", "told while it is away"])
def test_a_node_that_is_back_before_the_end_leaves_no_gap(seconds: float, history: Flows, db: Path) -> None:
    """The Relay has it again in the same stream and does not say so: a run that ends right then fetches what it lacks."""
    with lab(flows={name: events[:9] for name, events in history.items()}) as hubble:
        run = Run(db, {"west": Relay(parse(f"west={hubble.relays['west']}", None)).dial()})
        wait_until(lambda: all(readers(hubble, name) >= 1 for name in hubble.agents))
        happened = away_for_a_while(hubble, history, lambda: run.received >= 4 * 291 - 100, seconds)
        run.end()

    assert set(expected(happened)) <= set(stored(db))
    assert query(db, "from gaps") == []


def test_a_recording_keeps_what_a_relay_sends_again(history: Flows, db: Path, tmp_path: Path) -> None:
    """A Relay that has a node again sends its flows once more: without them the recording would look as if some lacked."""
    capture = tmp_path / "west.bin"
    with lab() as hubble, capture.open("wb") as file:
        came: list[str] = []

        def flow(_name: str, raw: bytes) -> None:
            came.append(said(raw))
            file.write(len(raw).to_bytes(4, "big") + raw)

        recorder = Recorder({"west": Relay(parse(f"west={hubble.relays['west']}", None)).dial()}, {}, (), flow, Mock())
        recorder.start()
        wait_until(lambda: all(readers(hubble, name) >= 1 for name in hubble.agents))
        happened = away_for_a_while(hubble, history, lambda: len(came) >= 4 * 291 - 100, 6.0)
        wait_until(lambda: max(Counter(came).values()) > 1)
        recorder.end()
    with Store.open(db, write=True) as store:
        importer.run(store, importer.plan([capture]), importer.ImportOptions(), Mock())

    assert stored(db) == expected(happened)
    assert query(db, "select distinct state from node_status order by all") == [("NODE_CONNECTED",), ("NODE_ERROR",)]
    assert query(db, "from gaps_between('2000-01-01'::timestamp, '2100-01-01'::timestamp)") == []


def test_what_a_run_does_at_its_end_is_told(history: Flows, db: Path, meshobs: Callable[..., Outcome]) -> None:
    """Time being up is not the end: one line in a pipe says what is fetched then, a living one what is done after it."""
    shown: list[Progress] = []
    show = lambda progress: shown.append(replace(progress))  # noqa: E731
    with (
        lab(flows={name: events[:9] for name, events in history.items()}) as hubble,
        Store.open(db, write=True) as store,
    ):
        relay = Relay(parse(f"west={hubble.relays['west']}", None)).dial()
        Collection(store, {"west": relay}, CollectOptions(seconds=1), show=show).run()
        store.close()
        outcome = meshobs("--db", db, "collect", "--relay", f"west={hubble.relays['west']}", "--duration", "1s")

    assert list(dict.fromkeys(progress.phase for progress in shown)) == list(Phase)
    assert shown[-1].fetched >= 36
    assert Rate().line(shown[-1]) == "time is up; closing the database"
    told = Rate().line(replace(shown[-1], phase=Phase.FETCHING, fetched=12_400))
    assert told == "time is up; fetching what Relays still hold: 12,400 flows"
    assert (outcome.code, outcome.err.count("time is up; fetching what Relays still hold")) == (0, 1), outcome.err

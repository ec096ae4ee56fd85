"""Collecting from real Relays: each flow once and none left out, whatever fails on the way."""

import json
import random
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from support.command_line import Outcome
from support.handmade_mesh import Mesh
from support.recordings import RECORDINGS
from support.relay_nodes import (
    SECOND,
    Event,
    Node,
    RelayProcess,
    Run,
    collecting,
    dial,
    event,
    expected,
    recorded,
    relay,
    stored,
    wait_until,
)
from support.size import WHOLE

from meshobs import live
from meshobs.collector.collect import Collection, CollectOptions
from meshobs.collector.hubble.relay import Relay
from meshobs.collector.hubble.target import parse
from meshobs.pb.observer.observer_pb2 import GetFlowsResponse
from meshobs.retention import Keep
from meshobs.store import Store

RECORDING = RECORDINGS / "global-none" / "west.bin.gz"
VERSIONS = ("hubble-relay-1.17", "hubble-relay-1.19")
# How often a collection is killed, and how many flows one brings.
KILLS, MANY = (50, 1_000_000) if WHOLE else (12, 200_000)
Flows = dict[str, list[Event]]


@pytest.fixture
def flows() -> Flows:
    """Return the flows of a recording, as if they happened just before now."""
    return recorded(RECORDING, time.time_ns() - 20 * SECOND)


def query(db: Path, sql: str) -> list[tuple[Any, ...]]:
    """Query a database."""
    with Store.open(db) as store:
        return store.rows(sql)


def playing(nodes: list[Node], flows: Flows, seconds: float = 2.0) -> threading.Thread:
    """Let the flows happen over some seconds, in the order of their time."""

    def play() -> None:
        rounds = 40
        for turn in range(rounds):
            for node in nodes:
                events = flows[node.name]
                step = len(events) // rounds + 1
                node.add(*events[turn * step : (turn + 1) * step])
            time.sleep(seconds / rounds)

    thread = threading.Thread(target=play)
    thread.start()
    return thread


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("stock", [False, True], ids=["lean", "grpcio"])
def test_what_is_followed_equals_the_recording(
    version: str, stock: bool, program: Callable[[str], Path], flows: Flows, db: Path, tmp_path: Path
) -> None:
    """Every flow that happens while a Relay is followed is stored once, the tail that it holds back included."""
    nodes = [Node(name) for name in flows]
    with relay(program(version), nodes, tmp_path) as process:
        run = Run(db, {"west": dial(process)}, CollectOptions(stock=stock))
        wait_until(lambda: all(node.asked for node in nodes))
        playing(nodes, flows).join()
        run.end()

    assert stored(db) == expected(flows)
    assert query(db, "select count(*) from gaps") == [(0,)]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_nodes_hold_equals_the_recording(
    version: str, program: Callable[[str], Path], flows: Flows, db: Path, tmp_path: Path
) -> None:
    """--since without following takes what the rings have and ends by itself."""
    with relay(program(version), [Node(name, events) for name, events in flows.items()], tmp_path) as process:
        with Store.open(db, write=True) as store:
            ledger = Collection(store, {"west": dial(process)}, CollectOptions(since=1, follow=False)).run()

    assert stored(db) == expected(flows)
    assert ledger.total.duplicate == 0


def two_relays(
    stack: ExitStack, program: Callable[[str], Path], flows: Flows, folder: Path
) -> tuple[list[Node], dict[str, Relay]]:
    """Run two Relays that both see all nodes."""
    nodes = [Node(name) for name in flows]
    first = stack.enter_context(relay(program("hubble-relay-1.17"), nodes, folder))
    from support.relay_nodes import Peers

    peers = Peers(nodes).start()
    stack.callback(peers.stop)
    second = RelayProcess(program("hubble-relay-1.19"), peers, folder).start()
    stack.callback(second.kill)
    return nodes, {"west": dial(first), "east": dial(second, "east")}


def test_two_relays_that_see_all_nodes_count_nothing_twice(
    program: Callable[[str], Path], flows: Flows, db: Path, tmp_path: Path
) -> None:
    """Each is asked for its own cluster's nodes: no flow travels twice."""
    with ExitStack() as stack:
        nodes, relays = two_relays(stack, program, flows, tmp_path)
        run = Run(db, relays)
        wait_until(lambda: all(len(node.asked) >= 2 for node in nodes))
        playing(nodes, flows).join()
        ledger = run.end()

    patterns = {name for node in nodes for one in node.asked for allow in one.whitelist for name in allow.node_name}
    readers = dict(
        query(db, "select reader, count(distinct f.cluster) from flows f join batches using (batch) group by all")
    )
    assert stored(db) == expected(flows)
    assert {"west/", "east/"} <= patterns
    assert readers == {"west": 1, "east": 1}
    assert ledger.total.received - ledger.total.stored == ledger.total.duplicate


@pytest.mark.parametrize("keep", Keep)
def test_redundant_relays_recover_flows_from_each_other(
    keep: Keep, program: Callable[[str], Path], flows: Flows, db: Path, tmp_path: Path
) -> None:
    """--redundant asks both for all; the same uuid is stored, or seen, once and counted as a duplicate the second time."""
    with ExitStack() as stack:
        nodes, relays = two_relays(stack, program, flows, tmp_path)
        run = Run(db, relays, CollectOptions(redundant=True, keep=keep))
        wait_until(lambda: all(len(node.asked) >= 2 for node in nodes))
        playing(nodes, flows).join()
        ledger = run.end()

    assert stored(db) == expected(flows)
    assert ledger.total.duplicate >= len(expected(flows))
    ((kept,),) = query(db, "select count(*) from flows")
    assert (kept < len(expected(flows))) == (keep is Keep.EVENTS)


def test_a_relay_that_is_killed_in_mid_stream(
    program: Callable[[str], Path], flows: Flows, db: Path, tmp_path: Path
) -> None:
    """What happens while the Relay is away is fetched when it is back."""
    nodes = [Node(name) for name in flows]
    with relay(program("hubble-relay-1.17"), nodes, tmp_path) as process:
        run = Run(db, {"west": dial(process)})
        wait_until(lambda: all(node.asked for node in nodes))
        player = playing(nodes, flows, 4)
        time.sleep(1.5)
        process.kill()
        time.sleep(1)
        process.start()
        player.join()
        # The newest may sit in the Relay's sort buffer until the end.
        enough = len(expected(flows)) - 100
        wait_until(lambda: len(query_live(run, "select 1 from flows")) >= enough, "not all came", 60)
        run.end()

    assert stored(db) == expected(flows)
    assert query(db, "select count(*) from gaps") == [(0,)]
    assert any("broke off" in text for text in run.said)


def query_live(run: Run, sql: str) -> list[tuple[Any, ...]]:
    """Query the store of a run under way, from another thread."""
    assert run.store
    return run.store.beside().rows(sql)


@pytest.mark.parametrize("emptied", [False, True], ids=["ring kept", "ring lost"])
def test_a_node_that_is_lost_and_back(
    emptied: bool, program: Callable[[str], Path], flows: Flows, db: Path, tmp_path: Path
) -> None:
    """A node whose ring lived on loses nothing; one that started anew has a gap with start and end."""
    nodes = [Node(name) for name in flows]
    lost = next(node for node in nodes if node.name == "east/east-worker")
    events = flows[lost.name]
    happened: list[Event] = []

    def happen(first: int, end: int) -> list[Event]:
        """Let some events end just now."""
        happened.extend(_later(one, time.time_ns() - events[end - 1].at) for one in events[first:end])
        lost.add(*happened[first:end])
        return happened[first:end]

    with relay(program("hubble-relay-1.17"), nodes, tmp_path) as process:
        run = Run(db, {"west": dial(process)})
        wait_until(lambda: all(node.asked for node in nodes))
        first = happen(0, 1000)
        wait_until(lambda: run.received >= len(first) - 100)
        time.sleep(3)
        lost.stop()
        happen(1000, 1100)
        if emptied:
            lost.restart()
        else:
            lost.start()
        asked = len(lost.asked)
        wait_until(lambda: len(lost.asked) > asked, seconds=60)
        time.sleep(1)
        happen(1100, 1500)
        gap_told = lambda: query_live(run, "select 1 from gaps")  # noqa: E731
        recovered = lambda: len(query_live(run, "select 1 from flows")) >= len(happened) - 100  # noqa: E731
        wait_until(gap_told if emptied else recovered, "neither recovered nor told", 60)
        run.end()

    if emptied:
        ((node, begins, ends),) = query(
            db, "select cluster || '/' || node, epoch_ns(first_time), epoch_ns(end_time) from gaps"
        )
        assert (node, begins) == (lost.name, first[-1].at)
        assert ends > begins
    else:
        assert query(db, "select count(*) from gaps") == [(0,)]
        assert stored(db) == expected({lost.name: happened})


def test_the_next_run_goes_on_where_the_last_one_ended(
    program: Callable[[str], Path], flows: Flows, db: Path, tmp_path: Path
) -> None:
    """What happened between two runs is fetched if the rings still hold it; else the gap is told."""
    nodes = [Node(name) for name in flows]
    halves = {name: (events[: len(events) // 2], events[len(events) // 2 :]) for name, events in flows.items()}
    with relay(program("hubble-relay-1.17"), nodes, tmp_path) as process:
        run = Run(db, {"west": dial(process)})
        wait_until(lambda: all(node.asked for node in nodes))
        for node in nodes:
            node.add(*halves[node.name][0])
        run.end()
        for node in nodes:
            node.add(*halves[node.name][1])
        Run(db, {"west": dial(process)}).end()
        complete = stored(db)
        late = flows[nodes[0].name][-200:]
        nodes[0].restart()
        nodes[0].add(*(_later(one, 60 * SECOND) for one in late))
        wait_until(lambda: dial(process).status().connected == len(nodes))
        Run(db, {"west": dial(process)}).end()

    assert complete == expected(flows)
    assert query(db, "select cluster || '/' || node from gaps") == [(nodes[0].name,)]
    assert query(db, "select kind, state from collections") == [("collect", "complete")] * 3


def test_a_ring_that_was_empty_is_no_gap(
    program: Callable[[str], Path], flows: Flows, db: Path, tmp_path: Path
) -> None:
    """What happens after the start, in a ring that held nothing then, was missed by nobody."""
    nodes = [Node(name) for name in flows]
    with relay(program("hubble-relay-1.17"), nodes, tmp_path) as process:
        run = Run(db, {"west": dial(process)})
        wait_until(lambda: all(len(node.asked) > 1 for node in nodes))
        happened = {node.name: [_later(one, time.time_ns() - one.at) for one in flows[node.name][:9]] for node in nodes}
        for node in nodes:
            node.add(*happened[node.name])
        run.end()

    assert stored(db) == expected(happened)
    assert query(db, "select count(*) from gaps") == [(0,)]


def _later(one: Event, nanoseconds: int) -> Event:
    """Return another event that is alike and happens later."""
    message = GetFlowsResponse.FromString(one.raw)
    message.time.FromNanoseconds(one.at + nanoseconds)
    message.flow.time.CopyFrom(message.time)
    message.flow.uuid = str(uuid.uuid4())
    return event(message)


def test_killed_at_random_moments(program: Callable[[str], Path], flows: Flows, db: Path, tmp_path: Path) -> None:
    """Kill -9, whenever it comes, costs nothing: the next run goes on, and the table equals what happened."""
    nodes = [Node(name) for name in flows]
    chance = random.Random(4)
    happened: Flows = {node.name: [] for node in nodes}
    over = threading.Event()

    def happen() -> None:
        """Let a few flows of each node happen now."""
        for node in nodes:
            at = len(happened[node.name]) % len(flows[node.name])
            now = time.time_ns()
            new = [_later(one, now + nth - one.at) for nth, one in enumerate(flows[node.name][at : at + 5])]
            happened[node.name] += new
            node.add(*new)

    def go_on() -> None:
        while not over.wait(0.1):
            happen()

    with relay(program("hubble-relay-1.17"), nodes, tmp_path) as process:
        # The next run goes on from what is stored: one run in order has something of every node.
        run = Run(db, {"west": dial(process)})
        wait_until(lambda: all(len(node.asked) > 1 for node in nodes))
        happen()
        run.end()
        player = threading.Thread(target=go_on)
        player.start()
        rows = set()
        for _ in range(KILLS):
            with collecting(db, process) as running:
                wait_until(lambda: live.find(db))
                time.sleep(chance.uniform(0.2, 4))
                running.kill()
            rows.add(len(stored(db)))
        over.set()
        player.join()
        Run(db, {"west": dial(process)}).end()

    assert len(rows) > KILLS // 5  # many were killed while they stored
    assert stored(db) == expected(happened)
    assert query(db, "select count(*) from gaps") == [(0,)]
    assert query(db, "select count(*) from collections where state = 'running'") == [(0,)]


def test_a_signal_ends_a_run_in_order(program: Callable[[str], Path], flows: Flows, db: Path, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM: everything is flushed, the run is closed, a summary is told."""
    nodes = [Node(name) for name in flows]
    with relay(program("hubble-relay-1.19"), nodes, tmp_path) as process:
        dial(process)
        for number in (signal.SIGINT, signal.SIGTERM):
            asked = [len(node.asked) for node in nodes]
            with collecting(db, process) as running:
                wait_until(lambda: all(len(node.asked) > at for node, at in zip(nodes, asked, strict=True)))  # noqa: B023
                for node in nodes:
                    node.add(*flows[node.name])
                    flows[node.name] = []
                time.sleep(2)
                running.send_signal(number)
                assert running.stderr
                told = running.stderr.read()
            assert running.returncode == 0, told
            assert "received =" in told
            assert "4 of 4 nodes" in told

    assert query(db, "select distinct state from collections") == [("complete",)]


def test_own_traffic_is_not_asked_for(
    program: Callable[[str], Path], flows: Flows, db: Path, tmp_path: Path, meshobs: Callable[..., Outcome]
) -> None:
    """The request leaves out the ports of observers and Relays; the run says so; a flag turns it off."""
    nodes = [Node(name, events) for name, events in flows.items()]
    with relay(program("hubble-relay-1.17"), nodes, tmp_path) as process:
        dial(process)
        for flags in ((), ("--watch-own-traffic",)):
            before = len(nodes[0].asked)
            result = meshobs("--db", db, "collect", "--relay", f"west={process.address}", "--no-follow", *flags)
            assert result.code == 0, result.err
            ports = {
                port for one in nodes[0].asked[before:] for deny in one.blacklist for port in deny.destination_port
            }
            assert ({"4244", "4245", str(nodes[0].port), str(process.port)} <= ports) == (not flags)

    excluded = query(db, "select excluded <> '' from collections order by collection")
    assert excluded == [(True,), (False,)]
    report = json.loads(meshobs("--db", db, "report", "nat", "--all", "--format", "json").out)
    assert "left out: traffic of Hubble" in report["limits"][0]
    status = json.loads(meshobs("--db", db, "status", "--format", "json").out)
    assert [run["own_traffic_left_out"] for run in status["runs"]] == [False, True]
    (told,) = status["relays"]
    assert (told["relay"], told["connected"], told["nodes_of"]) == ("west", 4, "east 2/2, west 2/2")
    assert "1.17.6" in told["version"]
    assert {node["state"] for node in status["nodes"]} == {"NODE_CONNECTED"}
    assert "east 2/2, west 2/2" in meshobs("--db", db, "status").out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--allowlist", '{"source_ip": ["not-an-ip"]}'), 'invalid IP address "not-an-ip" in filter'),
        (("--allowlist", "{"), "is no FlowFilter in JSON"),
        (("--verdict", "MAYBE"), "choose of FORWARDED"),
        (("--ip", "1.1.1.1", "--pod", "x"), "cannot be combined"),
        (("--relay", "west=127.0.0.1:1"), "two Relays are called west"),
        (("--duration", "soon"), "is no duration"),
        (("--tls",), "does not speak TLS: leave --tls and tls:// out"),
    ],
)
def test_what_is_refused_is_said_as_it_is(
    flags: tuple[str, ...],
    message: str,
    program: Callable[[str], Path],
    flows: Flows,
    tmp_path: Path,
    meshobs: Callable[..., Outcome],
) -> None:
    """A Relay answers a bad filter with status OK and a message of its nodes: the user sees that message."""
    with relay(program("hubble-relay-1.17"), [Node(name) for name in flows], tmp_path) as process:
        dial(process)
        result = meshobs("--db", tmp_path / "x.duckdb", "collect", "--relay", f"west={process.address}", *flags)

    assert (result.code, message in result.err) == (2, True), result.err
    assert "Traceback" not in result.err


def test_a_relay_without_peers(program: Callable[[str], Path], db: Path, tmp_path: Path) -> None:
    """It is asked again and again, and the run says that nothing is connected."""
    with relay(program("hubble-relay-1.17"), [], tmp_path) as process:
        run = Run(db, {"west": Relay(parse(f"west={process.address}", None))})
        wait_until(lambda: any("broke off" in text for text in run.said))
        ledger = run.end()

    assert ledger.total.received == 0
    assert "knows no node yet" in " ".join(run.said)


def test_a_node_that_never_answers_is_no_hindrance(
    program: Callable[[str], Path], flows: Flows, db: Path, tmp_path: Path
) -> None:
    """The flows of the others are stored as ever."""
    nodes = [Node(name) for name in flows]
    nodes[0].answers = False
    with relay(program("hubble-relay-1.17"), nodes, tmp_path) as process:
        run = Run(db, {"west": dial(process)})
        wait_until(lambda: all(node.asked for node in nodes))
        playing(nodes, flows, 1).join()
        nodes[0].answers = True
        run.end()

    others = [row for row in expected(flows) if row[0] != nodes[0].name]
    assert [row for row in stored(db) if row[0] != nodes[0].name] == others


def test_a_clock_that_is_minutes_off_is_told(program: Callable[[str], Path], db: Path, tmp_path: Path) -> None:
    """A node whose time is four minutes behind shows in coverage, and its calls around a change break nothing."""
    now = time.time_ns()
    mesh = Mesh(now=now - 10 * SECOND)
    mesh.messages.clear()
    client, back = mesh.pod("west", "front"), mesh.pod("west", "back", 2)
    for _ in range(20):
        mesh.call(client, back)
    nodes = {name: Node(name) for name in ("west/west-1", "west/west-2")}
    with relay(program("hubble-relay-1.17"), list(nodes.values()), tmp_path) as process:
        run = Run(db, {"west": dial(process)})
        wait_until(lambda: all(node.asked for node in nodes.values()))
        for message in mesh.messages:
            if message.node_name == "west/west-2":
                message.time.seconds -= 240
                message.flow.time.CopyFrom(message.time)
            nodes[message.node_name].add(event(message))
        time.sleep(2)
        run.end()

    lags = dict(query(db, "select node, lag_seconds from clocks"))
    offsets = dict(query(db, "select node, clock_offset from report_coverage(whole := true)"))
    assert 240 <= lags["west-2"] < 270
    assert offsets["west-2"] <= -240


def test_many_flows_through_a_real_relay(
    program: Callable[[str], Path], flows: Flows, db: Path, tmp_path: Path
) -> None:
    """Every one is stored once, uuid by uuid; memory stays flat."""
    count = MANY // len(flows)
    nodes = [Node(name, many(flows[name], count, number)) for number, name in enumerate(flows)]
    with relay(program("hubble-relay-1.19"), nodes, tmp_path) as process:
        dial(process)
        with collecting(db, process, "--since", "1h", "--no-follow") as running:
            peak = 0
            while running.poll() is None:
                peak = max(peak, peak_mb(running.pid))
                time.sleep(0.1)

    assert running.returncode == 0
    rows = query(db, "select count(*), count(distinct uuid), count(distinct (cluster, node)) from flows")
    assert rows == [(count * len(flows), count * len(flows), len(flows))]
    assert query(db, "select duplicate, undecodable from collections") == [(0, 0)]
    assert 50 < peak < 600


def peak_mb(pid: int) -> int:
    """Return the most memory that a process ever had, 0 when it is gone; a child's rusage would tell of its parent, too."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
    return 0


def many(events: list[Event], count: int, node: int) -> list[Event]:
    """Return many flows of a node: one, each time with another uuid and time."""
    one = GetFlowsResponse.FromString(events[0].raw)
    flow = one.flow.uuid.encode()
    start = time.time_ns() - 600 * SECOND
    found, raw = [], b""
    for number in range(count):
        if number % 1000 == 0:
            one.time.FromNanoseconds(start + number * 1000)
            one.flow.time.CopyFrom(one.time)
            raw = one.SerializeToString()
        fresh = f"{number:08x}-{node:04x}-4000-8000-{number:012x}".encode()
        found.append(Event(start + number // 1000 * 1_000_000, raw.replace(flow, fresh), events[0].ports))
    return found


def test_a_disk_that_fills_up(program: Callable[[str], Path], flows: Flows, tmp_path: Path) -> None:
    """The run says so and ends; what was committed stays, and the next run brings the rest."""
    nodes = [Node(name) for name in flows]
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no mounts here: {mounted.stderr.decode().strip()}")
    try:
        db = disk / "x.duckdb"
        with relay(program("hubble-relay-1.17"), nodes, tmp_path) as process:
            run = Run(db, {"west": dial(process)})
            wait_until(lambda: all(len(node.asked) > 1 for node in nodes))
            for node in nodes:
                node.add(*flows[node.name][:20])
            run.end()
            first = len(stored(db))
            filler = disk / "filler"
            filler.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - 64 * 1024)))
            run = Run(db, {"west": dial(process)})
            for node in nodes:
                node.add(*flows[node.name][20:])
            wait_until(lambda: run.error is not None, "no end", 60)
            assert "no space left" in str(run.error)
            filler.unlink()
            assert len(stored(db)) >= first
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            Run(db, {"west": dial(process)}).end()
        assert stored(db) == expected(flows)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_slow_relay_and_an_unreachable_one(
    program: Callable[[str], Path], flows: Flows, db: Path, tmp_path: Path, meshobs: Callable[..., Outcome]
) -> None:
    """The one that is not there is told, the other is read however long it takes."""
    nodes = [Node(name, events[:300]) for name, events in flows.items()]
    for node in nodes:
        node.pause = 0.005
    with relay(program("hubble-relay-1.17"), nodes, tmp_path) as process:
        dial(process)
        relays = ("--relay", f"west={process.address}", "--relay", "east=127.0.0.1:1")
        result = meshobs("--db", db, "collect", *relays, "--since", "1h", "--no-follow")

    assert result.code == 0, result.err
    assert "Relay east at 127.0.0.1:1: nothing listens there" in result.err
    assert stored(db) == expected({name: events[:300] for name, events in flows.items()})
    only = meshobs("--db", tmp_path / "y.duckdb", "collect", "--relay", "east=127.0.0.1:1")
    assert (only.code, "nothing listens there" in only.err) == (2, True)

"""What logs of flows leave out or distort: such a log proves less, and never by accident the wrong thing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from support.handmade_mesh import GLOBAL, Mesh, shop
from support.recordings import import_into

from meshobs.analyzer import Question, run
from meshobs.pb.flow import flow_pb2
from meshobs.store import Store

REPORTS = ("affinity", "nat", "hops")


def called(count: int = 8, **more: Any) -> Mesh:
    """Return a mesh whose service was called from west, local and remote backends in turn."""
    mesh = Mesh()
    client, address, backends = shop(mesh, GLOBAL)
    for n in range(count):
        mesh.call(client, backends["west" if n % 2 else "east"][0], aim=(address, 80), **more)
    return mesh


def flows(mesh: Mesh) -> list[Any]:
    """Return the flows of a mesh, to be changed."""
    return [message.flow for message in mesh.messages if message.HasField("flow")]


def verdicts(store: Store) -> dict[str, set[str]]:
    """Return the verdicts of each report's rows."""
    return {
        report: {str(verdict) for (verdict,) in store.rows(f"select verdict from report_{report}(whole := true)")}
        for report in REPORTS
    }


def without_ports(flow: Any, name: str) -> None:
    """Clear one of the ports."""
    protocol = flow.l4.WhichOneof("protocol")
    if protocol in ("TCP", "UDP"):
        getattr(flow.l4, protocol).ClearField(name)


MASKS: dict[str, Callable[[Any], None]] = {
    "event_type": lambda flow: flow.ClearField("event_type"),
    "trace_observation_point": lambda flow: flow.ClearField("trace_observation_point"),
    "trace_reason": lambda flow: flow.ClearField("trace_reason"),
    "IP.source": lambda flow: flow.IP.ClearField("source"),
    "IP.destination": lambda flow: flow.IP.ClearField("destination"),
    "l4": lambda flow: flow.ClearField("l4"),
    "source_port": lambda flow: without_ports(flow, "source_port"),
    "destination_port": lambda flow: without_ports(flow, "destination_port"),
    "l4.TCP.flags": lambda flow: flow.l4.TCP.ClearField("flags"),
    "source.ID": lambda flow: flow.source.ClearField("ID"),
    "destination.ID": lambda flow: flow.destination.ClearField("ID"),
    "source.identity": lambda flow: flow.source.ClearField("identity"),
    "destination.identity": lambda flow: flow.destination.ClearField("identity"),
}


@pytest.mark.parametrize("field", MASKS)
def test_a_masked_field_is_named_and_nothing_is_ok(field: str, tmp_path: Path) -> None:
    """Coverage names what never came; the other reports give neither ok nor a violation without it."""
    mesh = called()
    for flow in flows(mesh):
        MASKS[field](flow)
    import_into(tmp_path / "x.duckdb", mesh.write(tmp_path / "recording"))

    with Store.open(tmp_path / "x.duckdb") as store:
        coverage = run(store, "coverage", Question())
        found = verdicts(store)
        ((named,),) = store.rows("from lacking_summary(whole := true)")

    assert coverage.verdict.value == "insufficient"
    assert field in coverage.reason
    assert field in str(named)
    # What arrived shows its source, whatever is known of what left.
    silent = REPORTS if field != "source.ID" else ("affinity", "hops")
    assert all(found[report] in ({"insufficient"}, set()) for report in silent)


def test_what_hosts_send_needs_no_reason(tmp_path: Path) -> None:
    """A cluster where only hosts speak lacks nothing: iptables' masquerade leaves their packets without connection tracking."""
    mesh = called()
    left = next(message for message in mesh.messages if message.flow.trace_observation_point == flow_pb2.TO_NETWORK)
    for n in range(20):
        idle = type(left)()
        idle.CopyFrom(left)
        idle.node_name = idle.flow.node_name = "north/north-1"
        idle.flow.uuid = f"00000000-0000-4000-8000-{n:012}"
        idle.flow.ClearField("trace_reason")
        idle.flow.ClearField("source")
        idle.flow.source.identity = 1
        mesh.messages.append(idle)
    import_into(tmp_path / "x.duckdb", mesh.write(tmp_path / "recording"))

    with Store.open(tmp_path / "x.duckdb") as store:
        lacking = store.rows("from lacking_summary(whole := true)")

    assert lacking == [(None,)]


def test_a_masked_cookie_hides_which_calls_were_direct(tmp_path: Path) -> None:
    """Socket events that cannot be joined do not prove that a call without them went straight to a pod."""
    mesh = called()
    for flow in flows(mesh):
        flow.ClearField("socket_cookie")
    import_into(tmp_path / "x.duckdb", mesh.write(tmp_path / "recording"))

    with Store.open(tmp_path / "x.duckdb") as store:
        coverage = run(store, "coverage", Question())
        doors = {str(door) for (door,) in store.rows("select door from connections")}

    assert "socket_cookie" in coverage.reason
    assert "pod" not in doors


def test_flows_of_no_node_prove_nothing(tmp_path: Path) -> None:
    """Without node_name nobody knows who saw a flow."""
    mesh = called()
    for message in mesh.messages:
        if message.HasField("flow"):
            message.ClearField("node_name")
            message.flow.ClearField("node_name")
    import_into(tmp_path / "x.duckdb", mesh.write(tmp_path / "recording"))

    with Store.open(tmp_path / "x.duckdb") as store:
        report = run(store, "nat", Question())

    assert report.verdict.value == "insufficient"
    assert "node_name" in report.reason


def test_a_whole_source_beside_a_masked_one_is_enough(tmp_path: Path) -> None:
    """A log that lacks fields takes nothing from a Relay that told of the same time."""
    mesh = called()
    folder = mesh.write(tmp_path / "recording")
    for flow in flows(mesh):
        for field in ("uuid", "trace_reason", "trace_observation_point"):
            flow.ClearField(field)
    lines = [json_format.MessageToJson(m, preserving_proto_field_name=True, indent=None) for m in mesh.messages]
    (tmp_path / "events.log").write_text("\n".join(lines))
    import_into(tmp_path / "x.duckdb", folder, tmp_path / "events.log")

    with Store.open(tmp_path / "x.duckdb") as store:
        found = verdicts(store)
        ((connections,),) = store.rows("select count(*) from connections")

    assert found["nat"] == {"ok"}
    assert connections == 8


@pytest.mark.parametrize("masked_first", [True, False])
def test_a_whole_copy_fills_in_what_a_mask_left_out(masked_first: bool, tmp_path: Path) -> None:
    """By its uuid a flow of a masked log is the one that a Relay tells whole, whichever comes first."""
    mesh = called()
    folder = mesh.write(tmp_path / "recording")
    for flow in flows(mesh):
        for field in ("trace_reason", "trace_observation_point", "event_type"):
            flow.ClearField(field)
    lines = [json_format.MessageToJson(m, preserving_proto_field_name=True, indent=None) for m in mesh.messages]
    (tmp_path / "events.log").write_text("\n".join(lines))
    paths = (tmp_path / "events.log", folder)
    for path in paths if masked_first else paths[::-1]:
        import_into(tmp_path / "x.duckdb", path)

    with Store.open(tmp_path / "x.duckdb") as store:
        found = verdicts(store)
        ((connections,),) = store.rows("select count(*) from connections")
        ((lacking,),) = store.rows("from lacking_summary(whole := true)")

    assert found["nat"] == {"ok"}
    assert connections == 8
    assert lacking is None


def test_flows_without_uuid_beside_another_source_may_stand_twice(tmp_path: Path) -> None:
    """Nothing tells that two lines are one flow: what is counted over both proves nothing."""
    mesh = called()
    folder = mesh.write(tmp_path / "recording")
    for flow in flows(mesh):
        flow.ClearField("uuid")
    lines = [json_format.MessageToJson(m, preserving_proto_field_name=True, indent=None) for m in mesh.messages]
    (tmp_path / "events.log").write_text("\n".join(lines))
    import_into(tmp_path / "x.duckdb", folder, tmp_path / "events.log")

    with Store.open(tmp_path / "x.duckdb") as store:
        report = run(store, "nat", Question())

    assert report.verdict.value == "insufficient"
    assert "uuid" in report.reason


@pytest.mark.parametrize("count", [1, 57])
def test_lines_that_stand_for_many_flows_are_no_events(count: int, tmp_path: Path) -> None:
    """An exporter that aggregates gives sums: no connection rests on them, and coverage says so."""
    mesh = called()
    for flow in flows(mesh):
        flow.aggregate.ingress_flow_count = count
    import_into(tmp_path / "x.duckdb", mesh.write(tmp_path / "recording"))

    with Store.open(tmp_path / "x.duckdb") as store:
        coverage = run(store, "coverage", Question())
        affinity = run(store, "affinity", Question())
        connections = store.rows("from connections")

    assert coverage.verdict.value == affinity.verdict.value == "insufficient"
    assert "sums" in coverage.reason
    assert "sums" in affinity.reason
    assert not connections


def test_answers_that_are_called_new_are_no_calls(tmp_path: Path) -> None:
    """SYN and ACK is an answer, whatever connection tracking says of it (cilium/cilium#47913)."""
    mesh = called()
    for flow in flows(mesh):
        if flow.l4.TCP.flags.ACK:
            flow.trace_reason, flow.is_reply.value = flow_pb2.TraceReason.NEW, False
    import_into(tmp_path / "x.duckdb", mesh.write(tmp_path / "recording"))

    with Store.open(tmp_path / "x.duckdb") as store:
        found = store.rows(
            "select client_cluster, server_cluster, outcome, count(*) from connections group by all order by all"
        )

    assert found == [("west", "east", "arrived", 4), ("west", "west", "arrived", 4)]


@pytest.mark.parametrize("marked", ["reply", "unknown"])
@pytest.mark.parametrize("listed", [True, False], ids=["known service", "no objects"])
@pytest.mark.parametrize("dropped", [True, False], ids=["dropped", "new"])
def test_answers_of_udp_are_no_calls(dropped: bool, listed: bool, marked: str, tmp_path: Path) -> None:
    """A datagram back to the caller's port answers, whether it was dropped or called new."""
    mesh = Mesh()
    client, server = mesh.pod("west", "front-1"), mesh.pod("east", "dns-1")
    mesh.service("east", "dns", [server], ports=(53, 5353), protocol="UDP")
    for n in range(5):
        ports = (41_000 + n, 5353)
        mesh.leave(client, server, ports, protocol="UDP")
        mesh.arrive(client, server, ports, protocol="UDP")
        kind = {"kind": 1, "sub_type": 133} if dropped else {"reason": "NEW"}
        reply = {"reply": True} if marked == "reply" else {}
        for node, later in (("east/east-1", 0.03), ("west/west-1", 0.04)):
            point = "UNKNOWN_POINT" if dropped else "TO_NETWORK" if node == "east/east-1" else "TO_ENDPOINT"
            one = mesh.event(
                node, point, server, client, (5353, ports[0]), protocol="UDP", later=later, **kind, **reply
            )
            if dropped:
                one.flow.verdict, one.flow.drop_reason_desc = flow_pb2.DROPPED, flow_pb2.POLICY_DENIED
        mesh.now += 10**9
    if not listed:
        mesh.objects = {}
    import_into(tmp_path / "x.duckdb", mesh.write(tmp_path / "recording"))

    with Store.open(tmp_path / "x.duckdb") as store:
        found = store.rows("select client_cluster, server_cluster, outcome, count(*) from connections group by all")

    assert found == [("west", "east", "arrived", 5)]


def test_a_late_answer_is_known_by_its_service(tmp_path: Path) -> None:
    """Its call is long gone: from a server's port to one that clients are given. A call from that port elsewhere is one."""
    mesh = Mesh()
    client, server = mesh.pod("west", "front-1"), mesh.pod("east", "dns-1")
    mesh.service("east", "dns", [server], ports=(53, 5353), protocol="UDP")
    for ports in ((5353, 41_000), (5353, 4000)):
        mesh.leave(server, client, ports, protocol="UDP")
        mesh.arrive(server, client, ports, protocol="UDP")
        mesh.now += 10**9
    import_into(tmp_path / "x.duckdb", mesh.write(tmp_path / "recording"))

    with Store.open(tmp_path / "x.duckdb") as store:
        found = store.rows("select client_cluster, server_port from connections")

    assert found == [("east", 4000)]


def test_a_node_without_a_cluster_belongs_where_its_endpoints_do(tmp_path: Path) -> None:
    """Old Hubble names nodes alone: the labels of their own endpoints say the cluster."""
    mesh = called()
    for message in mesh.messages:
        if message.HasField("flow"):
            flow: Any = message.flow
            flow.node_name = message.node_name = message.node_name.partition("/")[2]
            for end in (flow.source, flow.destination):
                if end.cluster_name:
                    end.labels.append(f"k8s:io.cilium.k8s.policy.cluster={end.cluster_name}")
                    end.ClearField("cluster_name")
            flow.ClearField("trace_reason")
    folder = mesh.write(tmp_path / "recording")
    import_into(tmp_path / "x.duckdb", folder)
    again = import_into(tmp_path / "x.duckdb", folder).ledger.total

    with Store.open(tmp_path / "x.duckdb") as store:
        found = store.rows("select distinct cluster, node from flows order by all")
        affinity = run(store, "affinity", Question())

    assert found == [("east", "east-1"), ("west", "west-1")]
    assert again.stored == 0
    assert "trace_reason" in affinity.reason


@pytest.mark.parametrize(
    ("identities", "settings", "expected"),
    [
        ({"west": [65536 + 5, 65536 + 40_000]}, {}, {"west": 1}),
        ({"west": [(300 << 15) + n for n in (1, 2, 3)], "east": [(301 << 15) + n for n in (1, 2, 3)]}, {}, {"west": 300, "east": 301}),
        ({"west": [(300 << 15) + 9], "east": [(7 << 15) + 9]}, {"max-connected-clusters": "511"}, {"west": 300, "east": 7}),
        ({"west": [(300 << 15) + 9], "east": [(7 << 15) + 9]}, {"cluster-id": "300"}, {"west": 300, "east": 7}),
        ({"west": [(3 << 16) + 9], "east": [(4 << 16) + 9]}, {"max-connected-clusters": "255"}, {"west": 3, "east": 4}),
    ],
)  # fmt: skip
def test_cluster_ids_by_identities(
    identities: dict[str, list[int]], settings: dict[str, str], expected: dict[str, int], tmp_path: Path
) -> None:
    """With 511 clusters an identity has one bit more for the cluster; settings or the identities together tell."""
    mesh = Mesh()
    for cluster, numbers in identities.items():
        for number in numbers:
            event = mesh.event(f"{cluster}/{cluster}-1", "TO_ENDPOINT", "10.0.0.1", "10.0.0.2", (1, 2), reason="NEW")
            one: Any = event.flow.source
            one.identity, one.cluster_name = number, cluster
            one.labels.append("k8s:app=x")
    if settings:
        metadata = {"name": "cilium-config", "namespace": "kube-system"}
        mesh.objects["west"].append({"kind": "ConfigMap", "metadata": metadata, "data": settings})
    import_into(tmp_path / "x.duckdb", mesh.write(tmp_path / "recording"))

    with Store.open(tmp_path / "x.duckdb") as store:
        rows = store.rows("select cluster, cluster_id from clusters where cluster_id is not null")
        found = {str(cluster): number for cluster, number in rows}

    assert found == expected

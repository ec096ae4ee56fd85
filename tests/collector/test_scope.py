"""Which Relay is asked for which nodes: every node by one, none by nobody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshobs.collector.hubble import scope
from meshobs.pb.flow.flow_pb2 import FlowFilter

WEST, EAST, WEST2 = (f"{name}/node-1" for name in ("west", "east", "west-2"))
HUBBLE = [FlowFilter(source_port=["4244", "4245"]), FlowFilter(destination_port=["4244", "4245"])]


def one(*patterns: str, **more: list[str]) -> FlowFilter:
    """Return a filter for nodes."""
    return FlowFilter(node_name=patterns, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("relays", "expected"),
    [
        ({}, {}),
        ({"west": [WEST, EAST]}, {"west": None}),
        ({"west": []}, {"west": None}),
        ({"west": [WEST], "east": [EAST]}, {"west": None, "east": None}),
        ({"west": [WEST, EAST], "east": [WEST, EAST]}, {"west": ["west"], "east": ["east"]}),
        ({"west": [WEST, WEST2], "west-2": [WEST, WEST2]}, {"west": ["west"], "west-2": ["west-2"]}),
        ({"a": [WEST, EAST], "b": [WEST, EAST]}, {"a": ["east", "west"], "b": []}),
        ({"a": [WEST, EAST], "west": [WEST]}, {"a": ["east"], "west": ["west"]}),
        (
            {"west": [WEST, EAST], "east": [WEST, EAST], "south": ["south/node-1"]},
            {"west": ["west"], "east": ["east"], "south": ["south"]},
        ),
        (
            {"west": [WEST, EAST, WEST2], "east": [WEST, EAST, WEST2], "west-2": [WEST2]},
            {"west": ["west"], "east": ["east"], "west-2": ["west-2"]},
        ),
        ({"west": [WEST, EAST], "east": [WEST, EAST], "new": []}, {"west": ["west"], "east": ["east"], "new": []}),
        ({"a": ["node-1", WEST], "b": ["node-1", WEST]}, {"a": ["", "west"], "b": []}),
    ],
)
def test_each_cluster_is_asked_of_one_relay(
    relays: dict[str, list[str]], expected: dict[str, list[str] | None]
) -> None:
    """Its own where it has one; one Relay, or Relays that share nothing, are asked for all."""
    assert scope.assign(relays) == expected


def test_redundant_relays_are_all_asked_for_all() -> None:
    """--redundant leaves nothing out."""
    assert scope.assign({"west": [WEST, EAST], "east": [WEST, EAST]}, redundant=True) == {"west": None, "east": None}


CLUSTERS = st.sampled_from(["west", "west-2", "east", "a.b", ""])


@given(st.dictionaries(st.sampled_from(["west", "west-2", "east", "x"]), st.lists(CLUSTERS, max_size=5)))
def test_no_cluster_is_left_out_or_asked_twice(relays: dict[str, list[str]]) -> None:
    """Whatever Relays see, each cluster has exactly one of those that see it; or all are asked for all."""
    names = {name: [f"{cluster}/n" if cluster else "n" for cluster in seen] for name, seen in relays.items()}

    assigned = scope.assign(names)

    asked = [cluster for clusters in assigned.values() for cluster in clusters or []]
    whole = [name for name, clusters in assigned.items() if clusters is None]
    seen_of_whole = [cluster for name in whole for cluster in set(relays[name])]
    assert sorted(asked + seen_of_whole) == sorted({cluster for seen in relays.values() for cluster in seen})
    assert all(set(clusters or []) <= set(relays[name]) for name, clusters in assigned.items())


@pytest.mark.parametrize(
    ("given_", "clusters", "expected"),
    [
        ([], None, []),
        ([one("node-1")], None, [one("node-1")]),
        ([], ["west"], [one("west/")]),
        ([], ["west", "east"], [one("west/", "east/")]),
        ([], [""], [one("default/")]),
        ([], [], None),
        ([one(source_pod=["a"])], ["west"], [one("west/", source_pod=["a"])]),
        ([one(WEST)], ["west"], [one(WEST)]),
        ([one(WEST)], ["east"], None),
        ([one(WEST2)], ["west"], None),
        ([one(WEST, EAST), one(EAST)], ["west"], [one(WEST)]),
        ([one("node-1")], ["west"], [one("west/node-1")]),
        ([one("node-*", "/")], ["west", "east"], [one("west/node-*", "east/node-*", "west/", "east/")]),
        ([one("*/node-1")], ["west"], [one("west/node-1")]),
        ([one("we*/node-1")], ["west", "east"], [one("west/node-1")]),
        ([one("west*/")], ["west", "west-2"], [one("west/", "west-2/")]),
        ([one("node-1", "west/node-1")], ["west"], [one("west/node-1")]),
        ([one("default/node-1", "west/node-1")], [""], [one("default/node-1")]),
    ],
)
def test_filters_are_narrowed_to_clusters(
    given_: list[FlowFilter], clusters: list[str] | None, expected: list[FlowFilter] | None
) -> None:
    """Only nodes of these clusters that the user's own patterns mean, too; None where there are none."""
    before = [FlowFilter.FromString(one.SerializeToString()) for one in given_]

    assert scope.narrow(given_, clusters) == expected
    assert given_ == before


@pytest.mark.parametrize(
    ("observers", "relays", "servers", "expected"),
    [
        ([], [], [], []),
        (["10.0.0.1:4244", "[fd00::1]:4244"], ["10.0.0.2:4245"], [], []),
        (["10.0.0.1:4250"], [], [], [("10.0.0.1", "4250")]),
        (["[fd00::1]:4250"], [], [], [("fd00::1", "4250")]),
        ([], ["10.0.0.2:443", "10.0.0.2:443"], ["10.0.0.3:6443"], [("10.0.0.2", "443"), ("10.0.0.3", "6443")]),
        ([], ["relay.example:443", "localhost:9999"], ["api.example:6443"], []),
        (["", "10.0.0.1", "unix:///var/run/cilium/hubble.sock", "10.0.0.1:", "10.0.0.1:http"], [], [], []),
    ],
)
def test_own_traffic_is_left_out(
    observers: list[str], relays: list[str], servers: list[str], expected: list[tuple[str, str]]
) -> None:
    """Hubble's ports everywhere, any other port at its address only; a name has no address to look for."""
    there = [
        made
        for host, port in expected
        for made in (
            FlowFilter(source_ip=[host], source_port=[port]),
            FlowFilter(destination_ip=[host], destination_port=[port]),
        )
    ]

    assert scope.own_traffic(observers, relays, servers) == HUBBLE + there


@pytest.mark.parametrize(
    ("nodes", "servers", "addresses", "ports"),
    [
        ({}, [], [], ["6443", "10250"]),
        ({"west/a": "10.0.0.1:4244", "east/b": "10.9.0.1:4244"}, [], ["10.0.0.1"], ["6443", "10250"]),
        ({"a": "10.0.0.1:4244", "b": "[fd00::1]:4244"}, [], ["10.0.0.1", "fd00::1"], ["6443", "10250"]),
        ({"west/a": "10.0.0.1:4244"}, ["10.0.0.9:8443"], ["10.0.0.1", "10.0.0.9"], ["8443", "10250"]),
        ({"west/a": "", "west/b": "node:4244"}, ["[fd00::9]:443"], ["fd00::9"], ["443", "10250"]),
    ],
)
def test_what_a_port_forward_passes_is_left_out(
    nodes: dict[str, str], servers: list[str], addresses: list[str], ports: list[str]
) -> None:
    """API server and kubelet, at the addresses of the cluster's own nodes and API servers, and nothing else."""
    path = scope.forward_path("west", nodes, servers)

    assert (list(path.nodes), path.ports) == (addresses, ports)
    assert scope.own_traffic([], [], [], [path]) == HUBBLE + (
        [
            FlowFilter(source_ip=addresses, source_port=ports),
            FlowFilter(destination_ip=addresses, destination_port=ports),
        ]
        if addresses
        else []
    )


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.0.0.1", True), ("::1", True), ("10.0.0.1", False), ("relay.example", False)],
)
def test_what_this_machine_is_called(host: str, expected: bool) -> None:
    """Names are not looked up."""
    assert scope.is_loopback(host) == expected


@pytest.mark.parametrize(
    ("patterns", "node", "covered"),
    [
        ([[]], "west/node-1", True),
        ([["west/"]], "west/node-1", True),
        ([["west/"]], "west-2/node-1", False),
        ([["node-1"]], "west/node-1", True),
        ([["/node-1"]], "west/node-1", True),
        ([["/"]], "west/node-1", True),
        ([["*/node-*"]], "west/node-1", True),
        ([["west/node-2"]], "west/node-1", False),
        ([["west/node-2"], []], "west/node-1", True),
        ([["default/"]], "node-1", True),
        ([["west/"]], "node-1", False),
    ],
)
def test_which_nodes_an_allowlist_lets_through(patterns: list[list[str]], node: str, covered: bool) -> None:
    """As Hubble reads node patterns: a missing cluster is any, a missing name is any."""
    assert scope.covers([FlowFilter(node_name=names) for names in patterns], node) == covered

"""FlowFilters as an agent applies them, compiled once for each request. Pure.

Values of one field are alternatives, fields of one filter narrow each other, filters of a list are alternatives; what a
denylist matches is left out. What this lab cannot judge (HTTP, DNS queries, CEL) is refused: a filter that is ignored
would answer another question.
"""

from collections.abc import Iterable, Sequence

from meshobs.lab.sim.hubble.filters import endpoints, packets, patterns
from meshobs.lab.sim.hubble.filters.endpoints import Compiler, Test
from meshobs.pb.flow.flow_pb2 import Flow, FlowFilter

# In the order of evaluation: what is cheap and excludes most comes first.
_FIELDS: dict[str, Compiler] = {
    "uuid": endpoints.plain(lambda flow: flow.uuid),
    "verdict": endpoints.plain(lambda flow: flow.verdict),
    "source_port": packets.ports("source"),
    "destination_port": packets.ports("destination"),
    "source_ip": packets.addresses(lambda flow: flow.IP.source),
    "destination_ip": packets.addresses(lambda flow: flow.IP.destination),
    "source_ip_xlated": packets.addresses(lambda flow: flow.IP.source_xlated),
    "event_type": packets.event_types,
    "drop_reason_desc": packets.drop_reasons,
    "reply": packets.replies,
    "source_identity": endpoints.identities("source"),
    "destination_identity": endpoints.identities("destination"),
    "protocol": packets.protocols,
    "source_pod": endpoints.pods("source"),
    "destination_pod": endpoints.pods("destination"),
    "source_workload": endpoints.workloads("source"),
    "destination_workload": endpoints.workloads("destination"),
    "source_service": endpoints.services("source"),
    "destination_service": endpoints.services("destination"),
    "source_fqdn": endpoints.fqdns(lambda flow: flow.source_names),
    "destination_fqdn": endpoints.fqdns(lambda flow: flow.destination_names),
    "source_label": endpoints.labels("source", lambda flow: flow.source.labels),
    "destination_label": endpoints.labels("destination", lambda flow: flow.destination.labels),
    "node_labels": endpoints.labels("node", lambda flow: flow.node_labels),
    "tcp_flags": packets.flags,
    "source_cluster_name": endpoints.clusters("source"),
    "destination_cluster_name": endpoints.clusters("destination"),
    "ip_version": endpoints.plain(lambda flow: flow.IP.ipVersion),
    "trace_id": endpoints.plain(lambda flow: flow.trace_context.parent.trace_id),
    "traffic_direction": endpoints.plain(lambda flow: flow.traffic_direction),
    "interface": packets.interfaces,
}
_KNOWN = {*_FIELDS, "node_name"}


def match_nothing(_flow: Flow) -> bool:
    """Tell that no flow is wanted; a reader that sees this test need not look at any."""
    return False


def compile_filters(whitelist: Iterable[FlowFilter], blacklist: Iterable[FlowFilter], node: str) -> Test | None:
    """Return whether a flow of a node is wanted, None where every flow is.

    Args:
        whitelist: of the request.
        blacklist: of the request.
        node: whose flows they are; filters for other nodes are settled by it.

    Raises:
        ValueError: a filter is none; the text is an agent's.
    """
    given = [_filter(one, node) for one in whitelist]
    allowed = [one for one in given if one is not match_nothing]
    denied = [one for one in (_filter(one, node) for one in blacklist) if one is not match_nothing]
    if (given and not allowed) or None in denied:
        return match_nothing
    passes = None if None in allowed else _any([one for one in allowed if one])
    excluded = _any([one for one in denied if one])
    if passes is None or excluded is None:
        return passes if excluded is None else lambda flow: not excluded(flow)
    return lambda flow: passes(flow) and not excluded(flow)


def _filter(one: FlowFilter, node: str) -> Test | None:
    """Return a filter's test: None if it fits all flows of the node, `nothing` if it is for other nodes only."""
    if unknown := [field.name for field, _ in one.ListFields() if field.name not in _KNOWN]:
        raise ValueError(f"invalid filter, this lab does not know {', '.join(unknown)}")
    compiled = {name: compiler(getattr(one, name)) for name, compiler in _FIELDS.items() if getattr(one, name)}
    # Ports first: they rule out most flows, at the lowest price.
    tests = [compiled[name] for name in sorted(compiled, key=lambda name: not name.endswith("_port"))]
    if one.node_name and not patterns.nodes(one.node_name).fullmatch(node):
        return match_nothing
    match tests:
        case []:
            return None
        case [test]:
            return test
        case [first, second]:
            return lambda flow: first(flow) and second(flow)
        case _:
            return lambda flow: all(test(flow) for test in tests)


def _any(tests: Sequence[Test]) -> Test | None:
    """Return whether any test fits, None without tests. Every flow goes through it: the usual lengths are spelt out."""
    match tests:
        case []:
            return None
        case [one]:
            return one
        case [one, other]:
            return lambda flow: one(flow) or other(flow)
        case _:

            def fits(flow: Flow) -> bool:
                for test in tests:  # noqa: SIM110 - any() costs a generator for each flow
                    if test(flow):
                        return True
                return False

            return fits

"""Kubernetes objects, watch logs and Relay status of a recording -> states with the times they held.

A watch log says since when each state held. A snapshot only says what held when it was taken, at the end of its
recording; that it held before is an assumption, and reports are told so (`known_from`). Times are nanoseconds.
"""

import re
from collections.abc import Iterable

from meshobs.collector.hubble.answers import RelayNode
from meshobs.collector.kube.document import Json, at, items, text
from meshobs.collector.kube.objects import KubeState, state_of
from meshobs.collector.kube.sighting import BEFORE_NS, Sighting
from meshobs.collector.span import Span
from meshobs.times import nanoseconds

# Names of watch logs are watch-CLUSTER-KIND; a cluster's name may have dashes too.
_KINDS = "svc|services?|endpointslices?|eps|namespaces?|ns|nodes?|ciliumnodes?|pods?|configmaps?|cm|ciliumendpoints?"
_NAME = re.compile(rf"k8s-(?P<k8s>.+)|watch-(?P<watch>.+?)(-({_KINDS}))?|relay-(?P<relay>.+)", re.IGNORECASE)


def cluster_of(stem: str) -> str:
    """Return the cluster that a file's name says (`k8s-west`, `watch-eu-west-svc`), empty if it says none."""
    match = _NAME.fullmatch(stem)
    return next((group for group in match.groupdict().values() if group), "") if match else ""


def read_watch_log(events: Iterable[Json], cluster: str) -> list[Sighting]:
    """Return the states that a watch log tells of: events with `type`, `object` and the time they were `received`.

    Events without a time or of unknown kinds are left out.
    """
    found = []
    for event in events:
        state = state_of(at(event, "object"), cluster)
        received = nanoseconds(text(event, "received"))
        if state and received is not None and text(event, "type") in ("ADDED", "MODIFIED", "DELETED"):
            found.append(Sighting(cluster, state, received, received, text(event, "type") == "DELETED"))
    return found


def read_objects(document: Json, cluster: str, span: Span | None) -> list[Sighting]:
    """Return the states of a list of objects, or of a single one, taken at the end of `span`."""
    objects = items(document, "items") or [document]
    states = [state for one in objects if (state := state_of(one, cluster))]
    return [_snapshot(state, cluster, span) for state in states]


def read_relay_nodes(document: Json, span: Span | None) -> list[RelayNode]:
    """Return the nodes of a Relay's status: a GetNodes answer, alone or under the key `GetNodes`."""
    nodes = items(document, "GetNodes", "nodes") or items(document, "nodes")
    return [
        RelayNode(
            time=span.last if span else None,
            node_name=text(node, "name"),
            state=text(node, "state"),
            version=text(node, "version"),
            address=text(node, "address"),
            uptime_ns=_number(node, "uptime_ns", "uptimeNs"),
            num_flows=_number(node, "num_flows", "numFlows"),
            max_flows=_number(node, "max_flows", "maxFlows"),
            seen_flows=_number(node, "seen_flows", "seenFlows"),
        )
        for node in nodes
        if text(node, "name")
    ]


def _snapshot(state: KubeState, cluster: str, span: Span | None) -> Sighting:
    created = nanoseconds(state.created) or 0
    if span is None:
        return Sighting(cluster, state, created, None)
    return Sighting(cluster, state, max(created, span.first - BEFORE_NS), span.last)


def _number(node: Json, *names: str) -> int:
    """Return a 64-bit number, which JSON writes as text."""
    for name in names:
        value = at(node, name)
        if isinstance(value, int | str) and str(value).isdecimal() and int(value) < 2**64:
            return int(value)
    return 0

"""Kubernetes objects, watch logs and Relay status of a recording -> states with the times they held.

A watch log says since when each state held. A snapshot only says what held when it was taken, at the end of its
recording; that it held before is an assumption, and reports are told so (`known_from`). Times are nanoseconds.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from meshobs.collector.hubble.answers import RelayNode
from meshobs.collector.kube.document import Json, at, items, text
from meshobs.collector.kube.endpoints import is_cut, slices_of
from meshobs.collector.kube.objects import KINDS, KubeState, state_of
from meshobs.collector.kube.sighting import BEFORE_NS, Sighting
from meshobs.collector.node_name import DEFAULT_CLUSTER
from meshobs.collector.span import Span
from meshobs.times import possible_moment

# Names of watch logs are watch-CLUSTER-KIND; a cluster's name may have dashes too.
_KINDS = "svc|services?|endpointslices?|eps|namespaces?|ns|nodes?|ciliumnodes?|pods?|configmaps?|cm|ciliumendpoints?"
# So many kinds that are not used are named, and so much of a name.
_KINDS_TOLD, _SHOWN = 30, 60
_USED = KINDS | {"Endpoints"}
# `cilium sysdump` calls a kind so, with the time it was started (k8s-services-20260301-100000); others a cluster.
_TIME = re.compile(r"-\d{8}-\d{6}(-prev)?$")
_OF_SYSDUMP = re.compile(
    r"k8s-(endpoints|endpointslices|events|leases|metrics|namespaces|networkpolicies|nodes|pods|services|version)"
)
_DIGITS = re.compile(r"[0-9]{1,20}")
_NAME = re.compile(rf"k8s-(?P<k8s>.+)|watch-(?P<watch>.+?)(-({_KINDS}))?|relay-(?P<relay>.+)", re.IGNORECASE)


def cluster_of(stem: str) -> str:
    """Return the cluster that a file's name says (`k8s-west`, `watch-eu-west-svc`), empty if it says none."""
    name = _TIME.sub("", stem)
    match = None if name != stem and _OF_SYSDUMP.fullmatch(name) else _NAME.fullmatch(name)
    return next((group for group in match.groupdict().values() if group), "") if match else ""


@dataclass
class ObjectReading:
    """What the Kubernetes objects of one cluster's files say.

    Attributes:
        cluster: whose objects they are.
        span: the flows beside them; a snapshot was taken at their end.
        watched: states with the time they were received at.
        unused: kinds that reports have no use for or that lack what they need, and how many objects.
        undated: changes of an object without a time: only its last state is known.
        cut: Endpoints from which Kubernetes left out addresses.
    """

    cluster: str
    span: Span | None
    watched: list[Sighting] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)
    undated: int = 0
    cut: list[str] = field(default_factory=list)
    _snapped: dict[tuple[str, str, str, str], Sighting] = field(default_factory=dict)
    _older: dict[tuple[str, str], list[Sighting]] = field(default_factory=dict)

    def add(self, document: Json) -> None:
        """Take an object, a list of them, or an event of a watch."""
        if text(document, "type") and at(document, "object") is not None:
            event = text(document, "type")
            received = possible_moment(text(document, "received"))
            if event in ("ADDED", "MODIFIED", "DELETED"):
                self._add(at(document, "object"), received, deleted=event == "DELETED")
            elif event != "BOOKMARK":  # which says no more than where a watch stands
                self._leave_out("an event of an unknown type")
            return
        if isinstance(at(document, "items"), list):
            kind = text(document, "kind").removesuffix("List")
            for item in items(document, "items"):
                self._add({"kind": kind, **item} if isinstance(item, dict) else item, None)
            return
        self._add(document, None)

    def sightings(self) -> list[Sighting]:
        """Return what was seen. What was watched needs no snapshot, which knows the end only."""
        seen = {sighting.object for sighting in self.watched}
        snapped = [sighting for sighting in self._snapped.values() if sighting.object not in seen]
        sliced = {
            (one.state.namespace, json.loads(one.state.state)["service"])
            for one in [*self.watched, *snapped]
            if one.state.kind == "EndpointSlice"
        }
        return [*self.watched, *snapped, *(one for key, old in self._older.items() if key not in sliced for one in old)]

    def notes(self) -> list[str]:
        """Return what was given and is not used, in words."""
        found = []
        if self.unused:
            kinds = ", ".join(f"{times} {kind}" for kind, times in sorted(self.unused.items()))
            found.append(f"cluster {self.cluster}: of no use for reports, not kept: {kinds}")
        if self.undated:
            found.append(
                f"cluster {self.cluster}: {self.undated} changes of objects without the time they were received:"
                " only each object's last state is used, as of the end"
            )
        if self.cut:
            names = ", ".join(self.cut)
            found.append(
                f"cluster {self.cluster}: Kubernetes left addresses out of Endpoints {names}: give EndpointSlices"
            )
        return found

    def _add(self, document: Json, received: int | None, *, deleted: bool = False) -> None:
        kind = text(document, "kind") or _kind_by_shape(document)
        if isinstance(document, dict):
            document = {**document, "kind": kind}
        if kind in _USED and not text(document, "metadata", "name"):
            self._leave_out(f"{kind} without a name")
            return
        if kind == "Endpoints":
            self._add_endpoints(document, received, deleted=deleted)
            return
        state = state_of(document, self.cluster)
        if state is None:
            # Of a kind that is used: a slice of another cluster or of no service, a ConfigMap that is not Cilium's.
            self._leave_out(kind or "an object without a kind")
            return
        if received is not None:
            self.watched.append(Sighting(self.cluster, state, received, received, deleted))
            return
        snapshot = _snapshot(state, self.cluster, self.span)
        before = self._snapped.pop(snapshot.object, None)
        if deleted or (before is not None and before.state.state != state.state):
            self.undated += 1
        if not deleted:
            self._snapped[snapshot.object] = snapshot

    def _leave_out(self, what: str) -> None:
        shown = what if len(what) <= _SHOWN else f"{what[:_SHOWN]}..."
        self.unused[shown if shown in self.unused or len(self.unused) < _KINDS_TOLD else "others"] += 1

    def _add_endpoints(self, document: Json, received: int | None, *, deleted: bool) -> None:
        name, namespace = text(document, "metadata", "name"), text(document, "metadata", "namespace")
        states = [state for one in slices_of(document) if (state := state_of(one, self.cluster))]
        if is_cut(document):
            self.cut.append(f"{namespace}/{name}")
        known = self._older.setdefault((namespace, name), [])
        if received is None:
            self.undated += bool(known) and [one.state.state for one in known] != [state.state for state in states]
            known[:] = [] if deleted else [_snapshot(state, self.cluster, self.span) for state in states]
            return
        gone = {one.state.name: one.state for one in known}
        known += [Sighting(self.cluster, state, received, received, deleted) for state in states]
        for subset, state in gone.items():  # a set of addresses that is no longer there
            if subset not in {state.name for state in states}:
                known.append(Sighting(self.cluster, state, received, received, deleted=True))


def each(document: Json) -> Iterator[Json]:
    """Yield the single objects of a document: a list's items, an event's object, or the document."""
    if isinstance(at(document, "items"), list):
        yield from items(document, "items")
    else:
        yield at(document, "object") if text(document, "type") else document


def config_name(document: Json) -> str:
    """Return the cluster's name that cilium-config gives, empty for every other object and for Cilium's default."""
    if text(document, "metadata", "name") != "cilium-config":
        return ""
    name = text(document, "data", "cluster-name")
    return name if name != DEFAULT_CLUSTER else ""


def node_names(document: Json) -> set[str]:
    """Return the nodes that an object is or names."""
    kind = text(document, "kind") or _kind_by_shape(document)
    if kind in ("Node", "CiliumNode"):
        return {text(document, "metadata", "name")}
    subsets = [address for subset in items(document, "subsets") for address in items(subset, "addresses")]
    return {text(one, "nodeName") for one in [*items(document, "endpoints"), *subsets]} - {""}


def _kind_by_shape(document: Json) -> str:
    """Return the kind of an object that does not say it: an item of a typed list."""
    for kind, paths in _SHAPES.items():
        if all(at(document, *path) is not None for path in paths):
            return kind
    return ""


_SHAPES = {
    "Service": (("spec", "ports"), ("spec", "type"), ("spec", "clusterIP")),
    "EndpointSlice": (("addressType",), ("endpoints",)),
    "Endpoints": (("subsets",),),
    "Node": (("status", "nodeInfo"),),
    "CiliumNode": (("spec", "ipam"), ("spec", "addresses")),
    "ConfigMap": (("data", "cluster-name"),),
}


def read_relay_nodes(document: Json, span: Span | None) -> list[RelayNode]:
    """Return the nodes of a Relay's status: a GetNodes answer, alone or under the key `GetNodes`, or one node of it."""
    nodes = items(document, "GetNodes", "nodes") or items(document, "nodes") or [document]
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
    created = possible_moment(state.created) or 0
    if span is None:
        return Sighting(cluster, state, created, None)
    return Sighting(cluster, state, max(created, span.first - BEFORE_NS), span.last)


def _number(node: Json, *names: str) -> int:
    """Return a 64-bit number, which JSON writes as text."""
    for name in names:
        value = at(node, name)
        # Not longer than 64 bits are: Python refuses thousands of digits.
        if isinstance(value, int | str) and _DIGITS.fullmatch(str(value)) and int(value) < 2**64:
            return int(value)
    return 0

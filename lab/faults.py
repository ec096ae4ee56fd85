"""Faults that a lab can have, and which report each one must turn, and no other."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meshobs.errors import InputError
from meshobs.lab.mesh.model import Mesh
from meshobs.verdict import Verdict

Undo = Callable[[], None]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: on the command line.
        does: one line on what breaks.
        scope: what it can be narrowed to: `cluster`, `node`, or empty where it is for the whole mesh.
        served: it is one of servers, and needs a mesh in real time.
        turns: report -> its verdict on traffic during the fault, as long as nothing made up for it; what is not named
            stays ok.
    """

    name: str
    does: str
    scope: str
    served: bool = False
    turns: Mapping[str, Verdict] = field(default_factory=dict)


# Of the fault `policy`.
REFUSED_APP = "webpod"
# The smallest ring whose readers do not only see loss.
SMALL_RING = 15
# One event may wait for Hubble: what comes before it is read is lost, as it is where a kernel is faster.
SMALL_QUEUE = 1

# What rests on flows, and so on seeing all of them.
_UNSEEN: dict[str, Verdict] = dict.fromkeys(("affinity", "nat", "hops", "coverage"), Verdict.INSUFFICIENT)

FAULTS = {
    fault.name: fault
    for fault in (
        Fault(
            "masquerade",
            "the masquerade settings do not spare the other clusters' pods",
            "cluster",
            turns={"nat": Verdict.VIOLATION},
        ),
        Fault(
            "stale-backends",
            "the agents stop following Services: a change of affinity does not reach the datapath",
            "cluster",
            turns={"affinity": Verdict.VIOLATION, "hops": Verdict.VIOLATION},
        ),
        Fault(
            "event-loss",
            "kernels lose a tenth of the events before the ring",
            "node",
            turns=_UNSEEN,
        ),
        Fault(
            "ring-loss",
            "rings hold 15 flows: readers are overtaken",
            "node",
            served=True,
            turns=_UNSEEN,
        ),
        Fault(
            "agent-down",
            "an agent is stopped; when it comes back its ring is empty",
            "node",
            served=True,
            turns=_UNSEEN,
        ),
        Fault("relay-down", "a cluster's Relay is stopped", "cluster", served=True, turns=_UNSEEN),
        Fault(
            "blind",
            "no Relay reaches the node",
            "node",
            served=True,
            turns=_UNSEEN,
        ),
        Fault("clock-skew", "a node's clock is 400 ms off", "node"),
        Fault("policy", "the last cluster refuses what comes from the first", ""),
        Fault(
            "kube-down",
            "a cluster's Kubernetes API is not reachable",
            "cluster",
            served=True,
            turns={"services": Verdict.INSUFFICIENT},
        ),
    )
}


def find_fault(name: str) -> Fault:
    """Return a fault by its name.

    Raises:
        InputError: there is none.
    """
    if name not in FAULTS:
        raise InputError(f"there is no fault {name!r}: one of {', '.join(FAULTS)}")
    return FAULTS[name]


def possible_faults(mesh: Mesh) -> frozenset[str]:
    """Return the names of the faults that a mesh can have: in a tunnel everything keeps its address."""
    return frozenset(FAULTS) - ({"masquerade"} if mesh.tunnels else set())


def scopes(fault: Fault, scope: str, mesh: Mesh) -> Sequence[str]:
    """Return what a fault is made on: names of clusters, full names of nodes, or one empty text for the whole mesh.

    Args:
        fault: which.
        scope: a cluster's or node's name; empty for all clusters, or for the first worker of the last cluster.
        mesh: whose.

    Raises:
        InputError: there is no such cluster or node.
    """
    if fault.scope == "cluster":
        names = [cluster.name for cluster in mesh.clusters]
        if scope and scope not in names:
            raise InputError(f"there is no cluster {scope}: {', '.join(names)}")
        return [scope] if scope else names
    if fault.scope == "node":
        found = [node.full for node in mesh.nodes if scope in (node.name, node.full)]
        if scope and not found:
            raise InputError(f"there is no node {scope}: {', '.join(node.name for node in mesh.nodes[:8])}")
        workers = [node for node in mesh.clusters[-1].nodes if not node.control_plane] or mesh.clusters[-1].nodes
        return found or [workers[0].full]
    if scope:
        raise InputError(f"the fault {fault.name} is for the whole mesh")
    return [""]


def refusal(cluster: str) -> dict[str, Any]:
    """Return the CiliumNetworkPolicy of the fault `policy`: pods of one app refuse what comes from a cluster.

    A policy with only a denial would refuse everybody else, too.
    """
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": f"deny-{cluster}", "namespace": "default"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": REFUSED_APP}},
            "ingress": [{"fromEntities": ["all"]}],
            "ingressDeny": [{"fromEndpoints": [{"matchLabels": {"k8s:io.cilium.k8s.policy.cluster": cluster}}]}],
        },
    }


class FaultSwitch:
    """The faults of one mesh that are on. Safe from any thread.

    Args:
        makers: name of a fault -> makes it on a cluster, node or the mesh, and returns what undoes it.
        mesh: returns the mesh.

    Attributes:
        on: those that are, as NAME or NAME SCOPE, with what undoes each.
    """

    def __init__(self, makers: Mapping[str, Callable[[str], Undo]], mesh: Callable[[], Mesh]) -> None:
        self.on: dict[str, Undo] = {}
        self._makers = makers
        self._mesh = mesh
        self._lock = threading.Lock()

    def turn(self, name: str, scope: str, *, on: bool) -> None:
        """Turn a fault on or off; twice the same changes nothing. One that is half made can be turned off.

        Args:
            name: of the fault.
            scope: a cluster's or node's name; empty for all clusters, or for the first worker of the last cluster.
            on: which.

        Raises:
            InputError: there is no such fault or scope, or none of this driver's.
        """
        fault = find_fault(name)
        key = f"{name} {scope}".strip()
        with self._lock:
            if not on:
                if undo := self.on.pop(key, None):
                    undo()
                return
            if key in self.on:
                return
            if name not in self._makers:
                raise InputError(f"this lab has no {name}: all of its nodes share one clock")
            if name not in possible_faults(self._mesh()):
                raise InputError(f"this lab has no {name}: what goes into a tunnel keeps its address")
            places = scopes(fault, scope, self._mesh())
            undoings: list[Undo] = []
            self.on[key] = lambda: _undo_all(undoings)
            for one in places:
                undoings.append(self._makers[name](one))  # noqa: PERF401 - what was done must be undone if the next fails


def _undo_all(undoings: Sequence[Undo]) -> None:
    for undo in undoings:
        undo()

"""Faults that a lab can have, and which report each one must turn, and no other."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshobs.errors import InputError


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
    turns: Mapping[str, str] = field(default_factory=dict)


_UNSEEN: dict[str, str] = {
    "affinity": "insufficient",
    "nat": "insufficient",
    "hops": "insufficient",
    "coverage": "insufficient",
}

FAULTS = {
    fault.name: fault
    for fault in (
        Fault(
            "masquerade",
            "the masquerade settings do not spare the other clusters' pods",
            "cluster",
            turns={"nat": "violation"},
        ),
        Fault(
            "stale-backends",
            "the agents stop following Services: a change of affinity does not reach the datapath",
            "cluster",
            turns={"affinity": "violation", "hops": "violation"},
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
        Fault("kube-down", "a cluster's Kubernetes API is not reachable", "cluster", served=True),
    )
}


def named(name: str) -> Fault:
    """Return a fault by its name.

    Raises:
        InputError: there is none.
    """
    if name not in FAULTS:
        raise InputError(f"there is no fault {name!r}: one of {', '.join(FAULTS)}")
    return FAULTS[name]

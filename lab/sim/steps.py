"""The twin's steps: what `lab plan` prints and `lab up` carries out, in this order. Pure.

A joined mesh with its workloads is one value here: what takes many steps elsewhere is the first.
"""

from collections.abc import Sequence
from pathlib import Path

from meshobs.lab import plan
from meshobs.lab.driver import Step
from meshobs.lab.mesh.model import Mesh


def steps(mesh: Mesh, relay_binary: Path | None = None) -> Sequence[Step]:
    """Return the steps of standing a mesh up.

    Args:
        mesh: to stand up.
        relay_binary: a real hubble-relay, None for the twin's own.
    """
    described = [
        *plan.describe_clusters(mesh),
        *plan.describe_cilium(mesh),
        *plan.describe_joining(mesh),
        *plan.describe_workloads(mesh),
    ]
    relay = f"Relay: {relay_binary or 'the own one'}"
    apis = [f"{cluster.name}: context sim-{cluster.name}" for cluster in mesh.clusters]
    return (
        Step("world", "make the mesh, joined and with its workloads", "S1, S3, S5, S8, S10", described),
        Step("hubble", "serve Hubble", "S7", [*plan.describe_hubble(mesh), relay]),
        Step("kubernetes", "serve the Kubernetes APIs", "S1", apis),
        Step("time", "let time pass", "S10", ["clients, agents and faults follow the clock from now on"]),
    )

"""Records what a lab really shows, with its ground truth, as a folder for tests and for `import`."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from meshobs.collector.follow.clusters import OpenClusters
from meshobs.collector.hubble.relay import Relay
from meshobs.collector.recorder import Recorder
from meshobs.errors import InputError, MeshobsError
from meshobs.jobs import labs
from meshobs.jobs.experiments import open_lab
from meshobs.lab.driver import Lab, LabState, background_paused
from meshobs.lab.experiments.model import Experiment, ExperimentPhase, select_possible
from meshobs.lab.experiments.recording import Recording
from meshobs.lab.experiments.runner import SETTLE_SECONDS, PhaseRun, Runner
from meshobs.lab.experiments.truth import truth
from meshobs.lab.mesh.model import Mesh
from meshobs.lab.traffic import Traffic
from meshobs.verdict import Verdict

_CONNECT_SECONDS = 30.0


def record(found: LabState, folder: Path, experiment: Experiment | None, say: Callable[[str], None]) -> None:
    """Record what happens on a lab: flows, Kubernetes objects and their changes, the ground truth.

    Args:
        found: the lab.
        folder: made where it is not there; must hold nothing.
        experiment: whose phases are recorded; None for 100 calls of each cluster's client to each of its services,
            and from outside to each NodePort.
        say: told of progress, a line each.

    Raises:
        InputError: the folder holds something, or no client would call anything.
        MeshobsError: a Relay or an API does not answer.
    """
    lab = labs.attach(found)
    wanted = experiment or _plain(lab.mesh)
    if not wanted.phases[0].traffic:
        raise InputError("the lab's mesh has no service that a client of its cluster calls: name an experiment")
    fit, left_out = select_possible([wanted], lab.capabilities, lab.mesh)
    for line in left_out:
        say(f"left out: {line}")
    if not fit:
        raise InputError(f"this lab can run no phase of {wanted.name}")
    recording = Recording(folder).make()
    with open_lab(found, say) as members, background_paused(lab, say):
        _record(recording, lab, members, fit[0], say)


def _record(
    recording: Recording, lab: Lab, members: OpenClusters, wanted: Experiment, say: Callable[[str], None]
) -> None:
    apis = {name: cluster for name, (cluster, _) in members.clusters.items()}
    excluded = members.own_traffic(members.ask_nodes(), say)
    recorder = Recorder(members.relays, apis, excluded, recording.flow, recording.event)
    _wait_connected(members, len(lab.mesh.nodes))
    recorder.start()
    pause = threading.Event()
    # The first state must have been watched for a while before anything happens.
    pause.wait(SETTLE_SECONDS)
    runs: list[PhaseRun] = []
    status: Mapping[str, Any] = {}
    for run in Runner(lab, say).run(wanted):
        runs.append(run)
        # Now, while the experiment's own Services are there.
        status = lab.status()
    # Agents hand on what they saw a little later.
    pause.wait(SETTLE_SECONDS)
    recorder.end()
    answers = {name: _about(relay) for name, relay in members.relays.items()}
    recording.close(recorder.objects(), answers, truth(recording.folder.name, lab.mesh, status, runs))


def _wait_connected(members: OpenClusters, expected: int) -> None:
    """Wait until each Relay has all nodes.

    Raises:
        MeshobsError: one has not.
    """
    for name, relay in members.relays.items():
        connected = 0
        for _ in range(int(_CONNECT_SECONDS)):
            connected = sum(node.state == "NODE_CONNECTED" for node in relay.nodes() or ())
            if connected >= expected:
                break
            threading.Event().wait(1)
        else:
            raise MeshobsError(f"the Relay of {name} has {connected} of {expected} nodes")


def _about(relay: Relay) -> Mapping[str, object]:
    """Return what a Relay says of itself, with 64-bit numbers as texts."""
    status = relay.status()
    numbers = ("num_flows", "max_flows", "seen_flows", "uptime_ns")
    return {
        "ServerStatus": {
            **{key: str(getattr(status, key)) for key in numbers},
            "num_connected_nodes": status.connected,
            "num_unavailable_nodes": status.unavailable,
            "version": status.version,
            "flows_rate": status.flows_rate,
        },
        "GetNodes": {
            "nodes": [
                {
                    "name": node.node_name,
                    "version": node.version,
                    "address": node.address,
                    "state": node.state,
                    **{key: str(getattr(node, key)) for key in ("uptime_ns", "num_flows", "max_flows", "seen_flows")},
                }
                for node in relay.nodes() or ()
            ]
        },
    }


def _plain(mesh: Mesh) -> Experiment:
    """Return the experiment that changes nothing."""
    callers = {cluster for one in mesh.workloads if not one.port for cluster in one.clusters}
    traffic = [
        Traffic(cluster, f"svc/{one.namespace}/{one.name}", one.protocol)
        for one in mesh.services
        for cluster in one.clusters
        if cluster in callers
    ]
    traffic += [
        Traffic("outside", f"nodes/{cluster}:{one.node_port}", one.protocol)
        for one in mesh.services
        if one.node_port
        for cluster in one.clusters
    ]
    phase = ExperimentPhase("as described", "", tuple(traffic), "affinity", {"affinity": Verdict.OK, "nat": Verdict.OK})
    return Experiment("as described", "What does the mesh do as it was described?", "", (phase,))

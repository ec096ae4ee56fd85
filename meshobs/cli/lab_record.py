"""`meshobs lab record`: what a lab really shows, with its ground truth, as a folder for tests and for `import`."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshobs.cli.output import say
from meshobs.errors import InputError, MeshobsError
from meshobs.lab import state

if TYPE_CHECKING:
    from meshobs.collector.members import Members
    from meshobs.collector.relay import Relay
    from meshobs.lab.driver import Lab
    from meshobs.lab.experiment import Experiment
    from meshobs.lab.mesh import Mesh

_CONNECT_SECONDS = 30.0


@click.command("record")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--experiment", "name", metavar="NAME|FILE.toml",
    help="Whose phases are recorded.  [default: 100 calls of each cluster's client to each of its services]",
)  # fmt: skip
def command(folder: Path, name: str | None) -> None:
    """Record what happens on the lab into a new FOLDER: flows, Kubernetes objects and their changes, the ground truth.

    \b
    meshobs lab record shared-false --experiment mine.toml
    meshobs --db case.duckdb import shared-false
    """  # noqa: D301 - \b is click's
    from meshobs.cli import lab as labs  # noqa: PLC0415 - which has this command
    from meshobs.cli.proving import open_lab  # noqa: PLC0415 - grpc
    from meshobs.lab import experiment as experiments  # noqa: PLC0415
    from meshobs.lab.driver import background_paused  # noqa: PLC0415
    from meshobs.lab.recording import Recording  # noqa: PLC0415

    found = state.running()
    lab = labs.attach(found)
    wanted = experiments.load(name) if name else _plain(lab.mesh)
    if not wanted.phases[0].traffic:
        raise InputError("the lab's mesh has no service that a client of its cluster calls: name an experiment")
    fit, left_out = experiments.select_possible([wanted], lab.capabilities)
    for line in left_out:
        say(f"meshobs: left out: {line}")
    if not fit:
        raise InputError(f"this lab can run no phase of {wanted.name}")
    recording = Recording(folder)
    with open_lab(found) as members, background_paused(lab, lambda text: say(f"meshobs: {text}")):
        _record(recording, lab, members, fit[0])
    say(f"meshobs: recorded in {folder}; read it with: meshobs --db case.duckdb import {folder}")


def _record(recording: Any, lab: "Lab", members: "Members", wanted: "Experiment") -> None:  # noqa: ANN401 - a Recording
    from meshobs.collector.recorder import Recorder  # noqa: PLC0415 - grpc
    from meshobs.lab.runner import SETTLE_SECONDS, Runner  # noqa: PLC0415
    from meshobs.lab.truth import truth  # noqa: PLC0415

    excluded = members.own_traffic(lambda text: say(f"meshobs: {text}"))
    apis = {name: cluster for name, (cluster, _) in members.clusters.items()}
    recorder = Recorder(members.relays, apis, excluded, recording.flow, recording.event)
    _connected(members, len(lab.mesh.nodes))
    recorder.start()
    pause = threading.Event()
    # The first state must have been watched for a while before anything happens.
    pause.wait(SETTLE_SECONDS)
    runs = list(Runner(lab, lambda text: say(f"meshobs: {text}")).run(wanted))
    status = lab.status()
    # Agents hand on what they saw a little later.
    pause.wait(SETTLE_SECONDS)
    recorder.end()
    told = {name: _about(relay) for name, relay in members.relays.items()}
    recording.close(recorder.objects(), told, truth(recording.folder.name, lab.mesh, status, runs))


def _connected(members: "Members", expected: int) -> None:
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


def _about(relay: "Relay") -> Mapping[str, Any]:
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


def _plain(mesh: "Mesh") -> "Experiment":
    """Return the experiment that changes nothing."""
    from meshobs.lab.experiment import Experiment, Phase  # noqa: PLC0415 - only here
    from meshobs.lab.traffic import Traffic  # noqa: PLC0415

    callers = {cluster for one in mesh.workloads if not one.port for cluster in one.clusters}
    traffic = [
        Traffic(cluster, f"svc/{one.namespace}/{one.name}", one.protocol)
        for one in mesh.services
        for cluster in one.clusters
        if cluster in callers
    ]
    phase = Phase("as described", "", tuple(traffic), "affinity", {"affinity": "ok", "nat": "ok"})
    return Experiment("as described", "What does the mesh do as it was described?", "", (phase,))

"""The ground truth of a recording, as truth.json has it: what was done, what each client and server saw. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from meshobs.lab.experiments.runner import PhaseRun
from meshobs.lab.faults import find_fault
from meshobs.lab.mesh.model import Mesh
from meshobs.lab.traffic import Request
from meshobs.times import rfc3339
from meshobs.verdict import Verdict


def truth(name: str, mesh: Mesh, status: Mapping[str, Any], runs: Sequence[PhaseRun]) -> dict[str, object]:
    """Return the truth of what happened in some phases.

    Args:
        name: of the recording.
        mesh: where.
        status: what the lab says of its services and pods.
        runs: the phases, at least one.
    """
    requests = [one for run in runs for one in run.requests]
    # Several phases have several settings: what a report says of all of them together is nobody's promise.
    verdicts = {report: verdict.value for report, verdict in runs[0].phase.expect.items()} if len(runs) == 1 else {}
    return {
        "scenario": name,
        "cilium_version": _common(one.cilium for one in mesh.clusters),
        "monitor_aggregation": _common(one.aggregation for one in mesh.clusters),
        "start": rfc3339(min(run.started for run in runs)),
        "end": rfc3339(max(run.ended for run in runs)),
        "client": _distinct([_client(one) for one in requests]),
        "target": _distinct([one.target for one in requests]),
        "summary": _summary(requests),
        "events": _events(runs),
        "pods": [
            {"cluster": one["cluster"], "name": one["name"], "node": one["node"], "ip": one["address"]}
            for one in status["pods"]
        ],
        "nodes": {
            node.name: {"cluster": node.cluster, "ip": node.address, "cidr": node.pod_cidr} for node in mesh.nodes
        },
        "services": [
            {"cluster": one["cluster"], "namespace": one["namespace"], "name": one["name"], "ip": one["address"],
             "port": each["port"], "protocol": each["protocol"], "node_port": each["node_port"] or None}
            for one in status["services"]
            for each in one["ports"]
        ],
        "verdicts": verdicts,
        "lossy": any(
            find_fault(fault.partition(" ")[0]).turns.get("coverage") is Verdict.INSUFFICIENT
            for run in runs
            for fault in run.phase.faults
        ),
        "requests": [_request(one) for one in requests],
    }  # fmt: skip


def _request(one: Request) -> dict[str, object]:
    fields: dict[str, object] = {
        "t": rfc3339(one.time),
        "t_end": rfc3339(one.ended),
        "client": _client(one),
        "client_ip": one.client_address,
        "client_port": one.client_port,
        "target": one.target,
        "protocol": one.protocol,
    }
    if one.answered_pod:
        fields["answered_by"] = {
            "pod": one.answered_pod,
            "ip": one.answered_address,
            "cluster": one.answered_cluster,
            "node": one.answered_node,
        }
        fields["server_saw"] = one.server_saw
    if one.error:
        fields["error"] = one.error
    if one.reused:
        fields["reused"] = True
    return fields


def _client(one: Request) -> str:
    """Return a client as other recordings name it: a cluster comes first, `external` outside the mesh."""
    if not one.client_cluster:
        return f"external/{one.client_address}"
    if one.client.startswith("host/"):
        return f"{one.client_cluster}/{one.client}"
    return one.client


def _summary(requests: Sequence[Request]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for one in requests:
        answer = f"{one.answered_cluster}/{one.answered_pod}" if one.answered_pod else f"error {one.error}"
        found.setdefault(f"{_client(one)} -> {one.target}", Counter())[answer] += 1
    return {way: dict(answers) for way, answers in found.items()}


def _events(runs: Sequence[PhaseRun]) -> list[dict[str, str]]:
    found = []
    for run in runs:
        phase = run.phase
        settings = [*_changes(phase.set, phase.scale), *(f"fault {fault}" for fault in phase.faults)]
        found.append((run.started, f"{phase.name} begins: {', '.join(settings) or 'as described'}"))
        for moment, change in zip(run.changed, phase.during, strict=False):
            parts = _changes(change.set or {}, change.scale)
            found.append((moment, f"{phase.name}: {', '.join(parts) or 'as described'} from here on"))
        found.append((run.ended, f"{phase.name} ends"))
    return [{"t": rfc3339(moment), "event": text} for moment, text in sorted(found)]


def _changes(settings: Mapping[str, Mapping[str, str]], scale: Mapping[str, int]) -> list[str]:
    found = [f"{service} {key}={value}" for service, keys in settings.items() for key, value in keys.items()]
    return [*found, *(f"{workload} has {count} pods" for workload, count in scale.items())]


def _common(values: Any) -> str:  # noqa: ANN401 - any iterable of texts
    return ", ".join(dict.fromkeys(values))


def _distinct(values: Sequence[str]) -> str | list[str]:
    found = list(dict.fromkeys(values))
    return found[0] if len(found) == 1 else found

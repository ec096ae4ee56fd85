"""Faults of a lab on kind: made on the nodes, where containers can be entered, and by the cluster's own settings.

What is on stands in a file, for each command is a process of its own. What undoes a fault is noted before it is made:
what breaks off half-way, whatever ends it, is undone by `off`, and by the next `on`.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from meshobs.errors import InputError, MeshobsError
from meshobs.lab import faults
from meshobs.lab.clusters import manifests
from meshobs.lab.clusters.kubectl import Kubectl
from meshobs.lab.kind.commands import Tools
from meshobs.lab.mesh.model import Mesh, Node

_SYSTEM = ("-n", "kube-system")
_AGENTS = ("-l", "k8s-app=cilium")
_FILE = "faults.json"
_SECONDS = 60.0
_READY_SECONDS = 300.0
_API = "6443"
_OBSERVER = "4244"

# What must be known to undo a fault at one place, as JSON keeps it.
Note = Any


@dataclass(frozen=True)
class _KindFault:
    """How a fault is made and undone at one place; undoing it twice does no harm.

    Attributes:
        make: makes it there.
        undo: undoes it, with what `look` found.
        look: finds what undoes it; before it is made.
    """

    make: Callable[[str, Note], None]
    undo: Callable[[str, Note], None]
    look: Callable[[str], Note] = lambda _place: None


@dataclass
class _Record:
    """What was done for a fault.

    Attributes:
        made: all of it; else an attempt broke off.
        notes: place -> what undoes it there.
    """

    made: bool = False
    notes: dict[str, Note] = field(default_factory=dict)


class KindFaults:
    """The faults of one lab.

    Args:
        mesh: whose.
        tools: runs programs.
        clusters: their kubectl.
        folder: for the record of what is on.
    """

    def __init__(self, mesh: Mesh, tools: Tools, clusters: Mapping[str, Kubectl], folder: Path) -> None:
        self._mesh = mesh
        self._tools = tools
        self._clusters = clusters
        self._path = folder / _FILE
        self._faults: Mapping[str, _KindFault] = {
            "masquerade": _KindFault(self._mask, self._unmask, self._spared_cidrs),
            "stale-backends": _KindFault(self._silence, self._hear, self._connections),
            "event-loss": self._make_setting("hubble-event-queue-size", str(faults.SMALL_QUEUE)),
            "ring-loss": self._make_setting("hubble-event-buffer-capacity", str(faults.SMALL_RING)),
            "agent-down": _KindFault(self._send_away, self._let_back, self._daemon_set),
            "relay-down": _KindFault(partial(self._scale_relay, 0), partial(self._scale_relay, 1)),
            "blind": _KindFault(partial(self._refuse, _OBSERVER), partial(self._admit, _OBSERVER)),
            "policy": _KindFault(self._apply_policy, self._delete_policy),
            "kube-down": _KindFault(self._refuse_api, self._admit_api),
        }

    @property
    def names(self) -> frozenset[str]:
        """Return the faults that can be made."""
        return frozenset(self._faults)

    @property
    def on(self) -> list[str]:
        """Return the faults that are on, as NAME or NAME SCOPE, and those of which an attempt has left something."""
        return [key if one.made else f"{key} (half made)" for key, one in self._records().items()]

    @property
    def without_api(self) -> set[str]:
        """Return the clusters whose API server a fault keeps away."""
        records = self._records().items()
        return {cluster for key, one in records if key.split()[0] == "kube-down" for cluster in one.notes}

    def turn(self, name: str, scope: str, *, on: bool) -> None:
        """Turn a fault on or off; twice the same changes nothing.

        Raises:
            InputError: there is no such fault or scope, or this driver cannot make it.
            MeshobsError: a command fails; what was made of the fault is undone.
        """
        fault = faults.find_fault(name)
        if name not in self._faults:
            raise InputError(f"the driver kind cannot make {name}: its nodes share this machine's clock")
        key = f"{name} {scope}".strip()
        before = self._records().get(key)
        if before and not (on and before.made):
            self._undo(key, name)
        if not on or (before and before.made):
            return
        places = faults.scopes(fault, scope, self._mesh)
        try:
            for place in places:
                self._make(key, name, place)
        except BaseException as error:
            self._give_up(key, name, error)
            raise
        self._keep(key, _Record(made=True, notes=self._records()[key].notes))

    def _make(self, key: str, name: str, place: str) -> None:
        fault = self._faults[name]
        note = fault.look(place)
        record = self._records().get(key, _Record())
        self._keep(key, _Record(notes={**record.notes, place: note}))
        fault.make(place, note)

    def _undo(self, key: str, name: str) -> None:
        record = self._records()[key]
        for place, note in reversed(record.notes.items()):
            self._faults[name].undo(place, note)
        self._keep(key, None)

    def _give_up(self, key: str, name: str, error: BaseException) -> None:
        """Undo what was made of a fault."""
        try:
            if key in self._records():
                self._undo(key, name)
        except MeshobsError as left:
            raise MeshobsError(
                f"{error}; what was made of it could not be undone ({left}): meshobs lab fault {name} off"
            ) from error

    # ---- what each fault does

    def _spared_cidrs(self, cluster: str) -> Note:
        return self._masquerade_config(cluster).get("nonMasqueradeCIDRs")

    def _mask(self, cluster: str, _note: Note) -> None:
        self._spare(cluster, [self._mesh.cluster(cluster).pod_cidr], on=True)

    def _unmask(self, cluster: str, note: Note) -> None:
        self._spare(cluster, note or list(self._mesh.cluster(cluster).non_masquerade_cidrs), on=False)

    def _spare(self, cluster: str, cidrs: list[str], *, on: bool) -> None:
        kube, described = self._clusters[cluster], self._mesh.cluster(cluster)
        config = manifests.text([{**self._masquerade_config(cluster), "nonMasqueradeCIDRs": cidrs}])
        self._patch(cluster, "configmap", "ip-masq-agent", {"data": {"config": config}})
        # A changed ConfigMap reaches a pod's files when its kubelet looks at the pod, at once if the pod is changed.
        touched = f"meshobs.io/touched={time.time_ns()}"
        kube.run("annotate", *_SYSTEM, "pods", *_AGENTS, "--overwrite", touched)
        missing = set(described.non_masquerade_cidrs) - {described.pod_cidr}
        for pod in self._agents(cluster):
            _until(partial(self._follows, kube, pod, missing, on=on), f"{cluster}'s agents follow ip-masq-agent")

    def _masquerade_config(self, cluster: str) -> dict[str, Any]:
        return dict(manifests.parse(self._object(cluster, "configmap", "ip-masq-agent")["data"]["config"]))

    def _follows(self, kube: Kubectl, pod: str, cidrs: set[str], *, on: bool) -> bool:
        listed = kube.run("exec", *_SYSTEM, pod, "-c", "cilium-agent", "--", "cilium-dbg", "bpf", "ipmasq", "list")
        there = [cidr in listed for cidr in cidrs]
        return not any(there) if on else all(there)

    def _connections(self, cluster: str) -> Note:
        """Return the ports from which each node's agent speaks with the API server."""
        found: dict[str, list[str]] = {}
        for node in self._mesh.cluster(cluster).nodes:
            listed = self._inside(node.name, "ss", "-tnpH", "state", "established", f"( dport = :{_API} )")
            # "0 0 172.18.0.3:41234 172.18.0.3:6443 users:(("cilium-agent",pid=9,fd=7))"
            found[node.name] = re.findall(r':(\d+)\s+\S+\s+users:\(\("cilium-agent"', listed)
        if not any(found.values()):
            raise MeshobsError(
                f"no agent of {cluster} has a connection to its API server: `ss -tnp` on its nodes shows which"
            )
        return found

    def _silence(self, _cluster: str, note: Note) -> None:
        """Silence the agents' connections to the API server: they hear of no change and do not know it.

        A client of Kubernetes looks after 30 s whether its connection lives, and dials anew after 45 s.
        """
        for node, ports in note.items():
            for port in ports:
                self._drop(node, port, add=True)

    def _hear(self, _cluster: str, note: Note) -> None:
        for node, ports in note.items():
            for port in ports:
                self._drop(node, port, add=False)
                # Its next word is far away; a new connection lists anew at once.
                self._inside(node, "ss", "-K", "state", "established", f"( sport = :{port} )", may_fail=True)

    def _drop(self, node: str, port: str, *, add: bool) -> None:
        for chain, side in (("OUTPUT", "--sport"), ("INPUT", "--dport")):
            words = ("iptables", "-w", "-I" if add else "-D", chain, "-p", "tcp", side, port, "-j", "DROP")
            self._inside(node, *words, may_fail=not add)

    def _make_setting(self, key: str, value: str) -> _KindFault:
        """Give one node's agent another setting: it reads them when it starts."""
        return _KindFault(
            look=lambda node: self._object(self._node(node).cluster, "configmap", "cilium-config")["data"].get(key),
            make=lambda node, _note: self._restart_with(node, key, value),
            # None removes a key that was not there before.
            undo=lambda node, note: self._restart_with(node, key, note),
        )

    def _restart_with(self, node: str, key: str, value: str | None) -> None:
        found = self._node(node)
        self._patch(found.cluster, "configmap", "cilium-config", {"data": {key: value}})
        where = (*_AGENTS, "--field-selector", f"spec.nodeName={found.name}")
        self._clusters[found.cluster].run(
            "delete", *_SYSTEM, "pod", *where, "--wait=true", "--ignore-not-found", seconds=_READY_SECONDS
        )
        self._agent_ready(found)

    def _daemon_set(self, node: str) -> Note:
        """Return what of the agents' DaemonSet is changed to keep one away, as it is without that."""
        cluster = self._node(node).cluster
        if known := self._away(cluster):
            return next(iter(known.values()))
        spec = self._object(cluster, "daemonset", "cilium")["spec"]
        return {"updateStrategy": spec.get("updateStrategy"), "affinity": spec["template"]["spec"].get("affinity")}

    def _send_away(self, node: str, note: Note) -> None:
        """Let the DaemonSet have no agent on a node; the kubelet stays, for `exec` and port-forwards need it."""
        found = self._node(node)
        self._place_agents(found.cluster, note)
        _until(lambda: not self._agents(found.cluster, found.name), f"the agent of {found.name} is gone")

    def _let_back(self, node: str, note: Note) -> None:
        found = self._node(node)
        self._place_agents(found.cluster, note, back=node)
        self._agent_ready(found)

    def _place_agents(self, cluster: str, note: Note, back: str = "") -> None:
        """Keep agents off the nodes on which they are down, and no other.

        While the template differs no agent is replaced; the one that comes back is that which the others were made of.
        """
        away = [self._node(one).name for one in self._away(cluster) if one != back]
        affinity, strategy = note["affinity"], note["updateStrategy"]
        if away:
            rule = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": away}
            terms = {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}
            affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
            strategy = {"type": "OnDelete", "rollingUpdate": None}
        elif affinity is not None:
            affinity = {"nodeAffinity": None, **affinity}
        spec = {"updateStrategy": strategy, "template": {"spec": {"affinity": affinity}}}
        self._patch(cluster, "daemonset", "cilium", {"spec": spec})

    def _away(self, cluster: str) -> dict[str, Note]:
        """Return the nodes of a cluster whose agent is down, with what undoes that."""
        return {
            place: note
            for key, one in self._records().items() if key.split()[0] == "agent-down"
            for place, note in one.notes.items() if self._node(place).cluster == cluster
        }  # fmt: skip

    def _scale_relay(self, replicas: int, cluster: str, _note: Note) -> None:
        self._clusters[cluster].scale("kube-system", "hubble-relay", replicas)

    def _refuse_api(self, cluster: str, note: Note) -> None:
        """Refuse what comes over the network: what runs beside the API server still reaches it."""
        self._refuse(_API, self._control_plane(cluster), note)

    def _admit_api(self, cluster: str, note: Note) -> None:
        self._admit(_API, self._control_plane(cluster), note)

    def _control_plane(self, cluster: str) -> str:
        return next(one.full for one in self._mesh.cluster(cluster).nodes if one.control_plane)

    def _refuse(self, port: str, node: str, _note: Note) -> None:
        self._inside(self._node(node).name, "iptables", "-w", "-I", "INPUT", *_reject_rule(port))

    def _admit(self, port: str, node: str, _note: Note) -> None:
        self._inside(self._node(node).name, "iptables", "-w", "-D", "INPUT", *_reject_rule(port), may_fail=True)

    def _apply_policy(self, _place: str, _note: Note) -> None:
        self._clusters[self._mesh.clusters[-1].name].apply([faults.refusal(self._mesh.clusters[0].name)])

    def _delete_policy(self, _place: str, _note: Note) -> None:
        self._clusters[self._mesh.clusters[-1].name].delete([faults.refusal(self._mesh.clusters[0].name)])

    # ---- what they are made with

    def _object(self, cluster: str, kind: str, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads(self._clusters[cluster].run("get", *_SYSTEM, kind, name, "-o", "json"))
        return found

    def _patch(self, cluster: str, kind: str, name: str, patch: Mapping[str, Any]) -> None:
        self._clusters[cluster].run("patch", *_SYSTEM, kind, name, "--type=merge", "-p", json.dumps(patch))

    def _agents(self, cluster: str, node: str = "") -> list[str]:
        where = ("--field-selector", f"spec.nodeName={node}") if node else ()
        return self._clusters[cluster].run("get", *_SYSTEM, "pods", *_AGENTS, *where, "-o", "name").split()

    def _agent_ready(self, node: Node) -> None:
        """Wait until a node's agent is there, and serves."""
        _until(lambda: bool(self._agents(node.cluster, node.name)), f"an agent is made for {node.name}")
        where = (*_AGENTS, "--field-selector", f"spec.nodeName={node.name}")
        limit = f"--timeout={_READY_SECONDS:g}s"
        self._clusters[node.cluster].run(
            "wait", *_SYSTEM, "pod", *where, "--for=condition=Ready", limit, seconds=_READY_SECONDS + 10
        )

    def _node(self, name: str) -> Node:
        return next(one for one in self._mesh.nodes if name in (one.name, one.full))

    def _inside(self, node: str, *words: str, may_fail: bool = False) -> str:
        """Run a command in a node."""
        command = (self._tools.options.engine, "exec", node, *words)
        if may_fail:
            return self._tools.run(command, _SECONDS).out
        return self._tools.must(command, _SECONDS)

    def _records(self) -> dict[str, _Record]:
        if not self._path.exists():
            return {}
        return {key: _Record(**one) for key, one in json.loads(self._path.read_text(encoding="utf-8")).items()}

    def _keep(self, key: str, record: _Record | None) -> None:
        """Write down what was done for a fault; None: nothing is left of it."""
        records = {other: asdict(one) for other, one in self._records().items() if other != key}
        if record:
            records[key] = asdict(record)
        half = self._path.with_suffix(".new")
        half.write_text(json.dumps(records, indent=1), encoding="utf-8")
        half.replace(self._path)


def _reject_rule(port: str) -> tuple[str, ...]:
    return ("-p", "tcp", "--dport", port, "!", "-i", "lo", "-j", "REJECT", "--reject-with", "tcp-reset")


def _until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not true():
        if time.monotonic() > deadline:
            raise MeshobsError(f"within 2 minutes it did not come to this: {what}")
        time.sleep(1)

"""Faults of a lab on kind: made on the nodes, where containers can be entered, and by the cluster's own settings.

What is on stands in a file, for each command is a process of its own.
"""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from meshobs.errors import InputError, MeshobsError
from meshobs.lab import faults
from meshobs.lab.clusters import manifests
from meshobs.lab.clusters.kubectl import Kubectl
from meshobs.lab.kind.commands import Tools
from meshobs.lab.mesh.model import Mesh, Node

_SYSTEM = ("-n", "kube-system")
_FILE = "faults.json"
_SECONDS = 60.0
_READY_SECONDS = 300.0
_API = "6443"
_OBSERVER = "4244"


class _Switch(Protocol):
    """Turns a fault on or off at one place.

    It takes what it noted when it was turned on, and returns what it must know to undo that.
    """

    def __call__(self, place: str, noted: Any, /, *, on: bool) -> Any:  # noqa: ANN401 - JSON
        """Switch it."""
        ...


class Faults:
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
        self._switches: Mapping[str, _Switch] = {
            "masquerade": self._masquerade,
            "stale-backends": self._stale,
            "event-loss": lambda node, noted, on: self._setting(
                node, "hubble-event-queue-size", str(faults.SMALL_QUEUE), noted, on=on
            ),
            "ring-loss": partial(self._setting, "hubble-event-buffer-capacity", str(faults.SMALL_RING)),
            "agent-down": self._agent_down,
            "relay-down": self._relay_down,
            "blind": self._blind,
            "policy": self._policy,
            "kube-down": self._kube_down,
        }

    @property
    def on(self) -> list[str]:
        """Return the faults that are on, as NAME or NAME SCOPE."""
        return list(self._noted())

    def switch(self, name: str, scope: str, *, on: bool) -> None:
        """Turn a fault on or off; twice the same changes nothing.

        Raises:
            InputError: there is no such fault or scope, or this driver cannot make it.
            MeshobsError: a command fails.
        """
        fault = faults.find_fault(name)
        if name not in self._switches:
            raise InputError(f"the driver kind cannot make {name}: its nodes share this machine's clock")
        key = f"{name} {scope}".strip()
        noted = self._noted()
        if on == (key in noted):
            return
        places = faults.scopes(fault, scope, self._mesh)
        if on:
            # Before it is made: what breaks off half-way can be undone.
            self._note({**noted, key: [None] * len(places)})
            self._note({**noted, key: [self._switches[name](place, None, on=True) for place in places]})
            return
        for place, known in zip(places, noted[key], strict=True):
            self._switches[name](place, known, on=False)
        self._note({other: value for other, value in noted.items() if other != key})

    def _masquerade(self, cluster: str, noted: Any, *, on: bool) -> Any:  # noqa: ANN401 - JSON
        kube = self._clusters[cluster]
        told = json.loads(kube.run("get", *_SYSTEM, "configmap", "ip-masq-agent", "-o", "json"))["data"]["config"]
        config = manifests.parse(told)
        own = [self._mesh.cluster(cluster).pod_cidr]
        wanted = own if on else noted or list(self._mesh.cluster(cluster).non_masquerade_cidrs)
        patch = {"data": {"config": manifests.text([{**config, "nonMasqueradeCIDRs": wanted}])}}
        kube.run("patch", *_SYSTEM, "configmap", "ip-masq-agent", "--type=merge", "-p", json.dumps(patch))
        # A changed ConfigMap reaches a pod's files when its kubelet looks at the pod, at once if the pod is changed.
        touched = f"meshobs.io/touched={time.time_ns()}"
        kube.run("annotate", *_SYSTEM, "pods", "-l", "k8s-app=cilium", "--overwrite", touched)
        missing = set(self._mesh.cluster(cluster).non_masquerade_cidrs) - set(own)
        for pod in self._agents(cluster):
            _until(partial(self._spared, kube, pod, missing, on=on), f"{cluster}'s agents follow ip-masq-agent")
        return config.get("nonMasqueradeCIDRs", [])

    def _spared(self, kube: Kubectl, pod: str, cidrs: set[str], *, on: bool) -> bool:
        listed = kube.run("exec", *_SYSTEM, pod, "-c", "cilium-agent", "--", "cilium-dbg", "bpf", "ipmasq", "list")
        there = [cidr in listed for cidr in cidrs]
        return not any(there) if on else all(there)

    def _stale(self, cluster: str, noted: Any, *, on: bool) -> Any:  # noqa: ANN401 - JSON
        """Silence the agents' connections to the API server: they hear of no change and do not know it.

        A client of Kubernetes looks after 30 s whether its connection lives, and dials anew after 45 s.
        """
        if not on:
            for node, ports in (noted or {}).items():
                for port in ports:
                    self._drop(node, port, add=False)
                    # Its next word is far away; a new connection lists anew at once.
                    self._inside(node, "ss", "-K", "state", "established", f"( sport = :{port} )", may_fail=True)
            return None
        found: dict[str, list[str]] = {}
        for node in self._mesh.cluster(cluster).nodes:
            told = self._inside(node.name, "ss", "-tnpH", "state", "established", f"( dport = :{_API} )")
            # "0 0 172.18.0.3:41234 172.18.0.3:6443 users:(("cilium-agent",pid=9,fd=7))"
            found[node.name] = re.findall(r':(\d+)\s+\S+\s+users:\(\("cilium-agent"', told)
            for port in found[node.name]:
                self._drop(node.name, port, add=True)
        if not any(found.values()):
            raise MeshobsError(
                f"no agent of {cluster} has a connection to its API server: `ss -tnp` on its nodes shows which"
            )
        return found

    def _drop(self, node: str, port: str, *, add: bool) -> None:
        for chain, side in (("OUTPUT", "--sport"), ("INPUT", "--dport")):
            words = ("iptables", "-w", "-I" if add else "-D", chain, "-p", "tcp", side, port, "-j", "DROP")
            self._inside(node, *words, may_fail=not add)

    def _setting(self, key: str, value: str, node: str, noted: Any, *, on: bool) -> Any:  # noqa: ANN401 - JSON
        """Give one node's agent another setting: it reads them when it starts."""
        found = self._node(node)
        kube = self._clusters[found.cluster]
        config = json.loads(kube.run("get", *_SYSTEM, "configmap", "cilium-config", "-o", "json"))["data"]
        # null removes a key that was not there before.
        wanted = value if on else (noted or {}).get("value")
        patch = json.dumps({"data": {key: wanted}})
        kube.run("patch", *_SYSTEM, "configmap", "cilium-config", "--type=merge", "-p", patch)
        where = ("-l", "k8s-app=cilium", "--field-selector", f"spec.nodeName={found.name}")
        kube.run("delete", *_SYSTEM, "pod", *where, "--wait=true", seconds=_READY_SECONDS)
        self._agents_ready(found.cluster)
        return {"value": config.get(key)}

    def _agent_down(self, node: str, _noted: Any, *, on: bool) -> None:  # noqa: ANN401 - JSON
        """Without its kubelet an agent that is killed stays away."""
        found = self._node(node)
        if on:
            self._inside(found.name, "systemctl", "stop", "kubelet")
            self._inside(found.name, "pkill", "-KILL", "-x", "cilium-agent", may_fail=True)
            return
        self._inside(found.name, "systemctl", "start", "kubelet")
        self._agents_ready(found.cluster)

    def _relay_down(self, cluster: str, _noted: Any, *, on: bool) -> None:  # noqa: ANN401 - JSON
        self._clusters[cluster].scale("kube-system", "hubble-relay", 0 if on else 1)

    def _kube_down(self, cluster: str, _noted: Any, *, on: bool) -> None:  # noqa: ANN401 - JSON
        """Refuse what comes over the network: what runs beside the API server still reaches it."""
        node = next(one for one in self._mesh.cluster(cluster).nodes if one.control_plane)
        self._refused(node.full, _API, on=on)

    def _blind(self, node: str, _noted: Any, *, on: bool) -> None:  # noqa: ANN401 - JSON
        self._refused(node, _OBSERVER, on=on)

    def _refused(self, node: str, port: str, *, on: bool) -> None:
        reject = ("-p", "tcp", "--dport", port, "!", "-i", "lo", "-j", "REJECT", "--reject-with", "tcp-reset")
        self._inside(self._node(node).name, "iptables", "-w", "-I" if on else "-D", "INPUT", *reject, may_fail=not on)

    def _policy(self, _scope: str, _noted: Any, *, on: bool) -> None:  # noqa: ANN401 - JSON
        first, last = self._mesh.clusters[0].name, self._mesh.clusters[-1].name
        policy = faults.refusal(first)
        if on:
            self._clusters[last].apply([policy])
        else:
            self._clusters[last].delete([policy])

    def _agents(self, cluster: str) -> list[str]:
        told = self._clusters[cluster].run("get", *_SYSTEM, "pods", "-l", "k8s-app=cilium", "-o", "name")
        return told.split()

    def _agents_ready(self, cluster: str) -> None:
        """Wait until all agents serve; a pod that was just killed may still look ready."""
        limit = f"--timeout={_READY_SECONDS:g}s"
        time.sleep(2)
        self._clusters[cluster].run(
            "rollout", *_SYSTEM, "status", "daemonset/cilium", limit, seconds=_READY_SECONDS + 10
        )

    def _node(self, name: str) -> Node:
        return next(one for one in self._mesh.nodes if name in (one.name, one.full))

    def _inside(self, node: str, *words: str, may_fail: bool = False) -> str:
        """Run a command in a node."""
        command = (self._tools.options.engine, "exec", node, *words)
        if may_fail:
            return self._tools.run(command, _SECONDS).out
        return self._tools.must(command, _SECONDS)

    def _noted(self) -> dict[str, Any]:
        return dict(json.loads(self._path.read_text(encoding="utf-8"))) if self._path.exists() else {}

    def _note(self, noted: Mapping[str, Sequence[Any]]) -> None:
        self._path.write_text(json.dumps(noted, indent=1), encoding="utf-8")


def _until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not true():
        if time.monotonic() > deadline:
            raise MeshobsError(f"within 2 minutes it did not come to this: {what}")
        time.sleep(1)

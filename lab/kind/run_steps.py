"""Carries out the steps of `steps` that are more than a command: what they wait for, compare and prove."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from meshobs.errors import InputError, MeshobsError
from meshobs.lab.driver import LabState
from meshobs.lab.kind.commands import KUBECONFIG, CommandError, Tools
from meshobs.lab.kind.configs import context
from meshobs.lab.kind.lab import KindLab, routes_now
from meshobs.lab.kind.progress import Build
from meshobs.lab.kind.steps import CA, Action
from meshobs.lab.mesh.model import Mesh
from meshobs.lab.traffic import Traffic

# How many nodes a Relay is connected with, and how many it cannot reach; of a kubeconfig's context.
RelayNodes = Callable[[Path, str], tuple[int, int]]
_PAUSE = 3.0
_PROOF_CALLS = 4
# Failures that waiting does not mend.
_LASTING = ("does not exist", "was not found", "is not installed", "command not found")
# What of a Secret is its own and not the copy's.
_OWN = ("resourceVersion", "uid", "creationTimestamp", "managedFields", "ownerReferences")


class Execution:
    """Carries out single actions.

    Args:
        mesh: that is built.
        tools: run programs.
        record: of what is made.
        relay_nodes: asks a Relay.
        found: the lab as it is so far.
    """

    def __init__(self, mesh: Mesh, tools: Tools, record: Build, relay_nodes: RelayNodes, found: LabState) -> None:
        self._mesh = mesh
        self._tools = tools
        self._record = record
        self._relay_nodes = relay_nodes
        self._found = found
        self._how: Mapping[str, Callable[[Action], None]] = {
            "run": self._run,
            "create": self._create,
            "wait": self._wait,
            "share-ca": self._share_ca,
            "routes": self._routes,
            "relay": self._relay,
            "proof": self._proof,
        }

    def carry_out(self, action: Action) -> None:
        """Carry an action out.

        Raises:
            MeshobsError: it does not succeed in its time.
        """
        for name, text in action.files:
            (self._tools.folder / name).write_text(text, encoding="utf-8")
        self._how[action.how](action)

    def clear(self, action: Action) -> None:
        """Clear away what an attempt at it has left."""
        if action.how == "create" and not set(action.clusters) <= set(self._record.made):
            return
        for command in action.undo:
            self._tools.run(command, action.seconds)

    def _run(self, action: Action) -> None:
        for command in action.commands:
            self._tools.must(command, action.seconds)

    def _create(self, action: Action) -> None:
        (name,) = action.clusters
        if (
            name not in self._record.made
            and name in self._tools.must(("kind", "get", "clusters"), action.seconds).split()
        ):
            raise InputError(
                f"a kind cluster {name} exists that this lab did not make:"
                f" kind delete cluster --name {name}, or call yours otherwise"
            )
        self._record.make(name)
        self._run(action)

    def _wait(self, action: Action) -> None:
        """Run a command that waits until it succeeds: it gives up early when an agent only begins anew (trap T4)."""
        deadline = time.monotonic() + action.seconds
        (command,) = action.commands
        while True:
            left = deadline - time.monotonic()
            done = self._tools.run(command, max(left, 1) + 30)
            if not done.code:
                return
            lasting = any(word in done.out + done.err for word in _LASTING)
            if lasting or time.monotonic() + _PAUSE > deadline:
                raise CommandError(command, done)
            time.sleep(_PAUSE)

    def _share_ca(self, action: Action) -> None:
        """Give the second cluster the first one's CA, and look whether it has it: connecting does not (trap T7)."""
        get, delete, create = action.commands
        other_get = tuple(context(action.clusters[1]) if word == context(action.clusters[0]) else word for word in get)
        ours = _secret(self._tools.must(get, action.seconds, secret=True))
        if _data(ours) == _data(_secret(self._tools.run(other_get, action.seconds, secret=True).out)):
            return
        meta = {key: value for key, value in ours["metadata"].items() if key not in _OWN}
        self._tools.must(delete, action.seconds)
        self._tools.must(create, action.seconds, json.dumps({**ours, "metadata": meta}))
        if _data(ours) != _data(_secret(self._tools.must(other_get, action.seconds, secret=True))):
            raise MeshobsError(
                f"Secret {CA} of {action.clusters[1]} is not that of {action.clusters[0]}: who writes it?"
            )

    def _routes(self, action: Action) -> None:
        path = self._tools.folder / f"{action.key.replace(' ', '-')}.json"
        path.write_text(json.dumps(routes_now(self._tools, self._mesh), indent=1), encoding="utf-8")

    def _relay(self, action: Action) -> None:
        """Wait for the Relay itself: it comes back later than the agents (trap T3)."""
        (name,) = action.clusters
        deadline = time.monotonic() + action.seconds
        while True:
            try:
                connected, away = self._relay_nodes(self._tools.folder / KUBECONFIG, context(name))
                problem = f"it serves {connected} of {len(self._mesh.nodes)} nodes, {away} it cannot reach"
                if connected >= len(self._mesh.nodes) and not away:
                    return
            except MeshobsError as error:
                problem = str(error)
            if time.monotonic() > deadline:
                raise MeshobsError(f"the Relay of {name} is not whole: {problem}")
            time.sleep(_PAUSE)

    def _proof(self, action: Action) -> None:
        """Let every cluster's client call pods of every other cluster, until all calls are answered there."""
        lab = KindLab(self._found)
        deadline = time.monotonic() + action.seconds
        wanted = list(plan_crossing(self._mesh))
        while wanted:
            answers = [lab.traffic([traffic]) for _, traffic in wanted]
            left = [
                pair for pair, requests in zip(wanted, answers, strict=True)
                if any(one.error or one.answered_cluster != pair[0] for one in requests) or not requests
            ]  # fmt: skip
            if left and time.monotonic() > deadline:
                heard = {
                    one.error or f"answered by {one.answered_cluster or 'nobody'}" for few in answers for one in few
                }
                raise MeshobsError(
                    f"{left[0][1].client} does not reach {left[0][1].target} ({', '.join(sorted(heard)) or 'no line'}):"
                    " meshobs lab routes shows whether the clusters are joined"
                )
            wanted = left
            if wanted:
                time.sleep(_PAUSE)


def plan_crossing(mesh: Mesh) -> Sequence[tuple[str, Traffic]]:
    """Return for each pair of clusters who calls whom: the cluster that must answer, and the calls."""
    clients = {
        name: f"{name}/{one.namespace}/{one.name}"
        for one in reversed(mesh.workloads) if not one.port
        for name in one.clusters
    }  # fmt: skip
    servers = {name: one.app for one in reversed(mesh.workloads) if one.port for name in one.clusters}
    names = [one.name for one in mesh.clusters]
    return [
        (other, Traffic(clients[name], f"pods/{other}/{servers[other]}", count=_PROOF_CALLS))
        for name in names if name in clients
        for other in names if other != name and other in servers
    ]  # fmt: skip


def _secret(text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except ValueError:
        return {}


def _data(secret: Mapping[str, Any]) -> object:
    return secret.get("data")

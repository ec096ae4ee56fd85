"""The nodes of a mesh on this machine, and their agents."""

import json
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from meshobs.errors import MeshobsError
from meshobs.lab import shell
from meshobs.lab.mesh.model import Cluster, Mesh, Node
from meshobs.lab.netns.cluster import agent_api, objects, programs
from meshobs.lab.netns.cluster.certificates import Issued
from meshobs.lab.netns.host import network
from meshobs.lab.netns.host.layout import (
    LIBRARY,
    MASQUERADE,
    REMOTES,
    RUN,
    TOOLS,
    Layout,
    control_plane,
    namespace,
    state,
)
from meshobs.lab.netns.host.processes import CHANGE_SECONDS, Place, Processes
from meshobs.lab.programs import modules

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Spared by every agent that is told not to masquerade it.
_LINK_LOCAL = {"169.254.0.0/16", "fe80::/10"}


class Nodes:
    """All nodes.

    Args:
        mesh: whose.
        layout: of the lab.
        processes: where agents run.
        issued: certificates by cluster.
    """

    def __init__(self, mesh: Mesh, layout: Layout, processes: Processes, issued: Mapping[str, Issued]) -> None:
        self._mesh = mesh
        self._layout = layout
        self._processes = processes
        self._issued = issued
        self._holders: dict[str, shell.Child] = {}
        self._overrides: dict[str, Mapping[str, str]] = {}

    def make(self, node: Node) -> None:
        """Make a node: its network must be there.

        Raises:
            MeshobsError: the kernel refuses something.
        """
        folder = self._layout.folder / "nodes" / node.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        group = self._layout.group(node)
        (group / "kubepods" / "besteffort").mkdir(parents=True)
        entered = [
            "unshare", "--mount", "--uts", "--cgroup", "--propagation", "slave",
            "sh", "-c", programs.node_script(node, str(folder)),
        ]  # fmt: skip
        place = Place(group, namespace(node))
        log = self._layout.log(node.name)
        log.parent.mkdir(exist_ok=True)
        holder = shell.spawn(place.command(entered), log, {"PATH": _SYSTEM_PATH}, read=True)
        if holder.line() != "ready\n":
            raise MeshobsError(f"the node {node.name} cannot be made: {log.read_text().strip()}")
        self._holders[node.name] = holder

    def place(self, node: Node) -> Place:
        """Return where a node's own programs run."""
        return Place(self._layout.group(node), holder=self._holders[node.name].number)

    def environment(self, cluster: Cluster) -> dict[str, str]:
        """Return variables for a cluster's programs: nothing of them may lie in the user's home."""
        own = f"{modules.cilium(cluster.cilium).folder}:{modules.kubernetes().folder}:{TOOLS}"
        return {"PATH": f"{own}:{_SYSTEM_PATH}", "HOME": str(RUN / "home")}

    def start(self, cluster: Cluster, node: Node) -> None:
        """Start a node's agent for the first time."""
        library = self._library(node)
        shutil.copytree(modules.cilium(cluster.cilium).folder / "bpf", library / "bpf", dirs_exist_ok=True)
        (library / REMOTES.name).mkdir()
        masquerade = library / MASQUERADE.relative_to(LIBRARY)
        masquerade.parent.mkdir()
        _replace(masquerade, programs.masquerade(cluster.native_cidrs))
        self._write_settings(cluster, node)
        # Before others on a busy machine: events that an agent does not read in time are lost.
        command = ["nice", "-n", "-10", "cilium-agent", f"--config-dir={self._layout.settings(node)}"]
        named = {"K8S_NODE_NAME": node.name, "CILIUM_K8S_NAMESPACE": objects.SYSTEM}
        self._processes.start(agent_name(node), self.place(node), command, self.environment(cluster) | named)
        if not cluster.variant.replaces_kube_proxy:
            command = programs.kube_proxy(self._layout, cluster, node)
            self._processes.start(f"{node.name}-kube-proxy", self.place(node), command, self.environment(cluster))

    def _write_settings(self, cluster: Cluster, node: Node) -> None:
        folder = self._layout.settings(node)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        settings = programs.agent(cluster, self._layout, self._issued[cluster.name].hubble)
        for key, value in (settings | dict(self._overrides.get(node.name, {}))).items():
            (folder / key).write_text(value, encoding="utf-8")

    def restart(self, node: Node, overrides: Mapping[str, str]) -> None:
        """Start an agent anew with some other settings than usual, and wait until it works."""
        self._processes.stop(agent_name(node))
        self._overrides[node.name] = overrides
        self._write_settings(self._mesh.cluster(node.cluster), node)
        self.start_again(node)

    def start_again(self, node: Node) -> None:
        """Start an agent that was stopped, and wait until it works."""
        self._processes.start_again(agent_name(node))
        others = len(self._mesh.clusters) - 1
        self._processes.wait(
            lambda: agent_api.is_ready(state(node)) and agent_api.has_joined(state(node), others),
            f"the agent of {node.name}",
            [agent_name(node)],
        )

    def write_masquerade(self, cluster: Cluster, cidrs: Sequence[str]) -> None:
        """Let a cluster's agents spare these ranges only, and wait until their datapath does."""
        for node in cluster.nodes:
            _replace(self._library(node) / MASQUERADE.relative_to(LIBRARY), programs.masquerade(cidrs))
        for node in cluster.nodes:
            done = partial(self._spares, cluster, node, set(cidrs))
            self._processes.wait(done, f"ip-masq-agent of {node.name}", seconds=CHANGE_SECONDS)

    def join(self) -> None:
        """Tell all agents of the other clusters' stores (S5), and wait until they have all that these hold."""
        for cluster in self._mesh.clusters:
            for other in self._mesh.clusters:
                if other == cluster:
                    continue
                text = programs.etcd_client(control_plane(other).address, self._issued[cluster.name].member)
                if cluster.variant.kvstoremesh:
                    _replace(self._layout.remotes(cluster.name) / other.name, text)
                    # The copy is in the own store.
                    text = programs.etcd_client(control_plane(cluster).address, self._issued[cluster.name].member)
                for node in cluster.nodes:
                    _replace(self._library(node) / REMOTES.name / other.name, text)
        others = len(self._mesh.clusters) - 1
        self._processes.wait(
            lambda: all(agent_api.has_joined(state(node), others) for node in self._mesh.nodes), "the mesh", self.agents
        )

    def routes(self) -> Mapping[str, list[str]]:
        """Return each node's routes, by its full name."""
        return {node.full: network.routes(namespace(node)) for node in self._mesh.nodes}

    def has_routes(self) -> bool:
        """Tell whether each node has routes to the other nodes of its cluster."""
        now = self.routes()
        return all(
            any(line.startswith(f"{other.pod_cidr} ") for line in now[node.full])
            for cluster in self._mesh.clusters
            for node in cluster.nodes
            for other in cluster.nodes
            if other != node
        )

    @property
    def agents(self) -> list[str]:
        """Return the names of all agents' programs."""
        return [agent_name(node) for node in self._mesh.nodes]

    def _library(self, node: Node) -> Path:
        return self._layout.folder / "nodes" / node.name / "lib"

    def _spares(self, cluster: Cluster, node: Node, cidrs: set[str]) -> bool:
        """Tell whether a node's datapath spares these ranges and no others."""
        command = self.place(node).command(["cilium-dbg", "bpf", "ipmasq", "list", "-o", "json"])
        done = shell.call(command, CHANGE_SECONDS, environment=self.environment(cluster))
        try:
            return set(json.loads(done.out)) - _LINK_LOCAL == cidrs
        except (ValueError, TypeError):
            return False


def agent_name(node: Node) -> str:
    """Return the name of an agent's program."""
    return f"{node.name}-agent"


def _replace(path: Path, text: str) -> None:
    """Write a file that an agent watches: it must never see half of it."""
    fresh = path.parent / f".{path.name}"
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)

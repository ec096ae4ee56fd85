"""The mesh's parts on this machine, and the order in which they come up (S1-S10)."""

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from meshobs import private
from meshobs.errors import MeshobsError
from meshobs.lab import manifests, programs, shell
from meshobs.lab.cluster_targets import Live, nodes_of, pods_of, services_of
from meshobs.lab.kubectl import Kubectl
from meshobs.lab.mesh import Cluster, Mesh, Node
from meshobs.lab.netns import agent, kernel, network, objects, settings
from meshobs.lab.netns.kube import Api, KubeError
from meshobs.lab.netns.kubelet import SCRIPTS, Kubelet
from meshobs.lab.netns.layout import (
    API_PORT,
    AUTHORITY,
    ETCD_PORT,
    LIBRARY,
    MASQUERADE,
    MESH_PORT,
    NAMESPACES,
    RELAY_PORT,
    REMOTES,
    RUN,
    TOOLS,
    Layout,
    control_plane,
    namespace,
    state,
)
from meshobs.lab.netns.pki import Authority, Pair
from meshobs.lab.netns.processes import Place, Processes

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Seven agents compile their datapath on two busy cores within it.
_SECONDS = 600.0
# A change that agents follow; twice what they may wait before they look again at a server that was away.
_CHANGE_SECONDS = 90.0
_LOOK = 0.1
# Spared by every agent that is told not to masquerade it.
_LINK_LOCAL = {"169.254.0.0/16", "fe80::/10"}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Doors:
    """Ports on loopback that lead inside, by cluster."""

    apis: Mapping[str, int]
    relays: Mapping[str, int]


class Machine:
    """All of a mesh.

    Args:
        mesh: to stand up.
        layout: where its parts are.

    Attributes:
        routes_before: of each node before the mesh was joined.
        client: the certificate for users of APIs and Relays.
    """

    def __init__(self, mesh: Mesh, layout: Layout) -> None:
        self.mesh = mesh
        self.layout = layout
        self.processes = Processes(layout)
        self.apis: dict[str, Api] = {}
        self.kubelets: dict[str, Kubelet] = {}
        self.kubectls: dict[str, Kubectl] = {}
        self.routes_before: Mapping[str, list[str]] = {}
        self.doors = Doors({}, {})
        self._holders: dict[str, shell.Child] = {}
        self._authority = Authority(layout.pki)
        self.client = self._authority.issue("user", "meshobs", organization="system:masters")
        self._issued: dict[str, Pair] = {}
        self._overrides: dict[str, Mapping[str, str]] = {}
        self._last: dict[str, Live] = {}

    def up(self, say: Say) -> None:
        """Stand everything up.

        Args:
            say: told of each step that is done.

        Raises:
            MeshobsError: a program ended, or does not become what it should.
        """
        step = _Steps(say)
        self._prepare()
        network.make(self.mesh)
        for node in self.mesh.nodes:
            self._make_node(node)
        step(f"{len(self.mesh.nodes)} nodes on a network of their own")
        for cluster in self.mesh.clusters:
            self._start_api(cluster)
        self._open_doors()
        self._each(self._fill_api)
        step("etcd, API servers and controllers")
        for cluster in self.mesh.clusters:
            for node in cluster.nodes:
                self._start_agent(cluster, node)
        self._await(lambda: all(agent.ready(state(node)) for node in self.mesh.nodes), "agents", self._agents())
        for cluster in self.mesh.clusters:
            self._start_relay(cluster)
            self.kubelets[cluster.name].start()
        step("agents with their datapath, Relays")
        self._await(self._routed, "routes to the own cluster's nodes", self._agents())
        self.routes_before = self.routes()
        self._each(self._deploy)
        step("workloads")
        self._join()
        step("clusters joined")

    def routes(self) -> Mapping[str, list[str]]:
        """Return each node's routes, by its full name."""
        return {node.full: network.routes(namespace(node)) for node in self.mesh.nodes}

    def live(self) -> Live:
        """Return the workloads of all clusters now; of one whose API does not answer, as they were last."""
        for cluster in self.mesh.clusters:
            api = self.apis[cluster.name]
            with suppress(KubeError):
                pods = pods_of(cluster.name, api.items("/api/v1/pods")[0])
                services = services_of(cluster.name, api.items("/api/v1/services")[0])
                nodes = nodes_of(self.mesh, cluster.name, api.items("/api/v1/nodes")[0])
                self._last[cluster.name] = Live(pods, services, nodes)
        told = [self._last[cluster.name] for cluster in self.mesh.clusters if cluster.name in self._last]
        return Live(
            [pod for one in told for pod in one.pods],
            [service for one in told for service in one.services],
            [node for one in told for node in one.nodes],
            self.mesh.balancer,
        )

    def place(self, node: Node) -> Place:
        """Return where a node's own programs run."""
        return Place(self.layout.group(node), holder=self._holders[node.name].number)

    def environment(self, cluster: Cluster) -> dict[str, str]:
        """Return variables for a cluster's programs: nothing of them may lie in the user's home."""
        own = f"{programs.cilium(cluster.cilium).folder}:{programs.kubernetes().folder}:{TOOLS}"
        return {"PATH": f"{own}:{_SYSTEM_PATH}", "HOME": str(RUN / "home")}

    def restart_agent(self, node: Node, overrides: Mapping[str, str]) -> None:
        """Start an agent anew with some other settings than usual, and wait until it works."""
        self.processes.stop(agent_name(node))
        self._overrides[node.name] = overrides
        self._write_settings(self.mesh.cluster(node.cluster), node)
        self.start_agent(node)

    def start_agent(self, node: Node) -> None:
        """Start an agent that was stopped, and wait until it works."""
        self.processes.again(agent_name(node))
        others = len(self.mesh.clusters) - 1
        self._await(
            lambda: agent.ready(state(node)) and agent.joined(state(node), others),
            f"the agent of {node.name}",
            [agent_name(node)],
        )

    def write_masquerade(self, cluster: Cluster, cidrs: list[str]) -> None:
        """Let a cluster's agents spare these ranges only, and wait until their datapath does."""
        for node in cluster.nodes:
            _replace(self._library(node) / MASQUERADE.relative_to(LIBRARY), settings.masquerade(cidrs))
        for node in cluster.nodes:
            self.wait_for(partial(self._spares, cluster, node, set(cidrs)), f"ip-masq-agent of {node.name}")

    def wait_for(self, done: Callable[[], bool], what: str) -> None:
        """Wait until something is so that takes seconds at most.

        Raises:
            MeshobsError: it never is.
        """
        self._await(done, what, seconds=_CHANGE_SECONDS)

    def start_api_server(self, cluster: str) -> None:
        """Start an API server that was stopped, and wait until it answers."""
        self.processes.again(f"{cluster}-apiserver")
        self._await(lambda: self._answers(self.apis[cluster]), f"the API server of {cluster}", [f"{cluster}-apiserver"])

    def _prepare(self) -> None:
        """Make the mounts that hold what must not outlive the lab."""
        clang = programs.clang()
        kernel.mount("tmpfs", RUN)
        for path in (NAMESPACES, TOOLS, RUN / "home", RUN / "etcd", *(state(node) for node in self.mesh.nodes)):
            path.mkdir(parents=True)
        if clang:
            # By the name that agents call.
            (TOOLS / "clang").symlink_to(clang)

    def _library(self, node: Node) -> Path:
        return self.layout.folder / "nodes" / node.name / "lib"

    def _make_node(self, node: Node) -> None:
        folder = self.layout.folder / "nodes" / node.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        group = self.layout.group(node)
        (group / "kubepods" / "besteffort").mkdir(parents=True)
        entered = [
            "unshare", "--mount", "--uts", "--cgroup", "--propagation", "slave",
            "sh", "-c", settings.node_script(node, str(folder)),
        ]  # fmt: skip
        place = Place(group, namespace(node))
        log = self.layout.log(node.name)
        log.parent.mkdir(exist_ok=True)
        holder = shell.spawn(place.command(entered), log, {"PATH": _SYSTEM_PATH}, read=True)
        if holder.line() != "ready\n":
            raise MeshobsError(f"the node {node.name} cannot be made: {log.read_text().strip()}")
        self._holders[node.name] = holder

    def _start_api(self, cluster: Cluster) -> None:
        name, node = cluster.name, control_plane(cluster)
        issue = self._authority.issue
        signing = self._authority.key_pair(f"{name}-sa")
        first = str(next(iter(objects.first_hosts(cluster.service_cidr))))
        names = ["kubernetes", "kubernetes.default.svc", "localhost", "127.0.0.1", node.address, first]
        serving = issue(f"{name}-apiserver", "kube-apiserver", names)
        store = issue(
            f"{name}-etcd", "clustermesh-apiserver.cilium.io", ["*.mesh.cilium.io", "127.0.0.1", node.address]
        )
        hubble = f"*.{name}.hubble-grpc.cilium.io"
        relays = "*.hubble-relay.cilium.io"
        self._issued |= {
            f"{name}-hubble": issue(f"{name}-hubble", hubble, [hubble]),
            f"{name}-relay": issue(f"{name}-relay", relays, [relays]),
            f"{name}-relay-client": issue(f"{name}-relay-client", relays, [relays]),
            f"{name}-mesh": issue(f"{name}-mesh", "remote"),
        }
        folder = self.layout.folder
        # What runs beside the API server reaches it by loopback, agents by the node's address: a fault cuts off these.
        for file, host in ((name, node.address), (f"{name}-local", "127.0.0.1")):
            text = settings.kubeconfig({name: f"https://{host}:{API_PORT}"}, self.client)
            private.write(self.layout.kubeconfig(file), text.encode())
        private.write(folder / f"{name}.etcd", settings.etcd_client("127.0.0.1", self._issued[f"{name}-mesh"]).encode())
        commands = {
            "etcd": settings.etcd(cluster, ETCD_PORT, None),
            "mesh-etcd": settings.etcd(cluster, MESH_PORT, store),
            "apiserver": settings.api_server(cluster, serving, (str(signing[0]), str(signing[1]))),
        }
        for part, command in commands.items():
            self.processes.start(f"{name}-{part}", self.place(node), command, self.environment(cluster))

    def _open_doors(self) -> None:
        """Let the machine reach API servers and Relays, from a process in the namespace of this one."""
        wanted = [
            {"namespace": str(namespace(control_plane(cluster))), "port": port}
            for port in (API_PORT, RELAY_PORT)
            for cluster in self.mesh.clusters
        ]
        own = Place(self.layout.cgroup / "lab")
        command = own.command([sys.executable, "-I", "-S", str(SCRIPTS / "forward.py"), json.dumps(wanted)])
        told = shell.spawn(command, self.layout.log("forward"), {"PATH": _SYSTEM_PATH}, read=True).line()
        if not told:
            raise MeshobsError(f"the forwarder did not start (log: {self.layout.log('forward')})")
        ports, names = json.loads(told), [cluster.name for cluster in self.mesh.clusters]
        count = len(names)
        self.doors = Doors(dict(zip(names, ports[:count], strict=True)), dict(zip(names, ports[count:], strict=True)))
        private.write(
            self.layout.folder / "kubeconfig",
            settings.kubeconfig(
                {f"netns-{name}": f"https://127.0.0.1:{self.doors.apis[name]}" for name in names}, self.client
            ).encode(),
        )
        for cluster in self.mesh.clusters:
            name = cluster.name
            self.apis[name] = Api(name, self.doors.apis[name], self.client)
            path = self.environment(cluster)["PATH"]
            self.kubelets[name] = Kubelet(cluster, self.apis[name], self.layout, self.place, path)
            self.kubectls[name] = self._kubectl(name)

    def _kubectl(self, name: str) -> Kubectl:
        folder = self.layout.folder

        def run(command: Iterable[str], given: str | None, seconds: float) -> str:
            done = shell.call(tuple(command), seconds, given)
            if done.code:
                raise MeshobsError(f"kubectl of {name}: {(done.err or done.out).strip()}")
            return done.out

        program = str(programs.kubernetes()["kubectl"].path)
        words = ("--kubeconfig", str(folder / "kubeconfig"), "--cache-dir", str(folder / "kubectl"))
        return Kubectl(f"netns-{name}", run, (program, *words))

    def _fill_api(self, cluster: Cluster) -> None:
        """Wait for an API server and give it what an installed Cilium has."""
        name, api, node = cluster.name, self.apis[cluster.name], control_plane(cluster)
        parts = [f"{name}-{part}" for part in ("etcd", "mesh-etcd", "apiserver")]
        self._await(lambda: self._answers(api), f"the API server of {name}", parts)
        crds = str(programs.cilium(cluster.cilium).folder / "crds")
        self.kubectls[name].run("create", "-R", "-f", crds, seconds=_SECONDS)
        api.create("/api/v1/namespaces", {"metadata": {"name": objects.SYSTEM}})
        for each in cluster.nodes:
            api.create("/api/v1/nodes", objects.node(each))
            api.patch(f"/api/v1/nodes/{each.name}/status", objects.node_status(each))
        told = settings.agent(cluster, self.layout, self._issued[f"{name}-hubble"])
        for one in objects.config(told, settings.masquerade(settings.spared(cluster))):
            api.create(f"/api/v1/namespaces/{objects.SYSTEM}/configmaps", one)
        secrets = f"/api/v1/namespaces/{objects.SYSTEM}/secrets"
        authority = {"ca.crt": self._authority.ca, "ca.key": self._authority.ca_key}
        api.create(secrets, objects.secret(AUTHORITY, authority))
        api.create(secrets, objects.tls_secret("hubble-relay-client-certs", self._issued[f"{name}-relay-client"]))
        for part, command in (
            ("controllers", settings.controllers(self.layout, cluster)),
            ("clustermesh", settings.mesh_api_server(self.layout, cluster)),
        ):
            self.processes.start(f"{name}-{part}", self.place(node), command, self.environment(cluster))

    def _answers(self, api: Api) -> bool:
        try:
            return api.get("/api/v1/namespaces/default") is not None
        except KubeError:
            return False

    def _start_agent(self, cluster: Cluster, node: Node) -> None:
        library = self._library(node)
        shutil.copytree(programs.cilium(cluster.cilium).folder / "bpf", library / "bpf", dirs_exist_ok=True)
        (library / REMOTES.name).mkdir()
        masquerade = library / MASQUERADE.relative_to(LIBRARY)
        masquerade.parent.mkdir()
        _replace(masquerade, settings.masquerade(settings.spared(cluster)))
        self._write_settings(cluster, node)
        # Before others on a busy machine: events that an agent does not read in time are lost.
        command = ["nice", "-n", "-10", "cilium-agent", f"--config-dir={self.layout.settings(node)}"]
        named = {"K8S_NODE_NAME": node.name, "CILIUM_K8S_NAMESPACE": objects.SYSTEM}
        self.processes.start(agent_name(node), self.place(node), command, self.environment(cluster) | named)

    def _write_settings(self, cluster: Cluster, node: Node) -> None:
        folder = self.layout.settings(node)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        told = settings.agent(cluster, self.layout, self._issued[f"{cluster.name}-hubble"])
        for key, value in (told | dict(self._overrides.get(node.name, {}))).items():
            (folder / key).write_text(value, encoding="utf-8")

    def _start_relay(self, cluster: Cluster) -> None:
        server, client = self._issued[f"{cluster.name}-relay"], self._issued[f"{cluster.name}-relay-client"]
        command = settings.relay(cluster, server, client)
        self.processes.start(
            relay_name(cluster.name), self.place(control_plane(cluster)), command, self.environment(cluster)
        )

    def _deploy(self, cluster: Cluster) -> None:
        self.kubectls[cluster.name].apply(manifests.of_cluster(self.mesh, cluster.name))

    def _join(self) -> None:
        """Tell all agents of the other clusters' stores (S5), and wait until they have all that these hold."""
        for cluster in self.mesh.clusters:
            for other in self.mesh.clusters:
                if other == cluster:
                    continue
                text = settings.etcd_client(control_plane(other).address, self._issued[f"{cluster.name}-mesh"])
                for node in cluster.nodes:
                    _replace(self._library(node) / REMOTES.name / other.name, text)
        others = len(self.mesh.clusters) - 1
        self._await(
            lambda: all(agent.joined(state(node), others) for node in self.mesh.nodes), "the mesh", self._agents()
        )

    def _spares(self, cluster: Cluster, node: Node, cidrs: set[str]) -> bool:
        """Tell whether a node's datapath spares these ranges and no others."""
        command = self.place(node).command(["cilium-dbg", "bpf", "ipmasq", "list", "-o", "json"])
        done = shell.call(command, _SECONDS, environment=self.environment(cluster))
        try:
            return set(json.loads(done.out)) - _LINK_LOCAL == cidrs
        except (ValueError, TypeError):
            return False

    def _routed(self) -> bool:
        """Tell whether each node has routes to all nodes of its cluster."""
        now = self.routes()
        return all(
            any(line.startswith(f"{other.pod_cidr} ") for line in now[node.full])
            for cluster in self.mesh.clusters
            for node in cluster.nodes
            for other in cluster.nodes
        )

    def _agents(self) -> list[str]:
        return [agent_name(node) for node in self.mesh.nodes]

    def _each(self, action: Callable[[Cluster], None]) -> None:
        """Do something for all clusters side by side."""
        with ThreadPoolExecutor(len(self.mesh.clusters)) as pool:
            for done in [pool.submit(action, cluster) for cluster in self.mesh.clusters]:
                done.result()

    def _await(
        self, done: Callable[[], bool], what: str, needed: Iterable[str] = (), seconds: float = _SECONDS
    ) -> None:
        """Wait until something is so, as long as the programs it needs run."""
        deadline = time.monotonic() + seconds
        while not done():
            for name in needed:
                self.processes.check(name)
            if time.monotonic() > deadline:
                raise MeshobsError(f"{what}: not so within {seconds:g} s (logs: {self.layout.folder / 'logs'})")
            time.sleep(_LOOK)


class _Steps:
    """Tells of steps with their time."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._since = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        self._say(f"{text} ({now - self._since:.1f} s)")
        self._since = now


def agent_name(node: Node) -> str:
    """Return the name of an agent's program."""
    return f"{node.name}-agent"


def relay_name(cluster: str) -> str:
    """Return the name of a Relay's program."""
    return f"{cluster}-relay"


def _replace(path: Path, text: str) -> None:
    """Write a file that an agent watches: it must never see half of it."""
    fresh = path.parent / f".{path.name}"
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)

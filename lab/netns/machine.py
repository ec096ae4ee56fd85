"""The mesh's parts on this machine, and how each of `steps` makes some of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from meshobs import private
from meshobs.errors import MeshobsError
from meshobs.lab import shell
from meshobs.lab.clusters import manifests
from meshobs.lab.clusters.kubectl import Kubectl
from meshobs.lab.clusters.targets import LiveObjects, nodes_of, pods_of, services_of
from meshobs.lab.mesh.model import Cluster, Mesh
from meshobs.lab.netns.cluster import agent_api, certificates, objects, programs
from meshobs.lab.netns.cluster.api import ApiError, NetnsKubeClient
from meshobs.lab.netns.cluster.kubelet import Kubelet
from meshobs.lab.netns.cluster.port_forwards import PortForwards, open_port_forwards
from meshobs.lab.netns.host import kernel, network
from meshobs.lab.netns.host.layout import (
    API_PORT,
    AUTHORITY,
    ETCD_PORT,
    MESH_PORT,
    NAMESPACES,
    RUN,
    TOOLS,
    Layout,
    control_plane,
    state,
)
from meshobs.lab.netns.host.pki import Authority
from meshobs.lab.netns.host.processes import CHANGE_SECONDS, UP_SECONDS, Processes
from meshobs.lab.netns.nodes import Nodes
from meshobs.lab.programs import machine, modules

_RELAY = "relay"


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
        self.apis: dict[str, NetnsKubeClient] = {}
        self.kubelets: dict[str, Kubelet] = {}
        self.kubectls: dict[str, Kubectl] = {}
        self.routes_before: Mapping[str, list[str]] = {}
        self.port_forwards = PortForwards({}, {})
        self._issued: dict[str, certificates.Issued] = {}
        self.nodes = Nodes(mesh, layout, self.processes, self._issued)
        self._last: dict[str, LiveObjects] = {}

    @property
    def actions(self) -> Mapping[str, Callable[[], None]]:
        """Return how each of `steps` is carried out, by its key, but the proof, which is the clients'.

        They raise MeshobsError where a program ended, or does not become what it should.
        """
        return {
            "create": self._create,
            "install": self._install,
            "share-ca": self._share_ca,
            "hubble": self._start_relays,
            "routes": self._note_routes,
            "join": self.nodes.join,
            "deploy": lambda: self._each(self._deploy),
        }

    def live(self) -> LiveObjects:
        """Return the workloads of all clusters now; of one whose API does not answer, as they were last."""
        for cluster in self.mesh.clusters:
            api = self.apis[cluster.name]
            with suppress(ApiError):
                pods = pods_of(cluster.name, api.items("/api/v1/pods")[0])
                services = services_of(cluster.name, api.items("/api/v1/services")[0])
                nodes = nodes_of(self.mesh, cluster.name, api.items("/api/v1/nodes")[0])
                self._last[cluster.name] = LiveObjects(pods, services, nodes)
        states = [self._last[cluster.name] for cluster in self.mesh.clusters if cluster.name in self._last]
        return LiveObjects(
            [pod for one in states for pod in one.pods],
            [service for one in states for service in one.services],
            [node for one in states for node in one.nodes],
            self.mesh.balancer,
        )

    def wait_for(self, done: Callable[[], bool], what: str) -> None:
        """Wait until something is so that takes seconds at most.

        Raises:
            MeshobsError: it never is.
        """
        self.processes.wait(done, what, seconds=CHANGE_SECONDS)

    def start_api_server(self, cluster: str) -> None:
        """Start an API server that was stopped, and wait until it answers."""
        self.processes.start_again(f"{cluster}-apiserver")
        self.processes.wait(
            lambda: self._answers(self.apis[cluster]), f"the API server of {cluster}", [f"{cluster}-apiserver"]
        )

    def _create(self) -> None:
        self._authority = Authority(self.layout.pki)
        self.client = self._authority.issue("user", "meshobs", organization="system:masters")
        self._prepare()
        network.make(self.mesh)
        for node in self.mesh.nodes:
            self.nodes.make(node)
        for cluster in self.mesh.clusters:
            self._start_api(cluster)
        self._open_port_forwards()
        self._each(self._fill_api)

    def _install(self) -> None:
        self._each(self._install_cilium)
        for cluster in self.mesh.clusters:
            for node in cluster.nodes:
                self.nodes.start(cluster, node)
        self.processes.wait(
            lambda: all(agent_api.is_ready(state(node)) for node in self.mesh.nodes), "agents", self.nodes.agents
        )
        for kubelet in self.kubelets.values():
            kubelet.start()

    def _share_ca(self) -> None:
        data = {"ca.crt": self._authority.ca, "ca.key": self._authority.ca_key}
        for api in self.apis.values():
            api.create(f"/api/v1/namespaces/{objects.SYSTEM}/secrets", objects.secret(AUTHORITY, data))

    def _start_relays(self) -> None:
        for cluster in self.mesh.clusters:
            issued = self._issued[cluster.name]
            self._start_beside_api(cluster, _RELAY, programs.relay(cluster, issued.relay, issued.reader))

    def _note_routes(self) -> None:
        self.processes.wait(self.nodes.has_routes, "routes to the own cluster's nodes", self.nodes.agents)
        self.routes_before = self.nodes.routes()

    def _prepare(self) -> None:
        """Make the mounts that hold what must not outlive the lab."""
        clang = machine.find_clang()
        kernel.mount("tmpfs", RUN)
        for path in (NAMESPACES, TOOLS, RUN / "home", RUN / "etcd", *(state(node) for node in self.mesh.nodes)):
            path.mkdir(parents=True)
        if clang:
            # By the name that agents call.
            (TOOLS / "clang").symlink_to(clang)
        # With IPv6 an agent loads modules by name; what this kernel lacks shows when the agent uses it.
        (TOOLS / "modprobe").write_text("#!/bin/sh\nexit 0\n")
        (TOOLS / "modprobe").chmod(0o755)

    def _start_api(self, cluster: Cluster) -> None:
        name, node = cluster.name, control_plane(cluster)
        issued = self._issued[name] = certificates.issue(self._authority, cluster)
        folder = self.layout.folder
        # What runs beside the API server reaches it by loopback, agents by the node's address: a fault cuts off these.
        for file, host in ((name, node.address), (f"{name}-local", "127.0.0.1")):
            text = programs.kubeconfig({name: f"https://{host}:{API_PORT}"}, self.client)
            private.write(self.layout.kubeconfig(file), text.encode())
        private.write(folder / f"{name}.etcd", programs.etcd_client("127.0.0.1", issued.member).encode())
        commands = {
            "etcd": programs.etcd(cluster, ETCD_PORT, None),
            "mesh-etcd": programs.etcd(cluster, MESH_PORT, issued.store),
            "apiserver": programs.api_server(cluster, issued.api, issued.signing),
        }
        for part, command in commands.items():
            self._start_beside_api(cluster, part, command)

    def _open_port_forwards(self) -> None:
        """Let this process, kubectl and the user reach the API servers."""
        self.port_forwards = open_port_forwards(self.mesh, self.layout)
        names = [cluster.name for cluster in self.mesh.clusters]
        private.write(
            self.layout.folder / "kubeconfig",
            programs.kubeconfig(
                {f"netns-{name}": f"https://127.0.0.1:{self.port_forwards.apis[name]}" for name in names}, self.client
            ).encode(),
        )
        for cluster in self.mesh.clusters:
            name = cluster.name
            self.apis[name] = NetnsKubeClient(name, self.port_forwards.apis[name], self.client)
            path = self.nodes.environment(cluster)["PATH"]
            self.kubelets[name] = Kubelet(cluster, self.apis[name], self.layout, self.nodes.place, path)
            self.kubectls[name] = self._kubectl(name)

    def _kubectl(self, name: str) -> Kubectl:
        folder = self.layout.folder

        def run(command: Iterable[str], given: str | None, seconds: float) -> str:
            done = shell.call(tuple(command), seconds, given)
            if done.code:
                raise MeshobsError(f"kubectl of {name}: {(done.err or done.out).strip()}")
            return done.out

        program = str(modules.kubernetes()["kubectl"].path)
        words = ("--kubeconfig", str(folder / "kubeconfig"), "--cache-dir", str(folder / "kubectl"))
        return Kubectl(f"netns-{name}", run, (program, *words))

    def _fill_api(self, cluster: Cluster) -> None:
        """Wait for an API server and give it its nodes and controllers."""
        name, api = cluster.name, self.apis[cluster.name]
        parts = [f"{name}-{part}" for part in ("etcd", "mesh-etcd", "apiserver")]
        self.processes.wait(lambda: self._answers(api), f"the API server of {name}", parts)
        api.create("/api/v1/namespaces", {"metadata": {"name": objects.SYSTEM}})
        for node in cluster.nodes:
            api.create("/api/v1/nodes", objects.node(node))
            api.patch(f"/api/v1/nodes/{node.name}/status", objects.node_status(node))
        self._start_beside_api(cluster, "controllers", programs.controllers(self.layout, cluster))

    def _install_cilium(self, cluster: Cluster) -> None:
        """Give an API server what an installed Cilium has, with the mesh's own."""
        name, api = cluster.name, self.apis[cluster.name]
        crds = str(modules.cilium(cluster.cilium).folder / "crds")
        self.kubectls[name].run("create", "-R", "-f", crds, seconds=UP_SECONDS)
        settings = programs.agent(cluster, self.layout, self._issued[name].hubble)
        for config_map in objects.config(settings, programs.masquerade(cluster.native_cidrs)):
            api.create(f"/api/v1/namespaces/{objects.SYSTEM}/configmaps", config_map)
        certificate = objects.tls_secret("hubble-relay-client-certs", self._issued[name].reader)
        api.create(f"/api/v1/namespaces/{objects.SYSTEM}/secrets", certificate)
        self._start_beside_api(cluster, "clustermesh", programs.mesh_api_server(self.layout, cluster))
        if cluster.variant.kvstoremesh:
            self.layout.remotes(name).mkdir(exist_ok=True)
            self._start_beside_api(cluster, "kvstoremesh", programs.kvstoremesh(self.layout, cluster))

    def _start_beside_api(self, cluster: Cluster, part: str, command: Sequence[str]) -> None:
        place = self.nodes.place(control_plane(cluster))
        self.processes.start(f"{cluster.name}-{part}", place, command, self.nodes.environment(cluster))

    def _answers(self, api: NetnsKubeClient) -> bool:
        try:
            return api.get("/api/v1/namespaces/default") is not None
        except ApiError:
            return False

    def _deploy(self, cluster: Cluster) -> None:
        self.kubectls[cluster.name].apply(manifests.of_cluster(self.mesh, cluster.name))

    def _each(self, action: Callable[[Cluster], None]) -> None:
        """Do something for all clusters side by side."""
        with ThreadPoolExecutor(len(self.mesh.clusters)) as pool:
            for done in [pool.submit(action, cluster) for cluster in self.mesh.clusters]:
                done.result()


def relay_name(cluster: str) -> str:
    """Return the name of a Relay's program."""
    return f"{cluster}-{_RELAY}"

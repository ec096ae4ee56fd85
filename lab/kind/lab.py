"""A lab on kind that is up: traffic by curl in its pods, settings by kubectl, faults on its nodes."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from meshobs.errors import InputError, MeshobsError
from meshobs.lab.clusters import curl, manifests, targets
from meshobs.lab.clusters.kubectl import Kubectl
from meshobs.lab.clusters.targets import Client, HostClient, LiveObjects, LivePod
from meshobs.lab.driver import Capabilities, LabState
from meshobs.lab.kind import outside_host, progress, udp
from meshobs.lab.kind.commands import Tools
from meshobs.lab.kind.configs import context
from meshobs.lab.kind.faults import KindFaults
from meshobs.lab.kind.options import Options, options_of
from meshobs.lab.mesh.file import mesh_of
from meshobs.lab.mesh.model import Mesh, Service, Workload
from meshobs.lab.traffic import Request, Traffic, run_timed

BALANCER = "balancer:"
_SECONDS = 60.0
_BACKGROUND = "background.json"


@dataclass(frozen=True)
class _Background:
    """Background traffic that runs.

    Attributes:
        within: the beginning of commands that reach where its client is.
    """

    within: Sequence[str]
    traffic: Traffic


class KindLab:
    """A lab on kind.

    Raises:
        MeshobsError: its record is not there, or a program fails.
    """

    def __init__(self, state: LabState) -> None:
        self.state = state
        self._folder = Path(state.folder)
        found = progress.read(self._folder)
        if not found:
            raise MeshobsError(
                f"the record of the lab is gone from {self._folder}: `kind get clusters` shows what runs"
            )
        self._build = found
        self._described = mesh_of(found.content)
        self.options: Options = options_of(found.content, self._described)
        self.tools = Tools(self._folder, self.options)
        self.clusters = {one.name: Kubectl(context(one.name), self.tools.kube) for one in self._described.clusters}
        self._faults = KindFaults(self._described, self.tools, self.clusters, self._folder)

    @property
    def mesh(self) -> Mesh:
        """Return the mesh with the nodes' real addresses, which differ from run to run (trap T11)."""
        return self._as_built

    @cached_property
    def _as_built(self) -> Mesh:
        return targets.with_nodes(self._described, self._nodes())

    @property
    def capabilities(self) -> Capabilities:
        """Return what it can do."""
        return Capabilities(faults=self._faults.names)

    @property
    def alive(self) -> bool:
        """Tell whether its clusters are there."""
        return set(self._build.made) <= set(self.tools.must(("kind", "get", "clusters"), _SECONDS).split())

    def status(self) -> Mapping[str, Any]:
        """Return nodes, services and pods, and the faults that are on; of a cluster whose API is kept away no more."""
        away = self._faults.without_api
        live = self.live(without=away)
        running, paused = self._background()
        return {
            "nodes": [
                {
                    "node": one.full, "address": "unknown" if one.cluster in away else one.address,
                    "pods": "unknown" if one.cluster in away else one.pod_cidr,
                    "cilium": self._described.cluster(one.cluster).cilium,
                }
                for one in live.nodes
            ],
            "services": [
                {
                    "cluster": one.cluster, "namespace": one.namespace, "name": one.name, "address": one.address,
                    "port": one.port, "node_port": one.node_port, "annotations": dict(one.annotations),
                    "ports": list(one.ports),
                }
                for one in live.services
            ],
            "pods": [
                {"cluster": one.cluster, "name": one.name, "node": one.node, "address": one.address, "ready": one.ready}
                for one in live.pods
            ],
            "faults": self._faults.on,
            "unknown": sorted(away),
            "background": len(running),
            "paused": len(paused),
        }  # fmt: skip

    def routes(self) -> tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]:
        """Return each node's routes before the mesh was joined, and now."""
        path = self._folder / "routes-before.json"
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        now = routes_now(self.tools, self._described)
        return {node: before.get(node, []) for node in now}, now

    def live(self, without: Collection[str] = ()) -> LiveObjects:
        """Return the workloads that there are, those of some clusters left out."""
        pods, services = [], []
        for name, cluster in self.clusters.items():
            if name in without:
                continue
            items = cluster.items("pods,services")
            pods += targets.pods_of(name, [one for one in items if one["kind"] == "Pod"])
            services += targets.services_of(name, [one for one in items if one["kind"] == "Service"])
        mesh = targets.with_nodes(self._described, self._nodes(without)) if without else self.mesh
        return LiveObjects(pods, services, mesh.nodes)

    def traffic(
        self, traffic: Sequence[Traffic], meanwhile: Sequence[tuple[float, Callable[[], None]]] = ()
    ) -> list[Request]:
        """Run traffic side by side until all of it is over."""
        live = self._prepare(traffic)
        clients = [targets.client_of(live, one.client) for one in traffic]
        commands = [
            self._within(client, curl.command(one, targets.targets_of(live, client, one.target)))
            for client, one in zip(clients, traffic, strict=True)
        ]
        with run_timed(meanwhile), ThreadPoolExecutor(len(traffic)) as pool:
            running = [
                pool.submit(self.tools.must, command, curl.seconds(one))
                for command, one in zip(commands, traffic, strict=True)
            ]
            printed = [one.result() for one in running]
        # Pods may have come or gone meanwhile.
        seen = replace(live, pods=[*live.pods, *self.live().pods])
        requests = [
            self._request(seen, client, one, answer)
            for client, one, text in zip(clients, traffic, printed, strict=True)
            for answer in curl.answers(text.splitlines(), one)
        ]
        return sorted(requests, key=lambda one: one.time)

    def endless(self, traffic: Traffic) -> None:
        """Run traffic in the background until `background` sets something else."""
        live = self._prepare([traffic])
        client = targets.client_of(live, traffic.client)
        words = curl.command(traffic, targets.targets_of(live, client, traffic.target), endless=True)
        running, paused = self._background()
        self._note([*running, _Background(self._within(client, ()), traffic)], paused)
        # Its output goes nowhere, and it is nobody's child: exec returns at once and it stays.
        detached = ("bash", "-c", 'setsid "$@" </dev/null >/dev/null 2>&1 &', "background", *words)
        self.tools.must(self._within(client, detached), _SECONDS)

    def background(self, rate: float) -> None:
        """Let every cluster's clients call its services, so many requests a second each; 0 ends it."""
        self.pause()
        self._note([], [])
        if not rate:
            return
        live = self.live()
        for service in live.services:
            callers = [one for one in live.pods if one.cluster == service.cluster and not one.port]
            if callers:
                protocol = next((one.protocol for one in self._described.services if one.name == service.name), "TCP")
                target = f"svc/{service.namespace}/{service.name}"
                self.endless(Traffic(callers[0].full, target, protocol, rate=rate))

    def pause(self) -> int:
        """Stop background traffic until `resume`; return how many clients that were."""
        running, paused = self._background()
        for one in running:
            # Nothing to end is no mistake: the pod may be another one by now.
            self.tools.run((*one.within, "pkill", "-f", curl.MARK), _SECONDS)
        self._note([], [*paused, *(one.traffic for one in running)])
        return len(running) + len(paused)

    def resume(self) -> None:
        """Let the background traffic that was paused go on."""
        while paused := self._background()[1]:
            self._note(self._background()[0], paused[:-1])
            self.endless(paused[-1])

    def annotate(self, cluster: str, namespace: str, service: str, changes: Mapping[str, str | None]) -> None:
        """Set annotations of a Service, or remove those that are None."""
        self._cluster(cluster).annotate(namespace, service, changes)

    def scale(self, cluster: str, namespace: str, workload: str, replicas: int) -> None:
        """Give a workload so many pods."""
        self._cluster(cluster).scale(namespace, workload, replicas)

    def add(self, workloads: Sequence[Workload], services: Sequence[Service]) -> None:
        """Add workloads and Services; what is there stays."""
        for name, cluster in self.clusters.items():
            cluster.apply(udp.add_servers(manifests.of(workloads, services, self.mesh.cluster(name)), self._described))

    def remove(self, workloads: Sequence[Workload], services: Sequence[Service]) -> None:
        """Remove what `add` added."""
        for name, cluster in self.clusters.items():
            cluster.delete(manifests.of(workloads, services, self.mesh.cluster(name)))

    def fault(self, name: str, scope: str, *, on: bool) -> None:
        """Turn a fault on or off."""
        self._faults.turn(name, scope, on=on)

    def down(self) -> None:
        """Delete the clusters that this lab made, and nothing else."""
        for cluster in list(self._build.made):
            self.tools.must(("kind", "delete", "cluster", "--name", cluster), 300)
            self._build.made.remove(cluster)
            self._build.begin("")
        if outside_host.address(self.tools):
            outside_host.remove(self.tools)

    def _prepare(self, traffic: Sequence[Traffic]) -> LiveObjects:
        """Return what there is, with the machine outside where traffic needs it."""
        live = self.live()
        through = [one.target for one in traffic if one.target.startswith(BALANCER)]
        if not through and all(one.client != "outside" for one in traffic):
            return live
        address = outside_host.make(self.tools)
        if any(one.protocol != "TCP" for one in traffic if one.target in through):
            raise InputError("the balancer outside_host passes TCP on, and nothing else")
        for target in through:
            port = target.removeprefix(BALANCER)
            if not port.isdecimal():
                raise InputError(f"{target!r} is no target: write balancer:PORT")
            outside_host.balance(self.tools, self.mesh.in_turn, int(port))
        return replace(live, balancer=address)

    def _within(self, client: Client, words: Sequence[str]) -> tuple[str, ...]:
        """Return a command as it is run where a client is."""
        if isinstance(client, LivePod):
            cluster = self._cluster(client.cluster)
            return cluster.command("exec", "-n", client.namespace, client.name, "--", *words)
        name = client.node.name if isinstance(client, HostClient) else outside_host.NAME
        return (self.options.engine, "exec", name, *words)

    def _request(self, live: LiveObjects, client: Client, traffic: Traffic, answer: curl.CurlAnswer) -> Request:
        if isinstance(client, LivePod):
            named = (client.full, client.cluster, client.address)
        elif isinstance(client, HostClient):
            named = (f"host/{client.node.name}", client.node.cluster, client.node.address)
        else:
            named = ("outside", "", "")
        pod = None if answer.error else live.find_answering(answer.addresses, answer.host_name)
        by = (pod.cluster, pod.name, pod.address, pod.node) if pod else ("", "", "", "")
        return curl.resolve(answer, traffic, named, by)

    def _cluster(self, name: str) -> Kubectl:
        if name not in self.clusters:
            raise InputError(f"there is no cluster {name}: {', '.join(self.clusters)}")
        return self.clusters[name]

    def _nodes(self, without: Collection[str] = ()) -> list[Any]:
        return [
            node
            for name, cluster in self.clusters.items()
            if name not in without
            for node in targets.nodes_of(self._described, name, cluster.items("nodes"))
        ]

    def _background(self) -> tuple[list[_Background], list[Traffic]]:
        """Return the background traffic that runs, and that which is paused."""
        path = self._folder / _BACKGROUND
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"running": [], "paused": []}
        running = [_Background(one["within"], Traffic(**one["traffic"])) for one in known["running"]]
        return running, [Traffic(**one) for one in known["paused"]]

    def _note(self, running: Sequence[_Background], paused: Sequence[Traffic]) -> None:
        known = {"running": [asdict(one) for one in running], "paused": [asdict(one) for one in paused]}
        (self._folder / _BACKGROUND).write_text(json.dumps(known), encoding="utf-8")


def routes_now(tools: Tools, mesh: Mesh) -> dict[str, list[str]]:
    """Return each node's routes."""
    return {
        node.full: [
            line.strip()
            for line in tools.must((tools.options.engine, "exec", node.name, "ip", "route"), _SECONDS).splitlines()
        ]
        for node in mesh.nodes
    }

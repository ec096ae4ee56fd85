"""A cluster's kubelets and scheduler: pods get a node, a namespace by the real cilium-cni, a process, and a state."""

import json
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshobs.errors import MeshobsError
from meshobs.lab import shell
from meshobs.lab.mesh.model import Cluster, Node
from meshobs.lab.netns import inside
from meshobs.lab.netns.cluster import objects
from meshobs.lab.netns.cluster.api import ApiError, NetnsKubeClient, Object
from meshobs.lab.netns.host import network
from meshobs.lab.netns.host.layout import Layout, namespace, pod_namespace
from meshobs.lab.netns.host.processes import Place

_PODS = "/api/v1/pods"
_CNI = '{"cniVersion":"0.3.1","name":"cilium","type":"cilium-cni","enable-debug":false}'
_CNI_SECONDS = 120.0
_AGAIN_SECONDS = 0.5
# Each waits for clang most of the time.
_WORKERS = 4
SCRIPTS = Path(inside.__file__).parent


@dataclass
class RunningPod:
    """A pod that runs.

    Attributes:
        container, sandbox: names as containerd gives them.
        addresses: one of each family, IPv4 first.
        server: its process, None for a client's pod.
    """

    pod: Object
    node: Node
    container: str = field(default_factory=lambda: secrets.token_hex(32))
    sandbox: str = field(default_factory=lambda: secrets.token_hex(32))
    addresses: Sequence[str] = ()
    place: Place | None = None
    server: shell.Child | None = None
    draining: bool = False

    @property
    def uid(self) -> str:
        """Return the API's name for it."""
        return str(self.pod["metadata"]["uid"])

    @property
    def drain_seconds(self) -> float:
        """Return how long it serves on when it is to end."""
        hooks = self.pod["spec"]["containers"][0].get("lifecycle") or {}
        return float(hooks.get("preStop", {}).get("sleep", {}).get("seconds", 0))

    @property
    def host_network(self) -> bool:
        """Tell whether it has its node's network."""
        return bool(self.pod["spec"].get("hostNetwork"))


class Kubelet:
    """What the kubelets of one cluster do.

    Args:
        cluster: which.
        api: its API.
        layout: of the lab.
        enter: node -> the place of its own programs.
        path: what PATH is there.
    """

    def __init__(
        self, cluster: Cluster, api: NetnsKubeClient, layout: Layout, enter: Callable[[Node], Place], path: str
    ) -> None:
        self._cluster = cluster
        self._api = api
        self._layout = layout
        self._enter = enter
        self._path = path
        self._lock = threading.Lock()
        self._running: dict[str, RunningPod] = {}
        self._placed: dict[str, tuple[str, str]] = {}
        self._workers = ThreadPoolExecutor(_WORKERS)

    def start(self) -> None:
        """Look after pods from now on."""
        threading.Thread(target=self._watch, name=f"kubelet {self._cluster.name}", daemon=True).start()

    def find(self, space: str, name: str) -> RunningPod | None:
        """Return a pod that runs."""
        with self._lock:
            found = list(self._running.values())
        named = [
            one for one in found if (one.pod["metadata"]["namespace"], one.pod["metadata"]["name"]) == (space, name)
        ]
        return next((one for one in named if one.place), None)

    def _watch(self) -> None:
        while True:
            try:
                pods, version = self._api.items(_PODS)
                known = {pod["metadata"]["uid"] for pod in pods}
                for pod in pods:
                    self._on_pod(pod)
                with self._lock:
                    gone = [one for uid, one in self._running.items() if uid not in known]
                for one in gone:
                    self._remove_pod(one.pod)
                for kind, pod in self._api.watch(_PODS, version):
                    if kind == "DELETED":
                        self._remove_pod(pod)
                    elif kind != "BOOKMARK":
                        self._on_pod(pod)
            except ApiError:
                # The API is away, or a watch has grown too old: begin anew.
                time.sleep(_AGAIN_SECONDS)

    def _on_pod(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if not (name := pod["spec"].get("nodeName")):
            if uid not in self._placed:
                self._bind(pod)
            return
        with self._lock:
            self._placed[uid] = objects.app_of(pod), name
            fresh = uid not in self._running and "deletionTimestamp" not in pod["metadata"]
            if fresh:
                node = next(node for node in self._cluster.nodes if node.name == name)
                self._running[uid] = RunningPod(pod, node)
        if fresh:
            self._workers.submit(self._run_logged, self._run, self._running[uid])
        elif "deletionTimestamp" in pod["metadata"]:
            self._drain(pod)

    def _bind(self, pod: Object) -> None:
        """Do the scheduler's part."""
        meta = pod["metadata"]
        node = objects.choose_node(pod, self._cluster.nodes, self._placed.values())
        self._placed[meta["uid"]] = objects.app_of(pod), node.name
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/binding"
        self._api.create(path, objects.make_binding(pod, node.name))

    def _drain(self, pod: Object) -> None:
        """End a pod when its hook is over, as kubelets do; it serves until then."""
        with self._lock:
            running = self._running.get(pod["metadata"]["uid"])
            if running is None or running.draining:
                return
            running.draining = True
        if not running.drain_seconds:
            self._remove_pod(pod, confirm=True)
            return
        timer = threading.Timer(running.drain_seconds, self._remove_pod, [pod], {"confirm": True})
        timer.daemon = True
        timer.start()

    def _remove_pod(self, pod: Object, *, confirm: bool = False) -> None:
        """End a pod; `told`: the API waits for the kubelet's word that it is gone."""
        uid = pod["metadata"]["uid"]
        with self._lock:
            self._placed.pop(uid, None)
            running = self._running.pop(uid, None)
        if running:
            self._workers.submit(self._run_logged, self._end, running, confirm)

    def _run_logged(self, action: Callable[..., None], *given: object) -> None:
        """Do something in a worker: nobody waits for it, so the log must have what goes wrong."""
        try:
            action(*given)
        except Exception as error:  # noqa: BLE001 - the next pod must not suffer
            print(f"kubelet of {self._cluster.name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201

    def _run(self, running: RunningPod) -> None:
        node, meta, spec = running.node, running.pod["metadata"], running.pod["spec"]
        group = self._layout.pod_group(node, running.uid, running.container)
        group.mkdir(parents=True, exist_ok=True)
        if running.host_network:
            running.addresses = node.addresses
            place = Place(group, namespace(node))
        else:
            place = Place(group, pod_namespace(running.uid))
            network.add(pod_namespace(running.uid))
            given = [str(one["address"]).partition("/")[0] for one in json.loads(self._cni(running, "ADD"))["ips"]]
            running.addresses = sorted(given, key=lambda one: ":" in one)
        ports = spec["containers"][0].get("ports") or []
        if ports:
            running.server = self._serve(running, place, int(ports[0]["containerPort"]))
        running.place = place
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        self._api.patch(path, objects.pod_status(running.pod, node, running.addresses, running.container))

    def _serve(self, running: RunningPod, place: Place, port: int) -> shell.Child:
        about = {
            "pod": running.pod["metadata"]["name"],
            "cluster": self._cluster.name,
            "node": running.node.name,
            "addresses": running.addresses,
            "port": port,
            "pings": str(pings(self._layout)),
        }
        command = place.command([sys.executable, "-I", "-S", str(SCRIPTS / "server.py"), json.dumps(about)])
        log = self._layout.log(f"pod-{about['pod']}")
        child = shell.spawn(command, log, {"PATH": self._path}, read=True)
        if not child.line():
            raise MeshobsError(f"the server of {about['pod']} did not start (log: {log})")
        return child

    def _end(self, running: RunningPod, confirm: bool) -> None:
        meta = running.pod["metadata"]
        if running.server:
            running.server.end()
        if not running.host_network:
            self._cni(running, "DEL")
            network.remove(pod_namespace(running.uid))
        group = self._layout.pod_group(running.node, running.uid, running.container)
        for folder in (group, group.parent):
            folder.rmdir()
        if confirm:
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
            self._api.delete(path, {"gracePeriodSeconds": 0, "preconditions": {"uid": running.uid}})

    def _cni(self, running: RunningPod, command: str) -> str:
        """Let cilium-cni attach or detach a pod, as a container runtime does; return what it prints."""
        meta = running.pod["metadata"]
        given: Mapping[str, Any] = {
            "IgnoreUnknown": 1,
            "K8S_POD_NAMESPACE": meta["namespace"],
            "K8S_POD_NAME": meta["name"],
            "K8S_POD_INFRA_CONTAINER_ID": running.sandbox,
            "K8S_POD_UID": running.uid,
        }
        environment = {
            "PATH": self._path,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": running.sandbox,
            "CNI_NETNS": str(pod_namespace(running.uid)),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": self._path.partition(":")[0],
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in given.items()),
        }
        done = shell.call(self._enter(running.node).command(["cilium-cni"]), _CNI_SECONDS, _CNI, environment)
        if done.code and command == "ADD":
            raise MeshobsError(f"cilium-cni cannot attach {meta['name']}: {(done.out or done.err).strip()}")
        return done.out


def pings(layout: Layout) -> Path:
    """Return the file in which servers note who pings."""
    return layout.folder / "pings.jsonl"

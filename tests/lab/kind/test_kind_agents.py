"""The fault `agent-down` of driver kind on Kubernetes' own DaemonSet controller: whom it removes, whom it leaves alone."""

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.api_server import ApiServer, RefusedError
from support.relay_nodes import free_port, wait_until

from meshobs.lab.clusters.kubectl import Kubectl
from meshobs.lab.kind.commands import KUBECONFIG, Tools
from meshobs.lab.kind.faults import KindFaults
from meshobs.lab.kind.options import Options
from meshobs.lab.mesh.model import walkthrough

NODES = ("east-control-plane", "east-worker")
PODS = "/api/v1/namespaces/kube-system/pods"
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
LABEL = {"k8s-app": "cilium"}
# As Cilium's chart has them.
SPEC: dict[str, Any] = {
    "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 2}},
    "selector": {"matchLabels": LABEL},
    "template": {
        "metadata": {"labels": LABEL},
        "spec": {
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"labelSelector": {"matchLabels": LABEL}, "topologyKey": "kubernetes.io/hostname"},
            ]}},
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "cilium-agent", "image": "cilium"}],
        },
    },
}  # fmt: skip


class Cluster(threading.Thread):
    """Stands in for scheduler and kubelets: pods get the node that they are meant for, are ready, and go when told to."""

    def __init__(self, server: ApiServer) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.1):
            # A pod may be gone meanwhile.
            with suppress(RefusedError):
                for pod in self.server.request("GET", PODS)["items"]:
                    self._look_after(pod)

    def _look_after(self, pod: dict[str, Any]) -> None:
        path = f"{PODS}/{pod['metadata']['name']}"
        if "deletionTimestamp" in pod["metadata"]:
            self.server.request("DELETE", f"{path}?gracePeriodSeconds=0")
        elif not pod["spec"].get("nodeName"):
            rules = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            (node,) = rules["nodeSelectorTerms"][0]["matchFields"][0]["values"]
            target = {"apiVersion": "v1", "kind": "Node", "name": node}
            name = {"name": pod["metadata"]["name"]}
            self.server.request("POST", f"{path}/binding", {"metadata": name, "target": target})
        elif pod["status"]["phase"] != "Running":
            self.server.request("PATCH", f"{path}/status", {"status": READY}, "application/merge-patch+json")

    def agents(self) -> dict[str, str]:
        """Return node -> uid of its agent's pod, of those that are ready."""
        pods = self.server.request("GET", PODS)["items"]
        return {pod["spec"]["nodeName"]: pod["metadata"]["uid"] for pod in pods if pod["status"]["phase"] == "Running"}


@pytest.fixture
def cluster(server: ApiServer, program: Callable[[str], Path], tmp_path: Path) -> Iterator[Cluster]:
    """Return a cluster with an agent on each of its two nodes."""
    manager = program("kube-apiserver").with_name("kube-controller-manager")
    if not manager.exists() or not shutil.which("kubectl"):
        pytest.skip("kube-controller-manager or kubectl is missing: meshobs lab build --driver netns")
    command = (
        manager, f"--kubeconfig={server.kubeconfig}", "--controllers=daemonset-controller", "--leader-elect=false",
        "--bind-address=127.0.0.1", f"--secure-port={free_port()}", f"--cert-dir={tmp_path}",
    )  # fmt: skip
    for node in NODES:
        labels = {"kubernetes.io/hostname": node}
        server.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "labels": labels}})
    meta = {"name": "cilium", "namespace": "kube-system"}
    made = server.create({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": meta, "spec": SPEC})
    made |= {"apiVersion": "apps/v1", "kind": "DaemonSet"}
    running = Cluster(server)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        running.start()
        try:
            wait_until(lambda: set(running.agents()) == set(NODES), "each node has an agent", 60)
            yield running
        finally:
            server.delete(made)
            with suppress(AssertionError):
                wait_until(lambda: not running.agents())
            running.over.set()
            running.join()
            process.kill()


def test_one_agent_goes_and_comes_back_and_the_other_stays(cluster: Cluster, tmp_path: Path) -> None:
    """The DaemonSet controller removes the agent of that node alone, and replaces no other, then or afterwards."""
    (tmp_path / KUBECONFIG).write_text(cluster.server.kubeconfig.read_text())
    tools = Tools(tmp_path, Options())
    mesh = walkthrough()
    faults = KindFaults(mesh, tools, {one.name: Kubectl("west", tools.kube) for one in mesh.clusters}, tmp_path)
    before = cluster.agents()

    faults.turn("agent-down", "east-worker", on=True)
    away = cluster.agents()
    faults.turn("agent-down", "east-worker", on=False)
    after = cluster.agents()

    assert away == {"east-control-plane": before["east-control-plane"]}
    assert after["east-worker"] != before["east-worker"]
    daemon_set = cluster.server.request("GET", "/apis/apps/v1/namespaces/kube-system/daemonsets/cilium")
    assert daemon_set["spec"]["updateStrategy"] == SPEC["updateStrategy"]
    # Nobody is replaced later: all are of the template that is in force.
    wait_until(lambda: _settled(cluster.server), "all agents are of the newest template")
    assert cluster.agents() == after
    assert after["east-control-plane"] == before["east-control-plane"]


def _settled(server: ApiServer) -> bool:
    found = server.request("GET", "/apis/apps/v1/namespaces/kube-system/daemonsets/cilium")
    status, generation = found["status"], found["metadata"]["generation"]
    return (status["observedGeneration"], status.get("updatedNumberScheduled")) == (generation, len(NODES))

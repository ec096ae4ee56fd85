"""Where the parts of a lab are: folders, control groups, namespaces, ports. Pure."""

from dataclasses import dataclass
from pathlib import Path

from meshobs.lab.mesh.model import Cluster, Mesh, Node

# Every control plane has a namespace of its own, so all of them use the same ports.
API_PORT = 6443
RELAY_PORT = 4245
HUBBLE_PORT = 4244
MESH_PORT = 32379
ETCD_PORT = 2379
# What is mounted over /run in the lab's own mounts; nothing of it shows outside.
RUN = Path("/run")
NAMESPACES = RUN / "netns"
TOOLS = RUN / "tools"
BRIDGE = "bridge"
AUTHORITY = "cilium-ca"


@dataclass(frozen=True)
class Layout:
    """Paths of one lab.

    Attributes:
        folder: the lab's files: logs, keys, settings, kubeconfigs.
        cgroup: above all of its control groups.
    """

    folder: Path
    cgroup: Path

    @property
    def pki(self) -> Path:
        """Return the folder of keys and certificates."""
        return self.folder / "pki"

    def log(self, name: str) -> Path:
        """Return a program's log."""
        return self.folder / "logs" / f"{name}.log"

    def kubeconfig(self, cluster: str) -> Path:
        """Return the file by which a cluster's own parts reach its API."""
        return self.folder / f"{cluster}.kubeconfig"

    def remotes(self, cluster: str) -> Path:
        """Return the folder by which a cluster's kvstoremesh knows the other clusters' stores."""
        return self.folder / f"{cluster}.remotes"

    def group(self, node: Node) -> Path:
        """Return a node's control group."""
        return self.cgroup / node.name

    def pod_group(self, node: Node, uid: str, container: str) -> Path:
        """Return the control group of a pod's container, named as a kubelet names it: Hubble finds pods by it."""
        return self.group(node) / "kubepods" / "besteffort" / f"pod{uid}" / container

    def settings(self, node: Node) -> Path:
        """Return the folder of an agent's settings, a file for each."""
        return self.folder / "nodes" / node.name / "config"


def namespace(node: Node) -> Path:
    """Return a node's network namespace."""
    return NAMESPACES / node.name


def pod_namespace(uid: str) -> Path:
    """Return a pod's network namespace."""
    return NAMESPACES / f"pod-{uid}"


def state(node: Node) -> Path:
    """Return what is /run/cilium on a node."""
    return RUN / "nodes" / node.name / "run"


def library(node: Node) -> Path:
    """Return what is LIBRARY on a node."""
    return RUN / "nodes" / node.name / "lib"


# Where an agent keeps the datapath's sources and reads what may change while it runs.
LIBRARY = RUN / "cilium-lib"
MASQUERADE = LIBRARY / "ip-masq-agent" / "config"
REMOTES = LIBRARY / "clustermesh"


def control_plane(cluster: Cluster) -> Node:
    """Return the node that a cluster's own parts run on."""
    return next((node for node in cluster.nodes if node.control_plane), cluster.nodes[0])


def node_of(mesh: Mesh, name: str) -> Node:
    """Return a node by its name without the cluster."""
    return next(node for node in mesh.nodes if node.name == name)

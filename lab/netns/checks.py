"""What this machine must have before a mesh is started on it."""

import os
import shutil
from collections.abc import Iterable

from meshobs.errors import InputError
from meshobs.lab import programs
from meshobs.lab.mesh import Mesh
from meshobs.lab.netns import kernel
from meshobs.lab.netns.machine import LLVM

_SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Of Debian.
_PACKAGES = {
    "etcd": "etcd-server", "ip": "iproute2", "iptables": "iptables", "ipset": "ipset", "nsenter": "util-linux",
    "mount": "mount",
}  # fmt: skip
_OF_CILIUM = ("cilium-agent", "cilium-cni", "cilium-dbg", "clustermesh-apiserver", "hubble-relay")
_OF_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kubectl")


def check(mesh: Mesh) -> None:
    """Check that everything is there that a mesh needs.

    Raises:
        InputError: root's rights or programs are missing; all that is missing is named.
        MeshobsError: control groups of version 2 are not mounted.
    """
    if os.geteuid():
        raise InputError("the driver netns needs root: it makes namespaces, routes and BPF programs")
    kernel.cgroups()
    if problems := [*_unbuilt(mesh), *_uninstalled()]:
        raise InputError(f"the driver netns lacks {'; '.join(problems)}")


def _unbuilt(mesh: Mesh) -> Iterable[str]:
    for version in dict.fromkeys(cluster.cilium for cluster in mesh.clusters):
        module = programs.cilium(version)
        missing = [name for name in _OF_CILIUM if not module[name].built]
        missing += [name for name in ("bpf", "crds") if not (module.folder / name).is_dir()]
        if missing:
            yield f"{', '.join(missing)} of Cilium {version}: meshobs lab build --driver netns --cilium {version}"
    kubernetes = programs.kubernetes()
    if missing := [name for name in _OF_KUBERNETES if not kubernetes[name].built]:
        yield f"{', '.join(missing)} of Kubernetes: meshobs lab build --driver netns"


def _uninstalled() -> Iterable[str]:
    missing = [package for tool, package in _PACKAGES.items() if not shutil.which(tool, path=_SYSTEM)]
    if not (LLVM / "clang").exists():
        missing += ["clang-19", "llvm-19"]
    if missing:
        yield f"packages: apt-get install {' '.join(missing)}"

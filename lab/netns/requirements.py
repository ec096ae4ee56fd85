"""What must be there before a mesh is started on this machine."""

from collections.abc import Iterable
from importlib.util import find_spec

from meshobs.errors import InputError
from meshobs.lab.mesh.model import Mesh
from meshobs.lab.programs import machine, modules

_OF_CILIUM = ("cilium-agent", "cilium-cni", "cilium-dbg", "clustermesh-apiserver", "hubble-relay")
_OF_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kubectl")


def check(mesh: Mesh) -> None:
    """Check that everything is there that a mesh needs.

    Raises:
        InputError: rights, programs or features of the kernel are missing; all that is missing is named with its cure.
    """
    if problems := [
        *_find_uninstalled(),
        *(f"{one.what}: {one.cure}" for one in machine.find_lacks()),
        *_find_unbuilt(mesh),
    ]:
        raise InputError(f"the driver netns cannot run here: {'; '.join(problems)}")


def _find_uninstalled() -> Iterable[str]:
    # Of the extra `netns`: nothing else needs certificates made.
    if find_spec("cryptography") is None:
        yield "the package cryptography: pip install 'meshobs[netns]'"


def _find_unbuilt(mesh: Mesh) -> Iterable[str]:
    for version in dict.fromkeys(cluster.cilium for cluster in mesh.clusters):
        module = modules.cilium(version)
        missing = [name for name in _OF_CILIUM if not module[name].built]
        missing += [name for name in ("bpf", "crds") if not (module.folder / name).is_dir()]
        if missing:
            yield f"{', '.join(missing)} of Cilium {version}: meshobs lab build --driver netns --cilium {version}"
    kubernetes = modules.kubernetes()
    if missing := [name for name in _OF_KUBERNETES if not kubernetes[name].built]:
        yield f"{', '.join(missing)} of Kubernetes: meshobs lab build --driver netns"

"""What must be there before a mesh is started on this machine."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec

from meshobs.errors import InputError
from meshobs.lab import shell
from meshobs.lab.mesh.model import Mesh
from meshobs.lab.mesh.variants import Variant
from meshobs.lab.programs import machine, modules

_OF_CILIUM = ("cilium-agent", "cilium-cni", "cilium-dbg", "clustermesh-apiserver", "hubble-relay")
_HELP_SECONDS = 30.0
# Where agents leave the Services of hosts, and NodePorts, to it.
_PROXY = "kube-proxy"
_OF_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kubectl")


def check(mesh: Mesh) -> None:
    """Check that everything is there that a mesh needs.

    Raises:
        InputError: rights, programs or features of the kernel are missing; all that is missing is named with its cure.
            Or Cilium's programs do not know what a variant sets: an agent would go on without it.
    """
    if problems := [
        *_find_uninstalled(),
        *(f"{one.what}: {one.cure}" for one in machine.find_lacks()),
        *_find_unbuilt(mesh),
    ]:
        raise InputError(f"the driver netns cannot run here: {'; '.join(problems)}")
    if refused := list(find_refused(mesh)):
        raise InputError("; ".join(refused))


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
    needed = [*_OF_KUBERNETES, *([] if all(one.variant.replaces_kube_proxy for one in mesh.clusters) else [_PROXY])]
    if missing := [name for name in needed if not kubernetes[name].built]:
        yield f"{', '.join(missing)} of Kubernetes: meshobs lab build --driver netns"


def find_refused(mesh: Mesh) -> Iterable[str]:
    """Return what a cluster's own version of Cilium does not take of its variant."""
    kinds: list[tuple[str, Variant]] = []
    for cluster in mesh.clusters:
        if (kind := (cluster.cilium, cluster.variant)) not in kinds:
            kinds.append(kind)
    for version, variant in kinds:
        module = modules.cilium(version)
        asked = (
            ((str(module["cilium-agent"].path),), variant.settings),
            ((str(module["clustermesh-apiserver"].path), "clustermesh"), variant.clustermesh_apiserver),
        )
        for command, flags in asked:
            if not _refusal(command, flags):
                continue
            for key, value in flags.items():
                if reason := _refusal(command, {key: value}):
                    yield f"variant {variant}: Cilium {version} does not take {key} {value!r}: {reason}"


def _refusal(command: Sequence[str], flags: Mapping[str, str]) -> str:
    """Return why a program does not take flags; it reads them before it helps, also those that it does not list."""
    done = shell.call((*command, *(f"--{key}={value}" for key, value in flags.items()), "--help"), _HELP_SECONDS)
    return done.err.partition("\n")[0].removeprefix("Error: ") if done.code else ""

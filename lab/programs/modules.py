"""Which Go modules the real programs come from, and what is changed in them."""

import mmap
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from meshobs.errors import MeshobsError
from meshobs.lab.mesh import versions

# Of what driver netns runs; the patch release differs from the image that kind runs.
KUBERNETES = "1.33.4"
Edit = Callable[[str], str]


@dataclass(frozen=True)
class Module:
    """A Go module and the programs in it.

    Attributes:
        programs: name of each -> its package, relative to the module.
        stamp: variables of the programs -> what to write there, such as their version.
        staging: version that `replace MODULE => ./staging/...` lines stand for, as Kubernetes publishes them.
        data: name in the cache -> folder of the module that programs need beside them.
        edits: file of the module -> its text (empty for a new file) to the text it is built with.
        replaces: module that it needs -> what go builds instead, as a replace line of go.mod says it; goes before the
            module's own line for it.
        stubs: file beside the build's go.mod -> its text: modules that `replaces` leads to by `./`.
        marks: name of a program -> what only an edited build contains; without that it is built again.
    """

    path: str
    version: str
    programs: Mapping[str, str]
    stamp: Mapping[str, str] = field(default_factory=dict)
    staging: str = ""
    data: Mapping[str, str] = field(default_factory=dict)
    edits: Mapping[str, Edit] = field(default_factory=dict)
    replaces: Mapping[str, str] = field(default_factory=dict)
    stubs: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Return the module's name and version, as its folder is called."""
        return f"{program_name(self.path)}-{self.version}"

    @property
    def folder(self) -> Path:
        """Return where its programs and data are, or will be."""
        return cache() / self.title

    def __getitem__(self, name: str) -> "Program":
        """Return one of its programs."""
        if name not in self.programs:
            raise KeyError(name)
        return Program(self, name)


@dataclass(frozen=True)
class Program:
    """A program of a module."""

    module: Module
    name: str

    @property
    def path(self) -> Path:
        """Return where the program is, or will be."""
        return self.module.folder / self.name

    @property
    def built(self) -> bool:
        """Tell whether it is there, as it should be built."""
        mark = self.module.marks.get(self.name)
        try:
            with self.path.open("rb") as stream:
                if not mark:
                    return True
                with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    return content.find(mark.encode()) >= 0
        except (OSError, ValueError):
            return False


def cache() -> Path:
    """Return the folder of all that is built: MESHOBS_CACHE, or the user's own cache."""
    return Path(os.environ.get("MESHOBS_CACHE") or Path.home() / ".cache" / "meshobs")


_MODULES_FILE = "pkg/datapath/linux/modules/modules_linux.go"
_OPEN = "fModules, err := os.Open(loadedModulesFilepath)\n"
_NO_MODULES = "\tif errors.Is(err, os.ErrNotExist) {\n\t\treturn nil, nil // a kernel that cannot load any\n\t}\n"


def _without_modules(text: str) -> str:
    """Let an agent start on a kernel without module support: no /proc/modules, no module loaded."""
    if "/proc/modules" in text and _OPEN not in text:
        raise MeshobsError(f"cannot edit {_MODULES_FILE} of this version of Cilium: it is not as in 1.17")
    return text.replace(_OPEN, _OPEN + _NO_MODULES)


# Two parts of the Multi-Cluster Services API have no tag of their own, so that no proxy serves the versions that 1.20
# asks for. The first is one constant there; the second is for tests only.
_STUBS = {
    "sigs.k8s.io/mcs-api/controllers": (
        'package controllers\n\nconst DerivedServiceAnnotation = "multicluster.kubernetes.io/derived-service"\n'
    ),
    "sigs.k8s.io/mcs-api/conformance": "package conformance\n",
}
# 1.20 asks for a commit of it between two tags, which a proxy may not serve.
_BGP = {"github.com/osrg/gobgp/v4": "github.com/osrg/gobgp/v4 v4.7.0"}
# 1.18 asks for Cilium's fork, of which a proxy may have no zip. It differs from Kubernetes' own in how `omitzero` is
# written out, which only Cilium's check for unknown fields of a policy would show.
_MACHINERY = {"k8s.io/apimachinery": "k8s.io/apimachinery v0.33.13"}


def _replaces(number: tuple[int, int, int]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return `replaces` and `stubs` of a version of Cilium."""
    if number < (1, 20, 0):
        return (_MACHINERY if (1, 18, 0) <= number < (1, 19, 0) else {}), {}
    stubs = {}
    for path, text in _STUBS.items():
        stubs[f"{_stub(path)}/go.mod"] = f"module {path}\n"
        stubs[f"{_stub(path)}/stub.go"] = text
    return {**_BGP, **{path: f"./{_stub(path)}" for path in _STUBS}}, stubs


def _stub(path: str) -> str:
    return f"stub/{path.rpartition('/')[2]}"


def cilium(version: str = versions.CILIUM) -> Module:
    """Return Cilium's module, with its datapath's sources (`bpf`), `crds` and `chart` as data.

    Raises:
        InputError: the text is no version.
    """
    # Agents until 1.18 end where there is no /proc/modules; later ones do not look there.
    number = versions.parse(version)
    edited = number < (1, 19, 0)
    replaces, stubs = _replaces(number)
    version = version.removeprefix("v")
    mark = f"{version} meshobs-edited 2026-01-01T00:00:00Z"
    return Module(
        "github.com/cilium/cilium",
        version,
        {
            "cilium-agent": "daemon",
            "cilium-cni": "plugins/cilium-cni",
            "cilium-dbg": "cilium-dbg",
            "clustermesh-apiserver": "clustermesh-apiserver",
            "hubble": "hubble",
            "hubble-relay": "hubble-relay",
        },
        # Version, revision and date, as Cilium's own builds have them.
        {
            "github.com/cilium/cilium/pkg/version.ciliumVersion": mark
            if edited
            else f"{version} meshobs 2026-01-01T00:00:00Z"
        },
        data={"bpf": "bpf", "crds": "pkg/k8s/apis/cilium.io/client/crds", "chart": "install/kubernetes/cilium"},
        edits={_MODULES_FILE: _without_modules} if edited else {},
        replaces=replaces,
        stubs=stubs,
        marks={"cilium-agent": mark} if edited else {},
    )


def kubernetes(version: str = KUBERNETES) -> Module:
    """Return Kubernetes' module."""
    return Module(
        "k8s.io/kubernetes",
        version,
        {name: f"cmd/{name}" for name in ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kubectl")},
        {"k8s.io/component-base/version.gitVersion": f"v{version}"},
        # Kubernetes 1.33.4 publishes its parts as v0.33.4.
        staging=f"v0.{version.partition('.')[2]}",
    )


def of_netns(version: str) -> list[Program]:
    """Return what a mesh of one version of Cilium is made of without containers."""
    return [Program(module, name) for module in (cilium(version), kubernetes()) for name in module.programs]


def program_name(path: str) -> str:
    """Return what go calls a program of a package: its last part that is no major version."""
    return next(part for part in reversed(path.split("/")) if not re.fullmatch(r"v\d+", part))

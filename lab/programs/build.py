"""The real programs of a mesh, built as Go modules by the ordinary `go` client into a cache outside the checkout.

Each is keyed by its version and built once; `build` makes what is missing, one run of `go` for each module. Builders
wait for each other, and a program is renamed into its place once it is whole: whoever sees one may run it.
"""

import json
import mmap
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from meshobs.errors import InputError, MeshobsError
from meshobs.lab import shell
from meshobs.lab.mesh import versions

# Of what driver netns runs; the patch release differs from the image that kind runs.
KUBERNETES = "1.33.4"
# A cold build of everything takes 25 minutes on two busy cores; this only ends what hangs.
_BUILD_SECONDS = 7200.0
# Programs that need no library of the machine; nothing of the user's own settings changes what is built.
_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
# As a failing compiler tells it, without the pages before.
_LAST_LINES = 6

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
        marks: name of a program -> what only an edited build contains; without that it is built again.
    """

    path: str
    version: str
    programs: Mapping[str, str]
    stamp: Mapping[str, str] = field(default_factory=dict)
    staging: str = ""
    data: Mapping[str, str] = field(default_factory=dict)
    edits: Mapping[str, Edit] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Return the module's name and version, as its folder is called."""
        return f"{_name(self.path)}-{self.version}"

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


def cilium(version: str = versions.CILIUM) -> Module:
    """Return Cilium's module, with its datapath's sources (`bpf`), `crds` and `chart` as data.

    Raises:
        InputError: the text is no version.
    """
    # Agents until 1.18 end where there is no /proc/modules; later ones do not look there.
    edited = versions.parsed(version) < (1, 19, 0)
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
        marks={"cilium-agent": mark} if edited else {},
    )


def kubernetes(version: str = KUBERNETES) -> Module:
    """Return Kubernetes' module."""
    return Module(
        "k8s.io/kubernetes",
        version,
        {name: f"cmd/{name}" for name in ("kube-apiserver", "kube-controller-manager", "kubectl")},
        {"k8s.io/component-base/version.gitVersion": f"v{version}"},
        # Kubernetes 1.33.4 publishes its parts as v0.33.4.
        staging=f"v0.{version.partition('.')[2]}",
    )


def of_netns(version: str) -> list[Program]:
    """Return what a mesh of one version of Cilium is made of without containers."""
    return [Program(module, name) for module in (cilium(version), kubernetes()) for name in module.programs]


def build(programs: Sequence[Program], say: Callable[[str], None]) -> None:
    """Build those programs that are not there, and the data of their modules.

    Args:
        programs: of any modules.
        say: takes a line for each module: what begins, how long it took.

    Raises:
        InputError: the module proxy does not know a version.
        MeshobsError: no go, no network, no space, or a build that failed.
    """
    modules = list({one.module.title: one.module for one in programs}.values())
    for module in modules:
        names = [one.name for one in programs if one.module.title == module.title]
        try:
            _build(module, names, say)
        except OSError as error:
            raise MeshobsError(
                f"cannot write what is built of {module.title} to {module.folder}: {error.strerror or error}; "
                "MESHOBS_CACHE names another folder"
            ) from error


def _build(module: Module, names: Sequence[str], say: Callable[[str], None]) -> None:
    def missing() -> tuple[list[str], list[str]]:
        programs = [name for name in names if not module[name].built]
        return programs, [name for name in module.data if not (module.folder / name).is_dir()]

    if not any(missing()):
        return
    module.folder.mkdir(parents=True, exist_ok=True)
    with _alone(module.folder, lambda: say(f"another build of {module.title} runs: waiting for it")):
        programs, data = missing()
        # What a killed builder left: nobody else is here.
        for left in module.folder.glob("build*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix="build-", dir=module.folder))
        try:
            began = time.monotonic()
            if programs:
                say(f"building {', '.join(programs)} of {module.title}: some minutes, once")
            source = _download(module, folder)
            for name in data:
                if not (source / module.data[name]).is_dir():
                    raise MeshobsError(f"{module.title} has no folder {module.data[name]}: name another version")
                _copy(source / module.data[name], folder / name)
                (folder / name).rename(module.folder / name)
            if programs:
                _compile(module, programs, source, folder)
                say(f"built {', '.join(programs)} of {module.title} in {time.monotonic() - began:.0f} s")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _download(module: Module, folder: Path) -> Path:
    """Let go fetch a module; return where its sources are, which cannot be written."""
    (folder / "go.mod").write_text("module meshobs.lab/programs\n")
    told = _go(module, folder, "mod", "download", "-json", f"{module.path}@v{module.version}")
    return Path(json.loads(told)["Dir"])


def _compile(module: Module, names: Sequence[str], source: Path, folder: Path) -> None:
    theirs = (source / "go.mod").read_text()
    replaced = _replaced(theirs, module.staging)
    arguments = []
    if module.edits:
        # Go takes no overlay for its own cache of modules, which is immutable. By another way there it does.
        (folder / "source").symlink_to(source)
        replaced.append(f"{module.path} => ./source")
        arguments = ["-overlay", str(_overlay(module, folder))]
    # Replace lines count in the main module only: repeat them.
    (folder / "go.mod").write_text(
        "module meshobs.lab/programs\n"
        + (re.search(r"^go \S+\n", theirs, re.MULTILINE) or [""])[0]
        + f"require {module.path} v{module.version}\n"
        + "".join(f"replace {line}\n" for line in replaced)
    )
    shutil.copyfile(source / "go.sum", folder / "go.sum")
    made = folder / "made"
    made.mkdir()
    flags = " ".join(["-s -w", *(f"-X '{variable}={value}'" for variable, value in module.stamp.items())])
    packages = {name: f"{module.path}/{module.programs[name]}".rstrip("/") for name in names}
    _go(
        module, folder, "build", "-trimpath", "-buildvcs=false", "-mod=mod", *arguments, "-ldflags", flags,
        "-o", f"{made}/", *packages.values(),
    )  # fmt: skip
    for name, package in packages.items():
        (made / _name(package)).rename(module.folder / name)


def _name(path: str) -> str:
    """Return what go calls a program of a package: its last part that is no major version."""
    return next(part for part in reversed(path.split("/")) if not re.fullmatch(r"v\d+", part))


def _overlay(module: Module, folder: Path) -> Path:
    """Write edited files and the list of them that `go build -overlay` takes; return the list."""
    replaced = {}
    for number, (name, edit) in enumerate(module.edits.items()):
        original, edited = folder / "source" / name, folder / f"edit{number}.go"
        # A version that has no such file needs no edit of it.
        if text := edit(original.read_text() if original.exists() else ""):
            edited.write_text(text)
            replaced[str(original)] = str(edited)
    path = folder / "overlay.json"
    path.write_text(json.dumps({"Replace": replaced}))
    return path


def _replaced(go_mod: str, staging: str) -> list[str]:
    block = re.search(r"^replace \(\n(.*?)^\)", go_mod, re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^replace ([^(].*)$", go_mod, re.MULTILINE) + (block[1].splitlines() if block else [])
    found = []
    for line in (line.strip() for line in lines if "=>" in line):
        module, _, other = line.partition(" => ")
        found.append(f"{module} => {module} {staging}" if other.startswith("./") else line)
    return found


def _copy(source: Path, target: Path) -> None:
    """Copy a folder of a module so that it can be written and removed: Go keeps its own read-only."""
    for folder, _, names in os.walk(source):
        here = target / Path(folder).relative_to(source)
        here.mkdir(parents=True)
        for name in names:
            shutil.copyfile(Path(folder) / name, here / name)


@contextmanager
def _alone(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold a folder's lock, which ends with the process; call `wait` if another has it."""
    import fcntl  # noqa: PLC0415 - not on Windows, where nothing is built

    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _go(module: Module, folder: Path, *arguments: str) -> str:
    done = shell.call(("go", "-C", str(folder), *arguments), _BUILD_SECONDS, environment=_ENVIRONMENT)
    if done.code:
        raise _error(module, done.code, done.out + done.err)
    return done.out


def _error(module: Module, code: int, told: str) -> MeshobsError:
    """Return what a failure of go means to the user."""
    if found := re.search(r'^\s*"Error": (".*")', told, re.MULTILINE):
        told = str(json.loads(found[1]))
    what = f"{module.path} v{module.version}"
    if code == 127:  # noqa: PLR2004 - as a shell tells it
        return MeshobsError("go is not installed: it builds the real programs; see https://go.dev/dl")
    if found := re.search(r"requires go >= (\S+) \(running go ([^;)]+)", told):
        return MeshobsError(f"go {found[2]} is too old for {what}: install {found[1].rstrip(';')} or newer")
    if "no space left on device" in told:
        return MeshobsError(
            f"the disk is full: building {what} needs up to 12 GB where `go env GOCACHE GOMODCACHE GOTMPDIR` are, "
            f"and in {module.folder}"
        )
    refused = re.search(r"(\S+)@(v\S+?): (?=reading|verifying|invalid version|unknown revision|not found)", told)
    if refused and re.search(r"40[34] |410 |unknown revision|no matching versions|invalid version|not found:", told):
        which = f"{refused[1]} {refused[2]}"
        needed = "" if which == what else f", which {what} needs"
        return InputError(
            f"the Go module proxy does not serve {which}{needed}: name another version ({_last(told, 2)})"
        )
    if re.search(r"dial tcp|no such host|resolve host|i/o timeout|TLS handshake|connection refused|50\d ", told):
        return MeshobsError(f"cannot fetch {what} from the Go module proxy (go env GOPROXY): {_last(told, 1)}")
    return MeshobsError(f"go cannot build {what}: {_last(told)}")


def _last(told: str, lines: int = _LAST_LINES) -> str:
    found = [line.strip() for line in told.splitlines() if not line.startswith("go: downloading")]
    return " | ".join([line for line in found if line][-lines:])


# What a machine must have to run them without containers


@dataclass(frozen=True)
class Finding:
    """Something that this machine lacks, and what mends it."""

    what: str
    cure: str


@dataclass(frozen=True)
class Feature:
    """Something of the kernel, tried by a command in a network namespace that ends with it.

    Attributes:
        modules: any of these gives it. One that the kernel could load counts as there: trying would load it.
    """

    name: str
    modules: Sequence[str]
    option: str
    trial: str


# What agents, or the driver around them, call -> Debian's package.
TOOLS = {
    "etcd": "etcd-server",
    "ip": "iproute2",
    "tc": "iproute2",
    "iptables": "iptables",
    "ip6tables": "iptables",
    "ipset": "ipset",
    "bpftool": "bpftool",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}
# Where Debian keeps what is for root, not on every user's PATH.
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
# Cilium 1.17's system requirements say 18.1; bookworm has 19, trixie 19 and newer ones.
_CLANG, _CLANG_PACKAGE = 18, "clang-19"
_LLVM = Path("/usr/lib")
_BTF = Path("/sys/kernel/btf/vmlinux")
_MOUNTS = Path("/proc/self/mountinfo")
_FEATURES = (
    Feature("veth devices", ("veth",), "CONFIG_VETH", "ip link add meshobs0 type veth peer name meshobs1"),
    Feature("bridges", ("bridge",), "CONFIG_BRIDGE", "ip link add meshobs2 type bridge"),
    Feature("clsact", ("sch_ingress",), "CONFIG_NET_SCH_INGRESS", "tc qdisc add dev lo clsact"),
    Feature("iptables", ("ip_tables", "nf_tables"), "CONFIG_NF_TABLES", "iptables -w -t mangle -S"),
    Feature("ipset", ("ip_set",), "CONFIG_IP_SET", "ipset list -n"),
)
_TRIAL_SECONDS = 20.0
# The number of bpf(2); one that is no command of it is refused with EINVAL where there is the call at all.
_BPF_CALL = {"x86_64": 321, "aarch64": 280}
_NO_COMMAND = 0x7FFFFFFF


def tool(name: str) -> Path | None:
    """Return where a tool is, None where it is not."""
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(_SBIN))
    return Path(found) if found else None


def clang() -> Path | None:
    """Return the newest clang that compiles the datapath; agents call it by the name `clang`, so link it on their PATH.

    It is the only program of LLVM's that they call.
    """
    numbered = {
        int(folder.name.removeprefix("llvm-")): folder / "bin" / "clang"
        for folder in _LLVM.glob("llvm-*")
        if folder.name.removeprefix("llvm-").isdecimal()
    }
    for number, path in sorted(numbered.items(), reverse=True):
        if number >= _CLANG and path.exists():
            return path
    found = shutil.which("clang")
    version = re.search(r"version (\d+)", shell.run((found, "--version"), _TRIAL_SECONDS)[1]) if found else None
    return Path(found) if found and version and int(version[1]) >= _CLANG else None


def cgroups(mountinfo: str = "") -> Path | None:
    """Return where the whole hierarchy of control groups (version 2) is mounted, None where it is not.

    Args:
        mountinfo: what to read instead of this process' own.
    """
    try:
        text = mountinfo or _MOUNTS.read_text(encoding="utf-8")
    except OSError:
        return None
    for line in text.splitlines():
        # ID PARENT DEVICE ROOT MOUNTPOINT OPTIONS... - TYPE SOURCE OPTIONS
        before, _, after = line.partition(" - ")
        # The mount of a sub-tree only is of no use.
        if after.startswith("cgroup2 ") and before.split()[3] == "/":
            return Path(before.split()[4])
    return None


def missing() -> list[Finding]:
    """Return all that this machine lacks to run the programs without containers. Nothing is changed by looking."""
    root = os.geteuid() == 0
    findings = [
        Finding(f"{name} is missing", f"apt-get install {package}") for name, package in TOOLS.items() if not tool(name)
    ]
    if not clang():
        findings.append(Finding(f"clang {_CLANG} or newer is missing", f"apt-get install {_CLANG_PACKAGE}"))
    if not root:
        findings.append(Finding("this is not root: namespaces and eBPF need it", "sudo meshobs ..."))
    if not _has_bpf():
        findings.append(Finding("the kernel has no eBPF", "a kernel with CONFIG_BPF_SYSCALL"))
    if not _BTF.exists():
        findings.append(Finding(f"the kernel has no BTF ({_BTF})", "a kernel with CONFIG_DEBUG_INFO_BTF"))
    if not cgroups():
        mount = "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified"
        findings.append(Finding("cgroup v2 is not mounted", mount))
    if root and not findings:
        findings.extend(lacking(_FEATURES))
    return findings


def lacking(features: Sequence[Feature]) -> list[Finding]:
    """Return what the kernel lacks of some features, tried in a network namespace that ends at once."""
    try:
        loadable = Path(f"/lib/modules/{os.uname().release}/modules.dep").read_text()
    except OSError:
        loadable = ""
    tried = [one for one in features if not any(f"/{module}.ko" in loadable for module in one.modules)]
    script = "".join(f"{one.trial} >/dev/null 2>&1 || echo lacks {one.name}\n" for one in tried)
    path = os.pathsep.join([os.environ.get("PATH", ""), *_SBIN])
    code, told = shell.run(("env", f"PATH={path}", "unshare", "--net", "sh", "-c", script), _TRIAL_SECONDS)
    if code:
        return [
            Finding(f"no network namespace can be made ({_last(told, 1)})", "a kernel with CONFIG_NET_NS, and root")
        ]
    lacks = set(told.splitlines())
    return [
        Finding(f"the kernel has no {one.name}", f"a kernel with {one.option}")
        for one in tried
        if f"lacks {one.name}" in lacks
    ]


def _has_bpf() -> bool:
    import ctypes  # noqa: PLC0415 - only here
    import errno  # noqa: PLC0415

    number = _BPF_CALL.get(os.uname().machine)
    if number is None:
        return False
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall(ctypes.c_long(number), ctypes.c_int(_NO_COMMAND), None, ctypes.c_uint(0))
    # Without root a kernel may say EPERM before it looks.
    return ctypes.get_errno() in {errno.EINVAL, errno.EPERM}

"""What a machine must have to run the real programs of a mesh without containers."""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meshobs.lab import shell


@dataclass(frozen=True)
class Lack:
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


def find_tool(name: str) -> Path | None:
    """Return where a tool is, None where it is not."""
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(_SBIN))
    return Path(found) if found else None


def find_clang() -> Path | None:
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


def find_cgroups(mountinfo: str = "") -> Path | None:
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


def find_lacks() -> list[Lack]:
    """Return all that this machine lacks to run the programs without containers. Nothing is changed by looking."""
    root = os.geteuid() == 0
    findings = [
        Lack(f"{name} is missing", f"apt-get install {package}")
        for name, package in TOOLS.items()
        if not find_tool(name)
    ]
    if not find_clang():
        findings.append(Lack(f"clang {_CLANG} or newer is missing", f"apt-get install {_CLANG_PACKAGE}"))
    if not root:
        findings.append(Lack("this is not root: namespaces and eBPF need it", "sudo meshobs ..."))
    if not _has_bpf():
        findings.append(Lack("the kernel has no eBPF", "a kernel with CONFIG_BPF_SYSCALL"))
    if not _BTF.exists():
        findings.append(Lack(f"the kernel has no BTF ({_BTF})", "a kernel with CONFIG_DEBUG_INFO_BTF"))
    if not find_cgroups():
        mount = "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified"
        findings.append(Lack("cgroup v2 is not mounted", mount))
    if root and not findings:
        findings.extend(find_lacking_features(_FEATURES))
    return findings


def find_lacking_features(features: Sequence[Feature]) -> list[Lack]:
    """Return what the kernel lacks of some features, tried in a network namespace that ends at once."""
    try:
        loadable = Path(f"/lib/modules/{os.uname().release}/modules.dep").read_text()
    except OSError:
        loadable = ""
    tried = [one for one in features if not any(f"/{module}.ko" in loadable for module in one.modules)]
    script = "".join(f"{one.trial} >/dev/null 2>&1 || echo lacks {one.name}\n" for one in tried)
    path = os.pathsep.join([os.environ.get("PATH", ""), *_SBIN])
    code, output = shell.run(("env", f"PATH={path}", "unshare", "--net", "sh", "-c", script), _TRIAL_SECONDS)
    if code:
        return [
            Lack(
                f"no network namespace can be made ({shell.last_lines(output, 1)})",
                "a kernel with CONFIG_NET_NS, and root",
            )
        ]
    lacks = set(output.splitlines())
    return [
        Lack(f"the kernel has no {one.name}", f"a kernel with {one.option}")
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

"""What stands in the way of a lab on kind, all of it at once, each with its cure (S2, traps T13 and T14)."""

import json
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshobs.lab.kind.commands import Tools
from meshobs.lab.kind.options import Options
from meshobs.lab.mesh.model import Mesh

_SECONDS = 20.0
# Measured for two clusters of two nodes: 5.7 GiB, 14 GB of node volumes, 128 inotify instances were enough.
_MEMORY_PER_NODE = 5.7 * 2**30 / 4
_DISK_PER_NODE = 14e9 / 4
_INSTANCES_PER_NODE = 128 / 4
_WATCHES_PER_NODE = 8192
_CPUS = 2
# What each program says of its version, and the oldest that can do what is asked of it.
_VERSIONS: Mapping[str, tuple[tuple[str, ...], str, tuple[int, int]]] = {
    "kind": (("kind", "version"), r"kind v(\d+)\.(\d+)", (0, 20)),
    "cilium": (("cilium", "version", "--client"), r"cilium-cli: v(\d+)\.(\d+)", (0, 16)),
    "kubectl": (("kubectl", "version", "--client", "-o", "json"), r'"gitVersion": *"v(\d+)\.(\d+)', (1, 28)),
}
_WHERE = {
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    "cilium": "https://docs.cilium.io/en/stable/gettingstarted/k8s-install-default/#install-the-cilium-cli",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
    "docker": "https://docs.docker.com/engine/install/",
    "podman": "https://podman.io/docs/installation",
}


@dataclass(frozen=True)
class Obstacle:
    """Something in the way.

    Attributes:
        problem: what it is.
        cure: what to do.
    """

    problem: str
    cure: str


def find_obstacles(mesh: Mesh, options: Options, tools: Tools, proc: Path = Path("/proc")) -> list[Obstacle]:
    """Return everything that stands in the way of a mesh.

    Args:
        mesh: to be made.
        options: the driver's.
        tools: runs the programs.
        proc: the kernel's files.
    """
    missing = [name for name in (*_VERSIONS, options.engine) if not shutil.which(name)]
    found = [Obstacle(f"{name} is not installed", f"see {_WHERE[name]}") for name in missing]
    found += [one for name in _VERSIONS if name not in missing for one in _version(name, tools)]
    engine = _engine(options, tools) if options.engine not in missing else None
    if isinstance(engine, Obstacle):
        found.append(engine)
    elif engine is not None:
        if "kind" not in missing:
            found += _neighbours(mesh, tools)
        found += _room(mesh, engine, proc)
    found += _ports(options)
    if options.chart_directory and not (Path(options.chart_directory) / "Chart.yaml").is_file():
        found.append(
            Obstacle(f"there is no chart in {options.chart_directory}", "name the folder that Chart.yaml lies in")
        )
    return found


def _version(name: str, tools: Tools) -> Iterator[Obstacle]:
    command, pattern, least = _VERSIONS[name]
    done = tools.run(command, _SECONDS)
    match = re.search(pattern, done.out)
    if not match:
        said = (done.out + done.err).strip().splitlines()
        yield Obstacle(
            f"`{' '.join(command)}` does not tell its version: {said[-1] if said else done.code}", "reinstall it"
        )
    elif (int(match[1]), int(match[2])) < least:
        yield Obstacle(
            f"{name} {match[1]}.{match[2]} is too old", f"take {least[0]}.{least[1]} or newer from {_WHERE[name]}"
        )


def _engine(options: Options, tools: Tools) -> Mapping[str, Any] | Obstacle:
    """Return what the container engine says of its machine."""
    name = options.engine
    done = tools.run((name, "info", "--format", "{{json .}}"), _SECONDS)
    info: Any = None
    with suppress(ValueError):
        info = json.loads(done.out)
    if done.code or not isinstance(info, dict) or info.get("ServerErrors"):
        said = " ".join((done.err or done.out).split())[-200:]
        return Obstacle(
            f"the container engine does not answer: {said or f'{name} info ended with {done.code}'}",
            f"start it (systemctl start {name}), or leave `driver` out for the embedded twin",
        )
    host = info.get("host", {})
    return {
        "memory": info.get("MemTotal") or host.get("memTotal"),
        "cpus": info.get("NCPU") or host.get("cpus"),
        "folder": info.get("DockerRootDir") or info.get("store", {}).get("graphRoot"),
    }


def _neighbours(mesh: Mesh, tools: Tools) -> Iterator[Obstacle]:
    """Other kind clusters: they made API servers time out on the walkthrough's author's machine (S2)."""
    done = tools.run(("kind", "get", "clusters"), _SECONDS)
    if done.code:
        yield Obstacle(
            f"kind cannot list its clusters: {' '.join(done.err.split())[-200:]}", "is the engine all right?"
        )
        return
    own = [one.name for one in mesh.clusters]
    for name in done.out.split():
        if name in own:
            yield Obstacle(
                f"a kind cluster {name} exists that this lab did not make",
                f"kind delete cluster --name {name}, or call yours otherwise in a mesh description",
            )
        else:
            yield Obstacle(
                f"another kind cluster runs: {name}; API servers time out where it gets tight",
                f"kind delete cluster --name {name}, or `force`",
            )


def _room(mesh: Mesh, engine: Mapping[str, Any], proc: Path) -> Iterator[Obstacle]:
    """Memory, processors, disk, inotify of the machine that the nodes run on."""
    nodes = len(mesh.nodes)
    need = nodes * _MEMORY_PER_NODE
    free = _available(proc) or engine["memory"]
    if free and free < need:
        yield Obstacle(
            f"{free / 2**30:.1f} GiB of memory are free, {nodes} nodes need {need / 2**30:.1f}",
            "end what else runs, or give the engine's machine more memory",
        )
    if engine["cpus"] and engine["cpus"] < _CPUS:
        yield Obstacle(f"the engine has {engine['cpus']} processor", f"give it {_CPUS}")
    folder = Path(str(engine["folder"] or ""))
    if engine["folder"] and folder.is_dir():
        room = shutil.disk_usage(folder).free
        if room < nodes * _DISK_PER_NODE:
            yield Obstacle(
                f"{room / 1e9:.1f} GB are free in {folder}, {nodes} nodes need {nodes * _DISK_PER_NODE / 1e9:.0f}",
                f"{'docker' if 'docker' in str(folder) else 'podman'} system prune, or a bigger disk",
            )
    for name, each in (("max_user_instances", _INSTANCES_PER_NODE), ("max_user_watches", _WATCHES_PER_NODE)):
        with suppress(OSError, ValueError):
            limit = int((proc / "sys/fs/inotify" / name).read_text(encoding="ascii"))
            if limit < nodes * each:
                yield Obstacle(
                    f"fs.inotify.{name} is {limit}, {nodes} nodes need {nodes * each:.0f}",
                    f"sysctl -w fs.inotify.{name}={max(524_288 if 'watches' in name else 512, int(nodes * each))}",
                )


def _available(proc: Path) -> float | None:
    """Return bytes of memory that can be had, None where the kernel does not tell."""
    with suppress(OSError):
        match = re.search(r"MemAvailable:\s*(\d+) kB", (proc / "meminfo").read_text(encoding="ascii"))
        return int(match[1]) * 1024 if match else None
    return None


def _ports(options: Options) -> Iterator[Obstacle]:
    """Ports of this host; the engine's own message comes late and is one long line (T13)."""
    for cluster, ports in options.ports.items():
        taken = [port for port in ports if not _free(port)]
        if taken:
            yield Obstacle(
                f"ports for {cluster} are taken: {', '.join(map(str, taken))}",
                f"end what listens there (`ss -ltnp`), or choose others: [kind.ports] {cluster} = [...]",
            )


def _free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("0.0.0.0", port))  # noqa: S104 - as the engine will; nobody listens
        except OSError:
            return False
    return True

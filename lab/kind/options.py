"""What can be set of a lab on kind beside its mesh. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meshobs.errors import InputError
from meshobs.lab.mesh import versions
from meshobs.lab.mesh.model import Mesh

ENGINES = ("docker", "podman")
# S1: of the first cluster; each further cluster's are a thousand higher.
_PORTS = (30_000, 30_001, 30_002)
_APART = 1_000
_LAST_PORT = 32_767
# What kind calls the network of its nodes.
NETWORK = "kind"
_TABLE: Mapping[str, type] = {
    "engine": str, "node_image": str, "chart_directory": str, "set": list, "ports": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Settings of the driver, table `kind` of a mesh description.

    Attributes:
        engine: docker or podman.
        node_image: of all nodes.
        chart_directory: of Cilium's chart, instead of the one inside the cilium CLI.
        set: further `--set` values of Cilium's chart.
        ports: by cluster, ports of this host: control plane (apps), control plane (Hubble UI), worker (apps).
    """

    engine: str = "docker"
    node_image: str = versions.KIND_NODE_IMAGE
    chart_directory: str = ""
    set: Sequence[str] = ()
    ports: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)


def options_of(content: Mapping[str, object], mesh: Mesh) -> Options:
    """Return the options that a mesh description has.

    Raises:
        InputError: it has mistakes; all of them are named.
    """
    table = content.get("kind", {})
    if not isinstance(table, Mapping):
        raise InputError("kind must be a table")
    mistakes = [f"kind: unknown key {key} (known: {', '.join(_TABLE)})" for key in table if key not in _TABLE]
    given = {key: value for key, value in table.items() if key in _TABLE}
    for key in list(given):
        if not isinstance(given[key], _TABLE[key]):
            mistakes.append(f"kind: {key} must be of type {_TABLE[key].__name__}, not {given[key]!r}")
            del given[key]
    if given.get("engine", "docker") not in ENGINES:
        mistakes.append(f"kind: engine must be one of {', '.join(ENGINES)}")
    settings = tuple(map(str, given.pop("set", ())))
    mistakes += [f"kind: {one!r} in set is no KEY=VALUE" for one in settings if "=" not in one.lstrip("=")]
    ports = _ports(given.pop("ports", {}), mesh, mistakes)
    if mistakes:
        raise InputError("; ".join(mistakes))
    return Options(set=settings, ports=ports, **given)


def _ports(table: Mapping[str, Any], mesh: Mesh, mistakes: list[str]) -> Mapping[str, tuple[int, int, int]]:
    """Return each cluster's ports; a host's port can be had once only, and a NodePort's number is the same inside."""
    names = [one.name for one in mesh.clusters]
    mistakes += [f"kind: ports of {name}, which is no cluster" for name in table if name not in names]
    found: dict[str, tuple[int, int, int]] = {}
    for index, name in enumerate(names):
        first, second, third = _PORTS
        numbers = table.get(name, [first + index * _APART, second + index * _APART, third + index * _APART])
        fit = isinstance(numbers, list | tuple) and len(numbers) == len(_PORTS)
        if not fit or not all(isinstance(one, int) and _PORTS[0] <= one <= _LAST_PORT for one in numbers):
            mistakes.append(
                f"kind: ports of {name} must be three numbers from {_PORTS[0]} to {_LAST_PORT}, not {numbers}:"
                " name them in [kind.ports]"
            )
            continue
        first, second, third = numbers
        found[name] = (first, second, third)
    all_of_them = [one for numbers in found.values() for one in numbers]
    if twice := sorted({one for one in all_of_them if all_of_them.count(one) > 1}):
        mistakes.append(f"kind: ports used twice: {', '.join(map(str, twice))}")
    return found

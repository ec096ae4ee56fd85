"""A mesh description as a file says it (TOML) -> the mesh. Every mistake is named at once; docs/lab.md has the keys."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from itertools import combinations
from pathlib import Path
from typing import Any

from meshobs.errors import InputError, MeshobsError
from meshobs.lab.mesh import ipv6, versions
from meshobs.lab.mesh.model import ANNOTATIONS, Cluster, Mesh, Service, Workload, nodes_of, walkthrough
from meshobs.lab.mesh.variants import NATIVE, Variant, variant_of

_TOP: Mapping[str, type] = {
    "seed": int, "network": str, "cilium": str, "aggregation": str, "socket_lb": bool, "ring": int, "variant": object,
    "clusters": dict, "workloads": dict, "services": dict, "kind": dict,
}  # fmt: skip
_CLUSTER: Mapping[str, type] = {
    "id": int, "nodes": int, "pod_cidr": str, "service_cidr": str, "native_routing_cidr": str,
    "non_masquerade_cidrs": list, "cilium": str, "aggregation": str, "socket_lb": bool, "ring": int,
    "variant": object,
}  # fmt: skip
_WORKLOAD: Mapping[str, type] = {
    "app": str, "image": str, "replicas": int, "port": int, "clusters": list, "namespace": str, "bare": bool,
    "host_network": bool, "drain": int,
}  # fmt: skip
_SERVICE: Mapping[str, type] = {
    "app": str, "port": int, "target_port": int, "protocol": str, "node_port": int, "clusters": list,
    "namespace": str, "global": bool, "affinity": str, "shared": bool, "annotations": dict,
    "spec": dict,
}  # fmt: skip
_WALKTHROUGH = walkthrough()
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")
_NODE_BITS = 24
# A /24 less the addresses of the network, the router and their neighbours.
_PODS_PER_NODE = 240
_MOST_NODES = 250
_LEVELS = ("none", "medium")
_RING = re.compile(r"1+")


@dataclass
class _TableReader:
    """Checks tables and collects what is wrong with them."""

    mistakes: list[str] = field(default_factory=list)

    def check(self, table: object, known: Mapping[str, type], where: str) -> Mapping[str, Any]:
        """Return the keys of a table that are as they should be."""
        if not isinstance(table, Mapping):
            self.mistakes.append(f"{where} must be a table")
            return {}
        self.mistakes += [
            f"{where}: unknown key {key} (known: {', '.join(known)})" for key in table if key not in known
        ]
        found = {key: value for key, value in table.items() if key in known}
        for key, value in list(found.items()):
            if not isinstance(value, known[key]) or (known[key] is int and isinstance(value, bool)):
                self.mistakes.append(f"{where}: {key} must be of type {known[key].__name__}, not {value!r}")
                del found[key]
        return found

    def network(self, text: str, where: str) -> IPv4Network:
        """Return a range, any one if the text is none."""
        try:
            return IPv4Network(text)
        except ValueError as error:
            self.mistakes.append(f"{where}: {error}")
            return IPv4Network("192.0.2.0/24")


def load(path: Path) -> Mapping[str, object]:
    """Read a file.

    Raises:
        MeshobsError: it cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MeshobsError(f"cannot read the mesh description {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise MeshobsError(f"{path} is not valid TOML: {error}") from error


def mesh_of(content: Mapping[str, object], name: str = "the mesh description") -> Mesh:
    """Return the mesh that a file's content describes; what it leaves out is as in the walkthrough.

    Raises:
        InputError: it has mistakes; all of them are named.
    """
    reader = _TableReader()
    top = reader.check(content, _TOP, "top level")
    tables = top.get("clusters") or {
        one.name: {"id": one.id, "pod_cidr": one.pod_cidr, "service_cidr": one.service_cidr}
        for one in _WALKTHROUGH.clusters
    }
    clusters = _clusters(reader, top, {key: reader.check(tables[key], _CLUSTER, f"clusters.{key}") for key in tables})
    names = tuple(cluster.name for cluster in clusters)
    workloads = tuple(workloads_of(reader, top.get("workloads"), names))
    apps = {workload.app for workload in workloads}
    services = tuple(services_of(reader, top.get("services"), names, apps))
    _check(reader, clusters, workloads)
    if reader.mistakes:
        raise InputError(f"{name}: {'; '.join(reader.mistakes)}")
    given = {key: top[key] for key in ("seed", "network") if key in top}
    return replace(_WALKTHROUGH, clusters=clusters, workloads=workloads, services=services, **given)


def extras(content: Mapping[str, object], mesh: Mesh, name: str) -> tuple[tuple[Workload, ...], tuple[Service, ...]]:
    """Return the workloads and services of a table that adds to a mesh.

    Raises:
        InputError: it has mistakes; all of them are named.
    """
    reader = _TableReader()
    names = tuple(cluster.name for cluster in mesh.clusters)
    workloads = tuple(workloads_of(reader, content.get("workloads", {}), names))
    apps = {workload.app for workload in (*mesh.workloads, *workloads)}
    services = tuple(services_of(reader, content.get("services", {}), names, apps))
    if reader.mistakes:
        raise InputError(f"{name}: {'; '.join(reader.mistakes)}")
    return workloads, services


def _clusters(
    reader: _TableReader, top: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]
) -> tuple[Cluster, ...]:
    network = reader.network(top.get("network", _WALKTHROUGH.network), "network")
    addresses = (str(one) for one in network.hosts())
    next(addresses, None)  # the bridge's
    pods = {name: str(table.get("pod_cidr", "")) for name, table in tables.items()}
    usual = _variant(reader, top.get("variant", NATIVE.name), "variant")
    found = []
    for number, (name, table) in enumerate(tables.items(), start=1):
        where = f"clusters.{name}"
        if not _NAME.fullmatch(name):
            reader.mistakes.append(f"{where}: a cluster is called by up to 32 of a-z, 0-9 and -")
        reader.mistakes += [f"{where}: {key} is missing" for key in ("pod_cidr", "service_cidr") if key not in table]
        own = reader.network(pods[name], f"{where}.pod_cidr") if pods[name] else IPv4Network("192.0.2.0/24")
        count = int(table.get("nodes", 2))
        room = 2 ** max(0, _NODE_BITS - own.prefixlen) if own.prefixlen <= _NODE_BITS else 0
        if not 1 <= count <= min(room, _MOST_NODES):
            reader.mistakes.append(f"{where}: {count} nodes do not fit into {own}, which has room for {room}")
            count = min(max(count, 0), room)
        settings = {key: table.get(key, top.get(key)) for key in ("cilium", "aggregation", "socket_lb", "ring")}
        given = {key: value for key, value in settings.items() if value is not None}
        _check_settings(reader, given, where)
        taken = [address for _, address in zip(range(count), addresses, strict=False)]
        others = [cidr for other, cidr in pods.items() if other != name and cidr]
        variant = _variant(reader, table["variant"], f"{where}.variant") if "variant" in table else usual
        nodes = nodes_of(name, count, str(own), taken)
        if variant.dual_stack:
            nodes = tuple(replace(one, address6=ipv6.on_link(one.address, str(network))) for one in nodes)
        spared = own if variant.has_masquerade_agent or variant.tunnels else _span(own, others)
        for key in ("native_routing_cidr", "non_masquerade_cidrs"):
            for cidr in [table[key]] if isinstance(table.get(key), str) else table.get(key, ()):
                reader.network(str(cidr), f"{where}.{key}")
        found.append(
            Cluster(
                name,
                int(table.get("id", number)),
                str(own),
                str(table.get("service_cidr", "")),
                nodes,
                str(table.get("native_routing_cidr", spared)),
                tuple(map(str, table.get("non_masquerade_cidrs", others))),
                variant=variant,
                **given,
            )
        )
    return tuple(found)


def _variant(reader: _TableReader, given: object, where: str) -> Variant:
    mistakes: list[str] = []
    found = variant_of(given, mistakes)
    reader.mistakes += [f"{where}: {one}" for one in mistakes]
    return found


def _span(own: IPv4Network, others: Iterable[str]) -> IPv4Network:
    """Return the smallest range that holds all clusters' pods: without ip-masq-agent only one range can be spared."""
    found = own
    for text in others:
        try:
            other = IPv4Network(text)
        except ValueError:
            continue  # told where that cluster is read
        while not other.subnet_of(found):
            found = found.supernet()
    return found


def workloads_of(reader: _TableReader, tables: Any, clusters: tuple[str, ...]) -> Iterator[Workload]:  # noqa: ANN401 - a user's
    """Return the workloads of a table; those of the walkthrough where there is none."""
    if tables is None:
        yield from (replace(one, clusters=clusters) for one in _WALKTHROUGH.workloads)
        return
    for name, one in tables.items():
        table = dict(reader.check(one, _WORKLOAD, f"workloads.{name}"))
        where = _where(reader, table, clusters, f"workloads.{name}")
        image = table.pop("image", versions.SERVER_IMAGE if table.get("port") else versions.CLIENT_IMAGE)
        yield Workload(name, table.pop("app", name), image, where, **table)


def services_of(reader: _TableReader, tables: Any, clusters: tuple[str, ...], apps: set[str]) -> Iterator[Service]:  # noqa: ANN401
    """Return the services of a table; that of the walkthrough where there is none."""
    if tables is None:
        yield from (replace(one, clusters=clusters) for one in _WALKTHROUGH.services)
        return
    for name, one in tables.items():
        table = dict(reader.check(one, _SERVICE, f"services.{name}"))
        where = _where(reader, table, clusters, f"services.{name}")
        annotations = dict(table.pop("annotations", {}))
        for key, annotation in ANNOTATIONS.items():
            if key in table:
                annotations[annotation] = str(table.pop(key)).lower()
        app = table.pop("app", name)
        if app not in apps:
            reader.mistakes.append(f"services.{name}: no workload has app {app}")
        yield Service(name, app, where, annotations=annotations, **table)


def _where(reader: _TableReader, table: dict[str, Any], clusters: tuple[str, ...], where: str) -> tuple[str, ...]:
    named = tuple(map(str, table.pop("clusters", clusters)))
    reader.mistakes += [f"{where}: there is no cluster {name}" for name in named if name not in clusters]
    return tuple(name for name in named if name in clusters)


def _check_settings(reader: _TableReader, given: Mapping[str, Any], where: str) -> None:
    if given.get("aggregation", "none") not in _LEVELS:
        reader.mistakes.append(f"{where}: aggregation must be one of {', '.join(_LEVELS)}")
    if not _RING.fullmatch(f"{given.get('ring', 1):b}") or given.get("ring", 1) > 65_535:  # noqa: PLR2004 - Cilium's own
        reader.mistakes.append(f"{where}: ring must be 2^n - 1 and at most 65535, as 4095")
    try:
        versions.parse(given.get("cilium", versions.CILIUM))
    except InputError as error:
        reader.mistakes.append(f"{where}: {error}")


def _check(reader: _TableReader, clusters: tuple[Cluster, ...], workloads: tuple[Workload, ...]) -> None:
    ids = [cluster.id for cluster in clusters]
    if len(set(ids)) < len(ids) or not all(0 < one < 256 for one in ids):  # noqa: PLR2004 - eight bits of an identity
        reader.mistakes.append("each cluster needs an id of its own from 1 to 255")
    ranges = [(f"{one.name}'s {key}", one, key) for one in clusters for key in ("pod_cidr", "service_cidr")]
    networks = [(label, reader.network(getattr(one, key), label)) for label, one, key in ranges if getattr(one, key)]
    for (first, one), (second, other) in combinations(networks, 2):
        if one.overlaps(other):
            reader.mistakes.append(f"{first} {one} and {second} {other} overlap")
    if len({cluster.variant.tunnels for cluster in clusters}) > 1:
        ways = ", ".join(f"{one.name} {'in a tunnel' if one.variant.tunnels else 'natively'}" for one in clusters)
        reader.mistakes.append(f"clusters must route alike to reach each other, not {ways}")
    for cluster in clusters:
        count = sum(one.replicas for one in workloads if cluster.name in one.clusters)
        room = _PODS_PER_NODE * len(cluster.nodes)
        if count > room:
            reader.mistakes.append(f"clusters.{cluster.name}: {count} pods do not fit on its nodes, which hold {room}")

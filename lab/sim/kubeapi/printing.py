"""Objects as the tables that kubectl prints: columns and cells as a real API server makes them. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from meshobs.lab.sim.kubeapi.kinds import ApiKind
from meshobs.lab.sim.kubeapi.objects.maker import Json
from meshobs.times import SECOND, nanoseconds

_NONE, _UNSET, _UNKNOWN = "<none>", "<unset>", "<unknown>"
# How many ports and endpoints of a slice are written out.
_SHOWN = 3
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


@dataclass(frozen=True)
class _Columns:
    """Columns between name and age, those after it, those of -o wide, and what is in them."""

    before: Sequence[str]
    cells: Callable[[Json], Sequence[object]]
    after: Sequence[str] = ()
    wide: Sequence[str] = ()


def is_asked(accept: str) -> bool:
    """Tell whether a client prefers a table."""
    return "as=Table" in accept.partition(",")[0] and "v=v1;" in f"{accept.partition(',')[0]};"


def table(api: ApiKind, items: Iterable[Json], metadata: Json, now: int) -> Json:
    """Return objects as a table.

    Args:
        api: their kind.
        items: the objects.
        metadata: of the list.
        now: for their age, in nanoseconds.
    """
    form = _FORMS.get(api.plural, _Columns((), lambda _item: ()))
    names = [("Name", 0), *((name, 0) for name in form.before), ("Age", 0)]
    names += [*((name, 0) for name in form.after), *((name, 1) for name in form.wide)]
    rows: list[Json] = []
    for item in items:
        cells = form.cells(item)
        first = [item["metadata"]["name"], *cells[: len(form.before)], age(item, now), *cells[len(form.before) :]]
        partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}
        rows.append({"cells": first, "object": partial})
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": [
            {
                "name": name,
                # Of numbers, too: so real servers say of these kinds.
                "type": "string",
                "format": "name" if name == "Name" else "",
                "description": "",
                "priority": priority,
            }
            for name, priority in names
        ],
        "rows": rows,
    }


def age(item: Json, now: int) -> str:
    """Return how long an object exists, as kubectl writes it."""
    created = nanoseconds(item["metadata"].get("creationTimestamp", ""))
    if created is None:
        return _UNKNOWN
    seconds = max(0, (now - created) // SECOND)
    minutes, hours, days = seconds // _MINUTE, seconds // _HOUR, seconds // _DAY
    # Until when a unit is enough, and which smaller one counts beside it until then.
    for end, text in (
        (2 * _MINUTE, f"{seconds}s"),
        (10 * _MINUTE, f"{minutes}m" + _rest(seconds % _MINUTE, "s")),
        (3 * _HOUR, f"{minutes}m"),
        (8 * _HOUR, f"{hours}h" + _rest(minutes % 60, "m")),
        (2 * _DAY, f"{hours}h"),
        (8 * _DAY, f"{days}d" + _rest(hours % 24, "h")),
    ):
        if seconds < end:
            return text
    return f"{days}d"


def _rest(number: int, unit: str) -> str:
    return f"{number}{unit}" if number else ""


def _service(item: Json) -> Sequence[object]:
    spec: Json = item["spec"]
    ports = ",".join(
        f"{port['port']}{':' + str(port['nodePort']) if 'nodePort' in port else ''}/{port['protocol']}"
        for port in spec["ports"]
    )
    return spec["type"], spec["clusterIP"], _NONE, ports, _labels(spec.get("selector"))


def _slice(item: Json) -> Sequence[object]:
    ports = [str(port["port"]) for port in item["ports"] or ()]
    addresses = [address for endpoint in item["endpoints"] or () for address in endpoint["addresses"]]
    return item["addressType"], _few(ports), _few(addresses)


def _pod(item: Json) -> Sequence[object]:
    containers: list[Json] = item["status"]["containerStatuses"]
    ready = f"{sum(one['ready'] for one in containers)}/{len(containers)}"
    status = "Terminating" if "deletionTimestamp" in item["metadata"] else item["status"]["phase"]
    restarts = str(sum(one["restartCount"] for one in containers))
    return ready, status, restarts, item["status"]["podIP"], item["spec"]["nodeName"], _NONE, _NONE


def _node(item: Json) -> Sequence[object]:
    info: Json = item["status"]["nodeInfo"]
    conditions = {one["type"]: one["status"] for one in item["status"]["conditions"]}
    role = "node-role.kubernetes.io/"
    roles = ",".join(sorted(name.removeprefix(role) for name in item["metadata"]["labels"] if name.startswith(role)))
    addresses = {one["type"]: one["address"] for one in item["status"]["addresses"]}
    system = (info[name] or _UNKNOWN for name in ("osImage", "kernelVersion", "containerRuntimeVersion"))
    status = "Ready" if conditions.get("Ready") == "True" else "NotReady"
    return status, roles or _NONE, info["kubeletVersion"], addresses.get("InternalIP", _NONE), _NONE, *system


def _deployment(item: Json) -> Sequence[object]:
    spec, status = item["spec"], item["status"]
    containers: list[Json] = spec["template"]["spec"]["containers"]
    named, images = (",".join(one[what] for one in containers) for what in ("name", "image"))
    counts = f"{status['readyReplicas']}/{spec['replicas']}", status["updatedReplicas"], status["availableReplicas"]
    return *counts, named, images, _labels(spec["selector"]["matchLabels"])


def _cilium_node(item: Json) -> Sequence[object]:
    addresses = {one["type"]: one["ip"] for one in item["spec"]["addresses"]}
    return addresses["CiliumInternalIP"], addresses["InternalIP"]


def _labels(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted((labels or {}).items())) or _NONE


def _few(texts: Sequence[str]) -> str:
    more = len(texts) - _SHOWN
    return (",".join(texts[:_SHOWN]) + (f" + {more} more..." if more > 0 else "")) or _UNSET


_FORMS = {
    "services": _Columns(("Type", "Cluster-IP", "External-IP", "Port(s)"), _service, wide=("Selector",)),
    "endpointslices": _Columns(("AddressType", "Ports", "Endpoints"), _slice),
    "pods": _Columns(("Ready", "Status", "Restarts"), _pod, wide=("IP", "Node", "Nominated Node", "Readiness Gates")),
    "nodes": _Columns(
        ("Status", "Roles"),
        _node,
        after=("Version",),
        wide=("Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"),
    ),
    "namespaces": _Columns(("Status",), lambda item: (item["status"]["phase"],)),
    "deployments": _Columns(
        ("Ready", "Up-to-date", "Available"), _deployment, wide=("Containers", "Images", "Selector")
    ),
    "configmaps": _Columns(("Data",), lambda item: (len(item["data"]),)),
    "ciliumnodes": _Columns(("CiliumInternalIP", "InternalIP"), _cilium_node),
}

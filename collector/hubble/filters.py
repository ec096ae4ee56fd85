"""Which flows to ask for: the hubble CLI's filter flags -> FlowFilter messages. Pure; tests compare with the real CLI.

A flag for either side (`--pod`) makes two filters, one for the source and one for the destination; values of one flag
are alternatives, different flags narrow each other. What `--not` negates goes to the denylist.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from google.protobuf import json_format

from meshobs.errors import InputError
from meshobs.pb.flow.flow_pb2 import FlowFilter, Verdict

# Flag -> the part of a filter's field name after source_ and destination_.
EITHER_SIDE = {
    "namespace": "pod",
    "pod": "pod",
    "ip": "ip",
    "port": "port",
    "service": "service",
    "cluster": "cluster_name",
}
ONE_SIDE = {"from-cluster": "source_cluster_name", "to-cluster": "destination_cluster_name"}
PLAIN = {"protocol": "protocol", "verdict": "verdict", "node-name": "node_name"}
FLAGS = (*EITHER_SIDE, *ONE_SIDE, *PLAIN)
_VERDICTS = list(Verdict.keys())[1:]
# Hubble cannot tell the address of a pod that is named from one that is given.
_APART = {("ip", "pod"), ("ip", "namespace")}


@dataclass(frozen=True)
class FilterFlag:
    """A filter flag as it was given."""

    flag: str
    value: str
    negated: bool = False


def build(
    given: Sequence[FilterFlag], allowlist: Sequence[str], denylist: Sequence[str]
) -> tuple[list[FlowFilter], list[FlowFilter]]:
    """Return allowlist and denylist.

    Args:
        given: the flags in their order.
        allowlist: raw filters in JSON.
        denylist: the same.

    Raises:
        InputError: a value is none of its flag's, or flags contradict each other.
    """
    allowed = _sides([one for one in given if not one.negated])
    denied = _sides([one for one in given if one.negated])
    return (
        allowed + [made for one in allowlist for made in _raw(one, "`allowlist`")],
        denied + [made for one in denylist for made in _raw(one, "`denylist`")],
    )


def text(filters: Iterable[FlowFilter]) -> str:
    """Return filters as one JSON text, empty for none: for the record, and to tell whether two runs asked alike."""
    found = [json_format.MessageToDict(one, preserving_proto_field_name=True) for one in filters]
    return json.dumps(found, sort_keys=True) if found else ""


def _sides(given: Sequence[FilterFlag]) -> list[FlowFilter]:
    values: dict[str, list[str]] = {}
    for one in given:
        values.setdefault(one.flag, []).append(_check(one))
    _refuse_contradictions(values)
    if not values:
        return []
    sides = ("source", "destination") if set(values) & set(EITHER_SIDE) else ("source",)
    filters = [_filter(side, values) for side in sides]
    return filters if len(filters) == 1 or filters[0] != filters[1] else filters[:1]


def _filter(side: str, values: dict[str, list[str]]) -> FlowFilter:
    made = FlowFilter()
    for flag in ("ip", "port", "cluster"):
        getattr(made, f"{side}_{EITHER_SIDE[flag]}").extend(values.get(flag, []))
    namespaces, pods, services = (values.get(flag, []) for flag in ("namespace", "pod", "service"))
    getattr(made, f"{side}_service").extend(_qualify(namespaces, services))
    getattr(made, f"{side}_pod").extend(_qualify(namespaces, pods or ([] if services or not namespaces else [""])))
    for flag, field in ONE_SIDE.items():
        getattr(made, field).extend(values.get(flag, []))
    made.protocol.extend(values.get("protocol", []))
    made.node_name.extend(values.get("node-name", []))
    made.verdict.extend(cast("list[Verdict]", [Verdict.Value(value) for value in values.get("verdict", [])]))
    return made


def _qualify(namespaces: list[str], names: list[str]) -> list[str]:
    """Return names in each of some namespaces; one that has its own keeps it, without namespaces all stay alike."""
    if not namespaces:
        return names
    return [full for name in names for full in ([name] if "/" in name else [f"{one}/{name}" for one in namespaces])]


def _refuse_contradictions(values: dict[str, list[str]]) -> None:
    """Refuse what nothing can fit, as the hubble CLI does."""
    for first, second in _APART:
        if first in values and second in values:
            raise InputError(f"`{first}` and `{second}` cannot be combined: Hubble knows a pod by name or by address")
    own = {flag: [name for name in values.get(flag, []) if "/" in name] for flag in ("pod", "service")}
    for flag, name in ((flag, name) for flag, names in own.items() for name in names):
        if set(values.get("namespace", [])) - {name.partition("/")[0]}:
            raise InputError(f"`{flag}` {name!r} names a namespace already: leave `namespace` out")
    for pod in own["pod"]:
        for service in values.get("service", []):
            if service.rpartition("/")[0] != pod.partition("/")[0]:
                raise InputError(f"`pod` {pod!r} and `service` {service!r} are not of one namespace")


def _check(given: FilterFlag) -> str:
    if given.flag == "verdict":
        name = given.value.upper()
        if name not in _VERDICTS:
            raise InputError(f"`verdict` {given.value!r} is none: choose of {', '.join(_VERDICTS)}")
        return name
    if given.flag == "port" and not (
        given.value.isascii() and given.value.isdecimal() and 0 < int(given.value) < 2**16
    ):
        raise InputError(f"`port` {given.value!r} is no port")
    return given.value


def _raw(text: str, flag: str) -> list[FlowFilter]:
    """Read filters that follow each other."""
    made: list[FlowFilter] = []
    rest = text.strip()
    try:
        while rest:
            if not rest.startswith("{"):
                raise InputError(f"{flag}: {text!r} is no FlowFilter in JSON: write it in braces")
            value, end = json.JSONDecoder().raw_decode(rest)
            made.append(json_format.ParseDict(value, FlowFilter()))
            rest = rest[end:].strip()
    except (json_format.ParseError, ValueError) as error:
        raise InputError(f"{flag}: {text!r} is no FlowFilter in JSON ({error})") from error
    return made

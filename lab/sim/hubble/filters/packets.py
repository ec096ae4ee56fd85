"""What a FlowFilter's fields ask of a packet: addresses, ports, protocol, what was seen of it and where. Pure.

As `conditions`, which is for its two ends.
"""

import ipaddress
import operator
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from meshobs.lab.sim.hubble.filters.endpoints import Compiler, Test, with_context
from meshobs.pb.flow.flow_pb2 import DROPPED, EventTypeFilter, Flow, TCPFlags

_PROTOCOLS = {
    "icmp": ("ICMPv4", "ICMPv6"),
    "icmpv4": ("ICMPv4",),
    "icmpv6": ("ICMPv6",),
    "tcp": ("TCP",),
    "udp": ("UDP",),
    "sctp": ("SCTP",),
}
_WITH_PORTS = {"TCP", "UDP", "SCTP"}
_APPLICATIONS = {"dns", "http", "kafka"}
_FLAGS = tuple(TCPFlags.DESCRIPTOR.fields_by_name)


def addresses(read: Callable[[Flow], str]) -> Compiler:
    """Compile addresses and CIDRs; a flow without the address fits none."""

    def compile_values(values: Sequence[str]) -> Test:
        single = {_address(value) for value in values if "/" not in value}
        networks = [_network(value) for value in values if "/" in value]

        def test(flow: Flow) -> bool:
            address = read(flow)
            if not address or address in single:
                return bool(address)
            return bool(networks) and any(ipaddress.ip_address(address) in network for network in networks)

        return test

    return compile_values


@cache  # each of many agents compiles the same list
def _address(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f'invalid IP address "{text}" in filter: ParseAddr("{text}"): unable to parse IP') from None
    return text


def _network(text: str) -> "ipaddress.IPv4Network | ipaddress.IPv6Network":
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f'invalid IP prefix "{text}" in filter: netip.ParsePrefix("{text}"): unable to parse prefix'
        ) from None


def ports(side: str) -> Compiler:
    """Compile one side's ports."""
    read = operator.attrgetter(f"{side}_port")

    def compile_values(values: Sequence[str]) -> Test:
        wanted = {_port(value) for value in values}

        def test(flow: Flow) -> bool:
            l4 = flow.l4
            kind = l4.WhichOneof("protocol")
            return kind in _WITH_PORTS and read(getattr(l4, kind)) in wanted

        return test

    return with_context(f"{side} port", compile_values)


def _port(value: str) -> int:
    if not re.fullmatch(r"[0-9]+", value):
        raise ValueError(f'invalid port "{value}": strconv.ParseUint: parsing "{value}": invalid syntax')
    if int(value) >= 2**16:
        raise ValueError(f'invalid port "{value}": strconv.ParseUint: parsing "{value}": value out of range')
    return int(value)


def protocols(values: Sequence[str]) -> Test:
    """Compile protocols of layer 4 and 7."""
    return with_context("protocol", _protocol_names)(values)


def _protocol_names(values: Sequence[str]) -> Test:
    layer4: set[str] = set()
    layer7: set[str] = set()
    for value in values:
        if value.lower() in _PROTOCOLS:
            layer4.update(_PROTOCOLS[value.lower()])
        elif value.lower() in _APPLICATIONS:
            layer7.add(value.lower())
        else:
            raise ValueError(f'unknown protocol: "{value}"')
    return lambda flow: flow.l4.WhichOneof("protocol") in layer4 or flow.l7.WhichOneof("record") in layer7


def event_types(values: Sequence[EventTypeFilter]) -> Test:
    """Compile types, with or without their subtypes."""
    wanted = [(one.type, one.sub_type if one.match_sub_type else None) for one in values]

    def test(flow: Flow) -> bool:
        if not flow.HasField("event_type"):
            return False
        event = flow.event_type
        return any(kind in {0, event.type} and sub in {None, event.sub_type} for kind, sub in wanted)

    return test


def replies(values: Sequence[bool]) -> Test:
    """Compile whether it is a reply."""
    wanted = set(values)

    def test(flow: Flow) -> bool:
        # A drop says nothing of it and counts as a request.
        return (flow.HasField("is_reply") or flow.verdict == DROPPED) and flow.is_reply.value in wanted

    return test


def flags(values: Sequence[TCPFlags]) -> Test:
    """Compile TCP flags; a flow may have others besides."""
    wanted = [[name for name in _FLAGS if getattr(one, name)] for one in values]

    def test(flow: Flow) -> bool:
        if not flow.l4.TCP.HasField("flags"):
            return False
        flags = flow.l4.TCP.flags
        return any(all(getattr(flags, name) for name in names) for names in wanted)

    return test


def interfaces(values: Sequence[Any]) -> Test:
    """Compile interfaces; what a filter leaves empty fits any."""
    wanted = [(one.index, one.name) for one in values]
    return lambda flow: (
        flow.HasField("interface")
        and any(index in {0, flow.interface.index} and name in {"", flow.interface.name} for index, name in wanted)
    )


def drop_reasons(values: Sequence[int]) -> Test:
    """Compile reasons; only drops have one."""
    wanted = set(values)
    return lambda flow: flow.verdict == DROPPED and flow.drop_reason_desc in wanted

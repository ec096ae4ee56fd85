"""Real Relays' own descriptors, read through gRPC's reflection, against ours: nothing that a Relay can say is unknown."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # type: ignore[import-untyped]
from support.relay_nodes import relay

from meshobs.pb.flow import flow_pb2
from meshobs.pb.observer import observer_pb2
from meshobs.pb.relay import relay_pb2

SERVICE = "observer.Observer"
# What ours, 1.19's, has more: messages and fields or values of older ones. A Relay of 1.17 never sends it.
NEWER: dict[str, set[str]] = {
    "hubble-relay-1.17": {
        ".flow.Aggregate.1", ".flow.Aggregate.2", ".flow.Aggregate.3", ".flow.Emitter.1", ".flow.Emitter.2",
        ".flow.Flow.21006", ".flow.Flow.21007", ".flow.Flow.39", ".flow.Flow.40", ".flow.Flow.41",
        ".flow.FlowFilter.39", ".flow.FlowFilter.40", ".flow.IGMP.1", ".flow.IGMP.2", ".flow.IPTraceID.1",
        ".flow.IPTraceID.2", ".flow.Layer4.6", ".flow.Layer4.7", ".flow.LostEvent.4", ".flow.LostEvent.5",
        ".flow.Tunnel.1", ".flow.Tunnel.2", ".flow.Tunnel.3", ".flow.Tunnel.4", ".flow.VRRP.1", ".flow.VRRP.2",
        ".flow.VRRP.3", ".flow.DebugEventType.67", ".flow.DebugEventType.68", ".flow.DropReason.205",
        ".flow.Tunnel.Protocol.0", ".flow.Tunnel.Protocol.1", ".flow.Tunnel.Protocol.2",
    },
    "hubble-relay-1.19": set(),
}  # fmt: skip


# What 1.19 has taken out of a request, where we never wrote it: no answer holds it.
GONE = {".observer.GetFlowsRequest.Experimental.1"}


@dataclass
class Api:
    """Files taken apart: what can be on the wire, by full name.

    Attributes:
        fields: message.number -> name, type, label, type's name, oneof, packed.
        values: enum.number -> name.
        methods: service.method -> what it takes, gives and streams.
    """

    fields: dict[str, tuple[object, ...]] = field(default_factory=dict)
    values: dict[str, set[str]] = field(default_factory=dict)
    methods: dict[str, tuple[object, ...]] = field(default_factory=dict)

    def add(self, file: FileDescriptorProto) -> None:
        """Add all that a file declares."""
        for message in file.message_type:
            self._message(f".{file.package}", message)
        for enum in file.enum_type:
            self._enum(f".{file.package}", enum)
        for service in file.service:
            for method in service.method:
                streams = method.client_streaming, method.server_streaming
                name = f".{file.package}.{service.name}.{method.name}"
                self.methods[name] = (method.input_type, method.output_type, *streams)

    def _message(self, scope: str, message: DescriptorProto) -> None:
        name = f"{scope}.{message.name}"
        for one in message.field:
            oneof = message.oneof_decl[one.oneof_index].name if one.HasField("oneof_index") else None
            kind = (one.name, one.type, one.label, one.type_name, oneof, packed(one))
            self.fields[f"{name}.{one.number}"] = kind
        for inner in message.nested_type:
            self._message(name, inner)
        for enum in message.enum_type:
            self._enum(name, enum)

    def _enum(self, scope: str, enum: EnumDescriptorProto) -> None:
        for value in enum.value:
            self.values.setdefault(f"{scope}.{enum.name}.{value.number}", set()).add(value.name)


def packed(one: Any) -> bool | None:
    """Return whether a list of numbers is said to be packed; None where nothing is said, as all are in proto3."""
    return bool(one.options.packed) if one.options.HasField("packed") else None


def of_relay(address: str) -> list[FileDescriptorProto]:
    """Return the files of a Relay's API and all that they import, protobuf's own left out."""
    with grpc.insecure_channel(address) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)

        def ask(**request: Any) -> Any:
            requests = iter([reflection_pb2.ServerReflectionRequest(**request)])
            return next(iter(stub.ServerReflectionInfo(requests, timeout=30)))

        found = {one.name: one for one in files(ask(file_containing_symbol=SERVICE))}
        while missing := {name for one in found.values() for name in one.dependency if name not in found}:
            for name in missing:
                found.update({one.name: one for one in files(ask(file_by_filename=name))})
    return [one for one in found.values() if one.package != "google.protobuf"]


def files(answer: Any) -> Iterator[FileDescriptorProto]:
    """Yield the files in an answer."""
    assert not answer.HasField("error_response"), answer
    for raw in answer.file_descriptor_response.file_descriptor_proto:
        yield FileDescriptorProto.FromString(raw)


def ours() -> Api:
    """Return our own messages."""
    made = Api()
    for module in (flow_pb2, relay_pb2, observer_pb2):
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        made.add(file)
    return made


@pytest.mark.parametrize("version", NEWER)
def test_all_that_a_relay_can_send_is_ours(version: str, program: Callable[[str], Path], tmp_path: Path) -> None:
    """Each field, enum value and method that it has is ours alike; what ours has more is listed."""
    theirs = Api()
    with relay(program(version), [], tmp_path) as process:
        for file in of_relay(process.address):
            theirs.add(file)
    mine = ours()

    assert (len(theirs.fields) > 250, len(theirs.values) > 200, len(theirs.methods) >= 4) == (True, True, True)
    gone = {name for name in theirs.fields if name not in mine.fields}
    assert gone == (GONE if version == "hubble-relay-1.17" else set())
    assert {name: mine.fields[name] for name in theirs.fields if name not in gone} == {
        name: kind for name, kind in theirs.fields.items() if name not in gone
    }
    assert {name: mine.values.get(name) for name in theirs.values} == theirs.values
    assert {name: mine.methods.get(name) for name in theirs.methods} == theirs.methods
    assert (mine.fields.keys() | mine.values.keys()) - theirs.fields.keys() - theirs.values.keys() == NEWER[version]

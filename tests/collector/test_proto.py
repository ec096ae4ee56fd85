"""Our own .proto files are Hubble's API: every message, field, number, type and enum value of 1.19.4."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from support.recordings import TESTS

from meshobs.pb.flow import flow_pb2
from meshobs.pb.observer import observer_pb2
from meshobs.pb.peer import peer_pb2
from meshobs.pb.relay import relay_pb2

API: dict[str, Any] = json.loads((TESTS / "data" / "hubble-api.json").read_text())["packages"]
FILES = {"flow": flow_pb2, "relay": relay_pb2, "observer": observer_pb2, "peer": peer_pb2}
TYPES = {getattr(FieldDescriptor, name): name[5:].lower() for name in dir(FieldDescriptor) if name.startswith("TYPE_")}


def described(field: FieldDescriptor) -> dict[str, Any]:
    """Return a field as hubble-api.json describes it."""
    kind = TYPES[field.type]
    named = field.message_type or field.enum_type
    return {
        "name": field.name,
        "json_name": field.json_name,
        "number": field.number,
        "type": kind,
        "label": "repeated" if field.is_repeated else "optional",
        "type_name": named.full_name if named else None,
        "oneof": field.containing_oneof.name if field.containing_oneof else None,
    }


def everything(module: Any) -> tuple[dict[str, Descriptor], dict[str, EnumDescriptor]]:
    """Return all messages and enums of a file, nested ones included."""
    messages: dict[str, Descriptor] = {}
    enums = {enum.full_name: enum for enum in module.DESCRIPTOR.enum_types_by_name.values()}

    def add(message: Descriptor) -> None:
        messages[message.full_name] = message
        enums.update({enum.full_name: enum for enum in message.enum_types})
        for inner in message.nested_types:
            add(inner)

    for message in module.DESCRIPTOR.message_types_by_name.values():
        add(message)
    return messages, enums


@pytest.mark.parametrize("package", FILES)
def test_messages(package: str) -> None:
    """Names, numbers, types, labels, JSON names and oneofs of all fields are Hubble's."""
    messages, _ = everything(FILES[package])
    keys = ("name", "json_name", "number", "type", "label", "type_name", "oneof")
    expected = {
        name: sorted(
            ({key: field.get(key) for key in keys} for field in message["fields"]), key=lambda field: field["number"]
        )
        for name, message in API[package]["messages"].items()
    }

    found = {
        name: sorted((described(field) for field in message.fields), key=lambda field: field["number"])
        for name, message in messages.items()
    }

    assert len(found) > 0
    assert expected == found


@pytest.mark.parametrize("package", FILES)
def test_enums(package: str) -> None:
    """Every enum value has Hubble's name and number."""
    _, enums = everything(FILES[package])
    expected = {
        name: {value["name"]: value["number"] for value in enum["values"]}
        for name, enum in API[package]["enums"].items()
    }

    found = {name: {value.name: value.number for value in enum.values} for name, enum in enums.items()}

    assert expected == found


def test_services() -> None:
    """Every method takes, gives and streams what Hubble's does."""
    expected = {
        name: {
            method["name"]: (
                method["request"],
                method["response"],
                method["client_streaming"],
                method["server_streaming"],
            )
            for method in methods
        }
        for package in FILES
        for name, methods in API[package]["services"].items()
    }

    found = {
        service.full_name: {
            method.name: (
                method.input_type.full_name,
                method.output_type.full_name,
                method.client_streaming,
                method.server_streaming,
            )
            for method in service.methods
        }
        for module in FILES.values()
        for service in module.DESCRIPTOR.services_by_name.values()
    }

    assert len(found) == 2
    assert expected == found


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    """`make proto` gives the committed meshobs/pb."""
    root = TESTS.parent
    spec = importlib.util.spec_from_file_location("generate", root / "proto" / "generate.py")
    assert spec
    assert spec.loader
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)

    generate.generate(tmp_path)

    made = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*_pb2.py*")}
    committed = root / "meshobs" / "pb"
    assert made == {str(path.relative_to(committed)): path.read_text() for path in committed.rglob("*_pb2.py*")}
    assert len(made) == 8

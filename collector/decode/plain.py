"""The plain protobuf decoder: slow, obvious, and what the fast one is held against (tests/collector/test_decode.py)."""

from functools import cache
from typing import TYPE_CHECKING

import pyarrow as pa
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from meshobs.collector.decode import fields
from meshobs.times import SECOND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.descriptor import FieldDescriptor

# What the fast decoder does with times that 64 bits of nanoseconds cannot hold.
FIRST_NS, LAST_NS = -(2**63), 2**63 - 1


def fault(message: bytes) -> str | None:
    """Return why bytes are no GetFlowsResponse, None if they are one."""
    try:
        _message_class().FromString(message)
    except DecodeError as error:
        return str(error)
    return None


def decode(messages: list[bytes], schema: pa.Schema) -> pa.RecordBatch:
    """Decode readable messages to the given schema.

    Raises:
        DecodeError: one of them is not readable.
    """
    rows = [_values(_message_class().FromString(message)) for message in messages]
    return pa.RecordBatch.from_pylist(rows, schema=schema)


@cache
def _message_class() -> type[Message]:
    message_class: type[Message] = GetMessageClass(fields.message_type())
    return message_class


def _values(message: Message) -> dict[str, object]:
    descriptors: Sequence[FieldDescriptor] = message.DESCRIPTOR.fields  # pyright: ignore[reportAssignmentType] - upb has a class of its own
    return {field.name: _value(message, field) for field in descriptors}


def _value(message: Message, field: "FieldDescriptor") -> object:
    value = getattr(message, field.name)
    if fields.is_repeated(field):
        return [_values(item) if isinstance(item, Message) else item for item in value]
    if field.message_type is None:
        return value
    if not message.HasField(field.name):
        return None
    if field.message_type.full_name == "google.protobuf.Timestamp":
        return min(max(value.seconds * SECOND + value.nanos, FIRST_NS), LAST_NS)
    if field.message_type.full_name.startswith("google.protobuf."):
        return value.value
    return _values(value)

"""How a JSON line of Hubble becomes the same columns as a protobuf message: one SQL expression, made from the fields.

Keys may be proto names (`node_name`, as the hubble CLI writes) or camelCase (`nodeName`, as other writers do); enums
may be names or numbers. An absent scalar is protobuf's default, an absent message is null.
"""

import json
from functools import cache
from typing import TYPE_CHECKING

from google.protobuf.descriptor import FieldDescriptor

from meshobs.collector.decode import fields

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

_SCALARS = {
    FieldDescriptor.TYPE_BOOL: ("BOOLEAN", "false"),
    FieldDescriptor.TYPE_STRING: ("VARCHAR", "''"),
    FieldDescriptor.TYPE_INT32: ("INTEGER", "0"),
    FieldDescriptor.TYPE_UINT32: ("UINTEGER", "0"),
    FieldDescriptor.TYPE_UINT64: ("UBIGINT", "0"),
    # Names and numbers both fit; name_of_text tells them apart.
    FieldDescriptor.TYPE_ENUM: ("VARCHAR", "'0'"),
}
_WELL_KNOWN = {
    # In one of several forms; the macro json_moment tells them apart.
    "google.protobuf.Timestamp": "VARCHAR",
    "google.protobuf.BoolValue": "BOOLEAN",
    "google.protobuf.Int32Value": "INTEGER",
}


@cache
def structure(field: str = "") -> str:
    """Return the JSON shape for DuckDB's `json_transform`: of a whole line, or of one field of it."""
    return json.dumps(_shape(_message(field) if field else fields.message_type()))


@cache
def expression(field: str, source: str) -> str:
    """Return SQL for the columns of one field of the line, `source` being that field as `json_transform` gave it."""
    return _struct(_message(field), source)


def _message(field: str) -> "Descriptor":
    message = fields.message_type().fields_by_name[field].message_type
    if message is None:
        raise TypeError(f"{field} is no message")
    return message


def _shape(message: "Descriptor") -> object:
    return {spelling: _field_shape(field) for field in message.fields for spelling in _spellings(field)}


def _field_shape(field: FieldDescriptor) -> object:
    if field.message_type is None:
        shape: object = _SCALARS[field.type][0]
    else:
        shape = _WELL_KNOWN.get(field.message_type.full_name) or _shape(field.message_type)
    return [shape] if fields.is_repeated(field) else shape


def _spellings(field: FieldDescriptor) -> list[str]:
    return list(dict.fromkeys((field.name, field.json_name)))


def _struct(message: "Descriptor", source: str) -> str:
    parts = [f'"{field.name}" := {_column(field, source)}' for field in message.fields]
    return f"case when {source} is not null then struct_pack({', '.join(parts)}) end"


def _column(field: FieldDescriptor, source: str) -> str:
    values = [f'{source}."{spelling}"' for spelling in _spellings(field)]
    value = values[0] if len(values) == 1 else f"coalesce({', '.join(values)})"
    if fields.is_repeated(field):
        return f"coalesce({value}, [])"
    if field.message_type is None:
        return f"coalesce({value}, {_SCALARS[field.type][1]})"
    if field.message_type.full_name == "google.protobuf.Timestamp":
        return f"json_moment({value})"
    if field.message_type.full_name in _WELL_KNOWN:
        return value
    if len(values) > 1:  # the two spellings have the same shape; one of them is null
        return f"coalesce({', '.join(_struct(field.message_type, one) for one in values)})"
    return _struct(field.message_type, value)

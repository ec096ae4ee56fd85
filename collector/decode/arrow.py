"""Raw GetFlowsResponse bytes -> one Arrow batch, in Rust (ptars): no Python per flow.

ptars refuses a whole list when one message is broken. Then `reference.py`, the same in plain protobuf, finds which.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import ptars
import pyarrow as pa

from meshobs.collector.decode import fields, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.descriptor import Descriptor
    from ptars._lib import MessageHandler


@dataclass(frozen=True)
class Decoded:
    """A decoded list of messages.

    Attributes:
        batch: the readable messages in order, columns as `fields.message_type()`.
        positions: for each row of `batch`, its index in the list.
        broken: index in the list and the reason, of each message that is no GetFlowsResponse.
    """

    batch: pa.RecordBatch
    positions: "Sequence[int]"
    broken: list[tuple[int, str]]


def decode(messages: list[bytes]) -> Decoded:
    """Decode messages; broken ones are named, not raised."""
    try:
        batch = _handler().list_to_record_batch(messages)
    except ValueError:
        return _one_by_one(messages)
    return Decoded(batch, range(len(messages)), [])


def schema() -> pa.Schema:
    """Return the schema that every decoded batch has."""
    return _handler().list_to_record_batch([]).schema


def decode_seen(messages: list[bytes]) -> pa.RecordBatch | None:
    """Decode what tells whether flows decide (fields.SEEN), in half the time; None where a message is broken."""
    try:
        return _seen_handler().list_to_record_batch(messages)
    except ValueError:
        return None


def _one_by_one(messages: list[bytes]) -> Decoded:
    broken = [(index, reason) for index, message in enumerate(messages) if (reason := plain.fault(message))]
    bad = {index for index, _ in broken}
    positions = [index for index in range(len(messages)) if index not in bad]
    readable = [messages[index] for index in positions]
    try:
        batch = _handler().list_to_record_batch(readable)
    except ValueError:  # ptars cannot read what protobuf can
        batch = plain.decode(readable, schema())
    return Decoded(batch, positions, broken)


# Arrow's own allocators keep what they once had; the system's gives it back.
pa.set_memory_pool(pa.system_memory_pool())


@cache
def _handler() -> "MessageHandler":
    return _handler_of(fields.message_type())


@cache
def _seen_handler() -> "MessageHandler":
    return _handler_of(fields.seen_type())


def _handler_of(descriptor: "Descriptor") -> "MessageHandler":
    # With a time zone DuckDB would take the times as microseconds.
    config = ptars.PtarsConfig(timestamp_tz=None)
    return ptars.HandlerPool([descriptor.file], config).get_for_message(descriptor)

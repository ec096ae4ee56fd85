"""Arrow tables as plain values: what JSON, tables for people and judgements are made of. Pure."""

import math
from typing import TYPE_CHECKING, cast

from meshobs.times import rfc3339

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_NANOSECONDS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


def frame_of(table: "pa.Table") -> "pl.DataFrame":
    """Return a table as a frame."""
    import polars as pl  # noqa: PLC0415 - slow to load, and commands do without

    return cast("pl.DataFrame", pl.from_arrow(table))


def values(table: "pa.Table") -> list[dict[str, object]]:
    """Return a table's rows with times as RFC 3339 and no number that JSON does not know."""
    columns = [_column(column) for column in table.columns]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _column(column: "pa.ChunkedArray") -> list[object]:
    import pyarrow as pa  # noqa: PLC0415 - only where a table exists

    try:
        if pa.types.is_timestamp(column.type):
            scale = _NANOSECONDS[column.type.unit]
            moments = column.cast(pa.int64()).to_pylist()
            return [None if moment is None else rfc3339(moment * scale) for moment in moments]
        found = column.cast(_readable(column.type), safe=False).to_pylist()
    except (ValueError, OverflowError):  # a time that Python does not know
        return list(column.cast(pa.string()).to_pylist())
    return [None if isinstance(value, float) and not math.isfinite(value) else value for value in found]


def _readable(kind: "pa.DataType") -> "pa.DataType":
    """Return the type without nanoseconds inside, which Python's times do not know."""
    import pyarrow as pa  # noqa: PLC0415

    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if pa.types.is_list(kind):
        return pa.list_(_readable(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_readable(field.type)) for field in kind])
    return kind

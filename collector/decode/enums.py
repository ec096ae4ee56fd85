"""Names of Hubble's enums in SQL: a macro for each, `verdict_name(VALUE)` for Verdict.

Values are numbers, as protobuf has them, or names or numbers in text, as JSON has them. Numbers that nobody has named
yet stay digits; the enum's zero, which says "unknown", becomes null.
"""

import re

from meshobs.collector.decode import fields


def macros() -> str:
    """Return the SQL that makes the macros of all wanted enums."""
    return "".join(map(_macro, fields.ENUMS))


def _macro(enum: str) -> str:
    names = fields.enum_names(enum)
    listed = ", ".join("null" if name is None else f"'{name}'" for name in names)
    number = "try_cast(value as bigint)"
    known = f"if({number} between 0 and {len(names) - 1}, list_extract([{listed}], {number}::int + 1), null)"
    text = f"nullif(coalesce({known}, value::varchar), '{names[0]}')"
    return f"create or replace temp macro {_name_macro(enum)}(value) as {text};\n"


def _name_macro(enum: str) -> str:
    """Return the name of an enum's macro: `flow.TraceReason` -> `trace_reason_name`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.rsplit(".", 1)[-1])
    return f"{words.lower()}_name"

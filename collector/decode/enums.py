"""Names of Hubble's enums in SQL: `enum_text('Verdict', VALUE)` of an ingest file becomes an expression.

Numbers that nobody has named yet stay digits; the enum's zero, which says "unknown", becomes null.
"""

import re

from meshobs.collector.decode import fields

_CALL = re.compile(r"enum_text\('(\w+)', ([\w.]+)\)")


def fill_numbers(sql: str) -> str:
    """Fill in for values that are numbers, as protobuf has them."""
    return _fill(sql, "{value}::bigint", "{value}::varchar")


def fill_texts(sql: str) -> str:
    """Fill in for values that are names or numbers in text, as JSON has them."""
    return _fill(sql, "try_cast({value} as bigint)", "{value}")


def _fill(sql: str, number: str, text: str) -> str:
    def expression(call: re.Match[str]) -> str:
        enum, value = call.groups()
        names = fields.enum_names(next(name for name in fields.ENUMS if name.endswith(f".{enum}")))
        listed = ", ".join("null" if name is None else f"'{name}'" for name in names)
        at = number.format(value=value)
        known = f"if({at} >= 0, list_extract([{listed}], {at} + 1), null)"
        return f"nullif(coalesce({known}, {text.format(value=value)}), '{names[0]}')"

    return _CALL.sub(expression, sql)

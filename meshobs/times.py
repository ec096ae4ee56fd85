"""Times as nanoseconds since 1970 UTC, which is what Hubble counts in; Python's datetime would lose three digits."""

import re
from datetime import UTC, datetime

SECOND = 10**9
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:?\d\d)?")


def nanoseconds(text: str) -> int | None:
    """Return an RFC 3339 time (no zone: UTC) as nanoseconds, None if it is none."""
    match = _RFC3339.fullmatch(text.strip())
    if not match:
        return None
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in (None, 'Z', 'z') else zone}")
    except ValueError:
        return None
    return int(moment.timestamp()) * SECOND + int((fraction or "").ljust(9, "0"))


def rfc3339(nanoseconds: int) -> str:
    """Return a time as RFC 3339 with nine digits, in UTC."""
    seconds, rest = divmod(nanoseconds, SECOND)
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"

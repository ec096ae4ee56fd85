"""Times as nanoseconds since 1970 UTC, which is what Hubble counts in; Python's datetime would lose three digits."""

import re
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from meshobs.errors import InputError

SECOND = 10**9
# A time (text: RFC 3339, UTC where no zone is given) or how long ago (text: `90s`, `5m`, `1h30m`, `2d`).
Moment: TypeAlias = str | datetime | timedelta
# A length of time; a number is seconds, a text `90s`, `5m`, `1h30m`, `2d`.
Length: TypeAlias = str | timedelta | float

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:?\d\d)?")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
# A century: what is longer is a mistake, and soon more than the database can count back.
_LONGEST = timedelta(days=36_500)
# So much of a wrong duration is repeated.
_SHOWN = 40
# The whole years that 64 bits of nanoseconds hold.
FIRST_MOMENT, END_OF_MOMENTS = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * SECOND for year in (1678, 2262))


class MomentError(InputError):
    """A value is no time that a flow could have."""


class DurationError(InputError):
    """A value is no length of time."""


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


def possible_moment(text: str) -> int | None:
    """Return an RFC 3339 time as nanoseconds, None if it is none or not from 1678 to 2261, what a database can hold."""
    found = nanoseconds(text)
    return found if found is not None and FIRST_MOMENT <= found < END_OF_MOMENTS else None


def rfc3339(nanoseconds: int) -> str:
    """Return a time as RFC 3339 with nine digits, in UTC."""
    seconds, rest = divmod(nanoseconds, SECOND)
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def instant(value: Moment) -> int:
    """Return a moment as nanoseconds.

    Args:
        value: a time (a day alone is its first moment; UTC where no zone is given), or how long ago.

    Raises:
        MomentError: it is neither, or beyond what the database can hold (1678 to 2261).
        InputError: it is longer ago than a century.
    """
    if isinstance(value, timedelta) and value >= timedelta():
        return _ago(_check_length(value, str(value)))
    found: int | None = None
    if isinstance(value, datetime):
        found = _of_datetime(value)
    elif isinstance(value, str):
        found = nanoseconds(f"{value}T00:00:00" if re.fullmatch(r"\d{4}-\d\d-\d\d", value) else value)
        if found is None and (ago := duration(value)) is not None:
            return _ago(ago)
    if found is None:
        raise MomentError(f"{value!r} is neither a time (2026-03-01T10:00:00Z) nor how long ago (5m, 1h30m, 2d)")
    if not FIRST_MOMENT <= found < END_OF_MOMENTS:
        raise MomentError(f"{str(value)!r} is no time of a flow: give one from 1678 to 2261")
    return found


def seconds(value: Length) -> float:
    """Return a length of time in seconds.

    Raises:
        DurationError: it is none, or not longer than nothing.
        InputError: it is longer than a century.
    """
    if isinstance(value, str):
        found = duration(value)
    elif isinstance(value, timedelta):
        found = _check_length(value, str(value))
    else:
        found = _check_length(timedelta(seconds=value), str(value)) if abs(value) <= _LONGEST.total_seconds() else None
    if found is None or found <= timedelta():
        raise DurationError(f"{value!r} is no duration: write 90s, 5m, 1h30m")
    return found.total_seconds()


def duration(text: str) -> timedelta | None:
    """Return a duration such as `1h30m`, None if the text is none.

    Raises:
        InputError: it is longer than a century.
    """
    match = _DURATION.fullmatch(text)
    if not match or not text:
        return None
    try:
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        found = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except (OverflowError, ValueError):  # more days than a timedelta has, more digits than int() reads
        found = timedelta.max
    return _check_length(found, text)


def _check_length(length: timedelta, text: str) -> timedelta:
    if length > _LONGEST:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        raise InputError(f"the duration {shown!r} is too long: give at most {_LONGEST.days}d")
    return length


def _ago(length: timedelta) -> int:
    return int((datetime.now(tz=UTC) - length).timestamp()) * SECOND


def _of_datetime(value: datetime) -> int:
    """Return a datetime as nanoseconds; its timestamp() would lose microseconds."""
    since = (value if value.tzinfo else value.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since // timedelta(microseconds=1)) * 1000

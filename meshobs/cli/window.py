"""`--since`, `--until`, `--all`: what the user writes -> times that the queries understand."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from meshobs.errors import InputError
from meshobs.times import SECOND, nanoseconds, rfc3339

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
# A century: what is longer is a mistake, and soon more than the database can count back.
_LONGEST = timedelta(days=36_500)
# So much of a wrong duration is repeated.
_SHOWN = 40
# The whole years that 64 bits of nanoseconds hold.
_FIRST, _END = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * SECOND for year in (1678, 2262))


class Moment(click.ParamType[str]):
    """A time (RFC 3339, UTC where no zone is given) or how long ago (`90s`, `5m`, `1h30m`, `2d`)."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the time as RFC 3339 in UTC."""
        moment = nanoseconds(f"{value}T00:00:00" if re.fullmatch(r"\d{4}-\d\d-\d\d", value) else value)
        if moment is not None:
            if not _FIRST <= moment < _END:
                self.fail(f"{value!r} is no time of a flow: give one from 1678 to 2261", param, ctx)
            return rfc3339(moment)
        ago = duration(value)
        if ago is None:
            self.fail(
                f"{value!r} is neither a time (2026-03-01T10:00:00Z) nor how long ago (5m, 1h30m, 2d)", param, ctx
            )
        return rfc3339(int((datetime.now(tz=UTC) - ago).timestamp()) * SECOND)


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
    if found > _LONGEST:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        raise InputError(f"the duration {shown!r} is too long: give at most {_LONGEST.days}d")
    return found


def check_window(since: str | None, until: str | None, *, whole: bool) -> None:
    """Refuse options that contradict each other; times as Moment gives them.

    Raises:
        InputError: it says which options to mend.
    """
    if whole and (since or until):
        raise InputError("--all is the whole database: leave it out, or leave out --since and --until")
    if since and until and until <= since:
        raise InputError("--until is not later than --since: nothing lies between them, give a later --until")


def window_options(function: Any) -> Any:  # noqa: ANN401 - click's decorators take any function
    """Add the options that choose a window."""
    options = (
        click.option("--since", type=Moment(), help="Start of the window: a time, or how long ago (5m, 1h30m, 2d)."),
        click.option("--until", type=Moment(), help="End of the window, as --since; not part of it."),
        click.option("--all", "whole", is_flag=True, help="The whole database."),
    )
    for option in reversed(options):
        function = option(function)
    return function

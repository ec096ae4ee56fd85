"""`--since`, `--until`, `--all`: what the user writes -> times that the queries understand."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from meshobs.times import SECOND, nanoseconds, rfc3339

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


class Moment(click.ParamType[str]):
    """A time (RFC 3339, UTC where no zone is given) or how long ago (`90s`, `5m`, `1h30m`, `2d`)."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the time as RFC 3339 in UTC."""
        moment = nanoseconds(f"{value}T00:00:00" if re.fullmatch(r"\d{4}-\d\d-\d\d", value) else value)
        if moment is not None:
            return rfc3339(moment)
        ago = duration(value)
        if ago is None:
            self.fail(
                f"{value!r} is neither a time (2026-03-01T10:00:00Z) nor how long ago (5m, 1h30m, 2d)", param, ctx
            )
        return rfc3339(int((datetime.now(tz=UTC) - ago).timestamp()) * SECOND)


def duration(text: str) -> timedelta | None:
    """Return a duration such as `1h30m`, None if the text is none."""
    match = _DURATION.fullmatch(text)
    if not match or not text:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


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

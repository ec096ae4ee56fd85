"""`--since`, `--until`, `--all`: what the user writes -> times that the queries understand."""

import click
from click.decorators import FC

from meshobs.times import MomentError, instant, rfc3339


class Moment(click.ParamType[str]):
    """A time (RFC 3339, UTC where no zone is given) or how long ago (`90s`, `5m`, `1h30m`, `2d`)."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the time as RFC 3339 in UTC."""
        try:
            return rfc3339(instant(value))
        except MomentError as error:
            self.fail(str(error), param, ctx)


def window_options(function: FC) -> FC:
    """Add the options that choose a window."""
    options = (
        click.option("--since", type=Moment(), help="Start of the window: a time, or how long ago (5m, 1h30m, 2d)."),
        click.option("--until", type=Moment(), help="End of the window, as --since; not part of it."),
        click.option("--all", "whole", is_flag=True, help="The whole database."),
    )
    for option in reversed(options):
        function = option(function)
    return function

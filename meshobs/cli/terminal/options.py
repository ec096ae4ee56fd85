"""Options that a command takes together, as one value."""

from collections.abc import Callable, Iterable
from functools import wraps
from typing import TypeAlias

# What click's decorators make a command of.
Command: TypeAlias = Callable[..., None]


def gather(name: str, build: Callable[..., object], options: Iterable[str]) -> Callable[[Command], Command]:
    """Return a decorator that hands some options to a command as one argument.

    Args:
        name: of the argument.
        build: makes its value of what click read, by keyword.
        options: the names by which click passes them.
    """
    names = tuple(options)

    def decorate(function: Command) -> Command:
        @wraps(function)
        def command(*arguments: object, **given: object) -> None:
            value = build(**{key: given.pop(key) for key in names})
            function(*arguments, **given, **{name: value})

        return command

    return decorate

"""The step under way of what takes long, on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


@contextmanager
def show_step() -> Iterator[Callable[[str], None]]:
    """Give what shows the step under way with its time, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _text: None
        return
    shown = _Shown()
    try:
        yield shown
    finally:
        shown("")


class _Shown:
    """Shows one text at a time with a spinner; loads rich for the first."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def __call__(self, text: str) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None
        if text:
            from rich.console import Console  # noqa: PLC0415 - rich is slow to load
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
            self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self._progress.add_task(text, total=None)
            self._progress.start()

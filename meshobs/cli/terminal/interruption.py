"""Ctrl-C and SIGTERM: the first one ends what runs in order, the second one at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_on_interrupt(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a collection in order; a second one ends it at once.

    Args:
        stop: set to end it.
    """

    def interrupt(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

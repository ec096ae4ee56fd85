"""What wakes a reader: something was written to one of its rings, or its call is over."""

import threading
from collections import deque


class WakeupHook:
    """Says that one source has something new. Rung often, it queues once: a reader that is late costs nothing."""

    __slots__ = ("_wakeup", "name", "rung")

    def __init__(self, wakeup: "Wakeup", name: str) -> None:
        self.name = name
        self.rung = False
        self._wakeup = wakeup

    def __call__(self) -> None:
        """Ring."""
        if not self.rung:
            self.rung = True
            self._wakeup.queue.append(self)
            self._wakeup.wake()


class Wakeup:
    """One reader's.

    Attributes:
        over: the call has ended; whoever reads stops.
    """

    def __init__(self) -> None:
        self.over = False
        self.queue: deque[WakeupHook] = deque()
        self._event = threading.Event()

    def end(self) -> None:
        """Wake the reader for the last time."""
        self.over = True
        self._event.set()

    def wake(self) -> None:
        """Wake the reader."""
        self._event.set()

    def wait(self, seconds: float | None) -> None:
        """Wait until something is new."""
        if not self.queue and not self.over:
            self._event.wait(seconds)
        self._event.clear()

    def take_sources(self) -> list[WakeupHook]:
        """Return what is new since the last call, each once; what comes while it is read rings again."""
        found = []
        while self.queue:
            hook = self.queue.popleft()
            hook.rung = False
            found.append(hook)
        return found

"""What happens when: actions at moments, run in order. The same for real time and for time that is skipped."""

import heapq
import itertools
from collections.abc import Callable


class Timeline:
    """Actions that wait for their moment, nanoseconds."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, Callable[[int], None]]] = []
        self._order = itertools.count()

    @property
    def next(self) -> int | None:
        """Return when the next action is due, None if nothing waits."""
        return self._waiting[0][0] if self._waiting else None

    def at(self, moment: int, action: Callable[[int], None]) -> None:
        """Let an action happen; it is called with its moment."""
        heapq.heappush(self._waiting, (moment, next(self._order), action))

    def run(self, until: int) -> None:
        """Let everything happen that is due, also what becomes due by it, in order."""
        while self._waiting and self._waiting[0][0] <= until:
            moment, _, action = heapq.heappop(self._waiting)
            action(moment)

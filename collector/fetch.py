"""Calls beside the streams: what `recovery` misses is asked for, and it is told what came."""

import time
from collections.abc import Callable, Iterable, Sequence

from meshobs.collector.http2 import OK
from meshobs.collector.options import Options
from meshobs.collector.reader import Call, Ended, Purpose, Reader
from meshobs.collector.recovery import ATTACH_SECONDS, Gap, Recovery
from meshobs.collector.resume import Backfill
from meshobs.pb.observer.observer_pb2 import GetFlowsRequest


class Fetcher:
    """What is fetched from the rings in one run. Only the thread that writes may call anything here.

    Args:
        options: what to collect.
        recovery: what is missing.
        told: given the gaps that fetching could not close.
        say: told what the user should know.
    """

    def __init__(
        self,
        options: Options,
        recovery: Recovery,
        told: Callable[[Iterable[Gap]], None],
        say: Callable[[str], None],
    ) -> None:
        self._options = options
        self._recovery = recovery
        self._told = told
        self._say = say
        self._calls: set[Call] = set()
        # Calls that wait until a stream has its nodes.
        self._later: list[tuple[float, Call, GetFlowsRequest]] = []
        # Where the run ends, nanoseconds; 0 while it goes on.
        self._end = 0

    @property
    def fetching(self) -> bool:
        """Tell whether a call is under way."""
        return bool(self._calls)

    @property
    def idle(self) -> bool:
        """Tell whether nothing is asked and nothing will be."""
        return not self._calls and not self._later

    def begin(self, reader: Reader, nodes: Sequence[str]) -> None:
        """Fetch what the rings hold, as far as it was asked for or is missing.

        Args:
            reader: who asks.
            nodes: full names of the nodes that it asks for.
        """
        options = self._options
        if options.since or options.until or not options.follow:
            since = options.since or (0 if options.last else 1)
            request = reader.asking.request(follow=False, since=since, until=options.until, last=options.last)
            seconds = ATTACH_SECONDS if options.follow else 0
            self._later.append((time.monotonic() + seconds, reader.call(Purpose.BACKFILL), request))
            return
        self._ask(reader.call(Purpose.MARK), reader.asking.request(follow=False, last=1))
        self._recovery.go_on(reader.name, nodes, time.monotonic())

    def run(self, readers: Iterable[Reader], now: float) -> None:
        """Ask for what is due by the monotonic clock."""
        due = [(call, request) for at, call, request in self._later if at <= now]
        self._later = [one for one in self._later if one[0] > now]
        for call, request in due:
            self._ask(call, request)
        for reader in readers:
            busy = {node for call in self._calls if call.reader is reader for node in call.positions}
            for missing in self._recovery.due(reader.name, busy, now):
                self._fetch(reader, Purpose.BACKFILL, missing)

    def finish(self, readers: Sequence[Reader], followed: Iterable[Reader], end: int) -> None:
        """Ask for everything at once that still waits, and for the tails of streams that ended.

        Args:
            readers: all.
            followed: those whose streams ended.
            end: the same moment for all nodes, nanoseconds. A busy node would go on sending while its flows are read,
                and what the others had to do with them would be missing.
        """
        self._end = end
        self._recovery.hurry()
        self._later = [(0, call, request) for _, call, request in self._later]
        self.run(readers, 0)
        for reader in followed:
            for missing in self._recovery.tails(reader.name):
                self._fetch(reader, Purpose.TAIL, missing)

    def ended(self, item: Ended) -> None:
        """Take note that a call is over, after what came of it was stored."""
        call, reader = item.call, item.call.reader
        self._calls.discard(call)
        if item.status.code != OK:
            self._say(f"{reader.name}: fetching what was missing failed: {item.status.message}")
        elif call.purpose is Purpose.BACKFILL:
            unproved = self._recovery.fetched(reader.name, call.positions, call.first)
            if unproved:  # ask since when the rings go
                self._ask(reader.call(Purpose.PROBE, unproved), reader.asking.oldest(unproved))
            if self._end:  # a node that was lost while it was fetched is asked once more before all is over
                self.run((reader,), 0)
        elif call.purpose is Purpose.PROBE:
            self._told(self._recovery.probed(reader.name, call.positions, call.first))
        elif call.purpose is Purpose.MARK:
            self._recovery.marked(reader.name, call.first, time.monotonic())

    def _fetch(self, reader: Reader, purpose: Purpose, missing: Backfill) -> None:
        until = self._recovery.ends(missing.positions, self._end) if self._end else 0
        request = reader.asking.of(missing.positions).request(follow=False, since=missing.since, until=until)
        self._ask(reader.call(purpose, missing.positions), request)

    def _ask(self, call: Call, request: GetFlowsRequest) -> None:
        self._calls.add(call)
        call.reader.backfill(call, request)

"""Calls beside the streams: what `recovery` misses is asked for, and it is told what came."""

import time
from collections.abc import Callable, Iterable, Sequence

from meshobs.collector.follow.backfill import Backfill
from meshobs.collector.follow.reader import Ended, FlowRequest, Purpose, RelayReader
from meshobs.collector.follow.recovery import ATTACH_SECONDS, Recovery
from meshobs.collector.hubble.stream import OK
from meshobs.collector.options import CollectOptions
from meshobs.collector.write.gap import Gap
from meshobs.pb.observer.observer_pb2 import GetFlowsRequest


class Fetcher:
    """What is fetched from the rings in one run. Only the thread that writes may call anything here.

    Args:
        options: what to collect.
        recovery: what is missing.
        on_gaps: given the gaps that fetching could not close.
        say: told what the user should know.
    """

    def __init__(
        self,
        options: CollectOptions,
        recovery: Recovery,
        on_gaps: Callable[[Iterable[Gap]], None],
        say: Callable[[str], None],
    ) -> None:
        self._options = options
        self._recovery = recovery
        self._on_gaps = on_gaps
        self._say = say
        self._calls: set[FlowRequest] = set()
        # Calls that wait until a stream has its nodes.
        self._later: list[tuple[float, FlowRequest, GetFlowsRequest]] = []
        # Where the run ends, nanoseconds; 0 while it goes on.
        self._end = 0
        # Nodes that were being fetched when the run ended: that call began too early to have their tails.
        self._without_tail: set[tuple[RelayReader, str]] = set()

    @property
    def fetching(self) -> bool:
        """Tell whether a call is under way."""
        return bool(self._calls)

    @property
    def idle(self) -> bool:
        """Tell whether nothing is asked and nothing will be."""
        return not self._calls and not self._later

    def begin(self, reader: RelayReader, nodes: Sequence[str]) -> None:
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

    def run(self, readers: Iterable[RelayReader], now: float) -> None:
        """Ask for what is due by the monotonic clock."""
        due = [(call, request) for at, call, request in self._later if at <= now]
        self._later = [one for one in self._later if one[0] > now]
        for call, request in due:
            self._ask(call, request)
        for reader in readers:
            busy = {node for call in self._calls if call.reader is reader for node in call.positions}
            for missing in self._recovery.due(reader.name, busy, now):
                self._fetch(reader, Purpose.BACKFILL, missing)

    def finish(self, readers: Sequence[RelayReader], followed: Iterable[RelayReader], end: int) -> None:
        """Ask for everything at once that still waits, and for the tails of streams that ended.

        Args:
            readers: all.
            followed: those whose streams ended.
            end: the same moment for all nodes, nanoseconds. A busy node would go on sending while its flows are read,
                and what the others had to do with them would be missing.
        """
        self._end = end
        self._without_tail = {(call.reader, node) for call in self._calls for node in call.positions}
        self._recovery.hurry()
        self._later = [(0, call, request) for _, call, request in self._later]
        self.run(readers, 0)
        for reader in followed:
            self._fetch_tails(reader, self._recovery.states[reader.name])

    def on_ended(self, item: Ended) -> None:
        """Take note that a call is over, after what came of it was stored."""
        call, reader = item.call, item.call.reader
        self._calls.discard(call)
        if item.status.code != OK:
            self._say(f"{reader.name}: fetching what was missing failed: {item.status.message}")
        elif call.purpose is Purpose.BACKFILL:
            unproved = self._recovery.on_fetched(reader.name, call.positions, call.first)
            if unproved:  # ask since when the rings go
                self._ask(reader.call(Purpose.PROBE, unproved), reader.asking.oldest(unproved))
        elif call.purpose is Purpose.PROBE:
            self._on_gaps(self._recovery.on_probed(reader.name, call.positions, call.first))
        elif call.purpose is Purpose.MARK:
            self._recovery.mark(reader.name, call.first, time.monotonic())
        if self._end:
            # A node that was lost, or missed only now, is asked once more before all is over.
            self._recovery.hurry()
            self.run((reader,), 0)
            self._fetch_tails(reader, [node for other, node in self._without_tail if other is reader])

    def _fetch_tails(self, reader: RelayReader, nodes: Iterable[str]) -> None:
        for missing in self._recovery.tails(reader.name, nodes):
            self._without_tail -= {(reader, node) for node in missing.positions}
            self._fetch(reader, Purpose.TAIL, missing)

    def _fetch(self, reader: RelayReader, purpose: Purpose, missing: Backfill) -> None:
        until = self._recovery.ends(missing.positions, self._end) if self._end else 0
        request = reader.asking.of(missing.positions).request(follow=False, since=missing.since, until=until)
        self._ask(reader.call(purpose, missing.positions), request)

    def _ask(self, call: FlowRequest, request: GetFlowsRequest) -> None:
        self._calls.add(call)
        call.reader.backfill(call, request)

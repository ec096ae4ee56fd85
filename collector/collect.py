"""`meshobs collect`: any number of Relays -> the store, each flow once, and what is missing told.

Each reader follows its Relay's live stream. What a stream could not have (before it began, while a node or the Relay
was away, the tail that Relay's sorting holds back at the end) is fetched beside it from the rings, by `since` with an
overlap; the store leaves out what it has. Only the thread that runs a collection writes.

Here is the loop: what comes out of the queue is written and committed, and `recovery` is told of it. `news` tells it
what Relays say of nodes. What is missing is `recovery`'s to know; `fetch` asks for it.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from queue import Empty, Queue
from types import MappingProxyType

from meshobs.collector.follow.fetcher import Fetcher
from meshobs.collector.follow.nodes import NodeTracker, SelectionRefusedError
from meshobs.collector.follow.reader import (
    QUEUE_LENGTH,
    Ended,
    FlowRequest,
    FlowSelection,
    Item,
    Purpose,
    RelayAnswer,
    RelayReader,
)
from meshobs.collector.follow.recovery import CONNECTED, Recovery
from meshobs.collector.follow.watches import SightingBatch, Watchers
from meshobs.collector.hubble import filters, scope
from meshobs.collector.hubble.relay import Relay
from meshobs.collector.kube.cluster import ClusterInfo, KubeCluster
from meshobs.collector.node_name import full_name
from meshobs.collector.options import CollectOptions
from meshobs.collector.progress import Phase, Progress
from meshobs.collector.recordings.framing import Batch
from meshobs.collector.write import facts, positions
from meshobs.collector.write.gap import Gap
from meshobs.collector.write.ledger import Ledger, RunState
from meshobs.collector.write.retention import prune
from meshobs.collector.write.settle import Settling, settle
from meshobs.collector.write.writer import FlowWriter
from meshobs.errors import DatabaseError
from meshobs.pb.observer.observer_pb2 import GetFlowsResponse
from meshobs.store import Store
from meshobs.times import SECOND

__all__ = ["COMMIT_SECONDS", "CONNECTED", "CollectOptions", "Collection", "SelectionRefusedError"]

# A transaction lasts at most so long: what others see is never older.
COMMIT_SECONDS = 2.0
# How often is looked for what is older than it is kept.
_PRUNE_SECONDS = 600.0
# How long the end waits for the streams, and then for the tails.
_TAIL_SECONDS = 30.0


class Collection:
    """One run.

    Args:
        store: opened for writing; only the thread that calls `run` may use it.
        relays: dialled, by name.
        options: what to collect.
        say: told what the user should know, a line each.
        show: called about four times a second with the state.
        clusters: whose Kubernetes objects to watch, by name.
        clock: the collector's clock in nanoseconds.
        stop: set it to end the run in order; None to make one.
    """

    def __init__(
        self,
        store: Store,
        relays: Mapping[str, Relay],
        options: CollectOptions,
        say: Callable[[str], None] = lambda _text: None,
        show: Callable[[Progress], None] = lambda _progress: None,
        clusters: Mapping[str, tuple[KubeCluster, ClusterInfo]] = MappingProxyType({}),
        clock: Callable[[], int] = time.time_ns,
        stop: threading.Event | None = None,
    ) -> None:
        self.stop = stop or threading.Event()
        self.progress = Progress()
        self._store = store
        self._options = options
        self._say = say
        self._show = show
        self._clock = clock
        self._started = clock()
        self._asked = filters.text(options.allow) + (f" not {filters.text(options.deny)}" if options.deny else "")
        self._ledger = Ledger(store, "collect", options.arguments, options.keep).begin()
        self._ledger.asked, self._ledger.excluded = self._asked, filters.text(options.excluded)
        if options.follow and not options.since and not options.last:
            self._ledger.window_from = self._started
        self._writer = FlowWriter(store, self._ledger, options.cluster, self._before_commit).prepare()
        self._queue: Queue[Item] = Queue(QUEUE_LENGTH)
        self._watches = Watchers(store, clusters, self._queue, say, clock)
        self._readers = [
            RelayReader(relay, self._ledger.open(relay.target.address, name, "relay"), self._queue, self.stop, clock)
            for name, relay in relays.items()
        ]
        self._pending: dict[FlowRequest, list[bytes]] = {}
        self._before_end = 0
        stored_until = partial(positions.find_stored_until, store)
        self._recovery = Recovery(relays, positions.positions_of(store, self._asked), self._started, stored_until)
        self._node_tracker = NodeTracker(store, self._ledger.number, self._recovery, options.cluster, say, clock)
        self._fetcher = Fetcher(options, self._recovery, self._note_gaps, say)
        self._settling = Settling(store, self._writer.settled, say, self._prune)
        self._pruned = 0.0

    def run(self) -> Ledger:
        """Collect until stopped; return the account.

        Raises:
            MeshobsError: nothing could be collected, or nothing more can be stored.
        """
        state = RunState.FAILED
        try:
            self._watches.start()
            self._begin()
            self._settling.start()
            self._loop(self._done)
            self.progress.time_is_up = self._time_is_up
            self.stop.set()
            self._finish()
            state = RunState.COMPLETE
        except KeyboardInterrupt:
            state = RunState.INTERRUPTED
            raise
        except DatabaseError:
            # DuckDB ends the process where it is asked to write after its file could not be written: the next run finds
            # this one as if it had been killed.
            state = RunState.RUNNING
            raise
        finally:
            self.stop.set()
            self._watches.end()
            self._settling.end()
            if state is not RunState.RUNNING:
                self._writer.rollback()
                self._ledger.save(state)
        self._enter(Phase.SETTLING)
        settle(self._store)
        self._enter(Phase.CLOSING)
        return self._ledger

    def _begin(self) -> None:
        answers = {reader: reader.look() for reader in self._readers}
        names = {reader.name: [peer.node_name for peer in one.peers or []] for reader, one in answers.items()}
        wanted = scope.assign(names, redundant=self._options.redundant)
        for reader in list(self._readers):
            allow = scope.narrow(self._options.allow, wanted[reader.name]) if wanted[reader.name] != [] else None
            if allow is None:
                self._say(f"{reader.name}: nothing to ask, its nodes are those of other Relays")
                self._readers.remove(reader)
                continue
            reader.stock = self._options.stock
            reader.asking = FlowSelection(tuple(allow), (*self._options.deny, *self._options.excluded))
            self._node_tracker.on_answer(answers[reader])
            if answers[reader].peers == []:
                self._say(f"{reader.name}: the Relay knows no node yet")
            if self._options.follow:
                reader.follow(reader.asking, self._options.last)
            covered = [name for name in names[reader.name] if reader.asking.covers(name)]
            self._fetcher.begin(reader, [self._name_as_stored(name) for name in covered])

    def _done(self) -> bool:
        if self.stop.is_set():
            return True
        if not self._options.follow:
            return self._fetcher.idle and self._queue.empty()
        return self._time_is_up

    @property
    def _time_is_up(self) -> bool:
        seconds = self._options.seconds
        return seconds is not None and self._clock() - self._started >= seconds * SECOND

    def _prune(self, store: Store) -> None:
        """Forget now and then what is older than it is kept; settling's thread calls it."""
        retention = self._options.retention.keeping(self._options.keep)
        if not retention or time.monotonic() - self._pruned < _PRUNE_SECONDS:
            return
        self._pruned = time.monotonic()
        try:
            done = prune(store, retention, self._clock(), self._writer.settled)
        except DatabaseError as error:
            self._say(f"old flows are kept for now: {error}")
            return
        if done:
            self._say(f"pruned: {done}")

    def _enter(self, phase: Phase) -> None:
        self.progress.phase = phase
        self._show(self._state())

    def _loop(self, done: Callable[[], bool]) -> None:
        shown = 0.0
        while not done():
            self._fetcher.run(self._readers, time.monotonic())
            with suppress(Empty):
                self._take(self._queue.get(timeout=0.1))
            self._commit_sometimes()
            if time.monotonic() - shown > 0.25:  # noqa: PLR2004 - four times a second
                shown = time.monotonic()
                self._show(self._state())

    def _take(self, item: Item) -> None:
        if isinstance(item, RelayAnswer):
            self._flush()  # what the stream said of nodes before comes before
            self._node_tracker.on_answer(item)
        elif isinstance(item, SightingBatch):
            self._watches.take(item)
        elif isinstance(item, Ended):
            self._on_ended(item)
        elif item.call.purpose in (Purpose.PROBE, Purpose.MARK):
            for message in map(GetFlowsResponse.FromString, item.messages):
                if message.HasField("flow"):
                    node, at = self._name_as_stored(message.node_name), message.time.ToNanoseconds()
                    item.call.first[node] = min(at, item.call.first.get(node, at))
        else:
            pending = self._pending.setdefault(item.call, [])
            pending += item.messages
            while len(pending) >= self._writer.batch_items:
                self._write(item.call, pending[: self._writer.batch_items])
                del pending[: self._writer.batch_items]

    def _commit_sometimes(self) -> None:
        if time.monotonic() - self._writer.committed >= COMMIT_SECONDS or self._watches.due:
            self._flush()
            self._writer.commit()
        if self._watches.due:
            self._watches.refresh()

    def _flush(self) -> None:
        for call in list(self._pending):
            self._write(call, self._pending.pop(call))

    def _write(self, call: FlowRequest, messages: list[bytes]) -> None:
        if not messages:
            return
        reader, entry = call.reader, call.reader.entry
        first = entry.counts.received + 1
        batch = Batch(messages, list(range(first, first + len(messages))))
        digest = self._writer.write_messages(batch, entry, reader.asking.covers)
        now = self._clock()
        for name, (earliest, latest) in digest.spans.items() if digest.flows else ():
            node = self._name_as_stored(name)
            call.first[node] = min(earliest, call.first.get(node, earliest))
            self._recovery.on_stored(reader.name, node, latest)
            if call.purpose is Purpose.FOLLOW:
                self._recovery.on_lag(node, now - latest)
                self._recovery.on_followed(reader.name, node, earliest, latest)
                if self._recovery.is_away(reader.name, node):
                    reader.look_now()  # a Relay does not say that it has a node again
        self.progress.lost += digest.lost
        if call.purpose is Purpose.FOLLOW:
            for status in digest.statuses:
                self._node_tracker.on_status(reader, status)

    def _on_ended(self, item: Ended) -> None:
        call, reader = item.call, item.call.reader
        self._write(call, self._pending.pop(call, []))
        if call.purpose is not Purpose.FOLLOW:
            self._fetcher.on_ended(item)
        elif not self.stop.is_set():
            words = item.status.message
            self._say(f"{reader.name}: the stream broke off ({words or 'the Relay ended it'}), trying again")
            self._recovery.on_stream_end(reader.name, words or "the Relay ended the stream", self._clock())

    def _finish(self) -> None:
        """Fetch the tails, write what waits, and tell what stayed away."""
        self._before_end = self._came
        deadline = time.monotonic() + _TAIL_SECONDS
        following = self._readers if self._options.follow else []
        if following:
            self._enter(Phase.FETCHING)
        for reader in following:
            reader.end()
        # Every stream ends first: what comes after it is the tail.
        self._loop(lambda: time.monotonic() > deadline or not any(reader.alive for reader in following))
        self._drain()
        self._fetcher.finish(self._readers, following, self._clock())
        deadline = time.monotonic() + _TAIL_SECONDS
        self._loop(lambda: time.monotonic() > deadline or (not self._fetcher.fetching and self._watches.synced))
        self._enter(Phase.WRITING)
        self._drain()
        now = self._clock()
        self._note_gaps(self._recovery.rest(now))
        facts.add_clocks(self._store, self._recovery.clocks, now, self._ledger.number)
        self._watches.end()
        self._drain()
        self._writer.commit()
        if note := self._writer.left_out():
            self._say(note)
        self._enter(Phase.HISTORY)
        self._watches.refresh()

    def _drain(self) -> None:
        """Take and write everything that waits."""
        with suppress(Empty):
            while True:
                self._take(self._queue.get_nowait())
        self._flush()

    def _before_commit(self) -> None:
        for reader, fresh in self._recovery.fresh().items():
            positions.save_positions(self._store, reader, self._asked, fresh)

    def _note_gaps(self, gaps: Iterable[Gap]) -> None:
        for gap in gaps:
            facts.add_gap(self._store, gap, self._ledger.number)

    def _name_as_stored(self, name: str) -> str:
        return full_name(name, self._options.cluster)

    @property
    def _unwritten(self) -> int:
        return sum(map(len, self._pending.values()))

    @property
    def _came(self) -> int:
        return self._ledger.total.received + self._unwritten

    def _state(self) -> Progress:
        total = self._ledger.total
        every = self._recovery.states.values()
        states = {node: False for nodes in every for node in nodes}
        for nodes in every:
            states.update({node: True for node, state in nodes.items() if state == CONNECTED})
        progress = self.progress
        progress.received, progress.stored, progress.duplicate = total.received, total.stored, total.duplicate
        progress.connected, progress.expected = sum(states.values()), len(states)
        progress.topology = self._watches.states
        if progress.phase is not Phase.COLLECTING:
            progress.fetched = self._came - self._before_end
        progress.waiting = self._unwritten + self._queue.qsize() * 300
        return progress

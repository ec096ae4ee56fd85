"""`meshobs collect`: any number of Relays -> the store, each flow once, and what is missing told.

Each reader follows its Relay's live stream. What a stream could not have (before it began, while a node or the Relay
was away, the tail that Relay's sorting holds back at the end) is fetched beside it from the rings, by `since` with an
overlap; the store leaves out what it has. Only the thread that runs a collection writes.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Queue
from types import MappingProxyType

from meshobs import sqlfiles
from meshobs.collector import filters, notes, resume, scope
from meshobs.collector.digest import NodeStatus
from meshobs.collector.http2 import OK
from meshobs.collector.kubeapi import Cluster, ClusterInfo
from meshobs.collector.ledger import Ledger, State
from meshobs.collector.messages import BATCH_ITEMS, Batch
from meshobs.collector.progress import Progress
from meshobs.collector.reader import QUEUE_LENGTH, Asking, Call, Ended, Item, Purpose, Reader, Told
from meshobs.collector.relay import Relay
from meshobs.collector.watches import Seen, Watches
from meshobs.collector.writer import Writer
from meshobs.errors import MeshobsError
from meshobs.pb.flow.flow_pb2 import FlowFilter
from meshobs.pb.observer.observer_pb2 import GetFlowsRequest, GetFlowsResponse
from meshobs.store import Store
from meshobs.times import SECOND

# A transaction lasts at most so long: what others see is never older.
COMMIT_SECONDS = 2.0
# How long the end waits for the tails.
_TAIL_SECONDS = 15.0
# What is fetched must meet what is followed, or a hole stays between the two. A Relay names the nodes that it follows
# when a stream begins; it looks every two seconds for nodes that came back, and does not say when it has them.
_NAMED_SECONDS = 1.0
_ATTACH_SECONDS = 5.0
_REFUSED = ("invalid", "InvalidArgument", "Unimplemented")
CONNECTED = "NODE_CONNECTED"
_AWAY = ("NODE_UNAVAILABLE", "NODE_ERROR", "NODE_GONE")


class RefusedError(MeshobsError):
    """The nodes do not accept what is asked."""


@dataclass(frozen=True)
class Options:
    """What to collect.

    Attributes:
        allow: filters one of which must fit; none: all flows.
        deny: filters none of which may fit.
        excluded: filters for the observers' own traffic, none to watch it as well.
        since: also what the rings hold from then on, nanoseconds; 0: only what was not stored by earlier runs.
        until: end there instead of following, nanoseconds.
        last: also so many flows that each node has already.
        follow: go on until told to stop; else end with what the rings hold.
        seconds: stop after so long; None: never.
        redundant: ask every Relay for all nodes.
        cluster: cluster of nodes whose names carry none.
        stock: read by grpcio.
        arguments: the command line, for the record.
    """

    allow: Sequence[FlowFilter] = ()
    deny: Sequence[FlowFilter] = ()
    excluded: Sequence[FlowFilter] = ()
    since: int = 0
    until: int = 0
    last: int = 0
    follow: bool = True
    seconds: float | None = None
    redundant: bool = False
    cluster: str = ""
    stock: bool = False
    arguments: Sequence[str] = ()


@dataclass
class _Trouble:
    """A node that a reader does not get, or did not get for a while.

    Attributes:
        position: until where it is stored.
        due: when to fetch what is missing, by the monotonic clock; None while the node is away.
    """

    position: int
    reason: str
    due: float | None = None


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
    """

    def __init__(
        self,
        store: Store,
        relays: Mapping[str, Relay],
        options: Options,
        say: Callable[[str], None] = lambda _text: None,
        show: Callable[[Progress], None] = lambda _progress: None,
        clusters: Mapping[str, tuple[Cluster, ClusterInfo]] = MappingProxyType({}),
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.stop = threading.Event()
        self.progress = Progress()
        self._store = store
        self._options = options
        self._say = say
        self._show = show
        self._clock = clock
        self._started = clock()
        self._asked = filters.text(options.allow) + (f" not {filters.text(options.deny)}" if options.deny else "")
        self._ledger = Ledger(store, "collect", options.arguments)
        self._ledger.asked, self._ledger.excluded = self._asked, filters.text(options.excluded)
        if options.follow and not options.since and not options.last:
            self._ledger.window_from = self._started
        self._writer = Writer(store, self._ledger, options.cluster, self._before_commit)
        self._queue: Queue[Item] = Queue(QUEUE_LENGTH)
        self._watches = Watches(store, clusters, self._queue, say, clock)
        self._readers = [
            Reader(relay, self._ledger.open(relay.target.address, name, "relay"), self._queue, self.stop, clock)
            for name, relay in relays.items()
        ]
        self._pending: dict[Call, list[bytes]] = {}
        self._calls: set[Call] = set()
        self._positions = resume.positions_of(store, self._asked)
        self._fresh: dict[Reader, dict[str, int]] = {reader: {} for reader in self._readers}
        self._nodes: dict[Reader, dict[str, str]] = {reader: {} for reader in self._readers}
        self._agent_started: dict[str, int] = {}
        self._troubles: dict[tuple[Reader, str], _Trouble] = {}
        self._lag: dict[str, int] = {}
        # What each node's ring ended with when the run began; nothing of it need be stored.
        self._marks: dict[str, int] = {}
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def run(self) -> Ledger:
        """Collect until stopped; return the account.

        Raises:
            MeshobsError: nothing could be collected, or nothing more can be stored.
        """
        state = State.FAILED
        try:
            self._watches.start()
            self._begin()
            self._loop(self._done)
            self.stop.set()
            self._finish()
            state = State.COMPLETE
        except KeyboardInterrupt:
            state = State.INTERRUPTED
            raise
        finally:
            self.stop.set()
            self._watches.end()
            self._writer.rollback()
            self._ledger.save(state)
        return self._ledger

    def _begin(self) -> None:
        told = {reader: reader.look() for reader in self._readers}
        names = {reader.name: [peer.node_name for peer in one.peers or []] for reader, one in told.items()}
        wanted = scope.assign(names, redundant=self._options.redundant)
        for reader in list(self._readers):
            allow = scope.narrowed(self._options.allow, wanted[reader.name]) if wanted[reader.name] != [] else None
            if allow is None:
                self._say(f"{reader.name}: nothing to ask, its nodes are those of other Relays")
                self._readers.remove(reader)
                continue
            reader.stock = self._options.stock
            reader.asking = Asking(tuple(allow), (*self._options.deny, *self._options.excluded))
            self._told(told[reader])
            if told[reader].peers == []:
                self._say(f"{reader.name}: the Relay knows no node yet")
            if self._options.follow:
                reader.follow(reader.asking, self._options.last)
            self._first_requests(reader, [name for name in names[reader.name] if reader.asking.covers(name)])

    def _first_requests(self, reader: Reader, nodes: Sequence[str]) -> None:
        """Fetch what the rings hold, as far as it was asked for or is missing."""
        options = self._options
        if options.since or options.until or not options.follow:
            since = options.since or (0 if options.last else 1)
            request = reader.asking.request(follow=False, since=since, until=options.until, last=options.last)
            seconds = _ATTACH_SECONDS if options.follow else 0
            call = reader.call(Purpose.BACKFILL)
            self._timers.append((time.monotonic() + seconds, lambda: self._ask(call, request)))
            return
        self._ask(reader.call(Purpose.MARK), reader.asking.request(follow=False, last=1))
        for node in set(map(self._stored_name, nodes)) & set(self._positions):
            self._troubles[reader, node] = self._begun(self._positions[node])

    @staticmethod
    def _begun(position: int) -> _Trouble:
        """Return what is missing at the start of a run, before its stream has a node."""
        return _Trouble(position, "nothing collected it", time.monotonic() + _ATTACH_SECONDS)

    def _fetch(self, reader: Reader, purpose: Purpose, positions: Mapping[str, int], nodes: Iterable[str]) -> None:
        """Ask for what is missing of nodes since their positions."""
        for missing in resume.backfills(positions, map(self._stored_name, nodes)):
            request = reader.asking.of(missing.positions).request(follow=False, since=missing.since)
            self._ask(reader.call(purpose, missing.positions), request)

    def _ask(self, call: Call, request: GetFlowsRequest) -> None:
        self._calls.add(call)
        call.reader.backfill(call, request)

    def _done(self) -> bool:
        if self.stop.is_set():
            return True
        if not self._options.follow:
            return not self._calls and not self._timers and self._queue.empty()
        seconds = self._options.seconds
        return seconds is not None and self._clock() - self._started >= seconds * SECOND

    def _loop(self, done: Callable[[], bool]) -> None:
        shown = 0.0
        while not done():
            self._run_timers(time.monotonic())
            with suppress(Empty):
                self._take(self._queue.get(timeout=0.1))
            self._commit_sometimes()
            if time.monotonic() - shown > 0.25:  # noqa: PLR2004 - four times a second
                shown = time.monotonic()
                self._show(self._state())

    def _run_timers(self, now: float) -> None:
        """Fetch what has been due."""
        due = [action for at, action in self._timers if at <= now]
        self._timers = [(at, action) for at, action in self._timers if at > now]
        for action in due:
            action()
        for reader in self._readers:
            busy = {node for call in self._calls if call.reader is reader for node in call.positions}
            waiting = {
                node: trouble.position
                for (other, node), trouble in self._troubles.items()
                if other is reader and node not in busy and trouble.due is not None and trouble.due <= now
            }
            self._fetch(reader, Purpose.BACKFILL, waiting, waiting)

    def _take(self, item: Item) -> None:
        if isinstance(item, Told):
            self._told(item)
        elif isinstance(item, Seen):
            self._watches.take(item)
        elif isinstance(item, Ended):
            self._ended(item)
        elif item.call.purpose in (Purpose.PROBE, Purpose.MARK):
            for message in map(GetFlowsResponse.FromString, item.messages):
                if message.HasField("flow"):
                    node, at = self._stored_name(message.node_name), message.time.ToNanoseconds()
                    item.call.first[node] = min(at, item.call.first.get(node, at))
        else:
            pending = self._pending.setdefault(item.call, [])
            pending += item.messages
            while len(pending) >= BATCH_ITEMS:
                self._write(item.call, pending[:BATCH_ITEMS])
                del pending[:BATCH_ITEMS]

    def _commit_sometimes(self) -> None:
        if time.monotonic() - self._writer.committed >= COMMIT_SECONDS or self._watches.due:
            self._flush()
            self._writer.commit()
        if self._watches.due:
            self._watches.refresh()

    def _flush(self) -> None:
        for call in list(self._pending):
            self._write(call, self._pending.pop(call))

    def _write(self, call: Call, messages: list[bytes]) -> None:
        if not messages:
            return
        reader, entry = call.reader, call.reader.entry
        first = entry.counts.received + 1
        digest = self._writer.write_messages(Batch(messages, list(range(first, first + len(messages)))), entry)
        now = self._clock()
        fresh = self._fresh[reader]
        for name, (earliest, latest) in digest.spans.items() if digest.flows else ():
            node = self._stored_name(name)
            call.first[node] = min(earliest, call.first.get(node, earliest))
            self._positions[node] = max(latest, self._positions.get(node, latest))
            # As long as something before is missing, the next run must not go on from here.
            if (reader, node) not in self._troubles:
                fresh[node] = self._positions[node]
            self._nodes[reader].setdefault(node, CONNECTED)
            if call.purpose is Purpose.FOLLOW:
                self._lag[node] = min(now - latest, self._lag.get(node, now - latest))
        self.progress.lost += digest.lost
        if call.purpose is Purpose.FOLLOW:
            for status in digest.statuses:
                self._status(reader, status)

    def _status(self, reader: Reader, status: NodeStatus) -> None:
        # A Relay tells of all its nodes, also of those that another reader is asked for.
        names = [self._stored_name(name) for name in status.node_names if reader.asking.covers(name)]
        for node in names:
            if status.state == CONNECTED:
                self._nodes[reader][node] = CONNECTED
                if trouble := self._troubles.get((reader, node)):
                    trouble.due = time.monotonic() + _NAMED_SECONDS
            elif status.state in _AWAY:
                self._trouble(reader, node, status.message or status.state, status.time)
        if status.state in _AWAY and names:
            self._say(f"{reader.name}: {', '.join(names)}: {status.message or 'not reachable'}")
            refused = any(word in status.message for word in _REFUSED)
            if refused and set(names) >= set(self._nodes[reader]):
                raise RefusedError(f"{reader.name}: the nodes refuse what is asked: {status.message}")
        reader.look_now()

    def _trouble(self, reader: Reader, node: str, reason: str, at: int) -> _Trouble:
        self._nodes[reader][node] = "NODE_UNAVAILABLE"
        trouble = self._troubles.get((reader, node))
        if not trouble:
            position = self._stored_until(node, at)
            trouble = self._troubles[reader, node] = _Trouble(position or self._started, reason)
        trouble.due = None
        return trouble

    def _over(self, reader: Reader, node: str) -> _Trouble | None:
        """Nothing is missing any more that could be had."""
        if node in self._positions:
            self._fresh[reader][node] = self._positions[node]
        return self._troubles.pop((reader, node), None)

    def _stored_until(self, node: str, at: int) -> int | None:
        """Return the last stored flow of a node before a moment of the collector's clock, by the node's own.

        A Relay tells of a node that failed up to ten seconds later; the node may be back by then.
        """
        cluster, _, name = node.partition("/")
        before = at - max(0, self._lag.get(node, 0))
        parameters = {"cluster": cluster, "node": name, "before": before}
        found = self._store.value(sqlfiles.read("resume/stored_until.sql"), parameters)
        return int(str(found)) if found is not None else None

    def _ended(self, item: Ended) -> None:
        call, reader, words = item.call, item.call.reader, item.status.message
        self._write(call, self._pending.pop(call, []))
        self._calls.discard(call)
        if call.purpose is Purpose.FOLLOW:
            if not self.stop.is_set():
                self._say(f"{reader.name}: the stream broke off ({words or 'the Relay ended it'}), trying again")
                for node in self._nodes[reader]:
                    self._trouble(reader, node, words or "the Relay ended the stream", self._clock())
        elif item.status.code != OK:
            self._say(f"{reader.name}: fetching what was missing failed: {words}")
        elif call.purpose is Purpose.BACKFILL:
            self._fetched(call)
        elif call.purpose is Purpose.PROBE:
            self._close_gaps(call)
        elif call.purpose is Purpose.MARK:
            self._marked(call)

    def _fetched(self, call: Call) -> None:
        """A flow not later than the position proves that nothing is missing; else ask since when the ring goes."""
        unproved = {node: at for node, at in call.positions.items() if call.first.get(node, at + 1) > at}
        for node in set(call.positions) - set(unproved):
            self._over(call.reader, node)
        if unproved:
            self._ask(call.reader.call(Purpose.PROBE, unproved), call.reader.asking.oldest(unproved))

    def _marked(self, call: Call) -> None:
        """Fetch from there what happens before the stream has the nodes."""
        for node in self._nodes[call.reader]:
            # A ring that ends with nothing is empty: all that it will hold is later.
            mark = self._marks[node] = call.first.get(node, 0)
            self._troubles.setdefault((call.reader, node), self._begun(mark))

    def _told(self, told: Told) -> None:
        reader = told.reader
        now = self._clock()
        if told.status:
            notes.add_relay(self._store, reader.name, reader.entry.name, told.status, now, self._ledger.number)
        if told.problem:
            self._say(f"{reader.name}: {told.problem}")
        peers = told.peers or []
        notes.add_relay_nodes(self._store, reader.name, peers, self._options.cluster)
        for peer in peers:
            node = self._stored_name(peer.node_name)
            started = now - peer.uptime_ns if peer.uptime_ns else 0
            restarted = started > self._agent_started.get(node, started) + 5 * SECOND
            self._agent_started[node] = started or self._agent_started.get(node, 0)
            if not reader.asking.covers(peer.node_name):
                continue
            trouble = self._troubles.get((reader, node))
            if peer.state != CONNECTED:
                self._nodes[reader].setdefault(node, peer.state)
                if trouble:
                    trouble.due = None
                continue
            if restarted:
                trouble = self._trouble(reader, node, "its agent started anew", started)
            self._nodes[reader][node] = peer.state
            if trouble and trouble.due is None:
                trouble.due = time.monotonic() + _ATTACH_SECONDS

    def _close_gaps(self, probe: Call) -> None:
        """Record what a backfill could not bring: rings begin later than what is stored ends."""
        reader = probe.reader
        for node, position in probe.positions.items():
            trouble = self._over(reader, node)
            # An empty ring began when the agent did; nothing says more of one that is silent.
            begins = probe.first.get(node) or max(self._agent_started.get(node, 0), position + 1)
            # A ring that was empty when the run began (position 0) begins with the first flow of all.
            if position and begins > position and not self._covered(reader, node):
                reason = trouble.reason if trouble else "Hubble did not have it any more"
                notes.add_gap(self._store, node, reader.name, (position, begins), reason, self._ledger.number)

    def _covered(self, reader: Reader, node: str) -> bool:
        """Tell whether another reader had the node all the time."""
        return any(
            other is not reader and self._nodes[other].get(node) == CONNECTED and (other, node) not in self._troubles
            for other in self._readers
        )

    def _finish(self) -> None:
        """Fetch the tails, write what waits, and tell what stayed away."""
        deadline = time.monotonic() + _TAIL_SECONDS
        following = self._readers if self._options.follow else []
        for reader in following:
            reader.end()
        # Every stream ends first: what comes after it is the tail.
        self._loop(lambda: time.monotonic() > deadline or not any(reader.alive for reader in following))
        self._drain()
        for trouble in self._troubles.values():
            if trouble.due is not None:
                trouble.due = 0
        self._timers = [(0, action) for _, action in self._timers]
        self._run_timers(0)
        for reader in following:
            nodes = [node for node in self._nodes[reader] if (reader, node) not in self._troubles]
            self._fetch(reader, Purpose.TAIL, {**self._marks, **self._positions}, nodes)
        self._loop(lambda: time.monotonic() > deadline or (not self._calls and self._watches.synced))
        self._drain()
        now = self._clock()
        for (reader, node), trouble in self._troubles.items():
            missing = (trouble.position or self._started, now)
            if now > missing[0] and not self._covered(reader, node):
                notes.add_gap(self._store, node, reader.name, missing, trouble.reason, self._ledger.number)
        notes.add_clocks(self._store, self._lag, now, self._ledger.number)
        self._watches.end()
        self._drain()
        self._writer.commit()
        self._watches.refresh()
        self._show(self._state())

    def _drain(self) -> None:
        """Take and write everything that waits."""
        with suppress(Empty):
            while True:
                self._take(self._queue.get_nowait())
        self._flush()

    def _before_commit(self) -> None:
        for reader, positions in self._fresh.items():
            resume.save_positions(self._store, reader.name, self._asked, positions)
            positions.clear()

    def _stored_name(self, name: str) -> str:
        return scope.full_name(name, self._options.cluster)

    def _state(self) -> Progress:
        total = self._ledger.total
        waiting = sum(map(len, self._pending.values()))
        states = {node: False for nodes in self._nodes.values() for node in nodes}
        for nodes in self._nodes.values():
            states.update({node: True for node, state in nodes.items() if state == CONNECTED})
        progress = self.progress
        progress.received, progress.stored, progress.duplicate = total.received, total.stored, total.duplicate
        progress.connected, progress.expected = sum(states.values()), len(states)
        progress.topology = self._watches.states
        progress.waiting = waiting + self._queue.qsize() * 300
        return progress

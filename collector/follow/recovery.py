"""What a run still misses of each node and what to do about it: facts go in, requests and gaps come out. Pure.

Readers and nodes are names here. A node's position is until where it is stored. A trouble is a node that a reader does
not get, or did not get for a while: as long as there is one, the position that the next run goes on from stands still.
It ends when a flow not later than the position came again, or when nothing older can be had: that is a gap.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass

from meshobs.collector.follow import backfill
from meshobs.collector.follow.backfill import Backfill
from meshobs.collector.write.gap import Gap
from meshobs.times import SECOND

CONNECTED = "NODE_CONNECTED"
AWAY = ("NODE_UNAVAILABLE", "NODE_ERROR", "NODE_GONE")
# What is fetched must meet what is followed, or a hole stays between the two. A Relay names the nodes that it follows
# when a stream begins; it looks every two seconds for nodes that came back, and does not say when it has them.
NAMED_SECONDS = 1.0
ATTACH_SECONDS = 5.0
# Uptimes come rounded: an agent that began so much later than it used to has started anew.
_ANEW = 5 * SECOND
# How far beyond the end of a run tails are read: clocks differ a little, and a connection in the last second is left
# out of reports anyway.
_GRACE = SECOND // 4
# What a collection does at its start, and a Relay's sorting of a quiet stream, make flows late by seconds, never by so
# much; and not each of so many batches.
_NO_DELAY = 30 * SECOND
_ENOUGH = 10
# How long a flow may be under way to us at the least, where a clock goes ahead and hides it.
_WAY = 2 * SECOND


@dataclass
class Trouble:
    """A node that a reader does not get, or did not get for a while.

    Attributes:
        position: until where it is stored; 0 where its ring was empty when the run began.
        due: when to fetch what is missing, by the monotonic clock; None while the node is away.
        asked: it is being fetched, and the node was not lost again since.
        lost_at: flows of the stream that are later, by the node's own clock, came after it had the node again.
        resumed: the first such flow; from there on the stream has everything.
    """

    position: int
    reason: str
    due: float | None = None
    asked: bool = False
    lost_at: int = 0
    resumed: int | None = None

    def end(self, latest: int) -> int:
        """Return until when something is missing, `latest` at most."""
        return latest if self.resumed is None else min(latest, self.resumed)


class Recovery:
    """All nodes of a run.

    Args:
        readers: their names.
        positions: node -> until where earlier runs stored it.
        started: when the run began, nanoseconds.
        stored_until: asked for the last stored flow of a node before a moment of the node's own clock.

    Attributes:
        positions: node -> until where it is stored.
        lag: node -> by how much its flows lay behind the collector's clock at the least, nanoseconds.
        states: reader -> node -> how it stands, as Relays call it.
        troubles: (reader, node) -> what is missing.
    """

    def __init__(
        self,
        readers: Iterable[str],
        positions: Mapping[str, int],
        started: int,
        stored_until: Callable[[str, int], int | None],
    ) -> None:
        self.positions = dict(positions)
        self.lag: dict[str, int] = {}
        self._heard: dict[str, int] = {}
        self.states: dict[str, dict[str, str]] = {reader: {} for reader in readers}
        self.troubles: dict[tuple[str, str], Trouble] = {}
        self._started = started
        self._stored_until = stored_until
        self._fresh: dict[str, dict[str, int]] = {reader: {} for reader in self.states}
        self._agents: dict[str, int] = {}
        # What each node's ring ended with when the run began; nothing of it need be stored.
        self._follow_starts: dict[str, int] = {}

    # Facts.

    def go_on(self, reader: str, nodes: Iterable[str], now: float) -> None:
        """Miss what happened to some nodes since earlier runs."""
        for node in set(nodes) & set(self.positions):
            self.troubles[reader, node] = _not_collected(self.positions[node], now)

    def mark(self, reader: str, ends: Mapping[str, int], now: float) -> None:
        """Miss what happens before the stream has the nodes.

        Args:
            reader: all of whose nodes were asked.
            ends: node -> last flow of its ring; a ring that ends with nothing is empty: all that it will hold is later.
            now: by the monotonic clock.
        """
        for node in self.states[reader]:
            mark = self._follow_starts[node] = ends.get(node, 0)
            if (reader, node) in self.troubles:
                continue
            self.troubles[reader, node] = _not_collected(mark, now)
            if mark:  # also the next run, should this one be killed before it has what follows
                self._fresh[reader][node] = mark

    def on_stored(self, reader: str, node: str, latest: int) -> None:
        """Flows of a node were stored, the last one of that time."""
        self.positions[node] = max(latest, self.positions.get(node, latest))
        # As long as something before is missing, the next run must not go on from here.
        if (reader, node) not in self.troubles:
            self._fresh[reader][node] = self.positions[node]
        self.states[reader].setdefault(node, CONNECTED)

    def on_followed(self, reader: str, node: str, earliest: int, latest: int) -> None:
        """Flows of a node came in the stream, between two times of the node's clock."""
        trouble = self.troubles.get((reader, node))
        # Relay's sorting may hold flows from before the loss back: they say nothing.
        if trouble and latest > trouble.lost_at:
            first = earliest if earliest > trouble.lost_at else latest
            trouble.resumed = trouble.end(first)

    def is_away(self, reader: str, node: str) -> bool:
        """Tell whether a node is away, as far as is known."""
        return self.states[reader].get(node, CONNECTED) != CONNECTED

    def on_lag(self, node: str, lag: int) -> None:
        """A flow that was followed came so many nanoseconds after its time."""
        self.lag[node] = min(lag, self.lag.get(node, lag))
        self._heard[node] = self._heard.get(node, 0) + 1

    @property
    def clocks(self) -> dict[str, int]:
        """Return the lags that tell of clocks: no delay brings a flow from the future, nor lasts in the long run."""
        return {
            node: lag for node, lag in self.lag.items() if lag < 0 or lag > _NO_DELAY or self._heard[node] >= _ENOUGH
        }

    def ends(self, nodes: Iterable[str], end: int) -> int:
        """Return when nodes have told all until a moment of the collector's clock, by their own; 0 where none knows.

        One of which no flow was followed yet counts as the others: what it tells later is the next run's.
        """
        known = [self.lag[node] for node in nodes if node in self.lag]
        if not known:
            return 0
        # The smallest lag still has the way in it: a clock that goes ahead does so by a little more.
        ahead = max((-lag + _WAY for lag in known if lag < 0), default=0)
        return end + ahead + _GRACE

    def on_attached(self, reader: str, node: str, now: float) -> None:
        """The stream says that it has a node."""
        self.states[reader][node] = CONNECTED
        if trouble := self.troubles.get((reader, node)):
            trouble.due = now + NAMED_SECONDS

    def on_lost(self, reader: str, node: str, reason: str, at: int) -> None:
        """A node is away, since a moment of the collector's clock."""
        self.states[reader][node] = "NODE_UNAVAILABLE"
        known = self.troubles.get((reader, node))
        own = at - self.lag.get(node, 0)
        # Where the ring was empty when the run began (position 0) nothing was missing: what is, is missing since now.
        if known is None or not known.position:
            # A Relay tells of a node that failed up to ten seconds later; the node may be back by then.
            position = self._stored_until(node, at - max(0, self.lag.get(node, 0)))
            known = Trouble(position or self._started, reason)
        # What is being fetched just now may end before this loss: it proves nothing any more.
        self.troubles[reader, node] = Trouble(known.position, known.reason, lost_at=own + _WAY)

    def on_stream_end(self, reader: str, reason: str, at: int) -> None:
        """The stream of a reader is over, and with it all of its nodes are away."""
        for node in self.states[reader]:
            self.on_lost(reader, node, reason, at)

    def on_agent(self, node: str, began: int) -> bool:
        """Take note of when a node's agent began (0: not known), and tell whether it started anew."""
        before = self._agents.get(node)
        self._agents[node] = began or before or 0
        return before is not None and began > before + _ANEW

    def on_listed(self, reader: str, node: str, state: str, now: float) -> None:
        """A Relay lists a node that its reader asks for."""
        trouble = self.troubles.get((reader, node))
        if state != CONNECTED:
            self.states[reader].setdefault(node, state)
            if trouble:
                trouble.due = None
            return
        self.states[reader][node] = state
        if trouble and trouble.due is None:
            trouble.due = now + ATTACH_SECONDS

    def on_fetched(self, reader: str, positions: Mapping[str, int], first: Mapping[str, int]) -> dict[str, int]:
        """Everything that rings hold since some positions came; return the nodes of which that may not be enough.

        A flow not later than the position proves that nothing is missing, unless the node was lost again meanwhile.

        Args:
            reader: who fetched.
            positions: node -> until where it was stored.
            first: node -> first flow that came.
        """
        standing = {node: at for node, at in positions.items() if self._stands(reader, node)}
        unproved = {node: at for node, at in standing.items() if first.get(node, at + 1) > at}
        for node in set(standing) - set(unproved):
            self._over(reader, node)
        return unproved

    def on_probed(self, reader: str, positions: Mapping[str, int], oldest: Mapping[str, int]) -> list[Gap]:
        """Return what fetching could not bring: rings begin later than what is stored ends.

        A gap ends where the ring begins, or before it where the stream has gone on.

        Args:
            reader: who asked.
            positions: node -> until where it was stored.
            oldest: node -> first flow of its ring.
        """
        gaps = []
        for node, position in positions.items():
            if not self._stands(reader, node):
                continue
            trouble = self._over(reader, node)
            # An empty ring began when the agent did; nothing says more of one that is silent.
            begins = oldest.get(node) or max(self._agents.get(node, 0), position + 1)
            # A ring that was empty when the run began (position 0) begins with the first flow of all.
            if position and begins > position and not self._is_covered(reader, node):
                reason = trouble.reason if trouble else "Hubble did not have it any more"
                end = max(trouble.end(begins), position + 1) if trouble else begins
                gaps.append(Gap(reader, node, position, end, reason))
        return gaps

    # What to do.

    def due(self, reader: str, busy: Container[str], now: float) -> list[Backfill]:
        """Return what to fetch now, without the nodes for which a call is under way."""
        waiting = {
            node: trouble
            for (other, node), trouble in self.troubles.items()
            if other == reader and node not in busy and trouble.due is not None and trouble.due <= now
        }
        for trouble in waiting.values():
            trouble.asked = True
        return backfill.backfills({node: trouble.position for node, trouble in waiting.items()}, waiting)

    def hurry(self) -> None:
        """Make everything due that waits for its time."""
        for trouble in self.troubles.values():
            if trouble.due is not None:
                trouble.due = 0

    def tails(self, reader: str, nodes: Iterable[str]) -> list[Backfill]:
        """Return what to fetch when the stream has ended: what Relay's sorting held back of those without trouble."""
        whole = [node for node in nodes if (reader, node) not in self.troubles]
        return backfill.backfills({**self._follow_starts, **self.positions}, whole)

    def fresh(self) -> dict[str, dict[str, int]]:
        """Return reader -> node -> where the next run may go on, as far as that changed since the last call."""
        found = {reader: positions for reader, positions in self._fresh.items() if positions}
        self._fresh = {reader: {} for reader in self._fresh}
        return found

    def rest(self, now: int) -> list[Gap]:
        """Return what stayed away until the end of the run; `now` is the collector's clock."""
        gaps = []
        for (reader, node), trouble in self.troubles.items():
            first = trouble.position or self._started
            if now > first and not self._is_covered(reader, node):
                gaps.append(Gap(reader, node, first, max(trouble.end(now), first + 1), trouble.reason))
        return gaps

    def _stands(self, reader: str, node: str) -> bool:
        """Tell whether what was fetched counts: the node was not lost again since it was asked."""
        trouble = self.troubles.get((reader, node))
        return trouble is None or trouble.asked

    def _over(self, reader: str, node: str) -> Trouble | None:
        """Nothing is missing any more that could be had."""
        if node in self.positions:
            self._fresh[reader][node] = self.positions[node]
        return self.troubles.pop((reader, node), None)

    def _is_covered(self, reader: str, node: str) -> bool:
        """Tell whether another reader had the node all the time."""
        return any(
            other != reader and states.get(node) == CONNECTED and (other, node) not in self.troubles
            for other, states in self.states.items()
        )


def _not_collected(position: int, now: float) -> Trouble:
    """Return what is missing at the start of a run, before its stream has a node."""
    return Trouble(position, "nothing collected it", now + ATTACH_SECONDS)

"""Settles: makes the attempts of what is stored, so that no report has to, and makes those again that no longer hold.

A stretch of time is settled as a whole, in one transaction: readers find it as it was before or as it is then, and so
does who comes after a kill. What is not settled reports make of flows.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from meshobs import sqlfiles
from meshobs.errors import DatabaseError
from meshobs.store import Store, Writer, integer
from meshobs.times import SECOND

# Flows of a piece: more take more memory, fewer more time for each (queries are planned anew, which takes 0.4 s, and
# margins read again). Two million, of each: with 400,000 4.6 us of CPU and 438 MB at the peak, with 600,000 4.5 us and
# 403 MB, with 1,000,000 4.2 us and 466 MB.
PIECE_FLOWS = 600_000
# An event may count for attempts that are so far from it (reach_seconds in queries/model/settled.sql).
REACH_NS = 100 * SECOND
# How often a collection settles what has come, and by how much flows of some node may trail others and not be late.
_PAUSE_SECONDS = 60.0
_LAG_NS = 30 * SECOND
# Those of a stretch and of all that is settled around it, and those found beside it.
_EVENTS = """table
    from events
    where time >= since and time < until
        and (time < {open_first} or time >= {open_end} or time >= {kept} and time < {end})
    union all by name
    from events_beside where time >= since and time < until
"""


@dataclass
class Settled:
    """What settling did.

    Attributes:
        stretches: that were made.
        flows: in them.
        attempts: that came of them.
    """

    stretches: int = 0
    flows: int = 0
    attempts: int = 0

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.attempts} attempts made of {self.flows} flows, in {self.stretches} stretches of time"


@dataclass
class SettledUntil:
    """Until when attempts are stored or being made; shared by who settles and who writes flows.

    Attributes:
        until: nanoseconds.
        kept_since: from when on flows are kept, and taken in, in nanoseconds.
        lock: held by a writer while it looks and commits. Who settles moves on before it reads: it sees the flows of a
            writer that looked before, and all others note theirs as late.
    """

    until: int = 0
    kept_since: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def move_to(self, end: int) -> None:
        """Say that what comes before `end` is about to be read."""
        with self.lock:
            self.until = max(self.until, end)

    def keep_from(self, first: int) -> None:
        """Say that what comes before `first` is about to be forgotten."""
        with self.lock:
            self.kept_since = max(self.kept_since, first)

    def is_late(self, time: int) -> bool:
        """Tell whether a flow of that time counts for attempts that are stored."""
        return time < self.until + REACH_NS


def settle(
    store: Store,
    until: int | None = None,
    *,
    shared: SettledUntil | None = None,
    piece_flows: int = PIECE_FLOWS,
    progress: Callable[[Settled], None] = lambda _done: None,
) -> Settled:
    """Settle all that is not.

    Args:
        store: open for writing.
        until: leave out what is later, in nanoseconds, and what comes meanwhile; None: nothing, nobody else writes.
        shared: with who writes flows meanwhile.
        piece_flows: about how many flows to settle at once.
        progress: called after each piece with what was done so far.
    """
    shared = shared or SettledUntil()
    done = Settled()
    while pieces := _find_pieces(store, until, piece_flows):
        for first, end, flows in pieces:
            shared.move_to(end)
            with store.transaction():
                attempts = _make(store, first, end, flows)
            done.stretches += 1
            done.flows += flows
            done.attempts += attempts
            progress(done)
        if until is not None:
            break
        # A piece may tell of addresses in others: these are made again.
    if until is None:
        store.run(sqlfiles.read("sql/read_stored.sql"))
    return done


def unsettle(store: Writer) -> None:
    """Let whoever asks expect what is not settled; before any flow is written."""
    store.run(sqlfiles.reading_all(store.value(sqlfiles.FLOWS_SINCE)))


def is_settled(store: Store) -> bool:
    """Tell whether all that is stored is settled."""
    return not store.rows("from unsettled_between(make_timestamp_ns(0), timestamp_ns '2262-01-01') limit 1")


def forget_changed(store: Writer) -> None:
    """Forget what no longer holds, because flows or objects came later; the caller opens the transaction."""
    store.run(_sql("forget_changed"))


def find_end(store: Store) -> int:
    """Return the end of all that is settled, in nanoseconds; 0 where nothing is."""
    return integer(store.value("select coalesce(epoch_ns(max(end_time)), 0) from stretches"))


def moment(nanoseconds: object) -> str:
    """Return a time as SQL that is known when a query is planned: only then what is older is not even read."""
    return f"make_timestamp_ns({nanoseconds})"


class Settling:
    """Settles in a thread of its own while flows come in.

    Args:
        store: of the writer.
        shared: with the writer.
        say: told why it cannot go on.
        then: done after each time.
        pause: between two times, in seconds.
    """

    def __init__(
        self,
        store: Store,
        shared: SettledUntil,
        say: Callable[[str], None],
        then: Callable[[Store], None] = lambda _store: None,
        pause: float = _PAUSE_SECONDS,
    ) -> None:
        self._store = store
        self._shared = shared
        self._say = say
        self._then = then
        self._pause = pause
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="settle", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """End after the piece under way. A second call does nothing."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            with self._store.beside() as beside:
                while not self._ended.wait(self._pause):
                    newest = beside.value("select epoch_ns(max(time)) from flows")
                    if newest is not None:
                        until = integer(newest) - REACH_NS - _LAG_NS
                        settle(beside, until, shared=self._shared, progress=self._stop_if_ended)
                        self._then(beside)
        except _EndedError:
            pass
        except DatabaseError as error:
            self._say(f"reports read all flows from now on: connections are not made any more ({error})")

    def _stop_if_ended(self, _done: Settled) -> None:
        if self._ended.is_set():
            raise _EndedError


class _EndedError(Exception):
    """Nobody waits for more."""


def _find_pieces(store: Store, until: int | None, piece_flows: int) -> list[tuple[int, int, int]]:
    """Forget what no longer holds and return what is to be made, both as of one moment."""
    with store.transaction():
        forget_changed(store)
        return list(_pieces(store, until, piece_flows))


def _pieces(store: Store, until: int | None, piece_flows: int) -> Iterator[tuple[int, int, int]]:
    """Return first moment, end and flows of each piece that is to be made, oldest first."""
    limit = moment(until) if until is not None else "timestamp_ns '2262-01-01'"
    holes = store.rows(_sql("holes", until=limit))
    for hole_first, hole_end in holes:
        first, last = integer(hole_first), integer(hole_end)
        parts = {"first": moment(first), "end": moment(last), "rows": str(piece_flows)}
        cuts = [(integer(end), integer(flows)) for end, flows in store.rows(_sql("cut", **parts))]
        before = 0
        # Behind the last flows there may be time without any.
        for end, flows in [*cuts[:-1], (last, cuts[-1][1] if cuts else 0)]:
            yield first, end, flows - before
            first, before = end, flows


def _make(store: Store, first: int, end: int, flows: int) -> int:
    since = integer(store.value(sqlfiles.FLOWS_SINCE))
    stretch = {"first": moment(first), "end": moment(end), "kept": moment(min(max(first, since), end))}
    ((open_first, open_end),) = store.rows(_sql("open_around", **stretch))
    stretch |= {"open_first": moment(max(integer(open_first), since)), "open_end": moment(open_end)}
    store.run(_sql("find_events", **stretch))
    with store.replace("events_asked(since, until)", _EVENTS.format(**stretch)):
        store.run(_sql("tell_addresses", **stretch))
        store.run(_sql("make_attempts", **stretch, flows=str(flows)))
    return integer(store.value(_sql("made", first=moment(first))))


def _sql(name: str, **parts: str) -> str:
    return sqlfiles.fill(f"collector/write/sql/settle/{name}.sql", parts)

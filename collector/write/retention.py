"""Forgets what is older than it is kept: flows, the events that decide, the connections that came of them.

Each layer ends at a whole minute, up to which all is settled. What flows and events told beyond themselves is stored
before they go: gaps of nodes, connections. A kill leaves a layer as it was before or as it is then.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from meshobs import sqlfiles
from meshobs.collector.write.settle import SettledUntil, is_settled, moment, unsettle
from meshobs.retention import LAYERS, Retention
from meshobs.store import Store, integer
from meshobs.times import SECOND

_MINUTE_NS = 60 * SECOND
# Events are kept for so long before the moment from which on reports rest on them: what is near counts for connections.
_MARGIN_NS = 2 * _MINUTE_NS
# Attempts of which connections are made at once: more take more memory, fewer more time for each.
_PIECE_ATTEMPTS = 400_000


@dataclass
class Pruned:
    """What was forgotten.

    Attributes:
        flows: that are gone.
        events: that are gone.
        connections: that are gone.
        connections_made: that are kept, without the events they were made of.
    """

    flows: int = 0
    events: int = 0
    connections: int = 0
    connections_made: int = 0

    def __bool__(self) -> bool:
        """Tell whether there was anything to forget."""
        return any((self.flows, self.events, self.connections))

    def __str__(self) -> str:
        """Return it in words."""
        made = f"; {self.connections_made} connections are kept without their events" if self.connections_made else ""
        return f"{self.flows} flows, {self.events} events, {self.connections} connections deleted{made}"


def prune(
    store: Store,
    retention: Retention,
    now: int,
    shared: SettledUntil | None = None,
    progress: Callable[[Pruned], None] = lambda _done: None,
) -> Pruned:
    """Forget what is older than it is kept, as far as it is settled.

    Args:
        store: open for writing.
        retention: how long what is kept.
        now: from when ages are counted, in nanoseconds.
        shared: with who writes flows meanwhile.
        progress: called now and then with what was done so far.
    """
    open_ends = shared is not None or not is_settled(store)
    shared = shared or SettledUntil()
    settled = integer(store.value(_sql("settled")))
    asked = tuple(_marks(retention, now))
    flows, events, connections = (_minute(min(one, settled)) for one in asked)
    done = Pruned()
    kept = {layer: integer(store.value("select epoch_ns(kept_since($layer))", {"layer": layer})) for layer in LAYERS}
    if flows > kept["flows"]:
        shared.keep_from(flows)
        with store.transaction():
            done.flows += _run(store, "forget_flows", before=moment(flows))
            if open_ends:
                unsettle(store)
        progress(done)
    since = max(kept["events"], connections)
    for until in _cut(store, since, events) if events > kept["events"] else ():
        with store.transaction():
            if since < until:
                bounds = {"since": moment(since), "until": moment(until)}
                done.connections_made += _run(store, "keep_connections", **bounds)
            # Where nothing came for long, nothing is near.
            before = min(until, _minute(asked[1]) - _MARGIN_NS) if until == events else until - _MARGIN_NS
            done.events += _run(store, "forget_events", before=moment(before), mark=moment(until))
        since = until
        progress(done)
    if connections > kept["connections"]:
        with store.transaction():
            done.connections += _run(store, "forget_connections", before=moment(connections))
            store.run(sqlfiles.read("queries/history/32_node_ranges.sql"))
    return done


def _run(store: Store, name: str, **parts: str) -> int:
    """Run what forgets or keeps rows, and return how many."""
    store.run(_sql(name, **parts))
    return integer(store.value("from rows_done"))


def _marks(retention: Retention, now: int) -> Iterator[int]:
    """Return from when on flows, events and connections are kept: what is made of something at most as it is itself."""
    ages = [retention.flows, retention.events, retention.connections]
    marks = [0 if age is None else now - age // timedelta(microseconds=1) * 1000 for age in ages]
    return (max(marks[at:]) for at in range(len(marks)))


def _cut(store: Store, since: int, until: int) -> Iterator[int]:
    """Return the ends of pieces with about so many attempts; the last is `until`."""
    bounds = {"since": moment(since), "until": moment(until), "rows": str(_PIECE_ATTEMPTS)}
    ends = [integer(end) for (end,) in store.rows(_sql("cut", **bounds))] if since < until else []
    yield from (end for end in ends[:-1] if end < until)
    yield until


def _minute(nanoseconds: int) -> int:
    return max(nanoseconds, 0) // _MINUTE_NS * _MINUTE_NS


def _sql(name: str, **parts: str) -> str:
    return sqlfiles.fill(f"collector/write/sql/prune/{name}.sql", parts)

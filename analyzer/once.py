"""What a report and what is told beside it ask of the same window: made once, of what is stored as far as it goes.

All bounds are constants in the SQL here: known when it is planned, they keep flows that do not matter from being read,
and what makes them from being planned, which takes longer than all the rest.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeAlias

from meshobs import sqlfiles
from meshobs.store import Parameters, Reader, Value, integer
from meshobs.times import END_OF_MOMENTS

# Each after those that it asks itself.
_ONCE = ("gaps_between", "watched_nodes", "unseen_backends")
_WITHIN = "select epoch_ns(window_since($since, $whole)), epoch_ns(window_until($since, $until, $whole))"
_NEAR = (
    "select epoch_ns(moved(make_timestamp_ns($since), -reach_seconds())),"
    " epoch_ns(moved(make_timestamp_ns($until), reach_seconds()))"
)
_AROUND = "select epoch_ns(read_from(make_timestamp_ns($since))), epoch_ns(read_to(make_timestamp_ns($until)))"
# What flows tell of addresses counts for hours.
_HOLES = (
    "select epoch_ns(first_time), epoch_ns(end_time)"
    " from unsettled_between(hours_from(make_timestamp_ns($since)), hours_to(make_timestamp_ns($until)))"
)
_WHOLE = (
    "select epoch_ns(whole_from), epoch_ns(whole_to)"
    " from whole_counts(make_timestamp_ns($since), make_timestamp_ns($until))"
)
_SEEN = (
    "select epoch_ns(min(first_time)), epoch_ns(max(last_time)) + 1"
    " from counts_asked(make_timestamp_ns($since), make_timestamp_ns($until))"
)
# Rows of connections are wide: of many, columns that nobody reads take as long as the rest. Few are made whole, for
# what is asked of the same window next.
_MANY = "select coalesce(sum(attempts), 0) > 50000 from stretches"
# First moment and end, in nanoseconds.
Stretch: TypeAlias = "tuple[int, int]"


@contextmanager
def asked_once(store: Reader, window: Mapping[str, object], reads: str = "*") -> Iterator["Stretch | None"]:
    """Let what is asked of a window several times be made once, as long as the context lasts.

    Args:
        store: what is asked.
        window: since, until and whole, as reports take them.
        reads: the columns of connections that are enough, as SQL.

    Yields:
        The first and last moment in which there are flows, the last not part of it; None where there are none.
    """
    (within,) = _stretches(store, _WITHIN, window)
    (around,) = _stretches(store, _AROUND, _bounds(within))
    kept = integer(store.value(sqlfiles.FLOWS_SINCE))
    holes = _stretches(store, _HOLES, _bounds(around))
    since, until = map(_moment, within)
    unsettled = _cut([(holes[0][0], holes[-1][1])], (kept, END_OF_MOMENTS)) if holes else []
    near = _cut(unsettled, _stretches(store, _NEAR, _bounds(around))[0]) if unsettled else []
    with ExitStack() as stack:
        for stretch in near:
            found = f"from deciding_flows({', '.join(map(_moment, stretch))})"
            stack.enter_context(store.remember("events_found(since, until)", found))
        for macro, body in (
            ("window_since(since, whole)", since),
            ("window_until(since, until, whole)", until),
            ("attempts_asked(since, until)", f"table {_attempts(around, holes)}"),
            ("events_asked(since, until)", f"table {_events(unsettled, near)}"),
        ):
            stack.enter_context(store.replace(macro, body))
        with store.replace("counts_asked(since, until)", f"table {_counts(store, around, holes, kept)}"):
            made = f"from nodes_tracing_sockets({', '.join(map(_moment, around))})"
            stack.enter_context(store.remember("nodes_tracing_sockets(since, until)", made))
        with store.replace(
            "counts_asked(since, until)", f"table {_counts(store, (within[0], around[1]), holes, kept)}"
        ):
            ((_, read),) = store.rows(_SEEN, _bounds(within))
        stack.enter_context(store.remember("counts_asked(since, until)", _counts(store, within, holes, kept)))
        ((first, end),) = store.rows(_SEEN, _bounds(within))
        seen = (first, end) if isinstance(first, int) and isinstance(end, int) else None
        if seen:
            bounds = f"select {_moment(first)} as first_time, {_moment(end)} as end_time"
            stack.enter_context(store.replace("window_bounds(since, until, whole)", f"table {bounds}"))
            stack.enter_context(store.replace("last_second_ns(since, until)", f"({read}::bigint - 1 - seconds_ns(1))"))
        for macro in _ONCE:
            stack.enter_context(store.remember(f"{macro}(since, until)", f"from {macro}({since}, {until})"))
        made = _connections(within, _cut(holes, around))
        if store.value(_MANY):
            made = f"select {reads} from ({made})"  # noqa: S608 - ours
        stack.enter_context(store.remember("connections_asked(since, until)", made))
        yield seen


def _attempts(window: Stretch, holes: Sequence[Stretch]) -> str:
    """Return the SQL for the attempts of a window.

    Args:
        window: which.
        holes: stretches that are not settled, in the hours around it, too.
    """
    since, until = map(_moment, window)
    inside = _cut(holes, window)
    if not inside:
        return f"from attempts where {_between(*window)}"
    moments = ", ".join(map(_moment, (inside[0][0], inside[-1][1], holes[0][0])))
    return f"from attempts_pieced({since}, {until}, {moments}, hours_to({until}))"


def _connections(window: Stretch, holes: Sequence[Stretch]) -> str:
    """Return the SQL for the connections of a window.

    Args:
        window: which.
        holes: stretches that are not settled, in what is read for it.
    """
    bounds = ", ".join(map(_moment, window))
    return f"from connections_pieced({bounds})" if holes else f"from connections_made('attempts_stored', {bounds})"


def _events(unsettled: Sequence[Stretch], found: Sequence[Stretch]) -> str:
    """Return the SQL for the events between any two moments.

    Args:
        unsettled: the stretch, if there is one, of which flows tell; what is stored tells of all else.
        found: the part of it in which flows are not read anew (events_found).
    """
    asked = "time >= since and time < until"
    stored = f"from events where {asked}"
    if not unsettled:
        return stored
    ((first, end),) = unsettled
    parts = [f"{stored} and (time < {_moment(first)} or time >= {_moment(end)})"]
    beside = [(first, end)]
    if found:
        parts.append(f"from events_found(since, until) where {asked}")
        beside = [(first, found[0][0]), (found[0][1], end)]
    parts += [f"from flows where {asked} and {_between(*bounds)}" for bounds in beside if bounds[0] < bounds[1]]
    return " union all by name ".join(parts)


def _between(first: int, end: int) -> str:
    return f"time >= {_moment(first)} and time < {_moment(end)}"


def _counts(store: Reader, window: Stretch, holes: Sequence[Stretch], kept: int) -> str:
    """Return the SQL for how many flows there were in a window."""
    since, until = map(_moment, window)
    (whole,) = _stretches(store, _WHOLE, _bounds(window))
    parts = [f"from flow_counts where first_time >= {since} and first_time < {until}"]
    anew = [(window[0], whole[0]), (whole[1], window[1]), *_cut(holes, window)]
    for first, end in _merge(_cut(anew, (kept, window[1]))):
        parts[0] += f" and not (first_time >= {_moment(first)} and first_time < {_moment(end)})"
        parts.append(f"from flows_counted({_moment(first)}, {_moment(end)})")
    return " union all by name ".join(parts)


def _cut(stretches: Sequence[Stretch], window: Stretch) -> list[Stretch]:
    """Return what of some stretches lies in a window."""
    cut = [(max(first, window[0]), min(end, window[1])) for first, end in stretches]
    return [(first, end) for first, end in cut if first < end]


def _merge(stretches: Sequence[Stretch]) -> list[Stretch]:
    """Return the same time without overlaps and empty stretches."""
    merged: list[Stretch] = []
    for first, end in sorted(stretches):
        if end <= first:
            continue
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return merged


def _stretches(store: Reader, sql: str, parameters: Parameters) -> list[Stretch]:
    return [(integer(first), integer(end)) for first, end in store.rows(sql, parameters)]


def _bounds(window: Stretch) -> dict[str, Value]:
    return {"since": window[0], "until": window[1]}


def _moment(nanoseconds: object) -> str:
    return f"make_timestamp_ns({nanoseconds})"

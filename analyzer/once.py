"""What a report, what is told beside it and connections ask of the same window: made once, of what is stored as far as it goes.

All bounds are constants in the SQL here: known when it is planned, they keep flows that do not matter from being read, and
what makes them from being planned, which takes longer than all the rest.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeAlias

from meshobs.store import Reader

# Each after those that it asks itself.
_ONCE = ("gaps_between", "watched_nodes", "unseen_backends")
# First moment and end, in nanoseconds.
Stretch: TypeAlias = "tuple[int, int]"


@contextmanager
def asked_once(store: Reader, window: Mapping[str, object]) -> Iterator[None]:
    """Let what is asked of a window several times be made once, as long as the context lasts.

    Args:
        store: what is asked.
        window: since, until and whole, as reports take them.
    """
    bounds = "epoch_ns(window_since($since, $whole)), epoch_ns(window_until($since, $until, $whole))"
    (within,) = _stretches(store, f"select {bounds}", window)
    (around,) = _stretches(store, f"select epoch_ns(read_from({_moment(within[0])})), epoch_ns(read_to({_moment(within[1])}))")
    since, until = map(_moment, within)
    with ExitStack() as stack:
        for macro, body in (
            ("window_since(since, whole)", since),
            ("window_until(since, until, whole)", until),
            ("attempts_asked(since, until)", f"table {_attempts(store, around)}"),
            ("events_asked(since, until)", f"table {_events(store, within)}"),
        ):
            stack.enter_context(store.replace(macro, body))
        with store.replace("counts_asked(since, until)", f"table {_counts(store, around)}"):
            made = f"from nodes_tracing_sockets({', '.join(map(_moment, around))})"
            stack.enter_context(store.remember("nodes_tracing_sockets(since, until)", made))
        stack.enter_context(store.remember("counts_asked(since, until)", _counts(store, within)))
        for macro in _ONCE:
            stack.enter_context(store.remember(f"{macro}(since, until)", f"from {macro}({since}, {until})"))
        made = f"from connections_between({since}, {until})"
        stack.enter_context(store.remember("connections_asked(since, until)", made))
        yield


def _attempts(store: Reader, window: Stretch) -> str:
    """Return the SQL for the attempts of a window."""
    since, until = map(_moment, window)
    ((first, end, told),) = store.rows(f"from unsettled_span({since}, {until})")
    if first is None:
        return f"from attempts where time >= {since} and time < {until}"
    moments = ", ".join(_moment(moment) for moment in (first, end, told))
    return f"from attempts_pieced({since}, {until}, {moments}, hours_to({until}))"


def _events(store: Reader, window: Stretch) -> str:
    """Return the SQL for the events between any two moments in or around a window."""
    since, until = map(_moment, window)
    ((first, end, _),) = store.rows(f"from unsettled_span(hours_from({since}), hours_to({until}))")
    if first is None:
        return "from events where time >= since and time < until"
    return f"from events_pieced(since, until, {_moment(first)}, {_moment(end)})"


def _counts(store: Reader, window: Stretch) -> str:
    """Return the SQL for how many flows there were in a window."""
    since, until = map(_moment, window)
    (whole,) = _stretches(store, f"select epoch_ns(whole_from), epoch_ns(whole_to) from whole_counts({since}, {until})")
    anew = [(window[0], whole[0]), (whole[1], window[1])]
    anew += _stretches(store, f"select first_ns, end_ns from unsettled_span({since}, {until}) where first_ns is not null")
    parts = [f"from flow_counts where first_time >= {since} and first_time < {until}"]
    for first, end in _merge(anew):
        parts[0] += f" and not (first_time >= {_moment(first)} and first_time < {_moment(end)})"
        parts.append(f"from flows_counted({_moment(first)}, {_moment(end)})")
    return " union all by name ".join(parts)


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


def _stretches(store: Reader, sql: str, parameters: Mapping[str, object] | None = None) -> list[Stretch]:
    return [(int(str(first)), int(str(end))) for first, end in store.rows(sql, parameters)]


def _moment(nanoseconds: object) -> str:
    return f"make_timestamp_ns({nanoseconds})"

"""Asks the database: a report's rows, the verdict, the window and what it rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from meshobs import catalog
from meshobs.analyzer.once import asked_once
from meshobs.analyzer.spec import Judgement, spec_of
from meshobs.analyzer.values import frame_of, values
from meshobs.errors import InputError
from meshobs.store import Reader, integer
from meshobs.times import Moment, instant, rfc3339
from meshobs.verdict import Verdict

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_WINDOW = "since := $since, until := $until, whole := $whole"
_FILTER = "only_namespace := $namespace, only_service := $service"
_CONNECTIONS = f"from connections_of({_WINDOW}, {_FILTER})"
_ALL = f"{_WINDOW}, {_FILTER}, max_unproved := $max_unproved"


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        since: first time of the window, or how long ago; None for the start of the last run. Kept as text (RFC 3339).
        until: end of the window, not part of it; None for the end of the last run, or with `since` the end of all.
        whole: look at the whole database.
        namespace: only this namespace.
        service: only this service.
        max_unproved: share of lost or one-sided events above which nothing is said.
    """

    since: Moment | None = None
    until: Moment | None = None
    whole: bool = False
    namespace: str | None = None
    service: str | None = None
    max_unproved: float = 0.01

    def __post_init__(self) -> None:
        """Fix the window: how long ago is counted from now on.

        Raises:
            InputError: a time is none, or there is nothing between them.
        """
        if not 0 <= self.max_unproved < 1:
            raise InputError(f"`max_unproved` must be a number from 0 to 1, not {self.max_unproved!r}")
        begin, end = (None if one is None else instant(one) for one in (self.since, self.until))
        if self.whole and (begin is not None or end is not None):
            raise InputError("`whole` is the whole database: leave it out, or leave out `since` and `until`")
        if begin is not None and end is not None and end <= begin:
            raise InputError("`until` is not later than `since`: nothing lies between them, give a later `until`")
        for name, moment in (("since", begin), ("until", end)):
            object.__setattr__(self, name, None if moment is None else rfc3339(moment))


@dataclass(frozen=True)
class Report:
    """An answer.

    Attributes:
        since: start of the window that was looked at, RFC 3339.
        until: its end.
        coverage: what the answer rests on, by name.
        limits: what was not asked for at all, a sentence each.
        table: the rows, as the macro in the database gives them.
    """

    name: str
    since: str
    until: str
    verdict: Verdict
    reason: str
    coverage: Mapping[str, int | float]
    limits: Sequence[str]
    table: "pa.Table"

    @cached_property
    def rows(self) -> "pl.DataFrame":
        """The rows as a frame."""
        return frame_of(self.table)

    @cached_property
    def values(self) -> Sequence[Mapping[str, object]]:
        """The rows as plain values, times as RFC 3339."""
        return values(self.table)

    def _repr_html_(self) -> str:
        """Return the report as notebooks show it."""
        from meshobs.analyzer.html import html  # noqa: PLC0415 - which knows reports

        return html(self)  # pyright: ignore[reportArgumentType] - the linked room is two modules to it


def run(store: Reader, name: str, question: Question) -> Report:
    """Answer a report's question.

    Raises:
        InputError: there is no such report or service, or no flow in the window.
    """
    _check(name, store, question)
    with asked_once(store, _window(question), spec_of(name).reads) as seen:
        if seen:
            table = store.table(f"from report_{name}({_ALL})", _parameters(question))
            (coverage,) = store.table(f"from coverage_summary({_WINDOW})", _window(question)).to_pylist()
            limits = [str(limit) for (limit,) in store.rows(f"from window_limits({_WINDOW})", _window(question))]
            judgement: Judgement = spec_of(name).judge(values(table))
            if judgement.reason == spec_of(name).nothing:
                judgement = Judgement(judgement.verdict, _why_nothing(store, question) or judgement.reason)
            bounds = rfc3339(seen[0]), rfc3339(seen[1])
            return Report(name, *bounds, judgement.verdict, judgement.reason, coverage, limits, table)
    raise InputError(_empty(store, question))


def evidence(store: Reader, name: str, question: Question, limit: int, *, as_texts: bool = False) -> "pa.Table":
    """Return the flows behind a report, those of violations first: uuid, time, node and what they stand for."""
    _check(name, store, question)
    parameters = {**_window(question), **_filter(question), "limit": limit}
    with asked_once(store, _window(question)):
        ask = store.texts if as_texts else store.table
        return ask(f"from evidence_{name}({_WINDOW}, {_FILTER}) limit $limit", parameters)


def connections(store: Reader, question: Question) -> "pa.Table":
    """Return the connections of a window, also those whose events are pruned, which no report rests on."""
    _check_service(store, question)
    with asked_once(store, _window(question)):
        return store.table(_CONNECTIONS, {**_window(question), **_filter(question)})


def connection_batches(store: Reader, question: Question) -> "pa.RecordBatchReader":
    """Return the same piece by piece."""
    _check_service(store, question)
    return store.batches(_CONNECTIONS, {**_window(question), **_filter(question)})


def texts(store: Reader, name: str, question: Question) -> "pa.Table":
    """Return a report's rows as the texts that DuckDB makes of them."""
    _check(name, store, question)
    with asked_once(store, _window(question), spec_of(name).reads):
        return store.texts(f"from report_{name}({_ALL})", _parameters(question))


def _window(question: Question) -> dict[str, object]:
    return {"since": question.since, "until": question.until, "whole": question.whole}


def _filter(question: Question) -> dict[str, object]:
    return {"namespace": question.namespace, "service": question.service}


def _parameters(question: Question) -> dict[str, object]:
    return {**_window(question), **_filter(question), "max_unproved": question.max_unproved}


def _why_nothing(store: Reader, question: Question) -> str:
    """Return why nothing could be seen in flows that lack what shows it; empty where they lack nothing."""
    parameters = {**_window(question), "max_unproved": question.max_unproved}
    ((lacking,),) = store.rows(f"from lacking_summary({_WINDOW}, max_unproved := $max_unproved)", parameters)
    return f"what was not seen proves nothing: {lacking}" if lacking else ""


def _empty(store: Reader, question: Question) -> str:
    ((first, last),) = store.rows("from window_seen(whole := true)")
    if not isinstance(first, int) or not isinstance(last, int):
        ((since,),) = store.rows("select epoch_ns(kept_since('events'))")
        if since:
            return (
                f"{store.path} holds nothing since {rfc3339(integer(since))}, and what came before is pruned:"
                " reports rest on events, which are gone; `from connections` has the connections that are kept"
            )
        return f"{store.path} holds no flows yet: `meshobs import` or `meshobs collect` brings some"
    asked = f"since {question.since or 'the start'} until {question.until or 'the end'}"
    return f"no flow {asked}: {store.path} holds {rfc3339(first)} to {rfc3339(last)}"


def _check(name: str, store: Reader, question: Question) -> None:
    if name not in catalog.names():
        raise InputError(f"there is no report {name}: choose one of {', '.join(catalog.names())}")
    _check_service(store, question)


def _check_service(store: Reader, question: Question) -> None:
    if question.service is None and question.namespace is None:
        return
    known = store.rows("from known_services")
    wanted = [
        (namespace, service)
        for namespace, service in known
        if question.namespace in (None, namespace) and question.service in (None, service)
    ]
    if not wanted:
        asked = f"{question.namespace or '*'}/{question.service or '*'}"
        names = ", ".join(f"{namespace}/{service}" for namespace, service in known) or "none"
        raise InputError(f"no service {asked} in {store.path}; known services: {names}")

"""A database to ask: its reports, the flows behind them, and SQL."""

from pathlib import Path
from typing import TYPE_CHECKING, Self

from meshobs import analyzer, live
from meshobs.analyzer import Question, Report
from meshobs.analyzer.values import frame_of
from meshobs.errors import InputError, OutdatedError
from meshobs.store import OpenDatabase, Parameters, Store
from meshobs.times import Moment

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


def open_store(path: Path) -> OpenDatabase:
    """Open a database for reading, brought up to date first where an older meshobs wrote it.

    While a collection runs, its own process is asked.

    Raises:
        DatabaseError: it cannot be read.
    """
    if server := live.find(path):
        return live.LiveReader.open(path, server)
    try:
        return Store.open(path)
    except OutdatedError:
        Store.open(path, write=True).close()
        return Store.open(path)


def open_database(path: str | Path) -> "Database":
    """Open a database for reading, also while a collection writes it.

    Raises:
        DatabaseError: it does not exist, or cannot be read.
    """
    return Database(open_store(Path(path)))


class Database:
    """A database that is open for reading; a context manager that closes it.

    Args:
        store: the open store.
    """

    def __init__(self, store: OpenDatabase) -> None:
        self._store = store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"meshobs.open({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """Return the database's file."""
        return self._store.path

    @property
    def tables(self) -> list[str]:
        """Return the names of the tables, in order; docs/reference/tables.md says what is in them."""
        return self._store.tables()

    def close(self) -> None:
        """Close it. A second call does nothing."""
        self._store.close()

    def report(
        self,
        name: str,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        whole: bool = False,
        namespace: str | None = None,
        service: str | None = None,
        max_unproved: float = 0.01,
    ) -> Report:
        """Answer a report's question. Without a window it is about the last import or collection.

        Args:
            name: affinity, nat, hops, services or coverage.
            since: first time of the window (text as RFC 3339, or a datetime), or how long ago ("5m", or a timedelta).
            until: end of the window, not part of it.
            whole: look at the whole database.
            namespace: only services of this namespace.
            service: only this service.
            max_unproved: share of lost or one-sided events, 0 to 1, above which a verdict is insufficient.

        Raises:
            InputError: there is no such report or service, no flow in the window, or an argument is wrong.
        """
        return analyzer.run(self._store, name, Question(since, until, whole, namespace, service, max_unproved))

    def evidence(
        self,
        name: str,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        whole: bool = False,
        namespace: str | None = None,
        service: str | None = None,
        limit: int = 100,
    ) -> "pl.DataFrame":
        """Return the flows behind a report, those of violations first: uuid, time, node and what they stand for.

        Args:
            name: of the report.
            since: as of `report`.
            until: as of `report`.
            whole: as of `report`.
            namespace: as of `report`.
            service: as of `report`.
            limit: at most so many flows.

        Raises:
            InputError: there is no such report or service, or an argument is wrong.
        """
        if limit < 1:
            raise InputError(f"`limit` must be at least 1, not {limit}")
        return frame_of(analyzer.evidence(self._store, name, Question(since, until, whole, namespace, service), limit))

    def connections(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        whole: bool = False,
        namespace: str | None = None,
        service: str | None = None,
    ) -> "pl.DataFrame":
        """Return connections, a row each: both ends, the door, what became of it, the flows that tell of it.

        Columns are those of the view `connections` in docs/reference/views.md; `connection` numbers the rows of an
        answer, among which are those whose events are pruned.

        Args:
            since: as of `report`.
            until: as of `report`.
            whole: as of `report`.
            namespace: only those of whose ends or service one is in it.
            service: only those that called it.

        Raises:
            InputError: there is no such service, or an argument is wrong.
        """
        asked = Question(since, until, whole, namespace, service)
        return frame_of(analyzer.connections(self._store, asked))

    def connection_batches(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        whole: bool = False,
        namespace: str | None = None,
        service: str | None = None,
    ) -> "pa.RecordBatchReader":
        """Return the same as an Arrow reader, piece by piece, for what is too much at once; as long as this is open.

        Args:
            since: as of `report`.
            until: as of `report`.
            whole: as of `report`.
            namespace: as of `connections`.
            service: as of `connections`.

        Raises:
            InputError: as of `connections`.
        """
        return analyzer.connection_batches(self._store, Question(since, until, whole, namespace, service))

    def sql(self, query: str, parameters: Parameters = None) -> "pl.DataFrame":
        """Run a query; tables, views and macros are those of docs/reference/README.md.

        Args:
            query: read only.
            parameters: by name for `$name` in the query; by position only where no collection writes the file.

        Raises:
            InputError: there is no query in the text.
            DatabaseError: it cannot be run.
        """
        if not self._store.is_query(query):
            raise InputError('there is no query: try "from report_affinity()"')
        return frame_of(self._store.table(query, parameters))

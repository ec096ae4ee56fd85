"""The only door to DuckDB: opens the one database file, brings it up to date and runs SQL on it.

One process may write at a time; that is DuckDB's rule. Everything that can be wrong with the file becomes a
DatabaseError that says what to do.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias, TypeVar

import duckdb

from meshobs import catalog, sqlfiles
from meshobs.errors import DatabaseError, OutdatedError

if TYPE_CHECKING:
    import pyarrow as pa

# Reading other file kinds by downloading an extension is not ours to do behind the user's back.
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    # Small transactions would otherwise rewrite row groups again and again (docs/internals.md, "The way of a message").
    "checkpoint_threshold": "256MB",
}
# Rows of a row group. Half of DuckDB's default: a writer holds one in memory, and a transaction of just as many rows
# goes into the file without a detour over the log.
ROW_GROUP = 61_440
# Bytes of a block of a new file. A quarter of DuckDB's default: less memory for the same rows, and 29 bytes per flow
# instead of 35, since 44 columns leave fewer blocks half empty.
_BLOCK = 65_536
# What a writer keeps in memory of blocks that are written already. A million flows, one run each: with 8 MB 10.5 us of
# CPU per flow and 277 MB at the peak, with 24 MB 9.3 us and 291 MB, with 48 MB 9.1 us and 304 MB.
_KEPT = "24MB"
# DuckDB would keep most of the machine's memory full of what was written; a writer reads little of it again.
_WRITER_LIMIT = "512MB"
_WRITER_CONFIG = {**_CONFIG, "memory_limit": _WRITER_LIMIT, "threads": 1}
# Under which name a writer attaches the file.
_ATTACHED = "meshobs"
_TABLES = """
select table_name from duckdb_tables() where not internal and database_name = current_database() order by all
"""
# DuckDB 1.5.5 fails so where two threads meet in a window function over few rows, and is of no use afterwards: about
# one report of 200 on a busy machine (duckdb#22846, #25713; with one thread never).
_RACE = "Attempted to access index 0 within vector of size 0"
Value: TypeAlias = object
Connection: TypeAlias = duckdb.DuckDBPyConnection
Row: TypeAlias = tuple[Value, ...]
Answer = TypeVar("Answer")
# By position, or by name.
Parameters: TypeAlias = Sequence[Value] | Mapping[str, Value] | None


def integer(value: Value) -> int:
    """Return what DuckDB gave as the number that it is."""
    if not isinstance(value, int):
        raise TypeError(f"DuckDB gave {value!r} for a number")
    return value


class Feed:
    """Arrow data under a fixed name. Statements prepared on it need no new plan when the data change.

    Attributes:
        data: what the table holds now.
    """

    def __init__(self, data: "pa.Table") -> None:
        self.data = data

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Hand the data to DuckDB."""
        return self.data.__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        """Tell DuckDB the schema."""
        return self.data.schema.__arrow_c_schema__()


class Reader(Protocol):
    """What can be asked of a database, in its file or in the process that collects into it."""

    path: Path

    def rows(self, sql: str, parameters: Parameters = None) -> list[Row]:
        """Run a query and return its rows."""
        ...

    def value(self, sql: str, parameters: Parameters = None) -> Value:
        """Run a query and return the first column of its first row, None where there is no row."""
        ...

    def table(self, sql: str, parameters: Parameters = None) -> "pa.Table":
        """Run a query and return an Arrow table."""
        ...

    def batches(self, sql: str, parameters: Parameters = None) -> "pa.RecordBatchReader":
        """Run a query and return what gives its rows piece by piece, until the database is closed."""
        ...

    def texts(self, sql: str, parameters: Parameters = None) -> "pa.Table":
        """Run a query and return its values as the texts that DuckDB makes of them."""
        ...

    def remember(self, macro: str, query: str) -> AbstractContextManager[None]:
        """Let a table macro give what a query gives, whatever it is asked, where that can be; the query is run once."""
        ...

    def replace(self, macro: str, body: str) -> AbstractContextManager[None]:
        """Let a macro be another one, whatever it is asked, where that can be."""
        ...


class Writer(Reader, Protocol):
    """What changes a database, by transactions."""

    def run(self, sql: str, parameters: Parameters = None) -> None:
        """Run one statement or, without parameters, several."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Commit what happens inside, or nothing of it."""
        ...


class OpenDatabase:
    """An open connection; what is wrong with DuckDB becomes a DatabaseError.

    Args:
        path: the file, for words.
        connection: DuckDB's.
        write: whether the file is held for writing.
    """

    def __init__(self, path: Path, connection: Connection, *, write: bool = False) -> None:
        self.path = path
        self.write = write
        self._connection = connection
        self._cursors: list[Connection] = []

    @staticmethod
    def in_memory() -> Connection:
        """Return a connection to an empty database in memory, for readers of what lies elsewhere."""
        connection = duckdb.connect(config=_CONFIG)
        connection.execute("set TimeZone = 'UTC'")
        return connection

    def close(self) -> None:
        """Flush and close. A second call does nothing."""
        with self.translate_errors():
            for cursor in self._cursors:
                cursor.close()
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if self.write and isinstance(error, KeyboardInterrupt):
            error.add_note("what was committed is kept")
        self.close()

    def rows(self, sql: str, parameters: Parameters = None) -> list[Row]:
        """Run a query and return its rows."""
        return self._ask(lambda connection: connection.execute(sql, parameters).fetchall())

    def value(self, sql: str, parameters: Parameters = None) -> Value:
        """Run a query and return the first column of its first row, None where there is no row."""
        rows = self.rows(sql, parameters)
        return rows[0][0] if rows else None

    def is_query(self, sql: str) -> bool:
        """Tell whether a text has any statement in it."""
        with self.translate_errors():
            return bool(self._connection.extract_statements(sql))

    def table(self, sql: str, parameters: Parameters = None) -> "pa.Table":
        """Run a query and return an Arrow table: polars is slow to load. Its columns have names of their own."""
        found = self._ask(lambda connection: connection.execute(sql, parameters).to_arrow_table())
        return found.rename_columns(_tell_apart(found.column_names))

    def batches(self, sql: str, parameters: Parameters = None) -> "pa.RecordBatchReader":
        """Run a query and return what gives its rows piece by piece, until the database is closed."""
        import pyarrow as pa  # noqa: PLC0415 - only where it is used

        # Whatever else is asked of a connection ends what it still gives.
        cursor = self._connection.cursor()
        self._cursors.append(cursor)
        with self.translate_errors():
            found = cursor.execute(sql, parameters).to_arrow_reader(ROW_GROUP)
        return pa.RecordBatchReader.from_batches(found.schema, self._read_on(found))

    def _read_on(self, batches: "pa.RecordBatchReader") -> "Iterator[pa.RecordBatch]":
        with self.translate_errors():
            yield from batches

    def texts(self, sql: str, parameters: Parameters = None) -> "pa.Table":
        """Run a query and return its values as the texts that DuckDB makes of them."""
        return self._ask(
            lambda connection: connection.sql(sql, params=parameters).select("columns(*)::varchar").to_arrow_table()
        )

    @contextmanager
    def remember(self, macro: str, query: str) -> Iterator[None]:  # noqa: ARG002 - not everything can
        """Change nothing: each query is on its own."""
        yield

    @contextmanager
    def replace(self, macro: str, body: str) -> Iterator[None]:  # noqa: ARG002 - not everything can
        """Change nothing: macros are as they are."""
        yield

    def tables(self) -> list[str]:
        """Return the names of the tables, in order."""
        return [str(name) for (name,) in self.rows(_TABLES)]

    def copy_tables(self, folder: Path) -> Iterator[tuple[str, Value]]:
        """Write each table to `folder`/TABLE.parquet; yield its name and number of rows when it is done."""
        for table in self.tables():
            target = sqlfiles.quote(str(folder / f"{table}.parquet"))
            sql = f"copy ({self.table_sql(table)}) to '{target}' (format parquet, compression zstd)"
            with self.translate_errors():
                (written,) = self._connection.execute(sql).fetchone() or (0,)
            yield table, written

    def table_sql(self, table: str) -> str:
        """Return the SQL that reads a table."""
        return f"from {table}"

    def interrupt(self) -> None:
        """Stop the running query from another thread."""
        self._connection.interrupt()

    def _ask(self, question: Callable[[Connection], Answer]) -> Answer:
        with self.translate_errors():
            return question(self._connection)

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Turn DuckDB's errors inside into a DatabaseError, and its word for a Ctrl-C into KeyboardInterrupt."""
        try:
            with _unwrap_interruption():
                yield
        except duckdb.Error as error:
            raise _explain(error, self.path, write=self.write) from error


class Store(OpenDatabase):
    """A meshobs database in its file; `open` opens one."""

    def __init__(self, path: Path, connection: Connection, *, write: bool = False, limit: str = _WRITER_LIMIT) -> None:
        super().__init__(path, connection, write=write)
        self._limit = limit
        self._remembered: dict[str, str] = {}
        # Nobody else may change what is remembered.
        self._alone = True

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> Self:
        """Open a database.

        Args:
            path: the file; created where it does not exist and `write` is set.
            write: hold the file for writing, and migrate it. Without it the file is only read and must exist.

        Raises:
            OutdatedError: read only, and an older meshobs wrote it; opening it for writing mends that.
            DatabaseError: the file is missing, locked, not DuckDB's, not ours, newer than this program, or not
                writable.
        """
        store = cls(path, _connect(path, cls._make, write=write), write=write)
        try:
            with store.translate_errors():
                store._check()
                if write:
                    store._bring_up_to_date()
        except BaseException:
            store._connection.close()
            raise
        return store

    def run(self, sql: str, parameters: Parameters = None) -> None:
        """Run one statement or, without parameters, several."""
        self._remembered.clear()  # it may change what was asked
        self._run(sql, parameters)

    def _run(self, sql: str, parameters: Parameters = None) -> None:
        with self.translate_errors():
            self._connection.execute(sql, parameters)

    def _ask(self, question: Callable[[Connection], Answer]) -> Answer:
        with self.translate_errors():
            try:
                return question(self._connection)
            except duckdb.InternalException as error:
                # A writer has one thread and is never hit.
                if self.write or _RACE not in str(error):
                    raise
                self._connection.close()
                self._connection = _read(self.path, threads=1)
                self._remembered.clear()
                return question(self._connection)

    @contextmanager
    def remember(self, macro: str, query: str) -> Iterator[None]:
        """Let a table macro give what a query gives, whatever it is asked, as long as the context lasts.

        Args:
            macro: its name with the names of its parameters.
            query: run once; its result is kept for the next time, too, until anything is written.
        """
        name = macro.partition("(")[0]
        if not self._alone or self._remembered.get(name) != query:
            self._ask(lambda connection: connection.execute(f"create or replace temp table {name}_once as {query}"))
            self._remembered[name] = query
        with self.replace(macro, f"table from {name}_once"):
            yield

    @contextmanager
    def replace(self, macro: str, body: str) -> Iterator[None]:
        """Let a macro be another one, whatever it is asked, as long as the context lasts.

        Args:
            macro: its name with the names of its parameters.
            body: an expression, or `table` and a query.
        """
        kind = "macro table" if body.startswith("table ") else "macro"
        self._run(f"create or replace temp macro {macro} as {body}")
        try:
            yield
        finally:
            self._run(f"drop {kind} if exists temp.{macro.partition('(')[0]}")

    def feed(self, name: str, data: "pa.Table") -> "Feed":
        """Make Arrow data readable as a table of that name for as long as the store is open; the data may be exchanged.

        Args:
            name: of the table.
            data: the first content; later ones have the same schema.
        """
        feed = Feed(data)
        with self.translate_errors():
            self._connection.register(name, feed)
        return feed

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what happens inside, or nothing of it."""
        self.run("begin transaction")
        try:
            yield
            self.run("commit")
        except BaseException:
            self.rollback()
            raise

    def rollback(self) -> None:
        """End the open transaction, if there is one, without its changes."""
        self._remembered.clear()  # its temporary table may be among them
        with suppress(duckdb.Error), _unwrap_interruption():
            self._connection.execute("rollback")

    def checkpoint(self) -> None:
        """Move what was committed into the file and let its memory go; where somebody reads just now, another time."""
        # Rows deleted from temporary tables stay in memory until then, too.
        for checkpoint in ("checkpoint", "checkpoint temp"):
            with suppress(duckdb.Error), _unwrap_interruption():
                self._connection.execute(checkpoint)
        # DuckDB keeps written blocks up to its limit; a lower one drops them.
        for limit in (_KEPT, self._limit):
            with suppress(duckdb.Error), _unwrap_interruption():
                self._connection.execute(f"set memory_limit = '{limit}'")

    def free_bytes(self) -> tuple[int, int]:
        """Return how much of the file is free, and its size."""
        sizes = "select free_blocks, total_blocks, block_size from pragma_database_size() where database_name = $name"
        ((free, total, block),) = self.rows(sizes, {"name": _ATTACHED})
        return integer(free) * integer(block), integer(total) * integer(block)

    @classmethod
    def compact(cls, path: Path) -> None:
        """Write a file anew without its free space; killed at any moment, it is as it was or as it is then.

        Raises:
            DatabaseError: it is in use, or there is no room.
        """
        copy = _unfinished(path)
        try:
            with cls.open(path, write=True) as store:
                store.run("checkpoint")  # what is left of the log would be taken for the copy's
                quoted = sqlfiles.quote(str(copy))
                store.run(f"attach '{quoted}' as copied (row_group_size {ROW_GROUP}, block_size {_BLOCK})")
                store.run(f"copy from database {_ATTACHED} to copied")
                store.run("detach copied")
                shutil.copymode(path, copy)
                copy.replace(path)
        finally:
            with suppress(OSError):
                copy.unlink()

    def allow_memory(self, limit: str) -> None:
        """Let queries beside the writer use more than the writer needs."""
        self._limit = limit
        self.run(f"set memory_limit = '{limit}'")

    def beside(self) -> "Store":
        """Return the same open database for another thread, with transactions of its own."""
        with self.translate_errors():
            cursor = self._connection.cursor()
            cursor.execute(f"use {_ATTACHED}; set TimeZone = 'UTC'" if self.write else "set TimeZone = 'UTC'")
        made = Store(self.path, cursor, write=self.write, limit=self._limit)
        made._alone = False
        return made

    @classmethod
    def _make(cls, path: Path) -> None:
        """Make a file with all tables, whole or not at all: one that is killed halfway would be no database.

        Its tables must not stand in a log: DuckDB 1.5 cannot replay `alter table` of one with a sequence as a default
        when it opens the file as its first database, as readers do.
        """
        unfinished = _unfinished(path)
        try:
            made = cls(path, _attach(unfinished, f", block_size {_BLOCK}"), write=True)
            with made:
                made._bring_up_to_date()
            with suppress(FileExistsError):  # another process was quicker
                os.link(unfinished, path)
        except OSError as error:
            raise DatabaseError(f"{path} cannot be written: check its folder ({error.strerror})") from error
        finally:
            with suppress(OSError):
                unfinished.unlink()

    def _check(self) -> None:
        """Refuse what is not ours or newer; read only, also what is older."""
        tables = self.tables()
        if not tables and self.write:
            return
        if "schema_migrations" not in tables:
            raise DatabaseError(f"{self.path} is a DuckDB database, but not one of meshobs: choose another file")
        newest, known = self.value("select max(number) from schema_migrations"), len(sqlfiles.names("queries/schema"))
        if isinstance(newest, int) and newest > known:
            raise DatabaseError(
                f"{self.path} was written by a newer meshobs (schema {newest}, this one knows {known}):"
                " upgrade meshobs, or choose another file"
            )
        if not self.write and (newest != known or self.value("select fingerprint from queries") != _fingerprint()):
            raise OutdatedError(f"{self.path} was written by an older meshobs")

    def _bring_up_to_date(self) -> None:
        self.run(
            "create table if not exists schema_migrations"
            " (number integer primary key, name varchar not null, applied timestamp not null)"
        )
        done = {number for (number,) in self.rows("select number from schema_migrations")}
        missing = [name for name in sqlfiles.names("queries/schema") if _number(name) not in done]
        for name in missing:
            with self.transaction():
                self.run(sqlfiles.read(name))
                self.run("insert into schema_migrations values (?, ?, now()::timestamp)", [_number(name), name])
        if missing:
            # Out of the log, which readers may not be able to replay.
            self.run("checkpoint")
        if self.value("select fingerprint from queries") != _fingerprint():
            with self.transaction():
                for text in _queries():
                    self.run(text)
                # What was made by other rules does not hold.
                self.run("delete from stretches")
                self.run(sqlfiles.reading_all(self.value(sqlfiles.FLOWS_SINCE)))
                self.run("delete from queries")
                self.run("insert into queries values (?)", [_fingerprint()])
        if missing and done:
            # What is made of objects is made anew: its tables may have changed.
            with self.transaction():
                for name in sqlfiles.names("queries/history"):
                    self.run(sqlfiles.read(name))
        self.run(sqlfiles.read("sql/undo_torn.sql"))


def _unfinished(path: Path) -> Path:
    """Return where a file is made that will take this one's place."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def _tell_apart(names: Sequence[str]) -> list[str]:
    """Return names of columns as DuckDB tells equal ones apart: a, a_1, A_2."""
    taken: dict[str, int] = {}
    found = []
    for name in names:
        own = name
        while own.lower() in taken:
            own = f"{name}_{taken[name.lower()]}"
            taken[name.lower()] += 1
        taken[own.lower()] = 1
        found.append(own)
    return found


@contextmanager
def _unwrap_interruption() -> Iterator[None]:
    """Raise KeyboardInterrupt for what DuckDB makes of a Ctrl-C: RuntimeError("Query interrupted")."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise


def _fingerprint() -> str:
    """Return what tells the installed views and macros from others."""
    return hashlib.sha256("".join(_queries()).encode()).hexdigest()


def _queries() -> list[str]:
    """Return what is installed into the file, in order: what reports call, the reports, what their causes mean."""
    return [*map(sqlfiles.read, sqlfiles.list_installed()), catalog.causes()]


def _number(name: str) -> int:
    return int(name.rsplit("/", 1)[-1].split("_", 1)[0])


def _attach(path: Path, options: str) -> Connection:
    """Open a file for writing; only ATTACH takes the size of row groups."""
    connection = duckdb.connect(config=_WRITER_CONFIG)
    quoted = sqlfiles.quote(str(path))
    connection.execute(f"attach '{quoted}' as {_ATTACHED} (row_group_size {ROW_GROUP}{options}); use {_ATTACHED}")
    return connection


def _read(path: Path, **settings: int) -> Connection:
    connection = duckdb.connect(str(path), read_only=True, config={**_CONFIG, **settings})
    connection.execute("set TimeZone = 'UTC'")
    return connection


def _connect(path: Path, make: Callable[[Path], None], *, write: bool) -> Connection:
    if path.is_dir():
        raise DatabaseError(f"{path} is a folder: name a file")
    if not write and not path.exists():
        raise DatabaseError(
            f"{path} does not exist: `meshobs collect` or `meshobs import` makes it (without a mesh of yours, first"
            " `meshobs lab up`), or choose another file"
        )
    if write and not path.parent.is_dir():
        raise DatabaseError(f"the folder {path.parent} does not exist: make it, or choose another file")
    if path.exists() and path.stat().st_size == 0:
        raise DatabaseError(f"{path} is empty and so not a DuckDB database: delete it, or choose another file")
    try:
        with _unwrap_interruption():
            if write:
                if not path.exists():
                    make(path)
                connection = _attach(path, "")
                connection.execute("set TimeZone = 'UTC'")
            else:
                connection = _read(path)
    except duckdb.Error as error:
        raise _explain(error, path, write=write) from error
    return connection


# What DuckDB says -> what the user is told; `{path}` is the file, `{text}` DuckDB's words. The first that fits counts.
_EXPLANATIONS = (
    (
        "already attached by database|different configuration than existing",
        "{path} is open in this program already: close it first",
    ),
    ("Could not set lock", "{path} is in use by another process: wait until it ends, or stop it"),
    (
        "not a valid DuckDB database|sqlite_scanner",
        "{path} is not a DuckDB database: choose another file",
    ),
    (
        "Trying to read a database file with version|was written with a newer",
        "{path} was written by a newer DuckDB: upgrade meshobs, or choose another file",
    ),
    (
        "replaying WAL",
        "{path} does not go with the log beside it, {path}.wal: if another file of this name left that, delete it",
    ),
    (
        "Corrupt database file|Could not read enough bytes|deserialization",
        "{path} is damaged: restore it from a copy, or import again into another file ({text})",
    ),
    (
        "No space left on device|could not write all bytes",
        "no space left for {path}: free some and run the command again; what was committed is kept",
    ),
    (
        "Permission denied|Read-only file system|read-only mode",
        "{path} cannot be written: check its permissions and those of its folder ({text})",
    ),
)


def _explain(error: duckdb.Error, path: Path, *, write: bool) -> DatabaseError:
    # What follows is for DuckDB's own people.
    text = " ".join(str(error).partition("Stack Trace:")[0].split())
    if not write and "attached in read-only mode" in text:
        return DatabaseError(f"{path} is opened read only")
    holder = re.search(r"Conflicting lock is held in (\S+) \(PID (\d+)\)", text)
    if holder:
        return DatabaseError(
            f"{path} is in use by process {holder[2]} ({Path(holder[1]).name}): wait until it ends, or stop it"
        )
    for pattern, explanation in _EXPLANATIONS:
        if re.search(pattern, text, re.IGNORECASE):
            return DatabaseError(explanation.format(path=path, text=text))
    return DatabaseError(text)

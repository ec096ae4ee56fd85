"""Reading a database while a collection writes it: DuckDB's Quack on loopback, read only, behind a token.

DuckDB lets one process open a file. The collecting one therefore serves its data; how to reach them stands in
`DATABASE.live.sql`, readable for its owner only: the reading commands look there, and the plain shell runs it
(`duckdb -init meshobs.duckdb.live.sql`).
"""

import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self

from meshobs import private, sqlfiles
from meshobs.errors import DatabaseError
from meshobs.store import Connection, OpenDatabase, Parameters, Row, Store, Value

if TYPE_CHECKING:
    import pyarrow as pa

# What one who reads may use beside the writer.
_MEMORY = "2GB"
_EXTENSIONS = ("httpfs", "quack")
_MACROS = """
select function_name, parameters
from duckdb_functions()
where database_name = current_database() and function_type = 'table_macro' and starts_with(function_name, 'report_')
order by all
"""


@dataclass(frozen=True)
class Server:
    """Where a collection serves its data."""

    uri: str
    token: str
    pid: int


def file_of(db: Path) -> Path:
    """Return the file that says how to reach a collection's data."""
    return db.with_name(f"{db.name}.live.sql")


def find(db: Path) -> Server | None:
    """Return where a running collection serves a database, None if none does."""
    try:
        first = file_of(db).read_text(encoding="utf-8").splitlines()[0]
        server = Server(**json.loads(first.removeprefix("-- ")))
        os.kill(server.pid, 0)
    except (OSError, ValueError, IndexError, TypeError):
        return None
    return server


@contextmanager
def serve(store: Store, say: Callable[[str], None]) -> Iterator[None]:
    """Serve a store that is open for writing until the end; where that cannot be, say so and go on without.

    Args:
        store: open for writing. Its process cannot read or write other files by SQL from then on.
        say: told why nothing is served.
    """
    path = file_of(store.path)
    try:
        server = _start_server(store)
        private.write(path, _start_file(store, server).encode())
    except (DatabaseError, OSError) as error:
        say(f"nothing can read {store.path} while it is collected: {error}")
        yield
        return
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        with suppress(DatabaseError):
            store.run(f"call quack_stop('{server.uri}')")


class LiveReader(OpenDatabase):
    """A database that another process collects into; each query is a SELECT that runs there. `open` opens one."""

    def __init__(self, path: Path, connection: Connection, server: Server) -> None:
        super().__init__(path, connection)
        self._server = server

    @classmethod
    def open(cls, path: Path, server: Server) -> Self:
        """Reach a database where it is served.

        Args:
            path: the database, for words.
            server: where it is served.

        Raises:
            DatabaseError: it cannot be reached.
        """
        reader = cls(path, OpenDatabase.in_memory(), server)
        try:
            with reader.translate_errors():
                reader._connection.execute(_load_sql())
            reader.rows("select 1")
        except BaseException:
            reader.close()
            raise
        return reader

    def rows(self, sql: str, parameters: Parameters = None) -> list[Row]:
        """Run a query and return its rows."""
        return super().rows(*self._there(sql, parameters))

    def table(self, sql: str, parameters: Parameters = None) -> "pa.Table":
        """Run a query and return an Arrow table."""
        return super().table(*self._there(sql, parameters))

    def batches(self, sql: str, parameters: Parameters = None) -> "pa.RecordBatchReader":
        """Run a query and return what gives its rows piece by piece, until the database is closed."""
        return super().batches(*self._there(sql, parameters))

    def texts(self, sql: str, parameters: Parameters = None) -> "pa.Table":
        """Run a query and return its values as the texts that DuckDB makes of them."""
        return super().texts(*self._there(sql, parameters))

    def table_sql(self, table: str) -> str:
        """Return the SQL that reads a table."""
        return f"from quack_query('{self._server.uri}', 'use meshobs; from {table}', token := '{self._server.token}')"

    def _there(self, sql: str, parameters: Parameters) -> tuple[str, dict[str, Value]]:
        text = f"use meshobs; {_fill(sql, parameters)}"
        return "from quack_query($uri, $text, token := $token)", {
            "uri": self._server.uri,
            "text": text,
            "token": self._server.token,
        }


def _start_server(store: Store) -> Server:
    store.run(_load_sql())
    store.allow_memory(_MEMORY)
    store.run(sqlfiles.read("sql/serve.sql"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Server(f"quack:127.0.0.1:{port}", secrets.token_urlsafe(32), os.getpid())
    store.run(f"call quack_serve('{server.uri}', token := '{server.token}')")
    return server


def _load_sql() -> str:
    """Return the SQL that loads the extensions from their packages."""
    return "".join(f"load '{sqlfiles.quote(str(_extension(name)))}';\n" for name in _EXTENSIONS)


def _extension(name: str) -> Path:
    package = find_spec(f"duckdb_extension_{name}")
    for folder in package.submodule_search_locations or () if package else ():
        for found in Path(folder).glob(f"extensions/*/{name}.duckdb_extension"):
            return found
    raise DatabaseError(f"the package duckdb-extension-{name} is not installed for this platform")


def _start_file(store: Store, server: Server) -> str:
    """Return what makes a plain shell know the reports, and `live('QUERY')` for everything else."""
    call = f"quack_query('{server.uri}', 'use meshobs; ' || %s, token := '{server.token}')"
    lines = [
        f"-- {json.dumps(asdict(server))}",
        "-- Data of a running `meshobs collect`: from report_affinity();  from live('select count(*) from flows');",
        _load_sql().rstrip(),
        "create or replace temp macro quoted(value) as '''' || replace(value::varchar, '''', '''''') || '''';",
        f"create or replace temp macro live(sql) as table from {call % 'sql'};",
    ]
    for name, parameters in store.rows(_MACROS):
        names = [str(one) for one in parameters] if isinstance(parameters, list) else []
        given = ", ".join(f"{one} := null" for one in names)
        passed = ", ".join(f"'{one} := ' || quoted({one})" for one in names)
        text = f"'from {name}(' || concat_ws(', ', {passed}) || ')'"
        lines.append(f"create or replace temp macro {name}({given}) as table from {call % text};")
    return "\n".join(lines) + "\n"


def _fill(sql: str, parameters: Parameters) -> str:
    """Write values into a query of ours: Quack takes none."""
    if not parameters:
        return sql
    if not isinstance(parameters, Mapping):
        raise TypeError("parameters of a live query have names")
    values = {name: _literal(value) for name, value in parameters.items()}
    return re.sub(r"\$([a-z_]+)", lambda found: values[found[1]], sql)


def _literal(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_literal, value))}]"
    return f"'{sqlfiles.quote(str(value))}'"

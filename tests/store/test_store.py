"""The database file: made, migrated once, refused where it is not ours; and it can be read while nobody writes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from support.recordings import RECORDINGS, TESTS, import_into
from support.size import WHOLE

from meshobs import sqlfiles
from meshobs.errors import DatabaseError, OutdatedError
from meshobs.store import Store

NUMBERS = range(1, len(sqlfiles.names("queries/schema")) + 1)

_MAKE = Store.__dict__["_make"]


@pytest.fixture(autouse=True)
def made_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each file as everywhere but in tests (see `copied_files`)."""
    monkeypatch.setattr(Store, "_make", _MAKE)


def test_migrations_are_numbered_without_holes() -> None:
    """Each file schema/NNNN_name.sql has the next number."""
    assert [int(name.split("/")[-1][:4]) for name in sqlfiles.names("queries/schema")] == list(NUMBERS)


def at_schema(path: Path, number: int) -> Path:
    """Make a database as the meshobs with that many migrations left it."""
    with duckdb.connect(str(path)) as connection:
        connection.execute(
            "create table schema_migrations (number integer primary key, name varchar not null, applied timestamp not null)"
        )
        for applied, name in enumerate(sqlfiles.names("queries/schema")[:number], 1):
            connection.execute(sqlfiles.read(name))
            connection.execute("insert into schema_migrations values (?, ?, now()::timestamp)", [applied, name])
    return path


@pytest.mark.parametrize("number", NUMBERS)
def test_a_file_of_every_earlier_schema_is_migrated(number: int, db: Path) -> None:
    """Read only it is refused as outdated; written to it becomes current, once."""
    at_schema(db, number)

    with pytest.raises(OutdatedError):
        Store.open(db)
    applied: list[object] = []
    for _ in range(2):
        with Store.open(db, write=True) as store:
            applied[:] = store.rows("select number from schema_migrations order by all")
    with Store.open(db) as store:
        assert store.value("select count(*) from report_nat(whole := true)") == 0

    assert applied == [(number,) for number in NUMBERS]


def test_a_failing_migration_leaves_the_file_as_it_was(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration is one transaction with its record."""
    Store.open(db, write=True).close()
    read, names = sqlfiles.read, sqlfiles.names
    monkeypatch.setattr(
        sqlfiles,
        "names",
        lambda folder: [*names(folder), f"{folder}/9999_bad.sql"][: None if folder == "queries/schema" else -1],
    )
    monkeypatch.setattr(
        sqlfiles, "read", lambda name: "create table half (x int); select nonsense" if "9999" in name else read(name)
    )

    with pytest.raises(DatabaseError):
        Store.open(db, write=True)
    monkeypatch.undo()

    with Store.open(db) as store:
        assert store.value("select count(*) from duckdb_tables() where table_name = 'half'") == 0


def test_changed_reports_are_installed_anew(db: Path) -> None:
    """A file that another version's reports are installed in gets this version's."""
    with Store.open(db, write=True) as store:
        store.run("update queries set fingerprint = 'old'")
        store.run("drop macro table report_nat")

    with pytest.raises(OutdatedError):
        Store.open(db)
    Store.open(db, write=True).close()

    with Store.open(db) as store:
        assert store.value("select count(*) from report_nat()") == 0


def test_a_newer_file_is_refused(db: Path) -> None:
    """A file with a migration that this version does not know is left alone, with the cure."""
    with Store.open(db, write=True) as store:
        store.run("insert into schema_migrations values (999, 'future', now()::timestamp)")

    for write in (False, True):
        with pytest.raises(DatabaseError, match=r"newer meshobs \(schema 999, this one knows \d+\): upgrade"):
            Store.open(db, write=write)


def test_somebody_elses_duckdb_file_is_refused(db: Path) -> None:
    """A DuckDB file without our tables is never written to."""
    with duckdb.connect(str(db)) as connection:
        connection.execute("create table mine (x int)")

    for write in (False, True):
        with pytest.raises(DatabaseError, match="is a DuckDB database, but not one of meshobs"):
            Store.open(db, write=write)


@pytest.mark.parametrize("content", [b"not a database at all, but long enough" * 500, b"\x00" * 20_000, b"x"])
@pytest.mark.parametrize("write", [True, False])
def test_not_a_database(content: bytes, write: bool, db: Path) -> None:
    """Other files are named as such and stay as they are."""
    db.write_bytes(content)

    with pytest.raises(DatabaseError, match=r"not a DuckDB database|damaged"):
        Store.open(db, write=write)

    assert db.read_bytes() == content


def test_an_empty_file(db: Path) -> None:
    """An empty file is no database; it may be somebody's mistake."""
    db.touch()

    with pytest.raises(DatabaseError, match="is empty and so not a DuckDB database"):
        Store.open(db)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    """What is not there is said, with what makes it."""
    with pytest.raises(DatabaseError, match=r"does not exist: `meshobs collect` or `meshobs import` makes it"):
        Store.open(tmp_path / "x.duckdb")
    with pytest.raises(DatabaseError, match=r"the folder .* does not exist"):
        Store.open(tmp_path / "no" / "x.duckdb", write=True)
    with pytest.raises(DatabaseError, match="is a folder"):
        Store.open(tmp_path)


HOLD = "import sys, time; from pathlib import Path; from meshobs.store import Store; s = Store.open(Path(sys.argv[1]), write=True); print('held', flush=True); time.sleep(60)"


@pytest.mark.parametrize("write", [True, False])
def test_a_locked_file_names_who_holds_it(write: bool, db: Path) -> None:
    """One writer at a time is DuckDB's rule; the message names the process."""
    Store.open(db, write=True).close()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(db)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"

        with pytest.raises(DatabaseError, match=rf"is in use by process {holder.pid} .*: wait until it ends"):
            Store.open(db, write=write)
        holder.kill()


def unshared(script: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run a shell script that may mount file systems nobody else sees."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc", script, "sh", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare:" in result.stderr or ("permission denied" in result.stderr.lower() and "mount" in result.stderr):
        if os.environ.get("CI"):
            raise AssertionError(result.stderr)
        pytest.skip(f"no private mounts here: {result.stderr.strip()}")
    return result


IMPORT = f"{sys.executable} -m meshobs --db"


def test_full_disk(tmp_path: Path) -> None:
    """A disk that fills up in mid-import: one line, exit code 2, the file opens, importing again completes it."""
    script = f"""
        mount -t tmpfs -o size=3m tmpfs "$1"
        code=0; {IMPORT} "$1/x.duckdb" import "$2" || code=$?
        echo "code $code"
        mount -o remount,size=200m "$1"
        {IMPORT} "$1/x.duckdb" import "$2"
        {IMPORT} "$1/x.duckdb" sql --format csv "select count(*) as flows, count(distinct (node, uuid)) as distinct from flows"
    """

    result = unshared(script, tmp_path, RECORDINGS / "snat" / "west.bin.gz")

    assert result.stdout.splitlines() == ["code 2", "flows,distinct", "24084,24084"], result
    assert "no space left for" in result.stderr
    assert "Traceback" not in result.stderr


def test_read_only_folder(tmp_path: Path) -> None:
    """A database in a folder that cannot be written can be read; importing into it says why not."""
    import_into(tmp_path / "x.duckdb", RECORDINGS / "icmp")
    script = f"""
        mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"
        {IMPORT} "$1/x.duckdb" report nat --format csv
        for name in x new; do code=0; {IMPORT} "$1/$name.duckdb" import "$2" || code=$?; echo "code $code"; done
    """

    result = unshared(script, tmp_path, RECORDINGS / "icmp")

    assert "west,east,ICMP" in result.stdout
    assert result.stdout.count("code 2") == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert all("cannot be written: check its permissions" in line for line in lines), lines


def test_killed_in_mid_import(tmp_path: Path) -> None:
    """After kill -9 at any moment the file opens, tells how far it came, and importing again completes it."""
    whole = tmp_path / "whole.duckdb"
    import_into(whole, RECORDINGS / "snat" / "west.bin.gz", RECORDINGS / "loss")
    expected = content(whole)
    killed = 0
    moments = range(0, 8, 1 if WHOLE else 3)
    for number in moments:
        db = tmp_path / f"{number}.duckdb"
        command = [
            sys.executable,
            "-m",
            "meshobs",
            "--db",
            str(db),
            "import",
            str(RECORDINGS / "snat" / "west.bin.gz"),
            str(RECORDINGS / "loss"),
        ]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            _wait_until(db.exists)
            time.sleep(0.3 * number)
            process.send_signal(signal.SIGKILL)
        killed += process.returncode == -signal.SIGKILL
        if db.stat().st_size:  # else DuckDB had not written its first page
            with Store.open(db, write=True) as store:
                stored, told = store.rows(
                    "select (select count(*) from flows), (select coalesce(sum(stored), 0) from collections)"
                )[0]
                others = store.value(
                    "select (select count(*) from lost_events) + (select count(distinct (time, relay, state, message)) from node_status)"
                )
                assert int(str(stored)) <= int(str(told)) <= int(str(stored)) + int(str(others))
        else:
            db.unlink()

        import_into(db, RECORDINGS / "snat" / "west.bin.gz", RECORDINGS / "loss")

        assert content(db) == expected
    assert killed >= len(moments) / 2


@pytest.mark.parametrize("number", [0, *NUMBERS])
def test_killed_right_after_it_was_made(number: int, tmp_path: Path) -> None:
    """Whoever reads next, a plain DuckDB too, can open a file that nobody closed, made anew or migrated from any schema."""
    path = tmp_path / "killed.duckdb"
    if number:
        at_schema(path, number)
    script = "import os, sys; from pathlib import Path; from meshobs.store import Store\n"
    script += "store = Store.open(Path(sys.argv[1]), write=True); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)

    with duckdb.connect(str(path), read_only=True) as plain:
        assert plain.execute("select count(*) from schema_migrations").fetchall() == [(len(NUMBERS),)]
    with Store.open(path) as store:
        assert store.value("select count(*) from flows") == 0


def test_killed_while_the_log_was_written(tmp_path: Path) -> None:
    """A log that ends before its commit brings back nothing of that transaction; importing again completes it."""
    db, whole = tmp_path / "torn.duckdb", tmp_path / "whole.duckdb"
    paths = (RECORDINGS / "snat" / "west.bin.gz", RECORDINGS / "loss")
    import_into(whole, *paths)
    code = f"""
import os, signal
from support.recordings import import_into
from meshobs.store import Store
from pathlib import Path
Store.checkpoint = lambda _store: os.kill(os.getpid(), signal.SIGKILL)
import_into(Path({str(db)!r}), *map(Path, {list(map(str, paths))!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=TESTS, check=False)
    log = db.with_name("torn.duckdb.wal")
    assert done.returncode == -signal.SIGKILL
    os.truncate(log, log.stat().st_size - 200)  # into the last rows before the mark of the commit

    with Store.open(db, write=True) as store:
        stored, told = store.rows("select (select count(*) from flows), (select sum(stored) from collections)")[0]
    import_into(db, *paths)

    assert int(str(stored)) <= int(str(told))
    assert content(db) == content(whole)


def test_the_log_of_another_file(db: Path) -> None:
    """DuckDB cannot replay what a killed program left beside a file that was removed: one line says what to do."""
    said = (
        'INTERNAL Error: Failure while replaying WAL file "/x/mesh.duckdb.wal": Could not find node in column segment tree!'
        ' Attempting to find row number "0" in 0 nodes\n\nStack Trace:\n\n/x/_duckdb.so(_ZN6duckdb9Exception6ToJSON)'
    )

    with Store.open(db, write=True) as store, pytest.raises(DatabaseError) as told, store.translate_errors():
        raise duckdb.InternalException(said)

    assert str(told.value) == (
        f"{db} does not go with the log beside it, {db}.wal: if another file of this name left that, delete it"
    )


def content(db: Path) -> list[tuple[object, ...]]:
    """Return what makes up the stored flows and events."""
    with Store.open(db) as store:
        return store.rows("select 'flows', count(*), sum(hash(columns(* exclude (batch)))) from flows") + store.rows(
            "select 'lost', count(*), sum(num_events_lost) from lost_events"
        )


def _wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_export_reads_back(db: Path, tmp_path: Path) -> None:
    """Every table is a Parquet file with the same rows."""
    import_into(db, RECORDINGS / "local-scaled0")
    with Store.open(db) as store:
        (tmp_path / "out").mkdir()
        exported = dict(store.copy_tables(tmp_path / "out"))
        tables = {str(name) for (name,) in store.rows("select table_name from duckdb_tables() where not internal")}

        assert set(exported) == tables
        for table, count in exported.items():
            path = tmp_path / "out" / f"{table}.parquet"
            assert (
                store.value(f"select count(*) from '{path}'") == count == store.value(f"select count(*) from {table}")
            )


def test_stored_types_are_the_measured_ones(db: Path) -> None:
    """Nanoseconds, 64 bits of uuid, text addresses: as measured best; a change here is a decision."""
    with Store.open(db, write=True) as store:
        columns = store.rows("select column_name, data_type from duckdb_columns() where table_name = 'flows'")
    types = {str(name): kind for name, kind in columns}

    assert {name: types[name] for name in ("time", "uuid", "source", "source_port", "source_identity")} == {
        "time": "TIMESTAMP_NS",
        "uuid": "UBIGINT",
        "source": "VARCHAR",
        "source_port": "UINTEGER",
        "source_identity": "UINTEGER",
    }


def test_a_race_inside_duckdb_costs_no_answer(db: Path) -> None:
    """DuckDB 1.5.5 fails now and then in a window function over few rows (1.7 % of these); the answer comes all the same."""
    Store.open(db, write=True).close()
    asked = """
        with one as (select i from range(1) r(i)),
        few as (from one where i >= 5 union all from one where not exists (from one where i >= 5))
        select i, count(*) over () from few order by i limit 5
    """
    with Store.open(db) as store:
        assert {tuple(store.rows(asked)) for _ in range(1000)} == {((0, 1),)}


@pytest.mark.parametrize("ask", ["rows", "run", "table"])
def test_a_query_that_the_user_stops(ask: str, tmp_path: Path) -> None:
    """Ctrl-C while DuckDB works is an interruption like any other, which DuckDB tells as a RuntimeError."""
    script = f"""
import os, pathlib, signal, threading
from meshobs.store import Store
signal.signal(signal.SIGINT, signal.default_int_handler)
with Store.open(pathlib.Path({str(tmp_path / "x.duckdb")!r}), write=True) as store:
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        store.{ask}("select sum(sqrt(range)) from range(1_000_000_000_000)")
    except KeyboardInterrupt:
        print("stopped")
    print(store.value("select 1"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout == "stopped\n1\n"


def test_what_is_remembered_holds_until_something_is_written(db: Path) -> None:
    """Also where the file is open for writing: several reports on what nobody changes make their connections once."""
    asked = "from number(0)"
    with Store.open(db, write=True) as store:
        store.run("create macro number(any_) as table select 0 as made")
        store.run("create sequence times")

        def ask(asking: Store) -> int:
            with asking.remember("number(any_)", "select nextval('times') as made"):
                return int(str(asking.value(asked)))

        first = [ask(store), ask(store)]
        store.run("create table other (a int)")
        later = [ask(store), ask(store)]
        with store.beside() as beside:
            apart = [ask(beside), ask(beside)]
        store.run("begin transaction")
        undone = ask(store)
        store.rollback()
        after = ask(store)
        bare = store.value(asked)

    assert (first, later, apart, bare) == ([1, 1], [2, 2], [3, 4], 0)
    assert after > undone

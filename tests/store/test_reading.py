"""Reading while a collection runs: every command, the plain shell, and what is refused."""

import json
import stat
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.command_line import Outcome
from support.recordings import RECORDINGS, import_into
from support.relay_nodes import Node, collecting, dial, recorded, relay, wait_until

from meshobs import live
from meshobs.errors import DatabaseError
from meshobs.store import Store

DUCKDB = Path(sysconfig.get_path("scripts")) / "duckdb"
REPORTS = ("affinity", "nat", "hops", "coverage", "services")


@pytest.fixture(scope="module")
def collected(program: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a database that is being collected into; what it holds was imported and stands still."""
    folder = tmp_path_factory.mktemp("collected")
    db = folder / "meshobs.duckdb"
    import_into(db, RECORDINGS / "global-none")
    flows = recorded(RECORDINGS / "global-none" / "west.bin.gz")
    with relay(program("hubble-relay-1.17"), [Node(name) for name in flows], folder) as process:
        dial(process)
        with collecting(db, process) as running:
            wait_until(lambda: live.find(db))
            yield db
            running.terminate()


def shell(db: Path, sql: str) -> "subprocess.CompletedProcess[str]":
    """Run SQL in the plain DuckDB shell, as the documentation says."""
    command = [str(DUCKDB), "-init", str(live.file_of(db)), "-json", "-c", sql]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("report", REPORTS)
def test_reports_are_the_same_as_from_the_file(
    report: str, collected: Path, recorded: Callable[[str], Path], meshobs: Callable[..., Outcome]
) -> None:
    """A report on live data, with a window that holds the recording, says what it says of the file."""
    window = ("--since", "2026-11-23T00:00:00Z", "--until", "2026-11-24T00:00:00Z")
    there = meshobs("--db", collected, "report", report, "--format", "json", "--evidence", *window)
    file = meshobs("--db", recorded("global-none"), "report", report, "--format", "json", "--evidence", *window)

    assert there.code == 0, there.err
    assert json.loads(there.out)["rows"] == json.loads(file.out)["rows"]
    assert json.loads(there.out)["evidence"] == json.loads(file.out)["evidence"]


def test_the_other_commands_read_too(collected: Path, meshobs: Callable[..., Outcome], tmp_path: Path) -> None:
    """Status, sql in both forms, export."""
    count = "select count(*) as flows, min(time) as first, 'a$b' as text from flows"
    for form in ("json", "csv"):
        assert "10891" in meshobs("--db", collected, "sql", count, "--format", form).out
    status = json.loads(meshobs("--db", collected, "status", "--format", "json").out)
    assert status["flows"] == 10891
    assert [run["state"] for run in status["runs"]] == ["running", "complete"]
    result = meshobs("--db", collected, "export", "--parquet", tmp_path / "out")
    assert "flows.parquet: 10891 rows" in result.err, result.err


def test_the_plain_shell(collected: Path) -> None:
    """One documented command; the reports by name, with parameters, and any query by live()."""
    assert json.loads(shell(collected, "from live('select count(*) as n from flows')").stdout) == [{"n": 10891}]
    (cause,) = json.loads(shell(collected, "from live('from causes where cause = ''masquerade''')").stdout)
    assert (cause["report"], cause["verdict"]) == ("nat", "violation")
    rows = json.loads(shell(collected, "from report_nat(since := '2026-11-23', until := '2026-11-24')").stdout)
    assert sum(row["arrived"] if "arrived" in row else row["connections"] for row in rows) == 96
    none = shell(collected, "from report_nat(whole := true, only_service := 'it''s none')")
    assert (none.returncode, none.stdout.strip() in {"", "[]"}) == (0, True), none.stderr


@pytest.mark.parametrize(
    "sql",
    [
        "delete from flows",
        "insert into flows from flows",
        "create table other (a integer)",
        "create temp table other as select 1",
        "drop table flows",
        "update flows set cluster = ''",
        "copy flows to '{folder}/out.csv'",
        "copy (select 1) to '{folder}/out.parquet'",
        "export database '{folder}/out'",
        "attach '{folder}/out.duckdb' as other",
        "select * from read_text('/etc/passwd')",
        "from read_csv('/etc/passwd')",
        "from glob('/etc/*')",
        "from '/etc/passwd'",
        "install spatial",
        "load httpfs",
        "set memory_limit = '1GB'",
        "set global enable_external_access = true",
        "reset memory_limit",
        "pragma database_list",
        "checkpoint",
        "from force_checkpoint()",
        "vacuum",
        "begin transaction",
        "select 1; delete from flows",
        "use memory; select 1",
        "call quack_stop('x')",
        "from quack_stop('x')",
        "from quack_serve('quack:127.0.0.1:1', token := 'x')",
        "from query('select 1')",
        "from query_table('flows')",
        "from json_execute_serialized_sql(json_serialize_sql('select 1'))",
        "select write_log('x')",
    ],
)
def test_nothing_can_be_changed_and_no_file_reached(sql: str, collected: Path, tmp_path: Path) -> None:
    """By the shell with the token itself, and by `meshobs sql`; the data are whole afterwards."""
    text = sql.format(folder=tmp_path)
    server = live.find(collected)
    assert server
    store = live.LiveReader.open(collected, server)
    with pytest.raises(DatabaseError):
        store.rows(text)
    refused = shell(collected, f"from live('{text.replace(chr(39), chr(39) * 2)}')")

    assert refused.returncode != 0
    assert (
        "disabled" in refused.stderr or "Authorization failed" in refused.stderr or "does not exist" in refused.stderr
    )
    assert list(tmp_path.iterdir()) == []
    assert store.value("select count(*) from flows") == 10891
    assert not hasattr(store, "run")
    store.close()


def test_only_who_may_read_the_file_can_read_the_data(collected: Path) -> None:
    """The token lies in a file of its owner only; without it nothing is answered, and only loopback listens."""
    server = live.find(collected)
    assert server
    assert stat.S_IMODE(live.file_of(collected).stat().st_mode) == 0o600
    assert server.uri.startswith("quack:127.0.0.1:")
    for token in ("", "wrong"):
        with pytest.raises(DatabaseError, match=r"(?i)auth|token"):
            live.LiveReader.open(collected, live.Server(server.uri, token, server.pid))


def test_who_wants_to_write_is_told(collected: Path, meshobs: Callable[..., Outcome]) -> None:
    """A second writer and a shell for writing are refused."""
    result = meshobs("--db", collected, "import", RECORDINGS / "snat")
    assert (result.code, "is in use by process" in result.err) == (2, True)
    result = meshobs("--db", collected, "shell", "--write")
    assert (result.code, "can only be read" in result.err) == (2, True)


def test_the_file_goes_with_the_collection(tmp_path: Path, meshobs: Callable[..., Outcome]) -> None:
    """Afterwards the database is read as ever; the file of a collection that was killed misleads nobody."""
    db = tmp_path / "x.duckdb"
    with Store.open(db, write=True) as store:
        said: list[str] = []
        with live.serve(store, said.append):
            assert live.find(db)
            left = live.file_of(db).read_text()
        assert live.find(db) is None
        assert not live.file_of(db).exists()
        assert said == []
    killed = subprocess.Popen(["true"])
    killed.wait()
    live.file_of(db).write_text(
        left.replace(f'"pid": {json.loads(left.splitlines()[0][3:])["pid"]}', f'"pid": {killed.pid}')
    )
    assert meshobs("--db", db, "sql", "select 1").code == 0


def test_without_the_extension_the_collection_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says why nothing can be read."""
    monkeypatch.setattr(live, "find_spec", lambda _name: None)
    said: list[str] = []
    with Store.open(tmp_path / "x.duckdb", write=True) as store:
        with live.serve(store, said.append):
            store.run("create temp table t as select 1")
    assert said[0].endswith("the package duckdb-extension-httpfs is not installed for this platform")

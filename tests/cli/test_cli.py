"""The command line as a user meets it: every command, every format, and one clear line for each mistake."""

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from support.command_line import Call
from support.handmade_mesh import Mesh
from support.recordings import RECORDINGS, TESTS, import_into
from support.relay_nodes import wait_until

from meshobs.catalog import questions
from meshobs.store import Store

REPORTS = ("affinity", "coverage", "hops", "nat", "services")
ROWS = {
    "affinity": "client_cluster namespace service setting shared since until backends_local backends_remote"
    " expected_local_share connections local remote local_share ci_low ci_high fallback violations dropped door_unknown"
    " verdict cause reason",
    "nat": "source_cluster destination_cluster protocol connections untranslated translated destination_translated"
    " one_sided ambiguous verdict cause reason",
    "hops": "source_cluster destination_cluster namespace service door connections crossings avoidable trombones hairpins"
    " dropped verdict cause reason",
    "coverage": "cluster node since until flows lost gap_seconds watched_share",
    "services": "cluster namespace service global shared affinity annotations ports backends_active backends_known"
    " since until known_from verdict cause reason",
}
COVERAGE = {"nodes_expected", "nodes_watched", "lost_events", "gaps", "one_sided_share", "door_unknown_share"}


def test_reports_are_those_of_the_contract() -> None:
    """One file of SQL each; the catalog finds them."""
    assert tuple(questions()) == REPORTS


@pytest.mark.parametrize("name", ["snat", "transition", "nodeport-global", "node-down", "policy", "v19-perpacket-lb"])
@pytest.mark.parametrize("report", REPORTS)
def test_plain_duckdb_gives_what_the_command_gives(
    report: str, name: str, recorded: Callable[[str], Path], meshobs: Call
) -> None:
    """A DuckDB that never heard of meshobs runs the report from the file, with the same rows."""
    program = Path(sys.executable).with_name("duckdb")
    query = ["-csv", "-nullvalue", "NULL", "-c", f"from report_{report}()"]
    plain = subprocess.run(
        [program, "-readonly", recorded(name), *query], capture_output=True, text=True, check=True, cwd="/"
    )

    command = meshobs("--db", recorded(name), "report", report, "--format", "csv")

    expected = list(csv.reader(io.StringIO(plain.stdout)))
    assert len(expected) > 1 or (report, name) == ("affinity", "nodeport-global")  # only NodePorts were called
    assert list(csv.reader(io.StringIO(command.out))) == expected
    with duckdb.connect(str(recorded(name)), read_only=True) as connection:
        assert len(connection.execute(f"from report_{report}()").fetchall()) == len(expected) - 1


@pytest.mark.parametrize("report", REPORTS)
def test_json_is_the_contract_for_machines(report: str, recorded: Callable[[str], Path], meshobs: Call) -> None:
    """One object with the agreed keys; numbers are numbers, times RFC 3339, absent values null."""
    result = meshobs("--db", recorded("v19-perpacket-lb"), "report", report, "--format", "json")

    content: dict[str, Any] = json.loads(result.out, parse_constant=pytest.fail)
    assert content["report"] == report
    assert content["verdict"] in ("ok", "violation", "insufficient")
    assert content["since"] < content["until"]
    assert content["since"].endswith("Z")
    assert isinstance(content["reason"], str)
    assert set(content["coverage"]) >= COVERAGE
    assert len(content["rows"]) > 0
    assert all(set(ROWS[report].split()) <= set(row) for row in content["rows"])
    assert all(not isinstance(row.get("connections", 0), str) for row in content["rows"])


@pytest.mark.parametrize("report", REPORTS)
def test_evidence_names_flows_that_are_there(report: str, recorded: Callable[[str], Path], meshobs: Call) -> None:
    """Each flow behind a verdict has uuid, time and node, and can be found by them."""
    db = recorded("node-down" if report == "coverage" else "snat")
    result = meshobs("--db", db, "report", report, "--evidence", "--limit", "20", "--format", "json")

    evidence = json.loads(result.out)["evidence"]
    assert 0 < len(evidence) <= 20
    with Store.open(db) as store:
        for one in evidence:
            if report == "coverage":
                assert {"cluster", "node", "class", "detail", "time"} <= set(one)
            elif report == "services":
                assert {"cluster", "namespace", "service", "class", "detail", "time", "known_from"} <= set(one)
            else:
                found = store.value(
                    "select count(*) from flows where uuid_text(uuid) = ? and time = ?::timestamp_ns and cluster || '/' || node = ?",
                    [one["uuid"], one["time"], one["node"]],
                )
                assert found == 1, one


def test_evidence_starts_with_the_violations(recorded: Callable[[str], Path], meshobs: Call) -> None:
    """What breaks a rule comes first."""
    result = meshobs("--db", recorded("snat"), "report", "nat", "--evidence", "--limit", "4", "-o", "json")

    assert {one["class"] for one in json.loads(result.out)["evidence"]} == {"masquerade"}


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_report_for_people(form: str, recorded: Callable[[str], Path], meshobs: Call) -> None:
    """Verdict, what it rests on, a row each, and the reason in words."""
    result = meshobs("--db", recorded("snat"), "report", "nat", "--format", form)

    assert result.out.startswith("nat: violation\n")
    assert "4 of 4 nodes watched, 0 events lost, 0 gaps" in result.out
    assert (
        "144 of 144 arrived under the address of a node (172.18.0.3) instead of the pod's (default/curl-pod)"
        in result.out
    )
    assert ("| west | east | TCP |" in result.out) == (form == "markdown")


@pytest.fixture
def asked(meshobs: Call) -> Callable[..., dict[str, Any]]:
    """Return a function from a database, a report's name and options to the report's JSON."""

    def ask(db: Path, report: str, *more: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(meshobs("--db", db, "report", report, "-o", "json", *more).out)
        return content

    return ask


def test_window_options(recorded: Callable[[str], Path], asked: Callable[..., dict[str, Any]]) -> None:
    """--since and --until choose connections; --service and --namespace choose rows."""
    db = recorded("transition")
    whole = asked(db, "affinity")
    change = whole["rows"][0]["until"]

    before, after = asked(db, "affinity", "--until", change), asked(db, "affinity", "--since", change)

    assert [row["setting"] for row in before["rows"]] == ["remote"]
    assert [row["setting"] for row in after["rows"]] == ["none"]
    total = sum(row["connections"] for row in whole["rows"])
    assert sum(row["connections"] for part in (before, after) for row in part["rows"]) == total == 400
    assert asked(db, "affinity", "--service", "webpod", "--namespace", "default")["rows"] == whole["rows"]


def test_without_a_window_it_is_the_last_run(db: Path, asked: Callable[..., dict[str, Any]]) -> None:
    """Each import is a run; --all is the whole file."""
    for name in ("global-none", "tcp-pod"):
        import_into(db, RECORDINGS / name)

    last, whole = asked(db, "nat"), asked(db, "nat", "--all")

    assert sum(row["connections"] for row in last["rows"]) == 200
    assert sum(row["connections"] for row in whole["rows"]) == 200 + 96


@pytest.mark.parametrize(
    ("report", "name", "level", "code"),
    [
        ("nat", "snat", "violation", 1),
        ("nat", "snat", "insufficient", 1),
        ("nat", "tcp-pod", "insufficient", 0),
        ("nat", "loss", "violation", 0),
        ("nat", "loss", "insufficient", 1),
    ],
)
def test_fail_on(report: str, name: str, level: str, code: int, recorded: Callable[[str], Path], meshobs: Call) -> None:
    """Exit code 1 says that the report found what it was asked to flag."""
    assert meshobs("--db", recorded(name), "report", report, "--fail-on", level).code == code


def test_sql_in_every_format(recorded: Callable[[str], Path], meshobs: Call) -> None:
    """Any query runs, read only, from the argument or from standard input."""
    db = recorded("icmp")
    query = "select cluster, count(*) > 0 as some from flows group by all order by all"

    assert meshobs("--db", db, "sql", query, "-o", "csv").out == "cluster,some\neast,true\nwest,true\n"
    assert json.loads(meshobs("--db", db, "sql", "-", "-o", "json", stdin=query.encode()).out) == [
        {"cluster": "east", "some": True},
        {"cluster": "west", "some": True},
    ]
    assert "| east | true |" in meshobs("--db", db, "sql", query, "-o", "markdown").out
    assert "east" in meshobs("--db", db, "sql", query).out


@pytest.mark.parametrize("words", [("lab", "versions"), ("lab", "status"), ("lab", "routes"), ("experiment",)])
def test_forms_that_a_command_has_not(words: tuple[str, ...], meshobs: Call) -> None:
    """What is no one table is not printed as CSV: a wish is refused, never ignored."""
    result = meshobs(*words, "-o", "csv")

    assert (result.code, result.out) == (2, "")
    assert "'csv' is not one of 'table', 'json'" in result.err


def test_lists_as_json(meshobs: Call) -> None:
    """Lists of what there is are data, too."""
    assert {one["experiment"] for one in json.loads(meshobs("experiment", "-o", "json").out)} >= {"affinity", "direct"}
    assert "cilium" in json.loads(meshobs("lab", "versions", "-o", "json").out)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("delete from flows", "is opened read only"),
        ("select nonsense", "Referenced column"),
        ("selec", "syntax error"),
        ("", "there is no query"),
        ("/* only a comment */", "there is no query"),
    ],
)
def test_bad_sql(query: str, message: str, recorded: Callable[[str], Path], meshobs: Call) -> None:
    """A query that fails or writes is one line and code 2."""
    result = meshobs("--db", recorded("icmp"), "sql", query)

    assert (result.code, message in result.err, len(result.err.splitlines())) == (2, True, 1), result.err


def test_status(recorded: Callable[[str], Path], meshobs: Call) -> None:
    """Clusters, nodes, window, flows, loss, size and runs."""
    result = meshobs("--db", recorded("loss"), "status", "--format", "json")

    content = json.loads(result.out)
    assert (content["clusters"], len(content["nodes"])) == ("east, west", 4)
    assert content["lost_events"] > 0
    assert content["flows"] == sum(node["flows"] for node in content["nodes"])
    assert content["bytes"] == recorded("loss").stat().st_size
    assert [(run["kind"], run["state"]) for run in content["runs"]] == [("import", "complete")]
    assert {node["version"] for node in content["nodes"]} == {"1.17.6"}
    assert "lost events" in meshobs("--db", recorded("loss"), "status").out


@pytest.mark.parametrize("form", ["table", "csv", "markdown", "json"])
def test_status_can_be_read(form: str, db: Path, meshobs: Call) -> None:
    """Rates have a digit, truth is written as DuckDB writes it, tables stand apart, the last line ends; JSON has values."""
    import_into(db, RECORDINGS / "icmp")
    with Store.open(db, write=True) as store:
        store.run(
            "insert into relays by name select '2026-01-01'::timestamp_ns as time, 'west' as reader, '' as address, '' as version,"
            " 4 as connected, 0 as unavailable, 0 as num_flows, 0 as max_flows, 0 as seen_flows, 0 as uptime_ns,"
            " 254.79999999999998 as flows_rate, 1 as collection"
        )

    out = meshobs("--db", db, "status", "--format", form).out

    assert out.endswith("\n")
    assert not out.endswith("\n\n")
    if form == "json":
        content = json.loads(out)
        assert (content["relays"][0]["flows_per_s"], content["runs"][0]["own_traffic_left_out"]) == (254.8, False)
        return
    assert out.count("\n\n") == 3
    assert re.search(r"[ ,]254\.8[ ,]", out)
    assert re.search(r"[ ,]false\b", out)
    assert "False" not in out


def test_prune(db: Path, meshobs: Call) -> None:
    """Old flows go; young ones and the history that still holds stay."""
    import_into(db, RECORDINGS / "icmp")
    with Store.open(db, write=True) as store:
        store.run("update flows set time = now()::timestamp::timestamp_ns where node = 'west-worker'")
        kept = store.value("select count(*) from flows where node = 'west-worker'")
        old = store.value("select count(*) from flows where node <> 'west-worker'")

    result = meshobs("--db", db, "prune", "--older-than", "1h")

    with Store.open(db) as store:
        assert store.value("select count(*) from flows") == kept
        assert store.value("select count(*) from services where service = 'webpod'") == 2
    assert f"{old} flows, " in result.err
    assert "connections deleted" in result.err
    assert meshobs("--db", db, "prune", "--older-than", "soon").code == 2


def test_export(recorded: Callable[[str], Path], tmp_path: Path, meshobs: Call) -> None:
    """A Parquet file per table, in a folder that must be new or empty."""
    folder = tmp_path / "out"

    assert meshobs("--db", recorded("icmp"), "export", "--parquet", folder).code == 0
    assert (folder / "flows.parquet").stat().st_size > 0
    again = meshobs("--db", recorded("icmp"), "export", "--parquet", folder)
    assert (again.code, "is not an empty folder" in again.err) == (2, True)


def test_shell_is_the_real_one(recorded: Callable[[str], Path]) -> None:
    """`meshobs shell` opens DuckDB's own shell on the file, read only, and lists the reports."""
    command = [
        sys.executable,
        "-m",
        "meshobs",
        "--db",
        str(recorded("icmp")),
        "shell",
        "-csv",
        "-c",
        "from report_nat()",
    ]

    result = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "from report_nat();" in result.stdout
    assert "west,east,ICMP" in result.stdout
    written = subprocess.run([*command[:-1], "delete from flows"], capture_output=True, text=True, check=False)
    assert "read-only mode" in written.stderr


def test_hostile_text_never_reaches_a_terminal_raw(db: Path, tmp_path: Path, meshobs: Call) -> None:
    """Names in flows are whatever a sender chose: escape sequences are spelled out, SQL in them is only text."""
    hostile = "x\x1b[2J\x07\u202ey'); drop table flows; --"
    mesh = Mesh()
    client, back = mesh.pod("west", hostile), mesh.pod("east", "back")
    mesh.service("west", hostile, [])
    mesh.service("east", hostile, [back], annotations={"service.cilium.io/global": "true"})
    mesh.call(client, back)
    mesh.lose("west/" + hostile, 3)
    import_into(db, mesh.write(tmp_path / hostile.replace("/", "")))

    for command in (
        *(("report", name) for name in REPORTS),
        ("report", "nat", "--evidence"),
        ("status",),
        ("sql", "from flows"),
        ("sql", "from flows", "-o", "csv"),
        ("sql", "from flows", "-o", "markdown"),
        ("report", "affinity", "--service", hostile),
        ("report", "affinity", "--service", hostile + "2"),
        ("import", str(tmp_path / hostile)),
    ):
        result = meshobs("--db", db, *command)
        assert not any(character in result.out + result.err for character in "\x1b\x07\u202e"), command
    with Store.open(db) as store:
        assert store.value("select count(*) from flows") == len(mesh.messages) - 2  # the status and the loss


@pytest.mark.parametrize("form", ["table", "json", "csv", "markdown"])
def test_values_that_python_does_not_know(db: Path, meshobs: Call, form: str) -> None:
    """Any query that DuckDB answers is printed, columns of one name under names of their own."""
    Store.open(db, write=True).close()
    odd = "select 'infinity'::timestamp a, '-infinity'::date b, interval 3 hours c, map {'x': [1]} d, [make_timestamp_ns(5)] e, 'nan'::double f"

    told, doubled = (
        meshobs("--db", db, "sql", odd, "-o", form),
        meshobs("--db", db, "sql", "select 1 a, 2 a", "-o", form),
    )

    assert told.code == 0, told.err
    assert "1970-01-01 00:00:00" in told.out
    assert (doubled.code, doubled.err) == (0, "")
    words = re.findall(r"\w+", doubled.out.replace("a 1", "a_1"))  # a heading has spaces
    assert sorted(words) == ["1", "2", "a", "a_1"]


MISTAKES: list[tuple[list[str], str]] = [
    (["report", "nat"], "does not exist: `meshobs collect` or `meshobs import` makes it"),
    (["import", "nowhere"], "cannot read nowhere"),
    (["import", "empty.bin"], "empty.bin is empty"),
    (["import", "junk.bin"], "junk.bin is no recording"),
    (["import", "folder"], "folder holds no recording"),
    (["import", "object.json"], "object.json is no readable JSON document"),
    (["--config", "none.toml", "status"], "the configuration none.toml does not exist"),
    (["--config", "bad.toml", "status"], "is not valid TOML"),
    (["--config", "wrong.toml", "status"], "unknown key colour; unknown key size; db must be a text"),
    (["report", "everything"], "'everything' is not one of"),
    (["report", "nat", "--since", "yesterday"], "neither a time (2026-03-01T10:00:00Z) nor how long ago"),
    (["report", "nat", "--max-unproved", "1"], "not in the range 0<=x<1"),
    (["--db", "folder", "status"], "is a folder: name a file with --db"),
    (["--db", "junk.bin", "status"], "is not a DuckDB database"),
    (["frobnicate"], "No such command"),
    (["import"], "Missing argument"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(arguments) for arguments, _ in MISTAKES])
def test_each_mistake_is_one_line_that_says_what_to_do(arguments: list[str], message: str, tmp_path: Path) -> None:
    """Code 2, the reason on stderr, nothing on stdout, no traceback."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.bin").touch()
    (tmp_path / "junk.bin").write_bytes(os.urandom(64) + b"\n" + os.urandom(5000))
    (tmp_path / "object.json").write_text('{"kind": "List", "items": [')
    (tmp_path / "bad.toml").write_text("db = ")
    (tmp_path / "wrong.toml").write_text('colour = "red"\nsize = 3\ndb = 7\n')
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MESHOBS_")}

    result = subprocess.run(
        [sys.executable, "-m", "meshobs", *arguments],
        capture_output=True, text=True, check=False, cwd=tmp_path, env={**environment, "HOME": str(tmp_path)},
    )  # fmt: skip

    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len([line for line in result.stderr.splitlines() if not line.startswith(("Usage:", "Try "))]) <= 2


def test_empty_window_and_unknown_service(recorded: Callable[[str], Path], meshobs: Call) -> None:
    """What is not there is said together with what is."""
    db = recorded("tcp-pod")

    window = meshobs("--db", db, "report", "nat", "--since", "2030-01-01")
    service = meshobs("--db", db, "report", "affinity", "--service", "nope")

    assert (window.code, "no flow since 2030-01-01" in window.err, "holds 2026-" in window.err) == (2, True, True)
    assert (service.code, "no service */nope" in service.err, "default/webpod" in service.err) == (2, True, True)


def test_a_database_without_flows(db: Path, meshobs: Call) -> None:
    """An empty database says what brings flows."""
    Store.open(db, write=True).close()

    result = meshobs("--db", db, "report", "nat")

    assert (result.code, "holds no flows yet" in result.err) == (2, True)


def test_objects_alone_are_no_recording_of_flows(db: Path, meshobs: Call) -> None:
    """Importing only Kubernetes objects works and says so; reports then say what is missing."""
    result = meshobs("--db", db, "import", RECORDINGS / "icmp" / "k8s-west.json")

    assert result.code == 0
    assert "states of Kubernetes objects" in result.err
    assert meshobs("--db", db, "report", "nat").code == 2


def test_interrupted_by_the_user(tmp_path: Path) -> None:
    """Ctrl-C: what was committed stays, the run says `interrupted`, exit code 130, one line."""
    db = tmp_path / "x.duckdb"
    command = [sys.executable, "-m", "meshobs", "--db", str(db), "import", "-"]
    line = (TESTS / "data" / "samples.jsonl").read_bytes().splitlines()[0] + b"\n"
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        for _ in range(20_000):
            process.stdin.write(line)
        process.stdin.flush()
        log = db.with_name("x.duckdb.wal")
        wait_until(lambda: log.exists() and log.stat().st_size > 0)  # the run has begun
        process.send_signal(2)
        _, err = process.communicate()

    assert process.returncode == 130
    assert err.decode().splitlines()[-1] == "meshobs: stopped; what was committed is kept"
    with Store.open(db) as store:
        assert store.value("select state from collections") == "interrupted"


def test_quiet_in_a_pipe_and_plain_without_a_terminal(recorded: Callable[[str], Path]) -> None:
    """No colours in a pipe; on a terminal the verdict has one."""
    command = [sys.executable, "-m", "meshobs", "--db", str(recorded("snat")), "report", "nat"]
    piped = subprocess.run(command, capture_output=True, check=True)
    main, child = pty.openpty()
    with subprocess.Popen(
        command, stdout=child, env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"}
    ) as process:
        os.close(child)
        shown = b""
        try:
            while chunk := os.read(main, 65536):
                shown += chunk
        except OSError:
            pass
    os.close(main)

    assert process.returncode == 0
    assert b"\x1b[" not in piped.stdout
    assert b"\x1b[31m" in shown


def test_settings_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meshobs: Call) -> None:
    """Flag before environment before file."""
    for name in ("flag", "environment", "file"):
        import_into(tmp_path / f"{name}.duckdb", RECORDINGS / "icmp")
        with Store.open(tmp_path / f"{name}.duckdb", write=True) as store:
            store.run(f"create table {name} (x int)")
    Path("meshobs.toml").write_text('db = "file.duckdb"\n')
    query = (
        "sql",
        "select table_name from duckdb_tables() where table_name in ('flag', 'environment', 'file')",
        "-o",
        "csv",
    )

    assert meshobs(*query).out.split()[1] == "file"
    monkeypatch.setenv("MESHOBS_DB", "environment.duckdb")
    assert meshobs(*query).out.split()[1] == "environment"
    assert meshobs("--db", "flag.duckdb", *query).out.split()[1] == "flag"


HEAVY = ("duckdb", "polars", "pyarrow", "rich", "google", "ptars", "grpc", "kubernetes")


def test_help_loads_nothing_heavy() -> None:
    """`meshobs --help` starts quickly because no heavy library is loaded for it (timed by `make bench`)."""
    code = (
        "import sys; from meshobs.cli.main import cli; cli.main(['--help'], standalone_mode=False);"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stderr == "[]\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("report", "nat", "--fail-on", "violation"), 1),
        (("report", "nat"), 0),
        (("report", "hops", "--fail-on", "violation"), 0),
        (("--help",), 0),
        (("report", "nothing"), 2),
    ],
)
def test_the_program_s_own_exit_code(recorded: Callable[[str], Path], words: tuple[str, ...], code: int) -> None:
    """What scripts see is what a command leaves with; asked of the program itself, not of click's test runner."""
    command = [sys.executable, "-m", "meshobs", "--db", str(recorded("snat")), *words]

    assert subprocess.run(command, capture_output=True, check=False).returncode == code

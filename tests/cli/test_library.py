"""meshobs as a library: the front door is typed, light, and does what its pages show."""

import inspect
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from support.recordings import RECORDINGS, TESTS
from support.relay_nodes import wait_until

import meshobs
from meshobs import live
from meshobs.cli import collect as collecting
from meshobs.cli.terminal.flags import with_flags
from meshobs.errors import InputError, MeshobsError
from meshobs.jobs import labs
from meshobs.jobs.labs import LabOptions
from meshobs.lab.driver import DRIVERS
from meshobs.settings import CLUSTER_KEYS
from meshobs.store import Store

DOCS = TESTS.parent / "docs"
# A block of Python and, where one follows, what it prints.
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)
HEAVY = ("duckdb", "polars", "pyarrow", "grpc", "google", "kubernetes", "rich", "click")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to work in, with the recordings where a checkout has them, and no lab of the user's."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "recordings").symlink_to(RECORDINGS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESHOBS_LAB", str(tmp_path / "lab"))
    return tmp_path


@pytest.mark.parametrize(("page", "count"), [("library.md", 4), ("connections.md", 6)])
def test_the_page_does_what_it_says(page: str, count: int, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every block runs, in its order, and prints what stands below it."""
    names: dict[str, object] = {}
    blocks = BLOCK.findall((DOCS / page).read_text())
    assert (len(blocks), here) == (count, Path.cwd())

    for code, expected in blocks:
        exec(code, names)  # noqa: S102 - our own page
        printed = capsys.readouterr().out
        if expected:
            assert printed == expected
        else:
            assert printed.splitlines()[-2:] == ["4 nodes, True", "ok"], printed


def test_connections_are_those_of_the_view(recorded: Callable[[str], Path]) -> None:
    """As a frame and piece by piece, also while something else is asked; what is asked of them is in it."""
    with meshobs.open(recorded("v19-snat")) as db:
        frame = db.connections(whole=True)
        pieces = db.connection_batches(whole=True)
        assert db.sql("select count(*) from flows").item() > 0
        assert_frame_equal(
            frame,
            db.sql("select attempt as connection, * exclude (attempt, ns, client_ns) from connections"),
            check_row_order=False,
        )
        assert pieces.read_all().num_rows == frame.height
        middle = frame["time"].sort()[frame.height // 2]
        since = db.connections(since=middle, service="webpod")
        assert since.height == frame.filter(pl.col("time") >= middle, pl.col("door_service") == "webpod").height > 0
        assert db.connections(namespace="default").height > since.height
        with pytest.raises(InputError, match="no service \\*/nothing"):
            db.connections(service="nothing")


def test_import_loads_nothing_heavy() -> None:
    """`import meshobs` is free, and so is listing its names; rooms are attributes."""
    code = (
        "import sys, meshobs; dir(meshobs);"
        f"print([name for name in {HEAVY} if name in sys.modules]);"
        "print(meshobs.analyzer.__name__, meshobs.lab.__name__, meshobs.jobs.__name__, meshobs.collector.__name__)"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout == "[]\nmeshobs.analyzer meshobs.lab meshobs.jobs meshobs.collector\n"


def test_all_names_are_there() -> None:
    """What `__all__` lists can be had, and what it does not list is no attribute."""
    assert [name for name in meshobs.__all__ if getattr(meshobs, name) is None] == []
    assert set(meshobs.__all__) <= set(dir(meshobs))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(meshobs, "nothing")  # noqa: B009 - checkers know that it is not there


def test_the_front_door_is_typed(tmp_path: Path) -> None:
    """A user's checker sees the real types through the lazy names, and refuses names that are not there."""
    script = tmp_path / "script.py"
    script.write_text("""
import meshobs
db = meshobs.open("mesh.duckdb")
reveal_type(db.report("affinity"))
reveal_type(meshobs.collect("mesh.duckdb", duration="5m").ledger.number)
meshobs.nothing
db.report("affinity", since=5)
""")

    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", tmp_path / "cache", "--ignore-missing-imports", script],
        capture_output=True, text=True, check=False, cwd=TESTS.parent,
    )  # fmt: skip
    lines = [line.partition(": ")[2] for line in result.stdout.splitlines() if line.startswith(str(script))]

    assert [re.sub(r"(\[.*\])|(; expected .*)", "", line).strip() for line in lines] == [
        'note: Revealed type is "meshobs.analyzer.answer.Report"',
        'note: Revealed type is "int"',
        'error: Module has no attribute "nothing"',
        'error: Argument "since" to "report" of "Database" has incompatible type "int"',
    ], result.stdout


@pytest.mark.parametrize("name", ["affinity", "nat", "hops", "coverage"])
def test_a_report_is_that_of_the_command_line(name: str, recorded: Callable[[str], Path]) -> None:
    """Rows are those of the macro in the file, whatever way the window is written."""
    path = recorded("v19-perpacket-lb")
    with meshobs.open(str(path)) as db:
        report = db.report(name)
        begin = datetime.fromisoformat(report.since[:26] + "+00:00")
        windows = [db.report(name, since=since).rows for since in (begin, begin.isoformat())]
        whole = [db.report(name, whole=True).rows, db.report(name, since=timedelta(days=36_000)).rows]

        assert_frame_equal(report.rows, db.sql(f"from report_{name}()"))
    assert_frame_equal(*windows)
    assert_frame_equal(*whole)


def test_sql_and_tables(recorded: Callable[[str], Path]) -> None:
    """Queries take parameters by name or position; nothing can be changed; a closed database says so."""
    db = meshobs.open(recorded("icmp"))

    assert {"flows", "services", "gaps"} <= set(db.tables)
    assert db.sql("select $a + 1 as b", {"a": 1}).rows() == db.sql("select ? + 1 as b", [1]).rows() == [(2,)]
    with pytest.raises(MeshobsError, match=r"is opened read only$"):
        db.sql("drop table flows")
    with pytest.raises(InputError, match="there is no query"):
        db.sql("-- nothing")
    db.close()
    db.close()
    with pytest.raises(MeshobsError, match="closed"):
        db.sql("select 1")


def test_a_report_in_a_notebook(recorded: Callable[[str], Path]) -> None:
    """It is a table with verdict and reasons; what flows carry cannot become markup."""
    with meshobs.open(recorded("snat")) as db:
        report = db.report("nat")
    rows = report.rows.with_columns(protocol=report.rows["protocol"] + "<script>")

    html, evil = (one._repr_html_() for one in (report, replace(report, table=rows.to_arrow())))  # pyright: ignore[reportPrivateUsage] - IPython's name

    assert html.startswith("<p>nat: violation</p>")
    assert html.count("<tr>") == report.rows.height + 1
    assert ("<script>" in evil, "&lt;script&gt;" in evil) == (False, True)


def test_a_database_is_not_written_while_it_is_open_here(here: Path) -> None:
    """DuckDB lets one program open a file once for writing: that is said, not its words for it."""
    path = here / "mesh.duckdb"
    meshobs.import_recordings(path, RECORDINGS / "icmp")
    with meshobs.open(path), pytest.raises(MeshobsError, match="is open in this program already: close it first"):
        meshobs.import_recordings(path, RECORDINGS / "icmp")

    assert meshobs.import_recordings(path, RECORDINGS / "icmp").ledger.total.stored == 0


def test_an_older_file_is_brought_up_to_date(here: Path) -> None:
    """As on the command line: what was written by an older meshobs is migrated before it is read."""
    path = here / "mesh.duckdb"
    meshobs.import_recordings(path, RECORDINGS / "icmp")
    with Store.open(path, write=True) as store:
        store.run("update queries set fingerprint = 'older'")

    with meshobs.open(path) as db:
        assert db.report("nat").rows.height > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"since": "yesterday"}, "'yesterday' is neither a time"),
        ({"since": "5m", "until": timedelta(minutes=10)}, "`until` is not later than `since`"),
        ({"whole": True, "until": "5m"}, "`whole` is the whole database"),
        ({"max_unproved": 1.5}, "`max_unproved` must be a number from 0 to 1, not 1.5"),
        ({"service": "nope"}, "no service */nope in"),
        ({"since": "2030-01-01"}, "no flow since 2030-01-01T00:00:00.000000000Z until the end"),
    ],
)
def test_mistakes_in_a_question(recorded: Callable[[str], Path], options: dict[str, object], words: str) -> None:
    """A question that cannot be meant is refused in one line."""
    with meshobs.open(recorded("icmp")) as db, pytest.raises(InputError) as told:
        db.report("nat", **options)  # type: ignore[arg-type]

    assert words in str(told.value)


def test_no_evidence_is_no_answer(recorded: Callable[[str], Path]) -> None:
    """Less than one flow cannot be asked for, nor of a report that is none."""
    with meshobs.open(recorded("icmp")) as db:
        with pytest.raises(InputError, match="`limit` must be at least 1, not 0"):
            db.evidence("nat", limit=0)
        with pytest.raises(InputError, match="there is no report traffic: choose one of affinity"):
            db.evidence("traffic")


def test_nothing_to_import(here: Path) -> None:
    """No recording at all is a mistake, and no file is made of it."""
    with pytest.raises(InputError, match="no recording is named"):
        meshobs.import_recordings(here / "mesh.duckdb")

    assert not (here / "mesh.duckdb").exists()


def test_a_collection_takes_what_the_command_takes() -> None:
    """The command hands its options on by name; filters and TLS are gathered first."""
    gathered = {"_not", "negated", *(name.replace("-", "_") for name in collecting.FILTERS)}
    gathered |= {key for key in CLUSTER_KEYS if key.startswith("tls")}

    options = {one.name for one in collecting.command.params} - gathered

    assert len(options) == 16
    assert options - inspect.signature(meshobs.collect).parameters.keys() == set()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"since": "yesterday"}, "'yesterday' is neither a time"),
        ({"since": "5m", "until": "10m"}, "`until` is not later than `since`"),
        ({"duration": "soon"}, "'soon' is no duration"),
        ({"only": [("colour", "red")]}, "there is no filter 'colour': one of namespace, pod"),
        ({"without": {"protocol": "tcp"}}, "a filter is a pair as ('protocol', 'tcp'), not 'protocol'"),
        ({"only": [("port", "http")]}, "`port` 'http' is no port"),
        ({"relays": [""]}, "`relays` names no Relay"),
        ({"relays": "west=127.0.0.1:1"}, "`relays` is a list of texts, not the text 'west=127.0.0.1:1'"),
        ({"clusters": {"west": {"relay": "a", "colour": "red"}}}, "[clusters.west] has an unknown key colour"),
        ({"relays": ["west="]}, "`relays` 'west=' is not NAME=HOST:PORT"),
    ],
)
def test_mistakes_in_a_collection(here: Path, options: dict[str, object], words: str) -> None:
    """They are refused before a file is made, in words of Python; the command line says its flags instead."""
    with pytest.raises(MeshobsError) as told:
        meshobs.collect(here / "mesh.duckdb", **{"relays": ["west=127.0.0.1:1"], **options})  # type: ignore[arg-type]

    assert words in str(told.value)
    assert "--" not in str(told.value)
    assert not (here / "mesh.duckdb").exists()


def test_a_collection_is_read_and_stopped_from_its_own_program(here: Path) -> None:
    """Beside the thread that collects, `open` asks it; `stop` ends it in order; afterwards the file itself is read."""
    lab = labs.start("sim", labs.content_of(None), 20, say=lambda _text: None)
    stop, progress = threading.Event(), []
    path = here / "live.duckdb"

    def collect() -> None:
        meshobs.collect(path, stop=stop, show=lambda state: progress.append(state.stored))

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        wait_until(lambda: live.find(path) and progress and progress[-1] > 0)
        with meshobs.open(path) as db:
            # What is stored shows once it is committed.
            wait_until(lambda: db.sql("select count(*) from flows").item() > 0)
            beside = db.sql("select count(*) from flows").item()
    finally:
        stop.set()
        thread.join()
        labs.stop(lab)

    with meshobs.open(path) as db:
        assert 0 < beside <= db.sql("select count(*) from flows").item()
        assert db.sql("select state from collections").rows() == [("complete",)]


def test_drivers_by_name() -> None:
    """Each driver is what it is called; others do not exist; options of another driver are refused."""
    assert [labs.driver(name).name for name in DRIVERS] == list(DRIVERS)
    with pytest.raises(InputError, match="there is no driver 'k3s': one of kind, netns, sim"):
        labs.driver("k3s")
    with pytest.raises(InputError, match=r"^`engine`, `force`: only the driver kind knows that, and this is sim$"):
        LabOptions(force=True, kind={"engine": "podman"}).check("sim")


def test_no_message_of_the_library_speaks_of_flags() -> None:
    """Texts of the library name settings; flags of other programs (kubectl, cilium, kind) stand behind their names."""
    ours = set(
        re.findall(r'"--([a-z-]+)', "".join(path.read_text() for path in (TESTS.parent / "meshobs/cli").rglob("*.py")))
    )
    rooms = [TESTS.parent / room for room in ("analyzer", "collector", "meshobs/jobs")]
    files = [*(path for room in rooms for path in room.rglob("*.py")), *(TESTS.parent / "meshobs").glob("*.py")]
    files += [*(TESTS.parent / "lab").glob("*.py"), *(TESTS.parent / "lab" / "sim").glob("*.py")]
    found = []
    for path in files:
        text = re.sub(r'""".*?"""', "", path.read_text(), flags=re.DOTALL)
        for line in text.splitlines():
            flags = {flag for flag in re.findall(r"(?<![\w-])--([a-z][a-z-]+)", line) if flag in ours}
            if flags and not re.search(r"kubectl|cilium|kind |curl|self\._program|shell\.run", line):
                found.append((path.name, line.strip()))

    assert len(files) > 60
    assert found == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`whole` and `since`", "--all and --since"),
        ("give `tls_client_cert_file`", "give --tls-client-cert-file"),
        ("x is a folder: name a file", "x is a folder: name a file with --db"),
        ("run `kubectl get pods`, `nothing`", "run `kubectl get pods`, `nothing`"),
        ("x\x1b[31m", "x\\x1b[31m"),
    ],
)
def test_the_command_line_says_flags(text: str, expected: str) -> None:
    """Settings in backticks become flags, whatever else is left alone but made safe to print."""
    assert with_flags(text) == expected

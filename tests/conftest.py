"""What tests share: databases with a recording in them, made once each, and a way to call the command line."""

import fcntl
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest
from click.testing import CliRunner
from support.api_server import ApiServer, missing
from support.command_line import Call, Outcome
from support.real_programs import PROGRAMS
from support.recordings import RECORDINGS, import_into

from meshobs.cli import main as cli_main
from meshobs.cli.terminal.flags import with_flags
from meshobs.errors import MeshobsError
from meshobs.jobs import maintenance
from meshobs.store import Store

# CI looks at the same examples every time: a new find belongs to whoever changes code, not to whoever lands next.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


@pytest.fixture(scope="session", autouse=True)
def copied_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Copy what a new file holds from one that each worker makes: that takes longest of most tests.

    tests/store makes each anew, and so does whoever runs meshobs in a process of its own.
    """
    made = tmp_path_factory.mktemp("made") / "new.duckdb"
    Store.open(made, write=True).close()
    new = made.read_bytes()

    make = Store.__dict__["_make"].__func__

    def copy(path: Path) -> None:
        try:
            path.write_bytes(new)
        except OSError:
            make(Store, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "_make", copy)
        yield


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from a recording's name to a settled database with it; never written to by tests.

    All workers of a run share them.
    """
    shared = tmp_path_factory.getbasetemp()
    folder = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "recorded"
    folder.mkdir(exist_ok=True)

    @cache
    def imported(name: str) -> Path:
        db = folder / f"{name}.duckdb"
        with (folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not db.exists():
                made = folder / f"{name}.unfinished"
                import_into(made, RECORDINGS / name)
                maintenance.settle(made)
                made.rename(db)
        return db

    return imported


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Return the path of a database that does not exist yet."""
    return tmp_path / "meshobs.duckdb"


@pytest.fixture
def meshobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Outcome]:
    """Return a function that calls the command line in a folder of its own, errors translated as `main` does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MESHOBS_DB", raising=False)
    # No test sees, or ends, a lab of the user's.
    monkeypatch.setenv("MESHOBS_LAB", str(tmp_path / "lab"))

    def call(*arguments: object, stdin: bytes | None = None) -> Outcome:
        result = CliRunner().invoke(cli_main.cli, [str(argument) for argument in arguments], input=stdin)
        if isinstance(result.exception, MeshobsError):
            return Outcome(2, result.stdout, result.stderr + f"meshobs: {with_flags(str(result.exception))}\n")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture(scope="session")
def program() -> Callable[[str], Path]:
    """Return a function from a name in tools.PROGRAMS to the real program; missing fails in CI and skips elsewhere."""

    def found(name: str) -> Path:
        path = PROGRAMS[name].path
        if not PROGRAMS[name].built:
            if os.environ.get("CI"):
                pytest.fail(f"{path} is missing: `make tools` builds it")
            pytest.skip(f"{path} is missing: `make tools` builds it")
        return path

    return found


@pytest.fixture(scope="session")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Return a running API server; missing programs fail in CI and skip elsewhere."""
    program = PROGRAMS["kube-apiserver"].path
    if lacking := missing(program):
        if os.environ.get("CI"):
            pytest.fail(lacking)
        pytest.skip(lacking)
    made = ApiServer(tmp_path_factory.mktemp("kube"), program)
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture
def server(real_server: ApiServer) -> ApiServer:
    """Return the API server without the objects of earlier tests."""
    real_server.clear()
    return real_server


@pytest.fixture
def alone(meshobs: Call) -> Iterator[Call]:
    """Return the command line; a lab that a test leaves up is taken down."""
    yield meshobs
    meshobs("lab", "down")

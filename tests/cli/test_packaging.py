"""The package: rooms linked under one import name, and a wheel with everything in it."""

import importlib.metadata
import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.recordings import TESTS

from meshobs.cli import shell
from meshobs.errors import MeshobsError

ROOT = TESTS.parent
ROOMS = ("analyzer", "collector", "lab", "queries")


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_relative_links(room: str) -> None:
    """meshobs/ROOM leads to ../ROOM in every checkout."""
    assert (ROOT / "meshobs" / room).readlink() == Path("..", room)


def test_wheel_holds_every_file(tmp_path: Path) -> None:
    """A wheel built from the source distribution holds each module, SQL file and experiment, as files."""
    for kind, source in (("sdist", ROOT), ("wheel", None)):
        built = source or next((tmp_path / "unpacked").iterdir())
        code = f"from setuptools import build_meta as b; b.build_{kind}({str(tmp_path)!r})"
        subprocess.run([sys.executable, "-c", code], cwd=built, check=True, capture_output=True)
        if kind == "sdist":
            archive = next(tmp_path.glob("*.tar.gz"))
            (tmp_path / "unpacked").mkdir()
            subprocess.run(["tar", "xzf", archive, "-C", tmp_path / "unpacked"], check=True)

    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if name.startswith("meshobs/")}

    rooms = [(room, ROOT / room) for room in ROOMS]
    expected = {
        f"meshobs/{prefix}{path.relative_to(base)}"
        for prefix, base in [("", ROOT / "meshobs"), *((f"{name}/", base) for name, base in rooms)]
        for path in base.rglob("*")
        if path.suffix in (".py", ".pyi", ".sql", ".toml", ".typed") and "__pycache__" not in path.parts
    }
    assert expected - packed == set()
    assert "meshobs/py.typed" in packed


def test_what_runs_is_what_is_tested() -> None:
    """Both locks name the same versions: the demo runs on nothing that tests do not."""
    runs, tested = (
        {line.split(" ")[0] for line in (ROOT / name).read_text().splitlines() if "==" in line.split(" ")[0]}
        for name in ("requirements-run.lock", "requirements.lock")
    )

    assert len(runs) > 30
    assert runs - tested == set()


# Makes a Python what the demo's environment is: without everything that only tests and extras bring.
BLOCKED = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec
PathFinder.find_spec = staticmethod(
    lambda name, *more, **named: None if name.partition(".")[0] in {blocked} else find(name, *more, **named)
)
"""


def locked(name: str) -> set[str]:
    """Return the packages of a lock."""
    lines = (ROOT / name).read_text().splitlines()
    return {line.partition("==")[0] for line in lines if "==" in line.split(" ")[0]}


@pytest.fixture
def lean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return the command line as it is with the packages of requirements-run.lock only."""
    more = locked("requirements.lock") - locked("requirements-run.lock")
    blocked = {
        module
        for module, names in importlib.metadata.packages_distributions().items()
        if {re.sub("[-_.]+", "-", name.lower()) for name in names} <= more
    }
    assert {"aiohttp", "cryptography", "pytest"} <= blocked
    (tmp_path / "sitecustomize.py").write_text(BLOCKED.format(blocked=blocked))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "meshobs", "--db", str(tmp_path / "x.duckdb"), *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return call


def test_what_the_demo_does_not_use_is_not_installed_for_it() -> None:
    """Of the extras and of an asyncio client nothing is needed; all of it is there for tests."""
    unused = {"aiohttp", "cffi", "cryptography", "duckdb-cli", "pytest"}

    assert unused & locked("requirements-run.lock") == set()
    assert unused <= locked("requirements.lock")


def test_the_basics_need_no_extra(lean: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Experiments, a lab, a collection with Kubernetes objects, an import, reports, SQL: all of it on the demo's packages."""
    try:
        for arguments in (
            ("experiment", "keepalive", "--accelerated"),
            ("lab", "up", "--driver", "sim"),
            ("collect", "--duration", "3s"),
            ("import", TESTS / "recordings" / "icmp"),
            ("report", "nat"),
            ("sql", "from report_affinity()"),
            ("status",),
        ):
            done = lean(*arguments)
            assert done.returncode == 0, (arguments, done.stderr)
    finally:
        lean("lab", "down")


def test_a_command_that_lacks_its_extra_says_which(
    lean: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line with what to install, at once."""
    found = lean("lab", "up", "--driver", "netns")
    assert (found.returncode, "pip install 'meshobs[netns]'" in found.stderr.splitlines()[-1]) == (2, True), (
        found.stderr
    )

    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MeshobsError, match=r"pip install 'meshobs\[shell\]'"):
        shell.duckdb_shell()

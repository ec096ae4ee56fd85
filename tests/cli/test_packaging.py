"""The package: rooms linked under one import name, and a wheel with everything in it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.recordings import TESTS

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

"""What the README shows is what the program prints."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TESTS, Outcome

from meshobs.cli import lab as labs
from meshobs.errors import MeshobsError

ROOT = TESTS.parent
README = (ROOT / "README.md").read_text()


def test_readme_shows_exactly_what_make_demo_prints(meshobs: Callable[..., Outcome]) -> None:
    """The demo comes out as the README says, to the letter; the Makefile's line is the one that runs here."""
    sample = README.split("<!-- demo -->\n```\n")[1].split("\n```")[0]
    Path("build").mkdir()
    assert "$(BIN)/meshobs --db $(DEMO) demo" in (ROOT / "Makefile").read_text()

    outcome = meshobs("--db", "build/demo.duckdb", "demo")

    assert outcome.code == 0, outcome.err
    assert outcome.out.rstrip() == sample


def test_links_lead_somewhere() -> None:
    """Every relative link of the documents leads to a file."""
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), (document, target)


@pytest.mark.parametrize(
    ("words", "driver"), [((), "sim"), (("--driver", "netns"), "netns"), (("--driver", "kind"), "kind")]
)
def test_the_demo_runs_on_the_driver_that_is_asked_for(
    words: tuple[str, ...], driver: str, meshobs: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mesh is stood up by that driver without background traffic; `make demo` passes DRIVER on."""
    asked: list[tuple[object, ...]] = []

    def start(*given: object) -> None:
        asked.append(given)
        raise MeshobsError("stopped here")

    monkeypatch.setattr(labs, "start", start)

    outcome = meshobs("demo", *words)

    assert (outcome.code, outcome.err) == (2, "meshobs: stopped here\n")
    ((name, _, rate, manner),) = asked
    assert (name, rate, manner) == (driver, 0, labs.Manner(cleanup=driver == "kind"))
    variable = [f"DRIVER={driver}"] if words else []
    told = subprocess.run(["make", "-n", "demo", *variable], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.rstrip().endswith(f"demo{''.join(f' {word}' for word in words)}")

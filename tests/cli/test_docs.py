"""What the README shows is what the program prints."""

import re
from collections.abc import Callable
from pathlib import Path

from support.command_line import Outcome
from support.recordings import TESTS

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

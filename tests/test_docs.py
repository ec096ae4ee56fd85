"""What the README shows is what the program prints."""

import re
from collections.abc import Callable
from pathlib import Path

from conftest import RECORDINGS, TESTS, Outcome

ROOT = TESTS.parent
README = (ROOT / "README.md").read_text()


def demo() -> list[str]:
    """Return the names of the recordings that `make demo` imports."""
    found = re.search(r"^RECORDINGS := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found
    return found[1].split()


def test_readme_shows_what_make_demo_prints(db: Path, meshobs: Callable[..., Outcome]) -> None:
    """Every line of the sample is a line of the real output."""
    sample = README.split("<!-- demo -->\n```\n")[1].split("\n```")[0].splitlines()
    meshobs("--db", db, "import", *(RECORDINGS / name for name in demo()))

    printed: list[str] = []
    for report in ("affinity", "nat", "hops", "coverage"):
        printed += meshobs("--db", db, "report", report).out.splitlines()

    assert len(sample) > 20
    assert [line for line in sample if line and line not in printed] == []


def test_links_lead_somewhere() -> None:
    """Every relative link of the documents leads to a file."""
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), (document, target)

"""`make lab-matrix`: every experiment on every kind of mesh that the driver netns stands up, as a table (docs/lab.md).

    python tests/lab/matrix.py [VARIANT|VERSION|AGGREGATION ...]

Words choose among them; none of a kind means all of it. Each mesh's findings are kept in build/lab-matrix, and one that is
there is not stood up again, so that a run that was stopped goes on. What is not as expected is asked a second time: on a
busy machine events are lost. Exit code 1: something stayed wrong.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from meshobs.lab.mesh.variants import NAMED

FOLDER = Path("build/lab-matrix")
MESHOBS = Path(sys.executable).with_name("meshobs")
VERSIONS = ("1.17.6", "1.19.6", "1.20.2")
AGGREGATIONS = ("none", "medium")
Line = Mapping[str, Any]


def chosen(words: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield variant, version and aggregation of each mesh that the words leave."""
    known = (tuple(NAMED), VERSIONS, AGGREGATIONS)
    if unknown := [word for word in words if not any(word in one for one in known)]:
        sys.exit(f"unknown: {', '.join(unknown)} (known: {', '.join(word for one in known for word in one)})")
    variants, versions, aggregations = ([word for word in one if word in words] or one for one in known)
    yield from product(variants, versions, aggregations)


def meshobs(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the program; what it tells goes to the terminal."""
    return subprocess.run([MESHOBS, *map(str, words)], stdout=subprocess.PIPE, text=True, check=False)


def run(variant: str, version: str, aggregation: str) -> Sequence[Line]:
    """Stand a mesh up, run all experiments, take it down; return their findings."""
    name = f"{variant}-{version}-{aggregation}"
    database = FOLDER / f"{name}.duckdb"
    _remove(database)
    kind = ("--variant", variant, "--cilium", version, "--aggregation", aggregation)
    if meshobs("lab", "up", "--driver", "netns", *kind).returncode:
        sys.exit(f"{name}: the mesh could not be stood up")
    try:
        lines = _ask(database, "all")
        if wrong := sorted({line["experiment"] for line in lines if not line["agrees"]}):
            again = _ask(database, *wrong)
            lines = [line for line in lines if line["experiment"] not in wrong] + again
    finally:
        meshobs("lab", "down")
    if not lines:
        sys.exit(f"{name}: no experiment ran")
    _remove(database)
    return lines


def _remove(database: Path) -> None:
    """Remove a database, and the log of one that was killed: another file of its name would take it for its own."""
    for path in (database, Path(f"{database}.wal")):
        path.unlink(missing_ok=True)


def _ask(database: Path, *names: str) -> list[Line]:
    found: list[Line] = json.loads(meshobs("--db", database, "experiment", *names, "-o", "json").stdout or "[]")
    return found


def table(results: Mapping[tuple[str, str, str], Sequence[Line]]) -> str:
    """Return a Markdown table: how many findings of each mesh agree with what clients saw, of how many."""
    columns = sorted(
        {(version, aggregation) for _, version, aggregation in results}, key=lambda one: (one[0], one[1] != "none")
    )
    rows = [
        "| variant | " + " | ".join(f"{version}, {aggregation}" for version, aggregation in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for variant in dict.fromkeys(variant for variant, _, _ in results):
        cells = [_cell(results.get((variant, *column))) for column in columns]
        rows.append(f"| `{variant}` | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _cell(lines: Sequence[Line] | None) -> str:
    if lines is None:
        return "not run"
    return f"{sum(line['agrees'] for line in lines)} of {len(lines)}"


def main() -> None:
    """Run what is chosen and print the table, then what is wrong."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    results = {}
    for mesh in chosen(sys.argv[1:]):
        path = FOLDER / f"{'-'.join(mesh)}.json"
        if not path.exists():
            began = time.monotonic()
            path.write_text(json.dumps(run(*mesh)))
            print(f"{path}: {(time.monotonic() - began) / 60:.1f} min", file=sys.stderr)
        results[mesh] = json.loads(path.read_text())
    print(f"{datetime.now(UTC):%Y-%m-%d}\n\n{table(results)}")
    wrong = [(mesh, line) for mesh, lines in results.items() for line in lines if not line["agrees"]]
    for mesh, line in wrong:
        print(f"- {'-'.join(mesh)}: {line['experiment']}, {line['phase']}, {line['who']}: clients {line['clients']},"
              f" flows {line['flows']}, {line['verdict']} ({line['reason']})")  # fmt: skip
    sys.exit(bool(wrong) or any(not lines for lines in results.values()))


if __name__ == "__main__":
    main()

"""Measures speed, memory and size on this machine: a table, and build/bench.json. Figures, never verdicts.

BENCH_FLOWS (a million) flows go BENCH_RUNS (3) times over a socket into `meshobs collect`, each time into a new file,
and into the hubble CLI; medians are told, of memory the most. What is not live collection, and the CLI, is measured
with a million at most. CPU per flow is that of the reading process alone, without its start and end, which are measured
by runs without flows; the figure with them stands beside it. Flows per second count from the first flow sent until the
reader has stored the last and is gone; the source takes part of the machine meanwhile (`source_cpu_us_per_flow`).
Then the database is grown to 10, 50 and 200 times as many flows (BENCH_TIMES: no more than that): what settling them costs, and
reports before and after, beside what other engines take for a part of one on the same flows (`make bench` installs them).
"""

import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import grown
import live
import source
from flows import messages
from live import measured

from meshobs.errors import MeshobsError
from meshobs.lab.programs import build, modules

ROOT = Path(__file__).parent.parent.parent
RESULT = ROOT / "build" / "bench.json"
FLOWS = int(os.environ.get("BENCH_FLOWS", "1000000"))
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
TIMES = int(os.environ.get("BENCH_TIMES", grown.TIMES[-1]))
PEERS = ROOT / ".venv" / "peers" / "bin" / "python"
# Of what is not live collection: as many flows as give a steady figure.
ENOUGH = min(FLOWS, 1_000_000)
MESHOBS = (sys.executable, "-m", "meshobs")

Figure: TypeAlias = "float | str | None"


@dataclass(frozen=True)
class Goal:
    """What a figure should be on two cores.

    Attributes:
        least: the figure should be at least that; else at most.
        floor: what it must be.
    """

    goal: float
    least: bool = False
    floor: float | None = None

    def missed(self, figure: float) -> str:
        """Return in words that a figure misses the goal; empty where it does not."""
        if _meets(figure, self.goal, least=self.least):
            return ""
        words = f"missed: goal {'>=' if self.least else '<='} {self.goal:g}"
        if self.floor is None:
            return words
        kept = "kept" if _meets(figure, self.floor, least=self.least) else "missed, too"
        return f"{words}; floor {self.floor:g} {kept}"


GOALS = {
    "cpu_us_per_flow": Goal(12.5, floor=17),
    "peer_cpu_ratio": Goal(4, least=True, floor=3),
    "flows_per_s": Goal(100_000, least=True),
    "rss_mb": Goal(300),
    "bytes_per_flow": Goal(45),
    "keep_events_cpu_us_per_flow": Goal(6),
    "keep_events_bytes_per_flow_later": Goal(6),
    "bare_flows_nat_s": Goal(6),
    "bare_flows_nat_rss_mb": Goal(1000),
    "settle_cpu_us_per_flow": Goal(2),
    **{f"report_{name}_10m_s": Goal(0.8) for name in grown.REPORTS},
    "report_rss_mb": Goal(300),
    "report_10min_of_50m_s": Goal(0.5),
    **{f"report_{name}_200m_s": Goal(3) for name in grown.REPORTS},
    "report_rss_200m_mb": Goal(1000),
}


def collected(frames: Path, db: Path) -> dict[str, Figure]:
    """Measure `meshobs collect`; the last run's database stays."""
    with live.source(frames, FLOWS) as stream:
        idle = [live.collect(stream, db, live.AFTER) for _ in range(RUNS)]
        return {**live.figures([live.collect(stream, db) for _ in range(RUNS)], idle)}


def collected_events(frames: Path, db: Path) -> dict[str, Figure]:
    """Measure `meshobs collect --keep events`: the file right after it, and an hour later, when flows that decide go, too."""
    with live.source(frames, FLOWS) as stream:
        idle = [live.collect(stream, db, live.AFTER, keep="events") for _ in range(RUNS)]
        found = live.figures([live.collect(stream, db, keep="events") for _ in range(RUNS)], idle)
    measured(*MESHOBS, "--db", db, "prune", "--flows", "1h", "--compact")
    found["bytes_per_flow_later"] = round(db.stat().st_size / FLOWS, 1)
    return {f"keep_events_{name}": figure for name, figure in found.items()}


def peer(frames: Path, lines: Path) -> dict[str, Figure]:
    """Measure the hubble CLI with the same flows."""
    hubble = _hubble()
    if not hubble:
        return {"peer_cpu_us_per_flow": None, "peer_flows_per_s": None}
    with live.source(frames, ENOUGH) as stream:
        idle = [live.observe(stream, hubble, lines, live.AFTER) for _ in range(RUNS)]
        found = live.figures([live.observe(stream, hubble, lines) for _ in range(RUNS)], idle)
    lines.unlink()
    return {"peer_flows": ENOUGH, **{f"peer_{name}": figure for name, figure in found.items()}}


def imported(capture: Path, db: Path) -> dict[str, Figure]:
    """Measure `meshobs import`."""
    with capture.open("wb") as stream:
        for message in messages(ENOUGH):
            stream.write(len(message).to_bytes(4, "big") + message)
    usage = measured(*MESHOBS, "--db", db, "import", capture)
    capture.unlink()
    return {
        "import_flows": ENOUGH,
        "import_cpu_us_per_flow": round(usage.cpu_seconds / ENOUGH * 1e6, 2),
        "import_flows_per_s": round(ENOUGH / usage.seconds),
        "import_rss_mb": round(usage.rss_mb),
        "import_bytes_per_flow": round(db.stat().st_size / ENOUGH, 1),
    }


def start_ms(*command: object) -> int:
    """Return the median time of a short command."""
    return round(statistics.median(measured(*command).seconds for _ in range(11)) * 1000)


def ratio(result: Mapping[str, Figure]) -> Figure:
    """Return how many times as much CPU the peer takes."""
    ours, theirs = result["cpu_us_per_flow"], result["peer_cpu_us_per_flow"]
    return round(theirs / ours, 2) if isinstance(ours, float) and isinstance(theirs, float) else None


def machine() -> str:
    """Return what the figures are of."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    model = (names or [platform.processor()])[0]
    return f"{platform.machine()}, {os.cpu_count()} cores, {model}, Python {platform.python_version()}"


def show(result: Mapping[str, Figure]) -> None:
    """Print the figures, and what misses its goal."""
    for key, figure in result.items():
        goal = GOALS.get(key)
        missed = goal.missed(figure) if goal and isinstance(figure, int | float) else ""
        print(f"{key:32}{'not measured' if figure is None else figure!s:<14}{missed}".rstrip())


def main() -> None:
    """Measure, print, write."""
    result: dict[str, Figure] = {"flows": FLOWS, "runs": RUNS, "load_before": round(os.getloadavg()[0], 2)}
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as name:
        folder = Path(name)
        frames, db = folder / "frames", folder / "live.duckdb"
        source.write(frames, messages(FLOWS))
        result |= collected_events(frames, db)
        result |= collected(frames, db)
        result |= peer(frames, folder / "lines")
        result["peer_cpu_ratio"] = ratio(result)
        frames.unlink()
        result |= imported(folder / "flows.bin", folder / "imported.duckdb")
        result |= grown.figures(db, FLOWS, MESHOBS, PEERS if PEERS.exists() else None, TIMES)
    result["help_ms"] = start_ms(*MESHOBS, "--help")
    result["python_ms"] = start_ms(sys.executable, "-c", "pass")
    result["machine"] = machine()
    result["date"] = f"{datetime.now(tz=UTC):%Y-%m-%dT%H:%M:%SZ}"
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    show(result)


def _meets(figure: float, wanted: float, *, least: bool) -> bool:
    return figure >= wanted if least else figure <= wanted


def _hubble() -> Path | None:
    """Return the real hubble CLI, built on first use; None where that is not possible.

    Raises:
        MeshobsError: it is not possible in CI, which compares in any case.
    """
    hubble = modules.cilium()["hubble"]
    try:
        build.build([hubble], lambda text: print(text, file=sys.stderr))
    except MeshobsError as error:
        if os.environ.get("CI"):
            raise
        print(f"no hubble CLI to compare with: {error}", file=sys.stderr)
        return None
    return hubble.path


if __name__ == "__main__":
    RESULT.parent.mkdir(exist_ok=True)
    main()

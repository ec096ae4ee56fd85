"""Measures speed, memory and size on this machine: a table, and build/bench.json. Figures, never verdicts."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flows import messages

ROOT = Path(__file__).parent.parent.parent
RESULT = ROOT / "build" / "bench.json"
FLOWS = int(os.environ.get("BENCH_FLOWS", "1000000"))


@dataclass(frozen=True)
class Usage:
    """What a finished process used."""

    seconds: float
    cpu_seconds: float
    rss_mb: float


def measured(*command: object) -> Usage:
    """Run a command to its end, output thrown away."""
    started = time.monotonic()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return Usage(time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def start_ms(*command: object) -> float:
    """Return the median time of a short command."""
    return statistics.median(measured(*command).seconds for _ in range(11)) * 1000


def main() -> None:
    """Measure, print, write."""
    meshobs = [sys.executable, "-m", "meshobs"]
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as name:
        folder = Path(name)
        capture, db = folder / "flows.bin", folder / "x.duckdb"
        with capture.open("wb") as stream:
            for message in messages(FLOWS):
                stream.write(len(message).to_bytes(4, "big") + message)
        imported = measured(*meshobs, "--db", db, "import", capture)
        size = db.stat().st_size
        reports = {
            f"report_{report}_s": round(measured(*meshobs, "--db", db, "report", report).seconds, 2)
            for report in ("nat", "affinity", "hops", "coverage")
        }
    result = {
        "flows": FLOWS,
        "import_cpu_us_per_flow": round(imported.cpu_seconds / FLOWS * 1e6, 2),
        "import_flows_per_s": round(FLOWS / imported.seconds),
        "import_rss_mb": round(imported.rss_mb),
        "bytes_per_flow": round(size / FLOWS, 1),
        **reports,
        "help_ms": round(start_ms(*meshobs, "--help")),
        "python_ms": round(start_ms(sys.executable, "-c", "pass")),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": f"{datetime.now(tz=UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    for key, value in result.items():
        print(f"{key:24}{value}")


if __name__ == "__main__":
    RESULT.parent.mkdir(exist_ok=True)
    main()

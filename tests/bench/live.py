"""Live collection measured: one stream of flows into meshobs and into the hubble CLI, its peer."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from meshobs.store import Store

SOURCE = Path(__file__).parent / "source.py"
# Before and after all flows of the recording, however often it is repeated.
BEFORE, AFTER = "2026-01-01T00:00:00Z", "2100-01-01T00:00:00Z"


@dataclass(frozen=True)
class Usage:
    """What a finished process used; `ended` is by the monotonic clock."""

    seconds: float
    cpu_seconds: float
    rss_mb: float
    ended: float


@dataclass(frozen=True)
class Sent:
    """What a source tells of a GetFlows call that it answered; times by the monotonic clock."""

    flows: int
    began: float
    ended: float
    cpu_seconds: float


@dataclass(frozen=True)
class Run:
    """One stream into one reader.

    Attributes:
        size: bytes of what the reader left.
    """

    usage: Usage
    sent: Sent
    size: int

    @property
    def flows_per_s(self) -> float:
        """Return the speed from the first flow sent until the reader has stored the last and is gone."""
        return self.sent.flows / (self.usage.ended - self.sent.began)


class WrongError(Exception):
    """A program failed, or what it did is not what was to be measured."""


def measured(*command: object, output: Path | None = None) -> Usage:
    """Run a command to its end, output into a file or thrown away."""
    with (output or Path(os.devnull)).open("wb") as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        process = subprocess.Popen([str(part) for part in command], stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        ended = time.monotonic()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            err.seek(0)
            raise WrongError(f"{command} ended with {process.returncode}: {err.read()[-2000:].decode()}")
    return Usage(ended - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, ended)


class Source:
    """A running source.py.

    Attributes:
        address: where it serves.
    """

    def __init__(self, lines: IO[bytes]) -> None:
        self._lines = lines
        self.address = f"127.0.0.1:{json.loads(lines.readline())['port']}"

    def sent(self) -> Sent:
        """Return what became of the next call; waits for its end."""
        return Sent(**json.loads(self._lines.readline()))


@contextmanager
def source(frames: Path, count: int) -> Iterator[Source]:
    """Serve so many flows of a file."""
    process = subprocess.Popen([sys.executable, SOURCE, frames, str(count)], stdout=subprocess.PIPE)
    try:
        if process.stdout is None:
            raise WrongError("source.py has no output")
        yield Source(process.stdout)
    finally:
        process.kill()
        process.wait()


def collect(source: Source, db: Path, since: str = BEFORE, *, keep: str = "flows") -> Run:
    """Let meshobs collect once what the source holds, into a new file; every flow must be stored, or counted, once."""
    db.unlink(missing_ok=True)
    relay = f"bench={source.address}"
    options = ("--no-follow", "--since", since, "--watch-own-traffic", "--keep", keep)
    usage = measured(sys.executable, "-m", "meshobs", "--db", db, "collect", "--relay", relay, *options)
    sent = source.sent()
    with Store.open(db) as store:
        rows = store.value("select count(*) from flows_seen")
        left_out = store.value("select count(*) from left_out_flows")
        counts = store.rows("select received, stored + filtered, duplicate, filtered, undecodable from collections")
    if rows != sent.flows or counts != [(sent.flows, sent.flows, 0, left_out, 0)]:
        raise WrongError(f"{sent.flows} flows were sent, {rows} are stored; the account says {counts}")
    return Run(usage, sent, db.stat().st_size)


def observe(source: Source, hubble: Path, lines: Path, since: str = BEFORE) -> Run:
    """Let the hubble CLI write once what the source holds; every flow must be a line."""
    options = ("--server", source.address, "-o", "jsonpb", "--since", since)
    usage = measured(hubble, "observe", *options, output=lines)
    sent = source.sent()
    with lines.open("rb") as stream:
        found = sum(1 for _ in stream)
    if found != sent.flows:
        raise WrongError(f"{sent.flows} flows were sent, the hubble CLI wrote {found}")
    return Run(usage, sent, lines.stat().st_size)


def figures(runs: Sequence[Run], idle: Sequence[Run]) -> dict[str, float]:
    """Return the medians of some runs.

    Args:
        runs: alike.
        idle: of the same reader without any flow: what its start and end cost.
    """

    def median(values: Iterator[float]) -> float:
        return statistics.median(values)

    cpu = median(run.usage.cpu_seconds / run.sent.flows for run in runs) * 1e6
    start = median(run.usage.cpu_seconds for run in idle)
    return {
        "cpu_us_per_flow": round(cpu - start / runs[0].sent.flows * 1e6, 2),
        "cpu_us_per_flow_with_start": round(cpu, 2),
        "start_cpu_s": round(start, 2),
        "flows_per_s": round(median(run.flows_per_s for run in runs)),
        "rss_mb": round(max(run.usage.rss_mb for run in runs)),
        "bytes_per_flow": round(median(run.size / run.sent.flows for run in runs), 1),
        "source_cpu_us_per_flow": round(median(run.sent.cpu_seconds / run.sent.flows for run in runs) * 1e6, 2),
    }

"""Shows where the CPU of `meshobs collect` goes, stage by stage: microseconds per flow. It runs in this very process.

Each stage is timed by the CPU clock of its thread, without the stages inside it; what no stage claims is told, too.
BENCH_FLOWS (a million) flows are sent once.
"""

import os
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cached_property, wraps
from pathlib import Path
from typing import Any

import live
import source
from flows import messages

from meshobs.cli.main import main as meshobs
from meshobs.collector.collect import Collection
from meshobs.collector.decode import arrow
from meshobs.collector.decode.digest import Digest
from meshobs.collector.follow.reader import RelayReader
from meshobs.collector.hubble.stream import FlowStream
from meshobs.collector.write.writer import FlowWriter
from meshobs.store import OpenDatabase, Store

BUILD = Path(__file__).parent.parent.parent / "build"
FLOWS = int(os.environ.get("BENCH_FLOWS", "1000000"))
# What is timed: owner, name, the stage it belongs to.
STAGES: tuple[tuple[Any, str, str], ...] = (
    (RelayReader, "_read", "reader: recv, window updates, queue"),
    (FlowStream, "_cut", "reader: cut frames into messages"),
    (Collection, "run", "writer: loop, queue, positions"),
    (arrow, "decode", "writer: decode (ptars)"),
    (FlowWriter, "write_messages", "writer: position column, table, begin"),
    (Digest, "regular", "writer: digest, uuids once each"),
    (Digest, "spans", "writer: digest, first and last of nodes"),
    (Digest, "identities", "writer: digest, identities"),
    (Digest, "versions", "writer: digest, versions"),
    (FlowWriter, "_append", "writer: append (DuckDB)"),
    (FlowWriter, "_look_closer", "writer: closer look (DuckDB)"),
    (FlowWriter, "_note", "writer: new identities (DuckDB)"),
    (FlowWriter, "commit", "writer: commit (DuckDB)"),
    (Store, "checkpoint", "writer: checkpoint after a row group (DuckDB)"),
    (OpenDatabase, "close", "writer: close (DuckDB)"),
)


class Clock:
    """CPU seconds and calls by stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self._local = threading.local()

    def timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """Return the function, timed."""

        @wraps(function)
        def timing(*arguments: Any, **named: Any) -> Any:
            outer: str | None = getattr(self._local, "stage", None)
            self._switch(outer, stage)
            self.calls[stage] += 1
            try:
                return function(*arguments, **named)
            finally:
                self._switch(stage, outer)

        return timing

    def _switch(self, before: str | None, after: str | None) -> None:
        """Add the time since the last switch in this thread to the stage that ran."""
        now = time.thread_time()
        if before:
            self.seconds[before] += now - self._local.since
        self._local.since, self._local.stage = now, after


def instrument(clock: Clock) -> None:
    """Time every stage from now on."""
    for owner, name, stage in STAGES:
        found = owner.__dict__[name]
        if isinstance(found, cached_property):
            found.func = clock.timed(found.func, stage)
        else:
            setattr(owner, name, clock.timed(found, stage))


def main() -> None:
    """Collect once, print the table."""
    clock = Clock()
    instrument(clock)
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        frames, db = Path(folder, "frames"), Path(folder, "x.duckdb")
        source.write(frames, messages(FLOWS))
        with live.source(frames, FLOWS) as stream:
            relay = f"bench={stream.address}"
            options = ["--no-follow", "--since", live.BEFORE, "--watch-own-traffic"]
            sys.argv = ["meshobs", "--db", str(db), "collect", "--relay", relay, *options]
            before = time.process_time()
            try:
                meshobs()
            except SystemExit as ended:
                if ended.code:
                    raise
            total = time.process_time() - before
    rows = [(seconds, stage, clock.calls[stage]) for stage, seconds in clock.seconds.items()]
    rows.append((total - sum(clock.seconds.values()), "start and end, threads of libraries", 1))
    for seconds, stage, calls in sorted(rows, reverse=True):
        print(f"{stage:46}{seconds / FLOWS * 1e6:6.2f}  {seconds / total:4.0%}  {calls} calls")
    print(f"{'all':46}{total / FLOWS * 1e6:6.2f}")


if __name__ == "__main__":
    main()

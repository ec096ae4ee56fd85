"""A database as a busy mesh makes it: its flows again and again, each time later, written by DuckDB itself.

    python tests/bench/grown.py grow DATABASE FLOWS     # prints ten minutes in their middle
    python tests/bench/grown.py bare DATABASE           # nothing of it is settled any more
    python tests/bench/grown.py export DATABASE PARQUET

Each works in a process of its own: the system tells of a child no less memory than its parent has.
"""

import os
import random
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from live import Usage, WrongError, measured

from meshobs.collector.write.settle import unsettle
from meshobs.store import Store, integer
from meshobs.times import SECOND, rfc3339

# Times as many flows; "10m" in the name of a figure is ten times as many, whatever is grown.
TIMES = (1, 10, 50, 200)
REPORTS = ("nat", "affinity", "hops", "coverage")
PEERS = ("duckdb", "polars", "chdb")
_AGAIN = """
    insert into flows
    select * replace (make_timestamp_ns(epoch_ns(time) + $span::bigint) as time, xor(uuid, $salt::ubigint) as uuid)
    from flows where time < make_timestamp_ns($end) limit $missing
"""
# Flows that are written at once, as far as they are repeated.
_PIECE = 5_000_000
# Runs of each report; of the largest file one.
_RUNS = int(os.environ.get("BENCH_RUNS", "3"))


def grow(db: Path, flows: int) -> None:
    """Bring a database to so many flows, all of the last run; print ten minutes in their middle."""
    salts = random.Random(flows)
    with Store.open(db, write=True) as store:
        unsettle(store)
        store.run("insert into late_flows select max(time), max(time) from flows")
        while (have := integer(store.value("select count(*) from flows"))) < flows:
            first, last = (
                integer(ns) for ns in store.rows("select epoch_ns(min(time)), epoch_ns(max(time)) from flows")[0]
            )
            # A part from the beginning, behind all the others.
            end = first + (last - first) * _PIECE // have if have > _PIECE else last
            parameters = {"end": end + 1, "span": last - first + SECOND, "salt": salts.getrandbits(63)}
            store.run(_AGAIN, {**parameters, "missing": flows - have})
        store.run("update collections set last_flow = (select max(time) from flows)")
        store.run("checkpoint")
        middle = integer(store.value("select epoch_ns(min(time)) // 2 + epoch_ns(max(time)) // 2 from flows"))
    print(rfc3339(middle - 300 * SECOND), rfc3339(middle + 300 * SECOND))


def bare(db: Path) -> None:
    """Forget all that is made of a database's flows."""
    with Store.open(db, write=True) as store:
        unsettle(store)
        for made in ("stretches", "attempts", "events", "flow_counts", "known_addresses"):
            store.run(f"delete from {made}")


def export(db: Path, parquet: Path) -> None:
    """Write the flows of a database into a Parquet file."""
    with Store.open(db) as store:
        store.rows(f"copy (from flows) to '{parquet}' (format parquet, compression zstd)")


def figures(db: Path, flows: int, meshobs: Sequence[str], peers: Path | None, most: int) -> dict[str, float | None]:
    """Let a database grow, and measure what settling costs, and reports before and after it, beside what others take.

    Args:
        db: with so many flows; it is changed.
        flows: how many.
        meshobs: the command.
        peers: the Python that has them; None: they are not measured.
        most: no more than so many times as many flows.
    """
    found: dict[str, float | None] = {}
    for times in TIMES:
        name = f"{times}m"
        if times > most:
            found |= dict.fromkeys(_names(name))
            continue
        since, until = _do("grow", db, flows * times).split()
        if times == 10:
            found |= _bare(db, meshobs) | _peers(db, peers)
        settling = measured(*meshobs, "--db", db, "settle")
        if times == 10:
            found["settle_cpu_us_per_flow"] = round(settling.cpu_seconds / flows / times * 1e6, 2)
            found["settle_rss_mb"] = round(settling.rss_mb)
        runs = _RUNS if times < TIMES[-1] else 1
        reports = {one: [measured(*meshobs, "--db", db, "report", one) for _ in range(runs)] for one in REPORTS}
        window = ("--since", since, "--until", until)
        part = [measured(*meshobs, "--db", db, "report", "affinity", *window) for _ in range(runs)]
        found |= dict(zip(_names(name), _of(reports, part, db.stat().st_size / flows / times), strict=True))
    return found


def _names(size: str) -> list[str]:
    of_reports = [f"report_{one}_{size}_s" for one in REPORTS]
    memory = "report_rss_mb" if size == "10m" else f"report_rss_{size}_mb"
    return [*of_reports, f"report_cpu_{size}_s", memory, f"report_10min_of_{size}_s", f"bytes_per_flow_{size}"]


def _of(reports: Mapping[str, Sequence[Usage]], part: Sequence[Usage], size: float) -> list[float]:
    every = [one for runs in reports.values() for one in runs]
    most = [round(max(one.cpu_seconds for one in every), 2), round(max(one.rss_mb for one in every))]
    return [*map(_median, reports.values()), *most, _median(part), round(size, 1)]


def _bare(db: Path, meshobs: Sequence[str]) -> dict[str, float | None]:
    _do("bare", db)
    usage = measured(*meshobs, "--db", db, "report", "nat")
    return {
        "bare_flows_nat_s": round(usage.seconds, 2),
        "bare_flows_nat_cpu_s": round(usage.cpu_seconds, 2),
        "bare_flows_nat_rss_mb": round(usage.rss_mb),
    }


def _peers(db: Path, python: Path | None) -> dict[str, float | None]:
    """Measure what other engines take for a part of `report nat` on the same flows; they have to agree."""
    found: dict[str, float | None] = {}
    parquet, answers = db.with_suffix(".parquet"), set()
    if python:
        _do("export", db, parquet)
    for name in PEERS:
        taken: tuple[float | None, ...] = (None, None, None)
        if python:
            output = db.with_name(f"{name}.txt")
            usage = measured(python, Path(__file__).with_name("peers.py"), name, parquet, output=output)
            answers.add(output.read_text())
            taken = (round(usage.seconds, 2), round(usage.cpu_seconds, 2), round(usage.rss_mb))
        found |= zip((f"peer_{name}_nat_{unit}" for unit in ("s", "cpu_s", "rss_mb")), taken, strict=True)
    parquet.unlink(missing_ok=True)
    if len(answers) > 1:
        raise WrongError(f"the engines do not agree: {answers}")
    return found


def _do(*what: object) -> str:
    return subprocess.check_output([sys.executable, __file__, *map(str, what)], text=True)


def _median(runs: Sequence[Usage]) -> float:
    return round(statistics.median(one.seconds for one in runs), 2)


if __name__ == "__main__":
    if sys.argv[1] == "grow":
        grow(Path(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1] == "bare":
        bare(Path(sys.argv[2]))
    else:
        export(Path(sys.argv[2]), Path(sys.argv[3]))

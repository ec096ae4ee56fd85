"""A database as a busy mesh makes it: its flows again and again, each time later, written by DuckDB itself.

    python tests/bench/grown.py DATABASE FLOWS

It grows in a process of its own: the system tells of a child no less memory than its parent has.
"""

import random
import statistics
import subprocess
import sys
from pathlib import Path

from live import Usage, measured

from meshobs.collector.write.settle import unsettle
from meshobs.store import Store
from meshobs.times import SECOND, rfc3339

_AGAIN = """
    insert into flows
    select * replace (make_timestamp_ns(epoch_ns(time) + $span::bigint) as time, xor(uuid, $salt::ubigint) as uuid)
    from flows limit $missing
"""
# Runs of each report.
_RUNS = 3


def grow(db: Path, flows: int) -> None:
    """Bring a database to so many flows, none of them settled, all of the last run; print ten minutes in their middle."""
    salts = random.Random(0)
    with Store.open(db, write=True) as store:
        unsettle(store)
        for made in ("stretches", "attempts", "events", "flow_counts", "known_addresses"):
            store.run(f"delete from {made}")
        while (have := int(str(store.value("select count(*) from flows")))) < flows:
            span = store.value("select epoch_ns(max(time)) - epoch_ns(min(time)) + 1000000000 from flows")
            store.run(_AGAIN, {"span": span, "salt": salts.getrandbits(63), "missing": flows - have})
        store.run("update collections set last_flow = (select max(time) from flows)")
        store.run("checkpoint")
        middle = int(str(store.value("select epoch_ns(min(time)) // 2 + epoch_ns(max(time)) // 2 from flows")))
    print(rfc3339(middle - 300 * SECOND), rfc3339(middle + 300 * SECOND))


def figures(db: Path, flows: int, meshobs: tuple[str, ...]) -> dict[str, float]:
    """Let a database grow to so many flows, and measure what settling costs, and reports before and after it.

    Args:
        db: with flows; it is changed.
        flows: how many.
        meshobs: the command.
    """
    since, until = subprocess.check_output([sys.executable, __file__, db, str(flows)], text=True).split()
    bare = measured(*meshobs, "--db", db, "report", "nat")
    settling = measured(*meshobs, "--db", db, "settle")
    reports = {
        name: [measured(*meshobs, "--db", db, "report", name) for _ in range(_RUNS)]
        for name in ("nat", "affinity", "hops", "coverage")
    }
    part = [
        measured(*meshobs, "--db", db, "report", "affinity", "--since", since, "--until", until) for _ in range(_RUNS)
    ]
    every = [one for runs in reports.values() for one in runs]
    return {
        "grown_flows": flows,
        "bare_flows_nat_s": round(bare.seconds, 2),
        "bare_flows_nat_rss_mb": round(bare.rss_mb),
        "settle_cpu_us_per_flow": round(settling.cpu_seconds / flows * 1e6, 2),
        "settle_rss_mb": round(settling.rss_mb),
        **{f"report_{name}_10m_s": _median(runs) for name, runs in reports.items()},
        "report_cpu_s": round(max(one.cpu_seconds for one in every), 2),
        "report_rss_mb": round(max(one.rss_mb for one in every)),
        "report_10min_s": _median(part),
        "grown_bytes_per_flow": round(db.stat().st_size / flows, 1),
    }


def _median(runs: list[Usage]) -> float:
    return round(statistics.median(one.seconds for one in runs), 2)


if __name__ == "__main__":
    grow(Path(sys.argv[1]), int(sys.argv[2]))

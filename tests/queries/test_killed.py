"""Whoever settles or prunes may be killed: what was there before answers, or what is there then."""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from support.recordings import make_bare
from support.size import WHOLE

from meshobs.analyzer import Question, run
from meshobs.jobs import maintenance
from meshobs.store import Store
from meshobs.times import SECOND, rfc3339

KILLS = 200 if WHOLE else 12
MINUTE = 60 * SECOND


def test_killed_while_it_settles_and_prunes(recorded: Callable[[str], Path], db: Path) -> None:
    """At random moments, in random order, also where all has to be made again: connections and reports stay the same."""
    make_bare(recorded("snat"), db)
    with Store.open(db) as store:
        mark = int(str(store.value("select epoch_ns(max(time)) from flows"))) // MINUTE * MINUTE
    chance = random.Random(5)

    def answer() -> tuple[object, ...]:
        with Store.open(db) as store:
            report = run(store, "affinity", Question(since=rfc3339(mark)))
            rows = store.rows("select * exclude (attempt) from connections")
            numbers = store.value("select count(distinct attempt) from connections")
        return report.values, report.coverage, sorted(map(repr, rows)), numbers

    def before_mark() -> str:
        return f"{int(time.time() - mark / SECOND) - 30}s"

    def again() -> list[str]:
        # As if flows had come for it.
        with Store.open(db, write=True) as store:
            store.run("insert into late_flows select min(time), max(time) from events having count(*) > 0")
        return ["settle"]

    commands: tuple[Callable[[], list[str]], ...] = (
        lambda: ["settle"],
        lambda: ["prune", "--flows", before_mark()],
        lambda: ["prune", "--flows", before_mark(), "--events", before_mark()],
        lambda: ["prune", "--flows", "1s"],
        again,
    )
    shutil.copy(db, bare := db.with_name("bare.duckdb"))
    maintenance.settle(db)
    expected = answer()
    ended = killed = 0
    for number in range(KILLS):
        if number % 20 == 0:
            shutil.copy(bare, db)
        arguments = chance.choice(commands)()
        process = subprocess.Popen(
            [sys.executable, "-m", "meshobs", "--db", db, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(chance.uniform(0.3, 2.5))
            ended += 1
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        assert answer() == expected, arguments
    maintenance.settle(db)

    assert answer() == expected
    assert killed > KILLS // 4
    assert ended + killed == KILLS

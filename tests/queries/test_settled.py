"""Connections that are stored are those that flows give, whatever was stored when, and in which pieces."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import Outcome
from support.recordings import NAMES, RECORDINGS, import_into, make_bare
from support.relay_nodes import wait_until
from support.size import WHOLE

from meshobs.analyzer import Question, run
from meshobs.collector.write.settle import Settled, SettledUntil, Settling, settle, unsettle
from meshobs.collector.write.settle import find_end as settle_end
from meshobs.store import Store
from meshobs.times import rfc3339

EVERYTHING = "make_timestamp_ns(0), timestamp_ns '2262-01-01'"
# Where both clusters' flows, objects and addresses matter.
OF_TWO = ("nodeport-global", "snat", "vx17-nodeport", "policy")
# A recording of each kind.
OF_KINDS = ("aggregation", "dsr17-nodeport", "dual17-mix6", "icmp", "node-down", "v19-perpacket-lb", "vxd17-hosts")


def connections(db: Path) -> list[str]:
    """Return all connections of a database in an order of their own, without their numbers."""
    with Store.open(db) as store:
        return sorted(map(repr, store.rows("select * exclude (attempt) from connections")))


def attempts(db: Path) -> list[str]:
    """Return all attempts that are stored, in an order of their own."""
    with Store.open(db) as store:
        return sorted(map(repr, store.rows("from attempts")))


def settled(db: Path, pieces: int = 1, until: int | None = None) -> Settled:
    """Settle a database in about so many pieces."""
    with Store.open(db, write=True) as store:
        flows = int(str(store.value("select count(*) from flows")))
        return settle(store, until, piece_flows=max(1, flows // pieces))


def open_stretches(db: Path) -> list[tuple[object, ...]]:
    """Return what is not settled."""
    with Store.open(db) as store:
        return store.rows(f"from unsettled_between({EVERYTHING})")


@pytest.mark.parametrize("name", NAMES if WHOLE else OF_TWO + OF_KINDS)
def test_attempts_are_the_same_in_pieces(recorded: Callable[[str], Path], name: str, db: Path) -> None:
    """All columns of all rows: settled at once and in three pieces."""
    make_bare(recorded(name), db)

    done = settled(db, 3)

    assert open_stretches(db) == []
    with Store.open(db) as store:
        assert store.value("select count(*) from attempts") == done.attempts
        slices = int(str(store.value("select count(distinct slice_of(epoch_ns(time))) from flows")))
        # Pieces are whole slices of ten seconds.
        assert done.stretches > 1 or slices <= 3
    assert attempts(db) == attempts(recorded(name))


@pytest.mark.parametrize("name", OF_KINDS)
def test_flows_give_the_same_without(recorded: Callable[[str], Path], name: str, db: Path) -> None:
    """Nothing is settled: who asks makes them."""
    make_bare(recorded(name), db)

    assert connections(db) == connections(recorded(name))


@pytest.mark.parametrize("name", OF_TWO)
def test_another_clusters_flows_may_come_later(recorded: Callable[[str], Path], name: str, db: Path) -> None:
    """As if they had come at once: also what only they tell of addresses."""
    make_bare(recorded(name), db)
    with Store.open(db, write=True) as store:
        store.run("create table later as from flows where cluster = 'east'; delete from flows where cluster = 'east'")
    settled(db, 2)
    with Store.open(db, write=True) as store:
        store.run("insert into flows from later; insert into late_flows select min(time), max(time) from later")
        store.run("drop table later")
        unsettle(store)
    assert open_stretches(db) != []

    settled(db, 2)

    assert connections(db) == connections(recorded(name))


@pytest.mark.parametrize("name", OF_TWO)
def test_objects_may_come_later(tmp_path: Path, name: str, db: Path) -> None:
    """What is settled without them is made anew."""
    folder = tmp_path / "flows"
    shutil.copytree(RECORDINGS / name, folder, ignore=shutil.ignore_patterns("k8s-*", "watch-*", "truth.json"))
    import_into(db, folder)
    settled(db, 2)
    assert open_stretches(db) == []

    import_into(db, *(path for path in (RECORDINGS / name).iterdir() if path.name.startswith(("k8s-", "watch-"))))
    assert open_stretches(db) != []
    bare = connections(db)
    settled(db, 2)

    assert connections(db) == bare


def test_a_tail_that_is_not_settled_is_made_of_flows(recorded: Callable[[str], Path], db: Path) -> None:
    """Reports say the same as before and after."""
    make_bare(recorded("nodeport-global"), db)
    with Store.open(db) as store:
        middle = int(str(store.value("select epoch_ns(min(time)) // 2 + epoch_ns(max(time)) // 2 from flows")))

    done = settled(db, until=middle)

    with Store.open(db) as store:
        flows = store.value("select count(*) from flows where time < make_timestamp_ns(?)", [middle])
    assert (done.stretches, done.flows) == (1, flows)
    assert len(open_stretches(db)) == 1
    assert connections(db) == connections(recorded("nodeport-global"))
    for report in ("nat", "hops", "affinity"):
        with Store.open(db) as half, Store.open(recorded("nodeport-global")) as bare:
            assert run(half, report, Question()).rows.equals(run(bare, report, Question()).rows)


# Every macro that reads events.
KINDS = (
    "unmarked_answers", "arrivals", "departures", "other_departures", "host_departures", "ingresses", "masquerades", "sends", "socket_calls",
    "answers", "drops", "refusals", "calls_to_self", "nodes_that_tell",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES if WHOLE else OF_TWO + OF_KINDS)
def test_stored_events_are_all_that_decides(recorded: Callable[[str], Path], name: str) -> None:
    """What rules take from them is what they take from all flows, in whole slices too; most flows are none."""
    with Store.open(recorded(name)) as store:
        (first,) = store.rows(
            "select epoch_ns(slices_from(make_timestamp_ns(epoch_ns(min(time)) // 2 + epoch_ns(max(time)) // 2))) from flows"
        )[0]
        windows = (EVERYTHING, f"make_timestamp_ns({first}), make_timestamp_ns({first} + slice_ns())")

        def told() -> list[list[str]]:
            return [sorted(map(repr, store.rows(f"from {kind}({window})"))) for kind in KINDS for window in windows]

        of_events = told()
        with store.replace("events_asked(since, until)", "table from flows where time >= since and time < until"):
            of_flows = told()
        shares = store.rows("select (select count(*) from events) / (select count(*) from flows)")

    assert of_events == of_flows
    assert any(of_flows)
    assert 0 < float(str(shares[0][0])) < 0.7


@pytest.mark.parametrize("report", ["nat", "affinity", "hops", "coverage"])
def test_windows_cut_what_is_stored(recorded: Callable[[str], Path], report: str, db: Path) -> None:
    """Wherever a window begins and ends: also within a minute, and where only a part is settled."""
    make_bare(recorded("nodeport-global"), db)
    with Store.open(db) as store:
        ((first, last),) = store.rows("select epoch_ns(min(time)), epoch_ns(max(time)) from flows")
    first, last = int(str(first)), int(str(last))
    windows = [
        (first + (last - first) * begin // 7, first + (last - first) * end // 7) for begin, end in ((1, 3), (2, 6))
    ]

    answers = []
    for until in (None, (first + last) // 2, last + 1):
        if until:
            settled(db, 3, until=until)
        with Store.open(db) as store:
            found = [run(store, report, Question(since=rfc3339(begin), until=rfc3339(end))) for begin, end in windows]
        answers.append(
            [(one.rows.rows(), one.coverage, one.since, one.until, one.verdict, one.reason) for one in found]
        )

    assert open_stretches(db) == []
    assert answers[0] == answers[1] == answers[2]


def test_late_flows_unsettle_what_is_near_them_alone(recorded: Callable[[str], Path], db: Path) -> None:
    """An hour later nothing changes for what was before."""
    shutil.copy(recorded("local"), db)
    with Store.open(db, write=True) as store:
        last = int(str(store.value("select epoch_ns(max(time)) from flows")))
        store.run("insert into late_flows select make_timestamp_ns(?), make_timestamp_ns(?)", [last + 3600 * 10**9] * 2)
    assert open_stretches(db) == []
    with Store.open(db, write=True) as store:
        store.run("insert into late_flows select make_timestamp_ns(?), make_timestamp_ns(?)", [last + 99 * 10**9] * 2)
        unsettle(store)

    assert len(open_stretches(db)) == 1
    assert settled(db).stretches == 1
    assert open_stretches(db) == []


def test_flows_that_come_meanwhile_wait_for_the_next_time(recorded: Callable[[str], Path], db: Path) -> None:
    """A collection settles each stretch once however many late flows come in, and keeps those of the next time apart."""
    make_bare(recorded("nodeport-global"), db)
    with Store.open(db, write=True) as store:
        last = int(str(store.value("select epoch_ns(max(time)) from flows")))

        def come_late(done: Settled) -> None:
            assert done.stretches < 10
            store.run("insert into late_flows select make_timestamp_ns(?), make_timestamp_ns(?)", [last] * 2)

        first = settle(store, last, piece_flows=5000, progress=come_late).stretches
        assert store.value("select count(*) from stretches") == first
        second = settle(store, last, piece_flows=5000).stretches
        assert store.value("select count(*) from stretches") == second

    assert open_stretches(db) != []
    settled(db)
    assert connections(db) == connections(recorded("nodeport-global"))


def test_a_collection_settles_while_it_runs(recorded: Callable[[str], Path], db: Path) -> None:
    """All but the newest flows, in a thread of its own; what is told when it cannot is empty."""
    make_bare(recorded("local"), db)
    told: list[str] = []
    with Store.open(db, write=True) as store:
        until = int(str(store.value("select epoch_ns(max(time)) from flows")))
        store.run("insert into flows select * replace (moved(time, 600) as time) from flows limit 1")
        shared = SettledUntil()
        settling = Settling(store, shared, told.append, pause=0.01)
        settling.start()
        wait_until(lambda: settle_end(store) > until)
        settling.end()
        assert shared.is_late(until)
        assert store.value("select max(end_time) < max(time) from stretches, flows") is True

    assert told == []


def test_the_command_settles_what_is_not(
    recorded: Callable[[str], Path], meshobs: Callable[..., Outcome], db: Path
) -> None:
    """It says what it did; a second time there is nothing to do."""
    make_bare(recorded("local"), db)

    first, second = meshobs("--db", db, "settle"), meshobs("--db", db, "settle", "-o", "json")
    missing = meshobs("--db", db.with_name("missing.duckdb"), "settle")

    assert first.code == 0
    assert "attempts made of" in first.err
    assert second.out == '{"stretches": 0, "flows": 0, "attempts": 0}\n'
    assert (missing.code, db.with_name("missing.duckdb").exists()) == (2, False)
    assert "does not exist" in missing.err


def test_import_settles(meshobs: Callable[..., Outcome], db: Path) -> None:
    """What was imported is settled; what is pruned is gone from all layers."""
    assert meshobs("--db", db, "import", RECORDINGS / "local").code == 0
    assert open_stretches(db) == []

    assert meshobs("--db", db, "prune", "--older-than", "1s").code == 0

    with Store.open(db) as store:
        assert store.rows(
            "select (select count(*) from flows), (select count(*) from events), (select count(*) from flow_counts),"
            " (select count(*) from attempts), (select count(*) from stretches)"
        ) == [(0, 0, 0, 0, 0)]
        assert store.rows("from connections") == []

"""What is pruned is gone, layer by layer; what is left answers as if it were all there."""

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.command_line import Outcome
from support.recordings import NAMES, RECORDINGS, import_into
from support.size import WHOLE

from meshobs.analyzer import Question, run
from meshobs.collector.importer import ImportOptions
from meshobs.collector.recordings import framing
from meshobs.collector.write.retention import Pruned, prune
from meshobs.collector.write.settle import settle, unsettle
from meshobs.errors import InputError
from meshobs.jobs import maintenance
from meshobs.retention import LAYERS, Keep, Retention
from meshobs.store import Store
from meshobs.times import SECOND, rfc3339

MINUTE = 60 * SECOND
DAY = timedelta(days=1)
REPORTS = ("nat", "affinity", "hops", "coverage", "services")
# A node that is lost, and a tunnel with calls of hosts.
OF_KINDS = ("node-down", "vxd17-hosts")
# In which a minute begins, with two clusters, lost nodes, doors, rivals and IPv6.
OF_TWO_MINUTES = ("snat", "node-down", "v20m-two-ports", "local-scaled0", "dual17-families")


def forget(db: Path, before: int, *layers: str) -> Pruned:
    """Prune layers of a database from a moment backwards, in nanoseconds."""
    with Store.open(db, write=True) as store:
        settle(store)
        return prune(store, Retention(**dict.fromkeys(layers, DAY)), before + DAY // timedelta(microseconds=1) * 1000)


def bounds(db: Path) -> tuple[int, int]:
    """Return the times of the first and last flow."""
    with Store.open(db) as store:
        ((first, last),) = store.rows("select epoch_ns(min(time)), epoch_ns(max(time)) from flows")
    return int(str(first)), int(str(last))


def answers(db: Path, **asked: str | bool) -> list[tuple[object, ...]]:
    """Return what reports say."""
    with Store.open(db) as store:
        found = [run(store, report, Question(**asked)) for report in REPORTS]  # type: ignore[arg-type]
    return [(one.values, one.coverage, one.since, one.until, one.verdict, one.reason) for one in found]


def connections(db: Path, where: str = "true") -> list[str]:
    """Return connections in an order of their own, without their numbers."""
    with Store.open(db) as store:
        return sorted(map(repr, store.rows(f"select * exclude (attempt) from connections where {where}")))


def make_anew(db: Path) -> None:
    """Make what is stored once more, of what is left."""
    with Store.open(db, write=True) as store:
        store.run("delete from stretches")
        unsettle(store)
    assert maintenance.settle(db).stretches


@pytest.mark.parametrize("name", NAMES if WHOLE else ["node-down", "v19-perpacket-lb"])
def test_verdicts_do_not_change_without_flows(recorded: Callable[[str], Path], name: str, db: Path) -> None:
    """Some of the flows are pruned, then all, then what was made of them is made anew: every answer is the same."""
    shutil.copy(recorded(name), db)
    first, last = bounds(db)
    before, connections_before = answers(db, whole=True), connections(db)
    with Store.open(db) as store:
        shell = [[repr(row) for row in store.rows(f"from report_{report}(whole := true)")] for report in REPORTS]
    left = []
    for moment in (first + (last - first) // 2, last + 2 * MINUTE):
        forget(db, moment, "flows")
        with Store.open(db) as store:
            left.append(store.value("select count(*) from flows"))
        assert answers(db, whole=True) == before
    with Store.open(db, write=True) as store:
        store.run("delete from stretches")
        unsettle(store)
    assert answers(db, whole=True) == before
    maintenance.settle(db)

    assert left[1] == 0
    assert answers(db, whole=True) == before
    with Store.open(db) as store:
        assert [
            [repr(row) for row in store.rows(f"from report_{report}(whole := true)")] for report in REPORTS
        ] == shell
    assert connections(db) == connections_before


@pytest.mark.parametrize("name", OF_TWO_MINUTES if WHOLE else OF_TWO_MINUTES[:3])
def test_reports_begin_where_events_do(recorded: Callable[[str], Path], name: str, db: Path) -> None:
    """They say of the rest what they said of it before, also made anew; connections of before are as they were."""
    shutil.copy(recorded(name), db)
    mark = bounds(db)[1] // MINUTE * MINUTE
    begin = rfc3339(mark)
    before, earlier, later = (
        answers(db, since=begin),
        connections(db, f"epoch_ns(time) < {mark}"),
        connections(db, f"epoch_ns(time) >= {mark}"),
    )
    with Store.open(db) as store:
        made = store.rows(
            f"select * exclude (attempt) from connections_between(make_timestamp_ns(0), make_timestamp_ns({mark}))"
        )

    done = forget(db, mark, "events")

    assert answers(db, whole=True) == before
    assert done.connections_made == len(made)
    assert connections(db, f"epoch_ns(time) < {mark}") == sorted(map(repr, made))
    assert connections(db, f"epoch_ns(time) >= {mark}") == later
    with Store.open(db) as store:
        assert store.value("select count(*) = count(distinct attempt) from connections") is True
        assert store.value("select count(*) from flows where epoch_ns(time) < ?", [mark]) == 0
        limits = run(store, "nat", Question(whole=True)).limits
    assert any("begins at" in limit and "events before it are pruned" in limit for limit in limits)
    make_anew(db)
    assert answers(db, whole=True) == before

    assert forget(db, mark, "connections").connections == len(earlier)
    assert answers(db, whole=True) == before
    assert connections(db) == later

    forget(db, mark + 5 * MINUTE, "events")
    with Store.open(db) as store, pytest.raises(InputError, match="what came before is pruned"):
        run(store, "nat", Question(whole=True))


def test_what_is_left_after_pruning_is_counted(recorded: Callable[[str], Path], db: Path) -> None:
    """By nodes as flows count it; and events are kept a little longer than reports begin."""
    shutil.copy(recorded("snat"), db)
    mark = bounds(db)[1] // MINUTE * MINUTE

    forget(db, mark, *LAYERS)

    with Store.open(db) as store:
        of = f"make_timestamp_ns({mark}), timestamp_ns '2262-01-01'"
        counted = f"select cluster, node, sum(flows), min(first_time) from {{}}({of}) group by all order by all"
        assert store.rows(counted.format("counts_between")) == store.rows(counted.format("flows_counted")) != []
        assert store.value("select epoch_ns(min(time)) from flows") >= mark  # type: ignore[operator]
        assert store.value("select epoch_ns(min(time)) from events") >= mark - 2 * MINUTE  # type: ignore[operator]


def test_what_comes_after_all_that_was_pruned_is_taken_in(
    recorded: Callable[[str], Path], meshobs: Callable[..., Outcome], db: Path
) -> None:
    """However old it is: nothing of its time was forgotten."""
    shutil.copy(recorded("local"), db)
    assert meshobs("--db", db, "prune", "--older-than", "1s").code == 0
    assert bounds(recorded("v20-plain"))[0] > bounds(recorded("local"))[1] + MINUTE

    assert meshobs("--db", db, "import", RECORDINGS / "v20-plain").code == 0

    with Store.open(db) as store:
        assert store.rows("select flows > 0, nodes, first_flow < last_flow from status_summary") == [(True, 4, True)]


@pytest.mark.parametrize("name", NAMES if WHOLE else OF_KINDS)
def test_flows_that_decide_nothing_need_not_be_stored(
    recorded: Callable[[str], Path], name: str, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every answer is the same, of what is settled, of what is not, and after flows are pruned; all that came is counted."""
    # Batches with nothing but new flows are written in another way than the first one.
    monkeypatch.setattr(framing, "BATCH_ITEMS", 400)
    result = import_into(db, RECORDINGS / name, options=ImportOptions(keep=Keep.EVENTS))
    shutil.copy(recorded(name), whole := db.with_name("whole.duckdb"))
    expected, rows = answers(whole, whole=True), connections(whole)
    total = result.ledger.total

    assert total.filtered > total.stored > 0
    assert answers(db, whole=True) == expected
    maintenance.settle(db)
    assert connections(db) == rows
    with Store.open(db) as store, Store.open(whole) as other:
        nodes = "select cluster, node, flows, first_flow, last_flow from status_nodes"
        assert store.rows(nodes) == other.rows(nodes)
        assert store.value("select count(*) from flows") < other.value("select count(*) from flows")  # type: ignore[operator]
        limits = run(store, "nat", Question(whole=True)).limits
    assert any("decide nothing were counted" in limit for limit in limits)
    again = import_into(db, RECORDINGS / name, options=ImportOptions(keep=Keep.EVENTS)).ledger.total
    with Store.open(db) as store:
        assert (again.stored, store.value("select count(*) <= ? from flows_seen", [again.duplicate])) == (0, True)
    forget(db, bounds(db)[1] + 2 * MINUTE, "flows")
    assert answers(db, whole=True) == expected
    assert connections(db) == rows


def test_all_is_gone(recorded: Callable[[str], Path], db: Path) -> None:
    """Nothing is left but objects that still hold; connections that nobody keeps are not even made."""
    shutil.copy(recorded("local"), db)

    done = forget(db, bounds(db)[1] + 5 * MINUTE, *LAYERS)

    assert (done.flows > 0, done.events > 0, done.connections_made) == (True, True, 0)
    with Store.open(db) as store:
        gone = ("flows", "events", "flow_counts", "attempts", "stretches", "connections", "kept_connections")
        assert [store.value(f"select count(*) from {table}") for table in gone] == [0] * len(gone)
        assert store.value("select count(*) from services") > 0  # type: ignore[operator]


def test_what_is_not_settled_is_kept(recorded: Callable[[str], Path], db: Path) -> None:
    """It may still count for what is to be made."""
    shutil.copy(recorded("local"), db)
    _, last = bounds(db)
    with Store.open(db, write=True) as store:
        store.run("delete from stretches")
        unsettle(store)
        assert not prune(store, Retention(flows=DAY), last + 10 * DAY // timedelta(microseconds=1) * 1000)


def test_flows_older_than_those_that_are_kept_are_left_out(
    recorded: Callable[[str], Path], meshobs: Callable[..., Outcome], db: Path
) -> None:
    """They are counted as filtered; what is made of them is there already."""
    shutil.copy(recorded("local"), db)
    assert meshobs("--db", db, "prune", "--flows", "1s").code == 0
    before = connections(db)
    with Store.open(db) as store:
        # All is settled: a shell still reads what is stored alone.
        sql = "select macro_definition from duckdb_functions() where function_name = 'connections_between'"
        assert "connections_made" in str(store.value(sql))

    again = meshobs("--db", db, "import", RECORDINGS / "local")

    with Store.open(db) as store:
        ((stored, filtered),) = store.rows("select stored, filtered from collections order by collection desc limit 1")
    assert again.code == 0
    assert "and left out: flows of that time are pruned" in again.err
    assert (stored, int(str(filtered)) > 0) == (0, True)
    assert connections(db) == before


def test_a_file_shrinks(
    recorded: Callable[[str], Path], meshobs: Callable[..., Outcome], db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written anew, which is said, where much of it is free; what is left is the same, and more can come."""
    monkeypatch.setattr(maintenance, "LEAST_FREE", 1_500_000)
    shutil.copy(recorded("dual17-families"), db)

    def content() -> dict[str, list[str]]:
        with Store.open(db) as store:
            return {table: sorted(map(repr, store.rows(f"from {table}"))) for table in store.tables()}

    size = db.stat().st_size
    assert meshobs("--db", db, "prune", "--older-than", "1s", "--no-compact").code == 0
    assert not maintenance.settle(db).stretches
    before = content()

    pruned = meshobs("--db", db, "prune", "--older-than", "1s", "--format", "json")

    assert json.loads(pruned.out) == {"flows": 0, "events": 0, "connections": 0, "connections_made": 0}
    assert "written anew" in pruned.err
    assert db.stat().st_size < size * 0.7
    assert content() == before
    assert [one.name for one in db.parent.iterdir() if one.name.startswith(f".{db.name}")] == []
    again = meshobs("--db", db, "prune", "--older-than", "1s")
    assert (again.code, "written anew" in again.err) == (0, False)
    assert meshobs("--db", db, "import", RECORDINGS / "local").code == 0


def test_a_file_does_not_shrink_without_room(
    recorded: Callable[[str], Path], meshobs: Callable[..., Outcome], db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so, and how much is missing."""
    shutil.copy(recorded("dual17-families"), db)
    monkeypatch.setattr(maintenance, "LEAST_FREE", 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=0))

    pruned = meshobs("--db", db, "prune", "--older-than", "1s")

    assert pruned.code == 0
    assert "does not shrink: a copy needs" in pruned.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--flows", "3d", "--events", "2d"], "flows kept for longer than events"),
        (["--flows", "3d", "--connections", "2d"], "flows kept for longer than connections"),
        (["--flows", "soon"], "flows 'soon' is no age"),
        (["--older-than", "1d", "--flows", "1d"], "--older-than is for all layers"),
        ([], "say what to forget"),
    ],
)
def test_ages_that_cannot_be(
    recorded: Callable[[str], Path], meshobs: Callable[..., Outcome], db: Path, arguments: list[str], said: str
) -> None:
    """One line says what is wrong; nothing is deleted."""
    shutil.copy(recorded("local"), db)
    before = connections(db)

    refused = meshobs("--db", db, "prune", *arguments)

    assert (refused.code, refused.out) == (2, "")
    assert said in refused.err
    assert connections(db) == before


def test_the_configuration_says_how_long(
    recorded: Callable[[str], Path], meshobs: Callable[..., Outcome], db: Path, tmp_path: Path
) -> None:
    """Where nothing else is said; its mistakes are named."""
    shutil.copy(recorded("local"), db)
    config = tmp_path / "meshobs.toml"
    config.write_text('[retention]\nflows = "2h"\nevents = "1d"\n')

    assert meshobs("--config", config, "--db", db, "prune").code == 0
    with Store.open(db) as store:
        assert store.value("select count(*) from flows") == 0
        assert len(store.rows("from kept")) == 2
    config.write_text('[retention]\nflows = "1m"\n')
    short = meshobs("--config", config, "--db", db, "prune")
    config.write_text('[retention]\npackets = "1d"\n')
    unknown = meshobs("--config", config, "--db", db, "prune")
    assert "flows are kept for 5m at least" in short.err
    assert "there is no layer packets: one of flows, events, connections" in unknown.err

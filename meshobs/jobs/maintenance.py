"""Keeps a database in shape, and looks up what no report asks."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from meshobs import sqlfiles
from meshobs.collector.write.settle import Settled
from meshobs.collector.write.settle import settle as make_attempts
from meshobs.store import Reader, Store
from meshobs.times import SECOND


def prune(db: str | Path, age: timedelta) -> int:
    """Delete flows and events older than an age; the history of objects stays as far as it still counts.

    Args:
        db: the database file.
        age: of what is forgotten.

    Returns:
        How many flows were deleted.

    Raises:
        DatabaseError: there is no such file, or it cannot be written.
    """
    _check_is_there(Path(db))
    before = int((datetime.now(tz=UTC) - age).timestamp()) * SECOND
    with Store.open(Path(db), write=True) as store:
        flows = store.value("select count(*) from flows where time < make_timestamp_ns(?)", [before])
        with store.transaction():
            store.run("set variable prune_before = make_timestamp_ns(?)", [before])
            store.run(sqlfiles.read("jobs/sql/prune.sql"))
            store.run(sqlfiles.read("queries/history/32_node_ranges.sql"))
        store.run("checkpoint")
    return flows if isinstance(flows, int) else 0


def settle(db: str | Path, show: Callable[[Settled], None] = lambda _done: None) -> Settled:
    """Make the connections of all flows of a database that have none yet, or whose connections no longer hold.

    `import` and `collect` do it by themselves; a file of an older meshobs, or one whose collection was killed, is as
    true without, only slower to ask.

    Args:
        db: the database file.
        show: called now and then with what was done so far.

    Raises:
        DatabaseError: the file cannot be written.
    """
    _check_is_there(Path(db))
    with Store.open(Path(db), write=True) as store:
        done = make_attempts(store, progress=show)
        store.run("checkpoint")
    return done


def _check_is_there(path: Path) -> None:
    """Refuse a file that is not there: opening it for writing would make it."""
    if not path.exists():
        Store.open(path)


def pods_called(store: Reader, phase: str) -> list[tuple[str, str, str]]:
    """Return how many of each client's calls every pod answered in an experiment's phase.

    Returns:
        Client, what it saw, and what the flows say of it, by client.
    """
    rows = store.rows(sqlfiles.read("jobs/sql/pods.sql"), {"phase": phase})
    return [(str(client), str(truth), str(flows)) for client, truth, flows in rows]

"""Keeps a database in shape, and looks up what no report asks."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from meshobs import sqlfiles
from meshobs.collector.write.retention import Pruned
from meshobs.collector.write.retention import prune as forget
from meshobs.collector.write.settle import Settled
from meshobs.collector.write.settle import settle as make_attempts
from meshobs.retention import Retention
from meshobs.store import Reader, Store
from meshobs.text import size_text

# Share of a file, and bytes, that are worth a copy; how much more room than it seems the copy may need.
MUCH_FREE = 0.25
LEAST_FREE = 16_000_000
_COPY_MARGIN = 1.2


def prune(
    db: str | Path,
    retention: Retention,
    *,
    compact: bool = True,
    say: Callable[[str], None] = lambda _text: None,
    show: Callable[[str], None] = lambda _text: None,
) -> Pruned:
    """Delete what is older than it is kept, to the minute; what was made of it stays.

    Args:
        db: the database file.
        retention: how long each layer is kept.
        compact: write the file anew where a quarter of it or more is free afterwards.
        say: told what will take long, or cannot be done, a line each.
        show: told the step under way.

    Raises:
        DatabaseError: there is no such file, or it cannot be written.
    """
    path = Path(db)
    _check_is_there(path)
    with Store.open(path, write=True) as store:
        make_attempts(store, progress=lambda so_far: show(f"making connections: {so_far}"))
        done = forget(store, retention, time.time_ns(), progress=lambda so_far: show(f"pruning: {so_far}"))
        store.run("checkpoint")
        free, size = store.free_bytes()
    if compact and free >= max(size * MUCH_FREE, LEAST_FREE):
        _compact(path, size - free, say, show)
    return done


def _compact(path: Path, used: int, say: Callable[[str], None], show: Callable[[str], None]) -> None:
    """Write a file anew without its free space, where there is room for both."""
    if shutil.disk_usage(path.resolve().parent).free < used * _COPY_MARGIN:
        say(f"{path} does not shrink: a copy needs {size_text(used)} beside it; the space is used again by later flows")
        return
    say(f"{path} is written anew without its free space, which needs {size_text(used)} beside it meanwhile")
    show(f"copying {size_text(used)}")
    Store.compact(path)


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

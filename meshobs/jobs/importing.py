"""Imports recordings of flows and of Kubernetes objects."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeAlias

from meshobs.collector import importer
from meshobs.collector.importer import ImportOptions, Progress, Result
from meshobs.collector.recordings.files import RecordingFile
from meshobs.collector.write.settle import Settled, settle
from meshobs.errors import InputError
from meshobs.store import Store

# Entered with all sources while they are read; what it gives is told of each source and the bytes read of it.
Showing: TypeAlias = Callable[[Sequence[RecordingFile]], AbstractContextManager[Progress]]


def _show_nothing(_sources: Sequence[RecordingFile]) -> AbstractContextManager[Progress]:
    return nullcontext(lambda _source, _size: None)


def import_recordings(
    db: str | Path,
    *paths: str | Path,
    cluster: str = "",
    strict: bool = False,
    arguments: Sequence[str] = (),
    showing: Showing = _show_nothing,
    show_settled: Callable[[Settled], None] = lambda _done: None,
) -> Result:
    """Import recordings into a database. An event that is there already is not stored again.

    Args:
        db: the file; made where there is none.
        paths: files and folders, - for standard input; docs/reference/commands.md says what they may hold.
        cluster: of nodes and objects that name none themselves.
        strict: stop at the first message that cannot be read.
        arguments: the call, for the record.
        showing: shows how far it is.
        show_settled: called while connections are made of the flows, with what was done so far.

    Raises:
        InputError: a path holds no recording; with `strict`, a message cannot be read.
        DatabaseError: the file cannot be written.
    """
    if not paths:
        raise InputError("no recording is named: give files or folders")
    recordings = importer.plan([Path(path) for path in paths])
    sources = [source for recording in recordings for source in recording]
    with Store.open(Path(db), write=True) as store:
        with showing(sources) as progress:
            result = importer.run(store, recordings, ImportOptions(cluster, strict, arguments), progress)
        settle(store, progress=show_settled)
    return result

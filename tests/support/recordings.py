"""The recordings of real meshes, with the truth about each, and databases made of them."""

import json
import shutil
from functools import cache
from pathlib import Path

from meshobs.collector import importer
from meshobs.collector.importer import ImportOptions, Result
from meshobs.collector.write.settle import unsettle
from meshobs.store import Store

TESTS = Path(__file__).parent.parent
RECORDINGS = TESTS / "recordings"
NAMES = sorted(folder.name for folder in RECORDINGS.iterdir())


def import_into(db: Path, *paths: Path, options: ImportOptions | None = None) -> Result:
    """Import paths into a database without telling of progress; connections are left to whoever asks."""
    with Store.open(db, write=True) as store:
        return importer.run(store, importer.plan(paths), options or ImportOptions(), lambda _source, _size: None)


def make_bare(source: Path, db: Path) -> None:
    """Copy a database without what was made of its flows."""
    shutil.copy(source, db)
    with Store.open(db, write=True) as store:
        store.run(
            "delete from stretches; delete from attempts; delete from events; delete from flow_counts; delete from known_addresses"
        )
        unsettle(store)


@cache
def truth(name: str) -> dict[str, object]:
    """Return the ground truth of a recording."""
    content: dict[str, object] = json.loads((RECORDINGS / name / "truth.json").read_text())
    return content

"""The recordings of real meshes, with the truth about each, and databases made of them."""

import json
from functools import cache
from pathlib import Path

from meshobs.collector import importer
from meshobs.collector.importer import ImportOptions, Result
from meshobs.store import Store

TESTS = Path(__file__).parent.parent
RECORDINGS = TESTS / "recordings"
NAMES = sorted(folder.name for folder in RECORDINGS.iterdir())


def import_into(db: Path, *paths: Path, options: ImportOptions | None = None) -> Result:
    """Import paths into a database without telling of progress; connections are left to whoever asks."""
    with Store.open(db, write=True) as store:
        return importer.run(store, importer.plan(paths), options or ImportOptions(), lambda _source, _size: None)


@cache
def truth(name: str) -> dict[str, object]:
    """Return the ground truth of a recording."""
    content: dict[str, object] = json.loads((RECORDINGS / name / "truth.json").read_text())
    return content

"""meshobs shows and proves where traffic goes in a Cilium Cluster Mesh; from Python as docs/library.md shows.

What is named here is loaded when it is first used: `import meshobs` alone loads neither DuckDB nor grpc.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from meshobs.version import __version__

if TYPE_CHECKING:
    from meshobs import analyzer, collector, jobs, lab
    from meshobs.analyzer import Question, Report
    from meshobs.database import Database
    from meshobs.database import open_database as open  # noqa: A004 - as `sqlite3.connect`, but for a file
    from meshobs.errors import MeshobsError
    from meshobs.jobs.collecting import collect
    from meshobs.jobs.importing import import_recordings
    from meshobs.verdict import Verdict

__all__ = [
    "Database",
    "MeshobsError",
    "Question",
    "Report",
    "Verdict",
    "__version__",
    "analyzer",
    "collect",
    "collector",
    "import_recordings",
    "jobs",
    "lab",
    "open",
]

_ROOMS = ("analyzer", "collector", "jobs", "lab")
# Name -> its module, and its name there.
_HOMES = {
    "Database": ("database", "Database"),
    "MeshobsError": ("errors", "MeshobsError"),
    "Question": ("analyzer", "Question"),
    "Report": ("analyzer", "Report"),
    "Verdict": ("verdict", "Verdict"),
    "collect": ("jobs.collecting", "collect"),
    "import_recordings": ("jobs.importing", "import_recordings"),
    "open": ("database", "open_database"),
}

if not TYPE_CHECKING:  # checkers know the names above, and no others

    def __getattr__(name: str) -> object:
        """Load a name when it is first used."""
        if name in _ROOMS:
            return import_module(f"meshobs.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module 'meshobs' has no attribute {name!r}")
        module, own = _HOMES[name]
        return getattr(import_module(f"meshobs.{module}"), own)

    def __dir__() -> list[str]:
        """Return the names, loaded or not."""
        return sorted({*globals(), *__all__})

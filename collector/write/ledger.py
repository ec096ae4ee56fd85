"""The row in `collections` of one run: what came from which source and what became of it.

It is saved in the transaction of each batch, so that after a crash it still tells exactly what is stored.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Self

from meshobs import sqlfiles
from meshobs.collector.span import Span
from meshobs.collector.write.counts import Counts
from meshobs.retention import Keep
from meshobs.store import Writer
from meshobs.text import storable
from meshobs.version import __version__


class RunState(Enum):
    """How a run stands or ended. A run that was killed stays `running` until the next one finds it."""

    RUNNING = "running"
    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass
class LedgerEntry:
    """One source of a run.

    Attributes:
        name: a path or an address.
        reader: the Relay or file that a reader's own losses belong to.
        kind: what it holds, in words.
        span: first and last time of its flows, those that were there already included.
    """

    name: str
    reader: str
    kind: str
    counts: Counts = field(default_factory=Counts)
    span: Span | None = None


class Ledger:
    """The account of one run; `begin` writes its row.

    Args:
        store: open for writing.
        kind: `import` or `collect`.
        arguments: the command line.
        keeps: which flows are stored.
    """

    def __init__(self, store: Writer, kind: str, arguments: Sequence[str], keeps: Keep = Keep.FLOWS) -> None:
        self._store = store
        self.entries: list[LedgerEntry] = []
        self.number = 0
        # From where a report without a window looks at this run; None: from its first flow.
        self.window_from: int | None = None
        self.asked = ""
        self.excluded = ""
        self._batch = 0
        self.keeps = keeps
        self._parameters = {
            "kind": kind,
            "version": __version__,
            "arguments": [*map(storable, arguments)],
            "keeps": keeps.value,
        }

    def begin(self) -> Self:
        """Write the run's row, and close those of runs that were killed."""
        store = self._store
        self._batch = int(str(store.value("select coalesce(max(batch), 0) from batches")))
        with store.transaction():
            store.run(sqlfiles.read("collector/write/sql/ledger/close_killed.sql"))
            number = store.value(sqlfiles.read("collector/write/sql/ledger/begin.sql"), self._parameters)
            self.number = int(str(number))
        return self

    def open(self, name: str, reader: str, kind: str) -> LedgerEntry:
        """Add a source."""
        entry = LedgerEntry(name, reader, kind)
        self.entries.append(entry)
        return entry

    def next_batch(self) -> int:
        """Return a number for rows that are stored together."""
        self._batch += 1
        return self._batch

    @property
    def total(self) -> Counts:
        """Return the sum over all sources."""
        total = Counts()
        for entry in self.entries:
            total.add(entry.counts)
        return total

    @property
    def span(self) -> Span | None:
        """Return the time from the first to the last flow of all sources."""
        return Span.around([entry.span for entry in self.entries])

    def _first(self, span: Span) -> int:
        # Clocks can be so far behind that nothing is later.
        watched = self.window_from or span.first
        return max(span.first, watched) if watched < span.last else span.first

    def save(self, state: RunState = RunState.RUNNING) -> None:
        """Write the row as it stands, inside the caller's transaction if there is one."""
        total, span = self.total, self.span
        sources = [{"name": entry.name, "kind": entry.kind, **entry.counts.numbers()} for entry in self.entries]
        self._store.run(
            sqlfiles.read("collector/write/sql/ledger/save.sql"),
            {
                "collection": self.number,
                "state": state.value,
                "sources": json.dumps(sources),
                "problems": [*map(storable, total.problems)],
                "first": self._first(span) if span else None,
                "asked": self.asked,
                "excluded": self.excluded,
                "last": span.last if span else None,
                **total.numbers(),
            },
        )

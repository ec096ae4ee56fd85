"""What became of every message: each ends in exactly one counter."""

from dataclasses import dataclass, field, replace

# How many of a source's problems are kept in words; the rest is only counted.
PROBLEMS_KEPT = 10


@dataclass
class Counts:
    """Messages of one source. `received` is always the sum of the other four.

    Attributes:
        stored: new in the database.
        duplicate: already there, or repeated inside the source.
        filtered: understood, but not kept: agent and debug events, ring losses of nodes that were not asked for.
        undecodable: not readable; `problems` has the first ones in words, with their position.
        foreign: lines that are no messages at all, such as an agent's log between its flows; not part of `received`.
    """

    received: int = 0
    stored: int = 0
    duplicate: int = 0
    filtered: int = 0
    undecodable: int = 0
    foreign: int = 0
    problems: list[str] = field(default_factory=list)

    def copy(self) -> "Counts":
        """Return the counters as they are now."""
        return replace(self, problems=list(self.problems))

    def add_broken(self, where: str, reason: str) -> None:
        """Count one message that could not be read; an empty `where` stands in the reason."""
        self.received += 1
        self.undecodable += 1
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(f"{where}: {reason}" if where else reason)

    def numbers(self) -> dict[str, int]:
        """Return the counters by name."""
        return {
            "received": self.received,
            "stored": self.stored,
            "duplicate": self.duplicate,
            "filtered": self.filtered,
            "undecodable": self.undecodable,
        }

    def add(self, other: "Counts") -> None:
        """Add another source's messages."""
        self.received += other.received
        self.stored += other.stored
        self.duplicate += other.duplicate
        self.filtered += other.filtered
        self.undecodable += other.undecodable
        self.foreign += other.foreign
        self.problems.extend(other.problems[: PROBLEMS_KEPT - len(self.problems)])

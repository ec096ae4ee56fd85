"""One state of one object of one cluster, and since when it holds."""

from dataclasses import dataclass

from meshobs.collector.kube.objects import KubeState
from meshobs.times import SECOND


@dataclass(frozen=True)
class Sighting:
    """One state of one object of one cluster.

    Attributes:
        valid_from: since when it holds.
        known_from: since when that is known and not assumed; None for a snapshot without flows beside it.
        deleted: the object is gone from then on.
    """

    cluster: str
    state: KubeState
    valid_from: int
    known_from: int | None
    deleted: bool = False

    @property
    def object(self) -> tuple[str, str, str, str]:
        """Return what object it is about."""
        return self.cluster, self.state.kind, self.state.namespace, self.state.name


# A snapshot is taken to hold from a little before its recording: what was seen first began before it.
BEFORE_NS = 60 * SECOND

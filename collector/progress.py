"""How a live collection stands, for whoever shows it."""

from dataclasses import dataclass, field
from enum import Enum


class Phase(Enum):
    """What a run does; all but the first when it ends."""

    COLLECTING = "collecting"
    FETCHING = "fetching what Relays still hold"
    WRITING = "writing"
    HISTORY = "making the history of Kubernetes objects"
    SETTLING = "making connections of the flows"
    CLOSING = "closing the database"


@dataclass
class Progress:
    """Counters of a run under way.

    Attributes:
        connected: nodes that flows come from.
        expected: nodes that the Relays know.
        waiting: messages that were received and not yet written.
        topology: state of the Kubernetes watches by cluster, in a word or two.
        time_is_up: the run ends because it has lasted as long as it was to.
        fetched: messages that came since the run began to end.
    """

    received: int = 0
    stored: int = 0
    duplicate: int = 0
    lost: int = 0
    connected: int = 0
    expected: int = 0
    waiting: int = 0
    topology: dict[str, str] = field(default_factory=dict)
    phase: Phase = Phase.COLLECTING
    time_is_up: bool = False
    fetched: int = 0

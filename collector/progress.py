"""How a live collection stands, for whoever shows it."""

from dataclasses import dataclass, field


@dataclass
class Progress:
    """Counters of a run under way.

    Attributes:
        connected: nodes that flows come from.
        expected: nodes that the Relays know.
        waiting: messages that were received and not yet written.
        topology: state of the Kubernetes watches by cluster, in a word or two.
    """

    received: int = 0
    stored: int = 0
    duplicate: int = 0
    lost: int = 0
    connected: int = 0
    expected: int = 0
    waiting: int = 0
    topology: dict[str, str] = field(default_factory=dict)

"""What the user wants collected."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from meshobs.errors import InputError
from meshobs.pb.flow.flow_pb2 import FlowFilter
from meshobs.retention import Keep, Retention

# The request's field has 64 bits.
_MOST = 2**64 - 1


@dataclass(frozen=True)
class CollectOptions:
    """What to collect.

    Attributes:
        allow: filters one of which must fit; none: all flows.
        deny: filters none of which may fit.
        excluded: filters for the observers' own traffic, none to watch it as well.
        since: also what the rings hold from then on, nanoseconds; 0: only what was not stored by earlier runs.
        until: end there instead of following, nanoseconds.
        last: also so many flows that each node has already.
        follow: go on until told to stop; else end with what the rings hold.
        seconds: stop after so long; None: never.
        redundant: ask every Relay for all nodes.
        cluster: cluster of nodes whose names carry none.
        stock: read by grpcio.
        retention: how long what is kept, while flows come in.
        keep: which flows are stored.
        arguments: the command line, for the record.
    """

    allow: Sequence[FlowFilter] = ()
    deny: Sequence[FlowFilter] = ()
    excluded: Sequence[FlowFilter] = ()
    since: int = 0
    until: int = 0
    last: int = 0
    follow: bool = True
    seconds: float | None = None
    redundant: bool = False
    cluster: str = ""
    stock: bool = False
    arguments: Sequence[str] = ()
    retention: Retention = field(default_factory=Retention)
    keep: Keep = Keep.FLOWS

    def __post_init__(self) -> None:
        """Refuse what no Relay can be asked.

        Raises:
            InputError: it says what to mend.
        """
        if self.last > _MOST:
            raise InputError(f"`last` {self.last} is more than Hubble can be asked for: give at most {_MOST}")
        self.retention.check_for_collecting()
        if self.until and self.until <= self.since:
            raise InputError("`until` is not later than `since`: nothing lies between them, give a later `until`")

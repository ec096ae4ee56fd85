"""What a decoded batch tells at a glance, by Arrow's own functions: enough to know whether it needs a closer look."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute

from meshobs.pb.flow.flow_pb2 import HUBBLE_RING_BUFFER
from meshobs.pb.relay.relay_pb2 import NodeState
from meshobs.times import END_OF_MOMENTS, FIRST_MOMENT

# Arrow makes these functions when it is loaded; type checkers know none of them.
pc: Any = pyarrow.compute

# What the stored half of an uuid is read from.
_UUID = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}"
_STATES = {value.number: value.name for value in NodeState.DESCRIPTOR.values}

# Identities below are reserved and each cluster's own, those from 2^24 on are local to a node.
FIRST_OF_MESH = 256
FIRST_OF_NODE = 2**24


def losses_unasked(batch: pa.RecordBatch, covers: Callable[[str], bool]) -> pa.Array | None:
    """Tell which messages of a batch are ring losses of nodes that were not asked for; None where none is.

    An agent tells a reader that it has read its ring from the very beginning as the loss of one event, also where the
    reader's filters leave all of its flows out (newRingReader in Cilium's pkg/hubble/observer, 1.17 to 1.20).

    Args:
        batch: as `decode` gives it.
        covers: whether flows of a node, as `cluster/node`, are asked for.
    """
    lost = batch.column("lost_events")
    if lost.null_count == len(lost):
        return None
    in_ring = pc.equal(pc.fill_null(pc.struct_field(lost, "source"), 0), HUBBLE_RING_BUFFER)
    nodes = pc.fill_null(batch.column("node_name"), "")
    unasked = [name for name in pc.unique(nodes.filter(in_ring)).to_pylist() if not covers(name)]
    return pc.and_(in_ring, pc.is_in(nodes, pa.array(unasked, nodes.type))) if unasked else None


@dataclass(frozen=True)
class IdentityKey:
    """An identity as one side of a flow names it.

    Attributes:
        workload: its workload is named, too; only its own node does that.
        node_name: the observing node, for identities that do not mean the same everywhere.
    """

    identity: int
    workload: bool
    node_name: str


@dataclass(frozen=True)
class NodeStatus:
    """What a Relay says of nodes in its stream; `time` is the Relay's, in nanoseconds."""

    state: str
    node_names: tuple[str, ...]
    message: str
    time: int


class Digest:
    """Facts about one decoded batch. Node names are as Hubble writes them, `cluster/node`; times are nanoseconds.

    Args:
        batch: as `decode` gives it.
    """

    def __init__(self, batch: pa.RecordBatch) -> None:
        flow = batch.column("flow")
        self.others: pa.RecordBatch | None = None
        self.flows: int = len(flow) - flow.null_count
        if flow.null_count:
            self.others = batch.filter(pc.is_null(flow))
            batch = batch.filter(pc.is_valid(flow))
            flow = batch.column("flow")
        self.batch: pa.RecordBatch = batch
        self._flow = flow

    @cached_property
    def regular(self) -> bool:
        """Tell whether each flow has a time that can be and an uuid that is one, and no uuid comes twice."""
        uuids = pc.struct_field(self._flow, "uuid")
        if self._times.null_count or not pc.all(pc.match_substring_regex(uuids, _UUID)).as_py():
            return False
        ends = pc.min_max(self._times.cast(pa.int64())).as_py()
        possible = ends["min"] >= FIRST_MOMENT and ends["max"] < END_OF_MOMENTS
        return bool(possible and pc.count_distinct(uuids).as_py() == self.flows)

    @cached_property
    def spans(self) -> dict[str, tuple[int, int]]:
        """Return first and last time of the flows of each node."""
        table = pa.table({"node": self._nodes, "time": self._times.cast(pa.int64())})
        found = table.group_by("node").aggregate([("time", "min"), ("time", "max")]).to_pylist()
        return {row["node"]: (row["time_min"], row["time_max"]) for row in found if row["time_min"] is not None}

    @cached_property
    def statuses(self) -> list[NodeStatus]:
        """Return the Relay's messages about nodes, in order."""
        return [
            NodeStatus(
                state=_STATES.get(row["node_status"]["state_change"], ""),
                node_names=tuple(row["node_status"]["node_names"]),
                message=row["node_status"]["message"],
                time=row["time"] or 0,
            )
            for row in self._others()
            if row["node_status"]
        ]

    @cached_property
    def lost(self) -> int:
        """Return how many events were lost on the way."""
        return sum(row["lost_events"]["num_events_lost"] for row in self._others() if row["lost_events"])

    @cached_property
    def identities(self) -> frozenset[IdentityKey]:
        """Return the identities that the flows name."""
        found: set[IdentityKey] = set()
        for side in ("source", "destination"):
            end = pc.struct_field(self._flow, side)
            workload = pc.greater(pc.list_value_length(pc.struct_field(end, "workloads")), 0)
            columns = {"identity": pc.struct_field(end, "identity"), "workload": workload, "node": self._nodes}
            for row in pa.table(columns).group_by(list(columns)).aggregate([]).to_pylist():
                number = row["identity"]
                if number:
                    # Numbers of the mesh mean the same on every node.
                    node = "" if FIRST_OF_MESH <= number < FIRST_OF_NODE else row["node"]
                    found.add(IdentityKey(number, bool(row["workload"]), node))
        return frozenset(found)

    @cached_property
    def versions(self) -> frozenset[tuple[str, str]]:
        """Return the nodes that name the version of their Hubble, with it."""
        emitter = pc.struct_field(self._flow, "emitter")
        if emitter.null_count == self.flows:
            return frozenset()
        columns = {"node": self._nodes, "version": pc.struct_field(emitter, "version")}
        rows = pa.table(columns).group_by(list(columns)).aggregate([]).to_pylist()
        return frozenset((row["node"], row["version"]) for row in rows if row["version"])

    def _others(self) -> list[dict[str, Any]]:
        if self.others is None:
            return []
        lost = pc.struct_field(self.others.column("lost_events"), "num_events_lost")
        columns = {
            "node_status": self.others.column("node_status"),
            "lost_events": pa.StructArray.from_arrays([lost], ["num_events_lost"], mask=pc.is_null(lost)),
            # Python's own times have no nanoseconds.
            "time": self.others.column("time").cast(pa.int64()),
        }
        rows: list[dict[str, Any]] = pa.table(columns).to_pylist()
        return rows

    @cached_property
    def _nodes(self) -> pa.Array:
        named = pc.struct_field(self._flow, "node_name")
        wrapper = pc.fill_null(self.batch.column("node_name"), "")
        return pc.if_else(pc.equal(pc.fill_null(named, ""), ""), wrapper, named)

    @cached_property
    def _times(self) -> pa.Array:
        return pc.coalesce(pc.struct_field(self._flow, "time"), self.batch.column("time"))

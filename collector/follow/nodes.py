"""What Relays say of themselves and of their nodes, by GetNodes and in the stream: noted, told to `recovery`."""

import time
from collections.abc import Callable

from meshobs.collector.decode.digest import NodeStatus
from meshobs.collector.follow.reader import RelayAnswer, RelayReader
from meshobs.collector.follow.recovery import AWAY, CONNECTED, Recovery
from meshobs.collector.node_name import full_name
from meshobs.collector.write import facts
from meshobs.errors import MeshobsError
from meshobs.store import Store

_REFUSED = ("invalid", "InvalidArgument", "Unimplemented")


class SelectionRefusedError(MeshobsError):
    """The nodes do not accept what is asked."""


class NodeTracker:
    """What is heard in one run. Only the thread that writes may call anything here.

    Args:
        store: opened for writing.
        collection: number of the run.
        recovery: told how nodes stand.
        cluster: of nodes whose names carry none.
        say: told what the user should know.
        clock: the collector's, in nanoseconds.
    """

    def __init__(
        self,
        store: Store,
        collection: int,
        recovery: Recovery,
        cluster: str,
        say: Callable[[str], None],
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._collection = collection
        self._recovery = recovery
        self._cluster = cluster
        self._say = say
        self._clock = clock

    def on_answer(self, answer: RelayAnswer) -> None:
        """Take what a Relay answered to GetNodes and ServerStatus."""
        reader = answer.reader
        now = self._clock()
        if answer.status:
            facts.add_relay(self._store, reader.name, reader.entry.name, answer.status, now, self._collection)
        if answer.problem:
            self._say(f"{reader.name}: {answer.problem}")
        peers = answer.peers or []
        facts.add_relay_nodes(self._store, reader.name, peers, self._cluster)
        for peer in peers:
            node = full_name(peer.node_name, self._cluster)
            began = now - peer.uptime_ns if peer.uptime_ns else 0
            anew = self._recovery.on_agent(node, began)
            if not reader.asking.covers(peer.node_name):
                continue
            if anew and peer.state == CONNECTED:
                self._recovery.on_lost(reader.name, node, "its agent started anew", began)
            self._recovery.on_listed(reader.name, node, peer.state, time.monotonic())

    def on_status(self, reader: RelayReader, status: NodeStatus) -> None:
        """Take what the stream says of nodes.

        Raises:
            RefusedError: none of them accepts what is asked.
        """
        # A Relay tells of all its nodes, also of those that another reader is asked for.
        names = [full_name(name, self._cluster) for name in status.node_names if reader.asking.covers(name)]
        for node in names:
            if status.state == CONNECTED:
                self._recovery.on_attached(reader.name, node, time.monotonic())
            elif status.state in AWAY:
                self._recovery.on_lost(reader.name, node, status.message or status.state, status.time)
        if status.state in AWAY and names:
            self._say(f"{reader.name}: {', '.join(names)}: {status.message or 'not reachable'}")
            refused = any(word in status.message for word in _REFUSED)
            if refused and set(names) >= set(self._recovery.states[reader.name]):
                raise SelectionRefusedError(f"{reader.name}: the nodes refuse what is asked: {status.message}")
        reader.look_now()

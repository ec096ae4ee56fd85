"""A Hubble Relay inside the lab's process: asks every agent of the mesh and mixes the answers roughly by time.

Agents are read directly, not over a network; everything that a client can see of that is made as a Relay does it.
"""

from collections.abc import Callable, Iterator, Sequence

from google.protobuf.wrappers_pb2 import UInt32Value

from meshobs.lab.mesh.model import Cluster
from meshobs.lab.sim.hubble.agent import PORT, Agent, build
from meshobs.lab.sim.hubble.fanout import Fanout
from meshobs.lab.sim.hubble.getflows import Message
from meshobs.lab.sim.hubble.wakeup import Wakeup
from meshobs.pb.observer.observer_pb2 import (
    TLS,
    GetFlowsRequest,
    GetFlowsResponse,
    GetNamespacesResponse,
    GetNodesResponse,
    Namespace,
    Node,
    ServerStatusResponse,
)
from meshobs.pb.relay.relay_pb2 import (
    NODE_CONNECTED,
    NODE_UNAVAILABLE,
    NodeState,
    NodeStatusEvent,
)

# As real Relays.
_NAMED_UNAVAILABLE = 10


class SimulatedRelay:
    """One cluster's Relay; its peers are the agents of all clusters."""

    def __init__(self, cluster: Cluster, agents: Sequence[Agent], clock: Callable[[], int]) -> None:
        self.cluster = cluster
        self.agents = agents
        self.clock = clock
        # A Relay names itself after the machine that it runs on, without the cluster.
        self.name = cluster.nodes[0].name

    def flows(self, request: GetFlowsRequest, wakeup: Wakeup) -> Iterator[bytes]:
        """Yield the answer to GetFlows; the wakeup ends it."""
        call = Fanout(self.agents, request, wakeup, self.clock, self.status_event)
        try:
            yield from call.answer()
        finally:
            call.close()

    def status_event(self, state: NodeState, names: Sequence[str], text: str, at: int) -> Message:
        """Return what is said of some nodes, of a moment in nanoseconds."""
        event = NodeStatusEvent(state_change=state, node_names=names, message=text)
        made = GetFlowsResponse(node_status=event, node_name=self.name)
        made.time.FromNanoseconds(at)
        return Message(at, made.SerializeToString())

    def server_status(self) -> ServerStatusResponse:
        """Return the sum of what the agents say."""
        found = [agent.server_status() for agent in self.agents if agent.reachable]
        away = [agent.node.full for agent in self.agents if not agent.reachable]
        return ServerStatusResponse(
            num_flows=sum(one.num_flows for one in found),
            max_flows=sum(one.max_flows for one in found),
            seen_flows=sum(one.seen_flows for one in found),
            uptime_ns=max((one.uptime_ns for one in found), default=0),
            num_connected_nodes=UInt32Value(value=len(found)),
            num_unavailable_nodes=UInt32Value(value=len(away)),
            unavailable_nodes=away[:_NAMED_UNAVAILABLE],
            version=f"hubble-relay v{build(self.cluster.cilium)}",
            flows_rate=sum(one.flows_rate for one in found),
        )

    def nodes(self) -> GetNodesResponse:
        """Return each agent; of one that is away nothing but its name and address."""
        return GetNodesResponse(nodes=[_node(agent) for agent in self.agents])

    def namespaces(self) -> GetNamespacesResponse:
        """Return the namespaces of all flows, each under the clusters of the nodes that saw it."""
        found = {(agent.node.cluster, name) for agent in self.agents if agent.reachable for name in agent.namespaces()}
        return GetNamespacesResponse(
            namespaces=[Namespace(cluster=cluster, namespace=name) for cluster, name in sorted(found)]
        )


def _node(agent: Agent) -> Node:
    made = Node(name=agent.node.full, address=f"{agent.node.address}:{PORT}", tls=TLS())
    if not agent.reachable:
        made.state = NODE_UNAVAILABLE
        return made
    status = agent.server_status()
    made.state = NODE_CONNECTED
    made.version = status.version
    made.uptime_ns, made.num_flows = status.uptime_ns, status.num_flows
    made.max_flows, made.seen_flows = status.max_flows, status.seen_flows
    return made

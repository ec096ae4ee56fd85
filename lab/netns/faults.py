"""Faults on the real parts: what each one does, and how it is undone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from meshobs.errors import MeshobsError
from meshobs.lab import faults, shell
from meshobs.lab.faults import FaultSwitch, Undo
from meshobs.lab.mesh import ipv6
from meshobs.lab.mesh.model import Cluster, Node
from meshobs.lab.netns.cluster import agent_api, objects
from meshobs.lab.netns.host.layout import API_PORT, HUBBLE_PORT, MESH_PORT, control_plane, node_of, state
from meshobs.lab.netns.machine import Machine, relay_name
from meshobs.lab.netns.nodes import agent_name

_POLICIES = "/apis/cilium.io/v2/namespaces/default/ciliumnetworkpolicies"
_PROBE = "meshobs-probe"
_SERVICES = f"/api/v1/namespaces/{objects.SYSTEM}/services"
_SECONDS = 20.0
_PROGRAMS = _IPTABLES, _ = ("iptables", "ip6tables")


class NetnsFaults(FaultSwitch):
    """Faults of one mesh; turning one on or off waits until the mesh is so."""

    def __init__(self, machine: Machine) -> None:
        makers: Mapping[str, Callable[[str], Undo]] = {
            "masquerade": self._masquerade,
            "stale-backends": self._stale,
            "event-loss": lambda node: self._restart(node, {"hubble-event-queue-size": str(faults.SMALL_QUEUE)}),
            "ring-loss": lambda node: self._restart(node, {"hubble-event-buffer-capacity": str(faults.SMALL_RING)}),
            "agent-down": self._agent_down,
            "relay-down": self._relay_down,
            "blind": self._blind,
            "policy": self._policy,
            "kube-down": self._kube_down,
        }
        super().__init__(makers, lambda: machine.mesh)
        self._machine = machine

    def _masquerade(self, cluster: str) -> Undo:
        nodes = self._machine.nodes
        one = self._machine.mesh.cluster(cluster)
        own = _pods(one)
        if one.variant.has_masquerade_agent:
            # Not an empty list: Cilium would put all private ranges in its place.
            nodes.write_masquerade(one, own)
            return lambda: nodes.write_masquerade(one, one.native_cidrs)
        # Not by the agents' own setting: they would have to start again, and see nothing meanwhile.
        ways = [
            (program, ["POSTROUTING", "-s", source, "-d", target, "-j", "MASQUERADE"])
            for other in self._machine.mesh.clusters
            if other != one
            for program, source, target in zip(_PROGRAMS, own, _pods(other), strict=False)
        ]
        return self._filter(one.nodes, ways, "nat")

    def _stale(self, cluster: str) -> Undo:
        """Cut a cluster's agents off their API server and the other clusters' stores; what they know, they keep."""
        mesh = self._machine.mesh
        one = mesh.cluster(cluster)
        servers = [(control_plane(one).address, API_PORT)]
        servers += [(control_plane(other).address, MESH_PORT) for other in mesh.clusters if other != one]
        servers += [(control_plane(one).address, MESH_PORT)] if one.variant.kvstoremesh else []
        # What servers send is lost, without a word: a refusal would come after the first change had got through, and
        # agents that know of a broken connection wait for up to half a minute before they try again.
        rules = [
            (_IPTABLES, ["INPUT", "-s", address, "-p", "tcp", "--sport", str(port), "-j", "DROP"])
            for address, port in servers
        ]
        undo = self._filter(one.nodes, rules)

        def restore() -> None:
            undo()
            self._wait_for_api(one)

        return restore

    def _wait_for_api(self, cluster: Cluster) -> None:
        """Wait until a cluster's agents follow its API again: until they know of a Service that is made for it."""
        api = self._machine.apis[cluster.name]
        meta = {"name": _PROBE, "namespace": objects.SYSTEM}
        # With a selector it gets an EndpointSlice, without which Cilium does not program it.
        api.create(_SERVICES, {"metadata": meta, "spec": {"selector": {"app": _PROBE}, "ports": [{"port": 80}]}})
        try:
            address = (api.get(f"{_SERVICES}/{_PROBE}") or {})["spec"]["clusterIP"]
            for node in cluster.nodes:
                done = partial(self._knows, cluster, node, f"{address}:80")
                self._machine.wait_for(done, f"the agent of {node.name}")
        finally:
            api.delete(f"{_SERVICES}/{_PROBE}")

    def _knows(self, cluster: Cluster, node: Node, frontend: str) -> bool:
        command = self._machine.nodes.place(node).command(["cilium-dbg", "bpf", "lb", "list"])
        return frontend in shell.call(command, _SECONDS, environment=self._machine.nodes.environment(cluster)).out

    def _blind(self, node: str) -> Undo:
        rule = ["INPUT", "-p", "tcp", "--dport", str(HUBBLE_PORT), "-j", "REJECT", "--reject-with", "tcp-reset"]
        return self._filter([self._node(node)], [(_IPTABLES, rule)])

    def _restart(self, name: str, overrides: Mapping[str, str]) -> Undo:
        node = self._node(name)
        self._machine.nodes.restart(node, overrides)
        return lambda: self._machine.nodes.restart(node, {})

    def _agent_down(self, name: str) -> Undo:
        node = self._node(name)
        self._machine.processes.stop(agent_name(node))
        return lambda: self._machine.nodes.start_again(node)

    def _relay_down(self, cluster: str) -> Undo:
        self._machine.processes.stop(relay_name(cluster))
        return lambda: self._machine.processes.start_again(relay_name(cluster))

    def _kube_down(self, cluster: str) -> Undo:
        self._machine.processes.stop(f"{cluster}-apiserver")
        return lambda: self._machine.start_api_server(cluster)

    def _policy(self, _scope: str) -> Undo:
        last = self._machine.mesh.clusters[-1]
        api = self._machine.apis[last.name]
        policy = faults.refusal(self._machine.mesh.clusters[0].name)
        self._wait_enforced(last, lambda: api.create(_POLICIES, policy))
        path = f"{_POLICIES}/{policy['metadata']['name']}"
        return lambda: self._wait_enforced(last, lambda: api.delete(path))

    def _wait_enforced(self, cluster: Cluster, change: Callable[[], None]) -> None:
        """Change policies and wait until all of a cluster's endpoints enforce it."""
        states = [state(node) for node in cluster.nodes]
        before = [agent_api.policy_revision(one) for one in states]
        change()

        def is_enforced() -> bool:
            return all(agent_api.enforced_revision(one) > old for one, old in zip(states, before, strict=True))

        self._machine.wait_for(is_enforced, f"the policy in {cluster.name}")

    def _filter(self, nodes: Iterable[Node], rules: Sequence[tuple[str, Sequence[str]]], table: str = "filter") -> Undo:
        """Add rules to nodes' firewalls.

        Args:
            nodes: whose.
            rules: program of a family, chain and rule.
            table: which.
        """
        places = [self._machine.nodes.place(node) for node in nodes]
        pairs = [(place, program, rule) for place in places for program, rule in rules]
        for place, program, rule in pairs:
            _iptables([*place.command([program, "-w", "-t", table, "-I"]), *rule])

        def undo() -> None:
            for place, program, rule in pairs:
                _iptables([*place.command([program, "-w", "-t", table, "-D"]), *rule])

        return undo

    def _node(self, full: str) -> Node:
        return node_of(self._machine.mesh, full.rpartition("/")[2])


def _pods(cluster: Cluster) -> Sequence[str]:
    """Return a cluster's pod range of each family."""
    return [cluster.pod_cidr, *([ipv6.range_of(cluster.pod_cidr)] if cluster.variant.dual_stack else [])]


def _iptables(command: Sequence[str]) -> None:
    done = shell.call(command, _SECONDS)
    if done.code:
        raise MeshobsError(f"iptables: {done.err.strip()}")

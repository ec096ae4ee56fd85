"""A machine outside the mesh: a container on the nodes' network that calls, and that is the load balancer of S16.

It is made when it is first needed, from the node image, which is there already and has curl and iptables.
"""

from collections.abc import Sequence

from meshobs.lab.kind.commands import Tools
from meshobs.lab.kind.options import NETWORK
from meshobs.lab.mesh.model import Node

NAME = "meshobs-outside"
_SECONDS = 60.0


def address(tools: Tools) -> str:
    """Return the address of the machine outside; empty if it is not there."""
    form = f'{{{{(index .NetworkSettings.Networks "{NETWORK}").IPAddress}}}}'
    done = tools.run((tools.options.engine, "inspect", "--format", form, NAME), _SECONDS)
    return "" if done.code else done.out.strip()


def make(tools: Tools) -> str:
    """Make the machine outside if it is not there; return its address.

    Raises:
        CommandError: the engine refuses.
    """
    if there := address(tools):
        return there
    engine = tools.options.engine
    words = (
        "run", "--detach", "--name", NAME, "--network", NETWORK, "--label", "meshobs", "--cap-add", "NET_ADMIN",
        "--sysctl", "net.ipv4.ip_forward=1", "--entrypoint", "sleep", tools.options.node_image, "infinity",
    )  # fmt: skip
    tools.run((engine, "rm", "--force", NAME), _SECONDS)  # one that is stopped
    tools.must((engine, *words), _SECONDS)
    return address(tools)


def balance(tools: Tools, nodes: Sequence[Node], port: int) -> None:
    """Let it pass on connections to a port: to all nodes in turn, each kept by the kernel, from its own address.

    Raises:
        CommandError: the kernel refuses.
    """
    rules = ["-F"]
    for index, node in enumerate(nodes):
        turn = f"-m statistic --mode nth --every {len(nodes) - index} --packet 0 " if index < len(nodes) - 1 else ""
        rules.append(f"-A PREROUTING -p tcp --dport {port} {turn}-j DNAT --to-destination {node.address}:{port}")
    rules.append(f"-A POSTROUTING -p tcp --dport {port} -j MASQUERADE")
    for rule in rules:
        tools.must((tools.options.engine, "exec", NAME, "iptables", "-t", "nat", *rule.split()), _SECONDS)


def remove(tools: Tools) -> None:
    """Take it away."""
    tools.run((tools.options.engine, "rm", "--force", NAME), _SECONDS)

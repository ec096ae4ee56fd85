"""Names of nodes as Hubble writes them: CLUSTER/NODE, or NODE alone where Cilium's cluster has no name."""

from typing import NamedTuple

# Cilium's cluster name where none is given.
DEFAULT_CLUSTER = "default"


class NodeName(NamedTuple):
    """A node's name in its parts, as the ingest macros take Hubble's apart."""

    cluster: str
    node: str

    @classmethod
    def parse(cls, text: str, cluster: str = "") -> "NodeName":
        """Return the parts of a name.

        Args:
            text: as Hubble writes it; an empty one has two empty parts.
            cluster: of nodes whose names carry none; empty for Cilium's default.
        """
        first, separator, rest = text.partition("/")
        return cls(first, rest) if separator else cls((cluster or DEFAULT_CLUSTER) if text else "", text)


def cluster_of(node_name: str) -> str:
    """Return the cluster in a node's name, empty if it has none."""
    return node_name.partition("/")[0] if "/" in node_name else ""


def full_name(node_name: str, cluster: str = "") -> str:
    """Return a node's name with its cluster; `cluster` as in NodeName.parse."""
    return "/".join(NodeName.parse(node_name, cluster))

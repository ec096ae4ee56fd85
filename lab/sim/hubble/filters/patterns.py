"""Names with wildcards as filters of nodes and DNS names take them. Pure."""

import re
from collections.abc import Sequence

_ANY = r"[-0-9_a-z]+(?:\.[-0-9_a-z]+)*"
_STAR = "[-.0-9a-z]*"
_CLUSTER_AND_NODE = 2


def nodes(values: Sequence[str]) -> "re.Pattern[str]":
    """Return what matches `cluster/node`; a pattern without a slash is of any cluster, `c1/` is all its nodes.

    Raises:
        ValueError: a pattern is none.
    """
    return re.compile("|".join(_node(value) for value in values))


def names(values: Sequence[str]) -> "re.Pattern[str]":
    """Return what matches a DNS name.

    Raises:
        ValueError: a pattern is none.
    """
    return re.compile("|".join(_name(value) for value in values))


def _node(value: str) -> str:
    if not value:
        raise ValueError("empty pattern")
    parts = value.split("/")
    if len(parts) > _CLUSTER_AND_NODE:
        raise ValueError("too many slashes in pattern")
    cluster, node = parts if len(parts) == _CLUSTER_AND_NODE else ("", value)
    return f"{_name(cluster) if cluster else _ANY}/{_name(node) if node else _ANY}"


def _name(value: str) -> str:
    name = value.strip().removesuffix(".").lower()
    if not name:
        raise ValueError("empty pattern")
    if name.endswith("."):
        raise ValueError("multiple trailing dots in pattern")
    if bad := re.search(r"[^-.*_0-9a-z]", name):
        raise ValueError(f"'{bad[0]}': invalid rune in pattern")
    return name.replace(".", r"\.").replace("*", _STAR)

"""Whose Kubernetes objects a file holds.

The file's name says it; else cilium-config in the same folder (`cilium sysdump`), then what the user says, then the
names of its nodes where flows name them, too. A file's name may be a kubeconfig's context
(k8s-kind-amber.json): where no flow knows such a cluster, the nodes decide.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from meshobs.collector.node_name import DEFAULT_CLUSTER
from meshobs.collector.recordings.files import RecordingFile, is_of_sysdump
from meshobs.collector.recordings.objects import cluster_of, config_name, each, node_names
from meshobs.collector.recordings.recognise import FileKind
from meshobs.collector.recordings.streams import BROKEN


@dataclass(frozen=True)
class Owner:
    """Whose objects a file holds.

    Attributes:
        cluster: empty if nothing says it.
        note: how that is known, where it is not what the file's name says.
        problem: what to do where nothing says it.
    """

    cluster: str
    note: str = ""
    problem: str = ""


@dataclass(frozen=True)
class _Signs:
    config: str = ""
    nodes: frozenset[str] = frozenset()


class Owners:
    """Tells of each file of a recording whose objects it holds.

    Args:
        recording: its files.
        nodes: of which there are flows, as `cluster/node`.
    """

    def __init__(self, recording: Sequence[RecordingFile], nodes: Collection[str]) -> None:
        self._sources = [one for one in recording if one.kind in (FileKind.OBJECTS, FileKind.WATCH_LOG)]
        self._nodes: dict[str, set[str]] = {}
        for full_name in nodes:
            cluster, _, node = full_name.partition("/")
            if cluster != DEFAULT_CLUSTER:  # what nothing is known of is there, too
                self._nodes.setdefault(node, set()).add(cluster)
        self._clusters = {cluster for clusters in self._nodes.values() for cluster in clusters}
        self._folders: dict[str, _Signs] = {}

    def owner(self, source: RecordingFile, fallback: str) -> Owner:
        """Return whose objects a file holds; `fallback` is what the user says of files that do not say it."""
        named = cluster_of(source.stem)
        if named and (named in self._clusters or not self._clusters):
            return Owner(named)
        # Files of a sysdump hold one kind each; only together they say whose they are.
        signs = _Signs() if is_of_sysdump(source.name) else _signs([source])
        if not named and not signs.config and not self._by_nodes(signs.nodes):
            signs = self._of_folder(source.folder)
        by_nodes = self._by_nodes(signs.nodes)
        if named:
            if (found := signs.config or by_nodes) and found != named:
                return Owner(found, f"{source.name}: objects of cluster {found}, by {_how(signs)}")
            clusters = ", ".join(sorted(self._clusters))
            return Owner(
                named,
                f"{source.name}: no flow is of a cluster {named}, only of {clusters}; if that is the name of a context,"
                " name the file k8s-CLUSTER.json",
            )
        if signs.config or (by_nodes and not fallback):
            found = signs.config or by_nodes
            return Owner(found, f"{source.name}: objects of cluster {found}, by {_how(signs)}")
        if fallback:
            return Owner(fallback)
        return Owner(
            "",
            problem="does not say whose objects it holds: name it k8s-CLUSTER.json, or pass `cluster`",
        )

    def _by_nodes(self, nodes: Iterable[str]) -> str:
        """Return the one cluster whose flows name these nodes."""
        found = [self._nodes[node] for node in nodes if node in self._nodes]
        common = set.intersection(*found) if found else set()
        return next(iter(common)) if len(common) == 1 else ""

    def _of_folder(self, folder: str) -> _Signs:
        if folder not in self._folders:
            beside = [one for one in self._sources if one.folder == folder and not cluster_of(one.stem)]
            # What cilium-config and nodes are in by their names first: the others need not be read for it then.
            likely = sorted(beside, key=lambda one: ("config" not in one.name, "node" not in one.name, one.name))
            self._folders[folder] = _signs(likely)
        return self._folders[folder]


def _how(signs: _Signs) -> str:
    return "cilium-config" if signs.config else "the names of its nodes"


def _signs(sources: Iterable[RecordingFile]) -> _Signs:
    """Read what files say of their cluster."""
    configs, nodes = set[str](), set[str]()
    for source in sources:
        if source.path is None:  # standard input can be read once
            continue
        try:
            with source.open() as stream:
                for _, document, problem in source.documents(stream):
                    for one in [] if problem else each(document):
                        configs.add(config_name(one))
                        nodes |= node_names(one)
        except BROKEN:
            continue  # told where it is read
        if configs - {""} and is_of_sysdump(source.name):
            break
    configs.discard("")
    return _Signs(configs.pop() if len(configs) == 1 else "", frozenset(nodes))

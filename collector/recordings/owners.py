"""Whose Kubernetes objects a file holds.

Its name says it (k8s-CLUSTER); else cilium-config in it or in its folder; then its name or its folder's, besides words
for kinds, if flows know such a cluster; then what the user says; then the names of its nodes, where flows of several
clusters tell them apart. A name may be a kubeconfig's context (k8s-kind-amber): where no flow knows such a cluster,
cilium-config decides, or the nodes if their cluster's name is in it.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from meshobs.collector.node_name import DEFAULT_CLUSTER
from meshobs.collector.recordings.files import RecordingFile, is_of_sysdump
from meshobs.collector.recordings.objects import cluster_of, config_name, each, node_names
from meshobs.collector.recordings.recognise import FileKind
from meshobs.collector.recordings.streams import BROKEN

_BY_NODES = "the names of its nodes"
# Words of file names that say what is in them, not whose it is.
_KINDS = frozenset(
    {"k8s", "kubectl", "get", "all", "objects", "list", "state", "dump", "resources", "config", "cilium"}
    | {"services", "service", "svc", "endpoints", "ep", "endpointslices", "endpointslice", "eps", "slices", "pods"}
    | {"nodes", "node", "ciliumnodes", "ciliumnode", "cn", "namespaces", "configmaps", "configmap", "cm"}
)


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
        names = () if named else (source.stem, PurePosixPath(source.folder).name)
        found, how = self._found(signs, names)
        if named and found and (how != _BY_NODES or found in named):
            return Owner(found, f"{source.name}: objects of cluster {found}, by {how}")
        if named:
            clusters = ", ".join(sorted(self._clusters))
            return Owner(
                named,
                f"{source.name}: no flow is of a cluster {named}, only of {clusters}; if that is the name of a context,"
                " name the file k8s-CLUSTER.json",
            )
        if how == _BY_NODES and fallback:
            found = ""
        if not found:
            found, how = self._found(self._of_folder(source.folder))
        if found and not (fallback and how == _BY_NODES):
            return Owner(found, f"{source.name}: objects of cluster {found}, by {how}")
        return Owner(
            fallback,
            problem="does not say whose objects it holds: name it k8s-CLUSTER.json, or pass `cluster`",
        )

    def _found(self, signs: _Signs, names: Sequence[str] = ()) -> tuple[str, str]:
        """Return a cluster and what says it; `names` are the file's and its folder's."""
        if signs.config:
            return signs.config, "cilium-config"
        said = [name for name in map(_without_kinds, names) if name in self._clusters]
        return (said[0], "the file's name") if said else (self._by_nodes(signs.nodes), _BY_NODES)

    def _by_nodes(self, nodes: Iterable[str]) -> str:
        """Return the one cluster whose flows name these nodes.

        Where there are flows of one cluster only, another one's nodes may have the same names.
        """
        if len(self._clusters) == 1:
            return ""
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


def _without_kinds(name: str) -> str:
    """Return what a name such as `services-west` or `west.nodes` says besides kinds of objects."""
    words = re.split(r"([-_.])", name.lower())
    while words and (words[0] in _KINDS or words[0] in "-_."):
        del words[0]
    while words and (words[-1] in _KINDS or words[-1] in "-_."):
        del words[-1]
    return "".join(words)


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

"""Which clusters a collection reads, and how they are reached."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshobs.collector.follow import clusters as members
from meshobs.collector.follow.clusters import ClusterSpec, OpenClusters
from meshobs.collector.hubble.target import Tls
from meshobs.errors import InputError, MeshobsError
from meshobs.lab import state as labs
from meshobs.lab.driver import ClusterState, LabState


@dataclass(frozen=True)
class Sources:
    """What the user says of what to read; `meshobs.collect` says what each of it means."""

    relays: Sequence[str]
    contexts: Sequence[str]
    clusters: Mapping[str, Mapping[str, object]]
    kubeconfig: Path | None
    kube_namespace: str
    kube: bool
    tls: Tls | None

    def open(self, opened: OpenClusters, say: Callable[[str], None]) -> None:
        """Open all of them; say what of it cannot be had.

        Raises:
            InputError: none is named and none is found, or two Relays have one name.
            MeshobsError: no Relay can be reached.
        """
        specs, kubeconfig = self._find(say)
        for spec in specs:
            opened.add(spec, kubeconfig=kubeconfig, watch=self.kube, say=say)
        if not opened.relays:
            raise MeshobsError("; ".join(opened.problems))
        for problem in opened.problems:
            say(problem)

    def _find(self, say: Callable[[str], None]) -> tuple[list[ClusterSpec], Path | None]:
        """Return what to read and by which kubeconfig: what is named, else the lab, `clusters`, or all contexts."""
        if self.relays or self.contexts:
            relays = [ClusterSpec(relay=text, tls=self.tls) for text in self.relays]
            return relays + self._specs_of(self.contexts), self.kubeconfig
        if (lab := labs.read()) and labs.require_running():
            say(f"the lab that is up (driver {lab.driver}): {', '.join(one.name for one in lab.clusters)}")
            return lab_sources(lab), self.kubeconfig or Path(lab.kubeconfig)
        if self.clusters:
            say(f"clusters of the configuration: {', '.join(self.clusters)}")
            return members.sources(self.clusters), self.kubeconfig
        found = members.find_contexts(self.kubeconfig, self.kube_namespace)
        if not found:
            raise InputError(
                "no cluster is named and no context of the kubeconfig has a Hubble Relay: give `relays` NAME=HOST:PORT"
                " or `contexts` NAME for each cluster, or write them into meshobs.toml ([clusters.NAME])"
            )
        say(f"contexts with a Hubble Relay: {', '.join(found)}")
        return self._specs_of(found), self.kubeconfig

    def _specs_of(self, contexts: Sequence[str]) -> list[ClusterSpec]:
        return [ClusterSpec(context=one, namespace=self.kube_namespace, tls=self.tls) for one in contexts]


def lab_sources(lab: LabState) -> list[ClusterSpec]:
    """Return the clusters of a running lab."""
    return [
        ClusterSpec(
            name=one.name,
            relay=f"{one.name}={one.relay}" if one.relay else "",
            context=one.context,
            tls=_lab_tls(one),
        )
        for one in lab.clusters
    ]


def _lab_tls(one: ClusterState) -> Tls | None:
    if not one.ca:
        return None
    return Tls((Path(one.ca),), Path(one.client_cert), Path(one.client_key), one.server_name)

"""Who trusts whom in a mesh: one authority for all clusters (S4), a certificate for each of their parts."""

from dataclasses import dataclass

from meshobs.lab.mesh.model import Cluster
from meshobs.lab.netns.cluster import objects
from meshobs.lab.netns.host.layout import control_plane
from meshobs.lab.netns.host.pki import Authority, Pair

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Issued:
    """A cluster's certificates.

    Attributes:
        api: of its API server.
        signing: files of the key for service accounts, and of its public half.
        store: of its etcd for other clusters.
        member: of those who read such an etcd.
        hubble: of its agents, for Relays.
        relay: of its Relay, for clients.
        reader: of its Relay, for agents.
    """

    api: Pair
    signing: tuple[str, str]
    store: Pair
    member: Pair
    hubble: Pair
    relay: Pair
    reader: Pair


def issue(authority: Authority, cluster: Cluster) -> Issued:
    """Make a cluster's certificates, with the names that Cilium's chart gives them."""
    name, address = cluster.name, control_plane(cluster).address
    service = next(iter(objects.first_hosts(cluster.service_cidr)))
    names = ["kubernetes", "kubernetes.default.svc", "localhost", _LOOPBACK, address, service]
    hubble, relay = f"*.{name}.hubble-grpc.cilium.io", "*.hubble-relay.cilium.io"
    private, public = authority.key_pair(f"{name}-sa")
    store = ["*.mesh.cilium.io", _LOOPBACK, address]
    return Issued(
        api=authority.issue(f"{name}-apiserver", "kube-apiserver", names),
        signing=(str(private), str(public)),
        store=authority.issue(f"{name}-etcd", "clustermesh-apiserver.cilium.io", store),
        member=authority.issue(f"{name}-mesh", "remote"),
        hubble=authority.issue(f"{name}-hubble", hubble, [hubble]),
        relay=authority.issue(f"{name}-relay", relay, [relay]),
        reader=authority.issue(f"{name}-relay-client", relay, [relay]),
    )

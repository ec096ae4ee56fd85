"""What a collection reads: each cluster's Relay, dialled, and its Kubernetes API, by whatever names them."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from meshobs import private
from meshobs.collector.hubble import scope
from meshobs.collector.hubble.answers import RelayNode
from meshobs.collector.hubble.relay import Relay
from meshobs.collector.hubble.target import Target, Tls, parse, tls_of
from meshobs.collector.kube.api import KubeError, contexts
from meshobs.collector.kube.cluster import ClusterInfo, KubeCluster
from meshobs.errors import InputError, MeshobsError
from meshobs.pb.flow.flow_pb2 import FlowFilter

# Where Cilium's chart keeps what a client of a Relay with TLS shows and trusts; the first that can be read counts.
_CLIENT_SECRETS = ("hubble-ui-client-certs", "hubble-relay-client-certs")
# The chart makes the Relay's certificate for all names of this domain.
_RELAY_NAME = "ui.hubble-relay.cilium.io"
# Addresses that a line names.
_SHOWN = 8


@dataclass(frozen=True)
class ClusterSpec:
    """What the user says of one cluster. Either `relay` or `context` is there, or both.

    Attributes:
        name: the cluster's, empty where the rest tells.
        relay: NAME=HOST:PORT or HOST:PORT.
        context: of the kubeconfig.
        tls: for the Relay; None for plain text, or what the cluster's Secrets say.
    """

    name: str = ""
    relay: str = ""
    context: str | None = None
    namespace: str = "kube-system"
    tls: Tls | None = None


@dataclass
class OpenClusters:
    """All clusters of a collection; a context manager that closes what it opened.

    Attributes:
        relays: dialled, by name.
        clusters: Kubernetes APIs with what they say of themselves, by cluster.
        problems: what could not be had, a line each.
    """

    relays: dict[str, Relay] = field(default_factory=dict)
    clusters: dict[str, tuple[KubeCluster, ClusterInfo]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    _forwarded: dict[str, KubeCluster] = field(default_factory=dict)
    _named: set[str] = field(default_factory=set)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for relay in self.relays.values():
            relay.close()
        self._stack.close()

    def add(self, source: ClusterSpec, *, kubeconfig: Path | None, watch: bool, say: Callable[[str], None]) -> None:
        """Open one cluster; what fails becomes a problem. A context of a cluster whose Relay is open adds its objects.

        Args:
            source: what to open.
            kubeconfig: None for the user's.
            watch: also its Kubernetes objects.
            say: told of troubles later on.

        Raises:
            InputError: two Relays have the same name, or an address is none.
        """
        try:
            self._open(source, kubeconfig, say, watch=watch)
        except InputError:
            raise
        except MeshobsError as error:
            self.problems.append(str(error))

    def ask_nodes(self) -> dict[str, Sequence[RelayNode]]:
        """Return what each Relay says of its nodes, by its name; none of one that knows no GetNodes.

        Raises:
            MeshobsError: a Relay does not answer.
        """
        return {name: relay.nodes() or () for name, relay in self.relays.items()}

    def own_traffic(self, known: Mapping[str, Sequence[RelayNode]], say: Callable[[str], None]) -> list[FlowFilter]:
        """Return a denylist of the collection's own traffic; say what it leaves out.

        Args:
            known: as `ask_nodes` returns them.
            say: told what is left out, a line each.
        """
        nodes = {name: {node.node_name: node.address for node in found} for name, found in known.items()}
        clusters = {**self._forwarded, **{name: cluster for name, (cluster, _) in self.clusters.items()}}
        inside = {name: cluster.endpoints() for name, cluster in clusters.items()}
        # A Relay on this machine is one that the user forwards to.
        forwarded = [name for name, relay in self.relays.items() if scope.is_loopback(relay.target.host)]
        forwards = {name: scope.forward_path(name, nodes[name], inside.get(name, ())) for name in forwarded}
        say("left out as the collection's own traffic: ports 4244 and 4245 (Hubble), the Relays and API servers in use")
        for name, path in forwards.items():
            shown = ", ".join(path.nodes) if len(path.nodes) <= _SHOWN else f"{len(path.nodes)} nodes"
            say(f"left out of {name}, read by port-forward: ports {', '.join(path.ports)} of {shown}")
        return scope.own_traffic(
            [address for found in nodes.values() for address in found.values()],
            [relay.target.address for relay in self.relays.values()],
            [*(cluster.server for cluster in clusters.values()), *(one for found in inside.values() for one in found)],
            forwards.values(),
        )

    def _open(self, source: ClusterSpec, kubeconfig: Path | None, say: Callable[[str], None], *, watch: bool) -> None:
        cluster = (
            KubeCluster(source.context, source.namespace, kubeconfig).connect() if source.context is not None else None
        )
        info = cluster.info() if cluster else None
        name = source.name or (info.name if info else "") or (cluster.context if cluster else "")
        if cluster and info:
            if info.problem:
                self.problems.append(info.problem)
            if watch:
                self.clusters[name] = (cluster, info)
            if not source.relay and name in self.relays:
                return
        target = self._target(source, name, cluster, say)
        # Also where the first one cannot be reached; a context may then still lead to it.
        if target.name in self.relays or (source.relay and target.name in self._named):
            raise InputError(f"two Relays are called {target.name}: give each a name of its own (NAME=HOST:PORT)")
        if source.relay:
            self._named.add(target.name)
        self.relays[target.name] = Relay(target).dial()

    def _target(
        self, source: ClusterSpec, name: str, cluster: KubeCluster | None, say: Callable[[str], None]
    ) -> Target:
        if source.relay:
            found = parse(source.relay, source.tls)
            return Target(name, found.host, found.port, found.tls) if name else found
        if not cluster:
            where = f"[clusters.{name}] of the configuration" if name else "`relays`"
            raise InputError(f"{where} names no Relay: write HOST:PORT, as in west=10.0.0.1:4245")
        service = cluster.relay()
        forward = cluster.forward(service, say)
        self._forwarded[name] = cluster
        self._stack.callback(forward.close)
        tls = source.tls or (self._tls(cluster) if service.tls else None)
        return Target(name, "127.0.0.1", forward.port, tls)

    def _tls(self, cluster: KubeCluster) -> Tls:
        """Return what the cluster's Secrets say of its Relay's TLS, in files that only this user can read."""
        for name in _CLIENT_SECRETS:
            secret = cluster.secret(name)
            if secret and {"ca.crt", "tls.crt", "tls.key"} <= set(secret):
                folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="meshobs-")))
                paths = {key: folder / key for key in ("ca.crt", "tls.crt", "tls.key")}
                for key, path in paths.items():
                    private.write(path, secret[key])
                return Tls((paths["ca.crt"],), paths["tls.crt"], paths["tls.key"], _RELAY_NAME)
        raise KubeError(
            f"context {cluster.context}: the Relay speaks TLS, and no Secret {' or '.join(_CLIENT_SECRETS)} says how:"
            " give `tls_ca_cert_files`, `tls_client_cert_file`, `tls_client_key_file`, `tls_server_name`"
        )


def find_contexts(kubeconfig: Path | None, namespace: str) -> list[str]:
    """Return the contexts of the kubeconfig whose cluster has a Hubble Relay."""
    found = []
    with suppress(KubeError):
        for context in contexts(kubeconfig):
            with suppress(KubeError):
                KubeCluster(context, namespace, kubeconfig).connect().relay()
                found.append(context)
    return found


def sources(configured: Mapping[str, Mapping[str, object]]) -> list[ClusterSpec]:
    """Return the clusters of a configuration file, as `settings` checked them."""
    return [
        ClusterSpec(
            name=name,
            relay=str(values.get("relay", "")),
            context=str(values["context"]) if "context" in values else None,
            namespace=str(values.get("kube_namespace", "kube-system")),
            tls=tls_of(values),
        )
        for name, values in configured.items()
    ]

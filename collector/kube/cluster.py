"""What is asked of a cluster with Cilium: its name and settings, its Relay, Secrets, and a way to the Relay's Pods."""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from meshobs.collector.kube import objects
from meshobs.collector.kube.api import KubeClient, KubeError
from meshobs.collector.kube.document import Json, at, items, text
from meshobs.collector.kube.objects import KubeState
from meshobs.collector.kube.portforward import (
    PortForward,
    RelayService,
    Tunnel,
    container_port,
    reachable,
    relay_service,
)
from meshobs.collector.kube.resource import Resource

RELAY = "hubble-relay"
_CONFIG = "cilium-config"
SERVICES = Resource("", "v1", "services", "Service")
_CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
_SECRETS = Resource("", "v1", "secrets", "Secret")
_PODS = Resource("", "v1", "pods", "Pod")
_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
_PORT_FORWARD = Resource("", "v1", "pods/portforward")


@dataclass(frozen=True)
class ClusterInfo:
    """What ConfigMap cilium-config says.

    Attributes:
        name: of the cluster in the mesh; empty where it cannot be read.
        settings: all of its data.
        problem: why it cannot be read, empty if it can.
        state: for the history.
    """

    name: str
    cluster_id: int | None
    settings: Mapping[str, str]
    problem: str = ""
    state: KubeState | None = None


class KubeCluster(KubeClient):
    """One cluster with Cilium, through its Kubernetes API.

    Args:
        context: of the kubeconfig; empty for its current one.
        namespace: where Cilium runs.
        kubeconfig: None for those that KUBECONFIG names, else ~/.kube/config.
    """

    def __init__(self, context: str, namespace: str = "kube-system", kubeconfig: Path | None = None) -> None:
        super().__init__(context, kubeconfig)
        self.namespace = namespace

    def info(self) -> ClusterInfo:
        """Read ConfigMap cilium-config; where it may not be read or is not there, `problem` says so.

        Raises:
            KubeError: the API does not answer.
        """
        try:
            found = self._get(_CONFIG_MAPS.path(self.namespace, _CONFIG), f"get ConfigMap {_CONFIG}", _CONFIG_MAPS)
        except KubeError as error:
            problems = {
                HTTPStatus.FORBIDDEN: str(error),
                HTTPStatus.NOT_FOUND: (
                    f"context {self.context}: no ConfigMap {_CONFIG} in namespace {self.namespace}:"
                    " name Cilium's namespace with `kube_namespace`"
                ),
            }
            if error.status not in problems:
                raise
            return ClusterInfo("", None, {}, problems[HTTPStatus(error.status)])
        data = at(found, "data")
        settings = {key: str(value) for key, value in data.items()} if isinstance(data, Mapping) else {}
        number = settings.get("cluster-id", "")
        name = settings.get("cluster-name", "")
        state = objects.state_of({**_object(found), "kind": "ConfigMap"}, name)
        return ClusterInfo(name, int(number) if number.isdecimal() else None, settings, state=state)

    def relay(self) -> RelayService:
        """Find Service hubble-relay.

        Raises:
            KubeError: it is not there, or may not be read.
        """
        try:
            found = self._get(SERVICES.path(self.namespace, RELAY), f"get Service {RELAY}", SERVICES)
        except KubeError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                raise KubeError(self._no_relay(), error.status) from error
            raise
        relay = relay_service(found)
        if not relay:
            raise KubeError(
                f"context {self.context}: Service {self.namespace}/{RELAY} has no port or no Pods: is it Cilium's?"
            )
        return relay

    def forward(self, relay: RelayService, say: Callable[[str], None] = lambda _text: None) -> PortForward:
        """Listen on a free local port and carry each connection to a running Pod behind the service.

        Args:
            relay: from `relay`.
            say: told of troubles, from threads.
        """
        return PortForward(lambda turn: self._tunnel(relay, turn), say).listen()

    def endpoints(self) -> list[str]:
        """Return where the API servers listen inside the cluster, as HOST:PORT, which the kubeconfig need not say.

        They keep the EndpointSlices of Service default/kubernetes themselves; none where those may not be read.
        """
        query = {"labelSelector": "kubernetes.io/service-name=kubernetes"}
        try:
            slices = items(self.get(_SLICES.path("default"), query), "items")
        except KubeError:
            return []
        return [
            f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            for one in slices
            for port in (at(entry, "port") for entry in items(one, "ports"))
            for endpoint in items(one, "endpoints")
            for address in map(str, items(endpoint, "addresses"))
        ]

    def secret(self, name: str) -> Mapping[str, bytes] | None:
        """Read a Secret of Cilium's namespace; None if it is not there.

        Raises:
            KubeError: it may not be read.
        """
        try:
            data = at(self._get(_SECRETS.path(self.namespace, name), f"get Secret {name}", _SECRETS), "data")
        except KubeError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        try:
            pairs = data.items() if isinstance(data, Mapping) else ()
            return {key: base64.b64decode(str(value), validate=True) for key, value in pairs}
        except binascii.Error as error:
            raise KubeError(f"context {self.context}: Secret {self.namespace}/{name} is not base64") from error

    def _tunnel(self, relay: RelayService, turn: int) -> Tunnel:
        """Open a tunnel to one of the Pods behind a Service; `turn` chooses which."""
        pods = self._pods(relay)
        pod = pods[turn % len(pods)]
        port, name = container_port(pod, relay.target), text(pod, "metadata", "name")
        if port is None:
            raise KubeError(f"context {self.context}: Pod {name} has no port {relay.target}: is it Hubble Relay's?")
        to = f"context {self.context}: port-forward to Pod {relay.namespace}/{name} port {port}"
        path = f"{_PODS.path(relay.namespace, name)}/portforward?ports={port}"
        try:
            return Tunnel(self.websocket(path, "v4.channel.k8s.io"), to)
        except KubeError as error:
            if error.status == HTTPStatus.FORBIDDEN:
                denied = self._denial(f"forward ports of Pod {name}", _PORT_FORWARD, "create", "get")
                raise KubeError(denied, error.status) from error
            verb = "is refused" if error.status else "failed"
            raise KubeError(f"{to} {verb} ({error})", error.status) from error

    def _pods(self, relay: RelayService) -> list[Json]:
        """Return the Pods that can be forwarded to."""
        query = {"labelSelector": relay.selector}
        pods = reachable(self._get(_PODS.path(relay.namespace), "list Pods", _PODS, query))
        if not pods:
            raise KubeError(
                f"context {self.context}: no running Pod behind Service {relay.namespace}/{relay.name}:"
                f" `kubectl --context {self.context} -n {relay.namespace} get pods -l {relay.selector}` shows why"
            )
        return pods

    def _no_relay(self) -> str:
        """Say that there is no Relay, and where there is one if it can be seen."""
        try:
            everywhere = self.get(SERVICES.path(), {"fieldSelector": f"metadata.name={RELAY}"})
        except KubeError:
            everywhere = None
        places = sorted(text(one, "metadata", "namespace") for one in items(everywhere, "items"))
        start = f"context {self.context}: no Service {RELAY} in namespace {self.namespace}:"
        if places:
            return f"{start} it is in {places[0]}, add `kube_namespace` {places[0]}"
        return (
            f"{start} switch it on with `cilium hubble enable --context {self.context}`,"
            " or name Cilium's namespace with `kube_namespace`"
        )

    def _get(self, path: str, what: str, resource: Resource, query: Mapping[str, str] | None = None) -> Json:
        """Return an answer's JSON; a refusal names the missing rule. The first word of `what` is the verb."""
        try:
            return self.get(path, query)
        except KubeError as error:
            if error.status == HTTPStatus.FORBIDDEN:
                denied = self._denial(what, resource, what.partition(" ")[0])
                raise KubeError(denied, error.status) from error
            raise

    def _denial(self, what: str, resource: Resource, *verbs: str) -> str:
        rule = resource.rule(*verbs, namespace=self.namespace)
        return f"context {self.context}: may not {what}: {rule}"


def _object(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}

"""One Kubernetes API, reached through a kubeconfig context: the only door to the `kubernetes` package.

Answers are raw JSON: fields that a client library does not know do no harm. Importing this takes half a second, so only
what really talks to Kubernetes may.
"""

import base64
import binascii
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import kubernetes.client
import kubernetes.config
import urllib3
import websocket
from kubernetes.client.rest import RESTClientObject
from kubernetes.config.kube_config import KubeConfigMerger
from kubernetes.stream.ws_client import create_websocket

from meshobs.collector import kube
from meshobs.collector.kube import Json, KubeState, at, items, text
from meshobs.collector.portforward import Forward, RelayService, Tunnel, container_port, reachable, relay_service
from meshobs.errors import MeshobsError

RELAY = "hubble-relay"
_CONFIG = "cilium-config"
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 30.0
# Bytes of a foreign message that are shown.
_SHOWN = 256


class KubeError(MeshobsError):
    """Kubernetes cannot be reached, or does not give what is needed.

    Attributes:
        status: HTTP status of the answer; 0 if there was none.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Resource:
    """A kind of object, as the API and its access rules name it."""

    group: str
    version: str
    plural: str
    kind: str = ""

    def path(self, namespace: str = "", name: str = "") -> str:
        """Return the URL's path of all objects, those of a namespace, or one of them."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return (
            root + (f"/namespaces/{namespace}" if namespace else "") + f"/{self.plural}" + (f"/{name}" if name else "")
        )

    def rule(self, *verbs: str, namespace: str = "") -> str:
        """Return the access rule to ask an administrator for."""
        where = f" in namespace {namespace}" if namespace else ""
        named = ", ".join(f'"{verb}"' for verb in verbs)
        return (
            f'grant{where} rule apiGroups ["{self.group}"] resources ["{self.plural}"] verbs [{named}] (docs/rbac.yaml)'
        )


SERVICES = Resource("", "v1", "services", "Service")
_CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
_SECRETS = Resource("", "v1", "secrets", "Secret")
_PODS = Resource("", "v1", "pods", "Pod")
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


class Cluster:
    """One Kubernetes API.

    Args:
        context: of the kubeconfig; empty for its current one.
        namespace: where Cilium runs.
        kubeconfig: None for those that KUBECONFIG names, else ~/.kube/config.

    Attributes:
        server: host:port of the API server.

    Raises:
        KubeError: no kubeconfig, no such context, API unreachable, or it does not accept the credentials.
    """

    def __init__(self, context: str, namespace: str = "kube-system", kubeconfig: Path | None = None) -> None:
        self._paths = _paths(kubeconfig)
        known = contexts(kubeconfig)
        if context not in known and (context or not known):
            raise KubeError(
                f"no context {context or '(none is current)'} in {self._paths}: known are {', '.join(known) or 'none'};"
                " choose one with --context"
            )
        self.context = context or known[0]
        self.namespace = namespace
        self._lock = threading.Lock()
        self._load()
        self.get("/version")

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
                    " name Cilium's namespace with --kube-namespace"
                ),
            }
            if error.status not in problems:
                raise
            return ClusterInfo("", None, {}, problems[HTTPStatus(error.status)])
        data = at(found, "data")
        settings = {key: str(value) for key, value in data.items()} if isinstance(data, Mapping) else {}
        number = settings.get("cluster-id", "")
        name = settings.get("cluster-name", "")
        state = kube.state_of({**_object(found), "kind": "ConfigMap"}, name)
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

    def forward(self, relay: RelayService, say: Callable[[str], None] = lambda _text: None) -> Forward:
        """Listen on a free local port and carry each connection to a running Pod behind the service.

        Args:
            relay: from `relay`.
            say: told of troubles, from threads.
        """
        return Forward(lambda turn: self._tunnel(relay, turn), say)

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

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        """Return an answer's JSON.

        Raises:
            KubeError: as `open`; or it is no JSON.
        """
        answer = self.open(path, query)
        try:
            with self.translated():
                body = answer.read()
        finally:
            answer.release_conn()
        try:
            value: Json = json.loads(body)
        except ValueError as error:
            raise KubeError(
                f"context {self.context}: {self._url} does not speak JSON: is it a Kubernetes API?"
            ) from error
        return value

    def open(
        self, path: str, query: Mapping[str, str] | None = None, read_seconds: float = _READ_SECONDS
    ) -> urllib3.BaseHTTPResponse:
        """Begin a GET; whoever reads the answer closes it.

        Args:
            path: from the server's root.
            query: parameters of the URL.
            read_seconds: how long to wait for each piece.

        Raises:
            KubeError: there is no answer, or one that refuses.
        """
        headers = {"accept": "application/json", "user-agent": "meshobs", **self._headers()}
        timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=read_seconds)
        url = f"{self._url}{path}" + (f"?{urlencode(query)}" if query else "")
        with self.translated():
            answer: urllib3.BaseHTTPResponse = self._rest.pool_manager.request(
                "GET", url, headers=headers, timeout=timeout, preload_content=False, retries=False
            )
        if answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return answer
        try:
            with self.translated():
                body = answer.read()
        finally:
            answer.close()
        raise self._refused(answer.status, body)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what can go wrong on the way into a KubeError."""
        try:
            yield
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise KubeError(self._unreachable(error)) from error

    def _load(self) -> None:
        """Read the kubeconfig, anew after the credentials were refused: a fresh login may have changed it."""
        configuration = kubernetes.client.Configuration()
        try:
            kubernetes.config.load_kube_config(self._paths, self.context, configuration)  # type: ignore[no-untyped-call]
        except Exception as error:
            raise KubeError(
                f"context {self.context} of {self._paths} cannot be used ({_short(str(error))}):"
                f" `kubectl --context {self.context} version` must work"
            ) from error
        configuration.connection_pool_maxsize = 16  # a watch holds one
        configuration.socket_options = _keep_alive()
        if not configuration.verify_ssl:  # the kubeconfig says so
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        parts = urlsplit(str(configuration.host))
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        self.server = f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        self._url = str(configuration.host).rstrip("/")
        self._configuration = configuration
        self._rest = RESTClientObject(configuration)

    def _headers(self) -> dict[str, str]:
        """Return what proves who asks; the client library renews it where it expires."""
        with self._lock:
            bearer = self._configuration.auth_settings().get("BearerToken")
        return {"authorization": str(bearer["value"])} if bearer and bearer["value"] else {}

    def _tunnel(self, relay: RelayService, turn: int) -> Tunnel:
        """Open a tunnel to one of the Pods behind a Service; `turn` chooses which."""
        pods = self._pods(relay)
        pod = pods[turn % len(pods)]
        port, name = container_port(pod, relay.target), text(pod, "metadata", "name")
        if port is None:
            raise KubeError(f"context {self.context}: Pod {name} has no port {relay.target}: is it Hubble Relay's?")
        to = f"context {self.context}: port-forward to Pod {relay.namespace}/{name} port {port}"
        url = self._url.replace("http", "ws", 1) + f"{_PODS.path(relay.namespace, name)}/portforward?ports={port}"
        headers = {"sec-websocket-protocol": "v4.channel.k8s.io", **self._headers()}
        try:
            opened = create_websocket(self._configuration, url, headers)  # type: ignore[no-untyped-call]
            return Tunnel(opened, to)
        except websocket.WebSocketBadStatusException as error:
            if error.status_code == HTTPStatus.FORBIDDEN:
                denied = self._denied(f"forward ports of Pod {name}", _PORT_FORWARD, "create", "get")
                raise KubeError(denied, error.status_code) from error
            words = _words_of(error.resp_body or b"") or str(error)
            raise KubeError(f"{to} is refused ({_short(words)})", error.status_code) from error
        except (websocket.WebSocketException, OSError) as error:
            raise KubeError(f"{to} failed ({_short(str(error))})") from error

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
            return f"{start} it is in {places[0]}, add --kube-namespace {places[0]}"
        return (
            f"{start} switch it on with `cilium hubble enable --context {self.context}`,"
            " or name Cilium's namespace with --kube-namespace"
        )

    def _get(self, path: str, what: str, resource: Resource, query: Mapping[str, str] | None = None) -> Json:
        """Return an answer's JSON; a refusal names the missing rule. The first word of `what` is the verb."""
        try:
            return self.get(path, query)
        except KubeError as error:
            if error.status == HTTPStatus.FORBIDDEN:
                denied = self._denied(what, resource, what.partition(" ")[0])
                raise KubeError(denied, error.status) from error
            raise

    def _denied(self, what: str, resource: Resource, *verbs: str) -> str:
        rule = resource.rule(*verbs, namespace=self.namespace)
        return f"context {self.context}: may not {what}: {rule}"

    def _refused(self, status: int, body: bytes) -> KubeError:
        """Return what to say of an answer that refuses."""
        words = _short(_words_of(body) or f"HTTP {status}")
        if status == HTTPStatus.UNAUTHORIZED or 'User "system:anonymous"' in words:
            self._load()
            return KubeError(
                f"context {self.context}: the API at {self._url} does not accept the kubeconfig's credentials,"
                f" or they expired: log in again until `kubectl --context {self.context} get nodes` works",
                HTTPStatus.UNAUTHORIZED,
            )
        return KubeError(f"context {self.context}: the API at {self._url} refuses: {words}", status)

    def _unreachable(self, error: Exception) -> str:
        reason = _reason(error)
        start = f"context {self.context}: the Kubernetes API at {self._url}"
        if isinstance(error, urllib3.exceptions.SSLError):
            return (
                f"{start} cannot be trusted ({reason}): the kubeconfig may belong to an earlier cluster of that name,"
                " get a fresh one"
            )
        return (
            f"{start} cannot be reached ({reason}): is the cluster running?"
            f" `kubectl --context {self.context} version` must work"
        )


def contexts(kubeconfig: Path | None = None) -> list[str]:
    """Return the contexts of a kubeconfig, the current one first.

    Raises:
        KubeError: there is no kubeconfig, or it cannot be read.
    """
    paths = _paths(kubeconfig)
    try:
        config = KubeConfigMerger(paths).config  # type: ignore[no-untyped-call]
        names = [str(one["name"]) for one in config.safe_get("contexts") or []] if config else []
        current = config.safe_get("current-context") if config else None
    except Exception as error:
        raise KubeError(f"kubeconfig {paths} cannot be read ({_short(str(error))})") from error
    if config is None:
        raise KubeError(f"no kubeconfig at {paths}: name one with KUBECONFIG, or --kubeconfig")
    return sorted(names, key=lambda name: name != current)


def _paths(kubeconfig: Path | None) -> str:
    return str(kubeconfig or os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")


def _object(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _words_of(body: bytes) -> str:
    """Return the message of a Status object, else the text as it is."""
    return text(kube.parsed(body), "message") or body.decode(errors="replace")


def _short(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= _SHOWN else line[:_SHOWN] + "..."


def _reason(error: BaseException) -> str:
    """Return what the operating system or OpenSSL says at the bottom of a chain of errors."""
    below = error.__cause__ or error.__context__
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return _reason(below) if below else _short(str(error))


def _keep_alive() -> list[tuple[int, int, int]]:
    """Return socket options that find a dead peer within a minute."""
    wanted = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
    known = [
        (socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in wanted.items() if hasattr(socket, name)
    ]
    return [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *known]

"""One Kubernetes API, reached through a kubeconfig context: the only door to the `kubernetes` package.

How to ask it and what went wrong is here; what is asked of a cluster with Cilium is in `cluster`.

Answers are raw JSON: fields that a client library does not know do no harm. Importing this takes half a second, so only
what really talks to Kubernetes may.
"""

import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Self
from urllib.parse import urlencode, urlsplit

import kubernetes.client
import kubernetes.config
import urllib3
import websocket
from kubernetes.client.rest import RESTClientObject
from kubernetes.config.kube_config import KubeConfigMerger
from kubernetes.stream.ws_client import create_websocket

from meshobs.collector.kube import document
from meshobs.collector.kube.document import Json, text
from meshobs.errors import MeshobsError

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


class KubeClient:
    """One Kubernetes API.

    Args:
        context: of the kubeconfig; empty for its current one.
        kubeconfig: None for those that KUBECONFIG names, else ~/.kube/config.

    Attributes:
        server: host:port of the API server, once connected.
    """

    def __init__(self, context: str, kubeconfig: Path | None = None) -> None:
        self.context = context
        self._kubeconfig = kubeconfig
        self._paths = _paths(kubeconfig)
        self._lock = threading.Lock()

    def connect(self) -> Self:
        """Read the kubeconfig and see that the API answers; before anything else.

        Raises:
            KubeError: no kubeconfig, no such context, API unreachable, or it does not accept the credentials.
        """
        context, known = self.context, contexts(self._kubeconfig)
        if context not in known and (context or not known):
            raise KubeError(
                f"no context {context or '(none is current)'} in {self._paths}: known are {', '.join(known) or 'none'};"
                " choose one with `contexts`"
            )
        self.context = context or known[0]
        self._load()
        self.get("/version")
        return self

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        """Return an answer's JSON.

        Raises:
            KubeError: as `open`; or it is no JSON.
        """
        answer = self.open(path, query)
        try:
            with self.translate_errors():
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
        with self.translate_errors():
            answer: urllib3.BaseHTTPResponse = self._rest.pool_manager.request(
                "GET", url, headers=headers, timeout=timeout, preload_content=False, retries=False
            )
        if answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return answer
        try:
            with self.translate_errors():
                body = answer.read()
        finally:
            answer.close()
        raise self._refusal(answer.status, body)

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Turn what can go wrong on the way into a KubeError."""
        try:
            yield
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise KubeError(self._unreachable(error)) from error

    def websocket(self, path: str, protocol: str) -> websocket.WebSocket:
        """Open a WebSocket.

        Args:
            path: from the server's root.
            protocol: the subprotocol to speak.

        Raises:
            KubeError: there is none; the message is the other side's words, and the status its answer's.
        """
        url = self._url.replace("http", "ws", 1) + path
        headers = {"sec-websocket-protocol": protocol, **self._headers()}
        try:
            opened: websocket.WebSocket = create_websocket(self._configuration, url, headers)  # type: ignore[no-untyped-call]
        except websocket.WebSocketBadStatusException as error:
            words = _words_of(error.resp_body or b"") or str(error)
            raise KubeError(_short(words), error.status_code) from error
        except (websocket.WebSocketException, OSError) as error:
            raise KubeError(_short(str(error))) from error
        return opened

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

    def _refusal(self, status: int, body: bytes) -> KubeError:
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
        raise KubeError(
            f"kubeconfig {paths} cannot be read ({_short(str(error))}): `kubectl config view` must work with it,"
            " or name another with KUBECONFIG, or `kubeconfig`"
        ) from error
    if config is None:
        raise KubeError(f"no kubeconfig at {paths}: name one with KUBECONFIG, or `kubeconfig`")
    return sorted(names, key=lambda name: name != current)


def _paths(kubeconfig: Path | None) -> str:
    return str(kubeconfig or os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")


def _words_of(body: bytes) -> str:
    """Return the message of a Status object, else the text as it is."""
    return text(document.parse(body), "message") or body.decode(errors="replace")


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

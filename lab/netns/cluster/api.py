"""A cluster's API as the lab's own parts use it: list, watch, create, change, delete, in JSON over TLS."""

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any

from meshobs.errors import MeshobsError
from meshobs.lab.netns.host.pki import Pair

Object = Mapping[str, Any]
_SECONDS = 20.0
# A watch ends by itself after this time, and is begun again.
WATCH_SECONDS = 300


class ApiError(MeshobsError):
    """The API refuses or does not answer.

    Attributes:
        status: of HTTP; 0 where there was no answer.
    """

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class NetnsKubeClient:
    """One cluster's API.

    Args:
        name: of the cluster.
        port: on loopback.
        pair: the client's certificate.
    """

    def __init__(self, name: str, port: int, pair: Pair) -> None:
        self.name = name
        self.port = port
        self._context = ssl.create_default_context(cafile=str(pair.ca))
        self._context.load_cert_chain(pair.cert, pair.key)

    def get(self, path: str) -> Object | None:
        """Return an object or a list, None if it is not there."""
        found: Object | None = self._json("GET", path, missing=True)
        return found

    def items(self, path: str) -> tuple[list[Object], str]:
        """Return the objects of a list, and its version, from which a watch can go on."""
        found = self._json("GET", path) or {}
        return found.get("items") or [], found["metadata"]["resourceVersion"]

    def create(self, path: str, item: Object) -> None:
        """Make an object; one of its name that is there stays."""
        try:
            self._json("POST", path, item)
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise

    def patch(self, path: str, changes: Object) -> None:
        """Merge changes into an object; one that is not there any more is no mistake."""
        self._json("PATCH", path, changes, kind="application/merge-patch+json", missing=True)

    def delete(self, path: str, options: Object | None = None) -> None:
        """Delete an object; one that is not there is no mistake."""
        self._json("DELETE", path, options or {}, missing=True)

    def watch(self, path: str, version: str) -> Iterator[tuple[str, Object]]:
        """Return type and object of each event after a version, until the API ends the watch.

        Raises:
            KubeError: the version is too old, or the API does not answer any more.
        """
        joint = "&" if "?" in path else "?"
        query = f"watch=1&resourceVersion={version}&timeoutSeconds={WATCH_SECONDS}&allowWatchBookmarks=true"
        try:
            with closing(self._connection(WATCH_SECONDS + _SECONDS)) as connection:
                connection.request("GET", f"{path}{joint}{query}", headers={"Accept": "application/json"})
                answer = connection.getresponse()
                if answer.status != HTTPStatus.OK:
                    raise ApiError(f"{self.name}: watch {path}: {answer.reason}", answer.status)
                while line := answer.readline():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise ApiError(f"{self.name}: watch {path}: {event['object']}", HTTPStatus.GONE)
                    yield event["type"], event["object"]
        except (OSError, HTTPException, ValueError) as error:
            raise ApiError(f"{self.name}: watch {path}: {error or type(error).__name__}") from error

    def _json(
        self, method: str, path: str, body: Object | None = None, kind: str = "application/json", *,
        missing: bool = False,
    ) -> Any:  # fmt: skip  # noqa: ANN401 - any JSON
        try:
            with closing(self._connection(_SECONDS)) as connection:
                content = None if body is None else json.dumps(body)
                connection.request(method, path, content, {"Content-Type": kind, "Accept": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
        except (OSError, HTTPException) as error:
            raise ApiError(f"{self.name}: the API does not answer: {error or type(error).__name__}") from error
        if answer.status == HTTPStatus.NOT_FOUND and missing:
            return None
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise ApiError(f"{self.name}: {method} {path}: {text[:300].decode(errors='replace')}", answer.status)
        return json.loads(text) if text else None

    def _connection(self, seconds: float) -> HTTPConnection:
        return HTTPSConnection("127.0.0.1", self.port, context=self._context, timeout=seconds)

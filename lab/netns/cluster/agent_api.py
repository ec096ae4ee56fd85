"""What an agent says of itself, by its own API on a Unix socket."""

import json
import socket
from collections.abc import Mapping
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

_SECONDS = 10.0


def is_ready(state: Path) -> bool:
    """Tell whether the agent whose state folder this is does its work."""
    answer = status(state)
    return _state(answer, "cilium") == "Ok" and _state(answer, "hubble") == "Ok"


def has_joined(state: Path, others: int) -> bool:
    """Tell whether it has all that so many other clusters' stores hold."""
    clusters = (status(state).get("cluster-mesh") or {}).get("clusters") or []
    fit = [one for one in clusters if one.get("ready") and all((one.get("synced") or {"": False}).values())]
    return len(fit) >= others


def status(state: Path) -> Mapping[str, Any]:
    """Return its status, empty where it does not answer."""
    found: Mapping[str, Any] = _get(state, "/v1/healthz") or {}
    return found


def policy_revision(state: Path) -> int:
    """Return the revision of its policies; -1 where it does not answer."""
    return int((_get(state, "/v1/policy") or {"revision": -1})["revision"])


def enforced_revision(state: Path) -> int:
    """Return the oldest revision that any of its endpoints enforces; -1 where it does not answer."""
    found = _get(state, "/v1/endpoint")
    if found is None:
        return -1
    answer = [((one.get("status") or {}).get("policy") or {}).get("realized") or {} for one in found]
    return min((int(one.get("policy-revision") or 0) for one in answer), default=2**31)


def _get(state: Path, path: str) -> Any:  # noqa: ANN401 - any JSON
    connection = HTTPConnection("localhost", timeout=_SECONDS)
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(_SECONDS)
    with closing(made):
        try:
            made.connect(str(state / "cilium.sock"))
            connection.sock = made
            connection.request("GET", path)
            answer = connection.getresponse()
            return json.loads(answer.read()) if answer.status == HTTPStatus.OK else None
        except (OSError, HTTPException, ValueError):
            return None


def _state(status: Mapping[str, Any], part: str) -> str:
    return str((status.get(part) or {}).get("state") or "")

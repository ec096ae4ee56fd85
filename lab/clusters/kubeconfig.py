"""Writes the kubeconfig that leads to a lab's clusters."""

import json
from collections.abc import Mapping
from pathlib import Path

from meshobs import private


def text(clusters: Mapping[str, tuple[str, str]]) -> str:
    """Return a kubeconfig, as JSON, which is YAML too.

    Args:
        clusters: context -> URL of the server and token. The first is the current context. A server without TLS is
            one of the sim, which takes the token as the first part of a path too: kubectl sends no bearer token there.
    """
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": next(iter(clusters), ""),
        "clusters": [{"name": name, "cluster": {"server": _url(*one)}} for name, one in clusters.items()],
        "users": [{"name": name, "user": {"token": token}} for name, (_, token) in clusters.items()],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in clusters],
    }
    return json.dumps(config, indent=2) + "\n"


def write(path: Path, clusters: Mapping[str, tuple[str, str]]) -> None:
    """Write a kubeconfig that only its owner can read, in the place of one that is there.

    Args:
        path: where to.
        clusters: context -> URL of the server and token. The first is the current context.

    Raises:
        OSError: it cannot be written.
    """
    private.write(path, text(clusters).encode())


def _url(server: str, token: str) -> str:
    return f"{server}/{token}" if server.startswith("http://") else server

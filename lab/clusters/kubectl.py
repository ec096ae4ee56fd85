"""The only door to kubectl: what drivers with real clusters do to them, by the program that users know."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from meshobs.lab.clusters import manifests
from meshobs.lab.clusters.manifests import Manifest

# Runs a command; what it reads, and how many seconds it may take. Raises MeshobsError where it fails.
Run = Callable[[Sequence[str], str | None, float], str]
_SECONDS = 60.0
# Pulling an image on a slow line.
_READY_SECONDS = 300.0


class Kubectl:
    """One cluster, by its context.

    Args:
        context: of the lab's kubeconfig.
        run: runs a command with that kubeconfig.
        program: and what else comes before a command's own words.
    """

    def __init__(self, context: str, run: Run, program: Sequence[str] = ("kubectl",)) -> None:
        self.context = context
        self._run = run
        self._program = program

    def command(self, *words: str) -> tuple[str, ...]:
        """Return a whole command line."""
        return (*self._program, "--context", self.context, *words)

    def run(self, *words: str, given: str | None = None, seconds: float = _SECONDS) -> str:
        """Run a command, return what it prints.

        Raises:
            MeshobsError: it fails.
        """
        return self._run(self.command(*words), given, seconds)

    def items(self, resource: str, namespace: str = "") -> list[Mapping[str, Any]]:
        """Return all objects of a resource, of one namespace or of all."""
        where = ("-n", namespace) if namespace else ("-A",)
        found: list[Mapping[str, Any]] = json.loads(self.run("get", resource, *where, "-o", "json"))["items"]
        return found

    def apply(self, objects: Sequence[Manifest]) -> None:
        """Make objects, or make those that are there so, and wait until their pods are ready."""
        if not objects:
            return
        self.run("apply", "-f", "-", given=manifests.text(objects))
        self.ready(objects)

    def ready(self, objects: Sequence[Manifest]) -> None:
        """Wait until the pods of objects are ready."""
        for words in waits(objects, _READY_SECONDS):
            self.run(*words, seconds=_READY_SECONDS + 10)

    def delete(self, objects: Sequence[Manifest]) -> None:
        """Remove objects and wait until they are gone; those that are not there do no harm. Namespaces stay."""
        gone = [one for one in objects if one["kind"] != "Namespace"]
        if gone:
            given = manifests.text(gone)
            self.run("delete", "-f", "-", "--ignore-not-found", "--timeout=120s", given=given, seconds=130)

    def annotate(self, namespace: str, service: str, changes: Mapping[str, str | None]) -> None:
        """Set annotations of a Service, or remove those that are None."""
        settings = [f"{key}-" if value is None else f"{key}={value}" for key, value in changes.items()]
        self.run("annotate", "-n", namespace, "service", service, "--overwrite", *settings)

    def scale(self, namespace: str, deployment: str, replicas: int) -> None:
        """Give a Deployment so many pods and wait until they are ready, or gone."""
        name = f"deployment/{deployment}"
        self.run("scale", "-n", namespace, name, f"--replicas={replicas}")
        self.run("rollout", "status", "-n", namespace, name, "--timeout=180s", seconds=190)


def waits(objects: Sequence[Manifest], seconds: float) -> Iterator[tuple[str, ...]]:
    """Return kubectl's words that wait until the pods of objects are ready, so many seconds each."""
    for one in objects:
        name, where = one["metadata"]["name"], ("-n", str(one["metadata"].get("namespace", "default")))
        if one["kind"] == "Pod":
            yield (*where, "wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={seconds:g}s")
        elif one["kind"] == "Deployment":
            yield (*where, "rollout", "status", f"deployment/{name}", f"--timeout={seconds:g}s")

"""`meshobs lab annotate` and `scale`: settings of Services and sizes of workloads."""

from collections.abc import Sequence

import click

from meshobs.cli.terminal.output import remark
from meshobs.errors import InputError
from meshobs.jobs import labs
from meshobs.lab import state
from meshobs.lab.mesh.model import ANNOTATIONS


@click.command("annotate")
@click.argument("service")
@click.argument("settings", nargs=-1, required=True, metavar="KEY=VALUE...")
@click.option("--cluster", "clusters", multiple=True, help="Only there; repeatable.")
def annotate(service: str, settings: Sequence[str], clusters: Sequence[str]) -> None:
    """Set affinity, shared or global of a SERVICE ([NAMESPACE/]NAME); KEY- removes one, as kubectl does."""
    changes: dict[str, str | None] = {}
    for text in settings:
        key, separator, value = text.partition("=")
        if key.rstrip("-") not in ANNOTATIONS or (not separator and not key.endswith("-")):
            raise InputError(
                f"{text!r} is no setting: {', '.join(f'{name}=VALUE' for name in ANNOTATIONS)}, or KEY- to remove it"
            )
        changes[ANNOTATIONS[key.rstrip("-")]] = value if separator else None
    found = state.require_running()
    lab = labs.attach(found)
    namespace, name = _split_name(service)
    for cluster in labs.clusters(found, clusters):
        lab.annotate(cluster, namespace, name, changes)
        remark(f"{cluster}: {namespace}/{name} {' '.join(settings)}")


@click.command("scale")
@click.argument("workload")
@click.argument("replicas", type=click.IntRange(0))
@click.option("--cluster", "clusters", multiple=True, help="Only there; repeatable.")
def scale(workload: str, replicas: int, clusters: Sequence[str]) -> None:
    """Give a WORKLOAD ([NAMESPACE/]NAME) so many pods."""
    found = state.require_running()
    lab = labs.attach(found)
    namespace, name = _split_name(workload)
    for cluster in labs.clusters(found, clusters):
        lab.scale(cluster, namespace, name, replicas)
        remark(f"{cluster}: {namespace}/{name} has {replicas} pods")


def _split_name(text: str) -> tuple[str, str]:
    """Return namespace and name of [NAMESPACE/]NAME."""
    namespace, _, name = text.rpartition("/")
    return namespace or "default", name

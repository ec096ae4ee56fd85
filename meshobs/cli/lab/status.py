"""`meshobs lab status`, `routes`, `env` and `versions`: what is up, and how else to reach it."""

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from meshobs.cli.terminal.output import TABLE_OR_JSON, format_option, print_table, remark
from meshobs.errors import MeshobsError
from meshobs.jobs import labs
from meshobs.lab import state
from meshobs.lab.mesh import versions


@click.command("env")
def env() -> None:
    """Print what a shell needs for kubectl, cilium and hubble: eval "$(meshobs lab env)"."""
    found = state.read()
    if not found:
        raise MeshobsError("no lab is up: meshobs lab up")
    click.echo(f"export KUBECONFIG={shlex.quote(found.kubeconfig)}")
    click.echo(f"# contexts: {', '.join(one.context for one in found.clusters)}")


@click.command("status")
@format_option(forms=TABLE_OR_JSON)
def status(form: str) -> None:
    """Tell what is up: clusters, nodes, services, pods, faults."""
    found = state.require_running()
    answer = labs.attach(found).status()
    if form == "json":
        clusters = [asdict(one) for one in found.clusters]
        click.echo(
            json.dumps(
                {
                    "driver": found.driver,
                    "folder": found.folder,
                    "kubeconfig": found.kubeconfig,
                    "clusters": clusters,
                    **answer,
                }
            )
        )
        return
    up_for = int(time.time() - found.started / 1e9)
    remark(f"lab by driver {found.driver}, up for {up_for} s, files in {found.folder}")
    remark(f"for kubectl: export KUBECONFIG={found.kubeconfig}")
    print_table(
        ["cluster", "relay", "context"],
        [[one.name, one.relay or "by port-forward", one.context] for one in found.clusters],
        set(),
        "clusters",
    )
    _table("nodes", answer["nodes"])
    _table("services", [_with_ports(one) for one in answer["services"]])
    _table("pods", answer["pods"])
    if answer["paused"]:
        remark(f"background traffic of {answer['paused']} clients is paused (meshobs lab background RATE)")
    if answer.get("unknown"):
        remark(f"the API of {', '.join(answer['unknown'])} is kept away: its services and pods are not known")
    if answer["faults"]:
        remark(f"faults that are on: {', '.join(answer['faults'])}")


@click.command("routes")
@format_option(forms=TABLE_OR_JSON)
def routes(form: str) -> None:
    """Show each node's routes to pods before the mesh was joined, and what joining added (S6, docs/walkthrough.md)."""
    before, now = labs.attach(state.require_running()).routes()
    if form == "json":
        click.echo(json.dumps({"before": before, "now": now}))
        return
    for node, lines in now.items():
        click.echo(node)
        for line in lines:
            click.echo(f"  {'  ' if line in before[node] else '+ '}{line}")


@click.command("versions")
@format_option(forms=TABLE_OR_JSON)
def list_versions(form: str) -> None:
    """List the versions that a lab stands up."""
    found = {name.lower().replace("_", " "): value for name, value in vars(versions).items() if name.isupper()}
    found["built"] = ", ".join(versions.BUILT)
    rows = [["cilium, by lab build" if name == "built" else name, value] for name, value in found.items()]
    if form == "json":
        click.echo(json.dumps(dict(rows)))
        return
    print_table(["what", "version"], rows, set())


def _table(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    if rows:
        headings = list(rows[0])
        cells = [[_cell(row[name]) for name in headings] for row in rows]
        print_table(headings, cells, {name for name in headings if isinstance(rows[0][name], int)}, title)


def _with_ports(service: Mapping[str, Any]) -> Mapping[str, object]:
    """Return a Service's row with all its ports, as kubectl writes them."""
    ports = [
        "{port}:{node_port}/{protocol}".format_map(one) if one["node_port"] else "{port}/{protocol}".format_map(one)
        for one in service["ports"]
    ]
    row = {key: value for key, value in service.items() if key not in ("port", "node_port", "annotations")}
    return {**row, "ports": ",".join(ports), "annotations": service["annotations"]}


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={one}" for key, one in value.items())
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)

"""The walkthrough S1-S10 on kind as a list of actions: one source for `lab plan` and `lab up`. Pure.

The order is the one that works (traps T1-T9 of real runs): nothing but the commands that wait waits, the CA must be one
before certificates are signed, agents of both clusters begin anew before Relays can serve.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from meshobs.lab.clusters import manifests
from meshobs.lab.clusters.kubectl import waits
from meshobs.lab.kind import configs, udp
from meshobs.lab.kind.configs import context
from meshobs.lab.kind.options import Options
from meshobs.lab.mesh.model import Mesh

Words = tuple[str, ...]
# Longest time of each, seconds; recorded runs on two loaded cores needed up to a fifth of it, when images had to be
# pulled up to half.
_CREATE, _CHANGE, _WAIT, _SHORT = 900.0, 300.0, 900.0, 60.0
_SYSTEM = ("-n", "kube-system")
CA = "cilium-ca"


@dataclass(frozen=True)
class Action:
    """One step.

    Attributes:
        key: its name in the record of what is done.
        title: for people.
        source: number in the walkthrough.
        how: `run`, or what is more to it than running: create, wait, share-ca, routes, relay, proof.
        clusters: whose it is.
        commands: what is run, in this order.
        seconds: the longest that it may take.
        files: written before: name in the lab's folder -> text.
        undo: commands that clear away what an attempt that was broken off has left; they may fail.
    """

    key: str
    title: str
    source: str
    how: str
    clusters: Sequence[str]
    commands: Sequence[Words]
    seconds: float
    files: Sequence[tuple[str, str]] = ()
    undo: Sequence[Words] = ()


def actions(mesh: Mesh, options: Options, folder: Path) -> list[Action]:
    """Return all steps in order; commands name files of a folder."""
    return [
        *_create(mesh, options, folder),
        *_install(mesh, options),
        *_join(mesh, options),
        *_observe(mesh, options),
        *_deploy(mesh, folder),
    ]


def cilium(cluster: str, *words: str) -> Words:
    """Return a command of the cilium CLI for a cluster: its own words, then `--context`, then flags."""
    flag = next((index for index, word in enumerate(words) if word.startswith("-")), len(words))
    return ("cilium", *words[:flag], "--context", context(cluster), *words[flag:])


def kubectl(cluster: str, *words: str) -> Words:
    """Return a command of kubectl for a cluster."""
    return ("kubectl", "--context", context(cluster), *words)


def _create(mesh: Mesh, options: Options, folder: Path) -> Iterator[Action]:
    for one in mesh.clusters:
        name = f"kind-{one.name}.yaml"
        yield Action(
            f"create {one.name}",
            f"create kind cluster {one.name}, {len(one.nodes)} nodes of {options.node_image}",
            "S1",
            "create",
            (one.name,),
            (("kind", "create", "cluster", "--config", str(folder / name)),),
            _CREATE,
            files=((name, manifests.text([configs.cluster_file(one, options)])),),
            undo=(("kind", "delete", "cluster", "--name", one.name),),
        )


def _install(mesh: Mesh, options: Options) -> Iterator[Action]:
    for one in mesh.clusters:
        values = configs.install_values(mesh, one, options)
        yield Action(
            f"install {one.name}",
            f"install Cilium {one.cilium} on {one.name}",
            "S3",
            "run",
            (one.name,),
            (cilium(one.name, "install", "--version", one.cilium, *_chart(options), *_sets(values)),),
            _CHANGE,
            undo=(cilium(one.name, "uninstall", "--wait"),),
        )
    yield from (_ready(one.name, "install", "S3") for one in mesh.clusters)
    first, *others = (one.name for one in mesh.clusters)
    for other in others:
        yield Action(
            f"share-ca {other}",
            f"give {other} the CA of {first}",
            "S4",
            "share-ca",
            (first, other),
            (
                kubectl(first, *_SYSTEM, "get", "secret", CA, "-o", "json"),
                kubectl(other, *_SYSTEM, "delete", "secret", CA, "--ignore-not-found"),
                kubectl(other, *_SYSTEM, "create", "-f", "-"),
            ),
            _SHORT,
        )


def _join(mesh: Mesh, options: Options) -> Iterator[Action]:
    names = [one.name for one in mesh.clusters]
    yield _routes(mesh, options, "before")
    if len(names) > 1:
        for name in names:
            words = ("clustermesh", "enable", "--service-type", "NodePort", "--enable-kvstoremesh=false")
            yield Action(
                f"enable {name}", f"enable the mesh on {name}", "S5", "run", (name,), (cilium(name, *words),), _CHANGE,
                undo=(_unlock(name),),
            )  # fmt: skip
        yield from (_mesh_ready(name, "enable") for name in names)
        for one, other in combinations(names, 2):
            connect = ("clustermesh", "connect", "--destination-context", context(other))
            yield Action(
                f"connect {one} {other}", f"connect {one} and {other}", "S5", "run", (one, other),
                (cilium(one, *connect),), _CHANGE,
                undo=(_unlock(one), _unlock(other)),
            )  # fmt: skip
        yield from (_mesh_ready(name, "connect") for name in names)
    yield _routes(mesh, options, "after")


def _observe(mesh: Mesh, options: Options) -> Iterator[Action]:
    for one in mesh.clusters:
        upgrade = (
            "upgrade", "--version", one.cilium, *_chart(options), "--reuse-values",
            *_sets(configs.hubble_values(one, options)),
        )  # fmt: skip
        yield Action(
            f"hubble {one.name}", f"enable Hubble, Relay and UI on {one.name}", "S7", "run", (one.name,),
            (cilium(one.name, "hubble", "enable", "--ui"), cilium(one.name, *upgrade)), 2 * _CHANGE,
            undo=(_unlock(one.name),),
        )  # fmt: skip
    for one in mesh.clusters:
        words = (*_SYSTEM, "rollout", "restart", "daemonset/cilium")
        yield Action(
            f"restart {one.name}", f"restart the agents of {one.name}", "S7", "run", (one.name,),
            (kubectl(one.name, *words),), _SHORT,
        )  # fmt: skip
    for one in mesh.clusters:
        wait = (*_SYSTEM, "rollout", "status", "daemonset/cilium", f"--timeout={_WAIT:g}s")
        yield Action(
            f"rollout {one.name}", f"wait for the agents of {one.name}", "S7", "wait", (one.name,),
            (kubectl(one.name, *wait),), _WAIT,
        )  # fmt: skip
    yield from (_ready(one.name, "hubble", "S7") for one in mesh.clusters)


def _deploy(mesh: Mesh, folder: Path) -> Iterator[Action]:
    for one in mesh.clusters:
        name = f"pods-{one.name}.yaml"
        objects = udp.add_servers(manifests.of_cluster(mesh, one.name), mesh)
        if not objects:
            continue
        ready = (kubectl(one.name, *words) for words in waits(objects, _CHANGE))
        yield Action(
            f"workloads {one.name}", f"deploy the workloads on {one.name}", "S8, S10", "run", (one.name,),
            (kubectl(one.name, "apply", "-f", str(folder / name)), *ready), _CHANGE,
            files=((name, manifests.text(objects)),),
        )  # fmt: skip
    for one in mesh.clusters:
        yield Action(
            f"relay {one.name}", f"wait until the Relay of {one.name} serves all {len(mesh.nodes)} nodes", "S7",
            "relay", (one.name,), (), _WAIT,
        )  # fmt: skip
    if len(mesh.clusters) > 1:
        yield Action(
            "proof", "let each cluster's client call a pod of each other cluster", "S8", "proof",
            tuple(one.name for one in mesh.clusters), (), _CHANGE,
        )  # fmt: skip


def _ready(cluster: str, after: str, source: str) -> Action:
    words = ("status", "--wait", "--interactive=false", "--wait-duration", f"{_WAIT / 60:g}m")
    return Action(
        f"status {after} {cluster}", f"wait for Cilium on {cluster}", source, "wait", (cluster,),
        (cilium(cluster, *words),), _WAIT,
    )  # fmt: skip


def _mesh_ready(cluster: str, after: str) -> Action:
    words = ("clustermesh", "status", "--wait", "--wait-duration", f"{_WAIT / 60:g}m")
    return Action(
        f"mesh {after} {cluster}", f"wait for the mesh on {cluster}", "S5", "wait", (cluster,),
        (cilium(cluster, *words),), _WAIT,
    )  # fmt: skip


def _routes(mesh: Mesh, options: Options, when: str) -> Action:
    title = {"before": "note the routes before the clusters are joined", "after": "note the routes that joining added"}
    names = tuple(one.name for one in mesh.clusters)
    commands = tuple((options.engine, "exec", node.name, "ip", "route") for node in mesh.nodes)
    return Action(f"routes {when}", title[when], "S6", "routes", names, commands, _SHORT)


def _unlock(cluster: str) -> Words:
    """Return what lets helm work again after an upgrade that was broken off."""
    return kubectl(cluster, *_SYSTEM, "delete", "secret", "-l", "owner=helm,status=pending-upgrade")


def _chart(options: Options) -> Words:
    return ("--chart-directory", options.chart_directory) if options.chart_directory else ()


def _sets(values: Sequence[str]) -> Words:
    return tuple(word for value in values for word in ("--set", value))

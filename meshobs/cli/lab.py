"""`meshobs lab`: the two-cluster mesh of the walkthrough, up and down, and what one does with it."""

import json
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from meshobs.cli import lab_build, lab_kind, lab_record
from meshobs.cli.output import format_option, print_table, say
from meshobs.errors import InputError, MeshobsError
from meshobs.lab import driver, faults, state, versions
from meshobs.lab.driver import Lab, LabState
from meshobs.lab.mesh import ANNOTATIONS


@click.group("lab")
def command() -> None:
    """Stand a two-cluster mesh up, play with it, and take it down.

    \b
    meshobs lab up                                     west and east of the walkthrough
    meshobs lab traffic --from west --to svc/webpod    100 requests, and who answered
    meshobs lab annotate webpod affinity=local         on all clusters, or --cluster west
    meshobs collect --duration 5m                      finds the lab by itself
    meshobs lab down
    """  # noqa: D301 - \b is click's


def mesh_options(function: Any) -> Any:  # noqa: ANN401 - click's decorators take any function
    """Add the options that say which mesh."""
    options = (
        click.option("--driver", "name", type=click.Choice(driver.DRIVERS), help="What stands it up."),
        click.option("--config", "path", type=click.Path(path_type=Path), help="A mesh description, see docs/lab.md."),
        click.option("--cilium", metavar="VERSION", help=f"Of all clusters.  [default: {versions.CILIUM}]"),
        click.option("--aggregation", type=click.Choice(["none", "medium"]), help="Hubble's.  [default: none]"),
        click.option("--seed", type=int, help="sim: what its chance starts from.  [default: 1]"),
    )  # fmt: skip
    function = lab_kind.options(function)
    for option in reversed(options):
        function = option(function)
    return function


@command.command("up")
@mesh_options
@click.option(
    "--traffic", "rate", type=click.FloatRange(0, 200), default=5.0, show_default=True,
    help="Steady background requests a second of every cluster's client to its service; 0 for none.",
)  # fmt: skip
@click.option(
    "--relay-binary", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="sim: a real hubble-relay to run before its nodes.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="kind: go on whatever the first look finds in the way.")
@click.option("--cleanup", is_flag=True, help="kind: leave nothing of an attempt that fails.")
def up(
    name: str | None, path: Path | None, rate: float, relay_binary: Path | None, force: bool, cleanup: bool,
    **given: Any,  # noqa: ANN401 - what click read
) -> None:  # fmt: skip
    """Stand the mesh up; it stays until `meshobs lab down`.

    On kind this takes five to ten minutes, a line for each step. What broke off goes on with the same command.
    """
    own = lab_kind.named({**given, "force": force, "cleanup": cleanup})
    start(name, content_of(path, given), rate, Manner(relay_binary, force, cleanup, own))
    say("meshobs: the lab is up; go on with: meshobs collect --duration 1m; meshobs report affinity")


@command.command("down")
def down() -> None:
    """Take the lab down and leave nothing behind."""
    found = state.read()
    if not found:
        from meshobs.lab.netns import marks  # noqa: PLC0415 - only where an `up` was killed

        marks.sweep(state.folder())
        # What an `up` that failed has left for reading.
        if (state.folder() / state.DESCRIPTION).exists():
            shutil.rmtree(state.folder(), ignore_errors=True)
        say("meshobs: no lab is up")
        return
    stop(found)
    say("meshobs: the lab is down")


@command.command("plan")
@mesh_options
def plan(name: str | None, path: Path | None, **given: Any) -> None:  # noqa: ANN401 - what click read
    """Print what `up` would do, and do nothing."""
    chosen, why = driver.chosen(name)
    say(f"meshobs: driver {chosen}: {why}")
    Manner(for_kind=lab_kind.named(given)).check(chosen)
    with _driver(chosen) as made:
        for number, step in enumerate(made.plan(content_of(path, given)), start=1):
            click.echo(f"{number}. {step.title} ({step.source})")
            for line in step.detail:
                click.echo(f"   {line}")


@command.command("env")
def env() -> None:
    """Print what a shell needs for kubectl, cilium and hubble: eval "$(meshobs lab env)"."""
    found = state.read()
    if not found:
        raise MeshobsError("no lab is up: meshobs lab up")
    click.echo(f"export KUBECONFIG={shlex.quote(found.kubeconfig)}")
    click.echo(f"# contexts: {', '.join(one.context for one in found.clusters)}")


@command.command("status")
@format_option()
def status(form: str) -> None:
    """Tell what is up: clusters, nodes, services, pods, faults."""
    found = state.running()
    told = attach(found).status()
    if form == "json":
        clusters = [asdict(one) for one in found.clusters]
        click.echo(
            json.dumps(
                {
                    "driver": found.driver,
                    "folder": found.folder,
                    "kubeconfig": found.kubeconfig,
                    "clusters": clusters,
                    **told,
                }
            )
        )
        return
    up_for = int(time.time() - found.started / 1e9)
    say(f"meshobs: lab by driver {found.driver}, up for {up_for} s, files in {found.folder}")
    say(f"meshobs: for kubectl: export KUBECONFIG={found.kubeconfig}")
    print_table(
        ["cluster", "relay", "context"],
        [[one.name, one.relay or "by port-forward", one.context] for one in found.clusters],
        set(),
        "clusters",
    )
    _table("nodes", told["nodes"])
    _table("services", told["services"])
    _table("pods", told["pods"])
    if told["paused"]:
        say(f"meshobs: background traffic of {told['paused']} clients is paused (meshobs lab background RATE)")
    if told.get("unknown"):
        say(f"meshobs: the API of {', '.join(told['unknown'])} is kept away: its services and pods are not known")
    if told["faults"]:
        say(f"meshobs: faults that are on: {', '.join(told['faults'])}")


@command.command("routes")
@format_option()
def routes(form: str) -> None:
    """Show each node's routes to pods before the mesh was joined, and what joining added (S6)."""
    before, now = attach(state.running()).routes()
    if form == "json":
        click.echo(json.dumps({"before": before, "now": now}))
        return
    for node, lines in now.items():
        click.echo(node)
        for line in lines:
            click.echo(f"  {'  ' if line in before[node] else '+ '}{line}")


@command.command("traffic")
@click.option(
    "--from", "client", required=True, help="CLUSTER, CLUSTER/POD, CLUSTER/NAMESPACE/POD, host/NODE or outside."
)
@click.option(
    "--to",
    "target",
    required=True,
    help="svc/NAME, pod/NAME, pods/CLUSTER/APP (in turn), node/NODE:PORT, nodes/CLUSTER:PORT, balancer:PORT, IP:PORT.",
)
@click.option(
    "--protocol", type=click.Choice(["TCP", "UDP", "ICMP"], case_sensitive=False), default="TCP", show_default=True
)
@click.option("--count", type=click.IntRange(1), default=100, show_default=True, help="Connections.")
@click.option("--rate", type=float, default=50.0, show_default=True, help="Connections a second.")
@click.option(
    "--keep-alive",
    "requests",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Requests on each connection.",
)
@click.option("--background", is_flag=True, help="Go on without end, until `meshobs lab background 0`.")
@click.option("--gap", default=0.1, show_default=True, help="Seconds between requests on a connection.")
@format_option()
def traffic(client: str, target: str, form: str, background: bool, **given: Any) -> None:  # noqa: ANN401 - what click read
    """Let a client call, and tell who answered: what `curl | sort | uniq -c` tells, and what the server saw."""
    from meshobs.lab.traffic import Traffic  # noqa: PLC0415 - only here

    given["protocol"] = given["protocol"].upper()
    lab, wanted = attach(state.running()), Traffic(client, target, **given)
    if background:
        lab.endless(wanted)
        say(f"meshobs: {client} calls {target}, {wanted.rate:g} a second, until meshobs lab background 0")
        return
    requests = lab.traffic([wanted])
    if form == "json":
        click.echo(json.dumps([asdict(one) for one in requests]))
        return
    rows: dict[tuple[str, ...], int] = {}
    for one in requests:
        saw = (
            "the client's address"
            if one.server_saw.startswith(f"{one.client_address}:")
            else one.server_saw.partition(":")[0]
        )
        key = (one.answered_cluster, one.answered_pod or one.error or "outside", one.answered_node, saw)
        rows[key] = rows.get(key, 0) + 1
    table = [[str(count), *key] for key, count in sorted(rows.items())]
    print_table(["answers", "cluster", "pod", "node", "server_saw"], table, {"answers"})


@command.command("background")
@click.argument("rate", type=click.FloatRange(0, 200))
def background(rate: float) -> None:
    """Let every cluster's client call its service, RATE requests a second; 0 ends it."""
    attach(state.running()).background(rate)


@command.command("annotate")
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
    found = state.running()
    lab = attach(found)
    namespace, name = _named(service)
    for cluster in _clusters(found, clusters):
        lab.annotate(cluster, namespace, name, changes)
        say(f"meshobs: {cluster}: {namespace}/{name} {' '.join(settings)}")


@command.command("scale")
@click.argument("workload")
@click.argument("replicas", type=click.IntRange(0))
@click.option("--cluster", "clusters", multiple=True, help="Only there; repeatable.")
def scale(workload: str, replicas: int, clusters: Sequence[str]) -> None:
    """Give a WORKLOAD ([NAMESPACE/]NAME) so many pods."""
    found = state.running()
    lab = attach(found)
    namespace, name = _named(workload)
    for cluster in _clusters(found, clusters):
        lab.scale(cluster, namespace, name, replicas)
        say(f"meshobs: {cluster}: {namespace}/{name} has {replicas} pods")


@command.command("fault")
@click.argument("name", required=False)
@click.argument("switch", type=click.Choice(["on", "off"]), required=False)
@click.option("--scope", default="", help="The cluster or node; by default all clusters, or a worker of the last one.")
def fault(name: str | None, switch: str | None, scope: str) -> None:
    """Turn a fault on or off; without arguments, list them."""
    if not name:
        rows = [[one.name, one.scope or "mesh", one.does] for one in faults.FAULTS.values()]
        print_table(["fault", "scope", "what it does"], rows, set())
        return
    found = faults.named(name)
    if not switch:
        raise InputError(f"say on or off: meshobs lab fault {name} on")
    attach(state.running()).fault(found.name, scope, on=switch == "on")
    say(f"meshobs: {found.name} is {switch}{f': {found.does}' if switch == 'on' else ''}")


command.add_command(lab_record.command)
command.add_command(lab_build.build)


@command.command("versions")
@format_option()
def list_versions(form: str) -> None:
    """List the versions that a lab stands up."""
    rows = [[name.lower().replace("_", " "), value] for name, value in vars(versions).items() if name.isupper()]
    if form == "json":
        click.echo(json.dumps(dict(rows)))
        return
    print_table(["what", "version"], rows, set())


def content_of(path: Path | None, given: Mapping[str, Any]) -> dict[str, object]:
    """Return a mesh description: the file's, with what the flags say instead."""
    from meshobs.lab import meshfile  # noqa: PLC0415 - only where a lab begins

    content = dict(meshfile.load(path)) if path else {}
    flags = dict(given)
    if "set_" in flags and (table := lab_kind.table_of(content, flags)):
        content["kind"] = table
    content.update({key: value for key, value in flags.items() if value is not None})
    meshfile.mesh_of(content, str(path) if path else "the mesh")
    return content


@dataclass(frozen=True)
class Manner:
    """How a lab is stood up.

    Attributes:
        relay_binary: a real Relay for the sim, None for its own.
        force: go on whatever stands in the way.
        cleanup: leave nothing of an attempt that fails.
        for_kind: flags that were given and that only the driver kind knows.
    """

    relay_binary: Path | None = None
    force: bool = False
    cleanup: bool = False
    for_kind: Sequence[str] = ()

    def check(self, chosen: str) -> None:
        """Refuse what a driver does not know.

        Raises:
            InputError: a flag is another driver's.
        """
        if self.for_kind and chosen != "kind":
            raise InputError(f"{', '.join(self.for_kind)}: only the driver kind knows that, and this is {chosen}")
        if self.relay_binary and chosen != "sim":
            raise InputError(f"--relay-binary: only the driver sim knows that, and this is {chosen}")


def start(name: str | None, content: Mapping[str, object], rate: float, manner: Manner = Manner()) -> LabState:
    """Stand a lab up and record it; one of kind that is half built is gone on with.

    Args:
        name: of the driver, None to choose.
        content: the mesh description.
        rate: of the background traffic, 0 for none.
        manner: how.

    Raises:
        InputError: one is up already.
    """
    before = state.read()
    half = before if before and not before.whole else None
    chosen, why = driver.chosen(name or (half.driver if half else None))
    manner.check(chosen)
    if before and before != half:
        if attach(before).alive:
            raise InputError("a lab is up already: meshobs lab status, or meshobs lab down")
        say("meshobs: clearing away a lab whose process ended")
        stop(before)
    elif half and half.driver != chosen:
        raise InputError(f"a lab of driver {half.driver} is half built: meshobs lab down first")
    say(f"meshobs: driver {chosen}: {why}")
    folder = state.folder()
    began = time.monotonic()
    with _driver(chosen, manner) as maker:
        made: LabState = maker.up(content, folder, lambda text: say(f"meshobs: {text}"))
    state.write(made)
    if rate:
        attach(made).background(rate)
    say(f"meshobs: up in {time.monotonic() - began:.1f} s")
    return made


def stop(found: LabState) -> None:
    """Take a lab down and remove what it wrote."""
    attach(found).down()
    shutil.rmtree(found.folder, ignore_errors=True)


def attach(found: LabState) -> Lab:
    """Return a lab that is up."""
    with _driver(found.driver) as maker:
        lab: Lab = maker.attach(found)
        return lab


@contextmanager
def _driver(name: str, manner: Manner = Manner()) -> Iterator[Any]:
    """Give a driver; each is loaded when it is used."""
    if name == "kind":
        with lab_kind.driver(force=manner.force, cleanup=manner.cleanup) as made:
            yield made
        return
    if name == "netns":
        from meshobs.lab.netns.driver import NetnsDriver  # noqa: PLC0415 - only the one that is used

        yield NetnsDriver()
        return
    from meshobs.lab.sim.driver import SimDriver  # noqa: PLC0415 - only the one that is used

    yield SimDriver(manner.relay_binary)


def _named(text: str) -> tuple[str, str]:
    """Return namespace and name of [NAMESPACE/]NAME."""
    namespace, _, name = text.rpartition("/")
    return namespace or "default", name


def _clusters(found: LabState, named: Sequence[str]) -> list[str]:
    known = [one.name for one in found.clusters]
    if unknown := [name for name in named if name not in known]:
        raise InputError(f"there is no cluster {', '.join(unknown)}: {', '.join(known)}")
    return list(named) or known


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        headings = list(rows[0])
        cells = [[_cell(row[name]) for name in headings] for row in rows]
        print_table(headings, cells, {name for name in headings if isinstance(rows[0][name], int)}, title)


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={one}" for key, one in value.items())
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)

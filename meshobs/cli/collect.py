"""`meshobs collect`: live flows of any number of Relays -> the database."""

import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshobs.cli.output import say
from meshobs.cli.session import Session, pass_session
from meshobs.cli.window import Moment, duration
from meshobs.errors import InputError, MeshobsError
from meshobs.text import printable
from meshobs.times import nanoseconds, rfc3339

if TYPE_CHECKING:
    from meshobs.collector.collect import Collection, Options
    from meshobs.collector.filters import Given
    from meshobs.collector.ledger import Ledger
    from meshobs.collector.members import Members, Source
    from meshobs.collector.progress import Progress
    from meshobs.collector.target import Tls
    from meshobs.collector.topology import RelayNode
    from meshobs.lab.driver import ClusterState, LabState

# Kept here, so that --help loads no protobuf; tests hold it against collector.filters.
FILTERS = {
    "namespace": "Flows of pods in this namespace.",
    "pod": "Flows of pods whose name starts so: [NAMESPACE/]POD.",
    "ip": "Flows from or to this address or range.",
    "port": "Flows from or to this port.",
    "service": "Flows from or to this service's address.",
    "cluster": "Flows from or to endpoints of this cluster.",
    "from-cluster": "Flows from endpoints of this cluster.",
    "to-cluster": "Flows to endpoints of this cluster.",
    "protocol": "Flows of this protocol (tcp, udp, http, ...).",
    "verdict": "Flows with this verdict (FORWARDED, DROPPED, ...).",
    "node-name": "Flows that these nodes observed: CLUSTER/NODE, with *.",
}


class Collect(click.Command):
    """A command in which `--not` turns the next filter around, as the hubble CLI's does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Mark the filters after `--not` before click reads them."""
        marked: list[str] = []
        rest = iter(args)
        for argument in rest:
            if argument != "--not":
                marked.append(argument)
                continue
            flag, separator, value = next(rest, "").partition("=")
            name = flag.removeprefix("--")
            if name not in FILTERS:
                raise click.UsageError(f"--not needs a filter after it, not {flag or 'nothing'}", ctx)
            marked += ["--not-filter", f"{name}={value if separator else next(rest, '')}"]
        return super().parse_args(ctx, marked)


class Span(click.ParamType[float]):
    """A length of time: 90s, 5m, 1h30m."""

    name = "duration"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        found = duration(value)
        if found is None or not found:
            self.fail(f"{value!r} is no duration: write 90s, 5m, 1h30m", param, ctx)
        return found.total_seconds()


def filter_options(function: Any) -> Any:  # noqa: ANN401 - click's decorators take any function
    """Add the filter flags."""
    for name, meaning in reversed(FILTERS.items()):
        function = click.option(f"--{name}", multiple=True, metavar="TEXT", help=meaning)(function)
    return function


@click.command("collect", cls=Collect)
@click.option(
    "--relay",
    "relays",
    multiple=True,
    metavar="NAME=HOST:PORT",
    help="A Relay to read; repeatable. NAME is its cluster's; tls:// before HOST asks for TLS.",
)
@click.option(
    "--context",
    "contexts",
    multiple=True,
    metavar="NAME",
    help="A context of the kubeconfig: read its Relay by port-forward, and its objects; repeatable.",
)
@click.option("--kube-namespace", default="kube-system", show_default=True, help="Where Cilium runs.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Instead of KUBECONFIG, else ~/.kube/config.")
@click.option(
    "--kube/--no-kube",
    default=True,
    help="Watch services, backends and nodes, where a context or the configuration names the API.",
)
@click.option("--duration", "seconds", type=Span(), help="Stop after so long (5m); else at Ctrl-C.")
@click.option(
    "--since", type=Moment(), help="Also what the nodes still hold from then on: a time, or how long ago (10m)."
)
@click.option("--until", type=Moment(), help="End there instead of following.")
@click.option("--last", type=click.IntRange(1), help="Also so many flows that each node already has.")
@click.option("--follow/--no-follow", default=True, help="Go on with new flows, or take only what the nodes hold.")
@click.option("--redundant", is_flag=True, help="Ask every Relay for all nodes: what one's ring lost another may have.")
@click.option(
    "--watch-own-traffic",
    is_flag=True,
    help="Do not leave out the traffic of observers, Relays, API servers in use, kubelets that carry port-forwards.",
)
@click.option("--tls", is_flag=True, help="Speak TLS with every Relay.")
@click.option(
    "--tls-ca-cert-files", multiple=True, type=click.Path(path_type=Path), help="Certificates to trust (implies TLS)."
)
@click.option("--tls-client-cert-file", type=click.Path(path_type=Path), help="Certificate to show (implies TLS).")
@click.option("--tls-client-key-file", type=click.Path(path_type=Path), help="Its key.")
@click.option("--tls-server-name", help="Name that the Relay's certificate must carry (implies TLS).")
@click.option("--tls-allow-insecure", is_flag=True, help="Believe any certificate (implies TLS).")
@filter_options
@click.option("--not", "_not", is_flag=True, expose_value=False, help="Leave out what the next filter names.")
@click.option("--not-filter", "negated", multiple=True, hidden=True)
@click.option("--allowlist", multiple=True, metavar="JSON", help="A raw FlowFilter; one of them must fit.")
@click.option("--denylist", multiple=True, metavar="JSON", help="A raw FlowFilter; none may fit.")
@click.option(
    "--stock-grpc", is_flag=True, hidden=True, help="Read flows by grpcio: the reference, at four times the price."
)
@pass_session
def command(session: Session, /, **given: Any) -> None:  # noqa: ANN401 - what click read
    """Collect live flows of any number of Relays, each once, every one tagged with its cluster.

    A Relay of a mesh returns the nodes of all clusters. Of several Relays each is asked for its own cluster's nodes;
    one alone is asked for all. Without --relay and --context the lab is read if one is up, else the clusters of
    meshobs.toml, else every context of the kubeconfig that has a Hubble Relay.

    The next run goes on where this one ends: what the nodes still hold of the time between is fetched, what they do not
    is recorded as a gap.
    """
    from meshobs import live  # noqa: PLC0415 - grpc and DuckDB cost more than the rest
    from meshobs.collector.collect import Collection  # noqa: PLC0415
    from meshobs.collector.members import Members  # noqa: PLC0415

    with Members() as members:
        for source in _sources(given, session):
            members.add(source, kubeconfig=given["kubeconfig"], watch=given["kube"], say=_warn)
        if not members.relays:
            raise MeshobsError("; ".join(members.problems))
        for problem in members.problems:
            _warn(problem)
        nodes = [node for relay in members.relays.values() for node in relay.nodes() or []]
        options = _options(given, members, session)
        _advise(members, {node.node_name: node for node in nodes}.values())
        with session.write() as store, live.serving(store, _warn), _showing() as show:
            collection = Collection(store, members.relays, options, _warn, show, members.clusters)
            with stopping(collection):
                ledger = collection.run()
        _summary(session.db, ledger, collection.progress)


def _sources(given: dict[str, Any], session: Session) -> list["Source"]:
    """Return what to read: what the command line names, else the lab, the configuration, every context with a Relay."""
    from meshobs.collector import members, target  # noqa: PLC0415
    from meshobs.lab import state as labs  # noqa: PLC0415

    tls = target.tls_of(given)
    named = [members.Source(relay=text, tls=tls) for text in given["relays"]]
    named += [members.Source(context=one, namespace=given["kube_namespace"], tls=tls) for one in given["contexts"]]
    if named:
        return named
    if (lab := labs.read()) and labs.running():
        say(f"meshobs: the lab that is up (driver {lab.driver}): {', '.join(one.name for one in lab.clusters)}")
        given["kubeconfig"] = given["kubeconfig"] or Path(lab.kubeconfig)
        return lab_sources(lab)
    if session.settings.clusters:
        say(f"meshobs: clusters of the configuration: {', '.join(session.settings.clusters)}")
        return members.sources(session.settings.clusters)
    found = members.found_contexts(given["kubeconfig"], given["kube_namespace"])
    if not found:
        raise InputError(
            "no cluster is named and no context of the kubeconfig has a Hubble Relay: give --relay NAME=HOST:PORT or"
            " --context NAME for each cluster, or write them into meshobs.toml ([clusters.NAME])"
        )
    say(f"meshobs: contexts with a Hubble Relay: {', '.join(found)}")
    return [members.Source(context=one, namespace=given["kube_namespace"], tls=tls) for one in found]


def lab_sources(lab: "LabState") -> list["Source"]:
    """Return the clusters of a running lab."""
    from meshobs.collector.members import Source  # noqa: PLC0415 - grpc

    return [
        Source(
            name=one.name,
            relay=f"{one.name}={one.relay}" if one.relay else "",
            context=one.context,
            tls=_lab_tls(one),
        )
        for one in lab.clusters
    ]


def _lab_tls(one: "ClusterState") -> "Tls | None":
    if not one.ca:
        return None
    from meshobs.collector.target import Tls  # noqa: PLC0415

    return Tls((Path(one.ca),), Path(one.client_cert), Path(one.client_key), one.server_name)


def _advise(members: "Members", nodes: "Iterable[RelayNode]") -> None:
    """Say what will make verdicts weak."""
    from meshobs.collector import advice  # noqa: PLC0415

    for name, (_, info) in members.clusters.items():
        for line in advice.of_settings(name, info.settings):
            _warn(line)
    for line in advice.of_nodes(nodes):
        _warn(line)


def _warn(text: str) -> None:
    say(f"meshobs: {printable(text)}")


def _options(given: dict[str, Any], members: "Members", session: Session) -> "Options":
    from meshobs.collector import filters  # noqa: PLC0415
    from meshobs.collector.collect import Options  # noqa: PLC0415

    allow, deny = filters.build(_filters(given), given["allowlist"], given["denylist"])
    return Options(
        allow=allow,
        deny=deny,
        excluded=() if given["watch_own_traffic"] else members.own_traffic(_warn),
        since=nanoseconds(given["since"]) or 0 if given["since"] else 0,
        until=nanoseconds(given["until"]) or 0 if given["until"] else 0,
        last=given["last"] or 0,
        follow=given["follow"] and not given["until"],
        seconds=given["seconds"],
        redundant=given["redundant"],
        cluster=session.settings.cluster,
        stock=given["stock_grpc"],
        arguments=tuple(sys.argv[1:]),
    )


def _filters(given: dict[str, Any]) -> list["Given"]:
    from meshobs.collector.filters import Given  # noqa: PLC0415

    found = [Given(name, value) for name in FILTERS for value in given[name.replace("-", "_")]]
    negated = (text.partition("=") for text in given["negated"])
    return found + [Given(name, value, negated=True) for name, _, value in negated]


@contextmanager
def stopping(collection: "Collection") -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the collection in order; a second one ends it at once."""

    def stop(_number: int, _frame: object) -> None:
        if collection.stop.is_set():
            raise KeyboardInterrupt
        collection.stop.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _showing() -> Iterator[Callable[["Progress"], None]]:
    """Show the state in one living line on a terminal, in a line a minute elsewhere."""
    rate = _Rate()
    if not sys.stderr.isatty():
        yield rate.each_minute
        return
    from rich.console import Console  # noqa: PLC0415 - rich is slow to load
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    with Live(Text(""), console=Console(stderr=True), transient=True, refresh_per_second=4) as live:
        yield lambda progress: live.update(Text(rate.line(progress)))


class _Rate:
    """Says how fast flows come."""

    def __init__(self) -> None:
        self._before: tuple[float, int] = (time.monotonic(), 0)
        self._said = time.monotonic()

    def line(self, progress: "Progress") -> str:
        """Return the state in one line; the rate is that since the last call."""
        now, received = time.monotonic(), progress.received
        seconds, flows = now - self._before[0], received - self._before[1]
        self._before = (now, received)
        topology = "".join(f", {cluster} {state}" for cluster, state in progress.topology.items())
        return (
            f"{flows / max(seconds, 0.001):,.0f} flows/s, {progress.stored:,} stored,"
            f" {progress.duplicate:,} duplicates, {progress.lost:,} lost,"
            f" {progress.connected} of {progress.expected} nodes, {progress.waiting:,} waiting{topology}"
        )

    def each_minute(self, progress: "Progress") -> None:
        """Say the state if a minute has passed."""
        if time.monotonic() - self._said >= 60:  # noqa: PLR2004 - a minute
            self._said = time.monotonic()
            say(self.line(progress))


def _summary(db: Path, ledger: "Ledger", progress: "Progress") -> None:
    for entry in ledger.entries:
        counts = entry.counts
        say(
            f"{printable(entry.reader)} {printable(entry.name)}: {counts.received} received = {counts.stored} stored"
            f" + {counts.duplicate} duplicate + {counts.filtered} filtered + {counts.undecodable} undecodable"
        )
    for problem in ledger.total.problems:
        say(f"  {printable(problem)}")
    span = ledger.span
    window = f"; flows from {rfc3339(span.first)} to {rfc3339(span.last)}" if span else "; no flow came"
    nodes = f"{progress.connected} of {progress.expected} nodes, {progress.lost} events lost"
    say(f"{db}: run {ledger.number}, {nodes}{window}")

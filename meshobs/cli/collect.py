"""`meshobs collect`: live flows of any number of Relays -> the database."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshobs.cli.terminal.interruption import stop_on_interrupt
from meshobs.cli.terminal.options import Command, gather
from meshobs.cli.terminal.output import remark, say
from meshobs.cli.terminal.session import Session, pass_session
from meshobs.cli.terminal.window import Moment
from meshobs.collector.progress import Phase
from meshobs.settings import CLUSTER_KEYS
from meshobs.text import printable
from meshobs.times import DurationError, rfc3339, seconds

if TYPE_CHECKING:
    from meshobs.collector.hubble.target import Tls
    from meshobs.collector.progress import Progress
    from meshobs.collector.write.ledger import Ledger

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
        try:
            return seconds(value)
        except DurationError as error:
            self.fail(str(error), param, ctx)


@dataclass(frozen=True)
class Filters:
    """The filter flags that were given, as name and value."""

    only: tuple[tuple[str, str], ...]
    without: tuple[tuple[str, str], ...]


def filter_options(function: Command) -> Command:
    """Add the filter flags; the command takes them as `filters`."""
    function = gather("filters", _filters, (*(name.replace("-", "_") for name in FILTERS), "negated"))(function)
    function = click.option("--not-filter", "negated", multiple=True, hidden=True)(function)
    function = click.option(
        "--not", "_not", is_flag=True, expose_value=False, help="Leave out what the next filter names."
    )(function)
    for name, meaning in reversed(FILTERS.items()):
        function = click.option(f"--{name}", multiple=True, metavar="TEXT", help=meaning)(function)
    return function


def _filters(negated: tuple[str, ...], **given: tuple[str, ...]) -> Filters:
    only = [(name, value) for name in FILTERS for value in given[name.replace("-", "_")]]
    split = (text.partition("=") for text in negated)
    return Filters(tuple(only), tuple((name, value) for name, _, value in split))


def tls_options(function: Command) -> Command:
    """Add the flags for TLS with Relays; the command takes them as `tls`, None where they ask for none."""
    options = (
        click.option("--tls", is_flag=True, help="Speak TLS with every Relay."),
        click.option(
            "--tls-ca-cert-files",
            multiple=True,
            type=click.Path(path_type=Path),
            help="Certificates to trust (implies TLS).",
        ),
        click.option(
            "--tls-client-cert-file", type=click.Path(path_type=Path), help="Certificate to show (implies TLS)."
        ),
        click.option("--tls-client-key-file", type=click.Path(path_type=Path), help="Its key."),
        click.option("--tls-server-name", help="Name that the Relay's certificate must carry (implies TLS)."),
        click.option("--tls-allow-insecure", is_flag=True, help="Believe any certificate (implies TLS)."),
    )
    function = gather("tls", _tls, [key for key in CLUSTER_KEYS if key.startswith("tls")])(function)
    for option in reversed(options):
        function = option(function)
    return function


def _tls(**given: object) -> "Tls | None":
    from meshobs.collector.hubble.target import tls_of  # noqa: PLC0415 - only where it is used

    return tls_of(given)


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
@click.option("--duration", type=Span(), help="Stop after so long (5m); else at Ctrl-C.")
@click.option(
    "--since", type=Moment(), help="Also what the nodes still hold from then on: a time, or how long ago (10m)."
)
@click.option("--until", type=Moment(), help="End there instead of following.")
@click.option("--last", type=click.IntRange(1), help="Also so many flows that each node already has.")
@click.option("--follow/--no-follow", default=True, help="Go on with new flows, or take only what the nodes hold.")
@click.option(
    "--keep",
    type=click.Choice(["flows", "events"]),
    help="Which flows to store: all, or those that decide (others are counted).  [default: flows]",
)
@click.option("--redundant", is_flag=True, help="Ask every Relay for all nodes: what one's ring lost another may have.")
@click.option(
    "--watch-own-traffic",
    is_flag=True,
    help="Do not leave out the traffic of observers, Relays, API servers in use, kubelets that carry port-forwards.",
)
@tls_options
@filter_options
@click.option("--allowlist", multiple=True, metavar="JSON", help="A raw FlowFilter; one of them must fit.")
@click.option("--denylist", multiple=True, metavar="JSON", help="A raw FlowFilter; none may fit.")
@click.option(
    "--stock-grpc", is_flag=True, hidden=True, help="Read flows by grpcio: the reference, at four times the price."
)
@pass_session
def command(
    session: Session,
    /,
    filters: Filters,
    last: int | None,
    keep: str | None,
    **given: Any,  # noqa: ANN401 - options with the names of `collect`'s arguments
) -> None:
    """Collect live flows of any number of Relays, each once, every one tagged with its cluster.

    A Relay of a mesh returns the nodes of all clusters. Of several Relays each is asked for its own cluster's nodes;
    one alone is asked for all. Without --relay and --context the lab is read if one is up, else the clusters of
    meshobs.toml, else every context of the kubeconfig that has a Hubble Relay.

    The next run goes on where this one ends: what the nodes still hold of the time between is fetched, what they do not
    is recorded as a gap. What is older than [retention] of meshobs.toml says is deleted meanwhile.
    """
    from meshobs.jobs.collecting import collect  # noqa: PLC0415 - grpc and DuckDB cost more than the rest

    with _show_progress() as show:
        collected = collect(
            session.db,
            **given,
            last=last or 0,
            only=filters.only,
            without=filters.without,
            clusters=session.settings.clusters,
            cluster=session.settings.cluster,
            retention=session.settings.retention,
            keep=keep or session.settings.keep,
            arguments=sys.argv[1:],
            say=remark,
            show=show,
            running=stop_on_interrupt,
        )
    _tell_summary(session.db, collected.ledger, collected.progress)


@contextmanager
def _show_progress() -> Iterator[Callable[["Progress"], None]]:
    """Show the state in one living line on a terminal, in a line a minute elsewhere."""
    rate = Rate()
    if not sys.stderr.isatty():
        yield rate.each_minute
        return
    from rich.console import Console  # noqa: PLC0415 - rich is slow to load
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    with Live(Text(""), console=Console(stderr=True), transient=True, refresh_per_second=4) as live:
        yield lambda progress: live.update(Text(rate.line(progress)))


class Rate:
    """Says how a run stands: how fast flows come, and what is done at its end."""

    def __init__(self) -> None:
        self._before: tuple[float, int] = (time.monotonic(), 0)
        self._said = time.monotonic()
        self._ending = False

    def line(self, progress: "Progress") -> str:
        """Return the state in one line; the rate is that since the last call."""
        now, received = time.monotonic(), progress.received
        seconds, flows = now - self._before[0], received - self._before[1]
        self._before = (now, received)
        if progress.phase is not Phase.COLLECTING:
            return _describe_end(progress)
        topology = "".join(f", {cluster} {state}" for cluster, state in progress.topology.items())
        return (
            f"{flows / max(seconds, 0.001):,.0f} flows/s, {progress.stored:,} stored,"
            f" {progress.duplicate:,} duplicates, {progress.lost:,} lost,"
            f" {progress.connected} of {progress.expected} nodes, {progress.waiting:,} waiting{topology}"
        )

    def each_minute(self, progress: "Progress") -> None:
        """Say the state if a minute has passed, and once that the run ends."""
        ends = progress.phase is Phase.FETCHING and not self._ending
        if ends or time.monotonic() - self._said >= 60:  # noqa: PLR2004 - a minute
            self._said = time.monotonic()
            self._ending = self._ending or ends
            say(self.line(progress))


def _describe_end(progress: "Progress") -> str:
    """Return in one line what a run does that ends."""
    why = "time is up; " if progress.time_is_up else ""
    fetched = f": {progress.fetched:,} flows" if progress.phase is Phase.FETCHING and progress.fetched else ""
    return f"{why}{progress.phase.value}{fetched}"


def _tell_summary(db: Path, ledger: "Ledger", progress: "Progress") -> None:
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

"""Collects live flows: says what will weaken verdicts, and serves the data meanwhile."""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from meshobs import live, settings
from meshobs.collector import advice
from meshobs.collector.collect import Collection, CollectOptions
from meshobs.collector.follow.clusters import OpenClusters
from meshobs.collector.hubble import filters
from meshobs.collector.hubble.answers import RelayNode
from meshobs.collector.hubble.filters import FilterFlag
from meshobs.collector.hubble.target import Tls
from meshobs.collector.progress import Progress
from meshobs.collector.write.ledger import Ledger
from meshobs.errors import InputError
from meshobs.jobs.sources import Sources
from meshobs.retention import Keep, Retention
from meshobs.store import Store
from meshobs.times import Length, Moment, instant, seconds

# The name of a filter (`collector.filters.FLAGS`) and its value.
Filter: TypeAlias = tuple[str, str]
# Entered while flows are read; the event ends the collection.
Running: TypeAlias = Callable[[threading.Event], AbstractContextManager[object]]


@dataclass(frozen=True)
class Collected:
    """What a collection brought.

    Attributes:
        ledger: what came from each Relay and what became of it.
        progress: the state at the end: nodes, events lost.
    """

    ledger: Ledger
    progress: Progress


def collect(
    db: str | Path,
    *,
    relays: Sequence[str] = (),
    contexts: Sequence[str] = (),
    clusters: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
    kubeconfig: str | Path | None = None,
    kube_namespace: str = "kube-system",
    kube: bool = True,
    duration: Length | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    last: int = 0,
    follow: bool = True,
    redundant: bool = False,
    watch_own_traffic: bool = False,
    tls: Tls | None = None,
    only: Sequence[Filter] = (),
    without: Sequence[Filter] = (),
    allowlist: Sequence[str] = (),
    denylist: Sequence[str] = (),
    cluster: str = "",
    stock_grpc: bool = False,
    retention: Mapping[str, str] = MappingProxyType({}),
    keep: str = "flows",
    arguments: Sequence[str] = (),
    say: Callable[[str], None] = lambda _text: None,
    show: Callable[[Progress], None] = lambda _progress: None,
    stop: threading.Event | None = None,
    running: Running = nullcontext,
) -> Collected:
    """Collect live flows of any number of Relays into a database, each once, every one tagged with its cluster.

    Without `relays` and `contexts` the lab is read if one is up, else `clusters`, else every context of the kubeconfig
    that has a Hubble Relay. Others read the database meanwhile as if nobody wrote it.

    Args:
        db: the file; made where there is none.
        relays: NAME=HOST:PORT or HOST:PORT each; tls:// before HOST asks for TLS.
        contexts: of the kubeconfig: their Relay is read by port-forward, and their objects.
        clusters: as `[clusters.NAME]` of the configuration has them.
        kubeconfig: None for KUBECONFIG, else ~/.kube/config.
        kube_namespace: where Cilium runs.
        kube: watch services, backends and nodes.
        duration: stop after so long; None: go on until `stop` is set.
        since: also what the nodes still hold from then on.
        until: end there instead of following.
        last: also so many flows that each node already has.
        follow: go on with new flows, or take only what the nodes hold.
        redundant: ask every Relay for all nodes.
        watch_own_traffic: do not leave out the traffic of observers, Relays and API servers in use.
        tls: for the Relays that are named.
        only: filters that must fit.
        without: filters that must not fit.
        allowlist: raw FlowFilters in JSON; one of them must fit.
        denylist: raw FlowFilters in JSON; none may fit.
        cluster: of nodes whose names carry none.
        stock_grpc: read flows by grpcio: the reference, at four times the price.
        retention: how long flows, events and connections are kept, as `[retention]` of the configuration has it;
            what is older is deleted meanwhile.
        keep: flows, or events: only flows that decide are stored, for an hour, then what is made of them; others are
            counted.
        arguments: the call, for the record.
        say: told what the user should know, a line each.
        show: called about four times a second with the state.
        stop: set it to end the collection in order.
        running: entered while flows are read.

    Raises:
        InputError: an argument is not what it should be, or names nothing.
        MeshobsError: no Relay can be reached, or nothing more can be stored.
    """
    _refuse_texts(relays=relays, contexts=contexts, allowlist=allowlist, denylist=denylist)
    if mistakes := settings.mistakes_of_clusters(clusters):
        raise InputError(mistakes)
    config = Path(kubeconfig) if kubeconfig else None
    sources = Sources(relays, contexts, clusters, config, kube_namespace, kube, tls)
    allow, deny = filters.build([*_make_flags(only), *_make_flags(without, negated=True)], allowlist, denylist)
    options = CollectOptions(
        allow=allow,
        deny=deny,
        since=instant(since) if since is not None else 0,
        until=instant(until) if until is not None else 0,
        last=last,
        follow=follow and until is None,
        seconds=seconds(duration) if duration is not None else None,
        redundant=redundant,
        cluster=cluster,
        stock=stock_grpc,
        keep=_keep(keep),
        retention=Retention.of(retention),
        arguments=arguments,
    )
    with OpenClusters() as opened:
        sources.open(opened, say)
        nodes = opened.ask_nodes()
        if not watch_own_traffic:
            options = replace(options, excluded=opened.own_traffic(nodes, say))
        _advise(opened, nodes, say)
        with Store.open(Path(db), write=True) as store, live.serve(store, say):
            collection = Collection(store, opened.relays, options, say, show, opened.clusters, stop=stop)
            with running(collection.stop):
                ledger = collection.run()
        return Collected(ledger, collection.progress)


def _advise(opened: OpenClusters, nodes: Mapping[str, Sequence[RelayNode]], say: Callable[[str], None]) -> None:
    """Say what will make verdicts weak; a node that several Relays know counts once."""
    for name, (_, info) in opened.clusters.items():
        for line in advice.of_settings(name, info.settings):
            say(line)
    by_name = {node.node_name: node for known in nodes.values() for node in known}
    for line in advice.of_nodes(by_name.values()):
        say(line)


def _keep(text: str) -> Keep:
    try:
        return Keep(text)
    except ValueError:
        raise InputError(f"`keep` {text!r}: one of {', '.join(one.value for one in Keep)}") from None


def _refuse_texts(**lists: Sequence[str]) -> None:
    """Refuse a text where a list of texts is meant: it would be taken for a list of its letters."""
    for name, value in lists.items():
        if isinstance(value, str):
            raise InputError(f"`{name}` is a list of texts, not the text {value!r}")


def _make_flags(pairs: Sequence[Filter], *, negated: bool = False) -> list[FilterFlag]:
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2:  # noqa: PLR2004 - a pair
            raise InputError(f"a filter is a pair as ('protocol', 'tcp'), not {pair!r}")
        if pair[0] not in filters.FLAGS:
            raise InputError(f"there is no filter {pair[0]!r}: one of {', '.join(filters.FLAGS)}")
    return [FilterFlag(name, value, negated) for name, value in pairs]

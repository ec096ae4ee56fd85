"""`meshobs collect` by Kubernetes contexts: the Relay through the API, objects into the history, in one run.

API server, port-forward, Relay and collector are real; a stand-in does what port-forward needs of a kubelet.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.api_server import (
    ADMIN,
    ApiServer,
    Kubelet,
    annotate,
    endpoint,
    endpoints,
    in_kube_system,
    serve_relay,
    service,
)
from support.command_line import Outcome
from support.recordings import RECORDINGS
from support.relay_nodes import (
    SECOND,
    Event,
    Node,
    RelayProcess,
    Run,
    dial,
    expected,
    recorded,
    relay,
    stored,
    wait_until,
)

from meshobs.collector import advice
from meshobs.collector.hubble.answers import RelayNode
from meshobs.collector.kube.cluster import KubeCluster
from meshobs.store import Store

SERVICES = """
select cluster, service, affinity, valid_to is null from services where service = 'back' order by valid_from
"""


@pytest.fixture
def flows() -> dict[str, list[Event]]:
    """Return the flows of a recording, as if they happened just before now."""
    return recorded(RECORDINGS / "global-none" / "west.bin.gz", time.time_ns() - 20 * SECOND)


@contextmanager
def mesh(
    server: ApiServer, program: Callable[[str], Path], flows: dict[str, list[Event]], folder: Path
) -> Iterator[RelayProcess]:
    """Run nodes, a Relay before them, and the API that leads there."""
    with relay(program("hubble-relay-1.17"), [Node(name, events) for name, events in flows.items()], folder) as process:
        dial(process)
        with closing(Kubelet(server, process.port)) as kubelet:
            serve_relay(server, kubelet)
            settings = {"cluster-name": "west", "cluster-id": "1", "monitor-aggregation": "medium"}
            server.create(in_kube_system("ConfigMap", "cilium-config", **settings))
            for item in (service("back", **{"global": "true"}), endpoints("back", "10.0.0.1")):
                server.create(item)
            yield process


def test_one_context_is_enough(
    server: ApiServer, program: Callable[[str], Path], flows: dict[str, list[Event]], db: Path, tmp_path: Path,
    meshobs: Callable[..., Outcome],
) -> None:  # fmt: skip
    """The Relay is found and read through the API, objects are listed, settings that weaken verdicts are told."""
    with mesh(server, program, flows, tmp_path):
        options = ("--kubeconfig", server.kubeconfig, "--since", "1h", "--no-follow")
        result = meshobs("--db", db, "collect", "--context", "west", *options)

    assert result.code == 0, result.err
    assert "monitor-aggregation is medium" in result.err
    assert stored(db) == expected(flows)
    with Store.open(db) as store:
        assert store.rows(SERVICES) == [("west", "back", "none", True)]
        assert store.rows("select cluster, cluster_id from clusters where cluster = 'west'") == [("west", 1)]
        assert store.rows("select address from backends where service = 'back'") == [("10.0.0.1",)]
        assert [row[0] for row in store.rows("select distinct reader from batches")] == ["west"]


@pytest.mark.parametrize("how", ["configured", "discovered"])
def test_a_bare_collect_finds_the_clusters(
    how: str, server: ApiServer, program: Callable[[str], Path], flows: dict[str, list[Event]], db: Path, tmp_path: Path,
    meshobs: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It says what it found: the clusters of meshobs.toml, else every context of the kubeconfig with a Relay."""
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    with mesh(server, program, flows, tmp_path) as process:
        if how == "configured":
            text = f"[clusters.west]\nrelay = '{process.address}'\ncontext = 'west'\n"
            Path("meshobs.toml").write_text(text)
        result = meshobs("--db", db, "collect", "--since", "1h", "--no-follow")

    assert result.code == 0, result.err
    told = "clusters of the configuration: west" if how == "configured" else "contexts with a Hubble Relay: west"
    assert told in result.err
    assert stored(db) == expected(flows)
    with Store.open(db) as store:
        assert store.rows(SERVICES) == [("west", "back", "none", True)]


def test_without_objects(
    server: ApiServer, program: Callable[[str], Path], flows: dict[str, list[Event]], db: Path, tmp_path: Path,
    meshobs: Callable[..., Outcome],
) -> None:  # fmt: skip
    """--no-kube reads flows only; the report says what it cannot know."""
    with mesh(server, program, flows, tmp_path):
        options = ("--kubeconfig", server.kubeconfig, "--since", "1h", "--no-follow", "--no-kube")
        result = meshobs("--db", db, "collect", "--context", "west", *options)

    assert result.code == 0, result.err
    assert stored(db) == expected(flows)
    with Store.open(db) as store:
        assert store.rows("select count(*) from kube_states") == [(0,)]
    report = meshobs("--db", db, "report", "affinity", "--all", "--format", "json")
    assert json.loads(report.out)["verdict"] == "insufficient"


def watching(db: Path, process: RelayProcess, server: ApiServer) -> Run:
    """Collect from one cluster's Relay and watch its objects, in a thread."""
    cluster = KubeCluster("west", kubeconfig=server.kubeconfig).connect()
    run = Run(db, {"west": dial(process)}, clusters={"west": (cluster, cluster.info())})
    wait_until(lambda: state(run) == "watching")
    return run


def state(run: Run) -> str:
    """Return how the watch stands."""
    return run.collection.progress.topology.get("west", "") if run.collection else ""


def end(run: Run) -> None:
    """Stop a run in order."""
    time.sleep(1)  # what was just changed is on its way
    run.end()


def test_changes_while_and_between_runs(
    server: ApiServer, program: Callable[[str], Path], flows: dict[str, list[Event]], db: Path, tmp_path: Path
) -> None:
    """A watched change holds from its receipt; one between two runs since the end of the first, at the earliest."""
    other = service("other", **{"global": "true"})
    with mesh(server, program, {name: [] for name in flows}, tmp_path) as process:
        back, slice_ = service("back"), endpoints("back")
        server.create(other)
        first = watching(db, process, server)
        before = time.time_ns()
        annotate(server, back, affinity="local")
        server.patch(slice_, {"endpoints": []})
        end(first)
        between = time.time_ns()
        annotate(server, back, affinity="remote")
        server.patch(slice_, {"endpoints": [endpoint("10.0.0.2")]})
        server.delete(other)
        start = time.time_ns()
        end(watching(db, process, server))

    def rows(select: str, where: str) -> list[tuple[Any, ...]]:
        with Store.open(db) as store:
            return store.rows(f"select {select} from {where} order by valid_from")

    times = "epoch_ns(valid_from), epoch_ns(known_from)"
    services = rows(f"affinity, {times}", "services where service = 'back'")
    backends = rows("address, valid_to is null", "backends where service = 'back'")
    gone = rows(f"deleted, {times}", "kube_states where name = 'other'")
    periods = rows("setting, local_backends", "service_periods where service = 'back'")

    assert [row[0] for row in services] == ["none", "local", "remote"]
    assert before < services[1][1] == services[1][2] < between
    assert services[1][1] < services[2][1] < between < start < services[2][2]
    assert backends == [("10.0.0.1", False), ("10.0.0.2", True)]
    assert gone[-1][0]
    assert gone[-1][1] < start < gone[-1][2]
    assert [row for row in periods if row[0] != "none"][-1] == ("remote", 1)
    assert ("local", 0) in periods


def test_the_api_that_goes_away_stops_nothing(
    server: ApiServer, program: Callable[[str], Path], flows: dict[str, list[Event]], db: Path, tmp_path: Path
) -> None:
    """Flows go on, the state is told, and the watch is back when the API is."""
    with mesh(server, program, {name: [] for name in flows}, tmp_path) as process:
        run = watching(db, process, server)
        server.stop_api()
        wait_until(lambda: state(run) == "reconnecting")
        wait_until(lambda: any("changes until it answers again are seen late" in text for text in run.said))
        server.start_api()
        wait_until(lambda: state(run) == "watching")
        annotate(server, service("back"), affinity="local")
        end(run)

    with Store.open(db) as store:
        assert [row[2] for row in store.rows(SERVICES)] == ["none", "local"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--context", "nowhere"), "no context nowhere"),
        (("--context", "west", "--kube-namespace", "cilium"), "cilium hubble enable"),
        ((), "no context of the kubeconfig has a Hubble Relay"),
    ],
)
def test_what_is_not_there_is_told(
    flags: tuple[str, ...], words: str, server: ApiServer, meshobs: Callable[..., Outcome]
) -> None:
    """A context that does not exist, Cilium in another namespace, nothing to find."""
    result = meshobs("collect", "--kubeconfig", server.kubeconfig, *flags)
    assert (result.code, words in result.err) == (2, True), result.err


def test_a_token_without_rights(server: ApiServer, tmp_path: Path, meshobs: Callable[..., Outcome]) -> None:
    """The missing rule is named."""
    config = server.write_kubeconfig(tmp_path / "config", {"west": (server.url, "no-rights")})
    result = meshobs("collect", "--kubeconfig", config, "--context", "west")
    assert result.code == 2
    assert ADMIN not in result.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[clusters.west]\nrelays = 'x'\n", "[clusters.west] has an unknown key relays"),
        ("[clusters.west]\nrelay = 4\n", "[clusters.west] relay must be of type str"),
        ("[clusters.west]\ntls = true\n", "[clusters.west] needs relay = 'HOST:PORT' or context = 'NAME'"),
        ("clusters = 3\n", "clusters must be tables: [clusters.west]"),
    ],
)
def test_mistakes_in_the_configuration(text: str, words: str, meshobs: Callable[..., Outcome]) -> None:
    """Each is named with its table."""
    Path("meshobs.toml").write_text(text)
    result = meshobs("collect")
    assert (result.code, words in result.err) == (2, True), result.err


def test_what_weakens_verdicts_is_told_with_the_setting_to_change() -> None:
    """Rings that turn over in seconds, aggregation, Hubble off; silence where all is well."""
    busy = RelayNode(1, "west/a", "NODE_CONNECTED", "1.17.6", "", 100 * SECOND, 4095, 4095, 100_000)
    calm = RelayNode(1, "west/b", "NODE_CONNECTED", "1.17.6", "", 100 * SECOND, 4095, 4095, 5_000)
    young = RelayNode(1, "west/c", "NODE_CONNECTED", "1.17.6", "", 0, 0, 4095, 0)
    (told,) = advice.of_nodes([calm, busy, young])
    assert told.startswith("west/a: its ring of 4,095 flows holds 4 s of traffic")
    assert list(advice.of_nodes([calm, young])) == []
    assert [line.split(":")[0] for line in advice.of_settings("west", {"enable-hubble": "false"})] == ["west"]
    assert list(advice.of_settings("west", {"monitor-aggregation": "none"})) == []

"""The Kubernetes side of the sim: held to recordings of real clusters and to a real kube-apiserver."""

import gzip
import http.client
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from ipaddress import IPv6Network
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import kubernetes.client
import kubernetes.config
import kubernetes.watch
import pytest
import yaml
from support.api_server import ADMIN, ApiServer, Proxy, RefusedError, collection, path_of
from support.command_line import Outcome
from support.recordings import RECORDINGS, truth
from support.relay_nodes import wait_until
from support.watching import CRD, Forging, Watched, watching

from meshobs.collector import advice
from meshobs.collector.kube import objects as kube
from meshobs.collector.kube import portforward, watch
from meshobs.collector.kube.api import KubeError
from meshobs.collector.kube.cluster import KubeCluster
from meshobs.errors import InputError
from meshobs.lab.clusters import kubeconfig
from meshobs.lab.experiments.recording import Recording
from meshobs.lab.mesh import model
from meshobs.lab.mesh.file import mesh_of
from meshobs.lab.mesh.model import AFFINITY, GLOBAL, walkthrough
from meshobs.lab.sim.kubeapi import printing
from meshobs.lab.sim.kubeapi.objects.maker import Json, Key
from meshobs.lab.sim.kubeapi.objects.objects import objects
from meshobs.lab.sim.kubeapi.server import KubeServer
from meshobs.lab.sim.kubeapi.store import StoredChange
from meshobs.lab.sim.world import world as worlds
from meshobs.lab.sim.world.world import Pod, Service, World
from meshobs.times import nanoseconds

TOKEN = "the-token"  # noqa: S105 - of a server that lives as long as a test
CREATED = "2026-11-23T02:46:27Z"
REAL = ("global-none", "v19-global-none", "kind-global-none")
WATCHED = {
    "Service": "services",
    "EndpointSlice": "endpointslices",
    "Node": "nodes",
    "CiliumNode": "ciliumnodes",
}


def answers(server: ApiServer, path: str) -> bool:
    """Tell whether an API server knows a path."""
    try:
        return bool(server.request("GET", path))
    except RefusedError:
        return False


def grant(server: ApiServer, user: str) -> list[Json]:
    """Create what docs/rbac.yaml says, for a user besides; return it."""
    found: list[Json] = list(yaml.safe_load_all((RECORDINGS.parents[1] / "docs" / "rbac.yaml").read_text()))
    for item in found:
        if "subjects" in item:
            item["subjects"].append({"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"})
        server.request("POST", collection(item), item)
    return found


def recorded(name: str, cluster: str = "west") -> list[Json]:
    """Return the objects of a recording."""
    items: list[Json] = json.loads((RECORDINGS / name / f"k8s-{cluster}.json").read_text())["items"]
    return items


def twin(name: str) -> World:
    """Return the world that a recording was made in: its nodes, pods and Services."""
    told: Any = truth(name)

    def cluster(number: int, one: str, pods: str, services: str) -> model.Cluster:
        nodes = tuple(
            model.Node(one, node, of["ip"], of["cidr"], control_plane=node.endswith("control-plane"))
            for node, of in told["nodes"].items()
            if of["cluster"] == one
        )
        return model.Cluster(one, number, pods, services, nodes, pods, ())

    return World(
        model.Mesh(
            clusters=(
                cluster(1, "west", "10.0.0.0/16", "10.2.0.0/16"),
                cluster(2, "east", "10.1.0.0/16", "10.3.0.0/16"),
            ),
            workloads=walkthrough().workloads,
            services=walkthrough().services,
        ),
        pods=tuple(
            Pod(
                one["cluster"],
                f"{one['cluster']}/{one['node']}",
                one.get("namespace", "default"),
                one["name"],
                one["app"],
                one["ip"],
                identity=0,
                endpoint=0,
                workload="webpod" if one["app"] == "webpod" else "",
                interface="",
                index=0,
                port=80,
            )
            for one in told["pods"]
        ),
        services=tuple(
            Service(
                one["cluster"], one["namespace"], one["name"], "webpod", one["ip"], one["port"], 80, "TCP", 0,
                MappingProxyType({GLOBAL: "true"}),
            )
            for one in told["services"]
        ),
    )  # fmt: skip


def facts(items: Sequence[Json], cluster: str) -> dict[tuple[str, str], Any]:
    """Return what the collector makes of objects, by kind and name; of a slice, by its Service's."""
    found: dict[tuple[str, str], Any] = {}
    for item in items:
        if state := kube.state_of(item, cluster):
            of = json.loads(state.state)
            if state.kind == "EndpointSlice":
                of["endpoints"].sort(key=lambda one: one["addresses"])
            found[state.kind, of.get("service", state.name)] = of
    return found


class Traced(Mapping[str, Any]):
    """A JSON object that notes which of its paths are looked up and found, with the types of their values."""

    def __init__(self, value: Mapping[str, Any], seen: set[tuple[str, str]], path: str = "") -> None:
        self._value, self._seen, self._path = value, seen, path

    def __getitem__(self, key: str) -> Any:
        path = f"{self._path}.{key}"
        value = self._value[key]
        self._seen.add((path, type(value).__name__))
        if isinstance(value, list):
            self._seen |= {(f"{path}[]", type(one).__name__) for one in value}
        return self._traced(value, path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._value)

    def __len__(self) -> int:
        return len(self._value)

    def items(self) -> Any:
        return self._value.items()

    def _traced(self, value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return Traced(value, self._seen, path)
        return [self._traced(one, f"{path}[]") for one in value] if isinstance(value, list) else value


def read(items: Sequence[Json], kind: str) -> set[tuple[str, str]]:
    """Return the paths and types that the collector reads of a kind of objects."""
    seen: set[tuple[str, str]] = set()
    traced = [Traced(item, seen) for item in items if item["kind"] == kind]
    for item in traced:
        kube.state_of(item, "west")
        portforward.relay_service(item)
    if kind == "Pod":
        for pod in portforward.reachable({"items": traced}):
            portforward.container_port(pod, "grpc")
    return seen


@pytest.mark.parametrize("kind", [*WATCHED, "Pod"])
@pytest.mark.parametrize("name", REAL)
def test_every_path_that_is_read_is_there(name: str, kind: str) -> None:
    """What the collector finds in a real object, it finds in the sim's, with the same type."""
    world = walkthrough()
    world = replace(world, services=(*world.services, model.Service("np", "webpod", ("west",), node_port=30080)))
    ours = list(objects(worlds.build(world), "west", CREATED).values())
    theirs = [
        # Only real clusters have Services without an address, and of several ports with names.
        item
        for item in recorded(name)
        if item["kind"] != "Pod" or item["metadata"]["name"].startswith(("webpod", "curl", "hubble-relay"))
    ]

    missing = read(theirs, kind) - read(ours, kind)

    assert missing == set()


@pytest.mark.parametrize("cluster", ["west", "east"])
@pytest.mark.parametrize("name", REAL)
def test_an_equivalent_world_has_the_same_facts(name: str, cluster: str) -> None:
    """Of the Services, backends and nodes of a recording the collector reads the same from the sim's objects."""
    ours = facts(list(objects(twin(name), cluster).values()), cluster)
    theirs = facts(recorded(name, cluster), cluster)

    compared = 0
    for key, fact in ours.items():
        if key not in theirs:
            assert key[0] == "Namespace" or key[1] in ("cilium-config", "hubble-relay")
            continue
        expected = theirs[key]
        if key[0] == "CiliumNode":  # cilium_host's address is chosen by Cilium
            assert len(fact["addresses"].pop() and expected["addresses"].pop()) > 0
        if not name.startswith("kind"):
            for port in expected.get("ports", ()):
                port["name"] = "" if port["name"] == "http" else port["name"]
        elif "region" in fact:  # kind sets no labels of topology
            fact["region"] = ""
        if key == ("Service", "hubble-relay"):
            fact["addresses"] = expected["addresses"]
        if key == ("EndpointSlice", "hubble-relay"):
            fact["endpoints"] = expected["endpoints"] = []
        assert fact == expected, key
        compared += 1
    assert compared == (10 if name.startswith("kind") else 8)


@pytest.mark.parametrize("cluster", ["west", "east"])
def test_two_families_as_recorded(cluster: str) -> None:
    """With IPv6 beside IPv4 nodes, ranges and settings are those of a real mesh of this description; so are families."""
    world = worlds.build(mesh_of({"variant": "dual-stack"}))
    ours, theirs = (
        {(item["kind"], item["metadata"]["name"]): item for item in items}
        for items in (objects(world, cluster).values(), recorded("dual17-families", cluster))
    )

    for node in (f"{cluster}-control-plane", f"{cluster}-worker"):
        assert ours["Node", node]["status"]["addresses"] == theirs["Node", node]["status"]["addresses"]
        assert [IPv6Network(one["Node", node]["spec"]["podCIDRs"][1]) for one in (ours, theirs)] == [
            IPv6Network(theirs["CiliumNode", node]["spec"]["ipam"]["podCIDRs"][1])
        ] * 2
        kinds = [[one["type"] for one in side["CiliumNode", node]["spec"]["addresses"]] for side in (ours, theirs)]
        assert kinds[0] == kinds[1]
    specs = [side["Service", "webpod"]["spec"] for side in (ours, theirs)]
    for field in ("ipFamilies", "ipFamilyPolicy"):
        assert specs[0][field] == specs[1][field]
    assert [len(spec["clusterIPs"]) for spec in specs] == [2, 2]
    slices = [
        sorted(
            (item["addressType"], len(item["endpoints"]), ":" in item["endpoints"][0]["addresses"][0])
            for (kind, _), item in side.items()
            if kind == "EndpointSlice" and item["metadata"]["labels"]["kubernetes.io/service-name"] == "webpod"
        )
        for side in (ours, theirs)
    ]
    assert slices[0] == slices[1] == [("IPv4", 2, False), ("IPv6", 2, True)]


def test_conditions_of_backends() -> None:
    """Ready is active; a terminating pod serves while it is ready; without pods the slice is another, and empty."""
    world = worlds.build(walkthrough())

    def endpoints(**changes: Any) -> Any:
        pods = tuple(replace(pod, **changes) if pod.app == "webpod" else pod for pod in world.pods)
        return facts(list(objects(replace(world, pods=pods), "west").values()), "west")["EndpointSlice", "webpod"]

    def conditions(**changes: Any) -> set[tuple[bool, bool, bool]]:
        return {(one["ready"], one["serving"], one["terminating"]) for one in endpoints(**changes)["endpoints"]}

    assert conditions() == {(True, True, False)}
    assert conditions(ready=False) == {(False, False, False)}
    assert conditions(terminating=True) == {(False, True, True)}
    none = objects(replace(world, pods=()), "west")
    (empty,) = [
        item for key, item in none.items() if key[:2] == ("endpointslices", "default") and key[2] != "kubernetes"
    ]
    assert (empty["endpoints"], empty["ports"]) == (None, None)
    assert empty["metadata"]["name"] not in {key.name for key in objects(world, "west")}


def test_many_backends_fill_slices() -> None:
    """A slice has at most a hundred endpoints, as the controller makes them; together they have all."""
    (pod,) = [pod for pod in worlds.build(walkthrough()).pods if pod.full == "west/default/curl-pod"]
    pods = tuple(replace(pod, name=f"w-{n}", app="webpod", address=f"10.0.1.{n}") for n in range(5, 230))
    found = objects(replace(worlds.build(walkthrough()), pods=pods), "west")
    slices = [item for key, item in found.items() if key.resource == "endpointslices" and "webpod" in key.name]

    assert [len(one["endpoints"]) for one in slices] == [100, 100, 25]
    assert len({end["addresses"][0] for one in slices for end in one["endpoints"]}) == 225


def test_names_and_uids_follow_from_the_seed() -> None:
    """The same mesh has the same objects in every run; another seed other ones. References lead to their objects."""
    first, again = (objects(worlds.build(walkthrough()), "west") for _ in range(2))
    other = objects(worlds.build(walkthrough(seed=2)), "west")

    assert first == again
    uids = {item["metadata"]["uid"] for item in first.values()}
    assert len(uids) == len(first)
    assert not uids & {item["metadata"]["uid"] for item in other.values()}
    (slice_,) = [item for key, item in first.items() if key.name.startswith("webpod") and key[0] == "endpointslices"]
    assert slice_["metadata"]["ownerReferences"][0]["uid"] in uids
    assert {one["targetRef"]["uid"] for one in slice_["endpoints"]} < uids


def test_settings_of_cilium(tmp_path: Path) -> None:
    """The collector learns name, number and aggregation from cilium-config and finds the Relay behind its Service."""
    with serving(worlds.build(walkthrough(aggregation="medium")), tmp_path) as sim:
        cluster = KubeCluster("sim-west", kubeconfig=sim.kubeconfig).connect()
        info, relay = cluster.info(), cluster.relay()
        pods = cluster.get("/api/v1/namespaces/kube-system/pods", {"labelSelector": relay.selector})

    assert (info.name, info.cluster_id, info.problem) == ("west", 1, "")
    assert info.settings["ipv4-native-routing-cidr"] == "10.0.0.0/16"
    assert "monitor-aggregation is medium" in next(advice.of_settings("west", info.settings))
    assert (relay.port, relay.target, relay.tls) == (80, "grpc", False)
    (pod,) = portforward.reachable(pods)
    assert portforward.container_port(pod, relay.target) == 4245


class Side(Protocol):
    """An API server that shows a world."""

    kubeconfig: Path

    def show(self, shown: Mapping[Key, Json]) -> None: ...
    def compact(self) -> None: ...
    def cut(self) -> None: ...
    def heal(self) -> None: ...
    def forbid(self) -> None: ...
    def allow(self) -> None: ...


class Sim:
    """The sim's server."""

    def __init__(self, world: World, folder: Path, **hooks: Any) -> None:
        self.world = world
        self.server = KubeServer("west", TOKEN, **hooks)
        self.server.start()
        self.kubeconfig = folder / "sim-kubeconfig"
        kubeconfig.write(self.kubeconfig, dict.fromkeys(("sim-west", "west", "watcher"), (self.server.address, TOKEN)))
        self.show(objects(world, "west"))

    def show(self, shown: Mapping[Key, Json]) -> None:
        self.server.update(shown)

    def compact(self) -> None:
        self.server.compact()

    def cut(self) -> None:
        self.server.stop()

    def heal(self) -> None:
        self.server.start()

    def forbid(self) -> None:
        self.server.forbidden |= {*WATCHED.values(), "namespaces"}

    def allow(self) -> None:
        self.server.forbidden.clear()


class Real:
    """A real kube-apiserver behind a proxy, with the kinds of a world that are watched."""

    def __init__(self, server: ApiServer, world: World, folder: Path) -> None:
        self.server = server
        self.proxy = Proxy(server.port)
        url = f"https://127.0.0.1:{self.proxy.port}"
        self.kubeconfig = server.write_kubeconfig(
            folder / "kubeconfig", {"west": (url, ADMIN), "watcher": (url, "watcher-token")}
        )
        self._shown: dict[Key, Json] = {}
        self._applied: list[Json] = []
        self.show(objects(world, "west"))

    def show(self, shown: Mapping[Key, Json]) -> None:
        wanted = {key: item for key, item in shown.items() if key[0] in WATCHED.values() and key.name != "kubernetes"}
        for key in self._shown.keys() - wanted.keys():
            self.server.delete_now(self._shown[key])
        for key, item in wanted.items():
            if key not in self._shown:
                self.server.create(item)
            elif item != self._shown[key]:
                held = self.server.request("GET", path_of(item))
                kept = {name: held["metadata"][name] for name in ("resourceVersion", "uid")}
                self.server.request("PUT", path_of(item), {**item, "metadata": {**item["metadata"], **kept}})
        self._shown = wanted

    def compact(self) -> None:
        self.server.compact()

    def cut(self) -> None:
        self.proxy.cut()

    def heal(self) -> None:
        self.proxy.open()

    def forbid(self) -> None:
        """Do nothing: `watcher` has no rights until it gets some."""

    def allow(self) -> None:
        self._applied = grant(self.server, "watcher")

    def close(self) -> None:
        self.proxy.cut()
        for item in self._applied:
            self.server.delete(item)


@contextmanager
def serving(world: World, folder: Path, **hooks: Any) -> Iterator[Sim]:
    """Serve a world until the end of the block."""
    sim = Sim(world, folder, **hooks)
    try:
        yield sim
    finally:
        sim.server.stop()


@pytest.fixture
def sides(server: ApiServer, tmp_path: Path) -> Iterator[list[Side]]:
    """Return a real API server and the sim's, with the same world."""
    server.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CRD)
    wait_until(lambda: answers(server, "/apis/cilium.io/v2/ciliumnodes"))
    world = worlds.build(walkthrough())
    with closing(Real(server, world, tmp_path)) as real, serving(world, tmp_path) as sim:
        yield [real, sim]
    server.delete(CRD)
    wait_until(lambda: not answers(server, "/apis/cilium.io/v2/ciliumnodes"))


def seen(watched: Watched) -> dict[tuple[str, str, str], list[tuple[str, bool]]]:
    """Return the states of each object in order, but of those that an API server makes itself."""
    found: dict[tuple[str, str, str], list[tuple[str, bool]]] = {}
    for one in watched.seen:
        if one.state.name != "kubernetes":
            key = one.state.kind, one.state.namespace, one.state.name
            found.setdefault(key, []).append((one.state.state, one.deleted))
    return found


def follows(watched: Watched) -> bool:
    """Tell whether everything is watched just now."""
    return watched.watch.state == "watching"


def changed(world: World, *, annotations: Mapping[str, str] | None = None, **of_pods: Any) -> World:
    """Return a world with other annotations of west's webpod, or other conditions of its pods."""
    return replace(
        world,
        services=tuple(
            replace(one, annotations=MappingProxyType(dict(annotations)))
            if annotations is not None and one.cluster == "west"
            else one
            for one in world.services
        ),
        pods=tuple(
            replace(pod, **of_pods) if pod.app == "webpod" and pod.cluster == "west" else pod for pod in world.pods
        ),
    )


def stepped(side: Side) -> Any:
    """Change a world step by step before a watch; return what it saw and said."""
    world = worlds.build(walkthrough())
    local = {GLOBAL: "true", AFFINITY: "local"}
    slice_ = next(k.name for k in objects(world, "west") if k[0] == "endpointslices" and k.name.startswith("webpod"))
    with watching(KubeCluster("west", kubeconfig=side.kubeconfig).connect()) as watched:
        side.show(objects(changed(world, annotations=local), "west"))
        watched.next_of("webpod", 2)
        side.show(objects(changed(world, annotations=local, ready=False), "west"))
        watched.next_of(slice_, 2, "EndpointSlice")
        gone = replace(changed(world, annotations=local), pods=())
        before = seen(watched).keys()
        side.show(objects(gone, "west"))
        assert watched.next_of(slice_, 3, "EndpointSlice").deleted
        # What takes its place must be seen, too: cut off before, the watch could never tell that it went.
        wait_until(lambda: any(key[0] == "EndpointSlice" for key in seen(watched).keys() - before))
        side.cut()
        wait_until(lambda: watched.watch.state == "reconnecting" and watched.said)
        later = changed(world, annotations={})
        extra = replace(world.services[0], name="extra", address="10.2.9.9", annotations=MappingProxyType({}))
        side.show(objects(replace(later, services=(*later.services, extra)), "west"))
        side.heal()
        watched.next_of("webpod", 3)
        watched.next_of("extra", 1)
        watched.next_of(slice_, 4, "EndpointSlice")
        wait_until(lambda: watched.watch.state == "watching")
        placeholder = [key for key in seen(watched) if key[0] == "EndpointSlice" and key[2] != slice_]
        wait_until(lambda: any(deleted for key in placeholder for _, deleted in seen(watched)[key]))
        side.show(objects(later, "west"))
        assert watched.next_of("extra", 2).deleted
        wait_until(lambda: all(of[-1][1] for key, of in seen(watched).items() if key[2].startswith("extra")))
        states = seen(watched)
    return states, [line.partition("127.0.0.1")[0].replace("https", "http") for line in watched.said]


def test_the_same_history_as_from_a_real_server(sides: list[Side]) -> None:
    """Changed, unready, emptied, deleted, changed behind a cut connection: state for state what a real server brings."""
    (real, real_said), (sim, sim_said) = map(stepped, sides)

    assert sim == real
    assert sim_said == real_said
    assert len(sim) >= 9


def compacting(side: Side, parameter: str, query: dict[str, str]) -> bool:
    """Change webpod and forget history before the first request with that parameter; a watch begins too early then."""
    if parameter not in query:
        return False
    side.show(objects(changed(worlds.build(walkthrough()), annotations={}), "west"))
    side.compact()
    if parameter == "watch":
        query["resourceVersion"] = "1"
    return True


def test_gone_versions_as_from_a_real_server(sides: list[Side]) -> None:
    """A watch from a version that is compacted away leads to one new list, which brings what happened meanwhile."""
    found = []
    for side in sides:
        cluster = Forging("west", kubeconfig=side.kubeconfig, forge=partial(compacting, side, "watch")).connect()
        with watching(cluster) as watched:
            watched.next_of("webpod", 2)
            wait_until(partial(follows, watched))
        found.append((seen(watched), watched.said, cluster.lists))

    assert found[0] == found[1]
    assert found[0][2] == 2


def test_expired_pages_as_from_a_real_server(sides: list[Side], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists come in pages of one moment; one whose version is compacted away meanwhile is read anew, nothing twice."""
    monkeypatch.setattr(watch, "PAGE", 1)
    found = []
    for side in sides:
        cluster = Forging("west", kubeconfig=side.kubeconfig, forge=partial(compacting, side, "continue")).connect()
        with watching(cluster) as watched:
            watched.next_of("webpod", 1)
        found.append((seen(watched), watched.said, cluster.lists))

    assert found[0] == found[1]
    assert found[0][2] == 2


def test_missing_rights_as_from_a_real_server(sides: list[Side], monkeypatch: pytest.MonkeyPatch) -> None:
    """403 names the same missing rules; once they are granted, the watch brings the same."""
    monkeypatch.setattr(watch, "RETRY_SECONDS", 0.2)
    found = []
    for side in sides:
        side.forbid()
        cluster = KubeCluster("watcher", kubeconfig=side.kubeconfig).connect()
        state = "no permission for services, endpointslices, nodes, namespaces, ciliumnodes"
        with watching(cluster, state) as watched:
            side.allow()
            wait_until(partial(follows, watched))
        found.append((seen(watched), sorted(watched.said)))

    assert found[0] == found[1]
    assert len(found[0][1]) == 5


def _raw(answers: Callable[[str, Mapping[str, str]], Any], path: str, **query: str) -> Any:
    """Return status and body of an answer, without what differs from run to run."""
    try:
        found = answers(path, query)
    except KubeError as error:
        return error.status
    kept = {"continue", "remainingItemCount", "resourceVersion"}
    listed = [(one["metadata"]["name"], "kind" in one) for one in found.get("items", ())]
    names = {name for name in kept if found["metadata"].get(name)} if "items" in found else set()
    return found["kind"], found["apiVersion"], listed, names


QUESTIONS: tuple[tuple[str, dict[str, str]], ...] = (
    ("/api/v1/namespaces/default/services", {"fieldSelector": "metadata.name=webpod"}),
    ("/api/v1/namespaces/default/services", {"fieldSelector": "metadata.name!=webpod,metadata.name!=kubernetes"}),
    ("/api/v1/namespaces/default/services", {"labelSelector": "app=webpod"}),
    ("/api/v1/namespaces/default/services", {"labelSelector": "app!=webpod,!component"}),
    ("/api/v1/services", {"labelSelector": "app==nothing"}),
    ("/api/v1/namespaces/default/services", {"limit": "1"}),
    ("/api/v1/namespaces/default/services", {"limit": "1", "labelSelector": "app"}),
    ("/api/v1/namespaces/default/services", {"limit": "many"}),
    ("/api/v1/namespaces/default/services", {"continue": "nonsense"}),
    ("/api/v1/services", {"fieldSelector": "spec.nothing=1"}),
    ("/api/v1/namespaces/default/services/nothing", {}),
    ("/api/v1/namespaces/kube-system/secrets/nothing", {}),
    ("/api/v1/nothing", {}),
    ("/apis/nothing/v1/services", {}),
    ("/apis/cilium.io/v2/ciliumnodes", {}),
    ("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices", {"labelSelector": "k8s-app=hubble-relay"}),
)


def test_answers_as_a_real_server_gives(sides: list[Side]) -> None:
    """Lists, selections, pages and refusals have the same status and the same form."""
    clusters = [KubeCluster("west", kubeconfig=side.kubeconfig).connect() for side in sides]
    real, sim = ({f"{path} {query}": _raw(one.get, path, **query) for path, query in QUESTIONS} for one in clusters)

    assert len(real) == 16
    assert sim == real


def test_tables_as_a_real_server_prints(sides: list[Side]) -> None:
    """What kubectl prints of every kind has a real server's columns and cells, but for the age."""
    real, sim = sides
    assert isinstance(real, Real)
    assert isinstance(sim, Sim)
    more = [item for key, item in objects(sim.world, "west").items() if key[0] in ("pods", "deployments", "configmaps")]
    for item in more:
        created = real.server.create(item)
        if item["kind"] == "Deployment":
            real.server.request("PUT", f"{path_of(item)}/status", {**created, "status": item["status"]})
    try:
        tables = [[_table(*whose, path) for path in PRINTED] for whose in _doors(real, sim)]
    finally:
        for item in more:
            real.server.delete_now(item)

    assert tables[1] == tables[0]
    assert sum(len(rows) for _, rows in tables[0]) == 15


PRINTED = (
    "/api/v1/services?fieldSelector=metadata.name!%3Dkubernetes",
    "/apis/discovery.k8s.io/v1/endpointslices?fieldSelector=metadata.name!%3Dkubernetes",
    "/api/v1/nodes",
    "/api/v1/pods",
    "/api/v1/namespaces/default/pods/curl-pod",
    # Without those that an API server makes itself.
    "/api/v1/namespaces/kube-system/configmaps?fieldSelector=metadata.name!%3Dkube-root-ca.crt,metadata.name!%3Dextension-apiserver-authentication,metadata.name!%3Dkube-apiserver-legacy-service-account-token-tracking",
    "/apis/apps/v1/deployments",
)


def _doors(real: Real, sim: Sim) -> Iterator[tuple[http.client.HTTPConnection, str]]:
    """Yield a connection to each server, with the token."""
    trusted = ssl.create_default_context(cafile=str(real.server.authority))
    for connection, token in (
        (http.client.HTTPSConnection("127.0.0.1", real.server.port, timeout=20, context=trusted), ADMIN),
        (http.client.HTTPConnection(sim.server.address.removeprefix("http://"), timeout=20), TOKEN),
    ):
        with closing(connection):
            yield connection, token


def _table(connection: http.client.HTTPConnection, token: str, path: str) -> tuple[Any, Any]:
    """Return a table's columns and rows, as kubectl asks for them; without the age."""
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    connection.request("GET", path, headers={"authorization": f"Bearer {token}", "accept": accept})
    found = json.loads(connection.getresponse().read())
    columns = [
        tuple(one[what] for what in ("name", "type", "format", "priority")) for one in found["columnDefinitions"]
    ]
    old = [one[0] for one in columns].index("Age")
    rows = [row["cells"][:old] + row["cells"][old + 1 :] for row in found["rows"]]
    assert all(row["object"]["kind"] == "PartialObjectMetadata" for row in found["rows"])
    return columns, rows


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0s"), (119, "119s"), (120, "2m"), (121, "2m1s"), (599, "9m59s"), (601, "10m"), (10_799, "179m")),
        *((10_800, "3h"), (10_860, "3h1m"), (28_800, "8h"), (172_799, "47h"), (172_800, "2d"), (176_400, "2d1h")),
        *((8 * 86_400 + 3600, "8d"), (-5, "0s")),
    ],
)
def test_ages_as_kubectl_writes_them(seconds: int, text: str) -> None:
    """Two units at most, the smaller one only while it counts."""
    created = nanoseconds(CREATED)
    assert created
    assert printing.age({"metadata": {"creationTimestamp": CREATED}}, created + seconds * 10**9) == text


def test_the_official_client(tmp_path: Path) -> None:
    """The Python client of Kubernetes lists, reads, pages, watches, annotates and scales."""
    scaled: list[tuple[str, str, str, int]] = []
    annotated: list[Any] = []
    hooks = {"on_scale": lambda *found: scaled.append(found), "on_annotate": lambda *found: annotated.append(found)}
    with serving(worlds.build(walkthrough()), tmp_path, **hooks) as sim:
        client = kubernetes.config.new_client_from_config(str(sim.kubeconfig), "sim-west")  # type: ignore[no-untyped-call]
        core: Any = kubernetes.client.CoreV1Api(client)
        apps: Any = kubernetes.client.AppsV1Api(client)
        discovery: Any = kubernetes.client.DiscoveryV1Api(client)
        custom: Any = kubernetes.client.CustomObjectsApi(client)
        listed = core.list_service_for_all_namespaces()
        page = core.list_namespaced_pod("default", limit=2)
        rest = core.list_namespaced_pod("default", limit=2, _continue=page.metadata._continue)
        node = core.read_node("west-worker")
        with pytest.raises(kubernetes.client.ApiException, match="not found") as absent:
            core.read_namespaced_pod("nothing", "default")
        slices = discovery.list_namespaced_endpoint_slice("default")
        own = custom.list_cluster_custom_object("cilium.io", "v2", "ciliumnodes")
        deployment = apps.read_namespaced_deployment("webpod", "default")
        scale = apps.patch_namespaced_deployment_scale("webpod", "default", {"spec": {"replicas": 3}})
        change = {"metadata": {"annotations": {AFFINITY: "local", GLOBAL: None}}}
        patched = core.patch_namespaced_service("webpod", "default", change)
        following: Any = kubernetes.watch.Watch()  # type: ignore[no-untyped-call]
        events = following.stream(
            core.list_namespaced_service,
            "default",
            resource_version=listed.metadata.resource_version,
            timeout_seconds=1,
        )
        found = [(event["type"], event["object"].metadata.name) for event in events]

    assert {one.metadata.name for one in listed.items} == {"kubernetes", "webpod", "hubble-relay"}
    assert len(page.items) + len(rest.items) == 3
    assert not rest.metadata._continue
    assert node.status.addresses[0].address == "172.18.0.3"
    assert absent.value.status == 404
    assert {len(one.endpoints) for one in slices.items} == {1, 2}
    assert len(own["items"]) == 2
    assert deployment.status.ready_replicas == 2
    assert scale.spec.replicas == 3
    assert scaled == [("west", "default", "webpod", 3)]
    assert annotated == [("west", "default", "webpod", {AFFINITY: "local", GLOBAL: None})]
    assert patched.metadata.annotations == {AFFINITY: "local"}
    assert found == [("MODIFIED", "webpod")]


def test_annotations_go_through_the_world(tmp_path: Path) -> None:
    """A PATCH reaches the callback, which changes the world; a watch sees MODIFIED once; what it refuses is refused."""
    shown: list[StoredChange] = []

    def on_annotate(_cluster: str, _namespace: str, _name: str, changes: dict[str, str | None]) -> None:
        if changes.get(AFFINITY) == "nowhere":
            raise InputError("there is no such affinity")
        kept = {name: value for name, value in {GLOBAL: "true", **changes}.items() if value}
        sim.show(objects(changed(sim.world, annotations=kept), "west"))

    with serving(worlds.build(walkthrough()), tmp_path, on_annotate=on_annotate, on_change=shown.append) as sim:
        with watching(KubeCluster("west", kubeconfig=sim.kubeconfig).connect()) as watched:
            shown.clear()
            answers = [
                request(sim, "PATCH", "/api/v1/namespaces/default/services/webpod", body, kind)
                for body, kind in (
                    ({"metadata": {"annotations": {AFFINITY: "local"}}}, "merge-patch"),
                    ({"metadata": {"annotations": {AFFINITY: "nowhere"}}}, "strategic-merge-patch"),
                    ({"metadata": {"labels": {"a": "b"}}}, "merge-patch"),
                    ({"metadata": {"resourceVersion": "1", "annotations": {}}}, "merge-patch"),
                    ([], "merge-patch"),
                    ([], "json-patch"),
                )
            ]
            affine = watched.next_of("webpod", 2)

    assert [code for code, _ in answers] == [200, 400, 400, 409, 400, 415]
    assert answers[0][1]["metadata"]["annotations"] == {GLOBAL: "true", AFFINITY: "local"}
    assert answers[1][1]["message"] == "there is no such affinity"
    assert json.loads(affine.state.state)["affinity"] == "local"
    assert [(one.type, one.key.name) for one in shown] == [("MODIFIED", "webpod")]
    assert answers[0][1]["metadata"]["resourceVersion"] == str(shown[0].version)


def request(sim: Sim, method: str, path: str, body: object = None, kind: str = "json", token: str = TOKEN) -> Any:
    """Ask the sim's server without any library; return status and document."""
    host = sim.server.address.removeprefix("http://")
    headers = {"authorization": f"Bearer {token}", "content-type": f"application/{kind}+json"}
    with closing(http.client.HTTPConnection(host, timeout=20)) as connection:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_who_may_ask(tmp_path: Path) -> None:
    """Only those with the token, as bearer or first in the path: kubectl sends no bearer token without TLS."""
    with serving(worlds.build(walkthrough()), tmp_path) as sim:
        codes = [
            request(sim, "GET", path, token=token)[0]
            for path, token in (
                ("/version", TOKEN),
                ("/version", "wrong"),
                (f"/{TOKEN}/version", "wrong"),
                ("/wrong/version", ""),
                (f"/{TOKEN}/api/v1/nodes", ""),
            )
        ]
        kubeconfig.write(tmp_path / "stranger", {"x": (sim.server.address, "wrong")})
        with pytest.raises(KubeError, match="does not accept the kubeconfig's credentials"):
            KubeCluster("x", kubeconfig=tmp_path / "stranger").connect()

    assert codes == [200, 401, 200, 401, 200]
    assert sim.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_discovery_names_every_resource(tmp_path: Path) -> None:
    """Every resource that is discovered can be listed; nothing but GET and PATCH is allowed."""
    with serving(worlds.build(walkthrough()), tmp_path) as sim:
        _, groups = request(sim, "GET", "/apis")
        versions = ["/api/v1", *(f"/apis/{one['preferredVersion']['groupVersion']}" for one in groups["groups"])]
        found = {}
        for version in versions:
            _, listed = request(sim, "GET", version)
            for one in listed["resources"]:
                if "list" in one["verbs"]:
                    code, items = request(sim, "GET", f"{version}/{one['name']}")
                    found[one["name"]] = code, items["kind"] == f"{one['kind']}List"
        codes = [request(sim, method, "/api/v1/namespaces/default/pods/curl-pod")[0] for method in ("DELETE", "PUT")]

    assert {*WATCHED.values(), "namespaces", "pods", "deployments", "configmaps", "secrets"} == found.keys()
    assert set(found.values()) == {(200, True)}
    assert codes == [405, 405]


def test_what_the_server_adds(tmp_path: Path) -> None:
    """Creation is when an object is first shown and stays; versions grow; generations count what is wanted."""
    now = [10**18]
    with serving(worlds.build(walkthrough()), tmp_path, clock=lambda: now[0]) as sim:
        slice_ = next(
            key for key in sim.server.objects() if key[0] == "endpointslices" and key.name.startswith("webpod")
        )
        service = Key("services", "default", "webpod")
        first = sim.server.objects()
        now[0] += 10**9
        sim.show(objects(changed(sim.world, ready=False), "west"))
        second = sim.server.objects()
        sim.show(objects(changed(sim.world, terminating=True), "west"))
        pods = [
            item for key, item in sim.server.objects().items() if key[0] == "pods" and key.name.startswith("webpod")
        ]

    stamped = [one[slice_]["metadata"] for one in (first, second)]
    assert stamped[0]["creationTimestamp"] == stamped[1]["creationTimestamp"] == "2001-09-09T01:46:40Z"
    assert [one["generation"] for one in stamped] == [1, 2]
    assert int(stamped[0]["resourceVersion"]) < int(stamped[1]["resourceVersion"])
    assert first[service] == second[service]
    assert {pod["metadata"]["deletionTimestamp"] for pod in pods} == {"2001-09-09T01:46:41Z"}
    assert portforward.reachable({"items": pods}) == []


def test_watches_in_detail(tmp_path: Path) -> None:
    """Without a version all objects come first; bookmarks end a watch in order; a selection is entered and left."""
    with serving(worlds.build(walkthrough()), tmp_path) as sim:
        cluster = KubeCluster("west", kubeconfig=sim.kubeconfig).connect()
        lines: list[Any] = []

        def follow(**query: str) -> None:
            answer = cluster.open("/api/v1/namespaces/default/pods", {"watch": "1", "timeoutSeconds": "2", **query})
            lines.extend(json.loads(line) for line in answer)

        follower = threading.Thread(
            target=follow, kwargs={"allowWatchBookmarks": "true", "labelSelector": "app=webpod"}
        )
        follower.start()
        wait_until(lambda: len(sim.server._store._changed._waiters) > 0)  # type: ignore[attr-defined]
        pods = tuple(replace(pod, app="other") if pod.app == "webpod" else pod for pod in sim.world.pods)
        sim.show(objects(replace(sim.world, pods=pods), "west"))
        follower.join(20)

    assert [line["type"] for line in lines] == ["ADDED", "ADDED", "DELETED", "DELETED", "BOOKMARK"]
    versions = [int(line["object"]["metadata"]["resourceVersion"]) for line in lines]
    assert versions[-1] >= max(versions)


def test_ports_are_forwarded(tmp_path: Path) -> None:
    """Two megabytes there and back through the API; what nothing listens on says so, as does 403."""
    said: list[str] = []
    data = os.urandom(2_000_000)
    echo = socket.create_server(("127.0.0.1", 0))
    targets = [f"127.0.0.1:{echo.getsockname()[1]}", ""]

    def serve() -> None:
        with echo, echo.accept()[0] as connection:
            while piece := connection.recv(65_536):
                connection.sendall(piece)

    threading.Thread(target=serve, daemon=True).start()
    asked: list[tuple[str, int]] = []

    def on_forward(namespace: str, _name: str, number: int) -> str:
        asked.append((namespace, number))
        return targets.pop(0) if targets else ""

    with serving(worlds.build(walkthrough()), tmp_path, on_forward=on_forward) as sim:
        cluster = KubeCluster("west", kubeconfig=sim.kubeconfig).connect()
        with closing(cluster.forward(cluster.relay(), said.append)) as forward:
            with socket.create_connection(("127.0.0.1", forward.port), 20) as connection:
                writer = threading.Thread(target=connection.sendall, args=(data,))
                writer.start()
                back = b""
                while len(back) < len(data):
                    back += connection.recv(65_536)
                writer.join(20)
            assert said == []
            for _ in range(2):
                with socket.create_connection(("127.0.0.1", forward.port), 20) as connection:
                    assert connection.recv(1) == b""
                sim.server.forbidden.add("pods/portforward")
            wait_until(lambda: len(said) == 2)
        sim.server.forbidden.clear()
        plain = request(sim, "GET", "/api/v1/namespaces/default/pods/curl-pod/portforward?ports=1")[0]
        absent = request(sim, "GET", "/api/v1/namespaces/default/pods/nothing/portforward?ports=1")[0]

    assert back == data
    assert asked == [("kube-system", 4245), ("kube-system", 4245), ("default", 1)]
    assert "error forwarding port 4245" in said[0]
    assert 'resources ["pods/portforward"]' in said[1]
    assert (plain, absent) == (400, 404)


def test_a_recording_is_what_was_recorded(
    tmp_path: Path, recorded: Callable[[str], Path], meshobs: Callable[..., Outcome]
) -> None:
    """A real recording written anew imports as before: the same bytes, and reports say the same."""
    source, folder = RECORDINGS / "global-none", tmp_path / "written"
    recording = Recording(folder).make()
    for cluster in ("west", "east"):
        data, at = gzip.decompress((source / f"{cluster}.bin.gz").read_bytes()), 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 4])
            recording.flow(cluster, data[at + 4 : at + 4 + length])
            at += 4 + length
        for resource, short in (("services", "svc"), ("endpointslices", "endpointslices")):
            for line in (source / f"watch-{cluster}-{short}.jsonl").read_text().splitlines():
                event = json.loads(line)
                received = nanoseconds(event["received"])
                assert received
                recording.event(cluster, resource, received, event["type"], event["object"])
    documents = {
        kind: {cluster: json.loads((source / f"{kind}-{cluster}.json").read_text()) for cluster in ("west", "east")}
        for kind in ("k8s", "relay")
    }
    recording.close(
        {cluster: of["items"] for cluster, of in documents["k8s"].items()},
        documents["relay"],
        json.loads((source / "truth.json").read_text()),
    )

    names = {path.name for path in source.iterdir()} - {"west.jsonpb.gz"}
    assert {path.name for path in folder.iterdir()} == names
    for name in names:
        before, after = ((one / name).read_bytes() for one in (source, folder))
        if name.endswith(".gz"):
            assert gzip.decompress(after) == gzip.decompress(before)
        elif name.endswith(".jsonl"):
            assert after == before
        else:
            assert json.loads(after) == json.loads(before)
    assert meshobs("--db", tmp_path / "db", "import", folder).code == 0
    for report in ("coverage", "affinity"):
        arguments = ("report", report, "--format", "json", "--all")
        again = meshobs("--db", tmp_path / "db", *arguments)
        assert again.code == 0
        assert (
            json.loads(again.out)["verdict"]
            == json.loads(meshobs("--db", recorded("global-none"), *arguments).out)["verdict"]
        )
    with pytest.raises(InputError, match="is not empty: name a new folder"):
        Recording(folder).make()


def test_a_recording_of_the_sim(tmp_path: Path, meshobs: Callable[..., Outcome]) -> None:
    """What the sim's server shows and changes becomes a watch log that the history is made of."""
    recording = Recording(tmp_path / "sim").make()

    def on_change(change: StoredChange) -> None:
        recording.event("west", change.key.resource, time.time_ns(), change.type, change.last)

    with serving(worlds.build(walkthrough()), tmp_path, on_change=on_change) as sim:
        sim.show(objects(changed(sim.world, annotations={GLOBAL: "true", AFFINITY: "local"}), "west"))
        held = sim.server.objects()
    data = gzip.decompress((RECORDINGS / "global-none" / "west.bin.gz").read_bytes())
    recording.flow("west", data[4 : 4 + int.from_bytes(data[:4])])
    recording.close({"west": held.values()}, {}, {})

    assert meshobs("--db", tmp_path / "db", "import", tmp_path / "sim").code == 0
    query = "select service, affinity from services where service = 'webpod' order by valid_from"
    found = meshobs("--db", tmp_path / "db", "sql", "--format", "json", query)
    assert [one["affinity"] for one in json.loads(found.out)] == ["none", "local"]

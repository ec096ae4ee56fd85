"""The Kubernetes side of a live collection, against a real kube-apiserver with etcd.

There is no kubelet: what port-forwarding needs of one is a stand-in behind the real API server.
"""

import base64
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from support.api_server import (
    ADMIN,
    ApiServer,
    Kubelet,
    Object,
    Proxy,
    RefusedError,
    annotate,
    endpoint,
    endpoints,
    in_kube_system,
    path_of,
    relay_pod,
    serve_relay,
    service,
)
from support.recordings import RECORDINGS
from support.relay_nodes import free_port, wait_until
from support.watching import CRD, Forging, Watched, watching

from meshobs.collector.kube import objects as kube
from meshobs.collector.kube import watch
from meshobs.collector.kube.api import KubeError, contexts
from meshobs.collector.kube.cluster import KubeCluster
from meshobs.collector.write import facts
from meshobs.store import Store
from meshobs.times import nanoseconds

SECOND = 10**9
WATCHED = ("Service", "EndpointSlice", "Node", "CiliumNode")


@pytest.fixture
def cilium_nodes(server: ApiServer) -> Iterator[ApiServer]:
    """Return the API server with the kind CiliumNode."""
    server.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CRD)
    wait_until(lambda: _answers(server, "/apis/cilium.io/v2/ciliumnodes"))
    yield server
    server.delete(CRD)
    wait_until(lambda: not _answers(server, "/apis/cilium.io/v2/ciliumnodes"))


def _answers(server: ApiServer, path: str) -> bool:
    try:
        return bool(server.request("GET", path))
    except RefusedError:
        return False


def recorded(name: str) -> list[Object]:
    """Return the objects of a recording that are watched, but the API's own Service and its slice."""
    listed = json.loads((RECORDINGS / name / "k8s-west.json").read_text())["items"]
    return [item for item in listed if item["kind"] in WATCHED and item["metadata"]["name"] != "kubernetes"]


@pytest.mark.parametrize(("recording", "count"), [("kind-global-none", 20), ("v19-perpacket-lb", 8)])
def test_recorded_objects_are_seen_as_they_are(cilium_nodes: ApiServer, recording: str, count: int) -> None:
    """What a real API server lists has the same states as the recording; assumed for a minute at most, known from then."""
    objects = recorded(recording)
    for item in objects:
        cilium_nodes.create(item)
    expected = {(state.kind, state.name, state.state) for item in objects if (state := kube.state_of(item, "west"))}
    assert len(expected) == count

    with watching(KubeCluster("west", kubeconfig=cilium_nodes.kubeconfig).connect()) as watched:
        synced = time.time_ns()
        found = {(seen.state.kind, seen.state.name, seen.state.state) for seen in watched.seen}
        assert {one for one in found if one[:2] != ("Service", "kubernetes") and one[0] != "Namespace"} == expected
        assert ("Namespace", "default", '{"global": ""}') in found
        assert len(found) == len(watched.seen)
        assert watched.said == []
    for seen in watched.seen:
        assert seen.known_from
        assert watched.began < seen.known_from < synced
        created = nanoseconds(seen.state.created)
        assert created
        assert seen.valid_from == max(created, seen.known_from - 60 * SECOND)
    assert len({seen.known_from for seen in watched.seen if seen.state.kind == "Service"}) == 1


def test_old_objects_are_assumed_to_have_held_for_a_minute(server: ApiServer) -> None:
    """The API's own Service is older than the clock's minute; a clock that runs ahead shows it."""
    ahead = 3600 * SECOND
    watched = Watched(KubeCluster("west", kubeconfig=server.kubeconfig).connect())
    watched.watch.clock = lambda: time.time_ns() + ahead
    watched.watch.start()
    wait_until(lambda: watched.watch.synced)
    watched.watch.end()

    (seen,) = watched.of("kubernetes")

    assert seen.known_from
    assert seen.known_from > watched.began + ahead
    assert seen.valid_from == seen.known_from - 60 * SECOND


def test_changes_become_periods(server: ApiServer, db: Path) -> None:
    """Affinity, scaling to zero and back, and deletion are each a period from their receipt on."""
    back, slice_ = service("back", **{"global": "true"}), endpoints("back", "10.0.0.1", "10.0.0.2")
    for item in (back, slice_):
        server.create(item)

    with watching(KubeCluster("west", kubeconfig=server.kubeconfig).connect()) as watched:
        server.patch(back, {"metadata": {"annotations": {"note": "of no interest"}}})
        before = time.time_ns()
        annotate(server, back, affinity="local")
        affine = watched.next_of("back", 2)
        assert before < affine.valid_from < time.time_ns()
        assert affine.known_from == affine.valid_from
        server.patch(slice_, {"endpoints": []})
        empty = watched.next_of("back-x", 2, "EndpointSlice")
        server.patch(slice_, {"endpoints": [endpoint("10.0.0.1")]})
        again = watched.next_of("back-x", 3, "EndpointSlice")
        server.delete(back)
        gone = watched.next_of("back", 3)
        assert gone.deleted
        assert gone.state.state == affine.state.state
    with Store.open(db, write=True) as store:
        facts.add_sightings(store, watched.seen)
        with store.transaction():
            facts.remake_history(store)
        times = "epoch_ns(valid_from), epoch_ns(valid_to)"
        services = store.rows(f"select affinity, {times} from services where service = 'back' order by valid_from")
        backends = store.rows(f"select address, {times} from backends order by valid_from, address")
        periods = store.rows(
            f"select setting, local_backends, {times} from service_periods where service = 'back' order by valid_from"
        )

    assert [row[0] for row in services] == ["none", "local"]
    assert services[0][2] == services[1][1] == affine.valid_from
    assert services[1][2] == gone.valid_from
    assert [(row[0], row[2]) for row in backends] == [
        ("10.0.0.1", empty.valid_from),
        ("10.0.0.2", empty.valid_from),
        ("10.0.0.1", None),
    ]
    assert backends[2][1] == again.valid_from
    # Before, there may be one of the Service alone: times of creation are whole seconds.
    assert [row for row in periods if row[0] != "none"] == [
        ("local", 2, affine.valid_from, empty.valid_from),
        ("local", 0, empty.valid_from, again.valid_from),
        ("local", 1, again.valid_from, gone.valid_from),
    ]


def test_changes_behind_a_broken_connection(server: ApiServer, tmp_path: Path) -> None:
    """They may have held since the last contact and are known from the new list; what is unchanged is not told again."""
    for name in ("same", "flips", "goes", "last"):
        server.create(service(name, **{"global": "true"}))
    proxy = Proxy(server.port)
    kubeconfig = server.write_kubeconfig(tmp_path / "config", {"west": (f"https://127.0.0.1:{proxy.port}", ADMIN)})

    with watching(KubeCluster("west", kubeconfig=kubeconfig).connect()) as watched:
        annotate(server, service("last"), shared="false")
        contact = watched.next_of("last", 2).valid_from
        proxy.cut()
        wait_until(lambda: watched.watch.state == "reconnecting")
        annotate(server, service("flips"), affinity="local")
        annotate(server, service("last"), affinity="remote")
        server.delete(service("goes"))
        wait_until(lambda: time.time_ns() % SECOND < SECOND // 20)  # creation times are whole seconds
        server.create(service("comes"))
        wait_until(lambda: watched.said)
        opened = time.time_ns()
        proxy.open()
        flips, goes, comes = watched.next_of("flips", 2), watched.next_of("goes", 2), watched.next_of("comes", 1)
        last = watched.next_of("last", 3)
        wait_until(lambda: watched.watch.state == "watching")
        assert len(watched.of("same")) == 1
    proxy.cut()

    assert flips.valid_from == goes.valid_from == contact
    assert goes.deleted
    assert goes.state == watched.of("goes")[0].state
    assert last.valid_from == contact + 1  # two states of one object cannot begin together
    assert comes.valid_from == nanoseconds(comes.state.created)
    assert flips.known_from
    assert opened < flips.known_from == goes.known_from == last.known_from == comes.known_from
    assert len(watched.said) == 2
    assert "cannot be reached" in watched.said[0]
    assert "answers again" in watched.said[1]


def test_a_restarted_api_server(server: ApiServer) -> None:
    """The watch goes on; unchanged objects are not told again."""
    server.create(service("back"))

    with watching(KubeCluster("west", kubeconfig=server.kubeconfig).connect()) as watched:
        server.stop_api()
        wait_until(lambda: watched.watch.state == "reconnecting")
        assert watched.watch.synced
        server.start_api()
        annotate(server, service("back"), **{"global": "true"})
        seen = watched.next_of("back", 2)
        wait_until(lambda: watched.watch.state == "watching")
        assert len(watched.of("back")) == 2
        assert len(watched.of("kubernetes")) == 1

    assert json.loads(seen.state.state)["global"] is True


def test_gone_versions_lead_to_a_new_list(server: ApiServer) -> None:
    """410: what changed between list and watch is seen, since the list at the earliest."""
    server.create(service("back", **{"global": "true"}))

    def forge(query: dict[str, str]) -> bool:
        if "watch" not in query:
            return False
        annotate(server, service("back"), affinity="local")
        query["resourceVersion"] = "1"
        return True

    cluster = Forging("west", kubeconfig=server.kubeconfig, forge=forge).connect()
    with watching(cluster) as watched:
        first, second = watched.next_of("back", 1), watched.next_of("back", 2)
        wait_until(lambda: watched.watch.state == "watching")

    with pytest.raises(KubeError, match="too old resource version"):
        _first_event(cluster, {"watch": "1", "resourceVersion": "1", "timeoutSeconds": "5"})
    assert cluster.lists == 2
    assert second.valid_from == first.known_from
    assert second.known_from
    assert second.known_from > second.valid_from
    assert watched.said == []


def test_a_slow_list(server: ApiServer) -> None:
    """What changed while a list was read did not change just when the watch that follows brings it."""
    server.create(service("back", **{"global": "true"}))

    def forge(query: dict[str, str]) -> bool:
        if "watch" not in query:
            return False
        annotate(server, service("back"), affinity="local")
        time.sleep(1.1)  # what is tested is the passing of time
        return True

    cluster = Forging("west", kubeconfig=server.kubeconfig, forge=forge).connect()
    with watching(cluster) as watched:
        first, second = watched.next_of("back", 1), watched.next_of("back", 2)

    assert cluster.lists == 1
    assert second.valid_from == first.known_from
    assert second.known_from
    assert second.known_from > second.valid_from + SECOND


def test_another_login(server: ApiServer, tmp_path: Path) -> None:
    """Credentials that are no longer accepted are read anew from the kubeconfig until they are."""
    server.create(service("back"))
    server.write_tokens("short-lived")
    server.stop_api()
    server.start_api()
    kubeconfig = server.write_kubeconfig(tmp_path / "config", {"west": (server.url, "short-lived")})

    with watching(KubeCluster("west", kubeconfig=kubeconfig).connect()) as watched:
        server.write_tokens()
        server.stop_api()
        server.start_api()
        wait_until(lambda: any("does not accept the kubeconfig's credentials" in line for line in watched.said))
        server.write_kubeconfig(kubeconfig, {"west": (server.url, ADMIN)})
        annotate(server, service("back"), **{"global": "true"})
        watched.next_of("back", 2)

    assert "answers again" in watched.said[-1]


def _first_event(cluster: KubeCluster, query: Mapping[str, str]) -> None:
    """Raise what the API says of a watch, be it as its status or as its first event."""
    answer = cluster.open("/api/v1/services", query)
    try:
        raise KubeError(str(json.loads(answer.read1(65_536))["object"]["message"]))
    finally:
        answer.close()


def test_pages_of_a_list_may_expire(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists come in pages; one whose version is compacted away meanwhile is read anew, nothing twice."""
    monkeypatch.setattr(watch, "PAGE", 2)
    names = [f"back-{number}" for number in range(5)]
    for name in names:
        server.create(service(name))

    def forge(query: dict[str, str]) -> bool:
        if "continue" not in query:
            return False
        annotate(server, service(names[0]), **{"global": "true"})
        server.compact()
        return True

    cluster = Forging("west", kubeconfig=server.kubeconfig, forge=forge).connect()
    with watching(cluster) as watched:
        counts = {name: len(watched.of(name)) for name in names}
        known = {watched.of(name)[-1].known_from for name in names}

    assert cluster.lists == 2
    assert counts == {"back-0": 2, "back-1": 1, "back-2": 1, "back-3": 1, "back-4": 1}
    assert len(known) == 1  # all pages show the same moment
    assert watched.said == []


def test_a_watch_that_ends_in_order_goes_on_where_it_was(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is listed again, and no change is lost."""
    monkeypatch.setattr(watch, "WATCH_SECONDS", 2)
    server.create(service("back"))
    watches: list[str] = []

    def note(query: dict[str, str]) -> bool:
        watches.extend(query["resourceVersion"] for _ in range("watch" in query))
        return False

    cluster = Forging("west", kubeconfig=server.kubeconfig, forge=note).connect()
    with watching(cluster) as watched:
        wait_until(lambda: len(watches) >= 3)
        annotate(server, service("back"), **{"global": "true"})
        seen = watched.next_of("back", 2)

    assert cluster.lists == 1
    assert seen.valid_from == seen.known_from


def test_a_kind_that_comes_later(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Cilium's CRD there is nothing to say; once it is there, its objects are seen."""
    monkeypatch.setattr(watch, "RETRY_SECONDS", 0.2)

    with watching(KubeCluster("west", kubeconfig=server.kubeconfig).connect()) as watched:
        assert watched.said == []
        server.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CRD)
        wait_until(lambda: _answers(server, "/apis/cilium.io/v2/ciliumnodes"))
        try:
            (item, *_) = [one for one in recorded("global-none") if one["kind"] == "CiliumNode"]
            server.create(item)
            seen = watched.next_of(item["metadata"]["name"], 1, "CiliumNode")
        finally:
            server.delete(CRD)

    expected = kube.state_of(item, "west")
    assert expected
    assert seen.state.state == expected.state


def test_rules_of_access(cilium_nodes: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rights each missing rule is named once; docs/rbac.yaml grants all of them while the watch runs."""
    monkeypatch.setattr(watch, "RETRY_SECONDS", 0.2)
    server = cilium_nodes
    server.create(service("back"))
    serve_relay(server, Kubelet(server, 0))
    for kind, name in (("ConfigMap", "cilium-config"), ("Secret", "hubble-ui-client-certs"), ("Secret", "other")):
        server.create(in_kube_system(kind, name))
    cluster = Forging("watcher", kubeconfig=server.kubeconfig, forge=lambda _query: False).connect()
    relay = KubeCluster("west", kubeconfig=server.kubeconfig).connect().relay()
    said: list[str] = []
    forward = cluster.forward(relay, said.append)

    with watching(cluster, "no permission for services, endpointslices, nodes, namespaces, ciliumnodes") as watched:
        wait_until(lambda: cluster.lists >= 3)
        assert sorted(watched.said) == [
            f"context watcher: may not list {plural}: grant rule"
            f' apiGroups ["{group}"] resources ["{plural}"] verbs ["list", "watch"] (docs/rbac.yaml)'
            for group, plural in (
                ("cilium.io", "ciliumnodes"),
                ("discovery.k8s.io", "endpointslices"),
                ("", "namespaces"),
                ("", "nodes"),
                ("", "services"),
            )
        ]
        rule = 'grant in namespace kube-system rule apiGroups [""] resources ["{}"] verbs [{}] (docs/rbac.yaml)'
        assert rule.format("configmaps", '"get"') in cluster.info().problem
        with pytest.raises(KubeError) as refused:
            cluster.relay()
        assert rule.format("services", '"get"') in str(refused.value)
        with pytest.raises(KubeError) as refused:
            cluster.secret("hubble-ui-client-certs")
        assert rule.format("secrets", '"get"') in str(refused.value)
        _touch(forward.port)
        assert rule.format("pods", '"list"') in said[-1]

        applied = _apply(server, "watcher")
        try:
            seen = watched.next_of("back", 1)
            wait_until(lambda: watched.watch.state == "watching")
            assert seen.state.name == "back"
            assert len(watched.said) == 5
            assert cluster.relay() == relay
            assert cluster.info().problem == ""
            assert cluster.secret("hubble-ui-client-certs") == {}
            with pytest.raises(KubeError, match="may not get Secret other"):
                cluster.secret("other")
            _touch(forward.port)
            assert "nothing listens on port 4245" in said[-1]
        finally:
            for item in applied:
                server.delete(item)
            forward.close()


def _apply(server: ApiServer, user: str) -> list[Object]:
    """Create what docs/rbac.yaml says, for a user besides."""
    found: list[Object] = list(yaml.safe_load_all((RECORDINGS.parents[1] / "docs" / "rbac.yaml").read_text()))
    for item in found:
        if "subjects" in item:
            item["subjects"].append({"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"})
        server.request("POST", path_of(item).rsplit("/", 1)[0], item)
    return found


def test_the_kubeconfig_and_its_contexts(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current context comes first and is the default; KUBECONFIG may name several files."""
    other = server.write_kubeconfig(tmp_path / "other", {"a": (server.url, ADMIN), "b": (server.url, ADMIN)}, "b")
    monkeypatch.setenv("KUBECONFIG", f"{server.kubeconfig}{os.pathsep}{other}")

    assert contexts(other) == ["b", "a"]
    assert contexts() == ["b", "west", "watcher", "stranger", "a"]
    assert KubeCluster("", kubeconfig=other).connect().context == "b"
    assert KubeCluster("west").connect().server == f"127.0.0.1:{server.port}"


def _mistaken(server: ApiServer, folder: Path) -> dict[str, tuple[str, Path]]:
    """Return mistakes: what is wrong -> context and kubeconfig."""
    (folder / "garbage").write_text("{]")
    (folder / "list").write_text("- a\n")
    nobody = f"https://127.0.0.1:{free_port()}"
    paths = {
        "unreachable": server.write_kubeconfig(folder / "1", {"west": (nobody, ADMIN)}),
        "unknown": server.write_kubeconfig(folder / "2", {"west": ("https://kube.invalid:6443", ADMIN)}),
        "untrusted": server.write_kubeconfig(folder / "3", {"west": (server.url, ADMIN)}),
    }
    config = json.loads(paths["untrusted"].read_text())
    del config["clusters"][0]["cluster"]["certificate-authority"]
    paths["untrusted"].write_text(json.dumps(config))
    return {
        "no file": ("west", folder / "none"),
        "garbage": ("west", folder / "garbage"),
        "list": ("west", folder / "list"),
        "no context": ("north", server.kubeconfig),
        "stranger": ("stranger", server.kubeconfig),
        **{name: ("west", path) for name, path in paths.items()},
    }


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("no file", "no kubeconfig at {path}: name one with KUBECONFIG, or `kubeconfig`"),
        ("garbage", "kubeconfig {path} cannot be read"),
        ("list", "kubeconfig {path} cannot be read"),
        ("no context", "no context north in {path}: known are west, watcher, stranger; choose one with `contexts`"),
        ("stranger", "does not accept the kubeconfig's credentials, or they expired: log in again"),
        ("unreachable", "cannot be reached (Connection refused): is the cluster running?"),
        ("unknown", "context west: the Kubernetes API at https://kube.invalid:6443 cannot be reached"),
        ("untrusted", "cannot be trusted (self-signed certificate in certificate chain)"),
    ],
)
def test_what_cannot_be_reached_says_why(server: ApiServer, tmp_path: Path, mistake: str, words: str) -> None:
    """One line, with the cure."""
    context, path = _mistaken(server, tmp_path)[mistake]

    with pytest.raises(KubeError) as refused:
        KubeCluster(context, kubeconfig=path).connect()

    assert words.format(path=path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_cilium_config(server: ApiServer) -> None:
    """Name and number of the cluster, and every setting; none of them where it is not there."""
    cluster = KubeCluster("west", kubeconfig=server.kubeconfig).connect()

    nothing = cluster.info()
    server.create(in_kube_system("ConfigMap", "cilium-config", **{"cluster-name": "west", "cluster-id": "1", "x": "y"}))
    found = cluster.info()

    assert (nothing.name, nothing.cluster_id, nothing.settings) == ("", None, {})
    assert "no ConfigMap cilium-config in namespace kube-system: name Cilium's namespace" in nothing.problem
    assert (found.name, found.cluster_id, found.problem) == ("west", 1, "")
    assert found.settings == {"cluster-name": "west", "cluster-id": "1", "x": "y"}
    assert found.state
    assert json.loads(found.state.state) == {
        "cluster_id": "1", "cluster_name": "west", "max_connected_clusters": "", "global_namespaces": "",
        "service_topology": "", "ipam": "",
    }  # fmt: skip


def test_secrets(server: ApiServer) -> None:
    """Bytes as they are; None where there is none."""
    cluster = KubeCluster("west", kubeconfig=server.kubeconfig).connect()
    server.create(in_kube_system("Secret", "certs", **{"tls.key": base64.b64encode(b"\0\xff").decode()}))

    assert cluster.secret("certs") == {"tls.key": b"\0\xff"}
    assert cluster.secret("others") is None


def _touch(port: int) -> bytes:
    """Connect and return what comes until the end."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        return connection.makefile("rb").read()


def test_where_the_relay_is(server: ApiServer) -> None:
    """Found with its port, its Pods' port and TLS; else the message says what to do."""
    cluster = KubeCluster("west", kubeconfig=server.kubeconfig).connect()
    with pytest.raises(KubeError, match=r"`cilium hubble enable --context west`, or .* `kube_namespace`"):
        cluster.relay()

    with closing(Kubelet(server, 0)) as kubelet:
        serve_relay(server, kubelet)
    relay = cluster.relay()

    assert (relay.namespace, relay.name, relay.port, relay.target) == ("kube-system", "hubble-relay", 80, "grpc")
    assert relay.selector == "k8s-app=hubble-relay"
    assert not relay.tls
    with pytest.raises(KubeError, match="it is in kube-system, add `kube_namespace` kube-system"):
        KubeCluster("west", "cilium", server.kubeconfig).connect().relay()


class Download:
    """A TCP server that greets, reads a number of bytes, sends their digest and as many bytes back, and ends."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as reader:
                connection.sendall(b"!")
                data = reader.read(int.from_bytes(reader.read(8)))
                connection.sendall(hashlib.sha256(data).digest() + data)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def test_bytes_go_both_ways_through_the_api(server: ApiServer) -> None:
    """Three megabytes there and back, several connections at once, to the port that the Pod calls grpc."""
    said: list[str] = []
    data = os.urandom(3_000_000)
    answers: list[bytes] = []

    def exchange(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), 30) as connection, connection.makefile("rb") as reader:
            connection.sendall(len(data).to_bytes(8) + data)
            answers.append(reader.read())

    with closing(Download()) as download, closing(Kubelet(server, download.port)) as kubelet:
        serve_relay(server, kubelet)
        cluster = KubeCluster("west", kubeconfig=server.kubeconfig).connect()
        with closing(cluster.forward(cluster.relay(), said.append)) as forward:
            threads = [threading.Thread(target=exchange, args=(forward.port,)) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)

    assert answers == [b"!" + hashlib.sha256(data).digest() + data] * 3
    assert len(kubelet.paths) == 3
    assert all(path.startswith("/portForward/kube-system/hubble-relay-1") for path in kubelet.paths)
    assert said == []
    assert forward.problem == ""


def test_another_pod_takes_over(server: ApiServer) -> None:
    """A Pod that is gone is not asked again; without any, and with one whose node is away, the line says so once."""
    said: list[str] = []
    request = (0).to_bytes(8)

    def works() -> bool:
        with socket.create_connection(("127.0.0.1", forward.port), 10) as connection:
            connection.sendall(request)
            return connection.makefile("rb").read() == b"!" + hashlib.sha256(b"").digest()

    with closing(Download()) as download, closing(Kubelet(server, download.port)) as kubelet:
        serve_relay(server, kubelet)
        server.create(relay_pod("hubble-relay-0", "Pending"))
        cluster = KubeCluster("west", kubeconfig=server.kubeconfig).connect()
        with closing(cluster.forward(cluster.relay(), said.append)) as forward:
            assert works()
            server.delete(relay_pod("hubble-relay-1"))  # no kubelet confirms: it stays, running and terminating
            assert _touch(forward.port) == _touch(forward.port) == b""
            server.create(relay_pod("hubble-relay-2"))
            assert works()
            kubelet.close()
            assert _touch(forward.port) == b""

    assert ["hubble-relay-1" in kubelet.paths[0], "hubble-relay-2" in kubelet.paths[1]] == [True, True]
    assert len(said) == 2
    assert "no running Pod behind Service kube-system/hubble-relay" in said[0]
    assert "port-forward to Pod kube-system/hubble-relay-2 port 4245 is refused (error dialing backend" in said[1]
    with pytest.raises(ConnectionRefusedError):
        _touch(forward.port)


def test_a_forward_that_breaks_off(server: ApiServer, tmp_path: Path) -> None:
    """When the way to the API breaks, the local side ends instead of hanging, and the line says so."""
    said: list[str] = []
    proxy = Proxy(server.port)
    kubeconfig = server.write_kubeconfig(tmp_path / "config", {"west": (f"https://127.0.0.1:{proxy.port}", ADMIN)})

    with closing(Download()) as download, closing(Kubelet(server, download.port)) as kubelet:
        serve_relay(server, kubelet)
        cluster = KubeCluster("west", kubeconfig=kubeconfig).connect()
        with closing(cluster.forward(cluster.relay(), said.append)) as forward:
            with socket.create_connection(("127.0.0.1", forward.port), 10) as connection:
                assert connection.recv(1) == b"!"
                proxy.cut()
                assert connection.recv(1) == b""
            wait_until(lambda: said)

    assert "port-forward to Pod kube-system/hubble-relay-1 port 4245 broke off" in said[0]

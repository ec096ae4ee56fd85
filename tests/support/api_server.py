"""A real Kubernetes API for tests: etcd and kube-apiserver on loopback ports, a kubeconfig, a plain admin client.

Nothing else runs: no kubelet, no controllers, no Cilium. Objects are what tests make them.
"""

import base64
import hashlib
import http.client
import json
import select
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from support.relay_nodes import free_port, wait_until

ADMIN, WATCHER = "admin-token", "watcher-token"
_SECONDS = 90.0
# Fields that belong to the server that made an object.
_OWN = ("resourceVersion", "uid", "creationTimestamp", "managedFields", "generation", "ownerReferences", "selfLink")

Object = dict[str, Any]

NEW = "service.cilium.io/"


class RefusedError(Exception):
    """The API refuses."""


class ApiServer:
    """etcd and kube-apiserver.

    Args:
        folder: for data, keys and logs.
        program: the kube-apiserver.
        service_range: addresses of Services.

    Attributes:
        kubeconfig: contexts `west` (may do everything), `watcher` (may do nothing) and `stranger` (a bad token).
    """

    def __init__(self, folder: Path, program: Path, service_range: str = "10.2.0.0/16") -> None:
        self.folder = folder
        self.port, self._etcd_port, self._peer_port = free_port(), free_port(), free_port()
        self.kubeconfig = folder / "kubeconfig"
        self.contexts = ("west", "watcher", "stranger")
        self._program = program
        self._service_range = service_range
        self._etcd: subprocess.Popen[bytes] | None = None
        self._api: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return where the API is."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def authority(self) -> Path:
        """Return the certificate to trust."""
        return self.folder / "pki" / "apiserver.crt"

    def start(self) -> "ApiServer":
        """Start both and wait until the API answers."""
        self._make_files()
        self._etcd = self._run(
            "etcd",
            *("--name", "one", "--data-dir", str(self.folder / "etcd")),
            *("--listen-client-urls", self._etcd_url, "--advertise-client-urls", self._etcd_url),
            *("--listen-peer-urls", f"http://127.0.0.1:{self._peer_port}"),
            *("--initial-advertise-peer-urls", f"http://127.0.0.1:{self._peer_port}"),
            *("--initial-cluster", f"one=http://127.0.0.1:{self._peer_port}"),
        )
        self.start_api()
        self.write_kubeconfig(
            self.kubeconfig, {"west": (self.url, ADMIN), "watcher": (self.url, WATCHER), "stranger": (self.url, "no")}
        )
        return self

    def start_api(self) -> None:
        """Start the kube-apiserver and wait until it answers."""
        pki = self.folder / "pki"
        self._api = self._run(
            str(self._program),
            f"--etcd-servers={self._etcd_url}",
            f"--service-cluster-ip-range={self._service_range}",
            *("--bind-address=127.0.0.1", "--advertise-address=192.0.2.1", f"--secure-port={self.port}"),
            f"--cert-dir={pki}",
            "--service-account-issuer=https://meshobs.test",
            f"--service-account-key-file={pki}/sa.pub",
            f"--service-account-signing-key-file={pki}/sa.key",
            f"--token-auth-file={pki}/tokens.csv",
            *("--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition"),
            *("--allow-privileged=true", "--profiling=false", "--endpoint-reconciler-type=none", "--v=1"),
        )
        wait_until(self._ready, f"{self._program} does not answer: see its log in {self.folder}", _SECONDS)

    def write_tokens(self, admin: str = ADMIN) -> None:
        """Say who may log in, and how, from the next start of the kube-apiserver on."""
        tokens = f"{ADMIN},admin,admin,system:masters\n{WATCHER},watcher,watcher\n"
        other = f"{admin},other,other,system:masters\n" if admin != ADMIN else ""
        (self.folder / "pki" / "tokens.csv").write_text(tokens + other)

    def stop_api(self) -> None:
        """Kill the kube-apiserver; etcd keeps the objects."""
        _kill(self._api)
        self._api = None

    def stop(self) -> None:
        """Kill both."""
        for process in (self._api, self._etcd):
            _kill(process)
        self._api = self._etcd = None

    def write_kubeconfig(self, path: Path, contexts: Mapping[str, tuple[str, str]], current: str = "west") -> Path:
        """Write a kubeconfig; contexts are name -> URL and token."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": current,
            "clusters": [
                {"name": name, "cluster": {"server": url, "certificate-authority": str(self.authority)}}
                for name, (url, _) in contexts.items()
            ],
            "users": [{"name": name, "user": {"token": token}} for name, (_, token) in contexts.items()],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in contexts],
        }
        path.write_text(json.dumps(config))
        return path

    def request(self, method: str, path: str, body: object = None, content: str = "application/json") -> Object:
        """Ask as the administrator.

        Raises:
            RefusedError: the API refuses.
        """
        headers = {"authorization": f"Bearer {ADMIN}", "content-type": content}
        context = ssl.create_default_context(cafile=str(self.authority))
        with closing(http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=context)) as connection:
            return _ask(connection, method, path, body, headers)

    def create(self, item: Object) -> Object:
        """Create an object, its namespace too; what belongs to the server that it was recorded from is left out."""
        namespace = item["metadata"].get("namespace", "")
        if namespace:
            with suppress(RefusedError):
                self.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        made = {**item, "metadata": {key: value for key, value in item["metadata"].items() if key not in _OWN}}
        created = self.request("POST", collection(item), made)
        if item["kind"] in ("Node", "Pod") and "status" in item:
            path = f"{collection(item)}/{item['metadata']['name']}/status"
            created = self.request("PUT", path, {**created, "status": item["status"]})
        return created

    def patch(self, item: Object, change: object) -> Object:
        """Merge a change into an object."""
        return self.request("PATCH", path_of(item), change, "application/merge-patch+json")

    def delete(self, item: Object) -> None:
        """Delete an object."""
        self.request("DELETE", path_of(item))

    def delete_now(self, item: Object) -> None:
        """Delete an object without a kubelet's confirmation."""
        self.request("DELETE", f"{path_of(item)}?gracePeriodSeconds=0")

    def clear(self) -> None:
        """Delete what tests made: all but what the API makes itself."""
        own = ("default/kubernetes", "/default", "/kube-system", "/kube-public", "/kube-node-lease")
        for path in (
            *("/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices", "/api/v1/nodes", "/api/v1/pods"),
            *("/api/v1/secrets", "/api/v1/configmaps", "/apis/cilium.io/v2/ciliumnodes", "/apis/apps/v1/deployments"),
        ):
            with suppress(RefusedError):
                listed = self.request("GET", path)
                for item in listed["items"]:
                    item |= {"apiVersion": listed["apiVersion"], "kind": listed["kind"].removesuffix("List")}
                    meta = item["metadata"]
                    if f"{meta.get('namespace', '')}/{meta['name']}" not in own and meta["name"] != "kube-root-ca.crt":
                        self.delete_now(item)
        for item in self.request("GET", "/api/v1/namespaces")["items"]:
            name = item["metadata"]["name"]
            if f"/{name}" not in own:
                ending = self.request("DELETE", f"/api/v1/namespaces/{name}")
                # No controller is there that would let it go.
                self.request("PUT", f"/api/v1/namespaces/{name}/finalize", {**ending, "spec": {"finalizers": []}})

    def compact(self) -> None:
        """Let etcd forget all versions but the newest of each object."""
        found = self._etcd_call("kv/range", {"key": "AA=="})
        self._etcd_call("kv/compaction", {"revision": found["header"]["revision"], "physical": True})

    @property
    def _etcd_url(self) -> str:
        return f"http://127.0.0.1:{self._etcd_port}"

    def _etcd_call(self, path: str, body: object) -> Object:
        with closing(http.client.HTTPConnection("127.0.0.1", self._etcd_port, timeout=20)) as connection:
            return _ask(connection, "POST", f"/v3/{path}", body, {})

    def _make_files(self) -> None:
        pki = self.folder / "pki"
        pki.mkdir(parents=True, exist_ok=True)
        subprocess.run(["openssl", "genrsa", "-out", pki / "sa.key", "2048"], check=True, capture_output=True)
        subprocess.run(
            ["openssl", "rsa", "-in", pki / "sa.key", "-pubout", "-out", pki / "sa.pub"],
            check=True,
            capture_output=True,
        )
        self.write_tokens()

    def _run(self, *command: str) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{Path(command[0]).name}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def _ready(self) -> bool:
        if self._api and self._api.poll() is not None:
            raise RuntimeError(f"kube-apiserver ended: {(self.folder / 'kube-apiserver.log').read_text()[-2000:]}")
        try:
            # The default namespace is the last that the API makes itself.
            return bool(self.request("GET", "/api/v1/namespaces/default")) and bool(
                self.request("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/view")
            )
        except (OSError, http.client.HTTPException, RefusedError):
            return False


class Proxy:
    """A TCP proxy that can be cut: connections break, new ones are refused until it opens again."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.open()

    def open(self) -> None:
        """Let connections through."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """Break all connections and refuse new ones."""
        listener, self._listener = self._listener, None
        if listener:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            for one in self._sockets:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                with self._lock:
                    self._sockets |= {near, far}
                ends = [
                    threading.Thread(target=self._pipe, args=pair, daemon=True) for pair in ((near, far), (far, near))
                ]
                for end in ends:
                    end.start()
                threading.Thread(target=self._bury, args=(ends, near, far), daemon=True).start()

    def _bury(self, ends: list[threading.Thread], near: socket.socket, far: socket.socket) -> None:
        for end in ends:
            end.join()
        with self._lock:
            self._sockets -= {near, far}
        near.close()
        far.close()

    @staticmethod
    def _pipe(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class Kubelet:
    """What the API's portforward subresource needs of a kubelet: a WebSocket over TLS that leads to a local TCP port.

    Args:
        server: whose certificate it shows; the API does not look at it.
        target: port of 127.0.0.1 that every Pod's port leads to; 0: the Pod has nothing that listens.

    Attributes:
        paths: what the API asked for.
    """

    def __init__(self, server: ApiServer, target: int) -> None:
        self.paths: list[str] = []
        self.target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(server.authority, server.authority.with_suffix(".key"))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def node(self, name: str) -> Object:
        """Return a Node that this is the kubelet of."""
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
        }
        return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}

    def close(self) -> None:
        """Stop listening."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                raw, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with raw, suppress(OSError), self._context.wrap_socket(raw, server_side=True) as near:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += near.recv(1)
            lines = head.decode().split("\r\n")
            self.paths.append(lines[0].split()[1])
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            digest = hashlib.sha1(headers["sec-websocket-key"].encode() + _GUID, usedforsecurity=False).digest()
            near.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n"
                b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
            )
            asked = int(self.paths[-1].split("port")[-1].split("=")[1]).to_bytes(2, "little")
            start = _frame(b"\0" + asked) + _frame(b"\1" + asked)
            if not self.target:  # all in one TLS record
                near.sendall(start + _frame(b"\1nothing listens on port 4245\n"))
                near.recv(1)
                return
            near.sendall(start)
            with socket.create_connection(("127.0.0.1", self.target)) as far:
                self._pipe(near, far)

    @staticmethod
    def _pipe(near: ssl.SSLSocket, far: socket.socket) -> None:
        reader = near.makefile("rb", 0)
        while True:
            ready = [near] if near.pending() else select.select([near, far], [], [])[0]
            if near in ready:
                payload = _payload(reader)
                if not payload:
                    return
                far.sendall(payload[1:])
            if far in ready:
                data = far.recv(65_536)
                if not data:
                    near.sendall(b"\x88\x00")
                    return
                near.sendall(_frame(b"\0" + data))


_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def _frame(payload: bytes) -> bytes:
    """Return a binary WebSocket frame of a server."""
    size = len(payload)
    if size < 126:
        return b"\x82" + bytes((size,)) + payload
    return b"\x82" + (b"\x7e" + size.to_bytes(2) if size < 65_536 else b"\x7f" + size.to_bytes(8)) + payload


def _payload(reader: socket.SocketIO) -> bytes:
    """Read a client's frame; empty at the end."""

    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = reader.read(size - len(data))
            if not more:
                raise OSError("the connection ended in a frame")
            data += more
        return data

    first = exactly(2)
    size = first[1] & 0x7F
    if size > 125:
        size = int.from_bytes(exactly(2 if size == 126 else 8))
    mask, body = exactly(4), exactly(size)
    if first[0] & 0x0F == 8:
        return b""
    return bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))


def collection(item: Object) -> str:
    """Return the path that objects like this one are under."""
    version, namespace = item["apiVersion"], item["metadata"].get("namespace", "")
    plural = item["kind"].lower() + "s"
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"


def path_of(item: Object) -> str:
    """Return an object's path."""
    return f"{collection(item)}/{item['metadata']['name']}"


def missing(program: Path) -> str:
    """Return which program the API server lacks, empty if none."""
    if not program.exists():
        return f"{program} is missing: `make tools` builds it"
    names = [name for name in ("etcd", "openssl") if not shutil.which(name)]
    return f"{names[0]} is missing: `apt-get install etcd-server openssl`" if names else ""


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: object, headers: Mapping[str, str]
) -> Object:
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status >= 300:
        raise RefusedError(f"{method} {path}: {answer.status} {content.decode(errors='replace')}")
    found: Object = json.loads(content)
    return found


def _kill(process: "subprocess.Popen[bytes] | None") -> None:
    if process:
        process.kill()
        process.wait(10)


def service(name: str, **annotations: str) -> Object:
    """Return a Service with Cilium's annotations."""
    named = {NEW + key: value for key, value in annotations.items()}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop", "annotations": named},
        "spec": {"ports": [{"port": 80}], "selector": {"app": name}},
    }


def endpoints(name: str, *addresses: str) -> Object:
    """Return the EndpointSlice of a service."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {"name": f"{name}-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": name}},
        "ports": [{"port": 8080, "protocol": "TCP", "name": ""}],
        "endpoints": [endpoint(address) for address in addresses],
    }


def endpoint(address: str) -> Object:
    return {"addresses": [address], "conditions": {"ready": True}, "nodeName": "west-worker"}


def annotate(server: ApiServer, item: Object, **annotations: str) -> Object:
    """Set Cilium's annotations of an object."""
    named = {NEW + key: value for key, value in annotations.items()}
    return server.patch(item, {"metadata": {"annotations": named}})


def serve_relay(server: ApiServer, kubelet: Kubelet) -> None:
    """Create Service hubble-relay as Cilium's chart does, with a Pod on a node of that kubelet."""
    meta = {"namespace": "kube-system", "labels": {"k8s-app": "hubble-relay"}}
    server.create(kubelet.node("worker"))
    server.create(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "hubble-relay", **meta},
            "spec": {"ports": [{"port": 80, "targetPort": "grpc"}], "selector": {"k8s-app": "hubble-relay"}},
        }
    )
    server.create(relay_pod("hubble-relay-1"))


def relay_pod(name: str, phase: str = "Running") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "kube-system", "labels": {"k8s-app": "hubble-relay"}},
        "spec": {
            "nodeName": "worker",
            "containers": [{"name": "relay", "image": "x", "ports": [{"name": "grpc", "containerPort": 4245}]}],
        },
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def in_kube_system(kind: str, name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "kube-system"}, "data": data}

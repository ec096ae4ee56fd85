"""Clients as processes in their pod's namespace and control group, and what they say they saw."""

import json
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from meshobs.errors import InputError, MeshobsError
from meshobs.lab import shell
from meshobs.lab.clusters.targets import Client, HostClient, LiveObjects, LivePod, client_of, targets_of
from meshobs.lab.netns.cluster import kubelet
from meshobs.lab.netns.host.layout import BRIDGE, NAMESPACES, namespace
from meshobs.lab.netns.host.processes import Place
from meshobs.lab.netns.machine import Machine
from meshobs.lab.traffic import Request, Traffic

_LOG = "clients"


@dataclass(frozen=True)
class _Who:
    """A client: its name in the truth, its cluster, where it runs, the addresses it calls from where it has several."""

    name: str
    cluster: str
    place: Place
    sources: Sequence[str] = ()


class NetnsClientRun:
    """Traffic that runs.

    Attributes:
        requests: those that are over.
    """

    def __init__(self, child: shell.Child, read: Callable[[str], Request], *, keep: bool) -> None:
        self.requests: list[Request] = []
        self._child = child
        self._read = read
        self._keep = keep
        self._thread = threading.Thread(target=self._read_requests, name="client", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Tell whether all its requests are over."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """End it now."""
        self._child.end()

    def _read_requests(self) -> None:
        for line in self._child.lines():
            if self._keep and line.endswith("\n"):
                self.requests.append(self._read(line))
        self._child.wait()


class Clients:
    """Starts clients on a machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._balancers: set[int] = set()
        self._lock = threading.Lock()

    def start(self, traffic: Traffic, *, endless: bool = False) -> NetnsClientRun:
        """Start a client.

        Args:
            traffic: what it does.
            endless: without end; nobody asks what it saw.

        Raises:
            InputError: there is no such client or target.
        """
        machine = self._machine
        live = machine.live()
        client = client_of(live, traffic.client)
        who = self._who(client)
        targets = targets_of(live, client, traffic.target)
        for host, port in targets:
            if host == machine.mesh.balancer:
                self._balance(port)
        given = {
            "targets": targets,
            "protocol": traffic.protocol,
            "count": traffic.count,
            "rate": traffic.rate,
            "requests": traffic.requests,
            "gap": traffic.gap,
            "sources": list(who.sources),
            "endless": endless,
        }
        command = who.place.command([sys.executable, "-I", "-S", str(kubelet.SCRIPTS / "client.py"), json.dumps(given)])
        child = shell.spawn(command, machine.layout.log(_LOG), {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, read=True)
        return NetnsClientRun(child, lambda line: _request(who, traffic, live, json.loads(line)), keep=not endless)

    def saw_pings(self, requests: list[Request]) -> list[Request]:
        """Return requests with the sources that servers saw of pings, which the requests name by their tokens."""
        path = kubelet.pings(self._machine.layout)
        if not path.exists() or not any(one.protocol == "ICMP" for one in requests):
            return requests
        lines = path.read_text(encoding="utf-8").splitlines()
        seen: Mapping[str, str] = {one["token"]: one["source"] for one in map(json.loads, lines)}
        return [_with_ping_source(one, seen) if one.protocol == "ICMP" else one for one in requests]

    def _who(self, client: Client) -> _Who:
        machine = self._machine
        if isinstance(client, LivePod):
            found = machine.kubelets[client.cluster].find(client.namespace, client.name)
            if not found or not found.place:
                raise InputError(f"the pod {client.full} does not run")
            return _Who(client.full, client.cluster, found.place)
        if isinstance(client, HostClient):
            node = client.node
            # In the node's own group, as a process of the host is.
            place = Place(machine.layout.group(node), namespace(node))
            return _Who(f"host/{node.name}", node.cluster, place)
        sources = [machine.mesh.outside]
        if machine.mesh.dual_stack:
            sources.append(machine.mesh.on_link6(machine.mesh.outside).partition("/")[0])
        return _Who("outside", "", self._outside(), sources)

    def _outside(self) -> Place:
        group = self._machine.layout.cgroup / "outside"
        group.mkdir(exist_ok=True)
        return Place(group, NAMESPACES / BRIDGE)

    def _balance(self, port: int) -> None:
        """Let the balancer listen on a port from now on."""
        machine = self._machine
        with self._lock:
            if port in self._balancers:
                return
            given = {
                "address": machine.mesh.balancer,
                "port": port,
                "nodes": [one.address for one in machine.mesh.in_turn],
            }
            words = [sys.executable, "-I", "-S", str(Path(kubelet.SCRIPTS) / "balancer.py"), json.dumps(given)]
            log = machine.layout.log("balancer")
            environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
            if not shell.spawn(self._outside().command(words), log, environment, read=True).line():
                raise MeshobsError(f"the balancer does not listen on port {port} (log: {log})")
            self._balancers.add(port)


def _request(who: _Who, traffic: Traffic, live: LiveObjects, line: Mapping[str, Any]) -> Request:
    host, port = line["target"]
    answer = line.get("answer", "")
    said = dict(line.split(": ", 1) for line in answer.splitlines() if ": " in line)
    about = {
        "answered_cluster": said.get("Cluster", ""),
        "answered_pod": said.get("Hostname", ""),
        "answered_address": said.get("IP", ""),
        "answered_node": said.get("Node", ""),
        "server_saw": said.get("RemoteAddr", ""),
    }
    if "token" in line and (pod := next((one for one in live.pods if host in one.addresses), None)):
        about = {
            "answered_cluster": pod.cluster,
            "answered_pod": pod.name,
            "answered_address": host,
            "answered_node": pod.node,
            # Until `saw_pings` knows.
            "server_saw": line["token"],
        }
    return Request(
        line["time"], line["ended"], who.name, who.cluster, line["own"][0], line["own"][1], f"{host}:{port}",
        traffic.protocol, **about, error=line.get("error", ""), reused=line.get("reused", False),
    )  # fmt: skip


def _with_ping_source(one: Request, seen: Mapping[str, str]) -> Request:
    source = seen.get(one.server_saw, "")
    return replace(one, server_saw=f"{source}:0" if source else "")

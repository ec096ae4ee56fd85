"""The way in from the machine: a process that listens on loopback and dials inside."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from meshobs.errors import MeshobsError
from meshobs.lab import shell
from meshobs.lab.mesh.model import Mesh
from meshobs.lab.netns.cluster.kubelet import SCRIPTS
from meshobs.lab.netns.host.layout import API_PORT, RELAY_PORT, Layout, control_plane, namespace
from meshobs.lab.netns.host.processes import Place

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class PortForwards:
    """Ports on loopback that lead inside, by cluster."""

    apis: Mapping[str, int]
    relays: Mapping[str, int]


def open_port_forwards(mesh: Mesh, layout: Layout) -> PortForwards:
    """Let the machine reach API servers and Relays, from a process in the namespace of this one.

    Raises:
        MeshobsError: the process does not start.
    """
    wanted = [
        {"namespace": str(namespace(control_plane(cluster))), "port": port}
        for port in (API_PORT, RELAY_PORT)
        for cluster in mesh.clusters
    ]
    own = Place(layout.cgroup / "lab")
    command = own.command([sys.executable, "-I", "-S", str(SCRIPTS / "forward.py"), json.dumps(wanted)])
    listeners = shell.spawn(command, layout.log("forward"), {"PATH": _PATH}, read=True).line()
    if not listeners:
        raise MeshobsError(f"the forwarder did not start (log: {layout.log('forward')})")
    ports, names = json.loads(listeners), [cluster.name for cluster in mesh.clusters]
    count = len(names)
    return PortForwards(dict(zip(names, ports[:count], strict=True)), dict(zip(names, ports[count:], strict=True)))

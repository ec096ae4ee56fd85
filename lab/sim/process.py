"""The process of a running sim: `python -m meshobs.lab.sim.process FOLDER [RELAY-BINARY]`; FOLDER holds mesh.json.

It stands the mesh up step by step, tells of each in progress.txt, writes ready.json when it serves, and ends by
command or by SIGTERM.
"""

import json
import signal
import sys
import threading
from pathlib import Path

from meshobs.errors import MeshobsError
from meshobs.lab import plan
from meshobs.lab.clusters import kubeconfig
from meshobs.lab.mesh.file import mesh_of
from meshobs.lab.remote import process, wire
from meshobs.lab.sim.realtime import RealtimeMesh
from meshobs.lab.sim.service import SimService
from meshobs.lab.sim.steps import steps
from meshobs.lab.state import DESCRIPTION


def main(folder: Path, relay_binary: str = "") -> None:
    """Run the mesh until told to end."""
    mesh = mesh_of(json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")))
    live = RealtimeMesh(mesh, Path(relay_binary) if relay_binary else None, folder)
    commands = SimService(live)
    server = wire.ControlServer(commands.actions)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: commands.end.set())
    progress = process.Progress(folder)
    plan.carry_out(steps(mesh, live.relay_binary), lambda step: live.actions[step.key](), progress.say, progress.show)
    server.start()
    contexts = {f"sim-{name}": (one.address, live.token) for name, one in live.kube.items()}
    kubeconfig.write(folder / process.KUBECONFIG, contexts)
    ready: dict[str, object] = {"control": server.address, "key": server.key, "relays": live.relays}
    ready["processes"] = [one.number for one in live.binaries.values()]
    process.announce(folder, ready)
    commands.end.wait()
    # What still waits for an answer gets it; threads that serve nobody must not hold the process.
    timer = threading.Timer(5, sys.exit)
    timer.daemon = True
    timer.start()
    server.close()
    live.stop()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), *sys.argv[2:3])
    except MeshobsError as error:
        # The last line of the log is what the user is shown.
        sys.exit(str(error))

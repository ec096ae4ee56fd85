"""The process of a running lab: `python -m meshobs.lab.netns.process FOLDER`; FOLDER holds mesh.json.

It stands the mesh up step by step, tells of each in progress.txt, writes ready.json when all is up, and ends by command
or by SIGTERM. All that it starts is in its control group, and goes with it.
"""

import json
import os
import signal
import sys
from pathlib import Path

from meshobs.errors import MeshobsError
from meshobs.lab import plan
from meshobs.lab.mesh.file import mesh_of
from meshobs.lab.netns.host import cgroup, kernel
from meshobs.lab.netns.host.layout import Layout
from meshobs.lab.netns.machine import Machine
from meshobs.lab.netns.service import NetnsService
from meshobs.lab.netns.steps import steps
from meshobs.lab.remote import process, wire
from meshobs.lab.state import DESCRIPTION


def main(folder: Path) -> None:
    """Run the mesh until told to end."""
    mesh = mesh_of(json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")))
    layout = Layout(folder, cgroup.cgroup_of(folder))
    own = layout.cgroup / "lab"
    own.mkdir(parents=True, exist_ok=True)
    (own / "cgroup.procs").write_text(str(os.getpid()))
    kernel.own_mounts()
    machine = Machine(mesh, layout)
    commands = NetnsService(machine)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: commands.end.set())
    actions = {**machine.actions, "prove": commands.prove}
    progress = process.Progress(folder)
    plan.carry_out(steps(mesh), lambda step: actions[step.key](), progress.say, progress.show)
    server = wire.ControlServer(commands.actions)
    server.start()
    ready: dict[str, object] = {
        "control": server.address,
        "key": server.key,
        "relays": {name: f"127.0.0.1:{port}" for name, port in machine.port_forwards.relays.items()},
        "tls": {key: str(path) for key, path in vars(machine.client).items()},
    }
    process.announce(folder, ready)
    commands.end.wait()
    # Not a group that holds this process: whoever waits for its end removes that.
    for group in layout.cgroup.iterdir():
        if group.is_dir() and group != own:
            kernel.kill_all(group)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except MeshobsError as error:
        # The last line of the log is what the user is shown.
        sys.exit(str(error))

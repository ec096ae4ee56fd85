"""A machine with a scripted kind, cilium, kubectl and docker, and a sim behind the API servers that they lead to."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from meshobs.lab.driver import LabState
from meshobs.lab.sim.driver import SimDriver

FAKE = Path(__file__).parent / "fake_kind.py"
PROGRAMS = ("kind", "cilium", "kubectl", "docker", "curl")


@dataclass
class Machine:
    """What tests do on it.

    Attributes:
        folder: everything that the programs keep.
        environment: variables for meshobs.
    """

    folder: Path
    sim: LabState
    environment: Mapping[str, str] = field(default_factory=dict)

    def calls(self, since: int = 0) -> list[str]:
        """Return the commands that were run, from a number on."""
        path = self.folder / "state" / "calls.txt"
        return path.read_text().splitlines()[since:] if path.exists() else []

    @property
    def clusters(self) -> list[str]:
        """Return the kind clusters that there are."""
        path = self.folder / "state" / "state.json"
        return json.loads(path.read_text())["clusters"] if path.exists() else []

    def fault(self, **told: object) -> None:
        """Let a command fail or hang, see `kindfake`."""
        (self.folder / "state" / "fault.json").write_text(json.dumps(told))

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Start meshobs as a process, in a group of its own as a terminal does."""
        return subprocess.Popen(
            [sys.executable, "-m", "meshobs", *words], env={**os.environ, **self.environment}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def run(self, *words: str, seconds: float = 120) -> tuple[int, str, str]:
        """Run meshobs; return exit code, stdout, stderr."""
        process = self.start(*words)
        out, err = process.communicate(timeout=seconds)
        return process.returncode, out, err

    def interrupt(self, process: "subprocess.Popen[str]") -> tuple[int, str]:
        """Wait until a command hangs, then do as Ctrl-C on a terminal; return exit code and stderr."""
        self._await_hanging(process)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
        return process.returncode, err

    def kill(self, process: "subprocess.Popen[str]") -> None:
        """Wait until a command hangs, then kill it and what it runs."""
        self._await_hanging(process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)

    def _await_hanging(self, process: "subprocess.Popen[str]") -> None:
        deadline = time.monotonic() + 60
        hanging = self.folder / "state" / "hanging"
        while not hanging.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "nothing hangs"
            time.sleep(0.01)
        hanging.unlink()


def machine(folder: Path) -> Machine:
    """Make such a machine; its sim must be ended by `stop`."""
    bin_ = folder / "bin"
    bin_.mkdir(parents=True)
    (folder / "state").mkdir()
    for name in PROGRAMS:
        path = bin_ / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "{FAKE}" {name} "$@"\n')
        path.chmod(0o755)
    sim = SimDriver().up({}, folder / "sim", lambda _text: None)
    config = json.loads(Path(sim.kubeconfig).read_text())
    servers = {}
    for cluster, user in zip(config["clusters"], config["users"], strict=True):
        server = {"server": cluster["cluster"]["server"], "token": user["user"]["token"]}
        servers[cluster["name"].removeprefix("sim-")] = server
    (folder / "state" / "servers.json").write_text(json.dumps(servers))
    environment = {
        "PATH": f"{bin_}:{os.environ['PATH']}",
        "KINDFAKE": str(folder / "state"),
        "MESHOBS_LAB": str(folder / "lab"),
    }
    return Machine(folder, sim, environment)


def stop(one: Machine) -> None:
    """End what runs behind it."""
    SimDriver().attach(one.sim).down()

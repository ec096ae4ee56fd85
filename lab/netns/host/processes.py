"""The lab's programs: each in its place, with its log, stopped and started again by name."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from meshobs.errors import MeshobsError
from meshobs.lab import shell
from meshobs.lab.netns.host.layout import Layout

# Seven agents compile their datapath on two busy cores within it.
UP_SECONDS = 600.0
# A change that agents follow; twice what they may wait before they look again at a server that was away.
CHANGE_SECONDS = 90.0
_LOOK = 0.1
_LAST_LINES = 3


@dataclass(frozen=True)
class Place:
    """Where a program runs.

    Attributes:
        cgroup: its control group, there already.
        network: its network namespace; None for that of the lab's process.
        holder: a process whose namespaces of all kinds it joins; 0 for none.
    """

    cgroup: Path
    network: Path | None = None
    holder: int = 0

    def command(self, command: Sequence[str]) -> list[str]:
        """Return a command that goes there first."""
        entered = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self.cgroup)]
        if self.holder:
            entered += ["nsenter", f"--target={self.holder}", "--mount", "--uts", "--net", "--cgroup", "--"]
        elif self.network:
            entered += ["nsenter", f"--net={self.network}", "--"]
        return [*entered, *command]


@dataclass
class _RunningProgram:
    command: Sequence[str]
    environment: Mapping[str, str]
    child: shell.Child


@dataclass
class Processes:
    """Programs by name. Safe from any thread."""

    layout: Layout
    _programs: dict[str, _RunningProgram] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def start(self, name: str, place: Place, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a program under a name; one that runs is left alone.

        Args:
            name: also of its log.
            place: where it runs.
            command: what it is.
            environment: variables that it gets beside the lab's own.
        """
        with self._lock:
            if self.alive(name):
                return
            self._start(name, place.command(command), environment)

    def start_again(self, name: str) -> None:
        """Start a program again that was stopped, as it was."""
        with self._lock:
            if not self.alive(name):
                before = self._programs[name]
                self._start(name, before.command, before.environment)

    def stop(self, name: str, grace: float = 0.0) -> None:
        """End a program, by force after some seconds; one that does not run is left alone."""
        with self._lock:
            if program := self._programs.get(name):
                program.child.end(grace)

    def alive(self, name: str) -> bool:
        """Tell whether a program runs."""
        with self._lock:
            return name in self._programs and self._programs[name].child.alive

    def check(self, name: str) -> None:
        """Check that a program has not ended.

        Raises:
            MeshobsError: it has; its last lines say why.
        """
        if not self.alive(name):
            log = self.layout.log(name)
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
            raise MeshobsError(f"{name} ended: {' | '.join(lines[-_LAST_LINES:]) or 'without a word'} (log: {log})")

    def wait(
        self, done: Callable[[], bool], what: str, needed: Iterable[str] = (), seconds: float = UP_SECONDS
    ) -> None:
        """Wait until something is so, as long as the programs it needs run.

        Args:
            done: tells whether it is.
            what: it is, for the user.
            needed: names of programs.
            seconds: how long at most.

        Raises:
            MeshobsError: it never is, or one of the programs has ended.
        """
        deadline = time.monotonic() + seconds
        while not done():
            for name in needed:
                self.check(name)
            if time.monotonic() > deadline:
                raise MeshobsError(f"{what}: not so within {seconds:g} s (logs: {self.layout.folder / 'logs'})")
            time.sleep(_LOOK)

    def _start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        log = self.layout.log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        child = shell.spawn(command, log, {**os.environ, **environment})
        self._programs[name] = _RunningProgram(command, environment, child)

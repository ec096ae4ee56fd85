"""The process of a lab from its start until it serves: what its driver and it tell each other, in files of the lab."""

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from meshobs import private
from meshobs.errors import MeshobsError
from meshobs.lab import shell

# Written whole by the process once it serves; lines of JSON about its steps until then.
READY, PROGRESS = "ready.json", "progress.txt"
KUBECONFIG = "kubeconfig"
_LOOK = 0.02


def start(module: str, folder: Path, log: Path, arguments: Sequence[str] = ()) -> int:
    """Start `python -m MODULE FOLDER ARGUMENTS`, which outlives this program; return its number."""
    for name in (READY, PROGRESS):
        (folder / name).unlink(missing_ok=True)
    return shell.detach([sys.executable, "-m", module, str(folder), *arguments], log)


class Progress:
    """What a process tells its driver until it serves: lines that stay, and the step under way.

    Args:
        folder: the lab's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / PROGRESS

    def say(self, text: str) -> None:
        """Tell of a step that is done."""
        self._write({"said": text})

    def show(self, text: str) -> None:
        """Tell of the step under way; empty when it is over."""
        self._write({"shown": text})

    def _write(self, line: Mapping[str, str]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def wait_ready(
    folder: Path,
    number: int,
    log: Path,
    say: Callable[[str], None],
    show: Callable[[str], None],
    seconds: float = math.inf,
) -> Mapping[str, Any]:
    """Wait until a process says that it serves, pass on what it tells of, and return what it says of itself.

    Args:
        folder: the lab's.
        number: of the process.
        log: what it prints; the last line is the reason why it ended.
        say: told of each step that is done.
        show: told of the step under way; empty when it is over.
        seconds: how long it may take.

    Raises:
        MeshobsError: it does not come up.
    """
    deadline = time.monotonic() + seconds
    progress, ready, passed_on = folder / PROGRESS, folder / READY, 0
    while True:
        is_ready = ready.exists()
        written = progress.read_text(encoding="utf-8") if progress.exists() else ""
        # A line that is being written is complete next time.
        lines = written.split("\n")[:-1]
        for line in map(json.loads, lines[passed_on:]):
            if "said" in line:
                say(line["said"])
            else:
                show(line["shown"])
        passed_on = len(lines)
        if is_ready:
            found: Mapping[str, Any] = json.loads(ready.read_text(encoding="utf-8"))
            return found
        if shell.has_ended(number) or time.monotonic() > deadline:
            text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
            last = text.strip().rpartition("\n")[2] or "it ended without a word"
            raise MeshobsError(f"the mesh did not come up: {last} (log: {log})")
        time.sleep(_LOOK)


def announce(folder: Path, ready: Mapping[str, object]) -> None:
    """Say that the process serves, and where; only this user can read it, for it holds the key."""
    private.write(folder / f"{READY}.new", json.dumps(ready).encode())
    (folder / f"{READY}.new").rename(folder / READY)

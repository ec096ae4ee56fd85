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

# Written whole by the process once it serves; a line for each step until then.
READY, PROGRESS = "ready.json", "progress.txt"
KUBECONFIG = "kubeconfig"
_LOOK = 0.02


def start(module: str, folder: Path, log: Path, arguments: Sequence[str] = ()) -> int:
    """Start `python -m MODULE FOLDER ARGUMENTS`, which outlives this program; return its number."""
    for name in (READY, PROGRESS):
        (folder / name).unlink(missing_ok=True)
    return shell.detach([sys.executable, "-m", module, str(folder), *arguments], log)


def wait_ready(
    folder: Path, number: int, log: Path, say: Callable[[str], None], seconds: float = math.inf
) -> Mapping[str, Any]:
    """Wait until a process says that it serves, pass on what it tells of, and return what it says of itself.

    Args:
        folder: the lab's.
        number: of the process.
        log: what it prints; the last line is the reason why it ended.
        say: told of each step.
        seconds: how long it may take.

    Raises:
        MeshobsError: it does not come up.
    """
    deadline = time.monotonic() + seconds
    progress, ready, shown = folder / PROGRESS, folder / READY, 0
    while True:
        is_ready = ready.exists()
        lines = progress.read_text(encoding="utf-8").splitlines() if progress.exists() else []
        for line in lines[shown:]:
            say(line)
        shown = len(lines)
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

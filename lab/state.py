"""The state file of a running lab: how every other command finds it."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from meshobs import private
from meshobs.errors import MeshobsError
from meshobs.lab.driver import ClusterState, LabState

_FILE = "lab.json"
# The description of the mesh that a driver stands up, there from the first moment.
DESCRIPTION = "mesh.json"
# Where a lab keeps its files instead of the user's own state folder.
_VARIABLE = "MESHOBS_LAB"


def folder() -> Path:
    """Return where the lab's files are, or would be."""
    if named := os.environ.get(_VARIABLE):
        return Path(named)
    from platformdirs import user_state_path  # noqa: PLC0415 - only where the variable is not set

    return user_state_path("meshobs") / "lab"


def make(path: Path) -> None:
    """Make the folder for a lab's files.

    Raises:
        MeshobsError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MeshobsError(
            f"the lab's folder {path} cannot be made ({error.strerror}): name another one by {_VARIABLE}"
        ) from error


def read() -> LabState | None:
    """Return the lab that is up, or was when its process ended; None if there is none.

    Raises:
        MeshobsError: the state file is not as it was written.
    """
    path = folder() / _FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        clusters = [ClusterState(**one) for one in content.pop("clusters")]
        return LabState(clusters=clusters, **content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise MeshobsError(
            f"the state file {path} is damaged ({error}): end what runs, then remove the folder {path.parent}"
        ) from error


def write(state: LabState) -> None:
    """Record a lab that is up; readable by this user only, for it holds the keys."""
    private.write(folder() / _FILE, json.dumps(asdict(state), indent=1).encode())


def forget() -> None:
    """Take back that there is a lab."""
    (folder() / _FILE).unlink(missing_ok=True)


def require_running() -> LabState:
    """Return the lab that is up.

    Raises:
        MeshobsError: there is none, or it is half built.
    """
    found = read()
    if not found:
        raise MeshobsError("no lab is up: meshobs lab up")
    if not found.whole:
        raise MeshobsError("the lab is half built: meshobs lab up goes on, meshobs lab down removes it")
    return found

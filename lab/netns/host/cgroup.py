"""How everything of a lab is found again, also after a crash: one control group, named after the lab's folder.

Mounts, namespaces, devices and BPF programs have no name outside: they live as long as a process of that group.
"""

import hashlib
from pathlib import Path

from meshobs.errors import MeshobsError
from meshobs.lab.netns.host import kernel

PREFIX = "meshobs-"


def cgroup_of(folder: Path) -> Path:
    """Return the control group of the lab whose files are in a folder."""
    mark = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:10]
    return kernel.cgroups() / f"{PREFIX}{mark}"


def exists(folder: Path) -> bool:
    """Tell whether anything of a lab is left, whatever became of its process."""
    try:
        return cgroup_of(folder).exists()
    except MeshobsError:
        return False


def remove(folder: Path) -> None:
    """End whatever runs of a lab, and with it all that it holds.

    Raises:
        MeshobsError: something does not end.
    """
    if exists(folder):
        kernel.kill_all(cgroup_of(folder))

"""What is asked of the Linux kernel directly: mounts, namespaces, control groups."""

import ctypes
import os
import time
from pathlib import Path

from meshobs.errors import MeshobsError
from meshobs.lab.programs import machine

# linux/sched.h, linux/mount.h
_CLONE_NEWNS = 0x00020000
_MS_REC = 0x4000
_MS_SLAVE = 0x80000
_KILL_SECONDS = 20.0
_libc = ctypes.CDLL(None, use_errno=True)


def own_mounts() -> None:
    """Give this process, and what it starts, mounts of its own: they vanish with the last of these processes.

    To be called before any thread starts. What is unmounted outside is unmounted here, too.

    Raises:
        MeshobsError: the kernel refuses.
    """
    _check(_libc.unshare(_CLONE_NEWNS), "unshare mounts")
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None), "detach mounts")


def mount(kind: str, where: Path) -> None:
    """Mount a file system of a kind that needs no device.

    Raises:
        MeshobsError: the kernel refuses.
    """
    _check(_libc.mount(kind.encode(), str(where).encode(), kind.encode(), 0, None), f"mount {kind} on {where}")


def cgroups(mountinfo: str = "") -> Path:
    """Return where the hierarchy of control groups (version 2) is mounted.

    Args:
        mountinfo: what to read instead of this process' own.

    Raises:
        MeshobsError: nowhere.
    """
    if found := machine.find_cgroups(mountinfo):
        return found
    raise MeshobsError("control groups version 2 are not mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")


def kill_all(cgroup: Path) -> None:
    """Kill every process in a control group and below, and remove the groups. One that is not there is no mistake.

    Raises:
        MeshobsError: something does not end.
    """
    deadline = time.monotonic() + _KILL_SECONDS
    while cgroup.exists():
        try:
            (cgroup / "cgroup.kill").write_text("1")
        except FileNotFoundError:
            return
        for folder, _, _ in os.walk(cgroup, topdown=False):
            try:
                Path(folder).rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                break
        else:
            return
        if time.monotonic() > deadline:
            left = " ".join(line for path in cgroup.rglob("cgroup.procs") for line in path.read_text().split())
            raise MeshobsError(f"processes of the lab do not end: {left or 'none'} in {cgroup}")
        time.sleep(0.02)


def _check(result: int, what: str) -> None:
    if result:
        reason = os.strerror(ctypes.get_errno())
        raise MeshobsError(f"cannot {what} ({reason}): the driver netns needs root on a Linux machine of its own")

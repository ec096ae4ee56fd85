"""Stands labs up and takes them down: which driver does it, what it is given, and what stands in the way."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from meshobs.errors import InputError, MeshobsError
from meshobs.lab import driver as drivers
from meshobs.lab import state
from meshobs.lab.driver import Driver, Lab, LabState, Step
from meshobs.lab.mesh.model import Mesh
from meshobs.lab.mesh.variants import IMITATED, NATIVE


def _silent(_text: str) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class LabOptions:
    """How a lab is stood up.

    Attributes:
        relay_binary: a real Relay for the sim, None for its own.
        force: kind: go on whatever stands in the way.
        cleanup: kind: leave nothing of an attempt that fails.
        kind: settings of the description's table `kind` that were given beside the file.
    """

    relay_binary: Path | None = None
    force: bool = False
    cleanup: bool = False
    kind: Mapping[str, object] = field(default_factory=dict)

    def check(self, chosen: str, mesh: Mesh | None = None) -> None:
        """Refuse what a driver does not know.

        Args:
            chosen: the driver.
            mesh: what it is to stand up, None where that does not matter.

        Raises:
            InputError: an option, or something in the mesh, is another driver's.
        """
        possible = IMITATED if chosen == "sim" else (NATIVE,)
        kinds = {str(one.variant) for one in mesh.clusters if one.variant not in possible} if mesh else set()
        if kinds and chosen != "netns":
            raise InputError(
                f"`variant` {', '.join(sorted(kinds))}: only the driver netns knows that, and this is {chosen}"
            )
        if chosen == "sim" and mesh and (fields := _fields_of_real_servers(mesh)):
            raise InputError(f"{', '.join(fields)}: the drivers netns and kind know that, and this is {chosen}")
        own = [*self.kind, *(["force"] if self.force else []), *(["cleanup"] if self.cleanup else [])]
        if own and chosen != "kind":
            named = ", ".join(f"`{name}`" for name in own)
            raise InputError(f"{named}: only the driver kind knows that, and this is {chosen}")
        if self.relay_binary and chosen != "sim":
            raise InputError(f"`relay_binary`: only the driver sim knows that, and this is {chosen}")


def _fields_of_real_servers(mesh: Mesh) -> list[str]:
    """Return what only real API servers and kubelets act on, as a mesh description names it."""
    return [
        *(f"services.{one.name}: spec" for one in mesh.services if one.spec),
        *(f"workloads.{one.name}: drain" for one in mesh.workloads if one.drain),
    ]


def driver(name: str, options: LabOptions = LabOptions(), show: Callable[[str], None] = _silent) -> Driver:
    """Return a driver; each is loaded when it is used.

    Args:
        name: of it.
        options: how it stands a lab up.
        show: told of the step under way; empty when it is over.

    Raises:
        InputError: there is none of that name.
    """
    if name == "kind":
        from meshobs.lab.kind.driver import KindDriver  # noqa: PLC0415 - only the one that is used

        return KindDriver(relay_nodes, show, force=options.force, cleanup=options.cleanup)
    if name == "netns":
        from meshobs.lab.netns.driver import NetnsDriver  # noqa: PLC0415 - only the one that is used

        return NetnsDriver(show)
    if name == "sim":
        from meshobs.lab.sim.driver import SimDriver  # noqa: PLC0415 - only the one that is used

        return SimDriver(options.relay_binary, show)
    raise InputError(f"there is no driver {name!r}: one of {', '.join(drivers.DRIVERS)}")


def content_of(
    path: Path | None,
    settings: Mapping[str, object] = MappingProxyType({}),
    kind: Mapping[str, object] = MappingProxyType({}),
) -> dict[str, object]:
    """Return a mesh description: the file's, with what the settings say instead.

    Args:
        path: of the file, None for the walkthrough's mesh.
        settings: keys of a description.
        kind: keys of its table `kind`.

    Raises:
        InputError: the description has mistakes; all of them are named.
    """
    from meshobs.lab.mesh import file  # noqa: PLC0415 - only where a lab begins

    content = dict(file.load(path)) if path else {}
    if kind:
        before = content.get("kind", {})
        content["kind"] = {**(before if isinstance(before, Mapping) else {}), **kind}
    content.update(settings)
    file.mesh_of(content, str(path) if path else "the mesh")
    return content


def plan(chosen: str, content: Mapping[str, object], options: LabOptions = LabOptions()) -> Sequence[Step]:
    """Return the steps that `start` would carry out, and do nothing.

    Args:
        chosen: the driver.
        content: the mesh description.
        options: how.

    Raises:
        InputError: the driver does not know an option, or something in the mesh.
    """
    from meshobs.lab.mesh import file  # noqa: PLC0415 - only where a lab begins

    options.check(chosen, file.mesh_of(content))
    return driver(chosen, options).plan(content)


def start(
    name: str | None,
    content: Mapping[str, object],
    rate: float,
    options: LabOptions = LabOptions(),
    *,
    say: Callable[[str], None],
    show: Callable[[str], None] = _silent,
) -> LabState:
    """Stand a lab up and record it; one of kind that is half built is gone on with.

    Args:
        name: of the driver, None to choose.
        content: the mesh description.
        rate: of the background traffic, 0 for none.
        options: how.
        say: told of what is done, a line each.
        show: told of the step under way; empty when it is over.

    Raises:
        InputError: one is up already.
    """
    from meshobs.lab.mesh import file  # noqa: PLC0415 - only where a lab begins

    before = state.read()
    half = before if before and not before.whole else None
    chosen, why = drivers.choose_driver(name or (half.driver if half else None))
    options.check(chosen, file.mesh_of(content))
    if before and before != half:
        if attach(before).alive:
            raise InputError("a lab is up already: meshobs lab status, or meshobs lab down")
        say("clearing away a lab whose process ended")
        stop(before)
    elif half and half.driver != chosen:
        raise InputError(f"a lab of driver {half.driver} is half built: meshobs lab down first")
    say(f"driver {chosen}: {why}")
    began = time.monotonic()
    made = driver(chosen, options, show).up(content, state.folder(), say)
    state.write(made)
    if rate:
        attach(made).background(rate)
    say(f"up in {time.monotonic() - began:.1f} s")
    return made


def stop(found: LabState) -> None:
    """Take a lab down and remove what it wrote."""
    attach(found).down()
    shutil.rmtree(found.folder, ignore_errors=True)


def clear() -> None:
    """Remove what is left where no lab is up: of an `up` that was killed, and what one that failed wrote."""
    from meshobs.lab.netns.host import cgroup  # noqa: PLC0415 - only where an `up` was killed

    cgroup.remove(state.folder())
    if (state.folder() / state.DESCRIPTION).exists():
        shutil.rmtree(state.folder(), ignore_errors=True)


def attach(found: LabState) -> Lab:
    """Return a lab that is up."""
    return driver(found.driver).attach(found)


def clusters(found: LabState, named: Sequence[str]) -> list[str]:
    """Return the clusters that are named, all where none is.

    Raises:
        InputError: the lab has no such cluster.
    """
    known = [one.name for one in found.clusters]
    if unknown := [name for name in named if name not in known]:
        raise InputError(f"there is no cluster {', '.join(unknown)}: {', '.join(known)}")
    return list(named) or known


def relay_nodes(kubeconfig: Path, context: str) -> tuple[int, int]:
    """Ask a cluster's Relay, by port-forward, how many nodes it serves and how many it cannot reach.

    Raises:
        MeshobsError: it does not answer.
    """
    from meshobs.collector.follow.clusters import ClusterSpec, OpenClusters  # noqa: PLC0415 - grpc

    with OpenClusters() as members:
        members.add(ClusterSpec(context=context), kubeconfig=kubeconfig, watch=False, say=_silent)
        if not members.relays:
            raise MeshobsError("; ".join(members.problems))
        (relay,) = members.relays.values()
        status = relay.status()
        return status.connected or 0, status.unavailable or 0

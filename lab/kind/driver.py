"""Driver kind: carries out the steps of `steps`, notes each, and goes on where an attempt broke off."""

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from meshobs import private
from meshobs.errors import InputError, MeshobsError
from meshobs.lab import state
from meshobs.lab.driver import ClusterState, LabState, Step
from meshobs.lab.kind import preflight, progress
from meshobs.lab.kind.commands import KUBECONFIG, CommandError, Tools
from meshobs.lab.kind.configs import context
from meshobs.lab.kind.lab import KindLab
from meshobs.lab.kind.options import Options, options_of
from meshobs.lab.kind.progress import Build
from meshobs.lab.kind.run_steps import Execution, RelayNodes
from meshobs.lab.kind.steps import Action, actions
from meshobs.lab.mesh.file import mesh_of
from meshobs.lab.mesh.model import Mesh
from meshobs.lab.plan import carry_out
from meshobs.text import printable

_GO_ON = "; meshobs lab up goes on from there, meshobs lab down removes what is there"
_THINGS = ("thing is", "things are")


class KindDriver:
    """Stands a mesh up on kind.

    Args:
        relay_nodes: asks a Relay what it serves.
        now: told of the step under way; empty when it is over.
        force: go on whatever the first look finds.
        cleanup: leave nothing of an attempt that failed.
    """

    name = "kind"

    def __init__(
        self,
        relay_nodes: RelayNodes,
        now: Callable[[str], None] = lambda _text: None,
        *,
        force: bool = False,
        cleanup: bool = False,
    ) -> None:
        self._relay_nodes = relay_nodes
        self._now = now
        self._force = force
        self._cleanup = cleanup

    def plan(self, content: Mapping[str, object]) -> Sequence[Step]:
        """Return what `up` would do: every file and every command."""
        mesh = mesh_of(content)
        return [_step(action) for action in actions(mesh, options_of(content, mesh), Path())]

    def up(self, content: Mapping[str, object], folder: Path, say: Callable[[str], None]) -> LabState:
        """Stand a mesh up, or go on with one that is half built.

        Args:
            content: the mesh description, as `meshfile` reads it, with its table `kind`.
            folder: for its files; made if it is not there.
            say: told of each step.

        Raises:
            InputError: something stands in the way, or what is half built is another mesh.
            MeshobsError: a step fails.
        """
        record = _find_begun(folder, content)
        content = record.content if record else content
        mesh = mesh_of(content)
        options = options_of(content, mesh)
        state.make(folder)
        tools = Tools(folder, options)
        if record:
            _check_made(record, tools, say)
        if not record or not record.made:
            try:
                self._look(mesh, options, tools, say)
            except BaseException:
                if not record:
                    tools.clear()
                raise
        record = record or progress.new(folder, content)
        private.write(folder / state.DESCRIPTION, json.dumps(content).encode())
        found = _state(folder, mesh, whole=False)
        state.write(found)
        try:
            self._carry_out_all(
                actions(mesh, options, folder),
                record,
                Execution(mesh, tools, record, self._relay_nodes, _state(folder, mesh, whole=False)),
                say,
            )
        except MeshobsError:
            if self._cleanup:
                say("clearing away what was built (`cleanup`)")
                KindLab(found).down()
                state.forget()
            raise
        return replace(found, whole=True)

    def attach(self, state: LabState) -> KindLab:
        """Return a lab that is up, or half built."""
        return KindLab(state)

    def _look(self, mesh: Mesh, options: Options, tools: Tools, say: Callable[[str], None]) -> None:
        self._now("looking whether anything stands in the way")
        try:
            found = preflight.find_obstacles(mesh, options, tools)
        finally:
            self._now("")
        if not found:
            return
        for one in found:
            say(f"  {printable(one.problem)}")
            say(f"    -> {one.cure}")
        if not self._force:
            raise InputError(f"{len(found)} {_THINGS[len(found) > 1]} in the way (above): mend, or go on with `force`")
        say("going on all the same (`force`)")

    def _carry_out_all(
        self, todo: Sequence[Action], record: Build, execution: Execution, say: Callable[[str], None]
    ) -> None:
        by_key = {action.key: action for action in todo}

        def act(step: Step) -> None:
            action = by_key[step.key]
            try:
                if record.begun == action.key:
                    execution.clear(action)
                record.begin(action.key)
                execution.carry_out(action)
            except CommandError as error:
                for line in error.lines:
                    say(f"  {printable(line)}")
                raise
            record.finish()

        if record.done:
            say(f"going on with a half-built lab: {len(record.done)} of {len(todo)} steps are done")
        carry_out(
            [_step(action) for action in todo],
            act,
            say,
            self._now,
            done=record.done,
            if_broken_off=_GO_ON,
            if_failed="" if self._cleanup else _GO_ON,
        )


def _find_begun(folder: Path, content: Mapping[str, object]) -> Build | None:
    """Return the record of a lab that is half built. Without any setting the same is meant again.

    Raises:
        InputError: it is of another mesh.
    """
    record = progress.read(folder)
    if record and content and record.content != json.loads(json.dumps(content)):
        if record.made:
            raise InputError(
                "a half-built lab with other settings is there: meshobs lab down first, or give the same settings again"
            )
        return None
    return record


def _check_made(record: Build, tools: Tools, say: Callable[[str], None]) -> None:
    """Begin anew where a cluster that was finished is gone."""
    there = tools.must(("kind", "get", "clusters"), 60).split()
    gone = [name for name in record.made if f"create {name}" in record.done and name not in there]
    if not gone:
        return
    say(f"kind cluster {', '.join(gone)} is gone: beginning anew")
    for name in record.made:
        tools.must(("kind", "delete", "cluster", "--name", name), 300)
    record.forget()


def _state(folder: Path, mesh: Mesh, *, whole: bool) -> LabState:
    clusters = [ClusterState(one.name, "", context(one.name)) for one in mesh.clusters]
    return LabState("kind", str(folder), time.time_ns(), str(folder / KUBECONFIG), clusters, whole=whole)


def _step(action: Action) -> Step:
    return Step(action.key, action.title, action.source, [*_show_files(action), *_show_commands(action)])


def _show_files(action: Action) -> list[str]:
    return [line for name, text in action.files for line in (f"{name}:", *(f"  {one}" for one in text.splitlines()))]


def _show_commands(action: Action) -> list[str]:
    shown = [f"$ {shlex.join(command)}" for command in action.commands]
    descriptions = {
        "share-ca": "what the first prints, less what is its own, is what the last reads; then both are compared",
        "relay": "ask hubble-relay by port-forward: GetNodes, ServerStatus",
        "proof": "4 requests of each client to the pods of each other cluster, by curl in its pod",
    }
    return [*shown, *([descriptions[action.how]] if action.how in descriptions else [])]

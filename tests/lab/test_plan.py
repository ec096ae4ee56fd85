"""Plans: each driver's list of steps is what `lab plan` prints and what `lab up` carries out."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import Call

from meshobs.errors import MeshobsError
from meshobs.lab import plan, state
from meshobs.lab.driver import Step
from meshobs.lab.mesh.file import mesh_of
from meshobs.lab.netns import steps as netns
from meshobs.lab.netns.host.layout import Layout
from meshobs.lab.netns.machine import Machine
from meshobs.lab.remote import process
from meshobs.lab.sim import steps as sim
from meshobs.lab.sim.realtime import RealtimeMesh

STEPS = [Step(key, f"do {key}", "S1") for key in ("first", "second", "third")]


def failing(key: str, error: BaseException) -> tuple[list[str], Callable[[Step], None]]:
    """Return what carries steps out but fails at one, and the keys that it was given."""
    given: list[str] = []

    def act(step: Step) -> None:
        given.append(step.key)
        if step.key == key:
            raise error

    return given, act


def test_steps_are_carried_out_in_order() -> None:
    """Those that were done before are left out; each is shown while it is under way and told of when it is done."""
    given, act = failing("none", MeshobsError(""))
    said, shown = list[str](), list[str]()

    plan.carry_out(STEPS, act, said.append, shown.append, done=["second"])

    assert given == ["first", "third"]
    assert [re.sub(r"[\d.]+ s$", "", line) for line in said] == ["[1/3] do first: ", "[3/3] do third: "]
    assert shown == ["[1/3] do first", "", "[3/3] do third", ""]


def test_a_step_that_fails_is_named() -> None:
    """Nothing comes after it; the error says which step it was, and how it goes on."""
    given, act = failing("second", MeshobsError("no such thing"))
    shown: list[str] = []

    with pytest.raises(MeshobsError, match=r"^step 2 of 3, do second \(S1\), failed after 0 s: no such thing; go on$"):
        plan.carry_out(STEPS, act, lambda _text: None, shown.append, if_failed="; go on")

    assert given == ["first", "second"]
    assert shown[-1] == ""


def test_a_step_that_is_broken_off_is_named() -> None:
    """The user is told where it was and how it goes on."""
    given, act = failing("first", KeyboardInterrupt())
    said: list[str] = []

    with pytest.raises(KeyboardInterrupt):
        plan.carry_out(STEPS, act, said.append, if_broken_off="; go on")

    assert given == ["first"]
    assert said == ["interrupted in step 1 of 3, do first; go on"]


@pytest.mark.parametrize("clusters", [1, 2])
def test_every_planned_step_can_be_carried_out(tmp_path: Path, clusters: int) -> None:
    """No step is only printed, and none is done that is not."""
    west = {"id": 1, "pod_cidr": "10.0.0.0/16", "service_cidr": "10.2.0.0/16"}
    mesh = mesh_of({"clusters": {"west": west}} if clusters == 1 else {})
    real = Machine(mesh, Layout(tmp_path, tmp_path))
    planned = {step.key for step in netns.steps(mesh)}

    assert {step.key for step in sim.steps(mesh)} == set(RealtimeMesh(mesh).actions)
    assert planned - set(real.actions) == ({"prove"} if clusters > 1 else set())
    assert set(real.actions) - planned == (set() if clusters > 1 else {"join"})


@pytest.mark.parametrize(
    ("driver", "numbers"),
    [
        ("sim", ["S1, S3, S5, S8, S10", "S7", "S1", "S10"]),
        ("netns", ["S1", "S3", "S4", "S7", "S6", "S5", "S8,_S10", "S8"]),
    ],
)
def test_plan_prints_and_does_nothing(meshobs: Call, driver: str, numbers: list[str]) -> None:
    """`lab plan` names every step with the walkthrough's numbers and values, and leaves no trace."""
    outcome = meshobs("lab", "plan", "--driver", driver)

    titles = re.findall(r"^ *\d+\. (.*) \((S.*)\)$", outcome.out, re.MULTILINE)
    assert [source for _, source in titles] == [number.replace("_", " ") for number in numbers]
    for part in ("10.0.0.0/16", "nonMasqueradeCIDRs={10.1.0.0/16}", "service.cilium.io/global=true"):
        assert part in outcome.out
    assert state.read() is None
    assert not state.folder().exists()


def test_plan_has_no_form_that_it_would_ignore(meshobs: Call) -> None:
    """Steps with their lines are no table of one row each: CSV is refused."""
    assert meshobs("lab", "plan", "--driver", "sim", "--format", "csv").code == 2


def test_up_does_what_the_plan_says(alone: Call) -> None:
    """The same titles in the same order."""
    planned = [step["title"] for step in json.loads(alone("lab", "plan", "--driver", "sim", "--format", "json").out)]

    told = alone("lab", "up", "--driver", "sim", "--traffic", 0).err

    assert re.findall(r"\[\d/\d\] (.*): [\d.]+ s", told) == planned


def test_a_step_that_is_half_written_is_told_of_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver reads what its process writes just now: a line counts when it is whole."""
    written = process.Progress(tmp_path)
    written.show("[1/1] do it")
    written.say("[1/1] do it: 0.1 s")
    path = tmp_path / process.PROGRESS
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[:-9], encoding="utf-8")
    said, shown = list[str](), list[str]()

    def look_again(_seconds: float) -> None:
        assert said == []
        path.write_text(whole, encoding="utf-8")
        process.announce(tmp_path, {"control": "here"})

    monkeypatch.setattr("meshobs.lab.remote.process.time.sleep", look_again)
    monkeypatch.setattr("meshobs.lab.remote.process.shell.has_ended", lambda _number: False)
    ready = process.wait_ready(tmp_path, 0, tmp_path / "log", said.append, shown.append)

    assert ready == {"control": "here"}
    assert said == ["[1/1] do it: 0.1 s"]
    assert shown == ["[1/1] do it"]

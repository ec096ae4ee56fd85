"""Experiments on a lab that cannot do all of it, or fails: what is left out, what is kept, what is put back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from meshobs.errors import MeshobsError
from meshobs.lab import driver
from meshobs.lab.driver import Capabilities
from meshobs.lab.experiments import model as experiments
from meshobs.lab.experiments.model import Experiment, ExperimentPhase
from meshobs.lab.experiments.runner import Runner
from meshobs.lab.mesh.model import Mesh, Service, Workload, walkthrough
from meshobs.lab.traffic import Request, Traffic
from meshobs.verdict import Verdict

CALLS = (Traffic("west", "svc/webpod"),)


def phase(name: str, traffic: Sequence[Traffic] = CALLS, **more: object) -> ExperimentPhase:
    return replace(ExperimentPhase(name, "", traffic, "affinity", {"affinity": Verdict.OK}), **more)  # type: ignore[arg-type]


@dataclass
class Lab:
    """A lab that notes what is done to it.

    Attributes:
        broken: traffic to this target fails.
    """

    broken: str = ""
    capabilities: Capabilities = field(default_factory=Capabilities)
    mesh: Mesh = field(default_factory=walkthrough)
    done: list[str] = field(default_factory=list)
    meanwhile: list[float] = field(default_factory=list)
    annotations: dict[str, Mapping[str, str | None]] = field(default_factory=dict)

    def traffic(
        self, traffic: Sequence[Traffic], meanwhile: Sequence[tuple[float, Callable[[], None]]] = ()
    ) -> list[Request]:
        for after, action in meanwhile:
            self.meanwhile.append(after)
            action()
        if self.broken in [one.target for one in traffic]:
            raise MeshobsError("the lab breaks")
        self.done.append("traffic")
        return []

    def annotate(self, cluster: str, namespace: str, service: str, changes: Mapping[str, str | None]) -> None:
        del namespace
        self.annotations[f"{cluster}/{service}"] = changes
        if "kube-down on" in self.done and "kube-down off" not in self.done:
            raise MeshobsError("the API server is away")
        self.done.append(f"annotate {cluster} {service}")

    def scale(self, cluster: str, namespace: str, workload: str, replicas: int) -> None:
        del namespace
        self.done.append(f"scale {cluster} {workload} {replicas}")

    def add(self, workloads: Sequence[Workload], services: Sequence[Service]) -> None:
        pass

    def remove(self, workloads: Sequence[Workload], services: Sequence[Service]) -> None:
        pass

    def fault(self, name: str, scope: str, *, on: bool) -> None:
        del scope
        self.done.append(f"{name} {'on' if on else 'off'}")

    def pause(self) -> int:
        self.done.append("pause")
        return 2

    def resume(self) -> None:
        self.done.append("resume")


def test_what_a_lab_cannot_do_is_left_out_by_phase() -> None:
    """A protocol or fault that the driver does not have costs the phases that need it, with the reason, and no other."""
    udp = phase("datagrams", [replace(CALLS[0], protocol="UDP")])
    skew = phase("skewed", faults=("clock-skew east",))
    first, second = Experiment("a", "?", "", (phase("calls"), udp, skew)), Experiment("b", "?", "", (udp,))
    can = Capabilities(frozenset({"TCP", "ICMP"}), frozenset({"masquerade"}))

    fit, left_out = experiments.select_possible([first, second], can, walkthrough())

    assert [(one.name, [each.name for each in one.phases]) for one in fit] == [("a", ["calls"])]
    assert left_out == [
        "a, datagrams: no UDP here", "a, skewed: no fault clock-skew here", "b, datagrams: no UDP here",
    ]  # fmt: skip


def test_phases_that_need_another_mesh_are_left_out() -> None:
    """As phases that the driver cannot run, with what they need."""
    one = Experiment("a", "?", "", (phase("any"), phase("new", needs={"cilium": "1.20.2"})))

    fit, left_out = experiments.select_possible([one], Capabilities(), walkthrough())

    assert [each.name for each in fit[0].phases] == ["any"]
    assert left_out == ["a, new: needs cilium 1.20.2"]


def test_services_that_only_real_api_servers_know() -> None:
    """A driver that would pass over fields of their spec leaves the experiment out."""
    extras = {"services": {"sticky": {"spec": {"sessionAffinity": "ClientIP"}}}}
    one = Experiment("a", "?", "", (phase("any"),), extras)

    fit, left_out = experiments.select_possible([one], Capabilities(specs=False), walkthrough())

    assert not fit
    assert left_out == ["a: no fields of its Services' specs, nor pods that drain, here"]
    assert experiments.select_possible([one], Capabilities(), walkthrough()) == ([one], [])


def test_what_an_experiment_adds_is_set_and_scaled_like_the_rest() -> None:
    """Its own Services keep the annotations that it gives them; its workloads come back to their first number."""
    lab = Lab()
    extras: Mapping[str, Mapping[str, Mapping[str, object]]] = {
        "workloads": {"ending": {"port": 80, "replicas": 3}},
        "services": {"ending": {"global": True, "affinity": "local"}},
    }
    change = experiments.TimedChange(1.0, scale={"west/ending": 0})
    one = Experiment("a", "?", "", (phase("ends", set={"ending": {}}, during=(change,)),), extras)
    runner = Runner(lab, lambda _text: None, lambda _seconds: None)

    list(runner.run(one))

    assert lab.meanwhile == [1.0]
    assert lab.annotations["west/ending"] == {
        "service.cilium.io/global": "true", "service.cilium.io/affinity": "local", "service.cilium.io/shared": None,
    }  # fmt: skip
    assert [word for word in lab.done if word.startswith("scale")] == ["scale west ending 0", "scale west ending 3"]


@pytest.mark.parametrize("flows_after", [False, True])
def test_nodes_have_flows_after_an_experiment(flows_after: bool) -> None:
    """Once, after the last phase and before what it added goes; a recording has none that its truth does not tell of."""
    lab = Lab()
    runner = Runner(lab, lambda _text: None, lambda _seconds: None, flows_after=flows_after)

    runs = list(runner.run(Experiment("a", "?", "", (phase("one"), phase("two")))))

    assert len(runs) == 2
    assert [word for word in lab.done if word == "traffic"] == ["traffic"] * (3 if flows_after else 2)


def test_the_phases_before_a_failure_come_and_the_mesh_is_put_back() -> None:
    """Faults first: what a fault keeps away could not be reached."""
    lab = Lab(broken="svc/gone")
    failing = phase("bad", [Traffic("west", "svc/gone")], faults=("kube-down west",), scale={"west/webpod": 1})
    runner = Runner(lab, lambda _text: None, lambda _seconds: None)
    runs = runner.run(Experiment("a", "?", "", (phase("good", set={"webpod": {"affinity": "local"}}), failing)))

    first = next(runs)
    lab.done.clear()
    with pytest.raises(MeshobsError, match="the lab breaks"):
        next(runs)

    assert first.phase.name == "good"
    assert lab.done[-4:] == ["kube-down off", "annotate east webpod", "annotate west webpod", "scale west webpod 2"]


@pytest.mark.parametrize("error", [None, MeshobsError("broken"), KeyboardInterrupt()])
def test_background_traffic_goes_on_whatever_happens(error: BaseException | None) -> None:
    """It is paused meanwhile, and said."""
    lab = Lab()
    said: list[str] = []
    try:
        with driver.background_paused(lab, said.append):  # type: ignore[arg-type]
            assert lab.done == ["pause"]
            if error:
                raise error
    except (MeshobsError, KeyboardInterrupt):
        pass

    assert lab.done == ["pause", "resume"]
    assert said == ["background traffic of 2 clients is paused"]

"""Runs experiments on a lab: settings, faults and traffic of each phase, and what the clients saw of it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from meshobs.errors import InputError
from meshobs.lab.driver import Stage
from meshobs.lab.experiments.model import Experiment, ExperimentPhase, TimedChange
from meshobs.lab.faults import find_fault
from meshobs.lab.mesh import file
from meshobs.lab.mesh.model import ANNOTATIONS, Service, Workload
from meshobs.lab.traffic import Request, Traffic, service_name, split_target

# A connection within 2 s after a change may follow either state, and reports leave it out; agents need up to 0.7 s.
SETTLE_SECONDS = 2.8
# Between two phases in the same state: their windows must not overlap.
_PAUSE_SECONDS = 1.0
# Connections of each client that make every node's ring begin anew.
_STIR = 10
# Events are read a little later than they happen, and one end's clock may be ahead: a phase owns what lies around it.
_AROUND = 400_000_000
# The state of a mesh before any phase.
_AS_DESCRIBED: tuple[object, ...] = ({}, {}, ())


@dataclass(frozen=True)
class PhaseRun:
    """What happened in one phase.

    Attributes:
        started, ended: the window of reports, nanoseconds.
        changed: when each change in mid-traffic was made.
        services: namespace and name of those that the traffic calls; two empty texts where it calls pods themselves.
    """

    experiment: str
    phase: ExperimentPhase
    started: int
    ended: int
    requests: Sequence[Request]
    changed: Sequence[int] = ()
    services: frozenset[tuple[str, str]] = frozenset()


class Runner:
    """Runs experiments on a lab that is up.

    Args:
        lab: where.
        tell: told of progress, a line each.
        wait: called with seconds to let pass.
        clock: the lab's, in nanoseconds.
        flows_after: let nodes have flows after each experiment, in no window: what a ring holds last it may give out
            only when something follows.
    """

    def __init__(
        self,
        lab: Stage,
        tell: Callable[[str], None],
        wait: Callable[[float], None] = time.sleep,
        clock: Callable[[], int] = time.time_ns,
        *,
        flows_after: bool = False,
    ) -> None:
        self._flows_after = flows_after
        self._clock = clock
        self._lab = lab
        self._mesh = lab.mesh
        self._tell = tell
        self._wait = wait
        self._extras: tuple[Sequence[Workload], Sequence[Service]] = ((), ())

    def run(self, experiment: Experiment) -> Iterator[PhaseRun]:
        """Run all phases, yield each when it is over, and leave the mesh as it was, whatever happens.

        Raises:
            InputError: the lab does not have what the experiment needs.
        """
        self._check(experiment)
        self._extras = workloads, services = file.extras(experiment.extras, self._mesh, experiment.name)
        try:
            self._lab.add(workloads, services)
            before = None if workloads or services else _AS_DESCRIBED
            for phase in experiment.phases:
                pause = _PAUSE_SECONDS if before == _state(phase, at_end=False) else SETTLE_SECONDS
                run = self._phase(experiment, phase, pause)
                yield replace(run, services=find_services(phase.traffic, [*self._mesh.services, *services]))
                before = _state(phase, at_end=True)
        finally:
            self._restore(experiment)
            self._lab.remove(workloads, services)

    def _check(self, experiment: Experiment) -> None:
        for lacking in self._mesh.lacks(experiment.needs):
            raise InputError(
                f"{experiment.name} needs clusters with {lacking}: meshobs lab down, then meshobs lab up --{lacking}"
            )

    def _phase(self, experiment: Experiment, phase: ExperimentPhase, pause: float) -> PhaseRun:
        blinding = any(find_fault(fault.partition(" ")[0]).served for fault in phase.faults)
        if blinding:
            # What was last seen of a node is where its gap begins: that must not lie in the window of the phase before.
            self._stir(phase)
        # First: agents that no longer follow must not hear of what is set.
        for fault in phase.faults:
            self._switch(fault, on=True)
        self._apply(experiment, phase.set)
        self._scale(phase.scale)
        self._wait(pause)
        started = self._clock()
        changed: list[int] = []
        requests = self._traffic(experiment, phase, changed)
        ended = self._clock()
        self._tell(f"{phase.name}: {_saw(requests)}")
        for fault in phase.faults:
            self._switch(fault, on=False)
        # A node that was away is seen again from its next flow on: let it have one before the next phase.
        if blinding or (self._flows_after and phase is experiment.phases[-1]):
            self._stir(phase)
        return PhaseRun(experiment.name, phase, started - _AROUND, ended + _AROUND, requests, changed)

    def _stir(self, phase: ExperimentPhase) -> None:
        """Let every node have flows outside all windows."""
        self._wait(_PAUSE_SECONDS)
        self._lab.traffic([replace(one, count=_STIR) for one in phase.traffic])

    def _traffic(self, experiment: Experiment, phase: ExperimentPhase, changed: list[int]) -> list[Request]:
        """Run a phase's traffic, with the changes that fall into it."""

        def change(one: TimedChange) -> None:
            changed.append(self._clock())
            if one.set is not None:
                self._apply(experiment, one.set)
            self._scale(one.scale)

        meanwhile = [(one.after, lambda one=one: change(one)) for one in phase.during]
        return self._lab.traffic(phase.traffic, meanwhile)

    def _apply(self, experiment: Experiment, settings: Mapping[str, Mapping[str, str]]) -> None:
        """Let every Service that the experiment touches have exactly these settings beside its first ones."""
        touched = {
            key for phase in experiment.phases for key in (*phase.set, *(k for c in phase.during for k in c.set or ()))
        }
        for cluster, name in sorted({one for key in touched for one in self._targets(key)}):
            first = self._first(name)
            wanted: dict[str, str | None] = {key: first.get(key) for key in ANNOTATIONS.values()}
            for key in (name, f"{cluster}/{name}"):
                wanted.update({ANNOTATIONS[word]: value for word, value in settings.get(key, {}).items()})
            self._lab.annotate(cluster, "default", name, wanted)

    def _restore(self, experiment: Experiment) -> None:
        # First: what a fault keeps away could not be reached.
        for fault in [fault for phase in experiment.phases for fault in phase.faults]:
            self._switch(fault, on=False)
        self._apply(experiment, {})
        first = {one.name: one.replicas for one in (*self._mesh.workloads, *self._extras[0])}
        for phase in experiment.phases:
            scaled = [*phase.scale, *(target for one in phase.during for target in one.scale)]
            self._scale({target: first[target.rpartition("/")[2]] for target in scaled})

    def _scale(self, wanted: Mapping[str, int]) -> None:
        for target, replicas in wanted.items():
            for cluster, name in self._targets(target):
                self._lab.scale(cluster, "default", name, replicas)

    def _switch(self, fault: str, *, on: bool) -> None:
        name, _, scope = fault.partition(" ")
        self._lab.fault(name, scope, on=on)

    def _targets(self, key: str) -> list[tuple[str, str]]:
        cluster, _, name = key.rpartition("/")
        return [(cluster, name)] if cluster else [(one.name, name) for one in self._mesh.clusters]

    def _first(self, name: str) -> Mapping[str, str]:
        """Return a Service's annotations as they were described."""
        services = (*self._mesh.services, *self._extras[1])
        return next((one.annotations for one in services if one.name == name), {})


def find_services(traffic: Sequence[Traffic], services: Sequence[Service]) -> frozenset[tuple[str, str]]:
    """Return namespace and name of the services that traffic calls, see `PhaseRun.services`."""
    found: set[tuple[str, str]] = set()
    for one in traffic:
        kind, rest, _ = split_target(one.target)
        if kind in ("svc", "service"):
            namespace, name, _ = service_name(rest)
            found.add((namespace, name))
            continue
        port = one.target.rpartition(":")[2]
        by_port = {(each.namespace, each.name) for each in services if each.node_port and str(each.node_port) == port}
        found |= by_port or {("", "")}
    return frozenset(found)


def _state(phase: ExperimentPhase, *, at_end: bool) -> tuple[object, ...]:
    """Return what is in force at the start or the end of a phase; a fault is over then."""
    settings, scale = phase.set, dict(phase.scale)
    for one in phase.during if at_end else ():
        settings = settings if one.set is None else one.set
        scale.update(one.scale)
    return dict(settings), scale, () if at_end else tuple(phase.faults)


def _saw(requests: Sequence[Request]) -> str:
    """Return what the clients saw in a few words."""
    parts = []
    for client in dict.fromkeys(one.client_cluster or one.client for one in requests):
        own = [one for one in requests if (one.client_cluster or one.client) == client]
        answers: dict[str, int] = {}
        for one in own:
            key = one.answered_cluster or (one.error and "no answer") or "outside"
            answers[key] = answers.get(key, 0) + 1
        parts.append(f"{client} -> {', '.join(f'{key} {count}' for key, count in sorted(answers.items()))}")
    return "; ".join(parts)

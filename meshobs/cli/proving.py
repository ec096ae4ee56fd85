"""Experiments with a collection beside them: where lab, collector and analyzer, strangers to each other, meet."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from meshobs import sqlfiles
from meshobs.analyzer import Question, run
from meshobs.cli.output import say
from meshobs.errors import InputError, MeshobsError
from meshobs.lab.driver import background_paused
from meshobs.lab.experiment import Experiment, select_possible
from meshobs.lab.findings import Answer, Finding, findings
from meshobs.lab.runner import SETTLE_SECONDS, PhaseRun, Runner
from meshobs.times import SECOND, rfc3339

if TYPE_CHECKING:
    from meshobs.collector.collect import Collection
    from meshobs.collector.members import Members
    from meshobs.lab.driver import Lab, LabState, Stage
    from meshobs.lab.mesh import Mesh
    from meshobs.store import Store

_CONNECT_SECONDS = 30.0
# Between two stretches of skipped time: no report's window joins them.
_APART = 120 * SECOND


class _StoppedError(Exception):
    """The user ended it, in the experiments' own thread."""


@contextmanager
def open_lab(state: "LabState") -> "Iterator[Members]":
    """Open the Relays and Kubernetes APIs of a running lab.

    Raises:
        MeshobsError: one of them does not answer.
    """
    from meshobs.cli.collect import lab_sources  # noqa: PLC0415 - grpc
    from meshobs.collector.members import Members  # noqa: PLC0415

    with Members() as members:
        for source in lab_sources(state):
            members.add(source, kubeconfig=Path(state.kubeconfig), watch=True, say=lambda text: say(f"meshobs: {text}"))
        if members.problems:
            raise MeshobsError("; ".join(members.problems))
        yield members


def prove(
    store: "Store", lab: "Lab", members: "Members", experiments: Sequence[Experiment], tell: Callable[[str], None]
) -> Iterator[Finding]:
    """Run experiments, collect what happens in them, and hold the reports against what the clients saw.

    Phases that the lab cannot run are left out, and said, before anything runs. Those that are over are recorded and
    their lines come, also where a later one fails: that is raised after them.

    Args:
        store: open for writing.
        lab: where they run.
        members: its clusters, opened.
        experiments: which.
        tell: told of progress, a line each.

    Raises:
        InputError: the lab does not have what an experiment needs.
        MeshobsError: a phase failed.
        KeyboardInterrupt: the user ended it; what is over is recorded.
    """
    from meshobs.cli.collect import stopping  # noqa: PLC0415 - grpc
    from meshobs.collector.collect import Collection, Options  # noqa: PLC0415

    experiments = _select(experiments, lab, tell)
    if not experiments:
        return
    excluded = members.own_traffic(lambda text: say(f"meshobs: {text}"))
    options = Options(excluded=excluded, arguments=tuple(one.name for one in experiments))
    collection = Collection(store, members.relays, options, say, clusters=members.clusters)
    beside = _Beside(lab, collection, experiments, tell)
    with background_paused(lab, tell):
        beside.start()
        try:
            with stopping(collection):
                collection.run()
        finally:
            beside.join()
    _record(store, beside.runs)
    if isinstance(beside.error, _StoppedError):
        raise KeyboardInterrupt
    for one in beside.runs:
        yield from findings(one, _answers(store, one))
    if beside.error:
        raise beside.error


def prove_accelerated(
    store: "Store", mesh: "Mesh", experiments: Sequence[Experiment], tell: Callable[[str], None]
) -> Iterator[Finding]:
    """Run experiments in time that is skipped, import the recording of it, and judge as `prove` does.

    Raises:
        InputError: an experiment needs something else, or real time.
    """
    from meshobs.collector import importer  # noqa: PLC0415 - grpc
    from meshobs.lab.sim.accelerated import AcceleratedLab  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="meshobs-") as folder:
        path = Path(folder) / "recording"
        lab = AcceleratedLab(mesh, path, _free_since(store))
        # The first state is watched for a while before anything happens.
        lab.wait(SETTLE_SECONDS)
        runs: list[PhaseRun] = []
        failed: MeshobsError | None = None
        try:
            for experiment in _select(experiments, lab, tell):
                tell(f"{experiment.name}: {experiment.question}")
                for one in Runner(lab, tell, lab.wait, lab.clock).run(experiment):
                    runs.append(one)  # noqa: PERF402 - what is over stays, also where the next phase fails
        except MeshobsError as error:
            failed = error
        lab.close()
        options = importer.Options(arguments=tuple(one.name for one in experiments))
        importer.run(store, importer.plan([path]), options, lambda _source, _size: None)
    _record(store, runs)
    for one in runs:
        yield from findings(one, _answers(store, one))
    if failed:
        raise failed


def _select(experiments: Sequence[Experiment], lab: "Stage", tell: Callable[[str], None]) -> list[Experiment]:
    """Return what a lab can run of experiments; tell what is left out."""
    fit, left_out = select_possible(experiments, lab.capabilities)
    for line in left_out:
        tell(f"left out: {line}")
    return fit


class _Beside(threading.Thread):
    """The experiments, while the collection has the main thread; ends it when they are over."""

    def __init__(
        self, lab: "Lab", collection: "Collection", experiments: Sequence[Experiment], tell: Callable[[str], None]
    ) -> None:
        super().__init__(name="experiments")
        self.runs: list[PhaseRun] = []
        self.error: BaseException | None = None
        self._lab = lab
        self._collection = collection
        self._experiments = experiments
        self._tell = tell

    def run(self) -> None:
        """Run them all."""
        try:
            self._connect()
            runner = Runner(self._lab, self._tell, self._wait)
            for experiment in self._experiments:
                self._tell(f"{experiment.name}: {experiment.question}")
                for one in runner.run(experiment):
                    # What is over stays, also where the next phase fails.
                    self.runs.append(one)
        except BaseException as error:  # noqa: BLE001 - raised again by the main thread
            self.error = error
        finally:
            self._collection.stop.set()

    def _connect(self) -> None:
        """Wait until the collection follows all nodes."""
        expected = len(self._lab.mesh.nodes)
        for _ in range(int(_CONNECT_SECONDS * 10)):
            if self._collection.progress.connected >= expected:
                return
            self._wait(0.1)
        raise InputError(f"only {self._collection.progress.connected} of the lab's {expected} nodes are connected")

    def _wait(self, seconds: float) -> None:
        if self._collection.stop.wait(seconds):
            raise _StoppedError


def _record(store: "Store", runs: Sequence[PhaseRun]) -> None:
    """Keep phases and truth beside the flows."""
    with store.transaction():
        for one in runs:
            settings = {
                f"{service} {key}": value for service, keys in one.phase.set.items() for key, value in keys.items()
            }
            settings |= {f"{workload} replicas": str(count) for workload, count in one.phase.scale.items()}
            settings |= {f"fault {fault}": "on" for fault in one.phase.faults}
            named = {"experiment": one.experiment, "phase": one.phase.name}
            phase = {
                "started": one.started,
                "ended": one.ended,
                "settings": [{"k": k, "v": v} for k, v in settings.items()],
            }
            store.run(sqlfiles.read("lab/add_phase.sql"), {**named, **phase})
            if one.requests:
                rows = [asdict(request) for request in one.requests]
                store.run(sqlfiles.read("lab/add_truth.sql"), {**named, "rows": rows})


def _answers(store: "Store", one: PhaseRun) -> dict[str, Answer]:
    """Ask the reports that a phase names about its window."""
    question = Question(since=rfc3339(one.started), until=rfc3339(one.ended))
    reports = {name: run(store, name, question) for name in one.phase.expect}
    return {
        name: Answer(
            report.verdict.value,
            report.rows.to_dicts(),
            lossy=bool(report.coverage["lost_events"] or report.coverage["gaps"])
            or report.coverage["nodes_watched"] < report.coverage["nodes_expected"],
        )
        for name, report in reports.items()
    }


def _free_since(store: "Store") -> int:
    """Return now, or a moment after all that is stored: time that was skipped may lie ahead."""
    last = store.value("select epoch_ns(max(time)) from flows")
    return max(time.time_ns(), int(str(last)) + _APART if last is not None else 0)

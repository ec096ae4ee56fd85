"""Experiments with a collection beside them: where lab, collector and analyzer, strangers to each other, meet."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

from meshobs import sqlfiles
from meshobs.analyzer import Question
from meshobs.analyzer import run as report
from meshobs.collector import importer
from meshobs.collector.collect import Collection
from meshobs.collector.follow.clusters import OpenClusters
from meshobs.collector.options import CollectOptions
from meshobs.errors import InputError, MeshobsError
from meshobs.jobs import labs
from meshobs.jobs.collecting import Running
from meshobs.jobs.sources import lab_sources
from meshobs.lab import state
from meshobs.lab.driver import Lab, LabState, Stage, background_paused
from meshobs.lab.experiments.findings import Finding, ReportAnswer, findings
from meshobs.lab.experiments.model import Experiment, select_possible
from meshobs.lab.experiments.runner import SETTLE_SECONDS, PhaseRun, Runner
from meshobs.lab.mesh.file import mesh_of
from meshobs.lab.mesh.model import Mesh
from meshobs.store import Reader, Store, Writer
from meshobs.times import SECOND, rfc3339

_CONNECT_SECONDS = 30.0
# Between two stretches of skipped time: no report's window joins them.
_APART = 120 * SECOND


class _StoppedError(Exception):
    """The user ended it, in the experiments' own thread."""


def run(
    db: str | Path,
    needs: Mapping[str, str],
    group: Sequence[Experiment],
    *,
    skip: bool,
    say: Callable[[str], None],
    tell: Callable[[str], None],
    running: Running = nullcontext,
    driver: str = "sim",
) -> Iterator[Finding]:
    """Run experiments with the same needs on the lab that is up, else on one for them.

    Args:
        db: the database file; made where there is none.
        needs: settings of the clusters.
        group: the experiments.
        skip: leave out those that do not fit the lab that is up, and say so.
        say: told what the user should know, a line each.
        tell: told of progress, a line each.
        running: entered while flows are collected.
        driver: of the lab for them.

    Raises:
        InputError: the lab does not have what an experiment needs.
        MeshobsError: a phase failed; the lines of those that are over came before.
        KeyboardInterrupt: the user ended it.
    """
    with _lab(needs, driver, say) as found:
        lab = labs.attach(found)
        if skip and (lacking := lab.mesh.lacks(needs)):
            say(f"left out: {', '.join(one.name for one in group)} (needs {', '.join(lacking)})")
            return
        with open_lab(found, say) as members, Store.open(Path(db), write=True) as store:
            yield from prove(store, lab, members, group, say=say, tell=tell, running=running)


def run_accelerated(
    db: str | Path,
    content: Mapping[str, object],
    group: Sequence[Experiment],
    *,
    skip: bool,
    say: Callable[[str], None],
    tell: Callable[[str], None],
) -> Iterator[Finding]:
    """Run experiments in time that is skipped, on a mesh of their own; see `run`.

    Args:
        db: the database file; made where there is none.
        content: the mesh description.
        group: the experiments.
        skip: leave out those that need real time, and say so.
        say: told what the user should know, a line each.
        tell: told of progress, a line each.
    """
    mesh = mesh_of(content)
    fit = _select_whole(group, mesh, say) if skip else group
    with Store.open(Path(db), write=True) as store:
        yield from prove_accelerated(store, mesh, fit, tell)


def groups(chosen: Sequence[Experiment]) -> list[tuple[Mapping[str, str], list[Experiment]]]:
    """Return experiments by what they need, those that need nothing first."""
    found: dict[tuple[tuple[str, str], ...], list[Experiment]] = {}
    for one in chosen:
        found.setdefault(tuple(sorted(one.needs.items())), []).append(one)
    return [(dict(key), found[key]) for key in sorted(found)]


@contextmanager
def _lab(needs: Mapping[str, str], driver: str, say: Callable[[str], None]) -> Iterator[LabState]:
    """Give the lab that is up, else one that is taken down afterwards."""
    up = state.read()
    if up and up.whole and labs.attach(up).alive:
        yield up
        return
    options = labs.LabOptions(cleanup=driver == "kind")
    made = labs.start(driver, labs.content_of(None, needs), rate=0, say=say, options=options)
    try:
        yield made
    finally:
        labs.stop(made)


def _select_whole(group: Sequence[Experiment], mesh: Mesh, say: Callable[[str], None]) -> list[Experiment]:
    """Return experiments that run as a whole where time is skipped; the others are said to be left out."""
    from meshobs.lab.sim.accelerated import capabilities_of  # noqa: PLC0415 - the sim, only here

    fit = [one for one in group if not select_possible([one.on(mesh)], capabilities_of(mesh), mesh)[1]]
    left = [one for one in group if one not in fit]
    for names, what in (
        ([one.name for one in left if not one.has_specs], "real time"),
        ([one.name for one in left if one.has_specs], "real API servers"),
    ):
        if names:
            say(f"left out: {', '.join(names)} (needs {what})")
    return fit


@contextmanager
def open_lab(found: LabState, say: Callable[[str], None]) -> Iterator[OpenClusters]:
    """Open the Relays and Kubernetes APIs of a running lab.

    Args:
        found: the lab.
        say: told of troubles later on.

    Raises:
        MeshobsError: one of them does not answer.
    """
    with OpenClusters() as members:
        for source in lab_sources(found):
            members.add(source, kubeconfig=Path(found.kubeconfig), watch=True, say=say)
        if members.problems:
            raise MeshobsError("; ".join(members.problems))
        yield members


def prove(
    store: Store,
    lab: Lab,
    members: OpenClusters,
    experiments: Sequence[Experiment],
    *,
    say: Callable[[str], None],
    tell: Callable[[str], None],
    running: Running = nullcontext,
) -> Iterator[Finding]:
    """Run experiments, collect what happens in them, and hold the reports against what the clients saw.

    Phases that the lab cannot run are left out, and said, before anything runs. Those that are over are recorded and
    their lines come, also where a later one fails: that is raised after them.

    Args:
        store: open for writing.
        lab: where they run.
        members: its clusters, opened.
        experiments: which.
        say: told what the collection has to say, a line each.
        tell: told of progress, a line each.
        running: entered while flows are collected.

    Raises:
        InputError: the lab does not have what an experiment needs.
        MeshobsError: a phase failed.
        KeyboardInterrupt: the user ended it; what is over is recorded.
    """
    experiments = _select(experiments, lab, tell)
    if not experiments:
        return
    excluded = members.own_traffic(members.ask_nodes(), say)
    options = CollectOptions(excluded=excluded, arguments=tuple(one.name for one in experiments))
    collection = Collection(store, members.relays, options, say, clusters=members.clusters)
    beside = _Beside(lab, collection, experiments, tell)
    with background_paused(lab, tell):
        beside.start()
        try:
            with running(collection.stop):
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
    store: Store, mesh: Mesh, experiments: Sequence[Experiment], tell: Callable[[str], None]
) -> Iterator[Finding]:
    """Run experiments in time that is skipped, import the recording of it, and judge as `prove` does.

    Raises:
        InputError: an experiment needs something else, or real time.
    """
    from meshobs.lab.sim.accelerated import AcceleratedLab  # noqa: PLC0415 - the sim, only here

    with tempfile.TemporaryDirectory(prefix="meshobs-") as folder:
        path = Path(folder) / "recording"
        lab = AcceleratedLab(mesh, path, _free_since(store)).start()
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
        options = importer.ImportOptions(arguments=tuple(one.name for one in experiments))
        importer.run(store, importer.plan([path]), options, lambda _source, _size: None)
    _record(store, runs)
    for one in runs:
        yield from findings(one, _answers(store, one))
    if failed:
        raise failed


def _select(experiments: Sequence[Experiment], lab: Stage, tell: Callable[[str], None]) -> list[Experiment]:
    """Return what a lab can run of experiments; tell what is left out."""
    fit, left_out = select_possible(experiments, lab.capabilities, lab.mesh)
    for line in left_out:
        tell(f"left out: {line}")
    return fit


class _Beside(threading.Thread):
    """The experiments, while the collection has the main thread; ends it when they are over."""

    def __init__(
        self, lab: Lab, collection: Collection, experiments: Sequence[Experiment], tell: Callable[[str], None]
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
            runner = Runner(self._lab, self._tell, self._wait, flows_after=True)
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


def _record(store: Writer, runs: Sequence[PhaseRun]) -> None:
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
            store.run(sqlfiles.read("jobs/sql/add_phase.sql"), {**named, **phase})
            if one.requests:
                rows = [asdict(request) for request in one.requests]
                store.run(sqlfiles.read("jobs/sql/add_truth.sql"), {**named, "rows": rows})


def _answers(store: Reader, one: PhaseRun) -> dict[str, ReportAnswer]:
    """Ask the reports that a phase names about its window."""
    question = Question(since=rfc3339(one.started), until=rfc3339(one.ended))
    reports = {name: report(store, name, question) for name in one.phase.expect}
    return {
        name: ReportAnswer(
            answer.verdict,
            answer.rows.to_dicts(),
            lossy=bool(answer.coverage["lost_events"] or answer.coverage["gaps"])
            or answer.coverage["nodes_watched"] < answer.coverage["nodes_expected"],
        )
        for name, answer in reports.items()
    }


def _free_since(store: Reader) -> int:
    """Return now, or a moment after all that is stored: time that was skipped may lie ahead."""
    last = store.value("select epoch_ns(max(time)) from flows")
    return max(time.time_ns(), int(str(last)) + _APART if last is not None else 0)

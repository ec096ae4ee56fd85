"""Experiments end to end: promise, truth and flows side by side, and what each fault turns. Judged by what clients saw."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import Call
from support.relay_nodes import Run, wait_until
from support.size import WHOLE

from meshobs import catalog
from meshobs.analyzer import Question, run
from meshobs.collector import importer
from meshobs.jobs import labs
from meshobs.jobs.experiments import open_lab
from meshobs.lab import state
from meshobs.lab.driver import Stage
from meshobs.lab.experiments import model as experiments
from meshobs.lab.experiments.runner import SETTLE_SECONDS
from meshobs.lab.faults import FAULTS
from meshobs.lab.mesh.model import AFFINITY, walkthrough
from meshobs.lab.sim.accelerated import AcceleratedLab
from meshobs.lab.traffic import Traffic
from meshobs.store import Store
from meshobs.times import rfc3339
from meshobs.verdict import Verdict

BOTH = (Traffic("west", "svc/webpod", rate=100), Traffic("east", "svc/webpod", rate=100))
AROUND = 400_000_000
# Where a fault of all clusters would leave nothing to report on.
SCOPES = {"relay-down": "east"}


def verdicts(store: Store, started: int, ended: int) -> dict[str, tuple[str, str]]:
    """Return verdict and reason of each report on a window."""
    question = Question(since=rfc3339(started - AROUND), until=rfc3339(ended + AROUND))
    found = {name: run(store, name, question) for name in catalog.names()}
    return {name: (report.verdict.value, report.reason) for name, report in found.items()}


def promised(name: str) -> dict[str, str]:
    """Return what each report must say of a fault."""
    return {report: FAULTS[name].turns.get(report, Verdict.OK).value for report in catalog.names()}


def settled(lab: Stage, name: str, wait: Callable[[float], None]) -> None:
    """Turn a fault on and let the mesh follow; agents that do not follow need something to follow."""
    lab.fault(name, SCOPES.get(name, ""), on=True)
    if name == "stale-backends":
        for cluster in lab.mesh.clusters:
            lab.annotate(cluster.name, "default", "webpod", {AFFINITY: "local"})
    wait(SETTLE_SECONDS)


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if not fault.served])
def test_a_fault_turns_its_reports_and_no_other(name: str, tmp_path: Path) -> None:
    """The matrix of faults and reports, in skipped time: each report says what the fault must make it say."""
    lab = AcceleratedLab(walkthrough(), tmp_path / "recording", time.time_ns()).start()
    lab.wait(SETTLE_SECONDS)
    settled(lab, name, lab.wait)
    started = lab.clock()
    lab.traffic(BOTH)
    ended = lab.clock()
    lab.close()
    with Store.open(tmp_path / "meshobs.duckdb", write=True) as store:
        importer.run(
            store, importer.plan([tmp_path / "recording"]), importer.ImportOptions(), lambda _source, _size: None
        )

        found = verdicts(store, started, ended)

    assert {report: verdict for report, (verdict, _) in found.items()} == promised(name), found


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.served])
def test_a_fault_of_servers_turns_its_reports_and_no_other(name: str, alone: Call, db: Path) -> None:
    """The rest of the matrix, collected from the real APIs while the fault is on."""
    assert alone("lab", "up", "--driver", "sim", "--traffic", 0).code == 0
    found_lab = state.require_running()
    lab = labs.attach(found_lab)
    with open_lab(found_lab, print) as members:
        collecting = Run(db, members.relays, clusters=members.clusters)
        wait_until(lambda: collecting.collection and collecting.collection.progress.connected == 4)
        settled(lab, name, time.sleep)
        started = time.time_ns()
        lab.traffic(BOTH)
        ended = time.time_ns()
        collecting.end()

    with Store.open(db) as store:
        found = verdicts(store, started, ended)

    assert {report: verdict for report, (verdict, _) in found.items()} == promised(name), found


def test_every_experiment_comes_out_as_written(meshobs: Call) -> None:
    """`experiment all` in skipped time: flows say what clients saw, and every verdict is the expected one."""
    outcome = meshobs("experiment", "all", "--accelerated", "--format", "json")

    lines = json.loads(outcome.out)
    assert [line for line in lines if not line["agrees"]] == []
    assert outcome.code == 0
    # Of servers, or of fields of Services that the twin does not know.
    left_out = {"unseen", *(name for name in experiments.names() if experiments.load(name).has_specs)}
    assert {line["experiment"] for line in lines} == set(experiments.names()) - left_out


@pytest.mark.parametrize("seed", [11, 12, 13] if WHOLE else [12])
def test_other_chances_come_out_the_same(seed: int, meshobs: Call) -> None:
    """No verdict hangs on one seed: with other answers the reports still say what clients saw, without false alarms."""
    outcome = meshobs("experiment", "affinity", "masquerade", "--accelerated", "--seed", seed, "--format", "json")

    assert outcome.code == 0, [line for line in json.loads(outcome.out) if not line["agrees"]]


def test_experiments_in_real_time(meshobs: Call) -> None:
    """Loss, a flip in mid-traffic and refused calls over the real APIs, on a lab that is made for them and taken down."""
    outcome = meshobs("experiment", "flip", "policy", "keepalive", "unseen")

    assert outcome.code == 0, outcome.out
    assert "followed after 0." in outcome.out
    assert state.read() is None


def test_an_experiment_keeps_phases_and_truth(meshobs: Call, db: Path) -> None:
    """What was set when, and what the clients saw, stands beside the flows, for SQL."""
    meshobs("--db", db, "experiment", "keepalive", "--accelerated")

    with Store.open(db) as store:
        phases = store.rows("select phase, settings['webpod affinity'] from phases order by started")
        truth = store.rows("select phase, count(*), count(*) filter (reused) from truth group by all order by 1")
    assert phases == [
        ("50 requests on each of 4 connections", None), ("affinity local, 3 requests on each of 60", "local"),
    ]  # fmt: skip
    assert truth == [
        ("50 requests on each of 4 connections", 200, 196), ("affinity local, 3 requests on each of 60", 180, 120),
    ]  # fmt: skip


def test_an_experiment_of_ones_own(meshobs: Call, tmp_path: Path) -> None:
    """A file works like those that come along; a promise that is not kept makes exit code 1 and says why."""
    path = tmp_path / "mine.toml"
    path.write_text("""
question = "Does remote keep calls at home?"
[[phases]]
name = "remote"
promise = "all stay"
set = { webpod = { affinity = "remote" } }
share = { west = 1.0 }
traffic = [{ from = "west", to = "svc/webpod", rate = 100 }]
""")

    outcome = meshobs("experiment", path, "--accelerated")

    assert outcome.code == 1
    assert "no: ok" in outcome.out


BROKEN = """
question = "What is left of an experiment that breaks?"
[[phases]]
name = "good"
promise = "some stay"
traffic = [{ from = "west", to = "svc/webpod", rate = 100 }, { from = "east", to = "svc/webpod", rate = 100 }]
[[phases]]
name = "bad"
promise = ""
traffic = [{ from = "west", to = "svc/gone" }]
"""


@pytest.mark.parametrize("flags", [(), ("--accelerated",)])
def test_finished_phases_are_kept_where_a_later_one_fails(
    flags: tuple[str, ...], meshobs: Call, db: Path, tmp_path: Path
) -> None:
    """They are recorded and shown; the error comes after the table, with exit code 2."""
    path = tmp_path / "mine.toml"
    path.write_text(BROKEN)

    outcome = meshobs("--db", db, "experiment", path, *flags)

    assert outcome.code == 2
    assert "good" in outcome.out
    assert "yes" in outcome.out
    assert outcome.err.splitlines()[-1].startswith("meshobs: ")
    assert "svc/gone" in outcome.err.splitlines()[-1] or "gone" in outcome.err.splitlines()[-1]
    with Store.open(db) as store:
        assert store.rows("select phase from phases") == [("good",)]
        assert store.value("select count(*) from truth") == 200


def test_what_a_lab_cannot_do_is_said_before_it_runs(meshobs: Call) -> None:
    """Skipped time has no rings: those phases are left out, the others run; with none left it is an error."""
    some = meshobs("experiment", "unseen", "--accelerated", "--format", "json")

    said = [line for line in some.err.splitlines() if "left out" in line]
    assert len(said) == 2
    assert some.err.index("left out") < some.err.index("unseen: ")
    assert {line["phase"] for line in json.loads(some.out)} == {"kernel loses a tenth"}
    assert some.code == 0


def test_background_traffic_is_not_counted(alone: Call, db: Path) -> None:
    """It is paused while experiments count, and goes on afterwards."""
    assert alone("lab", "up", "--driver", "sim", "--traffic", 50).code == 0

    outcome = alone("--db", db, "experiment", "keepalive", "--format", "json")

    assert [line for line in json.loads(outcome.out) if not line["agrees"]] == []
    assert "background traffic of 2 clients is paused" in outcome.err
    told = json.loads(alone("lab", "status", "--format", "json").out)
    assert (told["background"], told["paused"]) == (2, 0)


def test_background_traffic_goes_on_after_ctrl_c(alone: Call, tmp_path: Path) -> None:
    """An experiment that is interrupted in mid-traffic leaves the lab as it was, and keeps what is over."""
    assert alone("lab", "up", "--driver", "sim", "--traffic", 5).code == 0
    command = [sys.executable, "-m", "meshobs", "--db", "x.duckdb", "experiment", "affinity"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr
        # The first phase is over.
        assert any("global, no affinity:" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        process.stderr.read()

    assert process.returncode == 130
    told = json.loads(alone("lab", "status", "--format", "json").out)
    assert (told["background"], told["paused"]) == (2, 0)
    assert {tuple(one["annotations"].items()) for one in told["services"]} == {(("service.cilium.io/global", "true"),)}
    with Store.open(tmp_path / "x.duckdb") as store:
        assert store.rows("select phase from phases")[0] == ("global, no affinity",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = ", "cannot read the experiment"),
        ('question = "?"', "KeyError 'phases'"),
        ('question = "?"\ncolour = 1\nphases = []', "unknown key colour"),
        ('question = "?"\n[[phases]]\nname = "a"\npromise = "b"\ntraffic = []\nexpect = {nut = "ok"}', "no report nut"),
        (
            'question = "?"\n[[phases]]\nname = "a"\npromise = "b"\ntraffic = []\nexpect = {nat = "no"}',
            "no is no verdict",
        ),
        (
            'question = "?"\n[[phases]]\nname = "a"\npromise = "b"\ntraffic = []\nfaults = ["x"]',
            "there is no fault 'x'",
        ),
        (
            'question = "?"\n[[phases]]\nname = "a"\npromise = "b"\ntraffic = [{from = "west", to = "svc/a", rate = 0}]',
            "a rate of 0",
        ),
    ],
)
def test_mistakes_in_an_experiment_are_named(text: str, expected: str, meshobs: Call, tmp_path: Path) -> None:
    """A file that is none is refused in one line."""
    path = tmp_path / "mine.toml"
    path.write_text(text)

    outcome = meshobs("experiment", path)

    assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome.err
    assert expected in outcome.err

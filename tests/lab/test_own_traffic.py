"""What a collection adds to an idle mesh whose Relays are read by port-forward: nothing that it reads again."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.command_line import Outcome
from support.recordings import import_into

from meshobs.lab import state
from meshobs.store import Store

Call = Callable[..., Outcome]
SECONDS = 5
# Of the cluster's own noise and the collection together.
MOST = 5.0
FLOWS = "select count(*) from flows"
OWN = f"{FLOWS} where source_port in (6443, 10250) or destination_port in (6443, 10250)"
EXPERIMENT = """
question = "What is there beside these calls?"
[[phases]]
name = "calls"
promise = ""
traffic = [{ from = "west", to = "svc/webpod", count = 10 }]
"""


@pytest.fixture
def forwarded(meshobs: Call) -> Iterator[Call]:
    """Return the command line beside an idle lab whose Relays are reached through the API servers alone, as kind's are."""
    assert meshobs("lab", "up", "--driver", "sim", "--traffic", 0).code == 0
    found = state.require_running()
    state.write(replace(found, clusters=[replace(one, relay="") for one in found.clusters]))
    yield meshobs
    meshobs("lab", "down")


def count(db: Path, question: str) -> int:
    """Return the number that a query finds."""
    with Store.open(db) as store:
        return int(str(store.value(question)))


def test_a_collection_does_not_feed_on_itself(forwarded: Call, db: Path) -> None:
    """API server and kubelet carry every flow that is read; told to watch that, a collection sees it, else nothing."""
    quiet = forwarded("--db", db, "collect", "--duration", f"{SECONDS}s")
    added = count(db, FLOWS) / SECONDS
    loud = forwarded("--db", db, "collect", "--duration", f"{SECONDS}s", "--watch-own-traffic")

    assert (quiet.code, loud.code) == (0, 0), quiet.err + loud.err
    assert added < MOST
    assert count(db, OWN) / SECONDS > MOST
    assert "left out of west, read by port-forward: ports 6443, 10250 of 172.18.0.2, 172.18.0.3\n" in quiet.err
    assert "left out" not in loud.err


def test_a_port_forward_of_the_user_s_is_one(meshobs: Call, db: Path) -> None:
    """A Relay on this machine is reached through the same API server and kubelet, whoever forwards to it."""
    assert meshobs("lab", "up", "--driver", "sim", "--traffic", 0).code == 0
    (west, _) = state.require_running().clusters
    try:
        outcome = meshobs("--db", db, "collect", "--relay", f"west={west.relay}", "--no-follow")
    finally:
        meshobs("lab", "down")

    assert outcome.code == 0, outcome.err
    assert "left out of west, read by port-forward: ports 6443, 10250 of 172.18.0.2, 172.18.0.3\n" in outcome.err


def test_an_experiment_does_not_feed_on_itself(forwarded: Call, db: Path, tmp_path: Path) -> None:
    """Its collection leaves out what `collect` leaves out, and says so."""
    path = tmp_path / "mine.toml"
    path.write_text(EXPERIMENT)

    outcome = forwarded("--db", db, "experiment", path)

    assert "left out of east, read by port-forward: ports 6443, 10250" in outcome.err
    assert count(db, OWN) == 0
    assert count(db, FLOWS) > 0


def test_a_recording_does_not_feed_on_itself(forwarded: Call, db: Path, tmp_path: Path) -> None:
    """What is recorded is the mesh, not the recording."""
    path = tmp_path / "mine.toml"
    path.write_text(EXPERIMENT)

    outcome = forwarded("lab", "record", tmp_path / "case", "--experiment", path)

    assert outcome.code == 0, outcome.err
    assert "left out of west, read by port-forward" in outcome.err
    import_into(db, tmp_path / "case")
    assert count(db, OWN) == 0
    assert count(db, FLOWS) > 0

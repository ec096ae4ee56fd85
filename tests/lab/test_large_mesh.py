"""A mesh as large as the largest operators join, on this machine: the twin."""

import threading
from pathlib import Path

from support.command_line import Call

from meshobs import catalog
from meshobs.analyzer import Question, run
from meshobs.jobs import labs
from meshobs.lab import state
from meshobs.store import Store


def test_two_hundred_nodes(alone: Call, db: Path, tmp_path: Path) -> None:
    """A mesh of 200 nodes with 5,000 pods comes up, is collected from whole, and its traffic is judged."""
    path = tmp_path / "large.toml"
    path.write_text("""
ring = 65535
[clusters.west]
id = 1
nodes = 100
pod_cidr = "10.0.0.0/16"
service_cidr = "10.2.0.0/16"
[clusters.east]
id = 2
nodes = 100
pod_cidr = "10.1.0.0/16"
service_cidr = "10.3.0.0/16"
[workloads.client]
[workloads.webpod]
replicas = 2499
port = 80
[services.webpod]
global = true
""")
    up = alone("lab", "up", "--driver", "sim", "--config", path, "--traffic", 25)

    # So large a twin may tell of calls seconds late on a slow machine: the last come well before the end.
    found_lab = state.read()
    assert found_lab
    end = threading.Timer(6, labs.attach(found_lab).background, [0])
    end.start()
    collected = alone("--db", db, "collect", "--duration", "10s")
    end.join()

    assert (up.code, collected.code) == (0, 0), up.err + collected.err
    with Store.open(db) as store:
        assert store.value("select count(distinct node) from relay_nodes where state = 'NODE_CONNECTED'") == 200
        assert store.value("select count(*) from backends where service = 'webpod'") == 4998
        found = {name: run(store, name, Question()) for name in catalog.names()}
    # Listing 5,000 backends takes more than a hundredth of so short a run: before that they are assumed.
    assert found.pop("services").rows["backends_active"].to_list() == [2499, 2499]
    assert {name: (one.verdict.value, one.reason) for name, one in found.items() if one.verdict.value != "ok"} == {}

"""Kubernetes objects become the states that Cilium would act on, and states become periods."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.recordings import RECORDINGS, import_into

from meshobs.collector.kube import document, objects
from meshobs.collector.recordings.objects import cluster_of
from meshobs.store import Store


def service(annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a Service object."""
    return {
        "kind": "Service",
        "metadata": {"name": "back", "namespace": "shop", "uid": "u1", "annotations": annotations or {}},
        "spec": {"clusterIP": "10.2.0.9", "clusterIPs": ["10.2.0.9"], "ports": [{"port": 80}], **spec},
    }


def facts(document: document.Json, cluster: str = "west") -> dict[str, Any]:
    """Return what meshobs keeps of an object."""
    state = objects.state_of(document, cluster)
    assert state
    kept: dict[str, Any] = json.loads(state.state)
    return kept


NEW, OLD = "service.cilium.io/", "io.cilium/"


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({}, (False, False, "")),
        ({NEW + "global": "true"}, (True, True, "")),
        ({NEW + "global": "True"}, (True, True, "")),
        ({NEW + "global": "yes"}, (False, False, "")),
        ({OLD + "global-service": "true"}, (True, True, "")),
        ({OLD + "global-service": "true", NEW + "global": "false"}, (False, False, "")),
        ({NEW + "affinity": "local"}, (False, False, "")),
        ({NEW + "global": "true", NEW + "affinity": "local"}, (True, True, "local")),
        ({NEW + "global": "true", OLD + "service-affinity": "remote"}, (True, True, "remote")),
        ({NEW + "global": "true", NEW + "affinity": "none"}, (True, True, "none")),
        ({NEW + "global": "true", NEW + "shared": "false"}, (True, False, "")),
        ({NEW + "global": "true", OLD + "shared-service": "false"}, (True, False, "")),
        ({NEW + "shared": "true"}, (False, False, "")),
    ],
)
def test_annotations_as_cilium_reads_them(annotations: dict[str, str], expected: tuple[bool, bool, str]) -> None:
    """Both spellings count, the newer first; shared and affinity only on a global service; shared defaults to true."""
    state = facts(service(annotations))

    assert (state["global"], state["shared"], state["affinity"]) == expected
    assert state["annotations"] == annotations


def test_headless_and_dual_stack_addresses() -> None:
    """The address None is no address; a second family is one more."""
    assert facts(service(clusterIP="None", clusterIPs=["None"]))["addresses"] == []
    assert facts(service(clusterIPs=["10.2.0.9", "fd00::9"]))["addresses"] == ["10.2.0.9", "fd00::9"]


def test_absent_conditions_of_an_endpoint() -> None:
    """Kubernetes: an absent ready counts as true, serving as ready, terminating as false."""
    conditions = [{}, {"ready": False}, {"ready": False, "serving": True, "terminating": True}, {"serving": False}]
    document: dict[str, Any] = {
        "kind": "EndpointSlice",
        "metadata": {"name": "back-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "back"}},
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": one} for one in conditions],
    }

    found = [(e["ready"], e["serving"], e["terminating"]) for e in facts(document)["endpoints"]]

    assert found == [(True, True, False), (False, False, False), (False, True, True), (True, False, False)]


def test_mirrored_slices_of_other_clusters_are_left_out() -> None:
    """A slice that Cilium or the MCS API copied from another cluster is not this cluster's."""
    document: dict[str, Any] = {
        "kind": "EndpointSlice",
        "metadata": {
            "name": "back-copy",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "back", "multicluster.kubernetes.io/source-cluster": "east"},
        },
    }

    assert objects.state_of(document, "west") is None
    assert objects.state_of(document, "east") is not None


@pytest.mark.parametrize(
    "document",
    [None, 7, "x", [], {}, {"kind": "Pod"}, {"kind": "Service"}, {"kind": "Service", "metadata": {"name": 3}}],
)
def test_odd_objects_are_left_out(document: document.Json) -> None:
    """What is no object of ours is none; nothing raises."""
    assert objects.state_of(document, "west") is None


@pytest.mark.parametrize(
    ("stem", "cluster"),
    [
        ("k8s-west", "west"),
        ("k8s-eu-west-1", "eu-west-1"),
        ("watch-eu-west-1-svc", "eu-west-1"),
        ("watch-west-endpointslices", "west"),
        ("watch-west", "west"),
        ("relay-east", "east"),
        ("other", ""),
    ],
)
def test_cluster_in_a_file_name(stem: str, cluster: str) -> None:
    """The part after k8s-, watch- or relay- is the cluster, dashes included."""
    assert cluster_of(stem) == cluster


def _lines(path: Path, events: list[tuple[str, str, dict[str, Any]]]) -> Path:
    path.write_text(
        "".join(json.dumps({"received": at, "type": kind, "object": one}) + "\n" for at, kind, one in events)
    )
    return path


def periods(db: Path, columns: str, table: str = "services") -> list[tuple[object, ...]]:
    """Return rows of a history table, oldest first, times as texts to the second."""
    with Store.open(db) as store:
        times = "strftime(valid_from, '%H:%M:%S'), strftime(valid_to, '%H:%M:%S')"
        return store.rows(f"select {columns}, {times} from {table} order by all")


def test_one_row_per_period(db: Path, tmp_path: Path) -> None:
    """Changes that count end a period; those that do not, do not; a deletion ends it for good."""
    day = "2026-11-22T"
    log = _lines(
        tmp_path / "watch-west-svc.jsonl",
        [
            (day + "10:00:00Z", "ADDED", service({NEW + "global": "true"})),
            (day + "10:01:00Z", "MODIFIED", service({NEW + "global": "true", "note": "x"})),
            (day + "10:02:00Z", "MODIFIED", service({NEW + "global": "true", NEW + "affinity": "local"})),
            (day + "10:03:00Z", "DELETED", service({NEW + "global": "true", NEW + "affinity": "local"})),
            (day + "10:05:00Z", "ADDED", service({NEW + "global": "true", NEW + "affinity": "local"})),
        ],
    )

    import_into(db, log)

    assert periods(db, "affinity") == [
        ("local", "10:02:00", "10:03:00"),
        ("local", "10:05:00", None),
        ("none", "10:00:00", "10:02:00"),
    ]


def test_history_does_not_depend_on_the_order_of_imports(tmp_path: Path) -> None:
    """A log in two halves, the later half first, gives the same history; so does importing it twice."""
    day = "2026-11-22T"
    events = [
        (day + "10:00:00Z", "ADDED", service({NEW + "global": "true"})),
        (day + "10:01:00Z", "MODIFIED", service({NEW + "global": "true", NEW + "affinity": "local"})),
        (day + "10:02:00Z", "MODIFIED", service({NEW + "global": "true", NEW + "shared": "false"})),
        (day + "10:03:00Z", "MODIFIED", service({})),
    ]
    whole = _lines(tmp_path / "watch-west-svc.jsonl", events)
    halves = [tmp_path / name / "watch-west-svc.jsonl" for name in ("1", "2")]
    for path, part in zip(halves, (events[:2], events[2:]), strict=True):
        path.parent.mkdir()
        _lines(path, part)

    import_into(tmp_path / "once.duckdb", whole)
    for path in (halves[1], halves[0], whole):
        import_into(tmp_path / "parts.duckdb", path)

    expected = periods(tmp_path / "once.duckdb", '"global", shared, affinity')
    assert len(expected) == 4
    assert periods(tmp_path / "parts.duckdb", '"global", shared, affinity') == expected


def test_real_scale_to_zero_shows_each_period(db: Path) -> None:
    """local-scaled0: west's backends vanish, return unready, return ready."""
    import_into(db, RECORDINGS / "local-scaled0")

    with Store.open(db) as store:
        found = store.rows(
            "select setting, local_backends, remote_backends from service_periods"
            " where cluster = 'west' and service = 'webpod' order by valid_from"
        )

    assert found == [("none", 2, 2), ("local", 2, 2), ("local", 0, 2), ("local", 2, 2)]

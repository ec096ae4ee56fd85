"""What clients saw beside what flows say: what is not known, and what is not the phase's, is not held against either."""

from dataclasses import replace
from typing import Any

import pytest

from meshobs.lab.experiments.findings import Finding, ReportAnswer, findings
from meshobs.lab.experiments.model import ExperimentPhase
from meshobs.lab.experiments.runner import PhaseRun, find_services
from meshobs.lab.mesh.model import Service, walkthrough
from meshobs.lab.traffic import Request, Traffic
from meshobs.verdict import Verdict

OWN = "10.0.1.2"
SERVICES = frozenset({("default", "webpod")})


def request(cluster: str = "east", saw: str = f"{OWN}:4000", protocol: str = "TCP") -> Request:
    """Return a call of west that a cluster answered."""
    return Request(
        1, 2, "west/default/curl-pod", "west", OWN, 4000, "10.1.0.9:80", protocol, cluster, "webpod-1", "10.1.0.9",
        "node", saw,
    )  # fmt: skip


def found(
    report: str,
    requests: list[Request],
    rows: list[dict[str, Any]],
    *,
    lossy: bool = False,
    changed: tuple[int, ...] = (),
) -> Finding:
    """Return the one line of a phase."""
    phase = ExperimentPhase("x", "", (), report, {report: Verdict.OK})
    run = PhaseRun("x", phase, 0, 9, requests, changed, services=SERVICES)
    (line,) = findings(run, {report: ReportAnswer(Verdict.OK, rows, lossy)})
    return line


def nat(kept: int, changed: int, protocol: str = "TCP") -> dict[str, Any]:
    return {
        "source_cluster": "west", "destination_cluster": "east", "protocol": protocol, "untranslated": kept,
        "destination_translated": 0, "translated": changed, "verdict": "ok", "reason": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("saw", "flows", "said", "agrees"),
    [
        (["", "", ""], (3, 0), "0 kept, 0 changed, 3 unknown", True),
        (["", "", ""], (1, 2), "0 kept, 0 changed, 3 unknown", True),
        (["", "", ""], (2, 0), "0 kept, 0 changed, 3 unknown", False),
        ([f"{OWN}:1", "", ""], (3, 0), "1 kept, 0 changed, 2 unknown", True),
        ([f"{OWN}:1", "", "172.18.0.3:1"], (3, 0), "1 kept, 1 changed, 1 unknown", False),
        ([f"{OWN}:1", "172.18.0.3:1"], (1, 1), "1 kept, 1 changed", True),
        ([f"{OWN}:1", "172.18.0.3:1"], (2, 0), "1 kept, 1 changed", False),
    ],
)
def test_an_address_that_the_server_did_not_tell_is_neither_kept_nor_changed(
    saw: list[str], flows: tuple[int, int], said: str, agrees: bool
) -> None:
    """As of pings on kind: flows must count as many, and may say either of those that nobody knows."""
    line = found("nat", [request(saw=one, protocol="ICMP") for one in saw], [nat(*flows, "ICMP")])

    assert (line.clients, line.agrees) == (said, agrees)


@pytest.mark.parametrize(
    ("counted", "changed", "lossy", "agrees"),
    [
        ((18, 12), (5,), False, True),
        ((18, 13), (5,), False, True),
        ((19, 12), (5,), False, True),
        ((19, 13), (5,), False, False),
        ((17, 13), (5,), False, False),
        ((17, 13), (5,), True, True),
        ((17, 12), (5,), False, False),
        ((18, 13), (), False, False),
        ((18, 13), (), True, False),
    ],
)
def test_a_call_that_was_given_up_at_a_change_may_count_or_not(
    counted: tuple[int, int], changed: tuple[int, ...], lossy: bool, agrees: bool
) -> None:
    """One of 31 calls got no answer; where nothing changed in mid-traffic, it must not count."""
    requests = [*[request("west")] * 18, *[request("east")] * 12, replace(request(""), error="timed out")]
    row = {
        "client_cluster": "west", "connections": sum(counted), "local": counted[0], "remote": counted[1], "dropped": 0,
        "ci_low": None, "ci_high": None, "verdict": "ok", "reason": "",
    }  # fmt: skip

    assert found("affinity", requests, [row], lossy=lossy, changed=changed).agrees == agrees


def hops(namespace: str, service: str, here: int, verdict: str = "ok") -> dict[str, Any]:
    return {
        "source_cluster": "west", "destination_cluster": "west", "namespace": namespace, "service": service,
        "connections": here, "hairpins": 0, "trombones": 0, "avoidable": 0, "verdict": verdict, "reason": "",
    }  # fmt: skip


def test_a_cluster_s_own_traffic_is_no_call_of_the_phase() -> None:
    """Probes and Hubble's UI pass, too: only the services that the phase calls count."""
    own = [hops("kube-system", "hubble-relay", 9), hops("", "", 5), hops("other", "webpod", 3)]

    line = found("hops", [request("west")] * 30, [hops("default", "webpod", 30), *own])

    assert line.flows == "30 stayed, 0 crossed"
    assert line.agrees


@pytest.mark.parametrize(
    ("here", "unknown", "agrees", "flows"),
    [
        (18, 12, True, "18 stayed, 0 crossed, 12 of an unknown client"),
        (18, 40, True, "18 stayed, 0 crossed, 12 of an unknown client"),
        (18, 11, False, "18 stayed, 0 crossed"),
        (31, 40, False, "31 stayed, 0 crossed"),
        (30, 40, True, "30 stayed, 0 crossed"),
    ],
)
def test_a_client_that_the_report_does_not_know_is_no_mistake(
    here: int, unknown: int, agrees: bool, flows: str
) -> None:
    """Of so many calls, and no more, the report may say that it does not know whose they are."""
    rows = [hops("default", "webpod", here), {**hops("default", "webpod", unknown), "source_cluster": "unknown"}]

    line = found("hops", [request("west")] * 30, rows)

    assert (line.flows, line.agrees) == (flows, agrees)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("svc/webpod", {("default", "webpod")}),
        ("svc/shop/api", {("shop", "api")}),
        ("balancer:30080", {("default", "shop")}),
        ("nodes/west:30080", {("default", "shop")}),
        ("node/west-worker:30080", {("default", "shop")}),
        ("pods/east/webpod", {("", "")}),
        ("10.0.0.1:80", {("", "")}),
    ],
)
def test_which_services_traffic_calls(target: str, expected: set[tuple[str, str]]) -> None:
    """By name, or by the NodePort that is theirs; else pods themselves."""
    shop = Service("shop", "shop", ("west", "east"), node_port=30080)

    assert find_services([Traffic("west", target)], [*walkthrough().services, shop]) == expected

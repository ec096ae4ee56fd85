"""Data in the shape of other people's, each with what is true of it: `tests/data/cases`, one kind of fault each.

Flows and objects are invented after what users posted (cilium issues, exporter pipelines, managed clouds). A verdict is
true or `insufficient`, and `insufficient` only where the evidence is not there.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.recordings import TESTS, import_into

from meshobs.analyzer import Question, Report, run
from meshobs.store import Store

CASES = TESTS / "data" / "cases"
# Folder, report, verdict, and what its reason says.
TRUTH = [
    # Two families of addresses are balanced apart.
    ("01-dual-stack-share/input", "affinity", "ok", "142 local, 158 remote where 50.0 %"),
    # A port that only the other cluster has falls back; ports are balanced apart.
    ("02-named-target-port/input", "affinity", "ok", "0 local, 40 remote: as set; 40 fell back"),
    ("02-named-target-port/input", "hops", "ok", ""),
    ("02-named-target-port/variant-two-ports-one-target", "affinity", "violation", "shop/ledger:http-alt"),
    ("03-traffic-distribution/input", "affinity", "insufficient", "PreferSameZone"),
    ("04-namespace-not-global/input", "affinity", "ok", "namespace shop of fleet-member-2 is not global"),
    # Slices that were never seen are not the same as no backend.
    # Ranges that Cilium does not use overlap.
    ("05-cluster-pool-ipam/input", "nat", "ok", "29 of 29 arrived under the client's own address"),
    ("05-cluster-pool-ipam/variant-masqueraded", "nat", "violation", "29 of 29 arrived under the address of a node"),
    # Fields that were masked, lines that stand for many.
    ("06-splunk-field-mask/input", "affinity", "insufficient", "trace_observation_point"),
    ("06-splunk-field-mask/input", "coverage", "insufficient", ""),
    ("20-aggregated-exporter-lines/input", "coverage", "insufficient", ""),
    ("24-hubble-1.8-bare-flows/input", "affinity", "insufficient", "trace_reason"),
    # Slices that were never seen are not the same as no backend.
    ("10-slices-of-one-cluster/input", "affinity", "insufficient", "no EndpointSlice of the service in amber"),
    ("10-slices-of-one-cluster/variant-no-affinity", "affinity", "insufficient", "in cobalt was seen"),
    # Calls that leave no packet, or no arrival.
    ("11-pod-calls-itself/input", "affinity", "ok", "152 local, 148 remote"),
    ("12-host-network-backends/input", "affinity", "violation", "24 of 120 went against the setting"),
    ("13-gateway-envoy/input", "affinity", "ok", "120 local, 0 remote"),
    ("13-gateway-envoy/input", "nat", "ok", "58 under that of Envoy"),
    ("14-outside-host-both-ways/input", "hops", "ok", ""),
    ("15-replies-seen-as-new/input", "nat", "ok", "21 of 21"),
    ("22-times-of-pipelines/input", "hops", "ok", ""),
    ("26-masquerade-audit/variant-nat-between-the-clusters", "nat", "violation", "40 of 40 arrived under 198.51.100.9"),
    ("27-nodes-without-an-agent/input", "affinity", "ok", "60 local, 0 remote"),
]


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Report]:
    """Return a function from a case and a report's name to the report."""
    made: dict[str, Path] = {}

    def ask(case: str, report: str) -> Report:
        if case not in made:
            made[case] = tmp_path_factory.mktemp("case") / "case.duckdb"
            import_into(made[case], CASES / case)
        with Store.open(made[case]) as store:
            return run(store, report, Question())

    return ask


@pytest.mark.parametrize(("case", "report", "verdict", "said"), TRUTH)
def test_verdict_is_true(case: str, report: str, verdict: str, said: str, answer: Callable[[str, str], Report]) -> None:
    """The verdict is what is known of the case, and the reason says what it rests on."""
    found = answer(case, report)

    assert found.verdict.value == verdict, found.reason
    assert said in found.reason

"""What the analyzer knows of each report: whose rows count, and how people see them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import Outcome

from meshobs import catalog
from meshobs.analyzer.spec import Judgement, Kind, Row, spec_of
from meshobs.store import Store
from meshobs.verdict import Verdict

NAT: dict[str, object] = {"destination_cluster": "east", "protocol": "TCP"}
AFFINITY: dict[str, object] = {"client_cluster": "west", "namespace": "shop", "service": "back", "port": ""}


def rows(of: Row, *differing: Row) -> list[Row]:
    """Return rows that differ in a few values, each with a reason of its own."""
    return [{**of, "reason": f"reason {n}", **more} for n, more in enumerate(differing)]


@pytest.mark.parametrize("name", catalog.names())
def test_a_table_shows_what_the_macro_gives(name: str, tmp_path: Path) -> None:
    """Each report has a module with a SPEC, which names only columns that its macro has, absent values included."""
    spec = spec_of(name)
    with Store.open(tmp_path / "x.duckdb", write=True) as store:
        given = {str(column) for (column,) in store.rows(f"select column_name from (describe from report_{name}())")}

    named = {column.cell for column in spec.columns if isinstance(column.cell, str)}
    headings = [column.heading for column in spec.columns]

    assert named <= given
    assert {"verdict", "cause", "reason"} <= given
    assert spec.columns[-1].cell == "verdict"
    assert len(set(headings)) == len(headings)
    assert {column.kind for column in spec.columns} == set(Kind)
    assert catalog.questions()[name].endswith("?")


@pytest.mark.parametrize("name", catalog.names())
def test_no_row_is_no_proof(name: str) -> None:
    """Where nothing was seen, a report says that, and never ok."""
    spec = spec_of(name)

    assert spec.judge([]) == Judgement(Verdict.INSUFFICIENT, spec.nothing)


def test_the_worst_row_gives_the_reason() -> None:
    """A violation counts before what is not known; rows like it are counted."""
    found = rows(
        {**NAT, "source_cluster": "west"}, *({"verdict": verdict} for verdict in ("ok", "violation", "violation"))
    )

    judged = spec_of("nat").judge(found)

    assert judged == Judgement(Verdict.VIOLATION, "west -> east TCP: reason 1 (and 1 more like it)")


def test_what_comes_from_outside_is_not_judged_by_nat() -> None:
    """Rows without a source cluster are shown only."""
    outside = rows(NAT, {"source_cluster": "", "verdict": "ok"})

    assert spec_of("nat").judge(outside) == Judgement(Verdict.INSUFFICIENT, spec_of("nat").nothing)


@pytest.mark.parametrize(("verdict", "expected"), [("insufficient", Verdict.OK), ("violation", Verdict.VIOLATION)])
def test_a_service_that_is_not_global_counts_where_it_is_broken(verdict: str, expected: Verdict) -> None:
    """Beside a global service, one without a setting to keep is left out unless it is a violation."""
    found = rows(AFFINITY, {"setting": "none", "verdict": "ok"}, {"setting": "not-global", "verdict": verdict})

    assert spec_of("affinity").judge(found).verdict is expected
    assert spec_of("affinity").judge(found[1:]).verdict is Verdict(verdict)


def test_help_names_every_report(meshobs: Callable[..., Outcome]) -> None:
    """Names and questions come from the files of the reports."""
    listed, overview = meshobs("report", "--help").out, meshobs("--help").out

    for name, question in catalog.questions().items():
        assert f"{name:<10} {question}" in listed
        assert name in overview

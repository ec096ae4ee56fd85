"""What is asked once for a whole report is what its macros would ask each time."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.recordings import make_bare
from support.size import WHOLE

from meshobs import catalog
from meshobs.analyzer import Question, once, run
from meshobs.analyzer.spec import spec_of
from meshobs.analyzer.values import frame_of
from meshobs.store import Store


@pytest.mark.parametrize(
    ("name", "settled"),
    [
        ("node-down", True),
        ("nodeport-global", False),
        *([("nodeport-global", True), ("v19-perpacket-lb", True)] if WHOLE else []),
    ],
)
def test_reports_are_those_of_a_plain_shell(
    recorded: Callable[[str], Path], name: str, settled: bool, db: Path
) -> None:
    """All rows, what they rest on and the limits, of the last run and of a window that begins and ends amid flows."""
    (shutil.copy if settled else make_bare)(recorded(name), db)
    with Store.open(db) as store:
        ((since, until),) = store.rows(
            "select (min(time) + (max(time) - min(time)) / 3)::varchar, (max(time) - (max(time) - min(time)) / 3)::varchar"
            " from flows"
        )
        inner = Question(f"{since}Z".replace(" ", "T"), f"{until}Z".replace(" ", "T"))
        for asked, question in (
            ("", Question()),
            (f"since := timestamp_ns '{since}', until := timestamp_ns '{until}'", inner),
        ):
            answers = {report: run(store, report, question) for report in catalog.names()}

            for report, answer in answers.items():
                assert frame_of(store.table(f"from report_{report}({asked})")).equals(answer.rows)
            summary = frame_of(store.table(f"from coverage_summary({asked})")).row(0, named=True)
            limits = [limit for (limit,) in store.rows(f"from window_limits({asked})")]
            assert all((answer.coverage, answer.limits) == (summary, limits) for answer in answers.values())


@pytest.mark.parametrize("report", catalog.names())
def test_of_many_connections_only_what_a_report_reads_is_made(
    recorded: Callable[[str], Path], report: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says the same of them."""
    with Store.open(recorded("v19-perpacket-lb")) as store:
        whole = run(store, report, Question(whole=True))
    monkeypatch.setattr(once, "_MANY", "select true")
    with Store.open(recorded("v19-perpacket-lb")) as store:
        narrow = run(store, report, Question(whole=True))
        made = {name for (name,) in store.rows("select column_name from (describe connections_asked_once)")}

    assert narrow == whole
    assert made == {name.strip() for name in spec_of(report).reads.split(",")}
